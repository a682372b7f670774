"""A network refined towards what the original gives at the ends of its blocks."""

import copy

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, compress
from tenfold.compression import Report
from tenfold.compression.correction.finishing import Made
from tenfold.compression.measurement.task import Judge
from tenfold.compression.refinement import ends as room
from tenfold.compression.refinement import refining, training
from tenfold.compression.refinement.blocks import Block, blocks
from tenfold.compression.refinement.ends import Kept, ends, gaps, stored
from tenfold.compression.refinement.refining import refine
from tenfold.compression.refinement.steps import Steps
from tenfold.compression.refinement.training import trained
from tenfold.compression.request.config import CompressionConfig
from tenfold.compression.running.progress import Progress
from tenfold.compression.survey import subject as subject_room
from tenfold.compression.survey.subject import surveyed
from tenfold.model.replace import substitute

DRAWN = torch.Generator().manual_seed(0)
X = (torch.randn(24, 3, generator=DRAWN) @ torch.randn(3, 144, generator=DRAWN)).view(24, 4, 6, 6)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(subject_room, "STEPS", 6)


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 5))
    model(2 * X + 1)  # so that the statistics are not the usual ones
    return model.eval()


def prepared(model=None, rank=0.3, **fields):
    """A subject, a network of it whose second convolution is factorized, its judge, the request."""
    model = network() if model is None else model
    config = CompressionConfig(budget=0.5, progress=False, **fields)
    subject = surveyed(model, config, (X[:2], X.split(4), None), False)
    small = copy.deepcopy(subject.model)
    layer = FactorizedConv.from_conv(small[3], rank=rank, factorization="tucker")
    judge = Judge.of(subject.model, subject.held, None)
    made = Made({}, substitute(small, {"3": layer}).eval(), 0.0, None)
    return subject, Made({}, made.model, judge.change(made.model), None), judge, config


def refined_of(made, subject, judge, config):
    return refine(made, subject, judge, config, Progress(), Kept(subject, config.memory))


def refined(model=None, **fields):
    subject, made, judge, config = prepared(model, **fields)
    before = copy.deepcopy(made.model)
    return (
        before,
        made.error,
        *refined_of(made, subject, judge, config),
    )


def test_it_comes_nearer_on_held_out_inputs_and_says_so_of_each_block():
    _, error, made, gained = refined()
    assert made.error < 0.8 * error
    assert [one.layers for one in gained.blocks] == [("3",), ("6",)]
    assert gained.blocks[-1].before == pytest.approx(error, rel=1e-4)
    assert gained.blocks[-1].after == pytest.approx(made.error, rel=1e-4)
    assert all(one.after < one.before for one in gained.blocks)
    assert gained.share > 0


def test_nothing_but_what_a_correction_may_change_is_changed():
    model = network()
    model[6].requires_grad_(False)
    model[1].train()
    subject, rough, judge, config = prepared(model, exclude=["6"])
    before, drawn = copy.deepcopy(rough.model), torch.get_rng_state()
    made, _ = refined_of(rough, subject, judge, config)
    assert torch.equal(torch.get_rng_state(), drawn)
    state, old = made.model.state_dict(), before.state_dict()
    moved = {name for name in state if not torch.equal(state[name], old[name])}
    assert moved == {name for name, _ in before.named_parameters() if name.startswith("3.")}
    for one, other in zip(made.model.modules(), before.modules(), strict=True):
        assert one.training == other.training
    for one, other in zip(made.model.parameters(), before.parameters(), strict=True):
        assert one.requires_grad == other.requires_grad
        assert one.grad is None


def test_it_is_the_same_each_time():
    first, second = refined(seed=3)[2].model, refined(seed=3)[2].model
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_what_does_not_help_on_held_out_inputs_is_not_kept(monkeypatch):
    monkeypatch.setattr(refining, "RATE", (1e3, 1.0))
    monkeypatch.setattr(refining, "min", max, raising=False)
    monkeypatch.setattr(training, "RISEN", float("inf"))
    before, error, made, gained = refined()
    assert (made.error, gained.share) == (error, 0.0)
    assert torch.equal(before(X), made.model(X))


