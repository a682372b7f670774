"""Embeddings whose rows are made of small factors when they are asked for."""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import check_count, check_generator, check_kind
from ..network import KernelNetwork, parts_of, plan_contraction, terms_of
from ..plugin import Factorization, factorizations
from .kernel import FactorizedKernel

ROW, MANY = "row", 4096  # the mode of the rows asked for; how many the path is planned for


class FactorizedEmbedding(nn.Module):
    """A table `(num_embeddings, embedding_dim)` as a tensor network; only rows asked for are made.

    Indices of any shape `(…)` to `(…, embedding_dim)`, as `nn.Embedding`. In a format that splits
    the channels the table is given some more rows than it needs, so that their number is a product
    of numbers near each other; none of them is given out. `padding_idx` gives zeros, which learn
    nothing; gradients of factors are dense, so there is no `sparse`, nor a `max_norm`. The rows are
    drawn with variance 1, as `nn.Embedding`'s.

    Args:
        rank, factorization, generator: as `FactorizedConv`.

    Raises `ValueError` or `TypeError` for a bad argument. Hrinchuk et al. 2020, "Tensorized
    embedding layers", arXiv 1901.10787.

    >>> table = FactorizedEmbedding(50_257, 512, rank=16, padding_idx=0)
    >>> table(torch.tensor([[0, 7], [50_256, 3]])).shape, table.weight.numel()
    (torch.Size([2, 2, 512]), 85248)
    >>> table.reset_parameters()
    >>> table.extra_repr()
    "50257, 512, padding_idx=0, rank=(16, 16), factorization='tt_matrix'"
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "tt_matrix",
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if sparse:
            raise ValueError("sparse=True: the gradients of factors are dense; leave it out")
        check_count("num_embeddings", num_embeddings)
        check_count("embedding_dim", embedding_dim)
        check_generator(generator)
        rows = padded(num_embeddings, embedding_dim, factorization)
        kernel = FactorizedKernel.new(
            (rows, embedding_dim),
            rank=rank,
            factorization=factorization,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self._take(kernel, num_embeddings, padding_idx)
        self.reset_parameters(generator)

    @classmethod
    def from_embedding(
        cls,
        embedding: nn.Embedding,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "tt_matrix",
        **options: Any,
    ) -> FactorizedEmbedding:
        """Replace an `nn.Embedding`, which stays untouched; its table is decomposed.

        `options` are those of `FactorizedKernel.from_tensor`. Raises `TypeError` for another
        module, and `ValueError` for one that is sparse or has a `max_norm`.

        >>> table = nn.Embedding(10, 6)
        >>> near = FactorizedEmbedding.from_embedding(table, rank=10**9)
        >>> relative_error(table.weight, near(torch.arange(10))) < 1e-5
        True
        """
        check_kind("embedding", embedding, nn.Embedding)
        if embedding.sparse or embedding.max_norm is not None:
            raise ValueError(
                f"embedding with sparse={embedding.sparse}, max_norm={embedding.max_norm}: factors "
                "have neither; make one without"
            )
        count, width = embedding.num_embeddings, embedding.embedding_dim
        weight = embedding.weight.detach()
        missing = padded(count, width, factorization) - count
        table = torch.cat([weight, weight.new_zeros(missing, width)])
        made = cls.__new__(cls)
        kernel = FactorizedKernel.from_tensor(
            table, rank=rank, factorization=factorization, **options
        )
        made._take(kernel, count, embedding.padding_idx)
        made.weight.requires_grad_(embedding.weight.requires_grad)
        return made.train(embedding.training)

    def _take(self, kernel: FactorizedKernel, count: int, padding_idx: int | None) -> None:
        if padding_idx is not None and not -count <= padding_idx < count:
            raise ValueError(f"padding_idx={padding_idx!r} must be within the {count} rows")
        super().__init__()
        self.weight = kernel
        self.num_embeddings, self.embedding_dim = count, kernel.shape[1]
        self.padding_idx = None if padding_idx is None else padding_idx % count

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the table anew. Raises `RuntimeError`, of PyTorch's, for a generator elsewhere."""
        self.weight.reset_parameters(1.0, generator)

    def forward(self, indices: Tensor) -> Tensor:
        """The rows of `indices`, `(…)` to `(…, embedding_dim)`.

        Raises `TypeError` where they are no integers, and `IndexError` for one out of range.
        """
        if not isinstance(indices, Tensor) or indices.dtype not in (torch.int32, torch.int64):
            raise TypeError("indices must be a tensor of int32 or int64")
        if indices.is_cpu and indices.numel() and not torch.compiler.is_compiling():
            low, high = (int(one) for one in indices.aminmax())
            if low < 0 or high >= self.num_embeddings:
                raise IndexError(f"indices from {low} to {high} are not all of the "
                                 f"{self.num_embeddings} rows")  # fmt: skip
        flat = indices.flatten()
        network = self.weight.network
        parts = parts_of(network, self.weight.current())
        rows = [rows_of(t, f, flat) for t, f in zip(terms_of(network), parts, strict=True)]
        found = rows[0]
        for one in rows[1:]:
            found = found + one
        if self.padding_idx is not None:
            found = found * (flat != self.padding_idx).unsqueeze(1).to(found.dtype)
        return found.reshape(*indices.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        """The table's shape, and how it is factorized; raises nothing."""
        words = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            words += f", padding_idx={self.padding_idx}"
        return f"{words}, rank={self.weight.rank}, factorization={self.weight.choice.spelled}"


def rows_of(network: KernelNetwork, factors: list[Tensor], indices: Tensor) -> Tensor:
    """Some rows of a table, `(rows, dim)`: each part of `out` by its digit of the index."""
    digits: dict[str, Tensor] = {}
    for mode in reversed(network.outs):
        digits[mode] = indices % network.sizes[mode]
        indices = torch.div(indices, network.sizes[mode], rounding_mode="floor")
    modes = []
    for place, names in enumerate(network.factors):
        mine = [mode for mode in names if mode in digits]
        if len(mine) > 1:
            names, factors[place] = _flattened(network, names, mine, factors[place])
            which = sum_of_digits(network, mine, digits)
        elif mine:
            which = digits[mine[0]]
        if mine:
            factors[place] = factors[place].index_select(names.index(mine[0]), which)
        modes.append(tuple(ROW if mode in digits else mode for mode in names))
    sizes = {**network.sizes, ROW: MANY}
    contraction = plan_contraction(modes, (ROW, *network.ins), sizes)
    return contraction(factors).flatten(1)


def _flattened(
    network: KernelNetwork, names: tuple[str, ...], mine: list[str], factor: Tensor
) -> tuple[tuple[str, ...], Tensor]:
    """A factor with all its parts of `out` in one axis, the first."""
    rest = tuple(mode for mode in names if mode not in mine)
    moved = factor.permute([names.index(mode) for mode in (*mine, *rest)])
    return (mine[0], *rest), moved.flatten(0, len(mine) - 1)


def sum_of_digits(network: KernelNetwork, mine: list[str], digits: dict[str, Tensor]) -> Tensor:
    """The place in that axis."""
    found = digits[mine[0]]
    for mode in mine[1:]:
        found = found * network.sizes[mode] + digits[mode]
    return found


def padded(count: int, width: int, factorization: str | Factorization | type[Factorization]) -> int:
    """The rows of a table for so many: where they are split, a product of numbers alike."""
    network = factorizations.choose(factorization).plugin.network((count, width), 1)
    left, rows = count, 1
    for place in range(len(network.outs), 0, -1):
        part = max(1, round(left ** (1 / place)))
        part += part**place < left
        rows *= part
        left = ceil(left / part)
    return rows if len(network.outs) > 1 else count
