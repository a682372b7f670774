"""Factors that hooks make of others before each call, as pruning's masks do."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import prune

from tenfold import FactorizedConv, load, save

X = torch.randn(2, 6, 7, 7, generator=torch.Generator().manual_seed(0))


def layer(factorization):
    torch.manual_seed(0)
    return FactorizedConv(6, 8, (3, 3), rank=0.5, factorization=factorization)


def test_a_masked_factor_trains_on_and_stays_masked(factorization):
    made = layer(factorization)
    count = len(made.weight.factors)
    for index in (0, count - 1):
        prune.l1_unstructured(made.weight.factors, str(index), 0.5)
    optimizer = torch.optim.SGD(made.parameters(), 1e-3)
    losses = []
    for _ in range(4):
        loss = made(X).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    for index in (0, count - 1):
        masked = made.weight.current()[index]
        assert int((masked == 0).sum()) >= masked.numel() // 2


@pytest.mark.parametrize("training", [True, False])
def test_a_mask_counts_at_once_and_so_does_what_is_written_under_it(factorization, training):
    made = layer(factorization).train(training)
    for index in range(len(made.weight.factors)):
        one = copy.deepcopy(made)
        with torch.no_grad():
            one(X)  # whatever is kept for the next call
            prune.l1_unstructured(one.weight.factors, str(index), 0.5)
            masked = one(X)
            torch.testing.assert_close(masked, F.conv2d(X, one.weight.to_tensor(), one.bias))
            getattr(one.weight.factors, f"{index}_orig").mul_(2)
            bias = one.bias[:, None, None]
            torch.testing.assert_close(one(X) - bias, 2 * (masked - bias))


def test_what_is_saved_is_what_the_next_call_uses(tmp_path):
    made = layer("tucker").eval()
    prune.l1_unstructured(made.weight.factors, "1", 0.5)
    with torch.no_grad():
        made.weight.factors.get_parameter("1_orig").mul_(3)
    save(torch.nn.Sequential(made), tmp_path / "saved")
    again = load(tmp_path / "saved", torch.nn.Sequential(torch.nn.Conv2d(6, 8, 3))).eval()
    torch.testing.assert_close(again(X), made(X))
