"""What a layer keeps between calls in eval: dropped by every change, and seen by nobody else."""

import copy
import gc
import io
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn.utils import vector_to_parameters

from tenfold import FactorizedConv, Implementation, relative_error
from tenfold.plugin import Plan
from tenfold.run.eval_cache import EvalCache
from tenfold.run.stage import Stage

RUNNERS = {"reconstructed", "factorized"}


def make(pair=None, **more):
    """A small layer in eval with factors below and above the number that is compared whole."""
    pair = pair or {"factorization": "tucker"}
    generator = torch.Generator().manual_seed(0)
    layer = FactorizedConv(16, 16, (3, 3), padding=1, rank=16, **pair, **more, generator=generator)
    return layer.eval()


def make_input(**more):
    return torch.randn(2, 16, 6, 5, generator=torch.Generator().manual_seed(1), **more)


def like(tensor):
    return torch.randn_like(tensor)


@pytest.fixture
def contracted(monkeypatch):
    """The stages whose weight was computed, in order."""
    seen = []
    weight = Stage.weight
    monkeypatch.setattr(Stage, "weight", lambda self, f: seen.append(self) or weight(self, f))
    return seen


def step(layer):
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    with torch.enable_grad():
        layer(make_input().to(layer.weight.dtype)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def load(layer):
    layer.load_state_dict({name: like(value) for name, value in layer.state_dict().items()})


def load_by_assignment(layer):
    state = {name: like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(state, assign=True)


def load_in_inference_mode(layer):
    with torch.inference_mode():
        load(layer)


def assign_data(layer):
    for parameter in layer.parameters():
        parameter.data = like(parameter)


def transpose_in_place(layer):
    first = layer.weight.factors[0]
    first.data = first.data.T  # square: the same memory, shape and version


def write_in_place(layer):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)


def write_in_inference_mode(layer):
    with torch.inference_mode():
        for parameter in layer.parameters():
            parameter.add_(0.5)


def write_one_number(layer):
    with torch.no_grad():
        layer.weight.factors[1][3, 2] += 1


def write_through_data(layer):
    for parameter in layer.parameters():
        parameter.data.mul_(-2)


def write_through_numpy(layer):
    layer.weight.factors[0].detach().numpy()[:] += 1


def write_through_shared_memory(layer):
    flat = torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])
    vector_to_parameters(flat, layer.parameters())
    layer(make_input().to(layer.weight.dtype))
    flat.mul_(0.5)


def replace_a_factor(layer):
    layer.weight.factors[1] = nn.Parameter(like(layer.weight.factors[1]))


def replace_the_kernel(layer):
    layer.weight = make(names_of(layer)).weight.to(layer.weight.dtype)
    write_in_place(layer)


def names_of(layer):
    return {"factorization": layer.factorization, "implementation": layer.implementation}


def change_the_bias(layer):
    with torch.no_grad():
        layer.bias.add_(1)


def replace_the_bias(layer):
    layer.bias = nn.Parameter(like(layer.bias))


def drop_the_bias(layer):
    layer.register_parameter("bias", None)
    layer(make_input().to(layer.weight.dtype))
    layer.register_parameter("bias", nn.Parameter(torch.ones(16, dtype=layer.weight.dtype)))


def to_float64_and_back(layer):
    layer.double()
    layer(make_input().double())
    write_in_place(layer)
    layer.float()


def to_channels_last(layer):
    layer.to(memory_format=torch.channels_last)
    write_in_place(layer)


def run_the_plan_of_another(layer):
    name = (RUNNERS - {layer.implementation}).pop()
    layer.plan = make({"factorization": layer.factorization, "implementation": name}).plan


def swap_tensors(layer):
    first = layer.weight.factors[0]
    torch.utils.swap_tensors(first, nn.Parameter(like(first)))


def reset(layer):
    layer.reset_parameters()


def train_and_return(layer):
    layer.train()
    step(layer)
    layer.eval()


ROUTES = [
    step,
    load,
    load_by_assignment,
    load_in_inference_mode,
    assign_data,
    transpose_in_place,
    write_in_place,
    write_in_inference_mode,
    write_one_number,
    write_through_data,
    write_through_numpy,
    write_through_shared_memory,
    replace_a_factor,
    replace_the_kernel,
    change_the_bias,
    replace_the_bias,
    drop_the_bias,
    to_float64_and_back,
    to_channels_last,
    run_the_plan_of_another,
    swap_tensors,
    reset,
    train_and_return,
]


def assert_fresh(layer, x):
    """The layer has the output that its plan computes anew; so it has on the way it remembers."""
    y = layer(x)
    wanted = layer.plan(x, tuple(layer.weight.factors), layer.bias)
    assert relative_error(wanted, y) < 1e-5
    assert torch.equal(y, layer(x))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(routes=st.lists(st.sampled_from(ROUTES), min_size=1, max_size=4), seed=st.integers(0, 99))
