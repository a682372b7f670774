"""Measurements that are kept, continued, used again, and made on other processes."""

import multiprocessing
import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
from safetensors.torch import save_file
from tests.reports import untimed
from torch import nn

from tenfold import FactorizedConv, compress
from tenfold.compression import measurement
from tenfold.compression.running.workers import run_all

OPTIONS = {
    "progress": False,
    "factorizations": ("spatial_svd", "tucker"),
    "correct": False,
    "never_slower": False,
}


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 8, 1)]
    return nn.Sequential(*layers).eval()


def inputs():
    return torch.randn(8, 8, 10, 10, generator=torch.Generator().manual_seed(1))


def compressed(budget=0.4, **more):
    return compress(network(), budget=budget, example_inputs=inputs(), **{**OPTIONS, **more})


@pytest.fixture
def counted(monkeypatch):
    """The names of the layers that were measured."""
    names = []
    original = measurement.Task.__call__

    def counting(task):
        names.append(task.layer.name)
        return original(task)

    monkeypatch.setattr(measurement.Task, "__call__", counting)
    return names


def same(one, other):
    assert untimed(one.report) == untimed(other.report)
    assert one.report.error == other.report.error
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_table_serves_another_budget_without_measuring_again(tmp_path, counted):
    first = compressed(table=tmp_path / "table")
    assert counted == ["0", "2", "4"]
    for table in (tmp_path / "table", first.table):
        second = compressed(budget=0.7, table=table)
        assert counted == ["0", "2", "4"]
        same(second, compressed(budget=0.7))
        counted[3:] = []


def test_an_interrupted_survey_goes_on_where_it_was(tmp_path, monkeypatch, counted):
    original = measurement.Task.measure

    def stopping(task, table, conv, judge):
        if task.layer.name == "4":
            raise KeyboardInterrupt
        original(task, table, conv, judge)

    with monkeypatch.context() as patch:
        patch.setattr(measurement.Task, "measure", stopping)
        with pytest.raises(KeyboardInterrupt):
            compressed(table=tmp_path)
    assert counted == ["0", "2", "4"]
    resumed = compressed(table=tmp_path)
    assert counted == ["0", "2", "4", "4"]
    same(resumed, compressed())


def test_a_table_of_another_network_or_configuration_is_refused(tmp_path):
    found = compressed(table=tmp_path)
    for more in ({"seed": 1}, {"factorizations": "tucker"}, {"calibration": [inputs() + 1]}):
        for table in (tmp_path, found.table):
            with pytest.raises(ValueError, match="another network, calibration or configuration"):
                compressed(table=table, **more)
    other = network()
    other[0].weight.data += 1e-3
    with pytest.raises(ValueError, match="another network"):
        compress(other, budget=0.4, example_inputs=inputs(), table=tmp_path, **OPTIONS)


def test_a_damaged_or_foreign_table_is_named(tmp_path):
    compressed(table=tmp_path)
    path = sorted(tmp_path.glob("*.safetensors"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        compressed(table=tmp_path)
    path.unlink()
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other.safetensors is not a table"):
        compressed(table=tmp_path)


def test_nothing_but_whole_files_is_left(tmp_path):
    compressed(table=tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


@pytest.fixture(scope="module")
def pool():
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as executor:
        yield executor


def test_a_process_pool_finds_what_one_process_finds(pool):
    same(compressed(executor=pool), compressed())


def test_any_number_of_threads_finds_the_same():
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(compressed())
    finally:
        torch.set_num_threads(before)
    same(*found)


def test_threads_that_share_the_network_find_what_one_finds():
    with ThreadPoolExecutor(3) as executor:
        same(compressed(executor=executor), compressed())


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as made,
        distributed.Client(made) as client,
    ):
        yield client


def test_a_dask_cluster_finds_what_one_process_finds(cluster):
    same(compressed(executor=cluster.get_executor()), compressed())


def test_a_task_whose_dask_worker_died_is_done_by_another(cluster, tmp_path):
    tasks = {"one": Dying(tmp_path / "mark"), "two": Answering(2)}
    assert dict(run_all(tasks, cluster.get_executor())) == {"one": "done", "two": 2}
    assert (tmp_path / "mark").exists()


def test_a_task_that_fails_on_a_dask_worker_is_named(cluster):
    with pytest.raises(RuntimeError, match="layer 'bad' failed: BrokenError: no such file"):
        list(run_all({"bad": Failing()}, cluster.get_executor()))


class BrokenError(OSError):
    """What a task fails with."""


class Failing:
    def __call__(self):
        raise BrokenError("no such file")


class Dying:
    """A task whose process dies once, and then gives its answer."""

    def __init__(self, mark):
        self.mark = mark

    def __call__(self):
        if not self.mark.exists():
            assert multiprocessing.parent_process() is not None, "this is no worker"
            self.mark.write_text("was here")
            os._exit(1)
        return "done"


class Answering:
    def __init__(self, answer):
        self.answer = answer

    def __call__(self):
        return self.answer


class Losing(Executor):
    """Loses the worker of its first tasks."""

    def __init__(self, losses):
        self.losses = losses
        self.submitted = 0

    def submit(self, function, /, *arguments, **keywords):
        self.submitted += 1
        future = Future()
        if self.submitted <= self.losses:
            future.set_exception(BrokenProcessPool("a worker died"))
        else:
            future.set_result(function(*arguments, **keywords))
        return future


def test_a_task_whose_worker_died_is_done_again(tmp_path):
    spawning = multiprocessing.get_context("spawn")
    tasks = {"one": Dying(tmp_path / "mark"), "two": Answering(2)}
    with ProcessPoolExecutor(1, mp_context=spawning) as executor:
        assert dict(run_all(tasks, executor)) == {"one": "done", "two": 2}


@pytest.mark.parametrize("losses", [1, 2, 100])
def test_lost_tasks_are_given_to_another_worker_and_at_last_done_here(losses):
    executor = Losing(losses)
    assert dict(run_all({"a": Answering(1), "b": Answering(2)}, executor)) == {"a": 1, "b": 2}
    assert executor.submitted > 2


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(1)])
def test_a_failing_task_is_named(executor):
    with pytest.raises(RuntimeError, match="layer 'bad' failed: BrokenError: no such file"):
        list(run_all({"good": Answering(1), "bad": Failing()}, executor))


def test_an_executor_that_is_shut_down_leaves_the_work_to_this_process():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    assert dict(run_all({"a": Answering(1)}, executor)) == {"a": 1}


def test_what_is_no_executor_is_refused():
    with pytest.raises(TypeError, match=r"executor=int must be a concurrent\.futures\.Executor"):
        compressed(executor=4)


def test_the_chosen_layers_are_what_the_report_says():
    found = compressed()
    for layer in found.report.layers:
        made = found.model.get_submodule(layer.name)
        assert isinstance(made, FactorizedConv) == (layer.factorization is not None)
