"""Each wrong call is refused with a message that names the argument, its value and the remedy."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import tenfold
from tenfold import FactorizedConv, FactorizedKernel
from tenfold.testing import conformance

C, K = FactorizedConv, FactorizedKernel
new, from_tensor = K.new, K.from_tensor


def image(*positional: object, **changes: object) -> FactorizedConv:
    """A layer for images, 4 to 6 channels, with one argument wrong."""
    return C(*(positional or (4, 6, 3)), **{"order": 2, **changes})


def onto(**changes: object) -> FactorizedConv:
    return C.from_factorization(new((6, 4, 3, 3)), **changes)


CALLS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "tucker as mobilenet": (
        lambda: image(factorization="tucker", implementation="mobilenet"),
        ValueError,
        "implementation='mobilenet' cannot run factorization='tucker'.*depthwise.*sums over"
        ".*use implementation='factorized', or factorization='cp'",
    ),
    "tt as mobilenet": (
        lambda: image(factorization="tt", implementation="mobilenet"),
        ValueError,
        "implementation='mobilenet' cannot run factorization='tt'.*depthwise"
        ".*use implementation='factorized', or factorization='cp'",
    ),
    "unknown factorization": (
        lambda: image(factorization="tuker"),
        ValueError,
        r"factorization='tuker' is not installed: did you mean 'tucker'\? .*cp,.* tucker",
    ),
    "unknown implementation": (
        lambda: image(implementation="banana"),
        ValueError,
        "implementation='banana' is not installed.*factorized, .*mobilenet, .*reconstructed",
    ),
    "factorization of another kind": (
        lambda: image(factorization=3),
        TypeError,
        "factorization=3 must be a name, or a Factorization class or instance.*cp,",
    ),
    "implementation of another kind": (
        lambda: image(implementation=nn.Conv2d),
        TypeError,
        "implementation=.*Conv2d.* must be a subclass of tenfold.Implementation",
    ),
    "no order": (
        lambda: C(4, 6, 3),
        ValueError,
        "kernel_size=3 leaves the order open: give a tuple.* or order=, as order=2",
    ),
    "another order": (
        lambda: C(4, 6, (3, 3, 3), order=2),
        ValueError,
        r"kernel_size=\(3, 3, 3\) has 3 numbers; order=2 takes 2",
    ),
    "negative order": (lambda: image(order=-1), ValueError, "order=-1 must be .* at least 0"),
    "kernel_size 0": (lambda: C(4, 6, (3, 0)), ValueError, r"kernel_size=\(3, 0\) .*at least 1"),
    "kernel_size float": (lambda: C(4, 6, (3.0, 3)), ValueError, r"kernel_size=\(3\.0, 3\) must"),
    "kernel_size word": (
        lambda: C(4, 6, "33"),
        ValueError,
        "kernel_size='33' leaves the order open",
    ),
    "stride length": (
        lambda: image(stride=(1, 2, 3)),
        ValueError,
        r"stride=\(1, 2, 3\) has 3 numbers; order=2 takes 2",
    ),
    "stride 0": (lambda: image(stride=0), ValueError, "stride=0 must be .* at least 1"),
    "padding length": (lambda: image(padding=(1,)), ValueError, r"padding=\(1,\) has 1 .*takes 2"),
    "padding sign": (lambda: image(padding=(1, -1)), ValueError, r"padding=\(1, -1\) .*least 0"),
    "padding word": (
        lambda: image(padding="full"),
        ValueError,
        "padding='full' .*'same' or 'valid'",
    ),
    "padding float": (lambda: image(padding=1.0), ValueError, r"padding=1\.0 must be an int"),
    "same with strides": (
        lambda: image(padding="same", stride=2),
        ValueError,
        r"padding='same' with stride=\(2, 2\).* stride 1",
    ),
    "dilation 0": (lambda: image(dilation=(1, 0)), ValueError, r"dilation=\(1, 0\) .*at least 1"),
    "dilation length": (
        lambda: image(dilation=(1, 2, 3)),
        ValueError,
        r"dilation=.*order=2 takes 2",
    ),
    "padding_mode": (
        lambda: image(padding_mode="mirror"),
        ValueError,
        "padding_mode='mirror' must be one of zeros, reflect, replicate, circular",
    ),
    "padding_mode None": (lambda: image(padding_mode=None), ValueError, "padding_mode=None"),
    "groups and in": (
        lambda: image(5, 6, 3, groups=3),
        ValueError,
        "in_channels=5 must be divisible by groups=3",
    ),
    "groups and out": (
        lambda: image(6, 5, 3, groups=3),
        ValueError,
        "out_channels=5 must be divisible by groups=3",
    ),
    "groups 0": (lambda: image(groups=0), ValueError, "groups=0 must be an int of at least 1"),
    "channels 0": (lambda: image(0, 6, 3), ValueError, "in_channels=0 must be .* at least 1"),
    "channels float": (lambda: image(4.0, 6, 3), ValueError, r"in_channels=4\.0 must be an int"),
    "channels bool": (lambda: image(4, True, 3), ValueError, "out_channels=True must be an int"),
    "channels word": (lambda: image(4, "6", 3), ValueError, "out_channels='6' must be an int"),
    "bias": (lambda: image(bias="yes"), ValueError, "bias='yes' must be True or False"),
    "output_padding": (
        lambda: image(output_padding=1, stride=2),
        ValueError,
        r"output_padding=\(1, 1\) is for transposed convolutions: give transposed=True",
    ),
    "wide output_padding": (
        lambda: image(transposed=True, stride=(2, 3), output_padding=2),
        ValueError,
        r"output_padding=\(2, 2\) must be below the stride \(2, 3\) or the dilation",
    ),
    "transposed same": (
        lambda: image(transposed=True, padding="same"),
        ValueError,
        "padding='same'.* a transposed convolution takes ints and 'zeros'",
    ),
    "transposed circular": (
        lambda: image(transposed=True, padding_mode="circular"),
        ValueError,
        "padding_mode='circular': a transposed convolution takes ints and 'zeros'",
    ),
    "transposed linear": (
        lambda: C(4, 6, (), transposed=True),
        ValueError,
        "transposed=True with order=0: a linear layer has no transposed form",
    ),
    "dtype int8": (
        lambda: image(dtype=torch.int8),
        TypeError,
        r"dtype=torch\.int8 .*floating-point",
    ),
    "shape of one mode": (lambda: new((6,)), ValueError, r"shape=\(6,\) must be \(out, in/groups"),
    "shape with a 0": (lambda: new((6, 4, 0)), ValueError, r"shape=\(6, 4, 0\) .*at least 1"),
    "groups of a kernel": (
        lambda: new((6, 4, 3), groups=4),
        ValueError,
        "groups=4 must divide .* 6",
    ),
    "an integer kernel": (
        lambda: from_tensor(torch.ones(6, 4, 3, dtype=torch.int64)),
        TypeError,
        r"torch\.int64 must be a floating-point",
    ),
    "a kernel with NaN": (
        lambda: from_tensor(torch.full((6, 4, 3), torch.nan)),
        ValueError,
        r"\(6, 4, 3\) has 72 values that are NaN or infinite: repair or re-train",
    ),
    "no kernel": (
        lambda: C.from_factorization(torch.ones(6, 4, 3)),
        TypeError,
        "kernel=Tensor must be a FactorizedKernel: .*FactorizedKernel.from_tensor",
    ),
    "bias shape": (
        lambda: onto(bias=torch.zeros(4)),
        ValueError,
        r"bias of shape \(4,\) must have \(6,\)",
    ),
    "kernel as mobilenet": (
        lambda: C.from_factorization(
            new((6, 4, 3), factorization="tt"), implementation="mobilenet"
        ),
        ValueError,
        "implementation='mobilenet' cannot run factorization='tt'",
    ),
    "stride of a kernel": (
        lambda: onto(stride=(1,)),
        ValueError,
        r"stride=\(1,\) .*order=2 takes 2",
    ),
    "reflect too wide": (
        lambda: image(padding=3, padding_mode="reflect")(torch.zeros(1, 4, 5, 3)),
        ValueError,
        "padding=3 with padding_mode='reflect' needs an input of at least 4 on axis 1.* is 3",
    ),
    "circular too wide": (
        lambda: image(padding=(4, 0), padding_mode="circular")(torch.zeros(1, 4, 3, 9)),
        ValueError,
        "padding=4 with padding_mode='circular' needs an input of at least 4 on axis 0.* is 3",
    ),
    "conformance of nothing": (
        lambda: conformance(),
        ValueError,
        "needs factorization=, implementation= or both",
    ),
}


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Padded(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight.abs(), bias)


def conv(**changes: object) -> nn.Conv2d:
    return nn.Conv2d(4, 6, 3, **changes)


def patched(**methods: object) -> nn.Conv2d:
    source = conv()
    vars(source).update(methods)
    return source


def unmade(source: nn.Conv2d) -> nn.Conv2d:
    """One whose weight a hook of the user's makes of another parameter."""
    source.raw = source._parameters.pop("weight")
    source.register_forward_pre_hook(lambda m, _: setattr(m, "weight", 2 * m.raw))
    source.weight = 2 * source.raw.detach()
    return source


