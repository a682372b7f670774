"""The laws of hooks: a rank rule, a selector, and what wraps or replaces a decomposition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from .. import FactorizedConv, FactorizedKernel, factorizations, relative_error
from ..network import with_group
from ..plugin import only_hooks
from .example import Example
from .hook_subject import HookSubject, another
from .laws_of_formats import NOISE

FOREIGN = ("a request of nobody's", "Same", None, object())
ANSWERS = ("factorization", "rank", "implementation")  # what a selector may say of a layer


def its_ranks_are_taken(subject: HookSubject, example: Example) -> None:
    """Each request is answered with what core takes for a rank, or refused for want of a kernel."""
    kernel, format_ = subject.draw_kernel(example), subject.draw_format(example)
    for request in subject.asks:
        given = {"rank": request, "factorization": format_}
        with subject.anew():
            FactorizedKernel.from_tensor(kernel, **given)
        with subject.anew() as hooks:
            try:
                answer = _rank(hooks, request, kernel, format_, seen=False)
            except ValueError:
                continue  # it looks at a trained kernel
            assert answer is not None, f"rank={request!r} is answered with None without a kernel"
            FactorizedKernel.new(tuple(kernel.shape), **given)


def it_leaves_other_requests_to_others(subject: HookSubject, example: Example) -> None:
    """A request that is not its own is answered with None, with and without a kernel."""
    kernel, format_ = subject.draw_kernel(example), subject.draw_format(example)
    with subject.anew() as hooks:
        for request in FOREIGN:
            for seen in (True, False):
                answer = _rank(hooks, request, kernel, format_, seen)
                assert answer is None, f"rank={request!r} is answered with {answer!r}"


def its_ranks_depend_on_the_arguments_alone(subject: HookSubject, example: Example) -> None:
    """The answer is the same, whatever was asked before."""
    kernel, format_ = subject.draw_kernel(example), subject.draw_format(example)
    for request in subject.asks:
        with subject.anew() as hooks:
            alone = _rank(hooks, request, kernel, format_)
        with subject.anew() as hooks:
            _rank(hooks, request, another(kernel), format_)
            later = _rank(hooks, request, kernel, format_)
        said = f"rank={request!r} is answered with {alone!r}, and with {later!r} after another"
        assert later == alone, said


def it_leaves_the_kernel_alone(subject: HookSubject, example: Example) -> None:
    """The kernel that a hook is given is read, and not written to."""
    kernel, format_ = subject.draw_kernel(example), subject.draw_format(example)
    given = kernel[None].clone() / kernel.norm().clamp_min(1e-9)
    before = given.clone()
    with subject.anew() as hooks:
        if "tenfold_rank" in subject.hooks:
            for request in subject.asks:
                _rank(hooks, request, given[0], format_)
        if "tenfold_decompose" in subject.hooks:
            grouped = with_group(format_.network(kernel.shape, 2))
            split = given.view([grouped.sizes[mode] for mode in grouped.open_modes])
            hooks.tenfold_decompose(
                factorization=format_, kernel=split, network=grouped, generator=None
            )
    assert torch.equal(given, before), "the kernel was written to: work on kernel.clone()"


def its_choice_is_taken(subject: HookSubject, example: Example) -> None:
    """A layer is left to others, left dense, or given what `from_conv` takes and can do."""
    name, module = _layer(subject, example)
    with subject.anew() as hooks:
        answer = hooks.tenfold_select(name=name, module=module)
        if answer is None or isinstance(answer, bool):
            return
        assert isinstance(answer, dict), f"layer {name!r} is answered with {answer!r}"
        unknown = sorted(set(answer) - set(ANSWERS))
        assert not unknown, f"layer {name!r} is answered with {unknown}: {ANSWERS} are taken"
        FactorizedConv.from_conv(module, **answer)


def its_choice_depends_on_the_arguments_alone(subject: HookSubject, example: Example) -> None:
    """A layer is answered the same, whatever was asked before."""
    name, module = _layer(subject, example)
    with subject.anew() as hooks:
        alone = hooks.tenfold_select(name=name, module=module)
    with subject.anew() as hooks:
        for other in ("", *subject.asks):
            hooks.tenfold_select(name=other, module=nn.Conv2d(2, 3, 1))
            later = hooks.tenfold_select(name=name, module=module)
            said = f"layer {name!r} is answered with {alone!r}, and then with {later!r}"
            assert later == alone, said


def it_leaves_the_layer_alone(subject: HookSubject, example: Example) -> None:
    """The layer that a selector is shown keeps its numbers, dtype, mode and `requires_grad`."""
    name, module = _layer(subject, example)

    def state() -> list[object]:
        numbers = [(p.dtype, p.requires_grad, p.tolist()) for p in module.parameters()]
        return [module.training, *numbers, *dict(module.named_buffers())]

    before = state()
    with subject.anew() as hooks:
        hooks.tenfold_select(name=name, module=module)
    assert state() == before, f"layer {name!r} is changed"


def it_decomposes_no_worse(subject: HookSubject, example: Example) -> None:
    """Kernels, ranks, options, formats and groups are told apart, and none comes out worse.

    One decomposition after another, each differing from those before it in one thing, and the first
    once more: what is kept of one must not be given for another.
    """
    kernel = subject.draw_kernel(example)
    asked = list(_decompositions(kernel))
    with subject.anew():
        for what, given in [*asked, ("the first again", asked[0][1])]:
            made = FactorizedKernel.from_tensor(**given, generator=_seeded())
            error = relative_error(given["tensor"], made.to_tensor())
            with only_hooks():
                plain = FactorizedKernel.from_tensor(**given, generator=_seeded())
            usual = relative_error(given["tensor"], plain.to_tensor())
            said = f"{what}: {made!r} has error {error:.3f}, and without the hook {usual:.3f}"
            assert error <= usual + NOISE, said


def its_factors_follow_the_seed(subject: HookSubject, example: Example) -> None:
    """The same kernel and random state give the same factors."""
    kernel = subject.draw_kernel(example)
    found = []
    for _ in range(2):
        with subject.anew():
            found.append(FactorizedKernel.from_tensor(kernel, rank=2, generator=_seeded()))
    for one, other in zip(found[0].factors, found[1].factors, strict=True):
        assert torch.equal(one, other), "the factors differ under the same seed"


def _rank(hooks: Any, request: Any, kernel: Tensor, format_: Any, seen: bool = True) -> Any:
    shape = tuple(kernel.shape)
    shown = kernel[None] if seen else None
    return hooks.tenfold_rank(request=request, shape=shape, factorization=format_, kernel=shown)


def _layer(subject: HookSubject, example: Example) -> tuple[str, nn.Module]:
    """A layer as a network has it: its name, one that the plugin answers or another, and itself."""
    name = example.draw("name", st.sampled_from([*subject.asks, "body.0", "head"]))
    order = subject.orders[0]
    kinds: dict[int, list[Any]] = {
        1: [nn.Conv1d, nn.ConvTranspose1d],
        2: [nn.Conv2d, nn.ConvTranspose2d],
        3: [nn.Conv3d, nn.ConvTranspose3d],
    }
    if order not in kinds:
        return name, nn.Linear(6, 8)
    return name, example.draw("kind", st.sampled_from(kinds[order]))(6, 8, 3)


def _decompositions(kernel: Tensor) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arguments of `from_tensor`, each one thing from the ones before."""
    cp, first = factorizations["cp"], {"tensor": kernel, "rank": 1, "factorization": "tt"}
    yield "a kernel", first
    yield "another kernel of that shape", {**first, "tensor": another(kernel)}
    yield "the kernel at another rank", {**first, "rank": 10**9}
    yield "the kernel in groups", {**first, "tensor": torch.cat([kernel] * 2), "groups": 2}
    hard = torch.randn(8, 8, 9, generator=_seeded(), dtype=torch.float64)
    yield "in another format", {"tensor": hard, "rank": 20, "factorization": cp(sweeps=0)}
    yield "with other options", {"tensor": hard, "rank": 20, "factorization": cp(sweeps=50)}


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
