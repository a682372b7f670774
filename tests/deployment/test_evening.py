"""Channels brought to one range before they are rounded: what is given stays, and rounds better."""

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, JointConv, relative_error
from tenfold.compression.running import Flat
from tenfold.deployment import work
from tenfold.deployment.evening import evened, joints, ranges
from tenfold.deployment.work import Work
from tenfold.layer import Member

FORMATS = ["tucker", "cp", "tt", "spatial_svd", "block_term", "tucker+depthwise_separable"]


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def uneven(layer):
    """The same layer with its bonds' channels of very different sizes."""
    network, factors = layer.weight.network, layer.weight.factors
    for bond in network.bonds:
        first, second = [i for i, modes in enumerate(network.factors) if bond in modes][:2]
        sizes = torch.logspace(0, 2, network.sizes[bond])
        for index, gain in ((first, sizes), (second, 1 / sizes)):
            place = network.factors[index].index(bond)
            factors[index].data *= gain.reshape(
                [-1 if axis == place else 1 for axis in range(factors[index].dim())]
            )
    return layer.eval()


def spread(form, x):
    """How much larger one channel between two convolutions is than another, at most."""
    modules = [first for first, _ in joints(form)]
    found = ranges(Flat(form, x), modules, [(x,)]).values()
    return max(float(one.max() / one.min()) for one in found)


@torch.no_grad()
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (2, False), (1, True), (2, True)])
def test_the_network_gives_the_same_with_channels_of_one_range(format_, groups, transposed):
    torch.manual_seed(0)
    options = {"groups": groups, "transposed": transposed, "factorization": format_, "rank": 0.7}
    layer = uneven(FactorizedConv(8, 12, (3, 3), **options).to(memory_format=torch.channels_last))
    x = drawn(2, 8, 7, 7)
    network = Flat(nn.Sequential(layer, nn.ReLU()), x).eval()
    made = evened(network, [(x,)])
    assert relative_error(network(x)[0], made(x)[0]) < 1e-5
    assert made.model[0] is not layer
    assert spread(made.model[0], x) < spread(layer.to_sequential(), x) / 3


@torch.no_grad()
def test_a_linear_layer_and_one_in_two_places_stay_what_they_are():
    torch.manual_seed(0)
    layer = FactorizedConv(6, 6, (), rank=4, factorization="tt")
    network = Flat(nn.Sequential(layer, nn.ReLU(), layer), drawn(3, 6)).eval()
    made = evened(network, [(drawn(3, 6),)])
    assert relative_error(network(drawn(3, 6))[0], made(drawn(3, 6))[0]) < 1e-5
    assert made.model[0] is made.model[2]


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
def test_eight_bits_cost_less_by_it(tmp_path, monkeypatch):
    torch.manual_seed(0)
    layer = uneven(FactorizedConv(8, 12, (3, 3), rank=0.7, factorization="tucker"))
    x = drawn(4, 8, 9, 9)
    errors = []
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        made = Work(Flat(layer, x).eval(), [(x,)], tmp_path / name, "net.onnx", "onnxruntime")
        made.quantize(None)
        errors.append(made.errors["int8"])
        monkeypatch.setattr(work, "evened", lambda network, batches: network)
    assert errors[0] < errors[1] / 3


@torch.no_grad()
def test_tied_layers_are_brought_to_one_range_too():
    torch.manual_seed(0)
    x = drawn(2, 6, 8, 8)
    joint = FactorizedConv(6, 6, (3, 3), padding=1, rank=4, n_layers=2).eval()
    network = Flat(nn.Sequential(joint, nn.ReLU(), joint[1]).eval(), x)
    made = evened(network, [(x,)])
    assert not any(isinstance(one, JointConv | Member) for one in made.modules())
    assert len(list(joints(made))) > 1
    assert relative_error(network(x)[0], made(x)[0]) < 1e-5
