"""DeepLC: when a peptide leaves a liquid chromatography column, from its atoms.

Bouwmeester et al. 2021, doi 10.1038/s41592-021-01301-5. The weights are those of the default
network of `deeplc` 4.5 (Apache 2.0), and so are the observed retention times: one run of 4,703
identified spectra. The network predicts for 6,543 set-ups; one is kept.
"""

from __future__ import annotations

import csv
import gzip
import re
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .network import Batch, Network, installed_file

WEIGHTS = "deeplc/package_data/models/multitask_flexcnn_model.pt"
OBSERVED = "deeplc/package_data/examples/example_psms.tsv.gz"
SETUP = "PXD005573_mcp"  # the one that the package predicts for by default
RESIDUES = "KRPTNAQVSGILCMHFYWED"  # in the order of the network's embedding
PADDED, LENGTH = len(RESIDUES), 60
ENDS = 4  # residues at each end whose atoms the network is told apart
CALIBRATION = 1024

# Atoms of each residue, as C H N O S P.
ATOMS = {
    "A": (3, 5, 1, 1, 0, 0),
    "C": (3, 5, 1, 1, 1, 0),
    "D": (4, 5, 1, 3, 0, 0),
    "E": (5, 7, 1, 3, 0, 0),
    "F": (9, 9, 1, 1, 0, 0),
    "G": (2, 3, 1, 1, 0, 0),
    "H": (6, 7, 3, 1, 0, 0),
    "I": (6, 11, 1, 1, 0, 0),
    "K": (6, 12, 2, 1, 0, 0),
    "L": (6, 11, 1, 1, 0, 0),
    "M": (5, 9, 1, 1, 1, 0),
    "N": (4, 6, 2, 2, 0, 0),
    "P": (5, 7, 1, 1, 0, 0),
    "Q": (5, 8, 2, 2, 0, 0),
    "R": (6, 12, 4, 1, 0, 0),
    "S": (3, 5, 1, 2, 0, 0),
    "T": (4, 7, 1, 2, 0, 0),
    "V": (5, 9, 1, 1, 0, 0),
    "W": (11, 10, 2, 1, 0, 0),
    "Y": (9, 9, 1, 2, 0, 0),
}


