"""Ways to train a small network, each from its architecture to a row of numbers.

Used by `training.py`. All have the same images, epochs, batches and cycle of learning rates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fitting import DECAY, Batches, Data, State, cycle, decayed, fit, plain, restore
from torch import nn
from trained_networks import ENDS, FORMAT, NETWORKS, low_rank, macs, numel, within

import tenfold
from tenfold import Cuttlefish, parameter_groups
from tenfold.demo.data import accuracy, channels_last

CALIBRATION, MORE = 512, 4096  # training images that a network is compressed by
SMALLEST = ["spatial_svd", "tucker", "tt"]  # formats, where parameters are few


def dense(network: str, data: Data, epochs: int, path: Path) -> dict[str, Any]:
    """The states after each epoch are kept at `path`, and gone on from where some are there.

    From them, too, go on the recipes that begin dense.
    """
    model = NETWORKS[network]()
    course = cycle(parameter_groups(model, DECAY), data, epochs)
    kept: list[State] = torch.load(path) if path.exists() else []
    if kept:
        restore(kept[-1], model, course)

    def keep(state: State) -> None:
        kept.append(state)
        torch.save(kept, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    return fit(model, data, epochs, course, since=kept[-1] if kept else None, keep=keep)


def default(network: str, data: Data, epochs: int, budget: float) -> dict[str, Any]:
    """Each factor drawn, and decayed by itself."""
    model = low_rank(network, budget, "variance", FORMAT)
    return fit(model, data, epochs, cycle(plain(model), data, epochs))


def default_frobenius(network: str, data: Data, epochs: int, budget: float) -> dict[str, Any]:
    model = low_rank(network, budget, "variance", FORMAT)
    return fit(model, data, epochs, cycle(parameter_groups(model, DECAY), data, epochs), decayed)


def spectral(network: str, data: Data, epochs: int, budget: float) -> dict[str, Any]:
    model = low_rank(network, budget, "spectral", FORMAT)
    return fit(model, data, epochs, cycle(plain(model), data, epochs))


def spectral_frobenius(
    network: str, data: Data, epochs: int, budget: float, form: str = FORMAT
) -> dict[str, Any]:
    """Factors of a dense kernel, whose product is decayed."""
    model = low_rank(network, budget, "spectral", form)
    return fit(model, data, epochs, cycle(parameter_groups(model, DECAY), data, epochs), decayed)


def at_rate(network: str, data: Data, epochs: int, budget: float, speed: float) -> dict[str, Any]:
    """The factors at so many times the others' learning rate."""
    model = low_rank(network, budget, "spectral", FORMAT)
    dense, others = parameter_groups(model, DECAY)
    factors = {id(p) for layer in layers_of(model) for p in layer.weight.parameters()}
    mine = [p for p in others["params"] if id(p) in factors]
    others["params"] = [p for p in others["params"] if id(p) not in factors]
    groups = [dense, others, {"params": mine, "weight_decay": 0.0, "speed": speed}]
    return fit(model, data, epochs, cycle(groups, data, epochs), decayed)


def layers_of(model: nn.Module) -> list[tenfold.FactorizedConv]:
    return [one for one in model.modules() if isinstance(one, tenfold.FactorizedConv)]


def tucker(network: str, data: Data, epochs: int, budget: float) -> dict[str, Any]:
    return spectral_frobenius(network, data, epochs, budget, "tucker")


def cuttlefish(
    network: str, data: Data, epochs: int, budget: float, at: float = 1 / 2
) -> dict[str, Any]:
    """Dense until its ranks settle, at the latest `at` a part of the epochs; then at the budget."""
    model = channels_last(NETWORKS[network]())
    rank = within(model, network, budget, FORMAT)
    options: dict[str, Any] = {"rank": rank, "factorization": FORMAT, "exclude": ENDS[network]}
    optimizer, schedule = cycle(parameter_groups(model, DECAY), data, epochs)
    watch = Cuttlefish(model, optimizer, **options)
    last = max(2, int(at * epochs))  # it compares two epochs
    for since in data["kept"][:last]:
        restore(since, model, (optimizer, schedule))
        watch.settled = float("inf") if len(since["scores"]) == last else watch.settled
        if watch.step():
            break
    found = fit(model, data, epochs, (optimizer, schedule), decayed, since)
    return {**found, "switched": len(since["scores"])}


def measured(
    network: str, data: Data, epochs: int, budget: float, at: float, metric: str
) -> dict[str, Any]:
    """Dense `at` a part of the epochs, then compressed by measured error, and trained on."""
    since = data["kept"][int(at * epochs) - 1]
    model = NETWORKS[network]()
    model.load_state_dict(since["model"])
    small = shrunk(model.eval(), data, most(network, budget, metric), metric=metric, refine="off")
    optimizer, schedule = cycle(parameter_groups(small, DECAY), data, epochs)
    schedule.load_state_dict(since["schedule"])
    schedule.last_epoch -= 1
    schedule.step()  # sets the rate
    found = fit(small, data, epochs, (optimizer, schedule), decayed, since)
    return {**found, "switched": len(since["scores"])}