def spoiled(value: float) -> nn.Conv2d:
    source = conv()
    source.weight.data[1, 2, 0, 1] = value
    return source


SOURCES: dict[str, tuple[Callable[[], object], dict, type[Exception], str]] = {
    "no convolution": (
        nn.ReLU,
        {},
        TypeError,
        "conv=ReLU must be nn.Conv1d to nn.Conv3d.*nn.Linear",
    ),
    "a name": (lambda: "conv1", {}, TypeError, "conv=str must be nn.Conv1d"),
    "lazy": (
        lambda: nn.LazyConv2d(6, 3),
        {},
        ValueError,
        "conv=LazyConv2d has no weight yet: run it on an input first",
    ),
    "lazy, linear": (lambda: nn.LazyLinear(6), {}, ValueError, "conv=LazyLinear has no weight yet"),
    "a forward of its own": (
        lambda: Scaled(4, 6, 3),
        {},
        TypeError,
        r"conv=Scaled has a forward of its own, which would be lost: put an nn\.Conv2d that.*its "
        "place .of a weight that is standardised or scaled in forward, one with that weight; of an "
        r"input that is padded there, an nn\.Sequential of the padding, as nn\.ZeroPad2d, and one",
    ),
    "a forward on the module itself": (
        lambda: patched(forward=lambda x: x),
        {},
        TypeError,
        "conv=Conv2d has a forward of its own, set on the module itself, which would be lost",
    ),
    "a convolution on the module itself": (
        lambda: patched(_conv_forward=lambda x, w, b: x),
        {},
        TypeError,
        "conv=Conv2d has a _conv_forward of its own, set on the module itself",
    ),
    "a weight of unknown making": (
        lambda: unmade(conv()),
        {},
        ValueError,
        r"conv\.weight of a Conv2d is no parameter, and what makes it is not known: run it once, "
        r"take its hook away, and make conv\.weight an nn\.Parameter",
    ),
    "a convolution of its own": (
        lambda: Padded(4, 6, 3),
        {},
        TypeError,
        "conv=Padded has a _conv_forward of its own",
    ),
    "NaN": (
        lambda: spoiled(torch.nan),
        {},
        ValueError,
        r"kernel of shape \(6, 4, 3, 3\) has 1 values that are NaN or infinite: repair or re-train",
    ),
    "infinity": (lambda: spoiled(-torch.inf), {}, ValueError, "has 1 values that are NaN or infin"),
    "unknown option": (
        conv,
        {"decomposition_kwargs": {"n_iter_max": 3}},
        ValueError,
        "decomposition_kwargs has 'n_iter_max', which CP does not take: it takes sweeps, ",
    ),
    "rank": (conv, {"rank": "banana"}, ValueError, "rank='banana' is not understood: .*a float"),
    "factorization": (conv, {"factorization": "c"}, ValueError, "factorization='c' .*mean 'cp'"),
    "pair": (
        conv,
        {"factorization": "tucker", "implementation": "mobilenet"},
        ValueError,
        "implementation='mobilenet' cannot run factorization='tucker'",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_refused_with_the_remedy(name):
    call, error, message = CALLS[name]
    with pytest.raises(error, match=f"(?s){message}") as refusal:
        call()
    assert type(refusal.value) is error
    assert "\n" not in str(refusal.value)


def state(source: object) -> list[object]:
    """What a module holds: its training mode, and each parameter with the writes to it."""
    if not isinstance(source, nn.Module):
        return [source]
    held = [(name, id(p), p._version, p.requires_grad) for name, p in source.named_parameters()]
    return [source.training, *held]


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_cannot_be_converted_is_refused_before_anything_is_made(name, monkeypatch):
    make, arguments, error, message = SOURCES[name]
    source, made = make(), []
    monkeypatch.setattr(FactorizedKernel, "__init__", lambda self, *given: made.append(given))
    before, random = state(source), torch.get_rng_state()
    with pytest.raises(error, match=message):
        FactorizedConv.from_conv(source, **arguments)
    assert made == []
    assert state(source) == before
    assert torch.equal(torch.get_rng_state(), random)


def one_layer():
    return nn.Sequential(FactorizedConv(8, 8, (3, 3), rank=4), nn.BatchNorm2d(8)).eval()


LEAF_OR_PLAIN = r"trace tenfold\.to_plain\(model\), or .*leaf_modules=\[FactorizedConv\]"
AS_A_TENSOR = {
    "data": (lambda m: m[0].weight.data, r"layer\.reset_parameters\(\)"),
    "initialised": (lambda m: nn.init.normal_(m[0].weight), r"layer\.reset_parameters\(\)"),
    "initialised by its size": (lambda m: nn.init.xavier_normal_(m[0].weight), "reset_parameters"),
    "folded": (lambda m: nn.utils.fuse_conv_bn_eval(*m), "before that is compressed"),
    "folded as YOLO does": (lambda m: m[0].weight.view(8, -1), "before that is compressed"),
    "traced by torch.fx": (torch.fx.symbolic_trace, LEAF_OR_PLAIN),
    "scripted": (torch.jit.script, r"script tenfold\.to_plain\(model\)"),
}


@pytest.mark.parametrize("name", AS_A_TENSOR)
def test_what_would_read_or_write_a_dense_weight_is_told_what_to_do(name):
    call, remedy = AS_A_TENSOR[name]
    with pytest.raises((AttributeError, TypeError), match=remedy):
        call(one_layer())


def test_a_kernel_has_none_of_a_tensor_s_attributes():
    kernel = one_layer()[0].weight
    assert not hasattr(kernel, "data")
    with pytest.raises(AttributeError, match=r"no attribute 'banana'$"):
        kernel.banana  # noqa: B018


def test_the_remedies_for_fx_and_script_work():
    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, FactorizedConv) or super().is_leaf_module(module, name)

    model, x = one_layer(), torch.randn(2, 8, 9, 9)
    plain = tenfold.to_plain(model)
    traced = torch.fx.GraphModule(model, Tracer().trace(model))
    for other in (traced, torch.fx.symbolic_trace(plain), torch.jit.script(plain)):
        torch.testing.assert_close(other(x), model(x), rtol=1e-4, atol=1e-5)


ODD_CALLS = {
    "dtype=": lambda x: FactorizedConv(8, 8, (3, 3), dtype=torch.float8_e4m3fn),
    "tensor of layout": lambda x: FactorizedKernel.from_tensor(torch.ones(4, 4, 3).to_sparse()),
    "conv.weight of dtype": lambda x: FactorizedConv.from_conv(
        nn.Conv2d(8, 8, 3).to(torch.float8_e4m3fn)
    ),
    "conv.weight as a kernel has shape": lambda x: FactorizedConv.from_conv(refilled()),
    "squares overflow": lambda x: FactorizedKernel.from_tensor(1e300 * torch.ones(4, 4).double()),
    "other=NoneType": lambda x: tenfold.relative_error(x, None),
    "other of shape": lambda x: tenfold.relative_error(x, x[0]),
    "model=NoneType": lambda x: tenfold.to_plain(None),
    "model=str": lambda x: tenfold.tune("model", x),
    "model=list": lambda x: tenfold.measure_moments([], ["0"], [x]),
    "names has 'two'": lambda x: tenfold.measure_moments(nn.Sequential(), ["two"], [x]),
    "input=NoneType": lambda x: tenfold.Moment(nn.Conv2d(8, 8, 3)).update(None),
    "share=-1": lambda x: tenfold.Moment(nn.Conv2d(8, 8, 3)).update(x, share=-1),
    "example_inputs do not run": lambda x: tenfold.compress(
        nn.Sequential(nn.Conv2d(8, 8, 3)), budget=0.5, example_inputs=x[:, :3], progress=False
    ),
}


def refilled():
    conv = nn.Conv2d(8, 8, 3)
    conv.weight = nn.Parameter(torch.randn(8, 8, 5, 5))
    return conv


@pytest.mark.parametrize("message", ODD_CALLS)
def test_odd_arguments_are_refused_by_name(message):
    with pytest.raises((ValueError, TypeError), match=message):
        ODD_CALLS[message](torch.randn(2, 8, 9, 9))
