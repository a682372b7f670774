"""Lightning's callbacks for what trains factorized networks: `pip install 'tenfold[lightning]'`."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from .cuttlefish import Cuttlefish
from .decay import check_decay, frobenius_decay, kernels_of
from .schedule import RankSchedule

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    raise ImportError(
        "tenfold.training.lightning needs Lightning: pip install 'tenfold[lightning]'"
    ) from None


class FrobeniusDecay(Callback):  # type: ignore[misc]
    """Adds the gradient of `frobenius_decay(model, weight_decay)` before each optimizer step.

    Once a step, however many batches are accumulated. `configure_optimizers` takes its groups from
    `parameter_groups`.
    """

    def __init__(self, weight_decay: float) -> None:
        check_decay(weight_decay)
        self.weight_decay = weight_decay

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        with torch.enable_grad():
            decay = frobenius_decay(pl_module, self.weight_decay)
        factors = [p for k in kernels_of(pl_module) for p in k.parameters() if p.grad is not None]
        if factors:
            for factor, slope in zip(factors, torch.autograd.grad(decay, factors), strict=True):
                factor.grad.add_(slope)  # type: ignore[union-attr]


class _AfterEpochs(Callback):  # type: ignore[misc]
    """Something with `step`, `state_dict` and `load_state_dict`, called after each epoch.

    What a checkpoint holds of it is read before Lightning loads the module's own weights and makes
    its optimizers, which have the shapes of the ranks then: by the module's `on_load_checkpoint`,
    the one hook that Lightning calls so early.
    """

    def __init__(self) -> None:
        self.made: Any = None

    def make(self, module: LightningModule) -> Any:
        raise NotImplementedError

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if trainer.world_size > 1:
            raise ValueError(
                f"{type(self).__name__} on {trainer.world_size} processes: what wraps the module "
                "there holds its parameters; train on one until its ranks are found"
            )
        self.made = self.make(pl_module)
        theirs = pl_module.on_load_checkpoint

        def load(checkpoint: dict[str, Any]) -> None:
            kept = checkpoint.get("callbacks", {}).get(self.state_key)
            if kept:
                self.made.load_state_dict(kept)
            theirs(checkpoint)

        pl_module.on_load_checkpoint = load

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        vars(pl_module).pop("on_load_checkpoint", None)
        if len(trainer.optimizers) != 1:
            raise ValueError(
                f"{type(self).__name__} takes one optimizer; there are {len(trainer.optimizers)}"
            )
        self.made.optimizer = trainer.optimizers[0]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.made.step()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.made is None else dict(self.made.state_dict())


class CuttlefishCallback(_AfterEpochs):
    """`Cuttlefish(module, …)` after each epoch; `options` are its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def make(self, module: LightningModule) -> Cuttlefish:
        return Cuttlefish(module, None, **self.options)


class RankScheduleCallback(_AfterEpochs):
    """`RankSchedule(module, …)` after each epoch."""

    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__()
        self.start, self.end, self.steps = start, end, steps

    def make(self, module: LightningModule) -> RankSchedule:
        return RankSchedule(module, None, self.start, self.end, self.steps)