@torch.no_grad()
def test_after_any_changes_the_output_is_that_of_the_new_factors(pair, routes, seed):
    torch.manual_seed(seed)
    layer, x = make(pair), make_input()
    assert_fresh(layer, x)
    for change in routes:
        change(layer)
        assert_fresh(layer, x)


@pytest.mark.parametrize("change", ROUTES, ids=lambda change: change.__name__)
@torch.no_grad()
def test_each_change_changes_the_output(change):
    """So the test above would see a stale one."""
    if change in (run_the_plan_of_another,):
        return
    torch.manual_seed(5)
    layer, x = make(), make_input()
    before = layer(x)
    change(layer)
    assert relative_error(before, layer(x)) > 1e-4


def test_in_eval_without_gradients_each_weight_is_computed_once(pair, contracted):
    layer, x = make(pair), make_input()
    with torch.no_grad():
        layer(x), layer(x), layer(x.double().float()), layer(x[:1])
    assert len(contracted) == len(layer.plan.stages)
    layer.requires_grad_(False)
    layer(x)
    with torch.inference_mode():
        layer(make_input())
    assert len(contracted) == len(layer.plan.stages)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_no_weight_is_kept_in_training_nor_where_gradients_are_needed(contracted, training, grad):
    layer, x = make().train(training), make_input()
    with torch.set_grad_enabled(grad):
        for _ in range(3):
            layer(x)
    assert (layer.eval_cache._kept is None) == (training or grad)
    assert training or grad or len(contracted) == len(layer.plan.stages)


def test_a_frozen_layer_passes_gradients_to_its_input():
    layer, x = make().requires_grad_(False), make_input()
    layer(x)
    mine = x.clone().requires_grad_()
    theirs = x.clone().requires_grad_()
    layer(mine).square().sum().backward()
    layer.to_conv()(theirs).square().sum().backward()
    assert relative_error(theirs.grad, mine.grad) < 1e-5


def test_layers_made_in_inference_mode_keep_nothing_and_see_every_change(contracted):
    with torch.inference_mode():
        layer, x = make(), make_input()
        layer(x), layer(x)
        assert len(contracted) == 2 * len(layer.plan.stages)
        layer.weight.factors[0][2, 3] += 1
        assert_fresh(layer, x)
    with torch.no_grad():
        assert_fresh(layer, make_input())


@torch.no_grad()
def test_an_old_value_at_the_same_address_is_not_mistaken_for_the_new_one():
    layer, x = make(), make_input()
    for seed in range(20):
        torch.manual_seed(seed)
        for parameter in layer.parameters():
            parameter.data = torch.randn_like(parameter)
        assert_fresh(layer, x)


@pytest.mark.parametrize(
    "where",
    [
        slice(12, None),
        slice(-2, None),
        slice(9, 11),
        (..., 5),
        (..., slice(-2, None)),
    ],
    ids=str,
)
@pytest.mark.parametrize("width", [16, 64])
@torch.no_grad()
def test_writes_through_data_are_noticed_wherever_in_a_factor_they_are(width, where):
    options = {"order": 2, "padding": 1, "rank": 48, "factorization": "spatial_svd"}
    layer, x = FactorizedConv(width, width, 3, **options).eval(), torch.randn(2, width, 6, 5)
    for index, factor in enumerate(layer.weight.factors):
        assert_fresh(layer, x)
        before = layer(x)
        factor.data[where] = 7 + index
        assert relative_error(before, layer(x)) > 1e-4
        assert_fresh(layer, x)


