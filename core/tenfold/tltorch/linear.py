"""Linear layers, embeddings and heads by TensorLy-Torch's names, and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .. import layer as ours
from .layers import check_single
from .spelling import matrix, options_of

Parts = Sequence[int]


class FactorizedLinear(ours.FactorizedLinear):
    """`tenfold.FactorizedLinear` with TensorLy-Torch's arguments, in their order and by default.

    The formats `"cp"`, `"tucker"` and `"blocktt"` are `cp_matrix`, `tucker_matrix` and `tt_matrix`.
    Raises as `tenfold.FactorizedLinear`, and `ValueError` for `checkpointing`, which is
    `torch.utils.checkpoint` around the layer.
    """

    def __new__(cls, *given: Any, n_layers: int = 1, **named: Any) -> Any:
        check_single(n_layers)
        return super().__new__(cls)

    def __init__(
        self,
        in_tensorized_features: Parts,
        out_tensorized_features: Parts,
        bias: bool = True,
        factorization: Any = "cp",
        rank: Any = "same",
        implementation: Any = "factorized",
        n_layers: int = 1,
        checkpointing: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_single(n_layers)
        check_recomputed(checkpointing)
        super().__init__(
            in_tensorized_features,
            out_tensorized_features,
            bias,
            rank=rank,
            factorization=matrix(factorization),
            implementation=implementation,
            device=device,
            dtype=dtype,
        )

    @classmethod
    def from_linear(  # type: ignore[override]
        cls,
        linear: nn.Linear,
        rank: Any = "same",
        auto_tensorize: bool = True,
        n_tensorized_modes: int = 3,
        in_tensorized_features: Parts | None = None,
        out_tensorized_features: Parts | None = None,
        bias: bool = True,
        factorization: Any = "CP",
        implementation: Any = "reconstructed",
        checkpointing: bool = False,
        decomposition_kwargs: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> FactorizedLinear:
        """Replace an `nn.Linear`, whose bias it has, in `n_tensorized_modes` parts or as asked.

        Raises as `tenfold.FactorizedLinear.from_linear`.
        """
        check_recomputed(checkpointing)
        sides = {"ins": in_tensorized_features, "outs": out_tensorized_features}
        given = {name: tuple(one) for name, one in sides.items() if one is not None}
        count = len(next(iter(given.values()))) if given else n_tensorized_modes
        layer = super().from_linear(
            linear,
            rank=rank,
            factorization=matrix(factorization, parts=count, **given),
            implementation=implementation,
            decomposition_kwargs=options_of(decomposition_kwargs),
        )
        assert isinstance(layer, cls)
        return layer


def check_recomputed(checkpointing: bool) -> None:
    """Refuse recomputation in the layer itself, with a `ValueError`."""
    if checkpointing:
        raise ValueError("checkpointing=True: call it by torch.utils.checkpoint.checkpoint")


class FactorizedEmbedding(ours.FactorizedEmbedding):
    """`tenfold.FactorizedEmbedding` with TensorLy-Torch's arguments; the parts are always chosen.

    Raises as that, and `ValueError` for parts that are given.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        auto_tensorize: bool = True,
        n_tensorized_modes: int = 3,
        tensorized_num_embeddings: Parts | None = None,
        tensorized_embedding_dim: Parts | None = None,
        factorization: Any = "blocktt",
        rank: Any = 8,
        n_layers: int = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_single(n_layers)
        if not auto_tensorize or tensorized_num_embeddings or tensorized_embedding_dim:
            raise ValueError(
                f"tensorized_num_embeddings={tensorized_num_embeddings}, "
                f"tensorized_embedding_dim={tensorized_embedding_dim}: the parts are chosen here; "
                "give their number, n_tensorized_modes="
            )
        super().__init__(
            num_embeddings,
            embedding_dim,
            rank=rank,
            factorization=matrix(factorization, parts=n_tensorized_modes),
            device=device,
            dtype=dtype,
        )

    @classmethod
    def from_embedding(  # type: ignore[override]
        cls,
        embedding_layer: nn.Embedding,
        rank: Any = 8,
        factorization: Any = "blocktt",
        n_tensorized_modes: int = 2,
        decompose_weights: bool = True,
        auto_tensorize: bool = True,
        decomposition_kwargs: Mapping[str, Any] | None = None,
    ) -> FactorizedEmbedding:
        """Replace an `nn.Embedding`. Raises as `tenfold.FactorizedEmbedding.from_embedding`."""
        made = super().from_embedding(
            embedding_layer,
            rank=rank,
            factorization=matrix(factorization, parts=n_tensorized_modes),
            decomposition_kwargs=options_of(decomposition_kwargs),
        )
        assert isinstance(made, cls)
        if not decompose_weights:
            made.reset_parameters()
        return made


class TRL(ours.TensorRegression):
    """`tenfold.TensorRegression` with TensorLy-Torch's arguments; raises as that."""

    def __init__(
        self,
        input_shape: int | Parts,
        output_shape: int | Parts,
        bias: bool = False,
        verbose: int = 0,
        factorization: Any = "cp",
        rank: Any = "same",
        n_layers: int = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_single(n_layers)
        shape = (input_shape,) if isinstance(input_shape, int) else input_shape
        super().__init__(
            shape,
            output_shape,
            bias,
            rank=rank,
            factorization=factorization,
            device=device,
            dtype=dtype,
        )

    def init_from_linear(self, linear: nn.Linear, unsqueezed_modes: Any = None) -> None:
        """Take the weight of a linear layer after a flattening, at its own ranks.

        Raises as `tenfold.TensorRegression.from_linear`, and `ValueError` for `unsqueezed_modes`.
        """
        if unsqueezed_modes is not None:
            raise ValueError(f"unsqueezed_modes={unsqueezed_modes}: pool the input before it")
        kept = self.layer.weight
        self.layer = ours.TensorRegression.from_linear(
            linear, self.input_shape, rank=kept.rank, factorization=kept.choice.plugin
        ).layer


class TCL(ours.TensorContraction):
    """`tenfold.TensorContraction` with TensorLy-Torch's arguments: `rank` is the output's shape."""

    def __init__(
        self,
        input_shape: Parts,
        rank: int | Parts,
        verbose: int = 0,
        bias: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        shape = (rank,) * len(input_shape) if isinstance(rank, int) else rank
        super().__init__(input_shape, shape, bias, device=device, dtype=dtype)
