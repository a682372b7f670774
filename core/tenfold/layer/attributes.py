"""What networks ask of the modules that they hold, as `nn.ConvNd` and `nn.Linear` have it."""

from __future__ import annotations

from .config import ConvConfig


class ConvAttributes:
    """The arguments of a convolution as attributes: `layer.out_channels`, `layer.stride`…

    A linear layer, of order 0, has `in_features` and `out_features` too.
    """

    config: ConvConfig

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
