"""Fine-tuning against the original: it comes nearer, can be interrupted, and runs in parallel."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tenfold import distill
from tenfold.compression.distillation.matching import Matching, kd, relative
from tenfold.compression.distillation.training import rate
from tenfold.model.replace import replace_convolutions, substitute

QUIET = {"progress": False}


def pair():
    """A teacher with a normalisation and a dropout, and a student with a factorized layer."""
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(8 * 36, 5),
    )
    student = copy.deepcopy(teacher)
    return substitute(student, replace_convolutions(student, ["4"], rank=0.3)), teacher


def inputs(count=12, size=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 3, 6, 6, generator=generator) for _ in range(count)]


@torch.no_grad()
def gap(student, teacher, batches, part=None):
    student, teacher = student.eval()[:part], teacher.eval()[:part]
    found, wanted = (torch.cat([model(x) for x in batches]) for model in (student, teacher))
    return float(relative(found, wanted))


def by_groups(parameters, lr):
    return torch.optim.Adam([{"params": [one]} for one in parameters], lr=lr)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


class TestTraining:
    def test_the_student_comes_nearer_on_unseen_inputs(self):
        student, teacher = pair()
        before = gap(student, teacher, inputs(4, seed=2))
        assert distill(student, teacher, inputs(), lr=1e-3, epochs=8, **QUIET) is student
        assert gap(student, teacher, inputs(4, seed=2)) < 0.6 * before

    def test_features_come_nearer_than_without(self):
        found = []
        for features in ((), ("4",)):
            student, teacher = pair()
            distill(student, teacher, inputs(), lr=1e-3, features=features, **QUIET)
            found.append(gap(student, teacher, inputs(4, seed=2), part=5))
        assert found[1] < found[0]

    def test_the_teacher_the_statistics_the_flags_and_what_is_frozen_stay(self):
        student, teacher = pair()
        student[6].requires_grad_(False)
        student.train()
        student[0].eval()
        teacher.train()
        flags = [module.training for module in (*student.modules(), *teacher.modules())]
        before, after = state(teacher), state(student)
        distill(student, teacher, inputs(3), **QUIET)
        assert same(before, state(teacher))
        assert [module.training for module in (*student.modules(), *teacher.modules())] == flags
        changed = {
            name for name, value in after.items() if not torch.equal(value, state(student)[name])
        }
        factors = {name for name in after if name.startswith("4.")}
        assert changed == {"0.weight", "0.bias", "1.weight", "1.bias"} | factors
        assert all(parameter.grad is None for parameter in student.parameters())
        assert not any(module._forward_hooks for module in (*student.modules(), *teacher.modules()))

    def test_in_training_mode_statistics_follow_and_something_is_dropped(self):
        student, teacher = pair()
        seen, batches, scored = [], inputs(6, size=16), []
        student[3].register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
        flags = [module.training for module in student.modules()]
        before = student[1].running_mean.clone()

        def score(model):
            scored.append(model.training or teacher.training)
            return len(scored)

        distill(student, teacher, batches, epochs=2, lr=1e-3, train=True, score=score, **QUIET)
        assert not torch.equal(before, student[1].running_mean)
        assert all(not torch.equal(given, made) for given, made in seen)
        assert scored == [False, False]
        assert [module.training for module in student.modules()] == flags
        assert int(student[1].num_batches_tracked) == 12

    @pytest.mark.parametrize("optimizer", ["soap", torch.optim.AdamW, by_groups])
    def test_by_another_optimizer(self, optimizer):
        student, teacher = pair()
        before = gap(student, teacher, inputs(4, seed=2))
        distill(student, teacher, inputs(), lr=3e-3, epochs=8, optimizer=optimizer, **QUIET)
        assert gap(student, teacher, inputs(4, seed=2)) < 0.6 * before

    def test_the_groups_of_an_optimizer_keep_their_rates_to_each_other(self):
        student, teacher, seen = *pair(), []

        class Watched(torch.optim.SGD):
            def step(self, closure=None):
                seen.append([group["lr"] for group in self.param_groups])
                return super().step(closure)

        def make(parameters, lr):
            first, *others = parameters
            return Watched([{"params": [first], "lr": lr / 4}, {"params": others}], lr=lr)

        distill(student, teacher, inputs(10), lr=1e-3, optimizer=make, **QUIET)
        assert all(4 * low == pytest.approx(high) for low, high in seen)
        assert max(high for _, high in seen) == pytest.approx(1e-3)
        assert seen[-1][1] < 1e-4

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_in_a_narrow_dtype(self, dtype):
        student, teacher = pair()
        before = gap(student, teacher, inputs(4, seed=2))
        distill(student, teacher, inputs(), lr=1e-3, epochs=8, amp=dtype, **QUIET)
        assert gap(student, teacher, inputs(4, seed=2)) < 0.6 * before
        assert student[0].weight.dtype == torch.float32

    def test_batches_of_arguments_and_of_keywords(self):
        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x, shift):
                return {"y": self.layer(x + shift), "n": 3}

        found = []
        for wrap in (lambda x, s: (x, s), lambda x, s: {"x": x, "shift": s}):
            torch.manual_seed(0)
            teacher, student = Two(), Two()
            batches = [wrap(torch.randn(2, 4), torch.randn(4)) for _ in range(3)]
            distill(student, teacher, batches, **QUIET)
            found.append(state(student))
        assert same(*found)

    def test_the_rate_rises_and_falls(self):
        rates = [rate(step, 40) for step in range(40)]
        top = rates.index(max(rates))
        assert max(rates) <= 1
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)
        assert 0 < rates[-1] < 0.01
        assert rate(0, 1) == 1


def classes(count=4):
    """Batches with labels, as a loader gives them."""
    generator = torch.Generator().manual_seed(3)
    return [[x, torch.randint(5, (len(x),), generator=generator)] for x in inputs(count)]


class TestLabels:
    def test_of_a_loader_as_it_is_the_labels_are_left_out(self):
        plain, _ = pair()
        distill(plain, pair()[1], [x for x, _ in classes()], **QUIET)
        for batches, part in (
            (classes(), None),
            ([(y, x) for x, y in classes()], 1),
            ([{"a": x, "b": y} for x, y in classes()], "a"),
        ):
            student, teacher = pair()
            distill(student, teacher, batches, inputs=part, **QUIET)
            assert same(state(plain), state(student))

    def test_kd_is_the_divergence_of_softened_classes(self):
        found, wanted = torch.randn(6, 5), torch.randn(6, 5)
        theirs = nn.functional.softmax(wanted / 4, 1)
        own = nn.functional.log_softmax(found / 4, 1)
        expected = 16 * nn.functional.kl_div(own, theirs, reduction="batchmean")
        torch.testing.assert_close(kd(found, wanted), expected)
        with pytest.raises(ValueError, match="needs logits"):
            kd(found[0], wanted[0])

    @pytest.mark.parametrize(
        ("layout", "asked", "part"),
        [("rule", {}, 0.1), ("index", {}, 0.1), ("rule", {"labels": 0.7}, 0.7)],
    )
    def test_labels_count_a_part_beside_it(self, layout, asked, part):
        student, teacher = pair()
        batch = classes(1)[0]
        given = [batch] if layout == "rule" else [[batch[1], batch[0]]]
        request = {"lr": 1e-12, "loss": "kd", "inputs": None if layout == "rule" else 1, **QUIET}
        request |= asked
        seen = []
        matching = Matching.__call__

        def noted(self, *arguments):
            seen.append(matching(self, *arguments))
            return seen[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Matching, "__call__", noted)
            distill(student, teacher, given, **request)
            distill(student, teacher, [batch[0]], loss="kd", lr=1e-12, **QUIET)
        logits = student.eval()(batch[0])
        hard = nn.functional.cross_entropy(logits, batch[1])
        torch.testing.assert_close(seen[0], (1 - part) * seen[1] + part * hard)

    def test_swapped_models_are_noticed(self):
        student, teacher = pair()
        with pytest.raises(ValueError, match=r"the order is distill\(student, teacher"):
            distill(teacher, student, inputs(2), **QUIET)


class TestScore:
    def scores(self, *values):
        left = iter(values)
        return lambda _: next(left)

    def test_it_ends_when_none_is_better_and_keeps_the_best(self):
        states = []

        def score(model):
            states.append(state(model))
            return (1, 3, 2, 3, 9)[len(states) - 1]

        student, teacher = pair()
        distill(student, teacher, inputs(2), epochs=5, score=score, patience=2, lr=1e-3, **QUIET)
        assert len(states) == 4
        assert same(states[1], state(student))
        assert not same(states[3], state(student))

    def test_it_is_shown_with_the_progress(self, capsys):
        student, teacher = pair()
        distill(student, teacher, inputs(2), epochs=2, score=self.scores(0.5, 0.25))
        shown = capsys.readouterr().err
        assert "epoch 1: score 0.5, the best so far" in shown
        assert "epoch 2: score 0.25" in shown

    def test_an_interrupted_training_keeps_the_best_of_before(self, tmp_path):
        student, teacher = pair()
        request = {"epochs": 4, "patience": 3, "checkpoint": tmp_path / "d.pt", "lr": 1e-3, **QUIET}
        whole, part = copy.deepcopy(student), copy.deepcopy(student)
        distill(
            whole, teacher, inputs(2), score=self.scores(4, 3, 2, 1), epochs=4, lr=1e-3, **QUIET
        )
        with pytest.raises(InterruptionError):
            distill(part, teacher, Stopping(inputs(2), 5), score=self.scores(4, 3), **request)
        again = distill(student, teacher, inputs(2), score=self.scores(2, 1), **request)
        assert same(state(whole), state(again))


class InterruptionError(Exception):
    """What a test interrupts with."""


class Stopping:
    """Batches that end in an exception after some."""

    def __init__(self, batches, after):
        self.batches, self.left = batches, after

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            if self.left == 0:
                raise InterruptionError
            self.left -= 1
            yield batch


class TestCheckpoint:
    @pytest.mark.parametrize("optimizer", ["adam", "soap"])
    @pytest.mark.parametrize("after", [1, 5, 8])
    def test_an_interrupted_training_ends_as_an_uninterrupted_one(
        self, after, optimizer, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("tenfold.compression.distillation.training.SAVED_EVERY", 2)
        student, teacher = pair()
        request = {"epochs": 2, "optimizer": optimizer, **QUIET}
        whole = distill(copy.deepcopy(student), teacher, inputs(6), **request)
        place = tmp_path / "new" / "distill.pt"
        request |= {"checkpoint": place}
        with pytest.raises(InterruptionError):
            distill(copy.deepcopy(student), teacher, Stopping(inputs(6), after), **request)
        assert place.exists() is (after >= 2)
        resumed = distill(copy.deepcopy(student), teacher, inputs(6), **request)
        assert same(state(whole), state(resumed))
        again = distill(copy.deepcopy(student), teacher, inputs(6), **request)
        assert same(state(whole), state(again))
        assert [path.name for path in place.parent.iterdir()] == ["distill.pt"]

    def test_a_checkpoint_of_another_training_is_refused(self, tmp_path):
        student, teacher = pair()
        place = tmp_path / "distill.pt"
        distill(copy.deepcopy(student), teacher, inputs(2), checkpoint=place, **QUIET)
        with pytest.raises(ValueError, match=r"written with lr=0\.0001, not lr=0\.1"):
            distill(student, teacher, inputs(2), lr=0.1, checkpoint=place, **QUIET)
        with pytest.raises(ValueError, match="written with train=False, not train=True"):
            distill(student, teacher, inputs(2), train=True, checkpoint=place, **QUIET)
        with pytest.raises(ValueError, match="written with optimizer='adam', not optimizer='soap'"):
            distill(student, teacher, inputs(2), optimizer="soap", checkpoint=place, **QUIET)
        with pytest.raises(ValueError, match="is of another student"):
            distill(copy.deepcopy(teacher), teacher, inputs(2), checkpoint=place, **QUIET)

    def test_a_damaged_or_foreign_checkpoint_is_refused(self, tmp_path):
        student, teacher = pair()
        place = tmp_path / "distill.pt"
        for write in (
            lambda: place.write_bytes(b""),
            lambda: place.write_bytes(b"nothing of the kind"),
            lambda: torch.save([1], place),
            lambda: torch.save({"lr": Path("x")}, place),
        ):
            write()
            with pytest.raises(ValueError, match=r"checkpoint=.*distill\.pt is (damaged|no check)"):
                distill(student, teacher, inputs(2), checkpoint=place, **QUIET)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epochs": 0}, "epochs=0 must be"),
            ({"epochs": 2, "batches": iter(inputs(2))}, "gone through once only"),
            ({"batches": []}, "batches has none"),
            ({"lr": 0}, "lr=0 must be above 0"),
            ({"loss": "ce"}, "loss='ce' must be one of 'relative', 'kd'"),
            (
                {"optimizer": "lion"},
                "optimizer='lion' must be one of 'adam', 'soap', or a function",
            ),
            ({"labels": 1.1}, "labels=1.1 must be at least 0 and at most 1"),
            ({"patience": 2}, "patience=2 needs score="),
            ({"amp": torch.int8}, "amp=torch.int8 must be"),
            ({"features": ["4", "nine"]}, "features has 'nine', which the student has not"),
        ],
    )
    def test_a_bad_argument(self, change, message):
        student, teacher = pair()
        before = state(student)
        request = {"batches": inputs(2), **QUIET, **change}
        with pytest.raises(ValueError, match=message):
            distill(student, teacher, **request)
        assert same(before, state(student))
        assert not any(module._forward_hooks for module in student.modules())

    def test_shared_parameters_and_nothing_to_train(self):
        student, teacher = pair()
        with pytest.raises(ValueError, match="share parameters"):
            distill(teacher, teacher, inputs(2), **QUIET)
        with pytest.raises(ValueError, match="nothing to train"):
            distill(student.requires_grad_(False), teacher, inputs(2), **QUIET)
        with pytest.raises(TypeError, match="teacher=int must be"):
            distill(student, 3, inputs(2), **QUIET)
        with pytest.raises(TypeError, match="optimizer= gave NoneType"):
            distill(pair()[0], teacher, inputs(2), optimizer=lambda *given: None, **QUIET)

    def test_an_output_without_gradients(self):
        class Opaque(nn.Sequential):
            @torch.no_grad()
            def forward(self, x):
                return super().forward(x)

        student = Opaque(nn.Conv2d(3, 4, 3))
        before = student[0].weight.clone()
        with pytest.raises(ValueError, match="student gives its output without gradients"):
            distill(student, nn.Conv2d(3, 4, 3), [torch.randn(2, 3, 8, 8)], progress=False)
        assert torch.equal(student[0].weight, before)

    def test_a_loss_that_is_not_finite(self):
        student, teacher = pair()
        batches = inputs(3)
        batches[1] = batches[1] / 0
        with pytest.raises(FloatingPointError, match="the loss of step 2 is nan"):
            distill(student, teacher, batches, **QUIET)


SCRIPT = """
import os
import sys
import torch
sys.path.insert(0, {here!r})
from test_distillation import inputs, pair, state
from tenfold.compression.distillation import distill