class ConvSiLU(nn.Module):
    """A convolution that keeps the length, and SiLU."""

    def __init__(self, given: int, made: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(given, made, size, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(x))


class Standardise(nn.Module):
    """Each feature less its mean, over its deviation."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Encoder(nn.Module):
    """Atoms and residues to a vector of 256."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(PADDED + 1, 16, padding_idx=PADDED)
        self.stem = nn.Sequential(ConvSiLU(6, 128, 1), ConvSiLU(128, 128, 1))
        self.blocks = nn.Sequential(ConvSiLU(144, 512, 5), ConvSiLU(512, 512, 5))
        self.pool_norm = nn.LayerNorm(1024)
        self.norm = Standardise(87)
        widths = (1111, 256, 256, 256)
        layers = [
            layer
            for given, made in pairwise(widths)
            for layer in (nn.Linear(given, made), nn.SiLU())
        ]
        self.net = nn.Sequential(*layers)

    def forward(self, atoms: Tensor, residues: Tensor, summary: Tensor) -> Tensor:
        there = (residues != PADDED)[:, None]
        x = torch.cat([self.stem(atoms.transpose(1, 2)), self.embed(residues).transpose(1, 2)], 1)
        x = self.blocks(x) * there
        largest = x.masked_fill(~there, float("-inf")).amax(2)
        pooled = self.pool_norm(torch.cat([x.sum(2), largest], 1))
        counts = F.one_hot(residues, PADDED + 1).sum(1)[:, :PADDED]
        features = self.norm(torch.cat([summary, counts], 1))
        encoded: Tensor = self.net(torch.cat([features, pooled], 1))
        return encoded


class DeepLC(nn.Module):
    """Atoms `(batch, 60, 6)`, residues `(batch, 60)` and a summary `(batch, 67)` to minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.proj = nn.Linear(256, 64)
        self.setup = nn.Linear(64, 1)

    def forward(self, atoms: Tensor, residues: Tensor, summary: Tensor) -> Tensor:
        minutes: Tensor = self.setup(self.proj(self.encoder(atoms, residues, summary)))
        return minutes[:, 0]


def load() -> Network:
    """Calibrated on 1,024 peptides, judged on the others of the run."""
    sequences, observed = identified()
    inputs = encode(sequences)
    drawn = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(0))
    seen, unseen = drawn[:CALIBRATION], drawn[CALIBRATION:]
    held_out = batches(inputs, unseen)
    return Network(
        name="deeplc",
        model=load_model(),
        example_inputs=tuple(part[seen[:64]] for part in inputs),
        calibration=batches(inputs, seen),
        score=lambda model: correlation(model, held_out, observed[unseen]),
        score_name=f"correlation with {len(unseen):,} observed times",
    )


def load_model() -> DeepLC:
    """DeepLC with its trained weights, for one set-up of many."""
    stored = torch.load(installed_file("deeplc", WEIGHTS), weights_only=True)
    values, which = stored["state_dict"], stored["task_names"].index(SETUP)
    state = {name: value for name, value in values.items() if name.startswith("encoder.")}
    scale = values["head.scale"][which]
    state["proj.weight"], state["proj.bias"] = values["head.proj.weight"], values["head.proj.bias"]
    state["setup.weight"] = scale * values["head.embedding"][which][None]
    state["setup.bias"] = values["head.shift"][which][None]
    model = DeepLC().eval()
    model.load_state_dict(state)
    return model


def identified() -> tuple[list[str], Tensor]:
    """The peptides of the run, each once and no decoys, and their median times in minutes."""
    times: dict[str, list[float]] = {}
    with gzip.open(installed_file("deeplc", OBSERVED), "rt") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["is_decoy"] == "False" and float(row["qvalue"]) <= 0.01:
                sequence = re.sub(r"\[[^]]*\]|/\d+", "", row["peptidoform"])
                times.setdefault(sequence, []).append(float(row["retention_time"]))
    kept = sorted(sequence for sequence in times if len(sequence) <= LENGTH)
    return kept, torch.tensor([sorted(times[s])[len(times[s]) // 2] for s in kept])


def encode(sequences: list[str]) -> Batch:
    """What the network takes of each peptide.

    The one modification of the run, carbamidomethyl on every cysteine, is given as a mass only,
    which the package leaves out of the atoms too.
    """
    table = torch.tensor([ATOMS[residue] for residue in RESIDUES] + [(0,) * 6]).float()
    residues = torch.full((len(sequences), LENGTH), PADDED)
    for row, sequence in enumerate(sequences):
        residues[row, : len(sequence)] = torch.tensor([RESIDUES.index(r) for r in sequence])
    atoms = table[residues]
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    last = (lengths[:, None] - ENDS + torch.arange(ENDS)).clamp_min(0)
    ends = torch.cat([atoms.take_along_dim(last[..., None], 1), atoms[:, :ENDS]], 1)
    unmodified = torch.zeros(len(sequences), 12)  # atoms that were added to the two termini
    summary = torch.cat([atoms.sum(1), lengths[:, None], ends.flatten(1), unmodified], 1)
    return atoms, residues, summary


def batches(inputs: Batch, rows: Tensor) -> list[Batch]:
    """Some rows of the inputs, 64 at a time."""
    return [tuple(part[some] for part in inputs) for some in rows.split(64)]


@torch.no_grad()
def correlation(model: nn.Module, inputs: list[Batch], observed: Tensor) -> float:
    """Pearson's, of predicted and observed times."""
    predicted = torch.cat([model(*batch) for batch in inputs])
    return float(torch.corrcoef(torch.stack([predicted, observed]))[0, 1])
