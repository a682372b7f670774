"""Lower ranks from one decomposition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import FactorizedKernel, compress, factorizations
from tenfold.algebra import by_group
from tenfold.compression.candidates import meter
from tenfold.compression.candidates.sketched import Sketched
from tenfold.compression.candidates.truncation import centre, kept, leading, ordered
from tenfold.network.network import KernelNetwork

FORMATS = ("spatial_svd", "channel_svd", "tucker")
DRAWN = given(
    st.sampled_from(FORMATS),
    st.sampled_from([(8, 6), (8, 6, 3), (8, 4, 3, 2), (6, 2, 3, 3)]),
    st.sampled_from([1, 2]),
    st.integers(0, 99),
    st.data(),
)


def drawn(format_, shape, groups, seed):
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(shape, generator=generator, dtype=torch.float64)
    made = FactorizedKernel.from_tensor(kernel, rank=10**9, factorization=format_, groups=groups)
    return kernel, made.network, [factor.detach() for factor in made.factors]


@settings(max_examples=60, deadline=None)
@DRAWN
def test_the_whole_is_the_kernel_and_a_part_loses_what_is_said(format_, shape, groups, seed, data):
    kernel, network, factors = drawn(format_, shape, groups, seed)
    middle = centre(network)
    parts = ordered(network, factors, middle)
    torch.testing.assert_close(network.to_tensor(parts), kernel)
    ranks = {b: data.draw(st.integers(1, network.sizes[b]), label=b) for b in network.bonds}
    smaller = KernelNetwork(network.factors, {**network.sizes, **ranks})
    gap = kernel - smaller.to_tensor(leading(smaller, parts))
    left = float(kept(network, parts, middle)[tuple(r - 1 for r in ranks.values())])
    assert float(gap.square().sum()) == pytest.approx(float(kernel.square().sum()) - left)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(FORMATS[:2]), st.integers(1, 12), st.integers(0, 99))
def test_of_one_bond_each_part_is_the_best(format_, rank, seed):
    kernel, network, factors = drawn(format_, (12, 5, 3, 3), 1, seed)
    middle = centre(network)
    best = FactorizedKernel.from_tensor(kernel, rank=rank, factorization=format_)
    smaller = KernelNetwork(network.factors, {**network.sizes, "r": best.rank})
    part = smaller.to_tensor(leading(smaller, ordered(network, factors, middle)))
    torch.testing.assert_close((kernel - part).norm(), (kernel - best.to_tensor()).norm().detach())


def test_a_chain_has_no_centre_and_neither_has_a_bond_of_many():
    assert centre(factorizations["tt"]().network((8, 6, 3, 3), 2)) is None
    assert centre(factorizations["cp"]().network((8, 6, 3, 3), 2)) is None


@settings(max_examples=40, deadline=None)
@DRAWN
def test_a_part_gives_for_a_sketch_what_its_kernel_gives(format_, shape, groups, seed, data):
    kernel, network, factors = drawn(format_, shape, groups, seed)
    sketch = torch.randn(groups, kernel[0].numel(), 5, dtype=kernel.dtype)
    parts = ordered(network, factors, centre(network))
    ranks = {b: data.draw(st.integers(1, network.sizes[b]), label=b) for b in network.bonds}
    smaller = KernelNetwork(network.factors, {**network.sizes, **ranks})
    made = by_group(smaller.to_tensor(leading(smaller, parts)), groups)
    found = Sketched(network, parts, sketch).rows(smaller)
    torch.testing.assert_close(found, made.flatten(2) @ sketch)


def test_a_factor_that_shares_an_input_with_others_takes_in_no_sketch():
    sizes = {"out": 5, "in": 4, "k0": 3, "r": 6}
    network = KernelNetwork((("in", "r"), ("out", "in", "k0", "r")), sizes)
    factors, sketch = [torch.randn(shape) for shape in network.shapes], torch.randn(1, 12, 7)
    made = network.to_tensor(factors).flatten(1) @ sketch[0]
    torch.testing.assert_close(Sketched(network, factors, sketch).rows(network)[0], made)


def test_parts_of_what_is_ordered_already_are_those_of_what_is_not():
    kernel, network, factors = drawn("tucker", (8, 6, 3, 3), 1, 0)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=kernel.dtype))[0]
    out, given, core = factors
    other = [out, 2 * given @ turn, torch.einsum("oikl,ij->ojkl", core, turn) / 2]
    found, wanted = (ordered(network, one, 2) for one in (other, ordered(network, factors, 2)))
    smaller = KernelNetwork(network.factors, {**network.sizes, "ro": 4, "ri": 3})
    parts = [smaller.to_tensor(leading(smaller, one)) for one in (found, wanted)]
    torch.testing.assert_close(*parts)


def test_the_errors_of_a_large_layer_are_those_of_its_kernels(monkeypatch):
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Conv2d(96, 160, 3, groups=1))
    x = torch.randn(4, 96, 8, 8)
    asked = {"example_inputs": x, "correct": False, "refine": "off", "progress": False}
    found = [compress(layer, budget=0.4, **asked)]
    monkeypatch.setattr(meter, "LARGE", 2**30)
    found.append(compress(layer, budget=0.4, **asked))
    quick, whole = (made.table.layers["0"].candidates for made in found)
    assert any(one.kernel_error is None for one in quick)
    for one, other in zip(quick, whole, strict=True):
        assert one.weighted == pytest.approx(other.weighted, rel=1e-3, abs=1e-5)
        assert one.output_error == pytest.approx(other.output_error, rel=1e-3, abs=1e-5)
    first, second = (made.report.layers[0].kernel_error for made in found)
    assert first == pytest.approx(second, rel=1e-4)
    assert first > 0.1
