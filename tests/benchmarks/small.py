"""Small trained networks of many kinds: `tenfold.compress` beside uniform Tucker-2.

    pip install -e '.[benchmark]'
    python tests/benchmarks/small.py --data DIR

`DIR` holds Fashion-MNIST as four gzipped IDX files, as the Debian package `dataset-fashion-mnist`
installs them in `/usr/share/datasets/fashion-mnist`. Each network is trained for two epochs on
6,000 images, calibrated on 512 others without labels, and scored on 2,000 of the test set: its
accuracy, or for the U-Net the mean squared error of what it makes of noisy images, negated. `error`
is the relative change of the outputs there. `faster` is dense over compressed, both in turn; with
`--metric latency` the budget is one of time. `--joint '*' --metric parameters` lets layers alike
share one network, and says of each stage how near it came tied and apart, before corrections.
Uniform Tucker-2 may have the MACs that this came to, and is of convolutions alone: where linear
layers have the most, it keeps more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from networks.network import Network
from networks.small import SMALL, UNet
from peers import compress as by_rule
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import tenfold
from tenfold.compression.measurement.latency import time_networks
from tenfold.compression.running.difference import change
from tenfold.compression.running.inference import outputs
from tenfold.demo.data import scaled
from tenfold.demo.train import read_idx

TRAINED, CALIBRATED, TESTED = 6000, 512, 2000
console = Console(width=110)


@dataclass
class Images:
    """Images and labels: to train on, to calibrate on (without the labels), to score on."""

    train: Tensor
    labels: Tensor
    calibration: Tensor
    test: Tensor
    wanted: Tensor

    @classmethod
    def read(cls, folder: Path) -> Images:
        first = read_idx(folder / "train-images-idx3-ubyte.gz")[: TRAINED + CALIBRATED]
        labels = read_idx(folder / "train-labels-idx1-ubyte.gz").long()
        test = read_idx(folder / "t10k-images-idx3-ubyte.gz")[:TESTED]
        wanted = read_idx(folder / "t10k-labels-idx1-ubyte.gz").long()
        train, calibration = scaled(first).split((TRAINED, CALIBRATED))
        return cls(train, labels[:TRAINED], calibration, scaled(test), wanted[:TESTED])


def noisy(images: Tensor) -> Tensor:
    """With noise that is always the same."""
    generator = torch.Generator().manual_seed(0)
    return images + 0.5 * torch.randn(images.shape, generator=generator)


def load(name: str, images: Images, out: Path) -> tuple[nn.Module, Tensor, Callable[[Any], float]]:
    """A trained network, inputs to calibrate on, and its score."""
    torch.manual_seed(0)
    model, path = SMALL[name](), out / f"{name}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        train(model, images)
        torch.save(model.state_dict(), path)
    model.eval()
    if isinstance(model, UNet):
        return model, noisy(images.calibration), lambda other: -loss_of_noise(other, images.test)
    return model, images.calibration, lambda other: accuracy(other, images.test, images.wanted)


def train(model: nn.Module, images: Images, epochs: int = 2) -> None:
    """Adam, with one cycle of its rate."""
    steps = epochs * (TRAINED // 64)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(TRAINED)[: TRAINED // 64 * 64].split(64):
            x, y = images.train[rows], images.labels[rows]
            if isinstance(model, UNet):
                loss = F.mse_loss(model(noisy(x)), x)
            else:
                loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    found = torch.cat([model(x).argmax(1) for x in images.split(100)])
    return float((found == labels).double().mean())


@torch.no_grad()
def loss_of_noise(model: nn.Module, images: Tensor) -> float:
    losses = [F.mse_loss(model(noisy(x)), x) for x in images.split(100)]
    return float(torch.stack(losses).mean())


def main(
    data: Annotated[Path, typer.Option(help="Folder with the four gzipped IDX files.")],
    network: Annotated[list[str], typer.Option(help="By name; all by default.")] = [*SMALL],  # noqa: B006
    budget: Annotated[list[float], typer.Option()] = [0.5, 0.25],  # noqa: B006
    metric: Annotated[str, typer.Option(help="macs or latency.")] = "macs",
    refine: Annotated[str, typer.Option(help="blocks or off.")] = "blocks",
    never_slower: Annotated[bool, typer.Option(help="As `compress` has it.")] = True,
    joint: Annotated[list[str], typer.Option(help="As `compress` has it.")] = [],  # noqa: B006
    threads: Annotated[int, typer.Option()] = 1,
    out: Annotated[Path, typer.Option(help="Where trained networks go.")] = Path("small"),
) -> None:
    """Print a row for each network and budget."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    images = Images.read(data)
    shown = Table(title=f"torch {torch.__version__}, tenfold {tenfold.__version__}, {metric}")
    titles = ("dense", "budget", "MACs", "score", "error", "faster", "uniform", "its error", "MACs")
    for title in ("network", *titles):
        shown.add_column(title, justify="left" if title == "network" else "right")
    for name in network:
        model, calibration, score = load(name, images, out)
        unseen = noisy(images.test[:512]) if isinstance(model, UNet) else images.test[:512]
        held = list(unseen.split(64))
        references = outputs(model, held)
        dense = f"{score(model):.4f}"
        for one in budget:
            asked: dict[str, Any] = {"budget": one, "metric": metric, "progress": False}
            asked |= {"refine": refine, "never_slower": never_slower}
            asked |= {"joint": joint} if joint else {}
            example, batches = calibration[:16], list(calibration.split(32))
            try:
                made = tenfold.compress(model, example_inputs=example, calibration=batches, **asked)
            except ValueError as refused:
                shown.add_row(name, dense, f"{one:g}", str(refused)[:40])
                continue
            found = made.report
            for stage in found.stages:
                console.log(stage)
            macs = found.macs.after / found.macs.before
            before, after = time_networks([model, made.model], example)
            peer = by_rule(Network(name, model, (example,), [], score, ""), RULE, macs)
            errors = [change(other, held, references) for other in (made.model, peer.model)]
            row = [dense, f"{one:g}", f"{macs:.3f}", f"{score(made.model):.4f}"]
            row += [f"{errors[0]:.4f}", f"{before / after:.2f}×"]
            row += [f"{score(peer.model):.4f}", f"{errors[1]:.4f}", f"{peer.macs:.3f}"]
            shown.add_row(name, *row)
            console.log(name, *row)
    console.print(shown)


RULE = "uniform Tucker-2"


if __name__ == "__main__":
    typer.run(main)
