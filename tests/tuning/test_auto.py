"""The implementation `auto`: what it may choose, when it measures, and how a choice travels."""

import copy
import json
import pickle
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import tenfold
from tenfold import Decision, FactorizedConv, Fixed, factorizations
from tenfold.testing import requests
from tenfold.tuning import tuner
from tenfold.tuning.timing import Timing

WAY = {"partition": [[1], [2, 3], [0]], "memory_format": "channels_last"}
SHAPE = {"kernel_size": 3, "order": 2, "padding": 1, "rank": 4, "factorization": "cp"}


def make(**more):
    torch.manual_seed(0)
    return FactorizedConv(**{"in_channels": 8, "out_channels": 8, **SHAPE, **more}).eval()


@pytest.fixture
def layer():
    return make(implementation="auto")


@pytest.fixture
def x():
    return torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def _measuring_fails(monkeypatch):
    def measure(*arguments):
        raise AssertionError("nothing may be measured here")

    monkeypatch.setattr(tuner, "_measure", measure)


@pytest.fixture
def pretend(monkeypatch):
    """Let a way of running seem to take the given milliseconds, and every other one 10."""

    def pretend(taken):
        def runs(layer, x, ways, together):
            return ways

        def in_turn(ways, device, **_):
            keys = [(way.partition, way.memory_format) for way in ways]
            return [Timing(taken.get(key, 10.0), 0.0) for key in keys]

        monkeypatch.setattr(tuner, "_runs", runs)
        monkeypatch.setattr(tuner, "in_turn", in_turn)

    return pretend


@torch.no_grad()
def run(layer, x):
    return layer(x)


class TestCandidates:
    @pytest.mark.parametrize("name", factorizations.names())
    @settings(max_examples=15, deadline=None)
    @given(data=st.data())
    def test_each_in_each_memory_format_is_the_dense_convolution(self, name, data):
        request = data.draw(requests())
        made = partial(request.layer, factorization=name, dtype=torch.float64)
        layer, x = made(implementation="auto"), request.input()
        dense = request.dense(x, layer.weight.to_tensor(), layer.bias)
        formats = [None, "contiguous", "channels_last"] if layer.order in (2, 3) else [None]
        for partition in layer.candidates:
            for memory_format in formats:
                packed = data.draw(st.booleans())
                one = made(implementation=Fixed(partition, memory_format, packed))
                torch.testing.assert_close(one(x), dense, rtol=1e-11, atol=1e-12)
                torch.testing.assert_close(run(one.eval(), x), dense, rtol=1e-11, atol=1e-12)

    @pytest.mark.parametrize("name", factorizations.names())
    @pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
    def test_they_begin_with_dense_have_the_default_and_are_few(self, name, order):
        layer = make(order=order, factorization=name, implementation="auto", rank=0.5)
        default = make(order=order, factorization=name, rank=0.5)
        assert len(layer.candidates[0]) == 1
        assert default.plan.partition in layer.candidates
        assert layer.plan == default.plan
        assert len(set(layer.candidates)) == len(layer.candidates) <= 7

    def test_those_of_cp_have_a_mobilenet_block(self, layer):
        assert make(implementation="mobilenet").plan.partition in layer.candidates

    @pytest.mark.parametrize("name", factorizations.names())
    def test_none_but_the_default_costs_more_than_dense(self, name):
        layer = make(in_channels=16, factorization=name, implementation="auto", rank=0.9)
        dense, *others = (
            make(in_channels=16, factorization=name, rank=0.9, implementation=Fixed(partition))
            for partition in layer.candidates
        )
        others = [one for one in others if one.plan.partition != layer.plan.partition]
        assert all(one.macs((9, 9)) <= dense.macs((9, 9)) for one in others)

    def test_other_implementations_have_none(self):
        assert make().candidates == ()
        assert make(implementation="mobilenet").candidates == ()


