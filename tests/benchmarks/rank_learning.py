"""Ranks learned by gates beside ranks that are the same fraction of every layer, on the demo's CNN.

    python tests/benchmarks/rank_learning.py [--steps 400] [--weight 0.3] [--factorization tucker]

The trained network is factorized at half its parameters, a gate is put on every bond, and it is
trained on the 512 images at hand, shifted and flipped, to answer as the dense one does, with the
penalty weighed by the network's MACs; then what is closed is pruned and it is trained for as many
steps more. The others have one fraction for every layer, the same number of steps, and no gates.

With 300 steps, weight 0.3 and Tucker: learned 0.9250 at 0.177 of the MACs and 36,287 parameters; a
fraction of 0.18 of each layer 0.9285 at 0.179 and 49,574. Dense: 0.9435 and 276,480. So with so few
images what is learned is smaller, and at equal MACs not better.
"""

from __future__ import annotations

import argparse
import copy

import torch
from torch import nn
from torch.nn import functional as F

from tenfold import FactorizedConv
from tenfold.bonds import prune_ranks, tensor_lasso
from tenfold.demo.data import accuracy, load_cnn, load_images
from tenfold.demo.train import augmented

SIZES = {"conv1": 28, "conv2": 14, "conv3": 14, "conv4": 7}


def factorized(dense: nn.Sequential, rank: float, factorization: str) -> nn.Sequential:
    model = copy.deepcopy(dense)
    for name in SIZES:
        conv = model.get_submodule(name)
        made = FactorizedConv.from_conv(conv, rank=rank, factorization=factorization)
        setattr(model, name, made)
    return model


def train(model: nn.Module, dense: nn.Module, steps: int, lassos: list, weight: float) -> None:
    torch.manual_seed(0)
    images, _ = load_images("train")
    gates = [p for name, p in model.named_parameters() if "gates" in name]
    others = [p for name, p in model.named_parameters() if "gates" not in name]
    groups = [{"params": others}, {"params": gates, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups[: 1 + bool(gates)], lr=2e-3, weight_decay=1e-2)
    rates = [2e-3, 2e-2][: len(optimizer.param_groups)]  # gates have 1 to go, factors a little
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)
    model.train()
    for step in range(steps):
        x = augmented(images[torch.randint(len(images), (64,))])
        with torch.no_grad():
            wanted = dense(x)
        loss = F.mse_loss(model(x), wanted)
        ramp = min(1.0, 2 * step / steps)
        loss = loss + ramp * weight * sum(
            (share * lasso.penalty() for lasso, share in lassos), torch.zeros(())
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def macs(model: nn.Sequential) -> int:
    return sum(model.get_submodule(name).macs((size, size)) for name, size in SIZES.items())


def told(name: str, model: nn.Sequential, whole: int) -> None:
    images, labels = load_images("test")
    size = sum(p.numel() for n in SIZES for p in model.get_submodule(n).parameters())
    ranks = [model.get_submodule(n).rank for n in SIZES]
    print(
        f"| {name} | {accuracy(model, images, labels):.4f} | {size:,} "
        f"| {macs(model) / whole:.3f} | {ranks} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--weight", type=float, nargs="+", default=[0.3])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 0.15, 0.2])
    parser.add_argument("--factorization", default="tucker")
    asked = parser.parse_args()
    dense = load_cnn()
    images, labels = load_images("test")
    convs = {name: dense.get_submodule(name) for name in SIZES}
    size = sum(conv.weight.numel() for conv in convs.values())
    whole = sum(conv.weight.numel() * SIZES[name] ** 2 for name, conv in convs.items())
    print("| ranks | accuracy | parameters | MACs | |\n|---|---|---|---|---|")
    print(f"| dense | {accuracy(dense, images, labels):.4f} | {size:,} | 1.000 | |", flush=True)
    for weight in asked.weight:
        model = factorized(dense, 0.5, asked.factorization)
        lassos = [
            tensor_lasso(model.get_submodule(n), 0.05, (size, size)) for n, size in SIZES.items()
        ]
        cost = [model.get_submodule(n).macs((size, size)) for n, size in SIZES.items()]
        shares = [
            len(cost) * one / sum(cost) for one in cost
        ]  # of the network's, as each is of its own
        train(model, dense, asked.steps, list(zip(lassos, shares, strict=True)), weight)
        prune_ranks(model)
        train(model, dense, asked.steps, [], 0.0)
        told(f"learned, penalty {weight}", model, whole)
    for fraction in asked.fractions:
        model = factorized(dense, fraction, asked.factorization)
        train(model, dense, asked.steps, [], 0.0)
        train(model, dense, asked.steps, [], 0.0)
        told(f"{fraction} of each layer", model, whole)


if __name__ == "__main__":
    main()
