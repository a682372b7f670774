"""What networks ask of the modules that they hold, as `nn.ConvNd` and `nn.Linear` have it."""

from __future__ import annotations

from torch import nn

from ..plugin import Choice, Implementation
from .config import ConvConfig
from .kernel import FactorizedKernel


class ConvAttributes:
    """The arguments of a layer as attributes: `layer.out_channels`, `layer.stride`, `layer.rank`…

    A linear layer, of order 0, has `in_features` and `out_features` too.
    """

    config: ConvConfig
    weight: FactorizedKernel
    bias: nn.Parameter | None
    runner: Choice[Implementation]

    @property
    def order(self) -> int:
        """The number of spatial axes."""
        return self.config.order

    @property
    def rank(self) -> int | tuple[int, ...]:
        """The realised rank; given as `rank=`, it makes a layer of the same shapes."""
        return self.weight.rank

    @property
    def factorization(self) -> str:
        """The name of the format."""
        return self.weight.factorization

    @property
    def implementation(self) -> str:
        """The name of the way it runs."""
        return self.runner.name

    @property
    def in_channels(self) -> int:
        return self.config.in_channels

    @property
    def out_channels(self) -> int:
        return self.config.out_channels

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return self.config.kernel_size

    @property
    def stride(self) -> tuple[int, ...]:
        return self.config.stride

    @property
    def padding(self) -> tuple[int, ...] | str:
        return self.config.padding

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.config.dilation

    @property
    def groups(self) -> int:
        return self.config.groups

    @property
    def padding_mode(self) -> str:
        return self.config.padding_mode

    @property
    def transposed(self) -> bool:
        return self.config.transposed

    @property
    def output_padding(self) -> tuple[int, ...]:
        return self.config.output_padding

    @property
    def in_features(self) -> int:
        return self._linear("in_features").in_channels

    @property
    def out_features(self) -> int:
        return self._linear("out_features").out_channels

    def _linear(self, name: str) -> ConvConfig:
        if self.config.order:
            raise AttributeError(f"a convolution has no {name}")
        return self.config
