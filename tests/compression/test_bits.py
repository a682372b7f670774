"""Compressing for eight bits: what is measured is the rounded layer, what is spent its bytes."""

from dataclasses import dataclass
from math import prod

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from tenfold import FactorizedConv, compress, export, factorizations, relative_error
from tenfold.compression.measurement.task import Judge
from tenfold.deployment.work import Work
from tenfold.run import in_eight_bits
from tenfold_plugins.cp import CP

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporters, and noise to calibrate on
QUIET = {"progress": False, "refine": "off", "correct": False, "never_slower": False}


@dataclass(frozen=True, kw_only=True)
class Cancelling(CP):
    """CP whose terms come with others that are a thousand times larger, and cancel each other."""

    def decompose(self, kernel, network, generator=None):
        half = network.sizes["r"] // 4
        if half == 0:
            return super().decompose(kernel, network, generator)
        fewer = self.network(tuple(kernel.shape[1:]), 2 * half)
        found = super().decompose(kernel, fewer, generator)
        large = [torch.cat([one[..., :half]] * 2, -1) for one in found]
        large[0] = large[0] * torch.tensor([1000.0, -1000.0]).repeat_interleave(half)
        rest = network.sizes["r"] - 4 * half
        return [
            torch.cat([one, more, one.new_zeros(*one.shape[:-1], rest)], -1)
            for one, more in zip(found, large, strict=True)
        ]


def network():
    """Two convolutions, of which the first is of few terms."""
    torch.manual_seed(0)
    first = nn.Conv2d(16, 16, 3)
    terms = FactorizedConv(16, 16, (3, 3), rank=8, factorization="cp", bias=False)
    first.weight.data = 3 * terms.weight.to_tensor().detach()
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(16, 4, 3)).eval()


X = torch.randn(8, 16, 9, 9, generator=torch.Generator().manual_seed(1))


def chosen(bits, formats, **options):
    asked = {"budget": 0.43, "include": "0", **QUIET, **options}
    return compress(network(), example_inputs=X, factorizations=formats, bits=bits, **asked)


def test_a_format_that_rounding_spoils_is_not_chosen(monkeypatch):
    monkeypatch.setattr(factorizations, "_registered", {})  # for this test
    factorizations.register("cancelling", Cancelling)
    formats, found = ("cancelling", "spatial_svd"), {}
    for bits, budget in (
        (None, 0.44),
        (8, 0.3),
    ):  # each has room for 16 terms, and is short of dense
        made = chosen(bits, formats, budget=budget, metric="parameters")
        found[bits] = made.report.layers[0].factorization
        (one,) = [c for c in made.table.layers["0"].candidates if c.rank == 16 and c.macs < 4e5]
        assert one.factorization == "cancelling"
        assert one.weighted < 1e-3 if bits is None else one.weighted > 0.3
    assert found == {None: "cancelling", 8: "spatial_svd"}


def test_what_is_measured_of_a_candidate_is_the_rounded_layer(monkeypatch):
    seen = []

    def alone(judge, model, name):
        seen.append(model[0].weight.detach().clone())
        return 0.1

    monkeypatch.setattr(Judge, "alone", alone)
    dense, *others = chosen(8, ("cp", "tucker")).table.layers["0"].candidates
    found = [relative_error(network()[0].weight, weight) for weight in seen]
    wanted = [one.kernel_error for one in others if one.error == 0.1]
    assert found == pytest.approx(wanted, rel=1e-3)
    assert 1e-4 < dense.kernel_error < 0.02
    assert all(one.kernel_error > dense.kernel_error / 10 for one in others)


def test_a_budget_of_parameters_counts_the_bytes_that_are_stored():
    asked = {"budget": 0.15, "metric": "parameters", "include": ()}
    report, plain = (chosen(bits, ("tucker",), **asked).report for bits in (8, None))
    assert report.bytes.before == 4 * report.parameters.before
    assert 0.8 * 0.15 < report.bytes.after / report.bytes.before <= 0.15
    assert report.parameters.after > plain.parameters.after
    assert "in 8 bits" in str(report)
    assert "at most 0.15 of the bytes" in str(report)


@torch.no_grad()
def test_it_is_rounded_as_the_exporter_does_it_and_takes_as_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(Work, "times", lambda work: dict.fromkeys(work.runs, 1.0))
    layer = FactorizedConv(16, 24, (3, 3), rank=0.5, factorization="tucker")
    export(layer, tmp_path / "layer.onnx", example_inputs=X, int8=True)
    graph = onnx.load(tmp_path / "layer.onnx").graph
    held = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    weights, scalar = [], torch.zeros(()).numpy()
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and held.get(node.input[0], scalar).ndim == 4:
            values, scale = (torch.from_numpy(held[name].copy()) for name in node.input[:2])
            weights.append(values * scale.reshape(-1, 1, 1, 1))
    given, factors = layer.weight.network, tuple(layer.weight.factors)
    found = in_eight_bits(layer.plan, given, factors, False)
    shapes = [stage.weight_shape for stage in layer.plan.stages]
    assert [tuple(weight.shape) for weight in weights] == shapes
    axes = [[given.sizes[mode] for mode in stage.modes] for stage in layer.plan.stages]
    parts = zip(weights, axes, layer.plan.stages, strict=True)
    made = [w.reshape(sizes) for w, sizes, _ in parts]
    modes = tuple(stage.modes for stage in layer.plan.stages)
    kernel, whole = type(given)(modes, given.sizes).to_tensor(made), layer.weight.to_tensor()
    errors = [relative_error(whole, one) for one in (found.kernel, kernel)]
    assert errors[0] == pytest.approx(errors[1], rel=0.3)
    stored = sum(held[name].nbytes for name in held)
    bias = 12 * 24
    assert prod(shapes[0]) < found.bytes <= stored - bias + 64 < 1.1 * found.bytes
