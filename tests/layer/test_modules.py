"""A layer is a module like any other: compiled, exported, mapped, differentiated, copied."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn
from torch.func import functional_call, stack_module_state

import tenfold
from tenfold import FactorizedConv, factorizations, implementations, relative_error
from tenfold.testing import requests

LAYERS = {  # arguments, and the size of an input
    "linear": ({"kernel_size": (), "groups": 2}, ()),
    "1-d": ({"kernel_size": (3,), "stride": 2, "padding": 1, "padding_mode": "circular"}, (9,)),
    "2-d": ({"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "groups": 2}, (8, 7)),
    "2-d reflect": ({"kernel_size": (3, 3), "padding": 2, "padding_mode": "reflect"}, (8, 7)),
    "2-d same, even": ({"kernel_size": (2, 4), "padding": "same", "dilation": 2}, (8, 7)),
    "2-d transposed": (
        {"kernel_size": (3, 2), "transposed": True, "stride": 2, "output_padding": (1, 0)},
        (4, 5),
    ),
    "3-d": ({"kernel_size": (2, 1, 3), "padding": (0, 1, 1)}, (4, 5, 3)),
    "4-d": ({"kernel_size": (2, 1, 2, 2), "padding": 1, "bias": False}, (2, 3, 3, 2)),
}
each_layer = pytest.mark.parametrize("name", LAYERS)
even_same = pytest.mark.filterwarnings("ignore:Using padding='same' with even")


def make(name: str, pair: dict[str, str], seed: int = 0, **more: object) -> FactorizedConv:
    generator = torch.Generator().manual_seed(seed)
    arguments = {"rank": 3, **LAYERS[name][0], **pair, **more}
    return FactorizedConv(4, 6, **arguments, generator=generator)


def make_input(name: str, batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 4, *LAYERS[name][1], generator=generator).to(dtype)


@pytest.mark.parametrize("training", [True, False])
def test_compiled_whole_it_equals_itself_in_values_and_gradients(pair, training):
    torch.compiler.reset()
    layer = make("2-d", pair, dtype=torch.float64).train(training)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = make_input("2-d", dtype=torch.float64).requires_grad_(training)
    with torch.set_grad_enabled(training):
        y, other = layer(x), compiled(x)
    assert relative_error(y, other) < 1e-12
    if training:
        inputs = [x, *layer.parameters()]
        for mine, theirs in zip(
            torch.autograd.grad(other.sum(), inputs),
            torch.autograd.grad(y.sum(), inputs),
            strict=True,
        ):
            assert relative_error(theirs, mine) < 1e-12


@each_layer
@torch.no_grad()
def test_compiled_whole_it_takes_any_batch_with_any_geometry(name):
    torch.compiler.reset()
    layer = make(name, {"implementation": "factorized"}, dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for batch in (2, 3):
        x = make_input(name, batch, torch.float64)
        assert relative_error(layer(x), compiled(x)) < 1e-12


@torch.no_grad()
def test_compiled_whole_it_takes_an_output_size(pair):
    torch.compiler.reset()
    layer, x = make("2-d transposed", pair), make_input("2-d transposed")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert relative_error(layer(x, (10, 11)), compiled(x, (10, 11))) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_inductor_compiles_it_whole():
    torch.compiler.reset()
    layer = make("2-d", {"factorization": "tucker", "implementation": "factorized"})
    x = make_input("2-d")
    compiled = torch.compile(layer, fullgraph=True)
    assert relative_error(layer(x), compiled(x)) < 1e-5


@each_layer
def test_functional_call_runs_it_with_other_parameters(pair, name):
    layer, other, x = make(name, pair), make(name, pair, seed=5), make_input(name)
    parameters = dict(other.named_parameters())
    assert torch.equal(functional_call(layer, parameters, (x,)), other(x))


@each_layer
def test_vmap_over_inputs_is_a_loop_over_them(pair, name):
    layer = make(name, pair, dtype=torch.float64)
    x = torch.stack([make_input(name, dtype=torch.float64) * scale for scale in (1, -2, 3)])
    looped = torch.stack([layer(one) for one in x])
    assert relative_error(looped, torch.vmap(layer)(x)) < 1e-12
    assert relative_error(looped[:, 0], torch.vmap(layer)(x[:, 0])) < 1e-12


@each_layer
def test_vmap_over_stacked_parameters_is_a_loop_over_layers(pair, name):
    layers = [make(name, pair, seed, dtype=torch.float64) for seed in range(3)]
    parameters, buffers = stack_module_state(layers)
    x = make_input(name, dtype=torch.float64)

    def run(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(layers[0], (given, buffers), (x,))

    looped = torch.stack([layer(x) for layer in layers])
    assert relative_error(looped, torch.vmap(run)(parameters)) < 1e-12


@each_layer
def test_gradients_of_first_and_second_order_are_right(pair, name):
    layer = make(name, {**pair, "rank": 2}, dtype=torch.float64)
    x = make_input(name, 1, torch.float64).requires_grad_()
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, *values), fast_mode=True)


@even_same
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=requests())
def test_its_plain_modules_need_no_tenfold_and_have_its_output(pair, asked):
    layer, x = asked.layer(**pair, dtype=torch.float64).eval(), asked.input()
    layer.weight.requires_grad_(False)
    for plain in (layer.to_conv(), layer.to_sequential()):
        assert all(type(module).__module__.startswith("torch.nn") for module in plain.modules())
        assert not any(module.training for module in plain.modules())
        assert {p.requires_grad for n, p in plain.named_parameters() if "bias" not in n} == {False}
        y = plain(x)
        assert y.shape == layer(x).shape
        assert relative_error(layer(x), y) < 1e-12
        assert {id(p) for p in plain.parameters()}.isdisjoint(map(id, layer.parameters()))


@pytest.mark.parametrize("way", ["to_conv", "to_sequential"])
def test_above_order_3_it_has_no_plain_modules(pair, way):
    with pytest.raises(ValueError, match=rf"{way}\(\) of a layer of order 4: .* up to order 3"):
        getattr(make("4-d", pair), way)()


@pytest.mark.parametrize("name", ["2-d", "2-d reflect", "2-d same, even", "2-d transposed", "4-d"])
def test_exported_it_takes_any_batch_and_height(pair, name):
    layer, x = make(name, pair, dtype=torch.float64), make_input(name, 2, torch.float64)
    sizes = {
        0: torch.export.Dim("batch", min=1, max=64),
        2: torch.export.Dim("height", min=5, max=64),
    }
    wide = torch.cat([x] * 4, dim=2)
    program = torch.export.export(layer, (wide,), dynamic_shapes=(sizes,))
    for one in (wide, torch.cat([wide, wide])[:3, :, :-1]):
        assert relative_error(layer(one), program.module()(one)) < 1e-12


@each_layer
def test_a_copy_is_equal_and_shares_no_numbers(pair, name):
    layer, x = make(name, pair), make_input(name)
    other = copy.deepcopy(layer)
    y = layer(x)
    assert torch.equal(other(x), y)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert torch.equal(layer(x), y)


def test_threads_get_the_results_of_one(pair):
    layers = [make(name, pair) for name in LAYERS]
    inputs = [make_input(name) for name in LAYERS]
    alone = [layer(x).detach() for layer, x in zip(layers, inputs, strict=True)]
    jobs = [(layer, x) for _ in range(8) for layer, x in zip(layers, inputs, strict=True)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda job: job[0](job[1]).detach(), jobs))
    for index, y in enumerate(together):
        assert relative_error(alone[index % len(alone)], y) < 1e-6


@each_layer
@pytest.mark.parametrize("way", ["name", "class", "instance"])
def test_its_repr_is_the_call_that_makes_it(pair, name, way):
    registries = {"factorization": factorizations, "implementation": implementations}
    classes = {kind: registries[kind][asked] for kind, asked in pair.items()}
    given = {
        "name": pair,
        "class": classes,
        "instance": {kind: cls() for kind, cls in classes.items()},
    }[way]
    layer = make(name, given, dtype=torch.float64)
    scope = {cls.__name__: cls for cls in classes.values()} | vars(tenfold) | {"torch": torch}
    again = eval(repr(layer), scope)
    assert repr(again) == repr(layer)
    assert again.config == layer.config
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(make_input(name).double()), layer(make_input(name).double()))
    kernel = eval(repr(layer.weight), scope)
    assert repr(kernel) == repr(layer.weight)
    assert [f.shape for f in kernel.factors] == [f.shape for f in layer.weight.factors]


def test_its_repr_keeps_a_format_s_own_options():
    cls = factorizations["cp"]
    layer = FactorizedConv(4, 6, (3, 3), factorization=cls(sweeps=7))
    again = eval(repr(layer), {"FactorizedConv": FactorizedConv, "CP": cls})
    assert again.weight.choice.plugin == layer.weight.choice.plugin


def test_the_parameters_are_named_weight_factors_and_bias(pair):
    layer = make("2-d", pair)
    count = len(layer.weight.factors)
    assert list(layer.state_dict()) == ["bias", *(f"weight.factors.{i}" for i in range(count))]
    assert all(isinstance(parameter, nn.Parameter) for parameter in layer.parameters())
