"""Ranks learned by gates beside ranks that are the same fraction of every layer, on the demo's CNN.

    python tests/benchmarks/rank_learning.py [--seeds 3] [--penalty 0.7] [--fractions 0.18 0.2]

The trained network is factorized at some of its parameters, and a gate is put on every bond. For a
third of the steps the gates alone are trained to answer as the dense one does, with the penalty
weighed by the network's MACs, and what is closed is pruned. That gives ranks: the network is
decomposed anew at these, and trained for the rest of the steps. The others have one fraction for
every layer and are trained for all of the steps. All see the 512 images at hand, shifted and
flipped, in batches of 32, no labels, and start from decompositions in the norm of their inputs.
What came of it is in docs/guides/ranks.md; accuracies are of 2,000 test images, and ± is the
standard error over the seeds.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tenfold import FactorizedConv, measure_moments
from tenfold.bonds import prune_ranks, tensor_lasso
from tenfold.demo.data import accuracy, load_cnn, load_images
from tenfold.demo.train import augmented

SIZES = {"conv1": 28, "conv2": 14, "conv3": 14, "conv4": 7}
COPIES, BATCH = 8, 32


class Example:
    """The dense network, what it answers to augmented images, and what its layers see."""

    def __init__(self, factorization: str) -> None:
        self.factorization = factorization
        self.dense = load_cnn()
        images, _ = load_images("train")
        torch.manual_seed(0)
        with torch.no_grad():
            self.images = torch.cat([augmented(images) for _ in range(COPIES)])
            self.wanted = torch.cat([self.dense(x) for x in self.images.split(256)])
        self.moments = measure_moments(self.dense, set(SIZES), list(images.split(64)))
        self.convs: dict[str, Any] = {name: self.dense.get_submodule(name) for name in SIZES}

    def factorized(self, ranks: Mapping[str, Any]) -> nn.Sequential:
        model = copy.deepcopy(self.dense)
        for name, conv in self.convs.items():
            asked = {"factorization": self.factorization, "moment": self.moments[name]}
            setattr(model, name, FactorizedConv.from_conv(conv, rank=ranks[name], **asked))
        return model

    def train(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        rate: float,
        steps: int,
        seed: int,
        penalty: Callable[[], Tensor] = lambda: torch.zeros(()),
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        model.train()
        for _ in range(steps):
            rows = torch.randint(len(self.images), (BATCH,), generator=generator)
            loss = F.mse_loss(model(self.images[rows]), self.wanted[rows]) + penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()

    def learned(self, start: float, weight: float, steps: int, seed: int) -> dict[str, Any]:
        """Ranks, by so many steps of gates alone."""
        model = self.factorized(dict.fromkeys(SIZES, start))
        layers: dict[str, Any] = {name: model.get_submodule(name) for name in SIZES}
        costs = {name: layers[name].macs((size, size)) for name, size in SIZES.items()}
        lassos = {n: tensor_lasso(layers[n], 0.05, (size, size)) for n, size in SIZES.items()}
        shares = {n: len(costs) * cost / sum(costs.values()) for n, cost in costs.items()}

        def penalty() -> Tensor:
            terms = [shares[name] * lasso.penalty() for name, lasso in lassos.items()]
            return weight * torch.stack(terms).sum()

        gates = [one for name, one in model.named_parameters() if "gates" in name]
        self.train(model, gates, 0.06, steps, seed, penalty)
        prune_ranks(model)
        return {name: layer.rank for name, layer in layers.items()}

    def told(self, name: str, ranks: Sequence[Mapping[str, Any]], steps: int) -> None:
        """Train a network of these ranks for each seed, and print a row."""
        images, labels = load_images("test")
        found = []
        for seed, some in enumerate(ranks):
            model = self.factorized(some)
            self.train(model, list(model.parameters()), 2e-3, steps, seed)
            convs: list[Any] = [model.get_submodule(n) for n in SIZES]
            macs = sum(c.macs((s, s)) for c, s in zip(convs, SIZES.values(), strict=True))
            size = sum(p.numel() for c in convs for p in c.parameters())
            found.append((accuracy(model, images, labels), size, macs / self.macs))
        accuracies, sizes, costs = zip(*found, strict=True)
        error = stdev(accuracies) / len(found) ** 0.5 if len(found) > 1 else 0.0
        print(
            f"| {name} | {mean(accuracies):.4f} ± {error:.4f} | {mean(sizes):,.0f} "
            f"| {mean(costs):.3f} | {list(ranks[0].values())} |",
            flush=True,
        )

    @property
    def macs(self) -> int:
        return sum(self.convs[n].weight.numel() * size**2 for n, size in SIZES.items())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--start", type=float, default=0.35)
    parser.add_argument("--penalty", type=float, nargs="*", default=[0.7, 0.95])
    parser.add_argument("--fractions", type=float, nargs="*", default=[0.14, 0.18, 0.2])
    parser.add_argument("--factorization", default="tucker")
    asked = parser.parse_args()
    example, seeds = Example(asked.factorization), range(asked.seeds)
    images, labels = load_images("test")
    size = sum(conv.weight.numel() for conv in example.convs.values())
    print("| ranks | accuracy | parameters | MACs | |\n|---|---|---|---|---|")
    print(f"| dense | {accuracy(example.dense, images, labels):.4f} | {size:,} | 1.000 | |")
    third = asked.steps // 3
    for weight in asked.penalty:
        ranks = [example.learned(asked.start, weight, third, seed) for seed in seeds]
        example.told(f"learned, penalty {weight:g}", ranks, asked.steps - third)
    for fraction in asked.fractions:
        ranks = [dict.fromkeys(SIZES, fraction) for _ in seeds]
        example.told(f"{fraction:g} of each layer", ranks, asked.steps)


if __name__ == "__main__":
    main()