def counted(monkeypatch):
    """Each time that a refinement went through the batches: whether it should have paid by then."""
    epochs, done = training.Towards.epochs, []

    def counting(*arguments):
        for one in epochs(*arguments):
            done.append(one[0])
            yield one

    monkeypatch.setattr(training.Towards, "epochs", counting)
    return done


def test_where_losses_rise_at_any_rate_it_ends_where_it_began(monkeypatch):
    monkeypatch.setattr(refining, "RATE", (1e9, 1.0))
    monkeypatch.setattr(refining, "min", max, raising=False)
    done = counted(monkeypatch)
    judged = []
    at = refining._at
    monkeypatch.setattr(refining, "_at", lambda *given: judged.append(1) or at(*given))
    before, error, made, gained = refined()
    assert (made.error, gained.share, gained.blocks) == (error, 0.0, ())
    assert torch.equal(before(X), made.model(X))
    assert len(done) < 2
    assert not judged  # nothing was moved


def test_what_is_no_nearer_after_an_epoch_goes_no_further(monkeypatch):
    done = counted(monkeypatch)
    _, error, made, _ = refined()
    assert made.error < 0.8 * error
    assert done == [True, False, False, False, False, False]
    done.clear()
    monkeypatch.setattr(refining, "PAYS", 1.0)
    _, error, made, _ = refined()
    assert made.error < error  # what it gained is kept
    assert done == [True]


def test_where_losses_rise_it_goes_on_in_smaller_steps_from_where_they_had_not(monkeypatch):
    monkeypatch.setattr(refining, "RATE", (100.0, 1e4))
    monkeypatch.setattr(training, "SLOWER", 1e4)
    done = counted(monkeypatch)
    rates = []
    monkeypatch.setattr(training, "Steps", lambda *given: rates.append(given[1:]) or Steps(*given))
    _, error, made, gained = refined()
    (total, rate), (left, slower), *more = rates
    assert not more or len(more) == 1
    assert 0 < left < total
    assert 0 < slower <= rate / 1e4
    assert done.index(True) == 2  # smaller steps have two epochs to pay
    assert made.error < 0.9 * error
    assert gained.share > 0


def test_what_pays_is_asked_of_the_steps_as_they_are(monkeypatch):
    monkeypatch.setattr(refining, "RATE", (100.0, 1e4))
    monkeypatch.setattr(refining, "PAYS", 1.0)
    monkeypatch.setattr(training, "SLOWER", 1e4)
    done = counted(monkeypatch)
    refined()
    assert done == [False, False, True]


def test_where_losses_creep_up_it_goes_back_to_before_they_did():
    weight = torch.nn.Parameter(torch.zeros(1))
    way = training._Way([weight], 100, 1.0)
    places = []
    for place, loss in enumerate([0.9, 0.95, 1.05, 1.08, 1.2], 1):
        places.append(weight.item())  # where the look began
        way.losses.append((loss, 1.0))
        weight.data.fill_(place)
        assert way.goes_on()
    assert weight.item() == places[1]  # the last look at which they had not risen
    assert way.smaller


def test_what_pays_is_asked_of_the_mean_of_an_epoch():
    _, made, judge, _ = prepared()
    better = refined()[2]
    parameters = list(made.model.parameters())
    start = [one.detach().clone() for one in parameters]
    near = [one.detach().clone() for one in better.model.parameters()]
    far = [one + 1 for one in start]
    refining.place(parameters, far, far, 0.0)  # where large steps are
    assert refining.pays(made, parameters, (start, near), judge)
    assert all(map(torch.equal, parameters, far))
    assert not refining.pays(made, parameters, (start, far), judge)


def test_an_epoch_is_judged_by_its_mean_and_not_by_where_it_ends(monkeypatch):
    subject, made, judge, config = prepared()
    parameters = trained(made.model, subject, blocks(subject.every, ["3"]))
    start = [one.detach().clone() for one in parameters]
    steps, judged = [], []
    step, pays = training._Way.step, refining.pays

    def stepping(way, *given):
        step(way, *given)
        steps.append([one.detach().clone() for one in way.steps.parameters])

    def asked(made, parameters, ends, judge):
        judged.append((ends, len(steps)))
        return pays(made, parameters, ends, judge)

    monkeypatch.setattr(training._Way, "step", stepping)
    monkeypatch.setattr(refining, "pays", asked)
    refined_of(made, subject, judge, config)
    [((first, mean), count)] = judged
    assert count == len(subject.batches) - len(subject.held)
    torch.testing.assert_close(first, start)
    torch.testing.assert_close(mean, [sum(one) / count for one in zip(*steps[:count], strict=True)])


