"""What convolutions read and write, and the candidates that it is too much for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tenfold import CompressionConfig, FactorizedConv
from tenfold.compression.candidates.candidate import Candidate
from tenfold.compression.candidates.table import LayerTable, Table
from tenfold.compression.choice.plan import Plan
from tenfold.compression.survey.layers import survey

CONVS = [
    (nn.Conv1d(6, 8, 3, stride=2, padding=1), (2, 6, 11)),
    (nn.Conv2d(6, 8, 3, padding="same", dilation=2), (2, 6, 9, 7)),
    (nn.Conv2d(6, 8, (3, 1), groups=2, padding=(1, 0)), (3, 6, 8, 8)),
    (nn.Conv3d(6, 4, 2), (1, 6, 4, 5, 6)),
    (nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1), (2, 6, 5, 5)),
    (nn.Linear(6, 8), (2, 7, 6)),
]


def moved(module, x):
    """Elements that the convolutions and linear layers inside `module` take and give on `x`."""
    counts = []
    for one in module.modules():
        if not list(one.children()):
            one.register_forward_hook(
                lambda _, given, y: counts.append(given[0].numel() + y.numel())
            )
    module(x)
    return sum(counts)


@pytest.mark.parametrize(("conv", "shape"), CONVS, ids=lambda value: type(value).__name__)
def test_a_layer_s_traffic_is_what_it_reads_and_writes(conv, shape):
    (layer,) = survey(nn.Sequential(conv), torch.randn(shape))
    assert layer.traffic == moved(conv, torch.randn(shape))


@pytest.mark.parametrize("name", ["cp", "tucker", "tt", "spatial_svd"])
@pytest.mark.parametrize(("conv", "shape"), CONVS[:4], ids=lambda value: type(value).__name__)
def test_a_chain_s_traffic_is_that_of_its_convolutions(name, conv, shape):
    made = FactorizedConv.from_conv(conv, rank=2, factorization=name)
    assert shape[0] * made.plan.traffic(shape[2:]) == moved(
        made.to_sequential(), torch.randn(shape)
    )


@pytest.mark.parametrize(("metric", "kept"), [("macs", False), ("parameters", True)])
def test_fewer_macs_that_go_with_more_traffic_are_no_saving(metric, kept):
    (layer,) = survey(nn.Sequential(nn.Conv2d(3, 32, 3)), torch.randn(1, 3, 12, 12))
    dense = Candidate(parameters=896, macs=86_400, traffic=3_632)
    narrow = {"factorization": "tucker", "implementation": "factorized", "rank": (7, 3)}
    wide = Candidate(**narrow, parameters=454, macs=43_803, traffic=5_664)
    good = Candidate(**narrow, parameters=300, macs=8_000, traffic=3_000)
    config = CompressionConfig(budget=0.5, metric=metric, objective="energy")
    table = Table("", layers={layer.name: LayerTable(layer.name, [dense, wide, good], {})})
    plan = Plan([layer], table, config, 0.0)
    assert plan.candidates[0] == ([dense, wide, good] if kept else [dense, good])
