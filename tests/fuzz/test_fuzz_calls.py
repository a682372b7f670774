"""Whatever the arguments of the other public calls: a value, or a refusal that says what to do.

As `test_fuzz.py` for layers; here one argument at a time. What was given is left as it was.
"""

from __future__ import annotations

import copy
import inspect
import os
import tempfile
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.fuzzing import ODD_NUMBERS, ODD_THINGS, odd, outcome
from torch import nn

import tenfold
from tenfold import FactorizedConv, Fixed, Moment
from tenfold.network import Geometry, KernelNetwork

FACTORS = (("out", "r"), ("in", "r"), ("k0", "r"))
SIZES = {"out": 4, "in": 3, "k0": 3, "r": 2}
NETWORK = KernelNetwork(FACTORS, SIZES)
GROUPED = KernelNetwork(tuple(("group", *f) for f in FACTORS), {"group": 1, **SIZES})
CHAIN = KernelNetwork((("group", "out", "r"), ("group", "r", "in", "k0")), GROUPED.sizes)
GEOMETRY = Geometry((3,), (1,), (1,), (1,), (0,))
torch.manual_seed(0)
X = torch.randn(2, 4, 9, 9)
DENSE = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3))
SMALL = tenfold.compress(DENSE, budget=0.6, example_inputs=X, progress=False)
CONFIG = {"budget": 0.6, "budgets": (), "max_error": None, "min_score": None, "metric": "macs"}
CONFIG |= {"objective": "measured", "factorizations": ("tucker",), "multiple": None}
CONFIG |= {"implementations": ("factorized",), "correct": True, "holdout": 0.25, "probes": 4}
CONFIG |= {"memory": 2**30, "seed": 0, "progress": False, "include": (), "exclude": ()}


def layer(run="factorized"):
    return FactorizedConv(4, 6, (3, 3), rank=2, implementation=run)


def moment():
    seen = Moment(nn.Conv2d(4, 6, 3))
    seen.update(X)
    return seen


def update(**given):
    moment().update(given["input"], given["share"], given["generator"])


def output_error(kernel, other):
    return moment().output_error(kernel, other)


def fixed(**given):
    return FactorizedConv(4, 6, (3, 3), rank=2, implementation=Fixed(**given))(X)


def fix_plan(decision):
    layer().fix_plan(decision)


def tune_one(**given):
    return layer("auto").tune(given["input"], given["again"])


def load(directory, dense_model):
    with tempfile.TemporaryDirectory() as place:
        tenfold.save(SMALL, f"{place}/net")
        return tenfold.load(f"{place}/net" if directory is None else directory, dense_model)


def set_rank(**given):
    tenfold.set_rank(layer(), **given)


