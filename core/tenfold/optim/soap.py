"""Adam in the eigenbasis of each parameter's gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..algebra import on_one_thread
from ..arguments import check_flag, check_number
from .turning import eigenbasis, turned

DAMPING = 1e-3  # of the gradients' usual size, below which they are rounding
TURNED = 10  # steps after which the basis is taken anew
LONGEST = 128  # of an axis that is turned
SHARED = 2**20  # numbers of all parameters, from which threads share them
LEAST = 1e-3  # of the size that relative steps are of: an offset of zero moves too


class SOAP(Optimizer):
    """Adam in the eigenbasis of each parameter's gradients.

    Axes of up to 128 numbers are turned into the eigenbasis of the gradients' second moments, which
    is taken anew every ten steps, and Adam runs there (Vyas et al. 2025, arXiv 2409.11321). Columns
    of a factor stand for each other, so that their gradients are correlated, and factors are small,
    so that turning them costs little. It comes nearer than Adam in the same number of steps, by
    rates as Adam's or somewhat higher. Threads share large models on the CPU. Factors whose ranks
    move (`set_rank`, `Cuttlefish`) start anew.

    Args:
        params: parameters, or groups of them with options of their own, as of any optimizer.
        lr: the size of a step; as Adam's.
        betas: decays of the running means of gradients and of their squares.
        weight_decay: decoupled, as in AdamW: each step first takes `lr · weight_decay` of a
            parameter off. `parameter_groups(model, …)` keeps it from factors.
        relative: `lr` is a part of each parameter's own size, its root mean square before the first
            step (as Adafactor's, Shazeer and Stern 2018, arXiv 1804.04235).

    Raises `ValueError` or `TypeError` for a bad argument.

    >>> layer = FactorizedConv(8, 16, 3, order=2, rank=4)
    >>> optimizer = SOAP(layer.parameters(), lr=3e-3)
    >>> layer(torch.randn(4, 8, 9, 9)).square().mean().backward()
    >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        relative: bool = False,
    ) -> None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            check_number(name, value)
            if value < 0:
                raise ValueError(f"{name}={value!r} must be at least 0")
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        if not pair or not all(isinstance(one, int | float) and 0 <= one < 1 for one in betas):
            raise ValueError(f"betas={betas!r} must be two numbers of at least 0 and below 1")
        check_flag("relative", relative)
        options = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "relative": relative}
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters that have a gradient.

        `closure` evaluates the loss anew, with its gradients, before it; the loss is returned.
        Raises `RuntimeError` for sparse gradients, before anything moves, and `FloatingPointError`
        where a basis would be taken of gradients that are not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moved = [
            (one, group)
            for group in self.param_groups
            for one in group["params"]
            if one.grad is not None
        ]
        if any(one.grad.is_sparse for one, _ in moved):
            raise RuntimeError("SOAP takes no sparse gradients: make the embedding sparse=False")
        moved.sort(key=lambda pair: -pair[0].numel())
        with _pool([one for one, _ in moved]) as pool:
            for _ in (map if pool is None else pool.map)(self._move, moved):
                pass
        return loss

    @torch.no_grad()
    def _move(self, moved: tuple[nn.Parameter, dict[str, Any]]) -> None:
        one, group = moved
        value, gradient = _real(one.detach()), _real(torch.as_tensor(one.grad))
        lr, state = group["lr"], self.state[one]
        if not state:
            state.update(_started(value))
        with on_one_thread(0):
            state["step"] += 1
            _take(state, gradient.to(state["mean"]), *group["betas"])
            size = state["size"] if group["relative"] else 1.0
            if group["weight_decay"]:
                value.mul_(1 - lr * group["weight_decay"])
            value.sub_(_direction(state, *group["betas"]).to(value), alpha=lr * size)


def _real(value: Tensor) -> Tensor:
    """Complex numbers as pairs."""
    return torch.view_as_real(value) if value.is_complex() else value


def _started(value: Tensor) -> dict[str, Any]:
    """Before the first gradient: running means, and of each turned axis a moment and its basis.

    Both means are of what the gradients are in the basis.
    """
    wide = value.to(torch.promote_types(value.dtype, torch.float32))
    turning = [k for k, size in enumerate(value.shape) if value.dim() > 1 and 1 < size <= LONGEST]
    return {
        "step": 0,
        "size": max(LEAST, float(wide.square().mean().sqrt())),
        "mean": torch.zeros_like(wide),
        "square": torch.zeros_like(wide),
        "moments": {k: wide.new_zeros(2 * (value.shape[k],)) for k in turning},
        "bases": {},
    }


def _take(state: dict[str, Any], gradient: Tensor, beta: float, decay: float) -> None:
    """Take in one more gradient."""
    for axis, moment in state["moments"].items():
        rows = gradient.movedim(axis, 0).flatten(1)
        moment.lerp_(rows @ rows.mT, 1 - decay)
    if state["step"] % TURNED == 1:
        if not all(bool(torch.isfinite(moment).all()) for moment in state["moments"].values()):
            raise FloatingPointError("gradients are not finite: mend the loss, or clip them")
        mean = turned(state["mean"], state["bases"], back=True)
        state["bases"] = {axis: eigenbasis(moment) for axis, moment in state["moments"].items()}
        state["mean"] = turned(mean, state["bases"])
    given = turned(gradient, state["bases"])
    state["mean"].lerp_(given, 1 - beta)
    state["square"].mul_(decay).addcmul_(given, given, value=1 - decay)


def _direction(state: dict[str, Any], beta: float, decay: float) -> Tensor:
    """Where to go, of size about 1."""
    steps = state["step"]
    root = (state["square"] / (1 - decay**steps)).sqrt_()
    floor = DAMPING * root.norm() / math.sqrt(root.numel()) + 1e-30
    root.add_(floor).mul_(1 - beta**steps)
    return turned(torch.div(state["mean"], root, out=root), state["bases"], back=True)


def _pool(parameters: list[nn.Parameter]) -> Any:
    """Threads to share parameters on the CPU, where there is work for them, for one step."""
    threads = torch.get_num_threads()
    large = sum(one.numel() for one in parameters if one.is_cpu) >= SHARED
    return ThreadPoolExecutor(threads) if threads > 1 and large else nullcontext()
