"""SOAP: Adam in the basis of the gradients, as an optimizer of PyTorch's."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import SOAP, FactorizedConv
from tenfold.optim import soap
from tenfold.optim.turning import eigenbasis, times, turned


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stepped(optimizer, one, gradients):
    for gradient in gradients:
        one.grad = gradient.clone()
        optimizer.step()
    return one.detach()


def test_of_a_vector_it_is_adam():
    start, gradients = drawn(40), [drawn(40, seed=k) for k in range(1, 8)]
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = stepped(SOAP([one], lr=0.01), one, gradients) - start
    adam = torch.optim.Adam([other], lr=0.01, betas=(0.9, 0.95), eps=1e-12)
    torch.testing.assert_close(mine, stepped(adam, other, gradients) - start, rtol=0.05, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(size=st.integers(2, 6), seed=st.integers(0, 99))
def test_it_turns_with_the_axes(size, seed):
    start, gradients = drawn(size, size), [drawn(size, size, seed=seed + k) for k in range(14)]
    left, right = (torch.linalg.qr(drawn(size, size, seed=seed + k))[0] for k in (50, 51))
    one, other = nn.Parameter(start.clone()), nn.Parameter(left @ start @ right)
    plain = stepped(SOAP([one], lr=0.01), one, gradients)
    seen = stepped(SOAP([other], lr=0.01), other, [left @ g @ right for g in gradients])
    torch.testing.assert_close(left @ plain @ right, seen, rtol=1e-4, atol=1e-6)


def test_where_directions_count_unlike_it_comes_nearer_than_adam():
    found = {}
    for kind in (SOAP, torch.optim.Adam):
        one, batches = nn.Parameter(torch.zeros(12, 10)), torch.Generator().manual_seed(0)
        optimizer = kind([one], lr=0.1)
        for left in range(200, 0, -1):
            optimizer.param_groups[0]["lr"] = 0.1 * left / 200
            gap = unlike(12, seed=1) @ (one - drawn(12, 10).float()) @ unlike(10, seed=2)
            optimizer.zero_grad()
            (torch.randn(32, 12, generator=batches) @ gap).square().mean().backward()
            optimizer.step()
        found[kind] = float(gap.detach().square().mean())
    assert found[SOAP] < 0.01 * found[torch.optim.Adam]


def unlike(size, seed):
    """A matrix whose singular values are 1 to 0.01, in no axis's direction."""
    basis, _ = torch.linalg.qr(drawn(size, size, seed=seed))
    return ((basis * torch.logspace(0, -2, size)) @ basis.mT).float()


