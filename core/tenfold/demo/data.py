"""The files that the package ships: a trained network and real images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .cnn import cnn

T = TypeVar("T", bound=nn.Module)
PARTS = ("test", "train")
HERE = Path(__file__).parent


def load_cnn() -> nn.Sequential:
    """The trained network of the demonstration, in eval mode.

    Five convolutions and a linear layer that tell 28×28 grey images of ten kinds of clothes apart,
    trained on Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747). Raises nothing.

    >>> from tenfold.demo import load_cnn, load_images
    >>> images, labels = load_images()
    >>> load_cnn()(images[:4]).argmax(1).tolist() == labels[:4].tolist()
    True
    """
    model = cnn()
    model.load_state_dict(load_file(HERE / "cnn.safetensors"))
    return channels_last(model.eval())


def channels_last(model: T) -> T:
    """Keep the channels of each image together, as CPUs like it."""
    moved: Any = model
    moved.to(memory_format=torch.channels_last)
    return model


def load_images(part: str = "test") -> tuple[Tensor, Tensor]:
    """The 2,000 `test` or 512 `train` images, `(n, 1, 28, 28)`, and their labels, `(n,)`.

    They are scaled as the network takes them. Of Fashion-MNIST (Xiao et al. 2017, arXiv
    1708.07747). Raises `ValueError` for another part.

    >>> images, labels = load_images("train")
    >>> images.shape, labels.shape
    (torch.Size([512, 1, 28, 28]), torch.Size([512]))
    """
    if part not in PARTS:
        raise ValueError(f"part={part!r} must be one of {PARTS}")
    with np.load(HERE / "fashion_mnist.npz") as arrays:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    return scaled(torch.from_numpy(images)), torch.from_numpy(labels).long()


def scaled(images: Tensor) -> Tensor:
    """Turn bytes `(batch, 28, 28)` into what the network takes: floats `(batch, 1, 28, 28)`."""
    return images.unsqueeze(1).float().div(255).sub(0.286).div(0.353)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of `images` that `model` labels right."""
    pairs = zip(images.split(100), labels.split(100), strict=True)
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs) / len(labels)
