"""Decompose a kernel in any format: checks before it, scale and balance after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ..algebra import (
    SecondMoment,
    Whitening,
    affordable,
    alternating_least_squares,
    balance,
    on_one_thread,
    weighted_least_squares,
    whiten,
)
from ..arguments import check_options
from ..network import KernelNetwork, KernelSum, with_group
from ..plugin import Factorization, Sum, ask_hooks, label
from .error import relative_error

COMPLEX_SWEEPS = 100  # formats' own decompositions are of real kernels


def with_options(factorization: Factorization, options: Mapping[str, Any] | None) -> Factorization:
    """The format with some of its options changed.

    Raises `ValueError` or `TypeError` for an option that the format does not take, or not so.
    """
    defaults = {field.name: getattr(factorization, field.name) for field in fields(factorization)}
    checked = check_options(options, defaults, type(factorization).__name__)
    return replace(factorization, **checked) if checked else factorization


def check_finite(kernel: Tensor) -> None:
    """Refuse a kernel with NaN or infinity, with a `ValueError`."""
    if kernel.is_meta or bool(torch.isfinite(kernel.detach().norm())):  # faster than each
        return
    if not bool(torch.isfinite(kernel).all()):
        bad = int((~torch.isfinite(kernel)).sum())
        raise ValueError(
            f"the kernel of shape {tuple(kernel.shape)} has {bad} values that are NaN or infinite:"
            " repair or re-train the layer before it is decomposed"
        )
    if kernel.dtype == torch.float64:
        raise ValueError("the kernel has values whose squares overflow: scale the layer down")


@torch.no_grad()
def decompose(
    factorization: Factorization,
    kernel: Tensor,  # (groups, out, in, *k)
    network: KernelNetwork,
    dtype: torch.dtype,
    generator: torch.Generator | None = None,
    moment: SecondMoment | None = None,
) -> list[Tensor]:
    """Find the factors of `network` for `kernel`, in `dtype` and on the kernel's device.

    The work is done in the kernel's dtype, on the kernel scaled to norm 1, so its scale does not
    matter; the factors come back with equal norms. Wrapped by the hook
    `tenfold_decompose`. With a `moment` the kernel is decomposed in its norm as well: with the
    moment split over the factors, and by alternating least squares from there with the whole of it,
    where that is affordable. The factors with the smallest output error are returned.

    The kernel is finite: its callers see to it by `check_finite`. Raises `RuntimeError` where the
    format returns something else than finite factors of the network's shapes.
    """
    if kernel.device.type == "meta":
        return [kernel.new_empty(shape, dtype=dtype) for shape in network.shapes]
    if isinstance(network, KernelSum):
        return backfitted(factorization, kernel, network, dtype, generator, moment)
    grouped = with_group(network)
    work = unfolded(kernel, grouped)
    found = [_balanced(factorization, work, grouped, generator)]
    if moment is not None:
        turning = whitening_of(moment, kernel, grouped)
        turned = turning.turned(work, grouped.open_modes)
        factors = _balanced(factorization, turned, grouped, generator)
        found.append(balance(turning.restored(factors), grouped.constants))
        if affordable(moment, kernel):
            inputs = [grouped.sizes[mode] for mode in (*grouped.ins, *grouped.spatial)]
            seen = turning.seen(moment.matrix.to(work), inputs, moment.patches)
            refined = weighted_least_squares(turned, grouped, factors, seen)
            found.append(balance(turning.restored(refined), grouped.constants))
    stored = [
        [
            factor.reshape(shape).to(dtype).contiguous()
            for factor, shape in zip(factors, network.shapes, strict=True)
        ]
        for factors in found
    ]
    if moment is None:
        return stored[0]
    whole = kernel.flatten(0, 1)
    return min(stored, key=lambda one: moment.output_error(whole, network.to_tensor(one)))


def backfitted(
    factorization: Factorization,
    kernel: Tensor,  # (groups, out, in, *k)
    network: KernelSum,
    dtype: torch.dtype,
    generator: torch.Generator | None,
    moment: SecondMoment | None,
) -> list[Tensor]:
    """Fit each term of a sum to what the others leave; the round with the least error counts."""
    assert isinstance(factorization, Sum)
    whole = kernel.flatten(0, 1)
    made = [torch.zeros_like(whole) for _ in network.terms]
    found: list[list[Tensor]] = [[] for _ in network.terms]
    best, least = found, float("inf")
    for _ in range(max(1, factorization.sweeps)):
        for place, (term, inner) in enumerate(zip(factorization.terms, network.terms, strict=True)):
            left = (whole - sum(made) + made[place]).reshape(kernel.shape)
            found[place] = decompose(term, left, inner, kernel.dtype, generator, moment)
            made[place] = inner.to_tensor(found[place])
        now = sum(made, torch.zeros_like(whole))
        error = relative_error(whole, now) if moment is None else moment.output_error(whole, now)
        if error < least:
            best, before, least = list(found), least, error
        if not error < (1 - factorization.tolerance) * (before if error == least else least):
            break
    if moment is None:
        best = polished(kernel, network, best, factorization)
    return [factor.to(dtype).contiguous() for part in best for factor in part]


def polished(
    kernel: Tensor, network: KernelSum, found: list[list[Tensor]], factorization: Sum
) -> list[list[Tensor]]:
    """Rounds of alternating least squares over the factors of all terms, from where they are."""
    groups = [with_group(term) for term in network.terms]
    now = [
        [factor.reshape(shape) for factor, shape in zip(part, term.shapes, strict=True)]
        for part, term in zip(found, groups, strict=True)
    ]
    for _ in range(factorization.sweeps):
        for place, (format_, term) in enumerate(zip(factorization.terms, groups, strict=True)):
            made = [t.to_tensor(f) for t, f in zip(groups, now, strict=True)]
            left = kernel.flatten(0, 1) - sum(made) + made[place]
            now[place] = alternating_least_squares(
                unfolded(left, term),
                term,
                start=now[place],
                constants=format_.constants(term, kernel),
                sweeps=1,
            )
    return [
        [factor.reshape(shape) for factor, shape in zip(part, term.shapes, strict=True)]
        for part, term in zip(now, network.terms, strict=True)
    ]


def whitening_of(moment: SecondMoment, kernel: Tensor, network: KernelNetwork) -> Whitening:
    """Split a moment over the factors of a network for `kernel`, `(groups, out, in, *k)`.

    Raises `ValueError` for the moment of a convolution of another shape.
    """
    shape = (len(kernel) * kernel.shape[1], *kernel.shape[2:])
    if moment.shape != shape:
        raise ValueError(
            f"moment is of a convolution with a {moment.shape} kernel; this one has {shape}: give "
            "each layer its own"
        )
    inputs = [network.sizes[mode] for mode in (*network.ins, *network.spatial)]
    return whiten(moment.matrix.to(kernel), inputs, network.factors, network.constants)


def unfolded(kernel: Tensor, network: KernelNetwork) -> Tensor:
    """A kernel `(groups, out, in, *k)` with an axis for each open mode of such a network."""
    return kernel.reshape([network.sizes[mode] for mode in network.open_modes])


def _balanced(
    factorization: Factorization,
    kernel: Tensor,  # (groups, out, in, *k)
    network: KernelNetwork,
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Decompose each group's kernel at norm 1, and give the factors equal norms."""
    norms = kernel.flatten(1).norm(dim=1)
    norms = torch.where(norms > 0, norms, torch.ones_like(norms))
    scale = norms.reshape(-1, *(1,) * (kernel.dim() - 1))
    with on_one_thread(kernel.numel()):
        found: Any
        if kernel.is_complex():
            found, author = _complex(factorization, kernel / scale, network, generator), None
        else:
            found, author = ask_hooks(
                "tenfold_decompose",
                factorization=factorization,
                kernel=kernel / scale,
                network=network,
                generator=generator,
            )

    def who() -> str:
        return author or label(factorization, "decompose")

    if not isinstance(found, Sequence) or not all(isinstance(one, Tensor) for one in found):
        kinds = [type(factor).__name__ for factor in found] if isinstance(found, list) else found
        raise RuntimeError(f"{who()} gave {kinds}, not a list of floating-point tensors")
    if not all(factor.is_floating_point() or kernel.is_complex() for factor in found):
        kinds = [str(factor.dtype) for factor in found]
        raise RuntimeError(f"{who()} gave {kinds}, not a list of floating-point tensors")
    factors = [factor.detach() for factor in found]
    shapes = [tuple(factor.shape) for factor in factors]
    if shapes != list(network.shapes):
        raise RuntimeError(f"{who()} gave factors {shapes}, not {list(network.shapes)}")
    if not all(bool(torch.isfinite(factor).all()) for factor in factors):
        raise RuntimeError(f"{who()} gave factors that are not finite")
    for index, values in factorization.constants(network, kernel).items():
        factors[index] = values
    first = network.free[0]
    factors[first] = factors[first] * norms.reshape(-1, *(1,) * (factors[first].dim() - 1))
    return balance(factors, network.constants)


def _complex(
    factorization: Factorization,
    kernel: Tensor,
    network: KernelNetwork,
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Factors of a complex kernel, in any format by alternating least squares."""
    return alternating_least_squares(
        kernel,
        network,
        generator=generator,
        constants=factorization.constants(network, kernel),
        sweeps=max(COMPLEX_SWEEPS, factorization.sweeps),
        tolerance=factorization.tolerance,
    )