class TestMeasuring:
    def test_the_first_input_in_eval_mode_decides(self, layer, x):
        y = run(layer, x)
        assert layer.decision.partition == layer.plan.partition
        assert layer.decision.memory_format == layer.plan.memory_format
        ways = {(one.partition, one.memory_format) for one in layer.decision.measured}
        assert ways == {(p, f) for p in layer.candidates for f in (None, "channels_last")}
        plain = [one for one in layer.decision.measured if not one.packed]
        assert {one.partition for one in plain} == {((0, 1, 2, 3),)}
        torch.testing.assert_close(y, run(layer.to_conv(), x))
        before = layer.decision
        run(layer, x[:1])
        assert layer.decision is before

    @pytest.mark.parametrize("together", [False, True])
    @pytest.mark.parametrize("memory_format", [None, "contiguous", "channels_last"])
    def test_the_output_has_the_memory_format_of_the_input(self, x, together, memory_format):
        layer = make(implementation=Fixed(((1,), (2, 3), (0,)), memory_format))
        x = x.contiguous(memory_format=torch.channels_last) if together else x
        y = run(layer, x)
        kept = torch.channels_last if together else torch.contiguous_format
        assert y.is_contiguous(memory_format=kept)
        torch.testing.assert_close(y, run(layer.to_conv(), x))

    def test_the_fastest_is_taken(self, layer, x, pretend):
        fastest = (((1,), (2, 3), (0,)), "channels_last")
        pretend({fastest: 5.0})
        run(layer, x)
        assert (layer.plan.partition, layer.plan.memory_format) == fastest
        torch.testing.assert_close(run(layer, x), run(layer.to_conv(), x))

    def test_in_doubt_dense_is_taken(self, layer, x, pretend):
        pretend({(((1,), (2, 3), (0,)), None): 9.9})
        run(layer, x)
        assert layer.plan.partition == ((0, 1, 2, 3),)

    @pytest.mark.parametrize(("again", "stages"), [(9.0, 3), (9.9, 1), (11.0, 1)])
    def test_a_small_gain_must_show_twice(self, layer, x, pretend, monkeypatch, again, stages):
        pretend({(((1,), (2, 3), (0,)), None): 9.0})
        once = tuner.in_turn

        def in_turn(ways, device, **_):
            return once(ways, device) if len(ways) > 2 else [Timing(10, 0.0), Timing(again, 0.0)]

        monkeypatch.setattr(tuner, "in_turn", in_turn)
        run(layer, x)
        assert len(layer.plan.partition) == stages

    @pytest.mark.parametrize(("alone", "stages"), [(10.1, 1), (9.9, 3)])
    def test_what_is_no_faster_without_other_layers_is_not_taken(
        self, layer, x, pretend, monkeypatch, alone, stages
    ):
        pretend({(((1,), (2, 3), (0,)), None): 5.0})
        once, between = tuner.in_turn, []

        def in_turn(ways, device, **how):
            between.append(how.get("between"))
            return once(ways, device) if len(ways) > 2 else [Timing(10, 0.0), Timing(alone, 0.0)]

        monkeypatch.setattr(tuner, "in_turn", in_turn)
        run(layer, x)
        assert len(layer.plan.partition) == stages
        assert [one is None for one in between] == [False, True]

    def test_what_is_known_is_not_measured(self, layer, x, request):
        run(layer, x)
        request.getfixturevalue("_measuring_fails")
        other = make(implementation="auto")
        run(other, x)
        assert other.decision == layer.decision

    def test_another_dtype_is_measured_for_itself(self, layer, x):
        run(layer, x)
        run(layer.double(), x.double())
        assert layer.decision.situation.dtype == "float64"

    def test_autocast_is_measured_for_itself(self, layer, x):
        with torch.autocast("cpu", torch.bfloat16):
            run(layer, x)
        assert layer.decision.situation.dtype == "bfloat16"

    def test_another_memory_format_is_measured_for_itself(self, layer, x):
        run(layer, x)
        run(layer, x.contiguous(memory_format=torch.channels_last))
        assert layer.decision.situation.channels_last

    def test_what_could_not_be_measured_yet_is_measured_on_a_later_call(self, layer, x):
        layer.eval()
        with tuner._measuring:  # as by another thread
            for _ in range(2):
                run(layer, x)
            assert layer.decision is None
        run(layer, x)
        assert layer.decision is not None

    def test_it_leaves_the_kernel_and_the_modes_as_they_are(self, layer, x):
        layer.weight.train()
        state = {name: value.clone() for name, value in layer.state_dict().items()}
        run(layer, x)
        assert layer.weight.training
        assert all(value.requires_grad for value in layer.parameters())
        assert list(layer.state_dict()) == list(state)
        for name, value in layer.state_dict().items():
            assert torch.equal(value, state[name])

    def test_an_input_that_fits_nothing_is_refused_before_measuring(self, layer):
        with pytest.raises(ValueError, match="must have"):
            run(layer, torch.randn(2, 7, 9, 9))
        assert layer.decision is None

    @pytest.mark.parametrize("name", ["cp", "tucker", "tt"])
    def test_a_transposed_one_with_an_output_size_runs_as_decided(self, name):
        layer = make(implementation="auto", factorization=name, transposed=True, stride=2)
        x = torch.randn(2, 8, 5, 5)
        y = layer.eval()(x, output_size=(10, 10))
        run(layer, x)
        fixed = next(one for one in layer.candidates if one != layer.plan.partition)
        layer.fix_plan({"partition": fixed, "memory_format": "channels_last"})
        torch.testing.assert_close(layer(x, output_size=(10, 10)), y)