student, teacher = pair()
loss = torch.nn.functional.mse_loss
distill(student, teacher, inputs({count}, {size}), lr=1e-3, loss=loss, checkpoint={place!r})
torch.save(state(student), sys.argv[1] + "." + os.environ.get("RANK", "alone"))
os._exit(0)  # a thread of gloo that frees a gradient while Python ends aborts it
"""


def run(tmp_path, name, *launcher, count, size):
    """Run the script, which is the same whether alone or not; what it saved."""
    script = tmp_path / f"{name}.py"
    place = str(tmp_path / f"{name}.pt")
    here = str(Path(__file__).parent)
    script.write_text(SCRIPT.format(here=here, count=count, size=size, place=place))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, *launcher, str(script), str(tmp_path / name)],
        check=True,
        env=environment,
        timeout=120,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # signals among them are theirs alone
    )
    return [torch.load(path) for path in sorted(tmp_path.glob(f"{name}.[0-9a]*"))]


def test_two_processes_train_as_one_with_batches_twice_as_large(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    first, second = run(tmp_path, "two", *torchrun, count=8, size=4)
    assert same(first, second)
    student, teacher = pair()
    pieces = inputs(8, 4)
    batches = [torch.cat(pieces[n : n + 2]) for n in range(0, 8, 2)]
    mse = nn.functional.mse_loss
    alone = state(distill(student, teacher, batches, lr=1e-3, loss=mse, **QUIET))
    start = state(pair()[0])
    assert not same(alone, start)
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, atol=1e-5, rtol=1e-4)
    saved = torch.load(tmp_path / "two.pt")
    assert saved["steps"] == 4
