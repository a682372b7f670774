"""What an optimizer remembers of a parameter, carried over to those that take its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ..arguments import check_kind
from ..optim import SOAP

FIRST = ("momentum_buffer", "exp_avg")  # averages of gradients
SECOND = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")  # averages of their squares
COUNTS = ("step",)
States = list[dict[str, Any]]
Carried = Callable[[str, bool, list[Tensor]], list[Tensor]]  # (key, whether squares, the old)


def check_optimizer(optimizer: Any, parameters: Sequence[nn.Parameter]) -> None:
    """Refuse what is no optimizer, or one that remembers what cannot be carried over.

    Raises `TypeError` and `ValueError`.
    """
    if optimizer is None:
        return
    check_kind("optimizer", optimizer, Optimizer)
    if isinstance(optimizer, SOAP):
        return
    for parameter in parameters:
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None and key not in (*FIRST, *SECOND, *COUNTS):
                raise ValueError(
                    f"optimizer={type(optimizer).__name__} keeps {key!r}, which is not carried "
                    "over (those of SGD, Adam, AdamW and RMSprop are): give None, and make the "
                    "optimizer anew"
                )


def carry(
    optimizer: Optimizer | None,
    old: Sequence[nn.Parameter],
    new: Sequence[nn.Parameter],
    carried: Carried,
) -> None:
    """Have `optimizer` train `new` in the place of `old`, with what it remembers of these.

    `carried` turns what is kept of the old parameters under a key into what the new ones keep.
    Where some of the old are not trained, or have no state yet, the new start with none; and so by
    SOAP, whose basis is of the old.
    """
    if optimizer is None:
        return
    states = [optimizer.state.pop(parameter, {}) for parameter in old]
    made = _carried([] if isinstance(optimizer, SOAP) else states, new, carried)
    if not _replace(optimizer, old, new):
        return
    for parameter, state in zip(new, made, strict=True):
        if state and parameter.requires_grad:
            optimizer.state[parameter] = state


def in_order(optimizer: Optimizer | None, model: nn.Module) -> None:
    """Give each group the parameters in the model's order, as an optimizer made anew has them.

    A state is loaded by that order. Groups that hold others stay.
    """
    places = {id(parameter): place for place, parameter in enumerate(model.parameters())}
    for group in [] if optimizer is None else optimizer.param_groups:
        if all(id(parameter) in places for parameter in group["params"]):
            group["params"].sort(key=lambda parameter: places[id(parameter)])


def _carried(states: States, new: Sequence[nn.Parameter], carried: Carried) -> States:
    made: States = [{} for _ in new]
    if not states or not all(states):
        return made
    for key, value in states[0].items():
        if key in COUNTS:
            for state in made:
                state[key] = value.clone() if isinstance(value, Tensor) else value
        elif all(isinstance(state.get(key), Tensor) for state in states):
            kept = carried(key, key in SECOND, [state[key] for state in states])
            for state, one, parameter in zip(made, kept, new, strict=True):
                state[key] = one.to(parameter.dtype).contiguous()
    return made


def _replace(
    optimizer: Optimizer, old: Sequence[nn.Parameter], new: Sequence[nn.Parameter]
) -> bool:
    """Put the new where the first of the old is, in a group; whether there is any.

    Factors go to the group that decays nothing, where the optimizer has one.
    """
    gone = {id(parameter) for parameter in old}
    home: dict[str, Any] | None = None
    place = 0
    for group in optimizer.param_groups:
        held = [id(parameter) in gone for parameter in group["params"]]
        if any(held) and home is None:
            home, place = group, held.index(True)
        group["params"] = [p for p in group["params"] if id(p) not in gone]
    if home is None:
        return False
    plain = [group for group in optimizer.param_groups if _decays_nothing(group)]
    if plain and not _decays_nothing(home):
        home, place = plain[0], len(plain[0]["params"])
    home["params"][place:place] = [p for p in new if p.requires_grad]
    return True


def _decays_nothing(group: Mapping[str, Any]) -> bool:
    return bool(group.get("weight_decay", 0) == 0)
