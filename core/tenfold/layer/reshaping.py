"""What changes a layer's size and keeps what it has learned."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .forward import Forward
from .holding import exchange
from .transduction import check_axis, freeze_others, stretched, transducted

if TYPE_CHECKING:
    from typing_extensions import Self


class Reshaping(Forward):
    """The methods of a `FactorizedConv` that change its size and keep what it has learned.

    >>> layer = FactorizedConv(16, 16, 3, order=2, rank=12, factorization="tt")
    >>> isinstance(layer, Reshaping)
    True
    """

    def round(self, rank: Any) -> Self:
        """A smaller layer of the same format, near this one, whose dense kernel is not made.

        `rank` is what `FactorizedConv` takes, with `Error` and `Energy` relative to this layer's
        own kernel, and a fraction to the dense kernel's parameters; no bond grows. See
        `FactorizedKernel.round` for the error. The bias, the geometry, the state and the hooks are
        copied. Raises `ValueError` or `TypeError` for a bad `rank`, and where nothing has values.

        >>> layer = FactorizedConv(16, 16, 3, order=2, rank=12, factorization="tt")
        >>> layer.round(rank=4).rank, layer.rank
        ((4, 4, 4), (12, 12, 12))
        """
        kernel = self.weight.round(rank)
        made = copy.deepcopy(self)
        exchange(made, kernel)
        return made

    def transduct(
        self,
        kernel_size: int,
        mode: int = 0,
        padding: int | None = None,
        stride: int = 1,
        dilation: int = 1,
        fine_tune_transduction_only: bool = False,
    ) -> Self:
        """Give this layer one more axis, `mode` of the new ones: from images to videos, say.

        Its kernel is zero there but at the centre, so that each frame is at first treated as
        before; `kernel_size` is odd, and the `padding` keeps the number of frames by default.
        `stride` and `dilation` are the new axis's too. In place; returns the layer, whose factors
        are new parameters: make the optimizer anew. With `fine_tune_transduction_only` all but the
        factors that have the new axis are frozen. Formats that have no place for one more axis
        beside the others, as `spatial_svd`, are decomposed anew, exactly.

        Raises `ValueError` or `TypeError`, and changes nothing, for a bad argument, a linear layer,
        or a kernel that the format cannot hold exactly. Kossaifi et al. 2020, arXiv 1906.06196.

        >>> layer = FactorizedConv(4, 8, 3, padding=1, order=2, rank=4).eval()
        >>> video = torch.randn(1, 4, 5, 10, 10)
        >>> frames = torch.stack([layer(frame) for frame in video.unbind(2)], 2)
        >>> relative_error(frames, layer.transduct(3)(video)) < 1e-5, layer.order
        (True, 3)
        """
        checked = check_axis(kernel_size, mode, self.config.order)
        config = stretched(self.config, *checked, padding, stride, dilation)
        exchange(self, transducted(self.weight, *checked), config)
        if fine_tune_transduction_only:
            freeze_others(self, self.weight, f"k{mode}")
        return self
