"""What comes out is measured against what went in, and layers that are slower are dense again."""

import sys
import time

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, compress, load, save
from tenfold.compression import account, engine
from tenfold.compression.candidates.candidate import Candidate
from tenfold.compression.candidates.speed import Speed, read_speeds, write_speeds
from tenfold.compression.candidates.table import LayerTable, Table
from tenfold.compression.choice.plan import Plan
from tenfold.compression.choice.speed import Quick, Watch, fast, quick, slower, told
from tenfold.compression.measurement import in_place
from tenfold.compression.measurement.in_place import better, time_in_place
from tenfold.compression.request import CompressionConfig
from tenfold.compression.running import evaluating
from tenfold.compression.survey.layers import survey


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3)]
    return nn.Sequential(*layers).eval()


X = torch.randn(8, 4, 10, 10, generator=torch.Generator().manual_seed(0))
OPTIONS = {"example_inputs": X, "progress": False, "factorizations": "spatial_svd"}


def plan(layers=3):
    """Layers alike: dense, and two smaller candidates."""
    rows = [
        Candidate(parameters=100, macs=100),
        Candidate(factorization="tucker", rank=4, parameters=60, macs=60, error=0.1, weighted=0.1),
        Candidate(factorization="tucker", rank=2, parameters=20, macs=20, error=0.4, weighted=0.4),
        Candidate(factorization="cp", rank=2, parameters=25, macs=25, error=0.6, weighted=0.6),
    ]
    names = [str(index) for index in range(layers)]
    table = Table("x", layers={name: LayerTable(name, list(rows), {}) for name in names})
    found = survey(nn.Sequential(*(nn.Conv1d(2, 2, 1) for _ in names)), torch.randn(1, 2, 3))
    return Plan(found, table, CompressionConfig(budget=0.5), 0.0)


def timing(slow, anew=None):
    """A clock for which candidates of some layers and formats are slower than dense.

    Once more it finds those of `anew` to be so.
    """
    return Watch(clock_of(slow), clock_of(slow if anew is None else anew))


def clock_of(slow):

    def timed(choices):
        layers = {
            name: ((1.0, 1.0), (2.0, 2.0) if (name, one.factorization) in slow else (0.5, 0.5))
            if one.factorization
            else ((1.0, 1.0), (1.0, 1.0))
            for name, one in choices.items()
        }
        after = sum(least for _, (least, _) in layers.values())
        return Speed(before=float(len(layers)), after=after, layers=layers)

    return timed


def test_a_layer_that_is_slower_is_dense_again_and_others_pay_for_it():
    found = plan()
    first = found.choose(0.5)
    assert all(one.factorization for one in first.values())
    got = quick(found, first, 0.5, timing({("1", "tucker"), ("1", "cp")}))
    assert got.choices["1"].factorization is None
    assert found.spent(got.choices) <= 0.5 * found.full
    assert got.slow is None


def test_a_layer_that_is_slower_in_one_format_gets_another():
    found = plan(1)
    got = quick(found, found.choose(0.5), 0.5, timing({("0", "tucker")}))
    assert got.choices["0"].factorization == "cp"
    assert got.slow is None


def test_what_the_budget_cannot_do_without_is_said_with_a_budget_that_can():
    found = plan()
    slow = {(name, kind) for name in "01" for kind in ("tucker", "cp")}
    got = quick(found, found.choose(0.3), 0.3, timing(slow))
    assert found.spent(got.choices) <= 0.3 * found.full
    assert got.slow
    assert got.budget == pytest.approx((100 + 100 + 20) / 300)


def test_a_layer_that_was_slower_once_stays():
    found = plan()
    first = found.choose(0.5)
    got = quick(found, first, 0.5, timing({("1", "tucker")}, {("2", "tucker")}))
    assert got == Quick(first)