@pytest.mark.usefixtures("_measuring_fails")
class TestNoMeasuring:
    @pytest.fixture(autouse=True)
    def _undecided(self, layer):
        yield
        assert layer.decision is None
        assert layer.plan.partition == make().plan.partition

    def test_in_train_mode(self, layer, x):
        run(layer.train(), x)

    def test_with_gradients(self, layer, x):
        layer(x).sum().backward()

    def test_under_compile(self, layer, x):
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        torch.testing.assert_close(run(compiled, x), run(layer.to_conv(), x))

    @pytest.mark.parametrize("strict", [False, True])
    def test_under_export(self, layer, x, strict):
        with torch.no_grad():
            exported = torch.export.export(layer, (x,), strict=strict)
        torch.testing.assert_close(run(exported.module(), x), run(layer.to_conv(), x))

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_under_trace(self, layer, x):
        with torch.no_grad():
            traced = torch.jit.trace(layer, (x,), check_trace=False)
        torch.testing.assert_close(run(traced, x), run(layer.to_conv(), x))

    def test_under_vmap(self, layer, x):
        y = run(lambda many: torch.vmap(layer)(many), torch.stack([x, x]))
        torch.testing.assert_close(y[1], run(layer.to_conv(), x))

    def test_under_functional_call_with_grad(self, layer, x):
        parameters = dict(layer.named_parameters())
        with torch.no_grad():
            torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,)).sum())(parameters)

    def test_of_meta_tensors(self, layer, x):
        assert run(copy.deepcopy(layer).to("meta"), x.to("meta")).is_meta

    def test_of_fake_tensors(self, layer, x):
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            run(layer, mode.from_tensor(x))

    def test_while_operations_are_counted(self, layer, x):
        with FlopCounterMode(display=False) as counter:
            run(layer, x)
        assert counter.get_total_flops() == 2 * len(x) * layer.macs((9, 9))

    def test_of_an_empty_batch(self, layer, x):
        assert run(layer, x[:0]).shape == (0, 8, 9, 9)


class TestFixing:
    @pytest.mark.usefixtures("_measuring_fails")
    def test_a_fixed_plan_runs_and_nothing_is_measured(self, layer, x):
        layer.fix_plan(WAY)
        assert layer.plan.partition == ((1,), (2, 3), (0,))
        assert layer.plan.memory_format == "channels_last"
        torch.testing.assert_close(run(layer, x), run(layer.to_conv(), x))
        assert layer.implementation == "auto"

    def test_a_decision_survives_json(self, layer, x):
        run(layer, x)
        data = json.loads(json.dumps(layer.decision.model_dump(mode="json")))
        other = make(implementation="auto")
        other.fix_plan(data)
        assert other.decision == layer.decision
        assert other.plan == layer.plan

    @pytest.mark.parametrize("fixed", [False, True])
    def test_a_decision_survives_copies_and_pickles(self, layer, x, fixed, monkeypatch):
        if fixed:
            layer.fix_plan(WAY)
        run(layer, x)
        travelled = (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)))
        monkeypatch.setattr(tuner, "_measure", None)  # nothing is measured any more
        for other in travelled:
            assert (other.decision, other.plan) == (layer.decision, layer.plan)
            assert repr(other) == repr(layer)
            assert torch.equal(run(other, x), run(layer, x))

    @pytest.mark.usefixtures("_measuring_fails")
    def test_repr_makes_a_layer_that_runs_so(self, layer, x):
        assert "implementation='auto'" in repr(layer)
        layer.fix_plan(WAY)
        remade = eval(repr(layer), vars(tenfold))
        remade.load_state_dict(layer.state_dict())
        assert repr(remade) == repr(layer)
        assert remade.plan == replace(layer.plan, apart=None)  # in eval; named, it is exact
        assert torch.equal(run(remade.eval(), x), run(layer, x))

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({}, "decision: give a partition"),
            ({"partition": [[1], [2, 3]]}, "must hold each of the 4 factors once"),
            ({"partition": [[1], [2, 3], [0]], "memory_format": "blocked"}, "memory_format"),
            ({"partition": "banana"}, "partition"),
            ({"partition": [[1, 2, 3, 0]], "speed": 1}, "speed"),
        ],
    )
    def test_what_cannot_run_is_refused_and_changes_nothing(self, layer, data, words):
        plan = layer.plan
        with pytest.raises(ValueError, match=words):
            layer.fix_plan(data)
        assert layer.decision is None
        assert layer.plan is plan
        assert layer.measures

    def test_a_memory_format_is_for_images_and_volumes(self):
        with pytest.raises(ValueError, match="for orders 2 and 3, not 1"):
            make(order=1, implementation=Fixed(((0, 1, 2),), "channels_last"))

    def test_a_decision_is_shown_in_words(self, layer, x):
        run(layer, x)
        lines = str(layer.decision).splitlines()
        assert lines[0].startswith("runs ")
        assert "(2, 8, 9, 9), float32" in lines[1]
        assert len(lines) == 2 + len(layer.decision.measured)
        assert any(line.endswith("ms  dense") for line in lines)

    def test_compile_and_export_run_what_was_decided(self, layer, x):
        layer.fix_plan({"partition": [[1], [2, 3], [0]]})
        exported = torch.export.export(layer, (x,))
        names = [str(node.target) for node in exported.graph.nodes]
        assert sum("conv" in name for name in names) == 3
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), layer(x))


