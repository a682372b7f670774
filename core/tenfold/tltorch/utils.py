"""TensorLy-Torch's room of lists and shapes."""

from torch.nn import ParameterList

from ..network import balanced

__all__ = ["ComplexFactorList", "FactorList", "ParameterList", "get_tensorized_shape"]

FactorList = ComplexFactorList = ParameterList


def get_tensorized_shape(
    in_features: int,
    out_features: int,
    order: int | None = None,
    min_dim: int = 2,
    verbose: bool = True,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both numbers as products of `order` parts, 3 by default, as near to each other as they allow.

    `min_dim` and `verbose` are not looked at. Raises as `tenfold.network.balanced`.
    """
    parts = 3 if order is None else order
    return balanced(in_features, parts), balanced(out_features, parts)
