"""Train the demo's network and write the two files that the package ships.

    python -m tenfold.demo.train --data DIR [--out DIR] [--epochs 14] [--seed 0]

`DIR` holds Fashion-MNIST (MIT licence, Zalando SE) as its four gzipped IDX files, as the Debian
package `dataset-fashion-mnist` installs them in `/usr/share/datasets/fashion-mnist`. The accuracy
printed at the end is that on all 10,000 test images.
"""

from __future__ import annotations

import gzip
import struct
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from .cnn import cnn
from .data import HERE, accuracy, channels_last, scaled

N_CALIBRATION, N_TEST = 512, 2000


def read_idx(path: Path) -> Tensor:
    """Read one gzipped IDX file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    order = raw[3]
    shape = struct.unpack(f">{order}I", raw[4 : 4 + 4 * order])
    return torch.from_numpy(
        np.frombuffer(raw, np.uint8, offset=4 + 4 * order).reshape(shape).copy()
    )


def augmented(images: Tensor) -> Tensor:
    """Flip half of the images and shift the batch by up to two pixels."""
    flipped = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
    down, right = torch.randint(0, 5, (2,)).tolist()
    return F.pad(flipped, (2, 2, 2, 2), mode="replicate")[..., down : down + 28, right : right + 28]


def main(
    data: Annotated[Path, typer.Option(help="folder with the four gzipped IDX files")],
    out: Annotated[Path, typer.Option(help="where the two files go")] = HERE,
    epochs: int = 14,
    seed: int = 0,
) -> None:
    torch.manual_seed(seed)
    train_x = scaled(read_idx(data / "train-images-idx3-ubyte.gz"))
    train_y = read_idx(data / "train-labels-idx1-ubyte.gz").long()
    test_bytes = read_idx(data / "t10k-images-idx3-ubyte.gz")
    test_y = read_idx(data / "t10k-labels-idx1-ubyte.gz").long()

    model = channels_last(cnn())
    batch = 128
    steps = epochs * (len(train_x) // batch)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
    for epoch in range(epochs):
        started = time.perf_counter()
        model.train()
        for rows in torch.randperm(len(train_x))[: len(train_x) // batch * batch].split(batch):
            x = augmented(train_x[rows]).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), train_y[rows], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        score = accuracy(model.eval(), scaled(test_bytes), test_y)
        seconds = time.perf_counter() - started
        print(
            f"epoch {epoch + 1}/{epochs}: test accuracy {score:.4f} ({seconds:.0f} s)", flush=True
        )

    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, out / "cnn.safetensors")
    np.savez_compressed(
        out / "fashion_mnist.npz",
        test_images=test_bytes[:N_TEST].numpy(),
        test_labels=test_y[:N_TEST].to(torch.uint8).numpy(),
        train_images=read_idx(data / "train-images-idx3-ubyte.gz")[:N_CALIBRATION].numpy(),
        train_labels=train_y[:N_CALIBRATION].to(torch.uint8).numpy(),
    )


if __name__ == "__main__":
    typer.run(main)