@torch.no_grad()
def test_of_a_small_factor_every_number_counts():
    layer, x = make(), make_input()
    for factor in [one for one in layer.parameters() if one.numel() <= 1024]:
        for place in (0, factor.numel() // 2, factor.numel() - 1):
            layer(x)
            factor.data.view(-1)[place] += 3
            assert_fresh(layer, x)


@torch.no_grad()
def test_nothing_kept_is_in_a_state_dict_a_pickle_or_a_copy(pair):
    layer, x = make(pair), make_input()
    keys, pickled = list(layer.state_dict()), pickle.dumps(layer)
    layer(x)
    assert list(layer.state_dict()) == keys
    assert [name for name, _ in layer.named_buffers()] == []
    assert len(pickle.dumps(layer)) == len(pickled)
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    for other in (copy.deepcopy(layer), copy.copy(layer.eval_cache), pickle.loads(pickled)):
        kept = other if isinstance(other, EvalCache) else other.eval_cache
        assert kept is not layer.eval_cache
        assert kept._kept is None
    assert torch.load(saved, weights_only=False).eval_cache._kept is None


@torch.no_grad()
def test_training_mode_frees_what_was_kept():
    layer = make()
    layer(make_input())
    kept = weakref.ref(layer.eval_cache._kept.run)
    layer.train()
    gc.collect()
    assert kept() is None


@torch.no_grad()
def test_a_layer_that_has_run_is_mapped_and_called_with_other_parameters(pair):
    layers, x = [make(pair) for _ in range(3)], make_input()
    for seed, layer in enumerate(layers):
        torch.manual_seed(seed)
        reset(layer)
        layer(x)
    parameters, buffers = stack_module_state(layers)
    looped = torch.stack([layer(x) for layer in layers])

    def run(given):
        return functional_call(layers[0], (given, buffers), (x,))

    assert relative_error(looped, torch.vmap(run)(parameters)) < 1e-5
    other = dict(layers[1].named_parameters())
    assert relative_error(looped[1], functional_call(layers[0], other, (x,))) < 1e-5
    assert relative_error(looped[0], layers[0](x)) < 1e-5
    images = torch.stack([x, -x])
    assert (
        relative_error(torch.stack([layers[0](x), layers[0](-x)]), torch.vmap(layers[0])(images))
        < 1e-5
    )


@torch.no_grad()
def test_a_layer_that_has_run_has_forward_derivatives():
    layer, x = make().requires_grad_(False), make_input()
    layer(x)
    y, slope = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    assert relative_error(layer(x + 1) - layer(x), slope) < 1e-4
    assert relative_error(layer(x), y) < 1e-5
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        out = torch.autograd.forward_ad.unpack_dual(layer(dual))
        assert relative_error(slope, out.tangent) < 1e-5


@torch.no_grad()
def test_a_layer_that_has_run_is_compiled_exported_and_traced_without_what_it_kept(pair):
    torch.compiler.reset()
    layer, x = make(pair), make_input()
    y = layer(x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert relative_error(y, compiled(x)) < 1e-5
    program = torch.export.export(layer, (x,))
    assert set(program.state_dict) == set(layer.state_dict())
    assert "mkldnn" not in str(program.graph)
    traced = torch.jit.trace(layer, (x,))
    assert "mkldnn" not in str(traced.inlined_graph)
    write_in_place(layer)
    for program_or_trace in (compiled, traced):
        assert relative_error(layer(x), program_or_trace(x)) < 1e-5


def test_threads_that_prepare_at_once_get_the_results_of_one(pair):
    layer = make(pair)
    inputs = [make_input() * scale for scale in range(1, 9)]
    with torch.no_grad():
        alone = [layer(x) for x in inputs]
    for _ in range(5):
        layer.eval()

        def run(x):
            with torch.no_grad():
                return layer(x)

        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(run, inputs))
        assert all(relative_error(a, b) < 1e-6 for a, b in zip(alone, together, strict=True))


@torch.no_grad()
def test_a_parametrized_factor_is_computed_anew():
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    layer, x = make(), make_input()
    before = layer(x) - layer.bias.reshape(-1, 1, 1)
    nn.utils.parametrize.register_parametrization(layer.weight.factors, "0", Doubled())
    assert relative_error(2 * before, layer(x) - layer.bias.reshape(-1, 1, 1)) < 1e-5
    assert_fresh(layer, x)


class DensePlan(Plan):
    """Convolves with the whole kernel, and counts how often it was contracted."""

    def __init__(self, network, geometry):
        self.network, self.geometry, self.prepared = network, geometry, 0

    def __call__(self, x, factors, bias):
        kernel = self.network.to_tensor(factors)
        return nn.functional.conv2d(x, kernel, bias, padding=self.geometry.padding)

    def prepare(self, factors, bias):
        self.prepared += 1
        assert not any(factor.requires_grad for factor in factors)
        assert not torch.is_grad_enabled()
        kernel = self.network.to_tensor(factors)
        return lambda x: nn.functional.conv2d(x, kernel, bias, padding=self.geometry.padding)


class Dense(Implementation):
    def plan(self, network, geometry):
        return DensePlan(network, geometry)


def test_a_plan_of_one_s_own_is_prepared_once_while_nothing_changes():
    layer, x = make({"factorization": "cp", "implementation": Dense}), make_input()
    layer(x).sum().backward()
    assert layer.plan.prepared == 0
    with torch.no_grad():
        assert_fresh(layer, x)
        assert_fresh(layer, x[:1])
        assert layer.plan.prepared == 1
        write_in_place(layer)
        assert_fresh(layer, x)
    assert layer.plan.prepared == 2


def test_a_plain_callable_is_run_as_it_is():
    class Plain(Implementation):
        def plan(self, network, geometry):
            whole = DensePlan(network, geometry)
            return lambda x, factors, bias: whole(x, factors, bias)

    layer, x = make({"factorization": "cp", "implementation": Plain}), make_input()
    with torch.no_grad():
        layer(x)
        write_in_place(layer)
        assert_fresh(layer, x)
