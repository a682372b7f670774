"""How far a network's outputs and features are from another's, as a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..running import Batch, call, tensors

Loss = Callable[[Tensor, Tensor], Tensor]


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """`‖found − wanted‖² / ‖wanted‖²`, over the whole batch."""
    wide = wanted.float()
    gap = (found.float() - wide).square().sum()
    ratio: Tensor = gap / wide.square().sum().clamp_min(torch.finfo(torch.float32).tiny)
    return ratio


TEMPERATURE = 4.0  # of both softmaxes


def kd(found: Tensor, wanted: Tensor) -> Tensor:
    """`T² KL(softmax(wanted / T) ‖ softmax(found / T))`, of logits `(batch, classes, …)`.

    Hinton et al. 2015, arXiv 1503.02531. Raises `ValueError` for what has no axis of classes.
    """
    if found.dim() < 2:
        raise ValueError(f"loss='kd' needs logits (batch, classes, …), not {tuple(found.shape)}")
    own, theirs = ((x.float() / TEMPERATURE).log_softmax(1) for x in (found, wanted))
    gap = (theirs.exp() * (theirs - own)).sum(1).mean()
    loss: Tensor = TEMPERATURE**2 * gap
    return loss


class Matching:
    """The mean loss between the student's and the teacher's outputs, and named layers' outputs.

    Until it is closed, hooks keep what those layers give. Raises `ValueError` for a layer that
    either has not.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        features: Sequence[str],
        loss: Loss,
        labels: float,
    ) -> None:
        self.teacher, self.loss, self.labels = teacher, loss, labels
        self._hooks = ExitStack()
        self._found: dict[str, Any] = {}
        self._wanted: dict[str, Any] = {}
        for model, kept, which in (
            (student, self._found, "student"),
            (teacher, self._wanted, "teacher"),
        ):
            for name in features:
                self._keep(model, name, kept, which)

    def __call__(self, student: nn.Module, batch: Batch, labels: Any = None) -> Tensor:
        """Run both on a batch; `student` may be a wrapper around the one that was given.

        Under `kd` features are matched by `relative`, and labels, where there are some, count
        beside the teacher by the cross-entropy, `self.labels` of the whole.
        """
        with torch.no_grad():
            wanted = tensors(call(self.teacher, batch))
        if not any(one.is_floating_point() for one in wanted):
            raise TypeError(
                "the teacher returns whole numbers alone, as argmax gives, which have no gradient: "
                "give teacher and student that return scores"
            )
        found = tensors(call(student, batch))
        logits, outputs = found[0], len(found)
        for name, feature in self._found.items():
            found += tensors(feature)
            wanted += tensors(self._wanted[name])
        for one, other in zip(found, wanted, strict=True):
            if one.shape != other.shape:
                raise ValueError(
                    f"the student gives {tuple(one.shape)} where the teacher gives "
                    f"{tuple(other.shape)}: they must be of one architecture"
                )
        soft = self.loss is kd
        losses = [
            relative(one, other) if soft and place >= outputs else self.loss(one, other)
            for place, (one, other) in enumerate(zip(found, wanted, strict=True))
        ]
        mean = torch.stack(losses).mean()
        if not soft or labels is None:
            return mean
        known = torch.as_tensor(labels).to(logits.device)
        own = nn.functional.cross_entropy(logits.float(), known)
        return (1 - self.labels) * mean + self.labels * own

    def close(self) -> None:
        """Take the hooks away."""
        self._hooks.close()

    def _keep(self, model: nn.Module, name: str, kept: dict[str, Any], which: str) -> None:
        try:
            layer = model.get_submodule(name)
        except AttributeError:
            self.close()
            raise ValueError(f"features has {name!r}, which the {which} has not") from None

        def hook(_: nn.Module, __: Any, output: Any) -> None:
            kept[name] = output

        self._hooks.callback(layer.register_forward_hook(hook).remove)
