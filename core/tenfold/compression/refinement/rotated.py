"""Adam in the eigenbasis of each factor's gradients: few steps do where few can be afforded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from ...algebra import on_one_thread

MEAN, SQUARE = 0.9, 0.95  # decays of the gradients' means, and of their squares
DAMPING = 1e-3  # of the gradients' usual size, below which they are rounding
WARM_UP = 0.15  # of all steps
TURNED = 10  # steps after which the basis is taken anew
LONGEST = 128  # of a mode that is turned
LONG = 32  # rows of what stands behind a mode, from which no copy pays
SHARED = 2**20  # numbers of all parameters, from which threads share them
LEAST = 1e-3  # of the size that steps are relative to: an offset of zero moves too


@dataclass
class _State:
    """Of one parameter: running means, and of each mode the gradients' moment and its basis.

    Both means are of what the gradients are in the basis.
    """

    mean: Tensor
    square: Tensor
    moments: dict[int, Tensor] = field(default_factory=dict)
    bases: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Tensor) -> _State:
        zero = torch.zeros_like(value)
        turned = [
            k for k, size in enumerate(value.shape) if value.dim() > 1 and 1 < size <= LONGEST
        ]
        return cls(zero, zero.clone(), {k: value.new_zeros(2 * (value.shape[k],)) for k in turned})

    def take(self, gradient: Tensor, steps: int) -> None:
        """Take in one more gradient."""
        mean = self.mean
        for axis, moment in self.moments.items():
            rows = gradient.movedim(axis, 0).flatten(1)
            moment.lerp_(rows @ rows.mT, 1 - SQUARE)
        if steps % TURNED == 1:
            mean = self.turned(mean, back=True)
            self.bases = {axis: _basis(moment) for axis, moment in self.moments.items()}
            mean = self.turned(mean)
        given = self.turned(gradient)
        self.mean = mean.lerp_(given, 1 - MEAN)
        self.square.mul_(SQUARE).addcmul_(given, given, value=1 - SQUARE)

    def direction(self, steps: int) -> Tensor:
        """Where to go, of size about 1."""
        root = (self.square / (1 - SQUARE**steps)).sqrt_()
        floor = DAMPING * root.norm() / math.sqrt(root.numel()) + 1e-30
        root.add_(floor).mul_(1 - MEAN**steps)
        return self.turned(torch.div(self.mean, root, out=root), back=True)

    def turned(self, value: Tensor, back: bool = False) -> Tensor:
        """In the eigenbasis, or back from it."""
        for axis, basis in self.bases.items():
            value = _times(basis if back else basis.mT, value, axis)
        return value


def _times(matrix: Tensor, value: Tensor, axis: int) -> Tensor:
    """A matrix times an axis, without copies of large tensors where that can be."""
    shape = value.shape
    after = prod(shape[axis + 1 :])
    if after == 1:
        return (value.reshape(-1, shape[axis]) @ matrix.mT).reshape(shape)
    if axis == 0 or after >= LONG:
        return (matrix @ value.reshape(-1, shape[axis], after)).reshape(shape)
    made: Tensor = torch.tensordot(matrix, value, ([1], [axis]))
    return made.movedim(0, axis)


class Rotated:
    """Steps for parameters from their gradients, the highest `rate` of the parameter's own size.

    SOAP (Vyas et al. 2025, arXiv 2409.11321), with Adafactor's relative steps (Shazeer and Stern
    2018, arXiv 1804.04235).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], total: int, rate: float) -> None:
        self.parameters, self.total, self.rate = parameters, total, rate
        self.steps, self.gain = 0, 0.0  # how many, and how large the last one was
        self.states = [_State.of(one.detach()) for one in parameters]
        self.pool = _pool(parameters)
        self.sizes = [max(LEAST, float(one.detach().square().mean().sqrt())) for one in parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One step, and the gradients are gone. Steps rise, then fall to zero by half a cosine."""
        self.steps += 1
        part = self.steps / self.total
        self.gain = self.rate * min(1.0, part / WARM_UP) * (1 + math.cos(math.pi * part)) / 2
        moved = [index for index, one in enumerate(self.parameters) if one.grad is not None]
        moved.sort(key=lambda index: -self.parameters[index].numel())
        for _ in map(self._move, moved) if self.pool is None else self.pool.map(self._move, moved):
            pass

    @torch.no_grad()
    def _move(self, index: int) -> None:
        one, state = self.parameters[index], self.states[index]
        with on_one_thread(0):
            state.take(torch.as_tensor(one.grad), self.steps)
            one.sub_(state.direction(self.steps), alpha=self.gain * self.sizes[index])
        one.grad = None


def _pool(parameters: Sequence[nn.Parameter]) -> ThreadPoolExecutor | None:
    """Threads to share parameters on the CPU, where there is work for them; they end with it."""
    threads = torch.get_num_threads()
    large = sum(one.numel() for one in parameters if one.is_cpu) >= SHARED
    return ThreadPoolExecutor(threads) if threads > 1 and large else None


def _basis(moment: Tensor) -> Tensor:
    wide = moment.double() / moment.diagonal().sum().clamp_min(1e-30)
    _, vectors = torch.linalg.eigh(wide + 1e-9 * torch.eye(len(wide)).to(wide))
    return torch.as_tensor(vectors).to(moment)
