"""A network that was compressed before: its factorized layers get smaller bonds."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import tenfold
from tenfold import FactorizedConv, FactorizedLinear, compress, hookimpl, relative_error
from tenfold.plugin.hooks import plugin_manager

QUICK = {
    "multiple": 1,
    "progress": False,
    "correct": False,
    "refine": "off",
    "never_slower": False,
}
X = torch.randn(12, 3, 10, 10, generator=torch.Generator().manual_seed(0)).cumsum(2) / 3


def network(factorization="tucker", **options):
    """Three convolutions, the second and third factorized; the kernels are nearly of rank 6."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 12, 3, padding=1), *(nn.Conv2d(12, 12, 3, padding=1) for _ in range(2))]
    with torch.no_grad():
        for conv in convs[1:]:
            core = torch.randn(6, 6, 3, 3)
            low = torch.einsum("or,is,rskl->oikl", torch.randn(12, 6), torch.randn(12, 6), core)
            conv.weight.copy_(low / 30 + conv.weight / 10)
    made = [
        FactorizedConv.from_conv(conv, rank=0.9, factorization=factorization, **options)
        for conv in convs[1:]
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))
    return nn.Sequential(convs[0], nn.ReLU(), made[0], nn.ReLU(), made[1], nn.ReLU(), head).eval()


def smaller(model, **options):
    given = {**QUICK, "budget": 0.6, **options}
    return compress(model, example_inputs=X[:2], calibration=list(X.split(4)), **given)


@pytest.mark.parametrize("format_", ["tucker", "tt", "cp", "block_term", "spatial_svd"])
@pytest.mark.parametrize("metric", ["parameters", "macs"])
def test_factorized_layers_get_smaller_bonds_within_the_budget(format_, metric):
    model = network(format_)
    made = smaller(model, metric=metric, include=("2", "4"))
    change = getattr(made.report, metric)
    assert change.after <= 0.6 * change.before
    changed = [row for row in made.report.layers if row.factorization]
    assert changed
    for row in changed:
        layer, before = (one.get_submodule(row.name) for one in (made.model, model))
        assert layer.factorization == row.factorization == format_
        assert layer.weight.network.numel < before.weight.network.numel
        assert row.parameters.before == sum(p.numel() for p in before.parameters())
        assert row.parameters.after == sum(p.numel() for p in layer.parameters())
    with torch.no_grad():
        assert relative_error(model(X), made.model(X)) < 0.5


def test_a_factorized_layer_that_stays_is_not_called_dense():
    model = network()
    report = smaller(model, include="2").report
    said = str(report)
    assert "As it was (not included): 4." in said
    assert "Dense (not included): 0" in said
    assert "as it was" in report.to_html()


def test_errors_are_against_what_came_in():
    model = network()
    made = smaller(model)
    for row in made.report.layers:
        if row.factorization:
            layers = [one.get_submodule(row.name).weight for one in (model, made.model)]
            kernels = [one.to_tensor().detach() for one in layers]
            assert row.kernel_error == pytest.approx(relative_error(*kernels), rel=1e-3)


def test_corrected_and_refined_it_is_nearer_still():
    model = network()
    plain, better = smaller(model), smaller(model, correct=True, refine="blocks")
    assert better.report.error < plain.report.error


def test_how_it_is_run_its_options_and_its_hooks_stay():
    model = network(implementation="reconstructed")
    calls = []
    model[2].register_forward_hook(lambda *_: calls.append(1))
    made = smaller(model, metric="parameters")
    layer = made.model[2]
    assert layer.implementation == "reconstructed"
    assert layer.rank != model[2].rank
    calls.clear()
    made.model(X)
    assert calls == [1]


def test_linear_layers_of_products_are_rounded():
    torch.manual_seed(0)
    model = nn.Sequential(FactorizedLinear((3, 4), (4, 4), rank=6), nn.Linear(16, 16)).eval()
    x = torch.randn(24, 12)
    made = compress(
        model, budget=0.7, metric="parameters", example_inputs=x, exclude=nn.Linear, **QUICK
    )
    assert type(made.model[0]) is FactorizedLinear
    assert made.model[0].rank < model[0].rank


def test_it_is_saved_and_loaded(tmp_path):
    made = smaller(network())
    tenfold.save(made, tmp_path / "again")
    found = tenfold.load(tmp_path / "again", network())
    assert torch.equal(found(X), made.model(X))


def test_what_cannot_be_rounded_stays_and_it_is_said():
    model = network()
    prune.l1_unstructured(model[2].weight.factors, "0", amount=0.5)
    made = smaller(model, budget=0.9)
    row = next(row for row in made.report.layers if row.name == "2")
    assert row.factorization is None
    assert "factors are made of others" in row.reason


def test_a_layer_that_is_left_says_that_it_is_factorized():
    model = network()
    made = smaller(model, budget=0.99, include=("2", "4"))
    reasons = [row.reason for row in made.report.layers if row.name in ("2", "4")]
    assert any(one and "factorized already (tucker, rank" in one for one in reasons)


class Asking:
    def __init__(self, answer):
        self.answer = answer

    @hookimpl
    def tenfold_select(self, name, module):
        return self.answer if name == "2" else None


@pytest.fixture
def asking(request):
    plugin = Asking(request.param)
    plugin_manager().register(plugin)
    yield
    plugin_manager().unregister(plugin)


@pytest.mark.parametrize("asking", [{"rank": (3, 3)}], indirect=True)
@pytest.mark.usefixtures("asking")
def test_a_hook_asks_for_its_rank():
    model = network()
    assert smaller(model, budget=0.9).model[2].rank in ((3, 3), model[2].rank)


@pytest.mark.parametrize("asking", [{"factorization": "cp"}], indirect=True)
@pytest.mark.usefixtures("asking")
def test_another_format_is_refused():
    with pytest.raises(ValueError, match="factorized already and stays in its format"):
        smaller(copy.deepcopy(network()))
