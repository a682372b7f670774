"""A whole trained network made smaller by measured error: the recipe, one stage after another."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

from torch import nn

from .account import Account, Outcome
from .candidates import Table
from .choice import CLEAR, Choices, Quick, fast, quick, refined, smallest, told
from .correction import Finisher, Made
from .groundwork import lay
from .measurement import Evaluate, settle
from .measurement import score as measure_score
from .refinement import Kept, refine
from .reporting import Compression, Slower, say
from .request import CompressionConfig, check_asked
from .running import Batch, Part, check_part, counted, shown, undisturbed

WORTH = 1.5  # times another's error, at most, is what a quicker network may have,
LITTLE = 1.2  # and where that other is faster than the original already
TELLS = 0.5  # what an error before the correction is to be told by: beyond it all are as bad


def compress(
    model: nn.Module,
    config: CompressionConfig | None = None,
    *,
    example_inputs: Batch,
    calibration: Iterable[Batch] | None = None,
    inputs: Part = None,
    score: Evaluate | None = None,
    evaluate: Evaluate | None = None,
    executor: Executor | None = None,
    table: Table | str | os.PathLike[str] | None = None,
    **config_fields: Any,
) -> Compression:
    """Make a copy of `model` that keeps within a budget and changes its output least.

    Args:
        config, config_fields: what is wanted: see `CompressionConfig`.
        example_inputs: what the model takes (a tensor, a tuple of arguments or a dict of keywords):
            MACs and latencies are those of one run on it.
        calibration: batches of inputs, as a list or a `DataLoader` as it is; a part is held out to
            judge by. `example_inputs` where there are none. What `forward` takes is taken whole; of
            a tuple or list that it does not take the last part is left out as labels, and of a
            dict what is under "label", "labels", "target", "targets" or "y".
        inputs: which part of a batch the model takes, where that rule does not do: an index, a key
            or a function of the batch.
        score: a function of a model that gives a number, as its accuracy; the report has it before
            and after, and nothing goes by it.
        evaluate: a score, higher being better, that steers: it counts instead of the change of the
            output, and is taken hundreds of times. The network is fitted to it, so a test set is
            none any more once it was used here: give that to `score`. Without it results are as
            good as a rule, and come sooner.
        executor: where layers are measured, as a process pool or Dask's; here without one.
        table: a folder, in which what is measured is kept, so that an interrupted call goes on
            where it was; or the `table` of an earlier compression.

    The model is not changed, whatever happens. Beside copies of it, moments, stored responses and
    stored outputs take at most `memory` bytes each, and the work on one layer some matrices of the
    size of its moment. The network is run a number of times that does not depend on its depth:
    `report.passes` over the calibration. A layer is decomposed in the norm of its inputs
    (Zhang et al. 2016, arXiv 1505.06798), each as often as its place matters to the output; its
    error is measured alone on the output, and an exact knapsack spends the budget (one of errors:
    Liebenwein et al. 2021, arXiv 2107.11442). What was chosen is corrected in closed form, and then
    refined by a short training towards what the original gives (AA-SVD 2026, arXiv 2604.02119).

    Raises `ValueError` or `TypeError`, naming the
    argument and the remedy, for a bad one or a budget that cannot be reached, and `RuntimeError`,
    naming the layer, where measuring one fails.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    >>> x = torch.randn(4, 8, 12, 12)
    >>> small = compress(net, budget=0.5, example_inputs=x, progress=False)
    >>> small.report.macs.after <= 0.5 * small.report.macs.before
    True
    """
    asked = CompressionConfig.parse(config, config_fields)
    check_asked(model, asked, score, evaluate, executor)
    check_part("inputs", inputs)
    with undisturbed(), shown(asked.progress) as progress, counted() as runs:
        given = (example_inputs, calibration, inputs)
        before = None if score is None else measure_score(model, score, "score")
        ground = lay(model, asked, given, evaluate, executor, table, progress, runs)
        subject, plan = ground.subject, ground.plan
        maker = Finisher(
            subject,
            ground.table,
            ground.judges,
            ground.importance,
            ground.answers,
            asked,
            progress,
            evaluate,
        )
        account = Account(subject, plan, maker, asked, runs, score, before)
        return _Recipe(account, ground.ends).compressed()


class _Recipe:
    """From what was measured to networks: chosen, corrected, refined, stages tied."""

    def __init__(self, account: Account, ends: Kept) -> None:
        self.account, self.subject, self.plan = account, account.subject, account.plan
        self.ends = ends
        self.maker, self.config = account.maker, account.config

    def compressed(self) -> Compression:
        """The network that was asked for, and the curve of all that were."""
        config = self.config
        budgets: list[float | None] = [*config.budgets]
        if config.budget is not None and config.budget not in budgets:
            budgets.append(config.budget)
        found = [self.network(budget) for budget in budgets or [None]]
        at = len(found) - 1 if config.budget is None else budgets.index(config.budget)
        curve = list(map(self.account.point, budgets, found)) if config.budgets else []
        chosen = self.account.lay_out(found[at])
        report = self.account.report(chosen, curve)
        say(report)
        return Compression(chosen.made.model, report, self.maker.table)

    def network(self, budget: float | None) -> Outcome:
        """The network of a budget, refined, with layers tied where that was asked for and pays."""
        made, slow = self.corrected(budget)
        found = self.refined(made)._replace(slow=slow)
        return self.tied(found) if self.config.joint else found

    def refined(self, made: Made) -> Outcome:
        """A network, refined if that was asked for."""
        judge, progress = self.maker.judges.final, self.maker.progress
        found = Outcome(*refine(made, self.subject, judge, self.config, progress, self.ends))
        settle(found.made.model, self.subject.layers, self.config.runtime)
        return found

    def tied(self, apart: Outcome) -> Outcome:
        """The same with the layers of stages tied, where it is nearer to the original so."""
        choices = apart.made.choices
        ties, stages = self.maker.tied(choices)
        if ties:
            made = self.maker.finished(choices, self.config.correct, ties)
            found = self.refined(made)._replace(slow=apart.slow)
            why = self.worse(found.made, apart.made)
            if why is None:
                return found._replace(stages=tuple(stages))
            stages = [one.after_all(why) for one in stages]
        return apart._replace(stages=tuple(stages))

    def worse(self, tied: Made, apart: Made) -> str | None:
        """Why layers are better left apart, if they are."""
        if tied.loss >= apart.loss:
            return "corrected and refined, apart they are nearer to the original"
        speed = self.account.told(tied)
        if self.config.never_slower and speed.after > CLEAR * max(
            speed.before, self.account.told(apart).after
        ):
            return "tied they are slower"
        return None

    def corrected(self, budget: float | None) -> tuple[Made, Slower | None]:
        """The network of a budget, or the smallest that keeps the error or score asked for."""
        config = self.config
        if config.max_error is not None:
            return self.within(config.max_error), None
        if config.min_score is not None:
            return self.scoring(config.min_score), None
        assert budget is not None
        choices, timed = self.plan.choose(budget), self.account.watch()
        if config.objective == "measured":
            choices = refined(self.plan, self.maker.trial(self.maker.judges.whole), budget)
        if config.metric == "latency":
            choices = fast(self.plan, choices, budget, timed)
        found = Quick(choices)
        if config.never_slower:
            found = quick(self.plan, choices, budget, timed)
        made = self.maker.finished(found.choices, config.correct)
        if found.choices != choices:
            before = self.nearer(choices, made)
            if before is not None:
                made, found = before, told(self.plan, choices, timed)
        return made, None if found.slow is None else Slower(layers=found.slow, budget=found.budget)

    def nearer(self, choices: Choices, quicker: Made) -> Made | None:
        """The network of the choices before those that are quicker, where these cost too much.

        On a machine that others disturb, layers look slow that are not. The network is made only
        where the quicker one is farther off before both are corrected, or that does not tell.
        """
        trial = self.maker.trial(self.maker.judges.final.change)
        speed = self.account.timed(choices)
        worth = LITTLE if speed.after < speed.before else WORTH
        if trial(quicker.choices) <= min(TELLS, worth * trial(choices)):
            return None
        made = self.maker.finished(choices, self.config.correct)
        return made if quicker.error > worth * made.error else None

    def within(self, limit: float) -> Made:
        """The smallest network whose output changes by at most `limit`.

        Looked for without corrections; as far as these lower the error, once more beyond the limit.
        """
        trial = self.maker.trial(self.maker.judges.final.change)
        choices = smallest(self.plan, trial, limit)
        made = self.maker.finished(choices, self.config.correct)
        if self.config.correct and 0 < made.error < limit:
            beyond = smallest(self.plan, trial, limit * limit / made.error)
            if beyond != choices:
                smaller = self.maker.finished(beyond, True)
                if smaller.error <= limit:
                    return smaller
        return made

    def scoring(self, least: float) -> Made:
        """The smallest network whose score is at least `least`, corrected if that keeps it."""
        judge = self.maker.judges.final
        choices = smallest(self.plan, self.maker.trial(judge), judge.best - least)
        made = self.maker.finished(choices, self.config.correct)
        kept = made.score is not None and made.score >= least
        return made if kept else self.maker.finished(choices, False)
