"""Odd values in the places of good ones, and what a call that is refused must say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from hypothesis import note, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import Energy, Error, Multiple

ODD_NUMBERS = [0, -1, 1, 2, 3, 10**15, 10**30, -(2**70), 0.0, 0.5, 1.0, 2.5, -0.5, 1e-9]
ODD_NUMBERS += [float("nan"), float("inf"), float("-inf"), True, False, 1j]
ODD_NUMBERS += [np.int64(2), np.float32(0.5), np.bool_(True), torch.tensor(2), torch.tensor([1, 2])]
ODD_THINGS = [None, "", "2", "same", "valid", "zeros", "circular", "cp", "CP ", "tucker", "banana"]
ODD_THINGS += ["a\nb", b"cp", [], (), {}, {"sweeps": 2}, set(), object(), int, nn.Conv2d, Ellipsis]
ODD_THINGS += [torch.float32, torch.int8, torch.zeros(2), torch.device("cpu"), range(2), len]
ODD_THINGS += [Error(0.2), Energy(0.9), Multiple(2), Multiple(2, of=0.5), np.array([3, 3])]
one_odd = st.sampled_from(ODD_NUMBERS) | st.sampled_from(ODD_THINGS)
several_odd = st.lists(st.sampled_from([*ODD_NUMBERS, None, "3"]), max_size=4).flatmap(
    lambda values: st.sampled_from([values, tuple(values)])
)
odd = one_odd | several_odd


def spoiled(arguments: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """One to three of the arguments, replaced."""
    names = st.lists(st.sampled_from(sorted(arguments)), min_size=1, max_size=3, unique=True)
    return names.flatmap(lambda some: st.fixed_dictionaries(dict.fromkeys(some, odd)))


def outcome(call: Any, base: dict[str, Any], replaced: dict[str, Any], **given: Any) -> Any:
    """What the call gives; None where it is refused as it should be."""
    try:
        return call(**{**base, **replaced}, **given)
    except (ValueError, TypeError) as refusal:
        kind, said = type(refusal), str(refusal)
    note(said)
    assert kind in (ValueError, TypeError)
    assert any(re.search(rf"\b{name}\b", said) for name in replaced)
    assert "\n" not in said
    return None


settings.register_profile("fuzz", max_examples=400, deadline=None)
fuzzed = settings(settings.get_profile("fuzz"))