CALLS = {
    tenfold.compress: {"model": DENSE, "example_inputs": X, **CONFIG, "config": None}
    | {"calibration": None, "evaluate": None, "executor": None, "table": None},
    tenfold.survey: {"model": DENSE, "example_inputs": X, "calibration": None, "inputs": None}
    | {"executor": None, "table": None, "progress": False},
    tenfold.distill: {"student": SMALL.model, "teacher": DENSE, "batches": [X], "lr": 1e-4}
    | {"features": (), "amp": None, "checkpoint": None, "progress": False, "epochs": 1},
    tenfold.save: {"made": SMALL, "directory": "net"},
    load: {"directory": None, "dense_model": DENSE},
    tenfold.tune: {"model": nn.Sequential(layer("auto")), "example_inputs": X, "again": False},
    tune_one: {"input": X, "again": False},
    tenfold.to_plain: {"model": SMALL.model},
    tenfold.export: {"made": SMALL, "path": "it.onnx", "example_inputs": X, "calibration": None}
    | {"int8": False, "max_error": None, "runtime": None},
    tenfold.to_onnx: {"model": DENSE, "example_inputs": X, "dynamic": False},
    tenfold.measure_moments: {"model": DENSE, "names": ["0"], "batches": [X]},
    tenfold.Moment: {"conv": DENSE[0]},
    update: {"input": X, "share": 1.0, "generator": None},
    output_error: {"kernel": torch.ones(6, 4, 3, 3), "other": torch.ones(6, 4, 3, 3)},
    tenfold.decompose: {"tensor": torch.ones(6, 4, 3), "rank": 2, "factorization": "tt"}
    | {"groups": 1, "moment": None, "generator": None},
    tenfold.factorize: {"model": DENSE, "rank": 2, "factorization": "tt", "generator": None}
    | {"implementation": "factorized", "init": "spectral", "include": (), "exclude": ()},
    tenfold.frobenius_decay: {"model": SMALL.model, "weight_decay": 0.1},
    tenfold.parameter_groups: {"model": SMALL.model, "weight_decay": 0.1},
    tenfold.decoupled_decay: {"model": SMALL.model, "weight_decay": 0.1}
    | {"optimizer": torch.optim.SGD(SMALL.model.parameters())},
    set_rank: {"rank": 3, "optimizer": None},
    tenfold.RankSchedule: {"model": SMALL.model, "optimizer": None}
    | {"start": 0.9, "end": 0.2, "steps": 3},
    tenfold.Cuttlefish: {"model": DENSE, "optimizer": None, "rank": None, "factorization": "tt"}
    | {"implementation": "factorized", "include": (), "exclude": (), "settled": 0.1},
    tenfold.relative_error: {"kernel": torch.ones(3, 3), "other": torch.ones(3, 3)},
    fixed: {"partition": ((1,), (2, 3), (0,)), "memory_format": None, "packed": True},
    fix_plan: {"decision": {"partition": ((1,), (2, 3), (0,))}},
    tenfold.network.KernelNetwork: {"factors": FACTORS, "sizes": SIZES},
    tenfold.algebra.alternating_least_squares: {
        "kernel": torch.ones(1, 4, 3, 3),
        "network": GROUPED,
    }
    | {"generator": None, "start": None, "sweeps": 3, "tolerance": 1e-4},
    tenfold.algebra.chain_svd: {"kernel": torch.ones(1, 4, 3), "network": CHAIN},
    tenfold.algebra.leading_basis: {"matrix": torch.ones(4, 5), "rank": 2},
    tenfold.algebra.truncated_svd: {"matrix": torch.ones(4, 5), "rank": 2},
    tenfold.network.plan_contraction: {"inputs": FACTORS, "output": ("out", "in"), "sizes": SIZES},
    tenfold.network.partition_macs: {"network": NETWORK, "partition": ((1,), (2,), (0,))}
    | {"geometry": GEOMETRY},
    tenfold.network.roles: {"network": NETWORK, "done": (), "group": (1,), "geometry": GEOMETRY},
    tenfold.network.cheapest_partition: {"network": NETWORK, "geometry": GEOMETRY},
    tenfold.algebra.bond_matrix: {
        "kernel": torch.ones(1, 4, 3, 3),
        "factors": FACTORS,
        "bond": "r",
    },
}
FOREVER = [value for value in ODD_NUMBERS if isinstance(value, int) and value > 10**9]
DOCUMENTED = (FileExistsError, FileNotFoundError, IndexError)  # an index that names no factor
THEIRS = {
    "include",
    "exclude",
    "evaluate",
    "allowed",
    "inputs",
}  # functions, whose errors are their own
INPUTS = {"batches", "calibration", "example_inputs"}  # the user's network gets them, likewise


def held(value):
    """All numbers that a model among the arguments holds, and its training mode."""
    if isinstance(value, tenfold.Compression):
        value = value.model
    if not isinstance(value, nn.Module):
        return []
    return [value.training, *(tensor.clone() for tensor in value.state_dict().values())]


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_call(call, data):
    base = copy.deepcopy(CALLS[call])
    if call is tenfold.network.cheapest_partition:
        base["allowed"] = lambda group: True
    name = data.draw(st.sampled_from(sorted(base)))
    values = odd.filter(lambda value: not any(value is one for one in FOREVER))
    value = data.draw(values if name in ("epochs", "sweeps", "probes") else odd)
    some = isinstance(value, list | tuple | set | range | torch.Tensor)
    if (callable(value) and name in THEIRS) or (some and name in INPUTS):
        return
    before = {key: held(one) for key, one in base.items()}
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            with suppress(*DOCUMENTED):
                outcome(call, base, {name: value})
        finally:
            os.chdir(here)
    for key, one in base.items():
        if key not in (name, "student"):
            assert same(before[key], held(one))


def test_no_public_function_is_left_out():
    called = {call.__name__ for call in CALLS} | {"load", "count_sweep", "accelerate", "is_budget"}
    functions = {name for name in tenfold.__all__ if inspect.isfunction(getattr(tenfold, name))}
    assert functions <= called


@pytest.mark.parametrize(
    "value", [*ODD_NUMBERS, *ODD_THINGS], ids=lambda value: type(value).__name__
)
def test_is_budget_takes_anything(value):
    assert tenfold.network.is_budget(value) in (True, False)
