"""Timing in turn, by a clock of the test's own, and the choice in noise."""

import sys
import time
from functools import partial
from math import inf
from threading import Thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.tuning.timing import (
    MARGIN,
    ROUNDS,
    SECONDS,
    Timing,
    in_turn,
    simplest_of_the_fastest,
)

CPU = torch.device("cpu")
timings = st.lists(
    st.builds(Timing, st.floats(0.01, 100), st.floats(0, 0.2)), min_size=1, max_size=6
)


class Clock:
    """A clock that only the runs move."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def run(self, name, cost, slow=()):
        """Take `cost` seconds; ten times as long on the calls numbered in `slow`."""
        number = self.calls.count(name)
        self.calls.append(name)
        self.now += cost * (10 if number in slow else 1)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for name in ("perf_counter", "thread_time"):
        monkeypatch.setattr(time, name, lambda: clock.now)
    return clock


def timed(clock, costs, **more):
    runs = [partial(clock.run, index, cost) for index, cost in enumerate(costs)]
    return in_turn(runs, CPU, **more)


class TestInTurn:
    def test_it_tells_what_each_takes(self, clock):
        costs = [3e-3, 1e-3, 1.1e-3, 40e-3]
        found = timed(clock, costs)
        assert [one.milliseconds for one in found] == pytest.approx([c * 1e3 for c in costs])
        assert all(one.doubt == pytest.approx(0, abs=1e-6) for one in found)

    def test_it_ends_in_time(self, clock):
        timed(clock, [1e-3, 1.1e-3, 1.2e-3, 9e-3])
        assert clock.now < SECONDS + 0.1

    def test_slow_ones_still_get_a_few_rounds(self, clock):
        timed(clock, [0.5, 0.51])
        assert clock.calls.count(0) >= ROUNDS[0]

    def test_what_is_hopeless_is_dropped_soon(self, clock):
        timed(clock, [0.1, 0.5, 0.15])
        assert clock.calls.count(1) == 2
        assert clock.calls.count(2) < clock.calls.count(0)

    def test_other_work_is_done_before_each_call_and_does_not_count(self, clock):
        between = partial(clock.run, "other", 7e-3)
        found = timed(clock, [3e-5, 1e-5], between=between, hopeless=inf)
        assert [one.milliseconds for one in found] == pytest.approx([3e-2, 1e-2])
        assert clock.calls.count("other") == (len(clock.calls) - 2) / 2  # the first of each are not

    def test_nothing_is_dropped_where_all_are_wanted(self, clock):
        timed(clock, [1e-3, 5e-3], hopeless=inf)
        assert abs(clock.calls.count(0) - clock.calls.count(1)) < 10
        assert clock.calls.count(1) > ROUNDS[0]

    def test_an_interruption_drops_nothing(self, clock):
        runs = [partial(clock.run, 0, 1e-3), partial(clock.run, 1, 0.9e-3, slow=(0, 1, 5, 6))]
        found = in_turn(runs, CPU)
        assert found[1].milliseconds == pytest.approx(0.9)

    def test_short_ones_are_called_many_times_a_sample(self, clock):
        timed(clock, [1e-5, 1.2e-5])
        assert clock.calls.count(0) >= 20 * ROUNDS[0]

    def test_they_take_turns(self, clock):
        timed(clock, [1e-3, 1e-3, 1e-3])
        rounds = [clock.calls[i : i + 3] for i in range(18, len(clock.calls), 3)]
        assert all(sorted(one) == [0, 1, 2] for one in rounds)
        assert len({tuple(one) for one in rounds}) > 2

    def test_doubt_is_that_of_scattered_samples(self, clock):
        def scattered():
            clock.run("scattered", 1e-3 * (1 + 0.3 * (clock.calls.count("scattered") % 4)))

        steady, noisy = in_turn([partial(clock.run, 0, 1e-3), scattered], CPU, hopeless=inf)
        assert steady.doubt < 1e-6
        assert 0.01 < noisy.doubt < 0.3


class TestClock:
    @pytest.fixture(params=[1, 2])
    def threads(self, request):
        before = torch.get_num_threads()
        torch.set_num_threads(request.param)
        yield request.param
        torch.set_num_threads(before)

    def test_what_other_processes_take_counts_where_several_threads_work(self, threads):
        [found] = in_turn([partial(time.sleep, 2e-3)], CPU, seconds=0.02)
        assert (found.milliseconds > 1.9) == (threads > 1 or sys.platform == "win32")

    def test_of_another_machine_s_work_the_clock_on_the_wall_tells(self, threads):
        [found] = in_turn([partial(time.sleep, 2e-3)], CPU, seconds=0.02, by="another")
        assert found.milliseconds > 1.9

    @pytest.mark.skipif(sys.platform == "win32", reason="it knows a thread's time to 16 ms only")
    def test_of_a_process_on_one_thread_what_its_threads_do_counts(self):
        def work():
            while time.thread_time() < 2e-3:  # of a new thread it begins at 0
                pass

        def run():
            thread = Thread(target=work)
            thread.start()
            thread.join()

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            [mine], [all_] = (
                in_turn([run], CPU, seconds=0.02, by=by) for by in ("thread", "process")
            )
        finally:
            torch.set_num_threads(before)
        assert mine.milliseconds < 1.9 < all_.milliseconds


class TestSimplestOfTheFastest:
    @given(timings)
    def test_the_choice_is_not_slower_than_the_fastest_beyond_doubt(self, found):
        chosen = found[simplest_of_the_fastest(found, range(len(found)))]
        best = min(found, key=lambda one: one.milliseconds)
        doubt = 2 * (chosen.doubt**2 + best.doubt**2) ** 0.5
        assert chosen.milliseconds <= best.milliseconds * (1 + max(MARGIN, doubt)) * (1 + 1e-9)

    @given(timings)
    def test_what_is_simpler_is_slower(self, found):
        index = simplest_of_the_fastest(found, range(len(found)))
        best = min(one.milliseconds for one in found)
        assert all(one.milliseconds > best * (1 + MARGIN) for one in found[:index])

    @given(timings)
    def test_of_equally_simple_ones_the_fastest_is_taken(self, found):
        index = simplest_of_the_fastest(found, [1] * len(found))
        assert found[index].milliseconds == min(one.milliseconds for one in found)

    @pytest.mark.parametrize(
        ("taken", "doubts", "choice"),
        [
            ([1.0, 0.9], [0.0, 0.0], 1),
            ([1.0, 0.98], [0.0, 0.0], 0),
            ([1.0, 0.9], [0.1, 0.1], 0),
            ([2.0, 1.0, 0.99], [0.0, 0.0, 0.0], 1),
        ],
    )
    def test_the_simpler_one_is_taken_in_doubt(self, taken, doubts, choice):
        found = list(map(Timing, taken, doubts))
        assert simplest_of_the_fastest(found, range(len(found))) == choice
