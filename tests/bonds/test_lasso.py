"""Rank learning: gates on bonds, their penalty, and factors that are smaller without them."""

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, factorizations, relative_error
from tenfold.bonds import prune_ranks, tensor_dropout, tensor_lasso
from tenfold.bonds.lasso import gates

FORMATS = [*factorizations.names(), "tucker+depthwise_separable"]
X = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def layer_of(factorization, rank=3, **options):
    torch.manual_seed(0)
    return FactorizedConv(
        4, 6, 3, order=2, rank=rank, factorization=factorization, dtype=torch.float64, **options
    )


@torch.no_grad()
def close(layer, left=1):
    """Shut all but some gates of each bond."""
    for place, gate in enumerate(gates(layer.weight).values()):
        gate.uniform_(0.5, 2)
        gate[torch.randperm(len(gate))[: max(0, len(gate) - left - place % 2)]] = 0.005


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("groups", [1, 2])
def test_pruned_factors_are_smaller_with_the_same_output(factorization, groups):
    layer = layer_of(factorization, groups=groups)
    lasso, whole = tensor_lasso(layer, threshold=0.01), layer.weight.numel()
    close(layer)
    before = layer(X)
    ranks = lasso.ranks()[0]
    assert prune_ranks(layer) is layer
    assert relative_error(before, layer(X)) < 1e-6
    assert layer.weight.numel() < whole or layer.rank == 1
    pairs = zip([layer.rank] if isinstance(layer.rank, int) else layer.rank, ranks, strict=True)
    assert all(now <= open_ for now, open_ in pairs)
    fresh = layer_of(factorization, layer.rank, groups=groups)
    fresh.load_state_dict(layer.state_dict())
    assert relative_error(fresh(X), layer(X)) < 1e-12
    assert relative_error(layer.to_conv()(X), layer.eval()(X)) < 1e-10


@pytest.mark.parametrize("factorization", FORMATS)
def test_open_gates_change_nothing_and_learn(factorization):
    layer = layer_of(factorization)
    before = layer(X)
    lasso = tensor_lasso(layer)
    assert relative_error(before, layer(X)) < 1e-12
    (layer(X).square().sum() + lasso.penalty()).backward()
    for gate in gates(layer.weight).values():
        assert bool((gate.grad != 1).any())
    lasso.remove()
    assert relative_error(before, layer(X)) < 1e-12
    assert list(layer.state_dict()) == list(layer_of(factorization).state_dict())


def test_removed_gates_are_folded():
    layer = tensor_dropout(layer_of("tucker")).eval()
    lasso = tensor_lasso(layer)
    close(layer)
    before = layer(X)
    lasso.remove()
    assert relative_error(before, layer(X)) < 1e-12
    assert not gates(layer.weight)


def test_the_largest_gate_of_a_bond_stays():
    layer = layer_of("cp")
    tensor_lasso(layer)
    (gate,) = gates(layer.weight).values()
    with torch.no_grad():
        gate.copy_(torch.tensor([0.0, -0.003, 0.001]))
    before = layer(X)
    assert prune_ranks(layer).rank == 1
    assert relative_error(before, layer(X)) < 1e-12


def test_a_larger_threshold_prunes_more():
    layer = layer_of("cp")
    tensor_lasso(layer)
    with torch.no_grad():
        next(iter(gates(layer.weight).values())).copy_(torch.tensor([1.0, 0.2, 0.5]))
    assert prune_ranks(layer, threshold=0.3).rank == 2


def test_the_penalty_counts_macs():
    layer = layer_of("tucker", (4, 2))
    lasso = tensor_lasso(layer, size=(8, 8))
    more = [layer_of("tucker", ranks).macs((8, 8)) for ranks in [(5, 2), (4, 3)]]
    whole = layer.macs((8, 8))
    wanted = sum(n * (m - whole) / whole for n, m in zip((4, 2), more, strict=True))
    assert lasso.penalty().item() == pytest.approx(wanted)


def test_what_cannot_be_gated_or_pruned_is_refused():
    layer = layer_of("cp")
    with pytest.raises(ValueError, match="call tensor_lasso"):
        prune_ranks(layer)
    with pytest.raises(ValueError, match="for one layer"):
        tensor_lasso(nn.Sequential(layer), size=3)
    with pytest.raises(ValueError, match="at least 0"):
        tensor_lasso(layer, threshold=-1)
    tensor_lasso(nn.Sequential(layer))
    with pytest.raises(ValueError, match="already"):
        tensor_lasso(layer)
    with pytest.raises(ValueError, match="at least 0"):
        prune_ranks(layer, threshold=-1)
