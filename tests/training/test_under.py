"""Decay, groups and changes of rank under what networks are trained with."""

import copy
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from tenfold import (
    Cuttlefish,
    FactorizedConv,
    decoupled_decay,
    factorize,
    frobenius_decay,
    parameter_groups,
    set_rank,
)

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 4
DECAY = 0.05


def small() -> nn.Sequential:
    torch.manual_seed(0)
    dense = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten(),
        nn.Linear(128, 4),
    )  # fmt: skip
    return factorize(dense, rank=0.6, include=["2"])


def sgd(model):
    return torch.optim.SGD(parameter_groups(model, DECAY), lr=0.05, momentum=0.9)


def loss_of(model, x=X, y=Y):
    return nn.functional.cross_entropy(model(x), y)


def step(model, optimizer, run=None):
    optimizer.zero_grad()
    (loss_of(run or model) + frobenius_decay(model, DECAY)).backward()
    optimizer.step()


def near(one, other, **options):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(a, b, **options) for a, b in pairs)


def test_gradients_of_parts_of_a_batch_add_up():
    one, other = small().eval(), small().eval()  # batch statistics would tell the parts apart
    first, second = sgd(one), sgd(other)
    step(one, first)
    for x, y in zip(X.split(4), Y.split(4), strict=True):
        ((loss_of(other, x, y) + frobenius_decay(other, DECAY)) / 2).backward()
    second.step()
    assert near(one, other, atol=1e-6)


def test_under_autocast_a_network_is_trained_and_its_ranks_move():
    model = small()
    optimizer = sgd(model)
    losses = []
    for turn in range(8):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model) + frobenius_decay(model, DECAY)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if turn == 3:
            set_rank(model[2], 0.3, optimizer)
    assert losses[-1] < losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(s["momentum_buffer"].dtype == torch.float32 for s in optimizer.state.values())


def test_a_compiled_network_has_the_same_steps():
    one, other = small(), small()
    compiled = torch.compile(other, backend="aot_eager")
    first, second = sgd(one), sgd(other)
    for _ in range(2):
        step(one, first)
        step(other, second, compiled)
    assert near(one, other, atol=1e-5)


def test_a_compiled_network_that_changed_its_rank_is_compiled_anew():
    model = small()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = sgd(model)
    step(model, optimizer, compiled)
    set_rank(model[2], 0.3, optimizer)
    assert torch.allclose(compiled.eval()(X), model.eval()(X), atol=1e-6)


def test_an_average_of_weights_follows_a_factorized_network():
    model = small()
    optimizer = sgd(model)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    wanted = [p.detach().clone() for p in model.parameters()]
    for turn in range(3):
        step(model, optimizer)
        average.update_parameters(model)
        for mine, p in zip(wanted, model.parameters(), strict=True):
            mine.copy_(p.detach() if turn == 0 else (mine + p.detach()) / 2)
    assert all(map(torch.allclose, average.module.parameters(), wanted))
    update_bn([X], average)
    assert bool(torch.isfinite(average.eval()(X)).all())


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_run_goes_on_from_its_checkpoint(decoupled):
    def made():
        model = small()
        optimizer = torch.optim.AdamW(parameter_groups(model, DECAY), lr=0.01)
        if decoupled:
            decoupled_decay(optimizer, model, DECAY)
        return model, optimizer

    first = made()
    step(*first)
    kept = [copy.deepcopy(one.state_dict()) for one in first]
    step(*first)
    second = made()
    for one, state in zip(second, kept, strict=True):
        one.load_state_dict(state)
    step(*second)
    assert near(first[0], second[0])


def test_without_lightning_its_callbacks_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "tenfold.training.lightning", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'tenfold\[lightning\]'"):
        importlib.import_module("tenfold.training.lightning")


def share(rank: int, count: int) -> list[torch.Tensor]:
    """What a process trains on its part of the batch: two steps, a switch, two steps."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)
    )
    optimizer = sgd(model)
    watch = Cuttlefish(model, optimizer, settled=float("inf"), rank=0.5, include=["2"])
    wrap = nn.parallel.DistributedDataParallel if count > 1 else lambda one: one
    run = wrap(model)
    x, y = (one.chunk(count)[rank] for one in (X, Y))
    for _ in range(4):
        optimizer.zero_grad()
        (loss_of(run, x, y) + frobenius_decay(model, DECAY)).backward()
        optimizer.step()
        if watch.step():
            run = wrap(model)  # it holds the parameters: made anew
    assert isinstance(model[2], FactorizedConv)
    others = [p for name, p in model.named_parameters() if "factors" not in name]
    return [one.detach() for one in (model[2].weight.to_tensor(), *others)]


def test_two_processes_train_as_one_does(tmp_path):
    torch.save((X, Y), tmp_path / "data.pt")  # every process has all of it
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, __file__, str(tmp_path)],
        env=environment,
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # signals among them are theirs alone
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert all(map(torch.equal, *parts))
    alone = share(0, 1)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(parts[0], alone, strict=True))


if __name__ == "__main__":  # under torchrun
    from torch import distributed

    place = Path(sys.argv[1])
    X, Y = torch.load(place / "data.pt")
    distributed.init_process_group("gloo")
    mine = distributed.get_rank()
    torch.save(share(mine, distributed.get_world_size()), place / f"{mine}.pt")
    distributed.barrier()  # neither is gone while the other may still ask it
    os._exit(0)  # a thread of gloo that frees a gradient while Python ends aborts it