def test_what_was_fast_by_luck_among_several_is_told_as_it_is_once_more():
    found, tucker = plan(1), {("0", "tucker")}
    first = found.choose(0.5)
    lucky = quick(found, first, 0.5, timing(tucker, tucker | {("0", "cp")}))
    assert lucky.choices["0"].factorization == "cp"  # chosen by the first time
    assert lucky.slow == ("0",)
    alone = quick(found, first, 0.5, timing(set(), tucker))
    assert alone.slow is None  # nothing was chosen by its time


def test_a_latency_is_kept_twice():
    found, calls = plan(), []

    def timed(choices):
        calls.append(choices)
        return Speed(before=1.0, after=0.4, layers={})

    def anew(choices):
        calls.append(choices)
        after = 0.7 if found.spent(choices) > 0.4 * found.full else 0.45
        return Speed(before=1.0, after=after, layers={})

    watch = Watch(timed, anew)
    kept = fast(found, found.choose(0.5), 0.5, watch)
    assert found.spent(kept) <= 0.4 * found.full
    assert watch.chosen(kept).after == 0.45
    assert calls.count(kept) > 1


def test_what_is_slower_by_little_or_costs_little_is_no_reason():
    choices = {name: Candidate(factorization="cp", parameters=1, macs=1) for name in "abc"}
    layers = {"a": ((1, 1), (1.04, 1.1)), "b": ((0.1, 0.1), (0.2, 0.3)), "c": ((1, 1), (1.5, 1.6))}
    assert slower(choices, Speed(before=99, after=100, layers=layers)) == ["c"]


def in_turn(original, compressed, layers, example):
    return time_in_place(better(original, layers, example), compressed, layers, example)


def test_layers_are_timed_in_their_places_all_calls_together():
    model = net()
    speed = in_turn(model, model, survey(model, X), X)
    assert set(speed.layers) == {"0", "2", "4"}
    for (least, usual), other in speed.layers.values():
        assert 0 < least < speed.before
        assert 0 < other[0] < speed.after
        assert least <= usual
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_what_else_the_machine_does_does_not_count(monkeypatch):
    one, other, x = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4)), torch.ones(2, 4)
    busy, rounds = iter([0, 0, 1, 0, 2] + [9, 8, 0, 7, 9, 9] * 50), []

    def run(model, *_):
        rounds.append(model)
        return {"": (0.001 if model is one else 0.002) + 0.001 * next(busy)}

    monkeypatch.setattr(in_place, "_run", run)
    speed = in_turn(one, other, [], x)
    assert (speed.before, speed.after) == pytest.approx((1.0, 2.0))
    assert len(rounds) > 2 * in_place.ROUNDS[1]  # more than where nothing disturbs it
    busy = iter([0] * 1000)
    rounds.clear()
    in_turn(one, other, [], x)
    assert len(rounds) == 2 * in_place.ROUNDS[1]


class Waits(nn.Module):
    def forward(self, x):
        time.sleep(0.01)
        return x


@pytest.mark.parametrize("threads", [1, 2])
def test_while_others_have_the_processor_one_thread_s_time_does_not_go_on(threads):
    model, before = nn.Sequential(nn.Linear(4, 4), Waits()), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = in_turn(model, model, [], torch.ones(2, 4)).before
    finally:
        torch.set_num_threads(before)
    assert (found > 9) == (threads > 1 or sys.platform == "win32")


def test_networks_are_timed_as_they_run_and_stay_as_they_are():
    model = nn.Sequential(nn.Conv2d(4, 16, 3), nn.BatchNorm2d(16)).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = nn.Sequential(nn.Conv2d(4, 16, 3), nn.BatchNorm2d(16)).train()
    statistics = other[1].running_mean.clone()
    in_turn(model, other, survey(model, X), X)
    assert [one.training for one in (model, *model, other, *other)] == [True, True, False] + [
        True
    ] * 3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(other[1].running_mean, statistics)