class TestTune:
    def test_a_layer_is_decided_ahead(self, layer, x):
        decision = layer.train().tune(x)
        assert decision is layer.decision
        assert decision.situation.input_shape == (2, 8, 9, 9)
        assert layer.training

    def test_an_unbatched_input_is_a_batch_of_one(self, layer, x):
        assert layer.tune(x[0]).situation.input_shape == (1, 8, 9, 9)

    def test_of_order_0_leading_axes_are_the_batch(self):
        layer = make(order=0, kernel_size=(), padding=0, implementation="auto")
        assert layer.tune(torch.randn(2, 3, 8)).situation.input_shape == (6, 8)

    def test_again_measures_what_is_known(self, layer, x, pretend):
        layer.tune(x)
        fastest = (((1,), (2, 3), (0,)), None)
        pretend({fastest: 1.0})
        assert layer.tune(x).measured != layer.tune(x, again=True).measured
        assert layer.plan.partition == fastest[0]

    def test_it_ends_a_fixed_plan(self, layer, x):
        layer.fix_plan(WAY)
        layer.tune(x)
        assert layer.decision.measured

    def test_where_nothing_is_to_choose_it_is_refused(self, x):
        with pytest.raises(ValueError, match="use implementation='auto'"):
            make().tune(x)

    @pytest.mark.parametrize("bad", ["empty", "meta", "channels"])
    def test_a_bad_example_is_refused(self, layer, x, bad):
        inputs = {"empty": x[:0], "meta": x.to("meta"), "channels": x[:, :7]}
        with pytest.raises(ValueError, match="input on meta" if bad == "meta" else "shape"):
            layer.tune(inputs[bad])

    def test_the_layers_of_a_model_are_decided_for_what_they_see(self):
        model = nn.Sequential(
            make(implementation="auto"), nn.MaxPool2d(2), make(implementation="auto"), make()
        ).train()
        model[2].eval()
        decisions = tenfold.tune(model, torch.randn(3, 8, 10, 10))
        assert {name: one.situation.input_shape for name, one in decisions.items()} == {
            "0": (3, 8, 10, 10),
            "2": (3, 8, 5, 5),
        }
        assert all(isinstance(one, Decision) for one in decisions.values())
        assert model[0].decision is decisions["0"]
        assert [module.training for module in model] == [True, True, False, True]

    def test_a_fixed_layer_of_a_model_keeps_its_plan(self, layer, x):
        layer.fix_plan(WAY)
        other = make(implementation="auto")
        assert list(tenfold.tune(nn.Sequential(layer, other), (x,))) == ["1"]
        assert not layer.decision.measured

    def test_a_model_with_nothing_to_decide_is_refused(self, x):
        with pytest.raises(ValueError, match="implementation='auto'"):
            tenfold.tune(nn.Sequential(make()), x)

    def test_a_model_that_fails_is_left_as_it_was(self, layer):
        model = nn.Sequential(layer, nn.Linear(3, 3)).train()
        with pytest.raises(RuntimeError):
            tenfold.tune(model, torch.randn(1, 8, 9, 9))
        assert layer.measures
        assert model.training
        assert not layer._forward_pre_hooks
        assert layer.decision is None
