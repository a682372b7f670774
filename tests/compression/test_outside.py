"""A budget of the network is of the network: what is in no layer counts, and so do factorized
layers that are there already."""

from math import log2

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tenfold import FactorizedConv, compress
from tenfold.compression import groundwork
from tenfold.compression.reporting.page import page
from tenfold.compression.survey import observe, survey

X = torch.randn(8, 6, 16, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(8, 4, 9, 9, generator=torch.Generator().manual_seed(0))


def small(model, **fields):
    options = {"budget": 0.9, "example_inputs": IMAGES[:4], "calibration": IMAGES.split(2)}
    return compress(
        model.eval(), progress=False, never_slower=False, multiple=2, **{**options, **fields}
    )


def counted(model, x):
    """By PyTorch's own counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(x)
    return counter.get_total_flops() // 2


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.c = nn.Conv2d(4, 16, 3), nn.Conv2d(16, 16, 3)
        self.w = nn.Parameter(torch.randn(16, 16, 3, 3) / 12)

    def forward(self, x):
        return self.c(F.conv2d(self.a(x), self.w, padding=1))


class Then(nn.Module):
    """A linear layer, and something after it."""

    def __init__(self, after=None):
        super().__init__()
        self.first, self.after = nn.Linear(16, 16), after

    def forward(self, x):
        y = self.first(x)
        if self.after is None:
            return F.scaled_dot_product_attention(y, y, y)
        found = self.after(y)
        return found[0] if isinstance(found, tuple) else found


class Times(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(16, 16)), nn.Parameter(torch.randn(16))

    def forward(self, x):
        return x @ self.a @ self.b + torch.einsum("bsi,bti->bst", x, x).sum(-1)


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.irfft(torch.fft.fft(torch.fft.rfft(x)), 16)


ITEMS = 8 * 6
WORK = {
    "attention": (None, 2 * 8 * 6 * 6 * 16),
    "LSTM": (nn.LSTM(16, 12), ITEMS * 4 * 12 * (16 + 12)),
    "both ways, two layers": (
        nn.LSTM(16, 12, 2, bidirectional=True, batch_first=True),
        ITEMS * 2 * 4 * 12 * (16 + 12 + 24 + 12),
    ),
    "GRU": (nn.GRU(16, 12), ITEMS * 3 * 12 * (16 + 12)),
    "products": (Times(), ITEMS * (16 * 16 + 16) + 8 * 6 * 6 * 16),
    "transforms": (Fourier(), int(ITEMS * (2 * 1.25 * 16 * 4 + 2.5 * 9 * log2(9)))),
    "nothing": (nn.ReLU(), 0),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", WORK)
def test_work_outside_of_layers_is_counted_by_operator(name, mode):
    after, macs = WORK[name]
    model = Then(after).eval()
    with mode():
        assert observe(model, X, survey(model, X)) == (macs, ())


def test_a_budget_of_macs_is_of_the_whole_network():
    model = Functional()
    made = small(model, budget=0.8)
    report = made.report
    assert report.macs.before == counted(model, IMAGES[:4])
    assert report.macs.after == counted(made.model, IMAGES[:4])
    assert report.macs.after <= 0.8 * report.macs.before
    outside = report.layers[-1]
    assert (outside.name, outside.macs.before) == ("(outside of layers)", 4 * 49 * 16 * 16 * 9)
    assert "(outside of layers)" in str(report.table().caption)
    assert "outside of layers" in page(report)


def test_a_budget_that_cannot_be_reached_says_what_stays():
    with pytest.raises(ValueError, match=r"reached.*stays of the MACs: .*% outside of layers"):
        small(Functional(), budget=0.1)


class Standardised(nn.Conv2d):
    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, self.weight - mean, self.bias)


def test_weight_standardised_convolutions_stay_with_the_reason_and_the_remedy():
    model = nn.Sequential(Standardised(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1))
    told = r"'0': conv=Standardised has a forward of its own.* with that weight"
    with pytest.raises(ValueError, match=rf"reached: .* stay whatever is chosen; ask for.*{told}"):
        small(model, budget=0.5)


class Transposed(nn.Module):
    """A linear layer of a class of its own, as GPT-2 has it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, 32))

    def forward(self, x):
        return x @ self.weight


