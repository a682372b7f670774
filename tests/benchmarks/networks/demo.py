"""The demo's network: five convolutions, Fashion-MNIST; accuracy on the shipped test images."""

from __future__ import annotations

from tenfold.demo.data import accuracy, load_cnn, load_images

from .network import Network


def load() -> Network:
    """Calibrated on the 512 training images, judged on the 2,000 test images."""
    calibration, _ = load_images("train")
    images, labels = load_images("test")
    return Network(
        name="demo",
        model=load_cnn(),
        example_inputs=(images[:64],),
        calibration=[(batch,) for batch in calibration.split(64)],
        score=lambda model: accuracy(model, images, labels),
        score_name="accuracy on 2,000 images",
    )