def distilled(
    network: str,
    data: Data,
    epochs: int,
    budget: float,
    at: float,
    lr: float,
    optimizer: str = "soap",
    labels: float = 0.7,
) -> dict[str, Any]:
    """Dense in a cycle of its own, compressed, and distilled from that for the last epochs.

    What scores them is the number of the epoch, so that none is kept for its accuracy.
    """
    before = int(at * epochs)
    dense(network, data, before, data["places"][before])
    since = torch.load(data["places"][before])[-1]
    teacher = channels_last(NETWORKS[network]())
    teacher.load_state_dict(since["model"])
    options: dict[str, Any] = {"metric": "parameters", "factorizations": SMALLEST}
    small = channels_last(shrunk(teacher.eval(), data, budget, MORE, **options))
    scores, left = [*since["scores"]], epochs - before

    def score(model: nn.Module) -> float:
        scores.append(accuracy(model, *data["test"]))
        return len(scores)

    torch.set_rng_state(since["rng"])
    started = time.process_time()
    amp = torch.bfloat16 if data["amp"] else None
    options = {"loss": "kd", "labels": labels, "optimizer": optimizer, "amp": amp, "score": score}
    tenfold.distill(small, teacher, Batches(data), epochs=left, lr=lr, progress=False, **options)
    each = (time.process_time() - started) / left
    return {
        "scores": scores,
        "seconds": [*since["seconds"], *[each] * left],
        "parameters": numel(small),
        "macs": macs(small),
        "switched": before,
    }


def most(network: str, budget: float, metric: str) -> float:
    """A part of the parameters, or of the MACs, what one fraction everywhere leaves of them."""
    if metric == "parameters":
        return budget
    return macs(low_rank(network, budget, "variance", FORMAT)) / macs(NETWORKS[network]())


def compressed(
    network: str, data: Data, epochs: int, budget: float, metric: str, images: int = CALIBRATION
) -> dict[str, Any]:
    """The trained dense network compressed without labels, to the size of low-rank ones."""
    model = NETWORKS[network]()
    model.load_state_dict(data["kept"][epochs - 1]["model"])
    started = time.process_time()
    made = shrunk(model.eval(), data, most(network, budget, metric), images, metric=metric)
    return {
        "scores": [accuracy(made.eval(), *data["test"])],
        "seconds": [time.process_time() - started],
        "parameters": numel(made),
        "macs": macs(made),
    }


def shrunk(
    model: nn.Module, data: Data, budget: float, count: int = CALIBRATION, **options: Any
) -> nn.Module:
    """A network compressed to a part of its MACs or parameters, by some training images."""
    images, _ = data["train"]
    return tenfold.compress(
        model,
        budget=budget,
        example_inputs=images[:32],
        calibration=list(images[:count].split(64)),
        never_slower=False,
        progress=False,
        **options,
    ).model


RECIPES: dict[str, Callable[..., dict[str, Any]]] = {
    "default init, plain decay": default,
    "default init, Frobenius decay": default_frobenius,
    "spectral init, plain decay": spectral,
    "spectral init, Frobenius decay": spectral_frobenius,
    "the same, factors at twice the rate": partial(at_rate, speed=2.0),
    "the same, factors at half the rate": partial(at_rate, speed=0.5),
    "the same in Tucker": tucker,
    "Cuttlefish, Frobenius decay": cuttlefish,
    "Cuttlefish at a fifth, Frobenius decay": partial(cuttlefish, at=1 / 5),
    "dense, compressed at 1/2, trained on": partial(measured, at=1 / 2, metric="parameters"),
    "dense, compressed at 3/4, trained on": partial(measured, at=3 / 4, metric="parameters"),
    "dense, compressed at 3/4 to equal MACs": partial(measured, at=3 / 4, metric="macs"),
    "dense for 4/5, compressed, distilled": partial(distilled, at=4 / 5, lr=4e-3),
    "dense for 4/5, compressed, distilled by Adam, few labels": partial(
        distilled, at=4 / 5, lr=3e-3, optimizer="adam", labels=0.1
    ),
    "dense, then compressed": partial(compressed, metric="macs"),
    "dense, then compressed to the parameters": partial(compressed, metric="parameters"),
    "dense, then compressed to the parameters by 4,096 images": partial(
        compressed, metric="parameters", images=MORE
    ),
}
DENSE = "dense"