def test_the_mean_is_of_the_steps_since_it_was_begun():
    one = nn.Parameter(torch.ones(2, 3))
    way = training._Way([one], 100, 1.0)
    seen = []
    for turn in range(5):
        if turn == 2:
            way.begin()
        way.step((one * torch.arange(6.0).view(2, 3)).square().sum(), 1.0)
        seen.append(one.detach().clone())
    torch.testing.assert_close(way.mean(), [sum(seen[2:]) / 3])


def test_it_goes_back_to_where_what_followed_was_no_worse():
    one = nn.Parameter(torch.zeros(3))
    way = training._Way([one], 100, 1.0)

    def looked(value, loss):
        with torch.no_grad():
            one.fill_(value)
        way.losses.append((loss, 1.0))
        return way.goes_on()

    assert looked(1.0, 0.9)
    assert looked(2.0, 0.8)
    way.steps.gain = 0.4  # of a step on the way to its highest ones
    assert looked(3.0, 5.0)  # what 2 led to is not known to be good
    assert torch.equal(one.detach(), torch.ones(3))
    assert way.steps.rate == pytest.approx(0.4 / training.SLOWER)
    assert not looked(4.0, float("nan"))
    assert torch.equal(one.detach(), torch.ones(3))


def test_half_of_the_way_is_kept_where_all_of_it_is_too_much():
    subject, made, _, _ = prepared()
    parameters = list(made.model.parameters())
    start = [one.detach().clone() for one in parameters]
    for one in parameters:
        one.data += 1
    judge = Judge.of(subject.model, subject.held, None)
    judge.change = lambda model: abs(next(model.parameters()).flatten()[0].item() - middle)
    middle = start[0].flatten()[0].item() + 0.4
    found, share = refining.best(Made({}, made.model, 0.4, None), parameters, start, judge)
    assert share == 0.5
    assert found.error == pytest.approx(0.1, abs=1e-5)
    torch.testing.assert_close(parameters[1].detach(), start[1] + 0.5)


def test_a_score_that_falls_keeps_it_from_being_kept():
    subject, made, judge, config = prepared()
    old = copy.deepcopy(made.model)

    def same(model):
        return torch.equal(model[3].weight.factors[0], old[3].weight.factors[0])

    judge.evaluate = same
    kept, gained = refine(
        Made({}, made.model, made.error, 1.0),
        subject,
        judge,
        config,
        Progress(),
        Kept(subject, config.memory),
    )
    assert (kept.score, gained.share) == (1.0, 0.0)
    assert torch.equal(old(X), kept.model(X))


class Opaque(nn.Sequential):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x + 0

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("it has no derivative\nand more")


class Stuck(nn.Sequential):
    def forward(self, x):
        return Failing.apply(super().forward(x))


def test_a_network_without_gradients_stays_as_it_is():
    before, _, made, gained = refined(Opaque(*network()))
    assert (gained.share, gained.blocks) == (0, ())
    assert "no gradient" in gained.reason
    assert torch.equal(before(X), made.model(X))


def test_a_network_whose_gradient_fails_stays_as_it_is_and_says_why():
    before, _, made, gained = refined(Stuck(*network()))
    assert "no derivative" in gained.reason
    assert "more" not in gained.reason
    assert torch.equal(before(X), made.model(X))


def test_off_does_nothing():
    before, error, made, gained = refined(refine="off")
    assert gained is None
    assert made.error == error
    assert torch.equal(before(X), made.model(X))


def test_narrow_floats_stay_as_they_are():
    subject, made, judge, config = prepared()
    made.model[3].to(torch.bfloat16)
    _, gained = refined_of(made, subject, judge, config)
    assert "narrow" in gained.reason


