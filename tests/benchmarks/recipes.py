"""Ways to train a small network, each from its architecture to a row of numbers.

Used by `training.py`. All have the same images, epochs, batches and cycle of learning rates.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tenfold
from tenfold import Cuttlefish, factorize, frobenius_decay, parameter_groups
from tenfold.compression.survey import survey
from tenfold.demo.cnn import cnn
from tenfold.demo.data import accuracy, channels_last
from tenfold.demo.train import augmented

DECAY, RATE = 5e-4, 0.2 / 128  # the rate is that of one image of a batch
WATCHED = 2000  # test images that the curve is of; its end is of all
FORMAT = "spatial_svd"
Data = dict[str, Any]  # images and labels of `train` and `test`, `batch` size, dense `kept` states
State = dict[str, Any]
Course = tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]


class Block(nn.Module):
    """A residual block of two 3×3 convolutions, with the shortcut of He et al. 2016, option A."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(made)
        self.conv1 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(made)
        self.stride, self.more = stride, made - given

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(F.relu(self.norm0(self.conv0(x)))))
        side = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + side)


def resnet20() -> nn.Sequential:
    """ResNet-20 for grey images (He et al. 2016, arXiv 1512.03385, section 4.2)."""
    widths = [16] * 3 + [32] * 3 + [64] * 3
    blocks = [
        Block(given, made, 1 + (made > given))
        for given, made in zip([16, *widths], widths, strict=False)
    ]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    stem = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, *head)


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {"demo": cnn, "resnet20": resnet20}
ENDS = {"demo": ["conv0", "classify"], "resnet20": ["0", "14"]}  # stay dense