def test_modules_that_have_weights_and_are_no_layers_are_named():
    asked = {"example_inputs": IMAGES, "progress": False, "budget": 0.1}
    told = r"functions, as with the weights of '0' \(Transposed\)$"
    with pytest.raises(ValueError, match=told):
        compress(nn.Sequential(Transposed(), nn.ReLU(), nn.Linear(32, 4)), **asked)
    last = nn.utils.parametrizations.weight_norm(nn.Linear(32, 4))
    told = r"computed.*are weights in '1' \(Transposed\): let nn.Linear"
    with pytest.raises(ValueError, match=told):
        compress(nn.Sequential(nn.Identity(), Transposed(), nn.ReLU(), last), **asked)


def test_what_stays_for_one_reason_is_said_together():
    first = [Standardised(4, 16, 3), Standardised(16, 16, 3), Standardised(16, 16, 1)]
    with pytest.raises(ValueError, match=r"9\d% in '1' and 2 more layers: conv=Standard") as found:
        small(nn.Sequential(*first, nn.Conv2d(16, 4, 1)), budget=0.5)
    assert str(found.value).count("has a forward of its own") == 1


@pytest.mark.parametrize("metric", ["macs", "parameters"])
def test_a_budget_that_what_stays_exceeds_is_refused_before_anything_is_measured(
    monkeypatch, metric
):
    def never(*_, **__):
        raise AssertionError("something was measured")

    monkeypatch.setattr(groundwork, "measured", never)
    model = nn.Sequential(Standardised(4, 64, 3), nn.Conv2d(64, 4, 1), nn.Conv2d(4, 4, 1))
    with pytest.raises(ValueError, match=rf"of the {metric} .*: 0\.[89]\d+ of them stay"):
        small(model, budget=0.5, metric=metric)
    with pytest.raises(ValueError, match=r"budgets=0\.5 .* or include more layers"):
        small(model, budgets=[0.99, 0.5], metric=metric, exclude=["2"])
    with pytest.raises(AssertionError):
        small(model, budget=0.99, metric=metric)


def twice(**request):
    """One layer factorized, one not yet."""
    torch.manual_seed(0)
    done = FactorizedConv(4, 16, (3, 3), rank=8, factorization="tucker", **request)
    return nn.Sequential(done, nn.ReLU(), nn.Conv2d(16, 16, 3))


class Toeplitz(nn.Conv1d):
    """A matrix with one number for each diagonal; takes rows, of which each is one channel."""

    def __init__(self, inside, outside):
        super().__init__(1, 1, inside + outside - 1, padding=outside - 1)

    def forward(self, x):
        return super().forward(x.unsqueeze(-2)).squeeze(-2)


class Causal(nn.Conv1d):
    def forward(self, x):
        return super().forward(F.pad(x, (self.kernel_size[0] - 1, 0)))


@pytest.mark.parametrize(
    ("layer", "x"),
    [(Toeplitz(16, 8), torch.ones(6, 16)), (Causal(4, 5, 3), torch.ones(6, 4, 16))],
)
def test_a_layer_with_a_forward_of_its_own_is_counted_as_it_computes(layer, x):
    model = nn.Sequential(nn.Linear(16, 16), layer)
    layers = survey(model, x)
    outside, _ = observe(model, x, layers)
    assert outside + sum(one.macs for one in layers) == counted(model, x)


def test_layers_that_are_factorized_already_count_and_stay_where_they_are_left_out():
    model = twice().eval()
    made = small(model, exclude=FactorizedConv)
    report = made.report
    assert report.macs.before == counted(model, IMAGES[:4])
    assert report.macs.after == counted(made.model, IMAGES[:4]) <= 0.9 * report.macs.before
    first = report.layers[0]
    assert first.macs.before == first.macs.after == 4 * model[0].macs((9, 9))
    assert first.parameters.before == sum(p.numel() for p in model[0].parameters())
    assert first.reason == "excluded"
    assert torch.equal(made.model[0].weight.to_tensor(), model[0].weight.to_tensor())


def test_the_macs_of_code_of_its_own_are_counted_by_operator():
    model = twice(implementation="fft").eval()
    layers = survey(model, IMAGES)
    assert observe(model, IMAGES, layers) == (0, ())
    assert layers[0].macs > 0


@torch.library.custom_op("acme::deformed", mutates_args=())
def deformed(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


deformed.register_autograd(lambda _, gradient: gradient)


class Deformed(nn.Sequential):
    def forward(self, x):
        return super().forward(deformed(x))


def test_operators_whose_work_is_not_known_are_named():
    model = Deformed(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    row = small(model, budget=0.6, refine="off").report.layers[-1]
    assert (row.name, row.macs.before) == ("(outside of layers)", 0)
    assert "not counted: acme::deformed" in row.reason
