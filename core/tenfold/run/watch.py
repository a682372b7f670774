"""A tensor as it was: a change of it is noticed, at next to no cost."""

from __future__ import annotations

import ctypes
from math import gcd
from typing import NamedTuple

import torch
from torch import Tensor, nn

WHOLE = 4096  # bytes of a factor up to which all of it is compared on each call
SAMPLES = 128  # numbers that are compared of a larger one
WORDS = {1: "B", 2: "H", 4: "I", 8: "Q", 16: "Q"}  # what a number is compared as, by its bytes


class Watch(NamedTuple):
    """One tensor as it was, by what PyTorch changes with it and costs next to nothing to ask."""

    tensor: Tensor
    memory: Tensor  # an alias, which holds it
    version: int
    address: int
    stride: tuple[int, ...]
    shape: torch.Size
    dtype: torch.dtype
    buffer: ctypes.Array[ctypes.c_char] | None  # all of a small one's memory; on the CPU alone
    some: memoryview | None  # numbers spread over a large one's
    there: bytes | memoryview  # what was there

    @classmethod
    def of(cls, tensor: Tensor) -> Watch:
        buffer, some = None, None
        there: bytes | memoryview = b""
        address, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
        if tensor.is_cpu:
            memory = (ctypes.c_char * size).from_address(address)
            if size > WHOLE:
                some = _spread(memoryview(memory), tensor)
                there = memoryview(some.tobytes()).cast(some.format)  # type: ignore[call-overload]
            else:
                buffer, there = memory, memory.raw
        return cls(
            tensor,
            tensor.detach(),
            tensor._version,
            address,
            tensor.stride(),
            tensor.shape,
            tensor.dtype,
            buffer,
            some,
            there,
        )


def _spread(memory: memoryview, tensor: Tensor) -> memoryview:
    """Numbers at a step that has no divisor in common with any of the sizes, so that they are in
    every column of a narrow matrix and not in one alone."""
    words = memory.cast("B").cast(WORDS[tensor.element_size()])  # type: ignore[call-overload]
    step = max(1, len(words) // SAMPLES)
    while any(gcd(step, size) > 1 for size in tensor.shape):
        step += 1
    found: memoryview = words[::step]
    return found


def can_watch(tensor: Tensor | None) -> bool:
    """Whether a change of it can be noticed: it has memory and, no inference tensor, a version."""
    if tensor is None:
        return True
    plain = type(tensor) in (Tensor, nn.Parameter)
    return plain and not tensor.is_meta and not tensor.is_inference() and tensor.numel() > 0
