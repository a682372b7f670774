"""Lightning's callbacks do what the plain calls do."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tenfold import FactorizedConv, factorize, frobenius_decay, parameter_groups

pytest.importorskip("lightning")
from lightning.pytorch import LightningModule, Trainer

from tenfold.training.lightning import CuttlefishCallback, FrobeniusDecay, RankScheduleCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of loaders and of its needs
X, Y = torch.randn(12, 3, 8, 8), torch.arange(12) % 4
DECAY = 0.1


class Module(LightningModule):
    def __init__(self, low_rank=False):
        super().__init__()
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)
        )
        self.net = factorize(net, rank=0.7, include=["2"]) if low_rank else net

        self.seen = []

    def on_load_checkpoint(self, checkpoint):
        self.seen.append(checkpoint["epoch"])

    def training_step(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(parameter_groups(self, DECAY), lr=0.1, momentum=0.9)


def trained(module, callbacks, root, epochs=3, ckpt_path=None, **options):
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
        callbacks=callbacks,
        **options,
    )
    trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=4), ckpt_path=ckpt_path)
    return trainer


def test_the_decay_is_added_once_a_step_however_many_batches_it_has(tmp_path):
    module = Module(low_rank=True)
    other = copy.deepcopy(module.net)
    off = {"enable_checkpointing": False, "accumulate_grad_batches": 3}
    trained(module, [FrobeniusDecay(DECAY)], tmp_path, epochs=2, **off)
    optimizer = torch.optim.SGD(parameter_groups(other, DECAY), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        for x, y in zip(X.split(4), Y.split(4), strict=True):
            (nn.functional.cross_entropy(other(x), y) / 3).backward()
        frobenius_decay(other, DECAY).backward()
        optimizer.step()
    for mine, theirs in zip(module.net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


CALLBACKS = {
    "cuttlefish": (
        False,
        lambda: CuttlefishCallback(rank=0.4, settled=float("inf"), include=["net.2"]),
    ),
    "schedule": (True, lambda: RankScheduleCallback(0.7, 0.2, 3)),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_ranks_change_after_epochs_and_a_run_resumes_after_that(name, tmp_path):
    low_rank, make = CALLBACKS[name]
    first = Module(low_rank)
    trained(first, [make(), FrobeniusDecay(DECAY)], tmp_path, epochs=4)
    assert isinstance(first.net[2], FactorizedConv)
    assert first.net[2].weight.numel() <= 0.4 * 8 * 8 * 9

    half = Module(low_rank)
    trainer = trained(half, [make(), FrobeniusDecay(DECAY)], tmp_path, epochs=2)
    kept = tmp_path / "half.ckpt"
    trainer.save_checkpoint(kept)
    second = Module(low_rank)
    trained(second, [make(), FrobeniusDecay(DECAY)], tmp_path, epochs=4, ckpt_path=kept)
    assert second.net[2].rank == first.net[2].rank
    assert second.seen == [2]  # the module's own hook is called, too
    assert second.on_load_checkpoint.__func__ is Module.on_load_checkpoint
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