def test_a_network_that_takes_no_other_format_is_timed_in_its_own():
    class Viewing(nn.Sequential):
        def forward(self, x):
            return super().forward(x).view(-1)

    model = Viewing(*net()).eval()
    assert in_turn(model, model, survey(model, X), X).before > 0


def test_speeds_are_read_as_they_were_written_and_damage_is_named(tmp_path):
    speeds = {"a": Speed(before=1.0, after=2.0, layers={"x": ((1.0, 1.5), (2.0, 2.5))})}
    path = tmp_path / "speeds.json"
    assert read_speeds(path) == {}
    write_speeds(path, speeds)
    assert read_speeds(path) == speeds
    path.write_text("{")
    with pytest.raises(ValueError, match=r"speeds.json is damaged: delete it"):
        read_speeds(path)


def as_slow(names):
    """A clock for which some layers are slower where they are factorized."""

    def time(original, compressed, layers, *_):
        found = {}
        for layer in layers:
            changed = isinstance(compressed.get_submodule(layer.name), FactorizedConv)
            taken = (3.0 if layer.name in names else 0.5) if changed else 1.0
            found[layer.name] = ((1.0, 1.0), (taken, taken))
        return Speed(before=3.0, after=sum(a for _, (a, _) in found.values()), layers=found)

    return time


def test_the_same_table_gives_the_same_network_without_timing_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(account, "time_in_place", as_slow({"2"}))
    first = compress(net(), budget=0.85, table=tmp_path, **OPTIONS)
    changed = {row.name for row in first.report.layers if row.factorization}
    assert changed
    assert "2" not in changed
    assert first.report.slower is None
    assert capsys.readouterr().err == ""

    def never(*_):
        raise AssertionError("it was timed already")

    monkeypatch.setattr(account, "time_in_place", never)
    again = compress(net(), budget=0.85, table=tmp_path, **OPTIONS)
    assert again.report.layers == first.report.layers
    assert again.report.milliseconds == first.report.milliseconds


def test_the_report_has_the_time_of_what_was_chosen_once_more(tmp_path, monkeypatch):
    networks, slow = [], as_slow({"2"})

    def time(original, compressed, *rest):
        networks.append(repr(compressed))
        found = slow(original, compressed, *rest)
        return found.model_copy(update={"before": 10.0 + len(networks)})

    monkeypatch.setattr(account, "time_in_place", time)
    monkeypatch.setattr(engine, "LITTLE", float("inf"))
    options = {**OPTIONS, "budget": 0.85, "table": tmp_path}
    first = compress(net(), **options).report
    *tried, chosen = networks
    assert 1 < len(set(tried)) < len(tried)  # of those with a slow layer, that was made sure of
    assert tried[-1] == chosen
    assert first.milliseconds.before == 10.0 + len(networks)
    again = compress(net(), **options).report
    assert again.milliseconds == first.milliseconds
    assert again.layers == first.layers
    assert networks == [*tried, chosen]


def test_a_slow_network_that_was_asked_for_is_said_to_be_slow(monkeypatch, capsys):
    monkeypatch.setattr(account, "time_in_place", as_slow({"0", "2", "4"}))
    found = compress(net(), budget=0.4, **OPTIONS).report
    assert found.slower is not None
    assert found.slower.budget is None
    said = capsys.readouterr().err
    assert "more than dense there" in said
    assert "threads, each in its better memory format: layers" in said
    assert all(repr(name) in said for name in found.slower.layers)
    silent = compress(net(), budget=0.4, never_slower=False, **OPTIONS).report
    assert silent.slower is None
    assert capsys.readouterr().err == ""


