"""Dropout and lasso by TensorLy-Torch's names, on the weights of layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import bonds as ours


def tensor_dropout(
    factorized_tensor: nn.Module,
    p: float = 0,
    min_dim: int | None = None,
    min_values: int | None = None,
    drop_test: bool = False,
) -> nn.Module:
    """`tenfold.bonds.tensor_dropout`: each index of a bond is dropped with probability `p`.

    Raises as that, and `ValueError` for the other arguments: every bond takes part, and nothing is
    dropped in eval.
    """
    others = {"min_dim": min_dim, "min_values": min_values, "drop_test": drop_test or None}
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"{name}={value!r}: every bond takes part, in training; leave it out")
    return ours.tensor_dropout(factorized_tensor, p)


def remove_tensor_dropout(factorized_tensor: nn.Module) -> nn.Module:
    """`tenfold.bonds.remove_tensor_dropout`; raises as that."""
    return ours.remove_tensor_dropout(factorized_tensor)


class TensorLasso:
    """Gates on the bonds of several layers, and one loss; as `tenfold.bonds.tensor_lasso` has them.

    >>> from tenfold import tltorch
    >>> layer = tltorch.FactorizedConv(8, 8, 3, order=2, rank=4)
    >>> lasso = tltorch.tensor_lasso("cp", penalty=0.5)
    >>> lasso.apply(layer.weight)
    >>> lasso.loss.item()
    0.5
    >>> lasso.remove(layer.weight)
    """

    def __init__(
        self,
        penalty: float = 0.01,
        clamp_weights: bool = True,
        threshold: float = 1e-6,
        normalize_loss: bool = True,
    ) -> None:
        self.scale, self.threshold, self.normalize = penalty, threshold, normalize_loss
        self.found: dict[nn.Module, ours.TensorLasso] = {}
        self.counts: dict[nn.Module, float] = {}

    def apply(self, module: nn.Module) -> None:
        """Put gates on a module's bonds; raises as `tenfold.bonds.tensor_lasso`."""
        self.found[module] = found = ours.tensor_lasso(module, self.threshold)
        self.counts[module] = float(found.penalty().detach())  # gates are 1 at first

    @property
    def loss(self) -> Tensor:
        """The sum of the gates' sizes, as a fraction of their number where that was asked for."""
        if not self.found:
            return torch.zeros(())
        total = torch.stack([one.penalty() for one in self.found.values()]).sum()
        return total * self.scale / (sum(self.counts.values()) if self.normalize else 1)

    def reset(self) -> None:
        """Nothing: the loss is that of the gates as they are."""

    def remove(self, module: nn.Module) -> None:
        """Fold a module's gates into its factors; raises `KeyError` where it has none."""
        self.found.pop(module).remove()
        del self.counts[module]


def tensor_lasso(
    factorization: str = "CP",
    penalty: float = 0.01,
    clamp_weights: bool = True,
    threshold: float = 1e-6,
    normalize_loss: bool = True,
) -> TensorLasso:
    """A lasso to `apply` to layers of any format, whichever `factorization` says.

    Raises nothing. Gates are not clamped.
    """
    return TensorLasso(penalty, clamp_weights, threshold, normalize_loss)
