"""Programs written for TensorLy-Torch run on `tenfold.tltorch`, each argument with its meaning."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import tenfold
from tenfold import relative_error, tltorch

CONV = nn.Conv2d(8, 12, 3, stride=(2, 1), padding=1)
X = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factorization", ["CP", "Tucker", "TT", "cp", "tucker", "tt"])
def test_the_call_that_most_programs_make_draws_a_layer(factorization):
    layer = tltorch.FactorizedConv.from_conv(
        CONV,
        rank=0.5,
        decompose_weights=False,
        factorization=factorization,
        fixed_rank_modes="spatial",
        decomposition_kwargs={"init": "random", "n_iter_max": 0},
    )
    assert isinstance(layer, tenfold.FactorizedConv)
    assert layer(X).shape == CONV(X).shape
    assert layer.factorization == factorization.lower()
    assert layer.implementation == "reconstructed"
    assert layer.weight.numel() <= 0.5 * CONV.weight.numel()
    assert not torch.equal(layer.bias, torch.zeros_like(layer.bias))


def test_a_start_at_random_without_a_sweep_leaves_random_factors():
    torch.manual_seed(0)
    made = [
        tltorch.FactorizedConv.from_conv(
            CONV, rank=10**6, decomposition_kwargs={"init": init, "n_iter_max": count}
        )
        for init, count in (("random", 0), ("random", 20), ("svd", 0))
    ]
    errors = [relative_error(CONV.weight, layer.weight.to_tensor()) for layer in made]
    assert errors[0] > 0.5
    assert max(errors[1:]) < 1e-3


@pytest.mark.parametrize("kwargs", [{"n_iter_max": 3, "tol": 0.5}, {"init": "svd"}, {}, None])
def test_options_of_a_decomposition_have_their_names_here(kwargs):
    layer = tltorch.FactorizedConv.from_conv(
        CONV, rank=0.5, factorization="tucker", decomposition_kwargs=kwargs
    )
    assert relative_error(CONV.weight, layer.weight.to_tensor()) < 1


@pytest.mark.parametrize("name", ["Factorized", "RECONSTRUCTED", "MobileNet"])
def test_an_implementation_is_spelled_in_any_case(name):
    layer = tltorch.FactorizedConv.from_conv(CONV, rank=4, implementation=name)
    assert layer.implementation == name.lower()


def test_positional_arguments_are_in_their_order():
    layer = tltorch.FactorizedConv(8, 12, 3, 2, 2, 1, 1, True)
    assert layer(X).shape == (2, 12, 5, 5)
    assert layer.bias is not None
    assert tltorch.FactorizedConv(8, 12, (3, 3)).bias is None
    layer = tltorch.FactorizedConv.from_conv(CONV, 0.5, "factorized", "tucker", False)
    assert (layer.implementation, layer.factorization) == ("factorized", "tucker")


def test_has_bias_asks_for_a_bias():
    assert tltorch.FactorizedConv(8, 12, (3, 3), has_bias=True).bias is not None
    assert tltorch.FactorizedConv.from_conv(CONV, rank=4, has_bias=True).bias is not None
    with pytest.raises(ValueError, match="has_bias=False of a convolution with one"):
        tltorch.FactorizedConv.from_conv(CONV, rank=4, has_bias=False)


def test_joint_layers_are_made_by_their_number():
    joint = tltorch.FactorizedConv(
        8, 8, 3, order=2, padding=1, n_layers=2, bias=True, rank=0.5, factorization="Tucker"
    )
    assert isinstance(joint, tenfold.layer.JointConv)
    assert joint(X, 1).shape == joint[1](X).shape == X.shape
    single = tltorch.FactorizedConv(8, 8, 3, order=2, n_layers=1, rank=4)
    assert isinstance(single, tltorch.FactorizedConv)
    convs = [nn.Conv2d(8, 8, 3, stride=stride) for stride in (1, 2)]
    joint = tltorch.FactorizedConv.from_conv_list(convs, rank=10**6, factorization="tucker")
    for place, conv in enumerate(convs):
        torch.testing.assert_close(joint(X, place), conv(X), rtol=1e-3, atol=1e-3)
    drawn = tltorch.FactorizedConv.from_conv_list(convs, rank=4, decompose_weights=False)
    assert drawn(X, 0).shape == convs[0](X).shape


def test_a_layer_is_transduced_with_the_rest_frozen():
    layer = tltorch.FactorizedConv.from_conv(CONV, rank=4, factorization="tt")
    frames = torch.stack([X, 2 * X], 2)
    wanted = torch.stack([layer(X), layer(2 * X)], 2)
    assert layer.transduct(3, padding=1) is layer
    torch.testing.assert_close(layer(frames), wanted, rtol=1e-3, atol=1e-3)
    assert 0 < sum(one.requires_grad for one in layer.parameters()) < 5


def test_fixed_channels_keep_their_rank():
    layer = tltorch.FactorizedConv.from_conv(
        CONV, rank=0.5, factorization="tucker", fixed_rank_modes=[1, 2]
    )
    assert layer.rank[1] == 8
    assert layer.rank[0] < 12
    drawn = tltorch.FactorizedConv(
        8, 12, 3, 2, factorization="tucker", rank=0.5, fixed_rank_modes=[0]
    )
    assert drawn.rank[0] == 12
    with pytest.raises(ValueError, match="fixed_rank_modes='channels' must be 'spatial' or axes"):
        tltorch.FactorizedConv.from_conv(CONV, factorization="tucker", fixed_rank_modes="channels")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"rank": None}, ValueError, "rank=None is not understood: it must be 'same', a float"),
        ({"implementation": "banana"}, ValueError, "implementation='banana' is not installed"),
        ({"factorization": "banana"}, ValueError, "factorization='banana' is not installed"),
        ({"n_layers": 2}, ValueError, "n_layers=2 must be 1 here: join by from_conv_list"),
        ({"decomposition_kwargs": {"l2_reg": 1}}, ValueError, "'l2_reg', which CP does not take"),
        ({"decomposition_kwargs": {"init": "zero"}}, ValueError, "init='zero' must be 'svd' or"),
    ],
)
def test_what_has_no_meaning_here_is_refused_with_the_remedy(arguments, error, said):
    with pytest.raises(error, match=said):
        tltorch.FactorizedConv.from_conv(CONV, **arguments)


@pytest.mark.parametrize("factorization", ["CP", "Tucker", "TT"])
def test_a_layer_is_built_on_a_tensor(factorization):
    shape = (8, 3, 3, 12) if factorization == "TT" else (12, 8, 3, 3)
    tensor = tltorch.FactorizedTensor.new(shape, 0.5, factorization).normal_(0, 1)
    kernel = tensor.to_tensor()
    kernel = kernel.movedim(-1, 0) if factorization == "TT" else kernel
    bias = torch.arange(12.0)
    for way in ("factorized", "reconstructed"):
        layer = tltorch.FactorizedConv.from_factorization(tensor, way, padding=1, bias=bias)
        wanted = nn.functional.conv2d(X, kernel, bias, padding=1)
        torch.testing.assert_close(layer(X), wanted, rtol=1e-3, atol=1e-3)


def test_tensors_are_made_and_known_by_their_names():
    for name, cls in {
        "CP": tltorch.CPTensor,
        "Tucker": tltorch.TuckerTensor,
        "TT": tltorch.TTTensor,
        "Dense": tltorch.DenseTensor,
    }.items():
        tensor = tltorch.FactorizedTensor.new((4, 3, 2), rank=0.5, factorization=name)
        assert isinstance(tensor, cls)
        assert isinstance(tensor, tltorch.FactorizedTensor)
        assert isinstance(tensor[0], cls)
        assert isinstance(cls.new((4, 3, 2), 2), cls)
        assert isinstance(cls.from_tensor(torch.randn(4, 3, 2), 2), cls)
        others = {tltorch.CPTensor, tltorch.TuckerTensor, tltorch.TTTensor} - {cls}
        assert not any(isinstance(tensor, one) for one in others)
    number = tltorch.FactorizedTensor.new((4, 3, 2), rank=2, factorization="ComplexTucker")
    assert isinstance(number, tltorch.ComplexTuckerTensor)
    assert isinstance(number, tltorch.TuckerTensor)
    assert not isinstance(tensor, tltorch.ComplexDenseTensor)
    kept = tltorch.FactorizedTensor.from_tensor(torch.randn(3, 2), None, "ComplexDense")
    assert isinstance(kept, tltorch.ComplexDenseTensor)
    with pytest.raises(TypeError, match=r"CPTensor.new\(shape, rank\)"):
        tltorch.CPTensor(torch.ones(2), [torch.ones(3, 2)])


def test_a_tensor_has_their_names_of_its_parts():
    for name in ("CP", "Tucker", "TT", "Dense"):
        tensor = tltorch.FactorizedTensor.new((4, 3, 2), 2, name)
        whole = tensor.to_tensor().detach().clone()
        assert tensor.order == 3
        assert tensor.tensor_shape == (4, 3, 2)
        assert tensor.decomposition is not None
        tensor.normal_(0, 1)
        exact = tltorch.FactorizedTensor.new((4, 3, 2), 99, name).init_from_tensor(whole)
        assert relative_error(whole, exact.to_tensor()) < 1e-4
        with pytest.raises(ValueError, match=r"must have \(4, 3, 2\)"):
            exact.init_from_tensor(torch.ones(3))
    torch.testing.assert_close(exact.decomposition, exact.to_tensor())


def test_tensor_init_draws_any_tensor():
    for one in (tltorch.TTTensor.new((30, 20), 2), torch.empty(300, 20)):
        assert tltorch.tensor_init(one, std=0.5) is one
        whole = one if isinstance(one, torch.Tensor) else one.to_tensor()
        assert abs(float(whole.detach().square().mean()) - 0.25) < 0.02
    assert tltorch.init.cp_init is tltorch.tensor_init


def test_functions_take_a_factorized_weight():
    weight = tltorch.FactorizedTensor.new((6, 4), 2, "tucker")
    x, bias = torch.randn(3, 4), torch.randn(6)
    for way in ("factorized", "Reconstructed"):
        found = tltorch.functional.factorized_linear(x, weight, bias, implementation=way)
        torch.testing.assert_close(found, nn.functional.linear(x, weight.to_tensor(), bias))
    head = tltorch.FactorizedTensor.new((4, 5, 3), 2, "cp")
    images = torch.randn(2, 4, 5)
    torch.testing.assert_close(
        tltorch.functional.trl(images, head, torch.ones(3)),
        torch.einsum("bij,ijo->bo", images, head.to_tensor()) + 1,
    )
    assert tltorch.utils.get_tensorized_shape(60, 512, order=2) == ((6, 10), (16, 32))


STANDS_IN = """
import sys, tenfold.tltorch as ours
ours.stand_in(); ours.stand_in()
assert not [name for name in sys.modules if name.split(".")[0] == "tensorly"]
import tltorch
from tltorch.factorized_tensors.core import FactorizedTensor
from tltorch.factorized_layers import FactorizedConv
assert tltorch is ours and FactorizedTensor is ours.FactorizedTensor
assert isinstance(FactorizedTensor.new((3, 2), 1, "cp"), tltorch.CPTensor)
del sys.modules["tltorch"]
sys.modules["tltorch"] = sys
try:
    ours.stand_in()
except RuntimeError as fault:
    print(fault)
"""


def test_it_stands_in_for_theirs_and_imports_no_tensorly():
    done = subprocess.run(
        [sys.executable, "-c", STANDS_IN], capture_output=True, text=True, check=True
    )
    assert "is imported already" in done.stdout


@pytest.mark.parametrize("words", [{"has_bias": True}, {"fixed_rank_modes": "spatial"}, {"x": 1}])
def test_on_our_own_class_their_words_are_refused_with_what_takes_them(words):
    (name,) = words
    for call in (
        lambda: tenfold.FactorizedConv(8, 12, (3, 3), **words),
        lambda: tenfold.FactorizedConv.from_conv(CONV, rank=0.5, **words),
    ):
        with pytest.raises(TypeError, match=f"{name}=.* is no argument of FactorizedConv.*tltorch"):
            call()
    with pytest.raises(ValueError, match="'init', which CP does not take: it takes sweeps"):
        tenfold.FactorizedConv.from_conv(
            CONV, decomposition_kwargs={"init": "random", "n_iter_max": 0}
        )