@settings(deadline=None, max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_steps_go_down_a_quadratic_whatever_its_scale(sizes, scale, seed):
    goal = scale * drawn(*sizes, seed=seed, dtype=torch.float32)
    one = nn.Parameter(goal + 0.1 * scale * drawn(*sizes, seed=seed + 1).float().sign())
    start, optimizer = float((one - goal).detach().norm()), SOAP([one])
    for left in range(100, 0, -1):
        optimizer.param_groups[0]["lr"] = 0.02 * scale * left / 100
        (one - goal).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float((one - goal).detach().norm()) < 0.2 * start


def test_relative_steps_are_of_the_parameter_s_size():
    gradients, moved = [drawn(4, 4, seed=k) for k in range(1, 5)], []
    for scale in (1.0, 100.0):
        one = nn.Parameter(scale * drawn(4, 4))
        optimizer = SOAP([one], lr=0.01, relative=True)
        moved.append((stepped(optimizer, one, gradients) - scale * drawn(4, 4)) / scale)
    torch.testing.assert_close(*moved)
    zero = nn.Parameter(torch.zeros(3))
    assert bool((stepped(SOAP([zero], relative=True), zero, [torch.ones(3)]) < 0).all())


def test_decay_is_decoupled_and_groups_have_options_of_their_own():
    one, other = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = SOAP([{"params": [one], "weight_decay": 0.5}, {"params": [other]}], lr=0.1)
    for each in (one, other):
        each.grad = torch.zeros(2, 2)
    optimizer.step()
    torch.testing.assert_close(one.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(other.detach(), torch.ones(2, 2))


@pytest.mark.parametrize("carried", ["loaded", "copied", "pickled"])
def test_what_it_remembers_can_be_kept(carried):
    gradients = [drawn(5, 3, 3, seed=k) for k in range(25)]
    one = nn.Parameter(drawn(5, 3, 3))
    optimizer = SOAP([one], lr=0.01)
    stepped(optimizer, one, gradients[:13])
    if carried == "loaded":
        other = nn.Parameter(one.detach().clone())
        later = SOAP([other], lr=1.0)
        later.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    else:
        both = (one, optimizer)
        other, later = (
            copy.deepcopy(both) if carried == "copied" else pickle.loads(pickle.dumps(both))
        )
    wanted = stepped(optimizer, one, gradients[13:])
    assert torch.equal(stepped(later, other, gradients[13:]), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64, torch.float64])
def test_other_numbers_are_trained(dtype):
    layer = FactorizedConv(6, 6, 3, order=1, rank=3, padding=1, dtype=dtype)
    x = torch.randn(4, 6, 12).to(dtype)
    optimizer, losses = SOAP(layer.parameters(), lr=0.01), []
    for _ in range(40):
        loss = (layer(x) - x).abs().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert all(one.dtype == dtype for one in layer.parameters())


def test_a_closure_is_run_with_gradients():
    one = nn.Parameter(torch.ones(3))
    optimizer = SOAP([one], lr=0.1)

    def closure():
        loss = one.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 3.0
    assert bool((one < 1).all())


def test_threads_share_the_parameters_and_take_the_same_steps(monkeypatch):
    threads, found = torch.get_num_threads(), []
    for shared in (1, 10**9):
        monkeypatch.setattr(soap, "SHARED", shared)
        sizes = [(6, 5, 3), (4,), (7, 2), (3, 3)]
        parameters = [nn.Parameter(drawn(*size, dtype=torch.float32)) for size in sizes]
        try:
            torch.set_num_threads(2)
            with soap._pool(parameters) as pool, soap._pool([parameters[0].to("meta")]) as none:
                assert (pool is None) == (shared > 1)
                assert none is None
            optimizer = SOAP(parameters, lr=0.1)
            for step in range(12):
                for one in parameters[:-1]:
                    one.grad = drawn(*one.shape, seed=step, dtype=torch.float32)
                optimizer.step()
                assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        found.append([one.detach() for one in parameters])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"betas": (0.9, 1.0)}, "betas="),
        ({"betas": 0.9}, "betas=0.9"),
        ({"betas": ("a", 0.9)}, "betas="),
        ({"relative": 2}, "relative=2"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SOAP([nn.Parameter(torch.ones(2))], **options)


def test_gradients_that_are_not_finite_are_named_before_they_spoil_what_they_are_of():
    one = nn.Parameter(torch.ones(3, 3))
    one.grad = torch.full((3, 3), torch.nan)
    with pytest.raises(FloatingPointError, match="gradients are not finite"):
        SOAP([one]).step()
    assert torch.equal(one.detach(), torch.ones(3, 3))


def test_sparse_gradients_are_refused_before_anything_moves():
    table, other = nn.Embedding(4, 2, sparse=True), nn.Parameter(torch.ones(9))
    (table(torch.tensor([1])).sum() + other.sum()).backward()
    with pytest.raises(RuntimeError, match="sparse"):
        SOAP([other, *table.parameters()]).step()
    assert torch.equal(other.detach(), torch.ones(9))


@pytest.mark.parametrize("shape", [(3, 4), (4, 5, 3, 3), (3, 5, 40), (6, 4, 7, 8), (2, 3, 1, 1)])
def test_a_matrix_times_any_axis_is_the_contraction(shape):
    value = drawn(*shape)
    for axis, size in enumerate(shape):
        matrix = drawn(size, size, seed=axis)
        wanted = torch.tensordot(matrix, value, ([1], [axis])).movedim(0, axis)
        torch.testing.assert_close(times(matrix, value, axis), wanted)


def test_what_is_turned_is_turned_back():
    value = drawn(4, 5, 3)
    bases = {axis: eigenbasis(drawn(n, n) @ drawn(n, n).mT) for axis, n in ((0, 4), (2, 3))}
    torch.testing.assert_close(turned(turned(value, bases), bases, back=True), value)
