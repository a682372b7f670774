"""The implementation `onnxruntime`: who runs what, what follows a change, what is refused."""

import copy
import pickle
import sys

import pytest
import torch
from torch import nn

import tenfold
from tenfold import FactorizedConv, implementations, relative_error, to_onnx
from tenfold_plugins import onnx_layers


def layer(**changes):
    torch.manual_seed(0)
    asked = {"kernel_size": (3, 3), "rank": 0.7, "factorization": "tucker", **changes}
    return FactorizedConv(8, 12, **asked, implementation="onnxruntime")


@pytest.fixture
def sessions(monkeypatch):
    """The sessions that are opened, one after another."""
    made, opened = [], onnx_layers.opened

    def noted(*given):
        made.append(opened(*given))
        return made[-1]

    monkeypatch.setattr(onnx_layers, "opened", noted)
    return made


X = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))
LIKE = {
    "groups and stride": {"groups": 2, "stride": 2, "padding": 1},
    "reflected": {"padding": 1, "padding_mode": "reflect", "bias": False},
    "transposed": {"transposed": True, "stride": 2, "output_padding": 1, "groups": 2},
    "one dimension": {"kernel_size": (3,), "dilation": 2},
    "three": {"kernel_size": (2, 3, 1), "factorization": "cp"},
    "a sum": {"factorization": "tucker+depthwise_separable"},
}


@torch.no_grad()
def test_an_input_that_is_too_small_is_refused_at_every_call():
    layer = FactorizedConv(4, 6, (3, 3), rank=3, implementation="onnxruntime").eval()
    layer(torch.randn(1, 4, 9, 9))
    with pytest.raises(ValueError, match="smaller than the kernel's reach"):
        layer(torch.randn(1, 4, 2, 9))


@torch.no_grad()
@pytest.mark.parametrize("name", LIKE)
def test_in_eval_it_gives_what_a_dense_convolution_gives_for_any_batch_and_size(name, sessions):
    made = layer(**LIKE[name]).eval()
    order = made.order
    for shape in ((2, 8, *[9] * order), (1, 8, *[7] * order), (8, *[9] * order)):
        x = torch.randn(shape)
        assert relative_error(made.to_conv()(x), made(x)) < 1e-5
    assert len(sessions) == len(getattr(made.plan, "plans", (made.plan,)))


def test_other_inputs_and_training_are_pytorch_s(sessions):
    made = layer()
    made(X).sum().backward()
    assert all(factor.grad is not None for factor in made.weight.factors)
    made.eval()(X)  # with gradients
    with torch.no_grad():
        made(X[:0])
        with torch.autocast("cpu", torch.bfloat16):
            assert made(X).dtype == torch.bfloat16
        assert made.double()(X.double()).dtype == torch.float64
    assert sessions == []


@torch.no_grad()
def test_a_weight_written_in_place_is_answered_with_the_new_one(sessions):
    made = layer().eval()
    before = made(X)
    for factor in (made.weight.factors[0], made.weight.factors[0].data):
        factor.mul_(2)
        before = 2 * (before - made.bias[:, None, None]) + made.bias[:, None, None]
        assert relative_error(before, made(X)) < 1e-5
    made(X)
    assert len(sessions) == 3


@torch.no_grad()
def test_it_is_copied_pickled_saved_and_spelled_like_any_other(tmp_path):
    model = nn.Sequential(layer().eval())
    wanted = model(X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(X), wanted)
    tenfold.save(model, tmp_path / "kept")
    empty = nn.Sequential(nn.Conv2d(8, 12, 3)).eval()
    loaded = tenfold.load(tmp_path / "kept", empty)
    assert loaded[0].implementation == "onnxruntime"
    assert torch.equal(loaded(X), wanted)
    assert relative_error(wanted, model[0].to_sequential()(X)) < 1e-5
    assert to_onnx(model, X)


@torch.no_grad()
def test_auto_measures_it_where_it_is_asked_to():
    auto = implementations["auto"](others=("onnxruntime",))
    made = FactorizedConv(8, 12, (3, 3), rank=2, factorization="tucker", implementation=auto)
    decision = made.eval().tune(X)
    assert "onnxruntime" in {one.implementation for one in decision.measured}


def test_a_size_below_the_kernel_s_is_refused_as_ever():
    with torch.no_grad(), pytest.raises(ValueError, match="kernel"):
        layer().eval()(X[..., :2, :2])


@pytest.mark.parametrize("order", [0, 4])
def test_an_order_that_it_has_not_is_refused(order):
    with pytest.raises(
        ValueError, match=r"orders 1 to 3, and this is order .* use implementation="
    ):
        layer(kernel_size=(3,) * order)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_its_packages_it_is_refused_naming_the_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"pip install 'tenfold\[onnxruntime\]', or use"):
        layer()