def test_little_memory_has_fewer_blocks_and_then_fewer_batches():
    subject, _, _, _ = prepared()
    found = blocks(subject.every, ["0"])
    every, batches, wanted = stored(subject, found, 2**30, Kept(subject, 2**30))
    assert (len(every), len(batches)) == (3, len(wanted))
    taken = sum(room.size(one, every) for one in wanted)
    fewer, same, kept = stored(subject, found, taken - 1, Kept(subject, 2**30))
    assert len(fewer) < len(every)
    assert len(same) == len(batches)
    assert sum(room.size(one, fewer) for one in kept) < taken
    last, some, least = stored(subject, found, 2 * 4 * 5, Kept(subject, 2**30))
    assert len(last) == 1
    assert 1 <= len(some) <= 2
    assert list(least[0]) == [(0, 0)]


def test_an_end_is_seen_at_each_call_before_the_network_works_on_it_in_place():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            for _ in range(2):
                y = self.first(x)
                x = self.again(y)
                y.zero_()
            return x

    model, x = Twice(), torch.randn(2, 3)
    found = ends(model, [Block(("first",), "again"), Block(("again",), None)], x)
    first, second, output = (found[place].clone() for place in (("again", 0), ("again", 1), (0, 0)))
    with torch.no_grad():
        torch.testing.assert_close(first, model.first(x))
        torch.testing.assert_close(second, model.first(model.again(first)))
        torch.testing.assert_close(output, model.again(second))


def test_the_change_at_an_end_is_that_over_all_held_out_inputs():
    subject, made, _, _ = prepared()
    found = blocks(subject.every, ["3"])
    answers = [ends(subject.model, found, batch) for batch in subject.held]
    (inner, output) = gaps(made.model, found, subject.held, answers)
    held = torch.cat(subject.held)
    with torch.no_grad():
        pairs = [(one[:3](held), one[:5](held).flatten(1)) for one in (subject.model, made.model)]
        wanted = (pairs[0][1] - pairs[1][1]).norm() / pairs[0][1].norm()
    assert inner == pytest.approx(float(wanted), rel=1e-4)
    assert output == pytest.approx(made.error, rel=1e-4)


def test_large_dense_weights_stay(monkeypatch):
    subject, made, _, _ = prepared()
    found = blocks(subject.every, ["3"])
    monkeypatch.setattr("tenfold.compression.refinement.training.LARGE", 100)
    names = {id(one): name for name, one in made.model.named_parameters()}
    kept = {names[id(one)] for one in trained(made.model, subject, found)}
    assert "6.weight" not in kept
    assert {"6.bias", "3.bias", "3.weight.factors.0"} <= kept


def test_steps_rise_then_fall_to_nothing_and_take_the_gradients():
    one, moved = nn.Parameter(torch.full((4,), 2.0)), []
    steps = Steps([one], 40, 0.02)
    for _ in range(40):
        before = one.detach().clone()
        one.grad = torch.ones(4)
        steps.step()
        assert one.grad is None
        moved.append(float((before - one.detach()).mean()))
    highest = max(moved)
    assert 0.9 * 2 * 0.02 < highest <= 1.01 * 2 * 0.02
    assert moved[:6] == sorted(moved[:6])
    assert moved[7:] == sorted(moved[7:], reverse=True)
    assert abs(moved[-1]) < 0.01 * highest


class Twofold(nn.Module):
    """Two outputs, one of which is large and hardly changes."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        return self.net(x), x * 1000


def test_of_several_outputs_it_says_the_change_that_the_report_does():
    asked = {"budget": 0.6, "example_inputs": X[:4], "calibration": X.split(4)}
    report = compress(Twofold(), progress=False, never_slower=False, **asked).report
    assert report.error == pytest.approx(report.refinement.blocks[-1].after, rel=1e-6)


def test_a_compression_refines_by_default_and_its_report_says_so():
    asked = {"budget": 0.6, "example_inputs": X[:4], "calibration": X.split(4)}
    asked |= {"progress": False, "never_slower": False}
    without = compress(network(), refine="off", **asked).report
    report = compress(network(), **asked).report
    assert report.error < without.error
    assert report.error == pytest.approx(report.refinement.blocks[-1].after, rel=1e-4)
    assert "Refined in" in str(report)
    assert "Refined in" in report.to_html()
    assert "efined" not in str(without)
    assert Report.from_json(report.to_json()) == report
    with pytest.raises(ValueError, match="refine='fully'"):
        compress(network(), refine="fully", **asked)
