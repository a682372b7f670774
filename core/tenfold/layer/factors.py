"""A module that holds factors, where PyTorch expects a tensor: what is asked of it as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self

NO_TENSOR = (
    "it holds factors. To draw it anew, call layer.reset_parameters(); to read it, to_tensor(); "
    "fold a batch norm, as fuse() does, into the dense convolution before that is compressed"
)
# of a tensor, which says what it is and not what is in it
TOLD = {"dim", "is_complex", "is_cuda", "is_floating_point", "layout", "ndim", "size"}


class Factors(nn.Module):
    """Stands as a layer's `weight`, and refuses what only a tensor can do.

    It has `factors`, and a `shape`.
    """

    factors: Any
    shape: Any

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As every module's, but a factor of four or five modes is no image, and stays as it is
        under `.to(memory_format=…)`."""

        def of_a_row(tensor: Tensor) -> Tensor:
            return fn(tensor.flatten()).reshape(tensor.shape) if tensor.dim() > 3 else fn(tensor)

        applied: Self = super()._apply(of_a_row, recurse)  # type: ignore[no-untyped-call]
        return applied

    def __getattr__(self, name: str) -> Any:
        """What a dense kernel would tell of itself, as networks ask in `forward`.

        What it would have beside that, as initialisers and `fuse()` ask, is refused.
        """
        try:
            return super().__getattr__(name)
        except AttributeError as fault:
            if name in TOLD:
                return getattr(self.factors[0].new_empty(()).expand(self.shape), name)
            if name.startswith("_") or not hasattr(Tensor, name):
                raise
            raise AttributeError(f"{fault}: {NO_TENSOR}") from None

    def __mul__(self, other: object) -> Any:  # PyTorch's own folding of a batch norm begins so
        raise TypeError(f"a FactorizedKernel is no tensor: {NO_TENSOR}")

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse what PyTorch's functions would do with a tensor.

        As `nn.TransformerEncoderLayer` finds this, it calls its layers and does not read weights.
        """
        name = getattr(function, "__name__", function)
        raise TypeError(f"{name} takes a tensor, which a FactorizedKernel is not: {NO_TENSOR}")
