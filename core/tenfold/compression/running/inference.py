"""Run a network without changing it, and compare what two runs give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.nn.parameter import is_lazy
from torch.utils import checkpoint

from .columns import as_rows, turned
from .counting import count

Batch = Any  # a tensor, a tuple or list of arguments, or a mapping of keywords


def call(model: nn.Module, batch: Batch) -> Any:
    """Run `model` on a batch: a tensor, its arguments, or its keywords.

    It is given copies: a network may work in place on what it gets.
    """
    count(batch)
    arguments, keywords = arguments_of(fresh(batch))
    with turned():
        return model(*arguments, **keywords)


def arguments_of(batch: Batch) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a batch stands for: the arguments and the keywords of a call."""
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return (tuple(batch), {}) if isinstance(batch, tuple | list) else ((batch,), {})


@torch.no_grad()
def check_weights(model: nn.Module) -> None:
    """Refuse, with a `ValueError`, a model whose parameters are not made yet, or not finite."""
    for name, value in model.named_parameters():
        if is_lazy(value):
            raise ValueError(
                "the model has parameters that are not made yet: run it on an input first"
            )
        if not value.is_meta and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"model has NaN or infinite values in {name!r}: repair or re-train it first"
            )


def check_finite(model: nn.Module, batch: Batch, name: str) -> None:
    """Refuse, with a `ValueError`, a batch whose NaN comes out of the model."""
    given = [x for x in members(batch) if x.is_floating_point()]
    if any(bool(x.isnan().any()) for x in given):
        (found,) = outputs(model, [batch])
        if any(bool(y.isnan().any()) for y in found):
            raise ValueError(f"{name} has NaN, and so has the model's output: leave it out")


def fresh(value: Any) -> Any:
    """The same with copies of the tensors in it, in tuples, lists and dicts; others are shared."""
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) in (list, tuple):
        return type(value)(map(fresh, value))
    if type(value) is dict:
        return {name: fresh(one) for name, one in value.items()}
    return value


def copied(model: nn.Module) -> nn.Module:
    """A copy of the model.

    Weights that hooks make of others before each call, as pruning and `weight_norm` do, are copied
    too. Raises `ValueError`, saying why, for a model that does not let itself be copied.
    """
    made = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(model, made)
    except Exception as fault:
        raise ValueError(
            f"the model cannot be copied ({type(fault).__name__}: {fault}): make it one that "
            "copy.deepcopy takes"
        ) from fault


@contextmanager
def undisturbed() -> Iterator[None]:
    """Work on networks whatever the caller's mode, and leave its random generators as they were.

    Gradients can be taken under `torch.inference_mode()` too. `nn.TransformerEncoderLayer` calls
    its layers, which without gradients it would not do. Reentrant checkpoints, through which
    gradients reach nothing but their inputs, run what is in them.
    """
    together, reentrant = mha.get_fastpath_enabled(), checkpoint.CheckpointFunction
    try:
        mha.set_fastpath_enabled(False)
        checkpoint.CheckpointFunction = _Direct  # type: ignore[misc, assignment]
        with torch.inference_mode(False), torch.random.fork_rng(), as_rows(False):
            yield
    finally:
        mha.set_fastpath_enabled(together)
        checkpoint.CheckpointFunction = reentrant  # type: ignore[misc]


@contextmanager
def as_users_run() -> Iterator[None]:
    """Inside `undisturbed`, as the user's own calls run: to be timed."""
    together = mha.get_fastpath_enabled()
    try:
        mha.set_fastpath_enabled(True)
        with as_rows(False):
            yield
    finally:
        mha.set_fastpath_enabled(together)


class _Direct:
    """As `torch.utils.checkpoint.CheckpointFunction`, without a checkpoint."""

    @staticmethod
    def apply(function: Callable[..., Any], _: bool, *args: Any) -> Any:
        return function(*args)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every module's training flag is as before afterwards.

    What the network draws at random is the same each time.
    """
    modes = {module: module.training for module in model.modules()}
    cuda = torch.cuda.is_initialized()  # else no parameter can be there, and many need no look
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"} if cuda else set()
    try:
        if any(modes.values()):  # else layers would forget what they keep for eval
            model.eval()
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.default_generator.manual_seed(0)
            if devices:
                torch.cuda.manual_seed_all(0)
            yield
    finally:
        for module, training in modes.items():
            if module.training != training:
                module.training = training


@contextmanager
def hooked(handles: list[Any]) -> Iterator[None]:
    """Remove hooks in the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def batched(x: Tensor, order: int) -> Tensor:
    """An input with its batch axis, of size 1 where it had none."""
    return x.unsqueeze(0) if order and x.dim() == order + 1 else x


def tensors(output: Any) -> list[Tensor]:
    """The floating-point tensors in what a network returned, in a fixed order; else all tensors.

    Complex ones are seen as their real and imaginary parts. Raises `TypeError` where there is none.
    """
    found = [
        torch.view_as_real(one.resolve_conj()) if one.is_complex() else one
        for one in members(output)
    ]
    real = [one for one in found if one.is_floating_point()]
    if not found:
        raise TypeError(
            f"the model returned {type(output).__name__} without a tensor: its change cannot be "
            "measured; wrap it in a module that returns tensors"
        )
    return real or found


def shapes(batch: Batch) -> tuple[tuple[int, ...], ...]:
    """Those of all tensors in a batch, in a fixed order."""
    return tuple(tuple(one.shape) for one in members(batch))


def members(output: Any) -> Iterator[Tensor]:
    """The tensors in what a network takes or gives, in a fixed order."""
    if isinstance(output, Tensor):
        yield output
        return
    if isinstance(output, Mapping):
        output = list(output.values())
    elif is_dataclass(output) and not isinstance(output, type):
        output = [getattr(output, one.name) for one in fields(output)]
    if isinstance(output, Sequence) and not isinstance(output, str):
        for value in output:
            yield from members(value)


def outputs(model: nn.Module, batches: Sequence[Batch]) -> list[list[Tensor]]:
    """What the model returns for each batch, in eval mode."""
    with evaluating(model):
        return [tensors(call(model, batch)) for batch in batches]