def test_a_slow_layer_that_stays_in_a_fast_network_is_told_of(monkeypatch, capsys):
    slow = as_slow({"2"})
    monkeypatch.setattr(
        account, "time_in_place", lambda *given: slow(*given).model_copy(update={"before": 9.0})
    )
    monkeypatch.setattr(engine, "LITTLE", 0.0)  # nothing is given for speed
    monkeypatch.setattr(engine, "TELLS", 0.0)
    made = compress(net(), budget=0.85, **OPTIONS)
    rows = {row.name: row for row in made.report.layers if row.factorization}
    assert made.report.slower is None
    assert made.report.lagging == ("2",)
    assert "Slower than dense in their place: 2." in str(made)
    assert (rows["2"].milliseconds.before, rows["2"].milliseconds.after) == (1.0, 3.0)
    assert "0.33×" in str(made)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(engine, "LITTLE", float("inf"))
    assert compress(net(), budget=0.85, **OPTIONS).report.lagging == ()


def test_layers_in_eval_mode_keep_what_they_prepared_from_run_to_run():
    layer = FactorizedConv(8, 8, 3, rank=0.5, order=2)
    model, x = nn.Sequential(layer).eval(), torch.randn(1, 8, 5, 5)
    with evaluating(model):
        model(x)
    with evaluating(model):
        given = (*layer.weight.factors, layer.bias)
        kept = layer.eval_cache.ready(layer.plan, given, x, layer.channels_last, False)
        assert kept is not None
        torch.testing.assert_close(kept(x), layer(x))


@pytest.mark.parametrize(
    ("after", "name", "other"), [(2.0, "WORTH", "LITTLE"), (0.5, "LITTLE", "WORTH")]
)
def test_a_quicker_network_is_not_taken_where_it_costs_the_accuracy(
    monkeypatch, after, name, other
):
    def least(plan, choices, budget, timed):
        return Quick(plan.choose(plan.least))

    usual = compress(net(), budget=0.7, never_slower=False, **OPTIONS)
    monkeypatch.setattr(engine, "quick", least)
    monkeypatch.setattr(engine, "told", lambda plan, choices, timed: Quick(choices))
    speed = Speed(before=1.0, after=after, layers={})
    monkeypatch.setattr(account, "time_in_place", lambda *_: speed)
    monkeypatch.setattr(engine, other, float("inf"))
    monkeypatch.setattr(engine, name, 1.2)
    kept = compress(net(), budget=0.7, **OPTIONS)
    assert kept.report.error == pytest.approx(usual.report.error, rel=1e-5)
    monkeypatch.setattr(engine, "TELLS", 0.0)  # as where all are as bad before the correction
    kept = compress(net(), budget=0.7, **OPTIONS)
    assert kept.report.error == pytest.approx(usual.report.error, rel=1e-5)
    monkeypatch.setattr(engine, name, float("inf"))
    taken = compress(net(), budget=0.7, **OPTIONS)
    assert taken.report.error > 1.2 * usual.report.error
    assert taken.report.macs.after < kept.report.macs.after


def test_choices_that_stay_are_told_to_be_slow():
    found = plan(1)
    choices = found.choose(0.5)
    assert told(found, choices, timing({("0", "tucker")})).slow == ("0",)
    assert told(found, choices, timing(set())).slow is None


def maps(order, seed=0, flat=True):
    torch.manual_seed(seed)
    conv = (nn.Conv2d, nn.Conv3d)[order - 2]
    layers = [conv(4, 16, 3), nn.ReLU(), conv(16, 16, 3), nn.ReLU()]
    end = [nn.Flatten(), nn.Linear(16 * 3**order, 5)] if flat else []
    return nn.Sequential(*layers, *end).eval()


def clock(last):
    def timed(*_):
        return Speed(before=2.0, after=1.0, layers={}, last=last)

    return timed