def numel(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def within(model: nn.Module, network: str, budget: float, form: str) -> float:
    """The largest rank whose low-rank copy has at most `budget` of the whole network."""
    most, low, high = budget * numel(model), 0.0, budget
    for _ in range(8):
        rank = (low + high) / 2
        made = factorize(
            model, rank=rank, init="variance", factorization=form, exclude=ENDS[network]
        )
        low, high = (rank, high) if numel(made) <= most else (low, rank)
    return low


def low_rank(network: str, budget: float, init: str, form: str) -> nn.Module:
    model = NETWORKS[network]()
    rank = within(model, network, budget, form)
    return factorize(model, rank=rank, init=init, factorization=form, exclude=ENDS[network])


def macs(model: nn.Module) -> int:
    """Multiply-accumulates of all convolutions and linear layers for one image."""
    total = 0
    for layer in survey(model, (torch.zeros(1, 1, 28, 28),)):
        module = model.get_submodule(layer.name)
        if isinstance(module, tenfold.FactorizedConv):
            total += sum(module.macs(layer.positions(shape)[1]) for shape in layer.shapes)
        else:
            total += layer.macs
    return total


def cycle(groups: Any, data: Data, epochs: int) -> Course:
    """SGD, and one cycle of its learning rate."""
    batch = data["batch"]
    optimizer = torch.optim.SGD(groups, lr=RATE * batch / 25, momentum=0.9, nesterov=True)
    rates = [RATE * batch * group.pop("speed", 1.0) for group in groups]
    steps = epochs * (len(data["train"][0]) // batch)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)


def fit(
    model: nn.Module,
    data: Data,
    epochs: int,
    course: Course,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    since: State | None = None,
    kept: list[State] | None = None,
) -> dict[str, Any]:
    """Train, from the start or `since` one of the states `kept`; the accuracy after each epoch."""
    channels_last(model)
    scores, seconds = ([], []) if since is None else ([*since["scores"]], [*since["seconds"]])
    if since is not None:
        torch.set_rng_state(since["rng"])
    for epoch in range(len(scores), epochs):
        started = time.process_time()
        learn(model, data, course, penalty)
        seconds.append(time.process_time() - started)
        part = None if epoch == epochs - 1 else WATCHED
        scores.append(accuracy(model.eval(), *(one[:part] for one in data["test"])))
        if kept is not None:
            optimizer, schedule = course
            made = {"model": model, "optimizer": optimizer, "schedule": schedule}
            state = {name: copy.deepcopy(one.state_dict()) for name, one in made.items()}
            rng = torch.get_rng_state()
            kept.append({**state, "rng": rng, "scores": [*scores], "seconds": [*seconds]})
    return {
        "scores": scores,
        "seconds": seconds,
        "parameters": numel(model),
        "macs": macs(model),
    }


def learn(
    model: nn.Module, data: Data, course: Course, penalty: Callable[[nn.Module], Tensor] | None
) -> None:
    """One epoch."""
    model.train()
    optimizer, schedule = course
    images, labels = data["train"]
    batch = data["batch"]
    for rows in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
        loss = F.cross_entropy(
            model(augmented(images[rows]).contiguous(memory_format=torch.channels_last)),
            labels[rows],
        )
        if penalty is not None:
            loss = loss + penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def plain(model: nn.Module) -> Any:
    """All parameters with the optimizer's own decay."""
    return [{"params": list(model.parameters()), "weight_decay": DECAY}]


def decayed(model: nn.Module) -> Tensor:
    return frobenius_decay(model, DECAY)


def dense(network: str, data: Data, epochs: int) -> tuple[dict[str, Any], list[State]]:
    """The row, and the states after each epoch, from which recipes go on that begin dense."""
    model = NETWORKS[network]()
    kept: list[State] = []
    course = cycle(parameter_groups(model, DECAY), data, epochs)
    return fit(model, data, epochs, course, kept=kept), kept


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


def cuttlefish(network: str, data: Data, epochs: int, budget: float) -> dict[str, Any]:
    """Dense until its ranks settle, at the latest for half of the epochs; then at the budget."""
    model = channels_last(NETWORKS[network]())
    rank = within(model, network, budget, FORMAT)
    options: dict[str, Any] = {"rank": rank, "factorization": FORMAT, "exclude": ENDS[network]}
    optimizer, schedule = cycle(parameter_groups(model, DECAY), data, epochs)
    watch = Cuttlefish(model, optimizer, **options)
    for since in data["kept"][: epochs // 2]:
        for one, name in ((model, "model"), (optimizer, "optimizer"), (schedule, "schedule")):
            one.load_state_dict(copy.deepcopy(since[name]))
        watch.settled = float("inf") if len(since["scores"]) == epochs // 2 else watch.settled
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
    most = budget if metric == "parameters" else macs_left(network, budget)
    small = shrunk(model.eval(), data, most, metric=metric, refine="off")
    optimizer, schedule = cycle(parameter_groups(small, DECAY), data, epochs)
    schedule.load_state_dict(since["schedule"])
    schedule.last_epoch -= 1
    schedule.step()  # sets the rate
    return fit(small, data, epochs, (optimizer, schedule), decayed, since)


def macs_left(network: str, budget: float) -> float:
    """What a low-rank network of one fraction everywhere has of the dense one's."""
    return macs(low_rank(network, budget, "variance", FORMAT)) / macs(NETWORKS[network]())


def compressed(network: str, data: Data, trained: nn.Module, budget: float) -> dict[str, Any]:
    """The trained dense network compressed to the low-rank ones' MACs, without fine-tuning."""
    started = time.process_time()
    made = shrunk(trained, data, macs_left(network, budget))
    return {
        "scores": [accuracy(made.eval(), *data["test"])],
        "seconds": [time.process_time() - started],
        "parameters": numel(made),
        "macs": macs(made),
    }


def shrunk(model: nn.Module, data: Data, budget: float, **options: Any) -> nn.Module:
    """A network compressed to a part of its MACs or parameters, by 512 training images."""
    images, _ = data["train"]
    return tenfold.compress(
        model,
        budget=budget,
        example_inputs=images[:32],
        calibration=list(images[:512].split(64)),
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
    "dense, compressed at 1/2, trained on": partial(measured, at=1 / 2, metric="parameters"),
    "dense, compressed at 3/4, trained on": partial(measured, at=3 / 4, metric="parameters"),
    "dense, compressed at 3/4 to equal MACs": partial(measured, at=3 / 4, metric="macs"),
}
DENSE, COMPRESSED = "dense", "dense, then compressed"
