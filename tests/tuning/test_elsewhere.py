"""Where a layer is tuned: in PyTorch as it is, or in another runtime."""

import time

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from tenfold import FactorizedConv, Runtime, runtimes, tune
from tenfold.commands import app as cli


class Partial(Runtime):
    """It takes long but for four convolutions, and tells what it was given."""

    description = "slow but for four stages"
    given: list[nn.Module] = []  # noqa: RUF012

    def prepare(self, module, example):
        self.given.append(module)
        [layer] = [one for one in module.modules() if isinstance(one, FactorizedConv)]
        stages = len(layer.plan.partition)

        def run(x):
            time.sleep(0.02 if stages < 4 else 0)
            return module(x)

        return run


class Refusing(Partial):
    """It runs nothing."""

    def prepare(self, module, example):
        raise ValueError("it has no convolutions: use another")


@pytest.fixture(autouse=True)
def of_tests(monkeypatch):
    monkeypatch.setenv("TENFOLD_CACHE", "off")
    for name, cls in {"partial": Partial, "refusing": Refusing}.items():
        if name not in runtimes:
            runtimes.register(name, cls)
    Partial.given.clear()


def layer(width=8):
    made = FactorizedConv(width, 8, (3, 3), rank=2, factorization="cp", implementation="auto")
    return made.eval()


def test_the_choice_is_what_is_fastest_in_the_runtime():
    decision = layer().tune(torch.randn(1, 8, 6, 6), runtime="PARTIAL")
    assert decision.situation.runtime == "partial"
    assert len(decision.partition) == 4
    assert {one.memory_format for one in decision.measured} == {None}


def test_what_was_chosen_in_one_runtime_does_not_count_in_another():
    x, one = torch.randn(1, 8, 7, 7), layer()
    assert one.tune(x).situation.runtime == "eager"
    assert Partial.given == []
    one.tune(x, runtime="partial")
    assert Partial.given


def test_what_was_chosen_in_another_version_of_it_does_not_count(monkeypatch):
    x, one = torch.randn(1, 8, 6, 7), layer()
    one.tune(x, runtime="partial")
    before = len(Partial.given)
    one.tune(x, runtime="partial")
    assert len(Partial.given) == before
    monkeypatch.setattr(Partial, "version", lambda self: "2")
    assert one.tune(x, runtime="partial").situation.engine == "2"
    assert len(Partial.given) == 2 * before


def test_a_whole_model_is_tuned_there():
    model = nn.Sequential(layer(), nn.ReLU(), layer())
    decisions = tune(model, torch.randn(1, 8, 9, 9), runtime="partial")
    assert {one.situation.runtime for one in decisions.values()} == {"partial"}


def test_a_layer_that_the_runtime_cannot_run_keeps_its_plan_and_says_why():
    one = layer()
    plan = one.plan
    message = "runtime='refusing' cannot run the layer: it has no convolutions"
    with pytest.raises(ValueError, match=message):
        one.tune(torch.randn(1, 8, 5, 5), runtime="refusing")
    assert one.plan is plan


def test_onnx_runtime_chooses_among_the_partitions():
    pytest.importorskip("onnxruntime")
    one, x = layer(), torch.randn(1, 8, 6, 8)
    wanted = one(x).detach()
    decision = one.tune(x, runtime="onnxruntime")
    assert len(decision.measured) == len(set(one.candidates)) > 1
    assert torch.allclose(one(x), wanted, atol=1e-5)


def test_the_command_tunes_there_and_says_so():
    words = ["tune", "8", "8", "3", "--size", "6", "--factorization", "cp"]
    done = CliRunner().invoke(cli.main, [*words, "--runtime", "partial"])
    assert done.exit_code == 0, done.output
    assert "in partial" in " ".join(done.output.split())
    done = CliRunner().invoke(cli.main, [*words, "--runtime", "refusing"])
    assert done.exit_code == 2
    assert "cannot run the layer" in done.output