def formats(model):
    last = {4: torch.channels_last, 5: torch.channels_last_3d}
    large = [one for one in model.parameters() if one.dim() > 3 and max(one.shape[2:]) > 1]
    return {one.is_contiguous(memory_format=last[one.dim()]) for one in large}


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("order", [2, 3])
def test_a_network_has_its_channels_last_where_it_was_faster_so(monkeypatch, last, order, tmp_path):
    monkeypatch.setattr(account, "time_in_place", clock(last))
    model, x = maps(order), X[:, :, :7, :7]
    x = x if order == 2 else x[:, :, None].expand(8, 4, 7, 7, 7)
    made = compress(model, budget=0.7, **{**OPTIONS, "example_inputs": x, "exclude": "0"})
    assert made.report.channels_last == last
    assert ("channels last" in str(made.report)) == last
    assert formats(made.model) == {last}
    assert formats(model) == {False}
    before = made.model(x)
    save(made, tmp_path / "made")
    again = load(tmp_path / "made", maps(order, 1)).eval()
    assert formats(again) == {last}
    torch.testing.assert_close(again(x), before)
    made.model.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(made.model(x), before)


def test_a_network_whose_outputs_would_be_laid_out_otherwise_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(account, "time_in_place", clock(True))
    made = compress(maps(2, flat=False), budget=0.5, **OPTIONS)
    assert not made.report.channels_last
    assert formats(made.model) == {False}
    assert made.model(X).is_contiguous()


@pytest.mark.parametrize("flat", [True, False])
def test_a_network_is_timed_with_its_channels_last_only_where_it_is_given_them(monkeypatch, flat):
    model, seen = maps(2, flat=flat), []
    x, run = X[:, :, :7, :7].contiguous(), in_place._run

    def leasts(sides):
        return [1.0 if formats(model) == {True} else 2.0 for model, _ in sides]

    def look(model, batch, names):
        seen.append((formats(model), batch.is_contiguous(), model.training))
        return run(model, batch, names)

    monkeypatch.setattr(in_place, "_leasts", leasts)
    monkeypatch.setattr(in_place, "_run", look)
    speed = in_turn(model.train(), model, survey(model, x), x)
    assert model.training
    assert speed.last == flat == in_place.lay_last(model, x, torch.channels_last)
    assert all(one == ({flat}, not flat, False) for one in seen)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.01, 6), (0.1, 3), (9.0, 2)])
def test_a_format_is_chosen_by_runs_in_turn_of_which_the_first_does_not_count(
    monkeypatch, seconds, rounds
):
    runs, x = [], X[:, :, :7, :7]

    def run(model, *_):
        last = formats(model) == {True}
        cold = 0.05 * (len(runs) == 1)  # what the first of the better format has to make
        runs.append(last)
        return {"": seconds * (1.0 if last else 1.1) + cold}

    monkeypatch.setattr(in_place, "_run", run)
    model, given = better(maps(2), survey(maps(2), x), x)
    assert formats(model) == {True}
    assert given.is_contiguous(memory_format=torch.channels_last)
    assert runs == [False, True] * rounds


def test_the_original_s_format_is_found_once_for_all_that_are_timed(monkeypatch):
    found = []

    def look(model, layers, example):
        found.append(repr(model))
        return better(model, layers, example)

    def time(original, compressed, layers, example):
        assert repr(original[0]) == repr(net())
        return as_slow({"2"})(original, compressed, layers)

    monkeypatch.setattr(account, "better", look)
    monkeypatch.setattr(account, "time_in_place", time)
    compress(net(), budget=0.85, **OPTIONS)
    assert found == [repr(net())]


class Strided(nn.Module):
    """It reads memory as it lies: in the order of axes, or not at all."""

    def __init__(self, view):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.next = nn.Conv2d(4, 16, 3), nn.Conv2d(16, 16, 3)
        self.view = view

    def forward(self, x):
        x = self.next(self.first(x).relu())
        x = x.view(len(x), -1) if self.view else x.as_strided((len(x), 16), (x.stride(0), 1))
        return x.square()


@pytest.mark.parametrize("view", [True, False])
def test_a_network_that_reads_memory_as_it_lies_is_left_as_it_is(monkeypatch, view):
    monkeypatch.setattr(account, "time_in_place", clock(True))
    model = Strided(view).eval()
    made = compress(model, budget=0.6, **OPTIONS)
    assert not made.report.channels_last
    assert formats(made.model) == {False}
