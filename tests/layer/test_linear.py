"""Linear layers, embeddings and heads of factors, against their dense meaning."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tenfold
from tenfold import (
    FactorizedConv,
    FactorizedEmbedding,
    FactorizedLinear,
    TensorContraction,
    TensorRegression,
    factorizations,
    relative_error,
)
from tenfold.bonds import prune_ranks, remove_tensor_dropout, tensor_dropout, tensor_lasso

FORMATS = [*factorizations.names(), "tucker+channel_svd"]
SPLIT = ["tt_matrix", "cp_matrix", "tucker_matrix"]


def same(one, other, x, y):
    """Two ways from parameters to a tensor agree in values and gradients."""
    assert relative_error(one(x), other(x)) < 1e-10
    towards = torch.randn_like(one(x))
    left, right = (
        torch.autograd.grad((way(x) * towards).sum(), y, allow_unused=True) for way in (one, other)
    )
    for a, b in zip(left, right, strict=True):
        assert relative_error(b, a) < 1e-9


@pytest.mark.parametrize("factorization", FORMATS)
@settings(max_examples=4, deadline=None)
@given(
    ins=st.sampled_from([12, 7, 30]), outs=st.sampled_from([8, 18]), batch=st.sampled_from([1, 3])
)
def test_a_linear_layer_is_its_matrix(factorization, ins, outs, batch):
    layer = FactorizedLinear(ins, outs, rank=3, factorization=factorization, dtype=torch.float64)
    x = torch.randn(batch, 2, ins, dtype=torch.float64, requires_grad=True)

    def dense(x):
        return nn.functional.linear(x, layer.weight.to_tensor(), layer.bias)

    same(layer, dense, x, [x, *layer.parameters()])


@pytest.mark.parametrize("factorization", SPLIT)
def test_a_linear_layer_makes_no_matrix(factorization):
    layer = FactorizedLinear((8, 8, 8), (8, 8, 8), rank=2, factorization=factorization)
    made = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            made.extend(one.numel() for one in (found,) if isinstance(one, torch.Tensor))
            return found

    with Watch():
        layer(torch.randn(4, 512))
    assert max(made) < 512 * 512 / 8


@pytest.mark.parametrize("factorization", SPLIT)
def test_the_parts_are_those_that_are_given(factorization):
    layer = FactorizedLinear((2, 6), (5, 3), rank=2, factorization=factorization)
    assert {layer.weight.network.sizes[f"in.{part}"] for part in (0, 1)} == {2, 6}
    assert layer.weight.network.sizes["out.0"] == 5
    again = FactorizedLinear(12, 15, rank=layer.rank, factorization=layer.weight.choice.plugin)
    again.load_state_dict(layer.state_dict())
    x = torch.randn(2, 12)
    assert torch.allclose(again(x), layer(x), atol=1e-6)
    for made in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert isinstance(made, FactorizedLinear)
        assert torch.equal(made(x), layer(x))


def test_a_trained_linear_layer_is_replaced():
    linear = nn.Linear(24, 18).eval().requires_grad_(False)
    layer = FactorizedLinear.from_linear(linear, rank=10**9)
    x = torch.randn(3, 24)
    assert relative_error(linear(x), layer(x)) < 1e-5
    assert (layer.in_features, layer.out_features) == (24, 18)
    assert not layer.training
    assert repr(layer) == "FactorizedLinear(24, 18, rank=(4, 12), factorization='tt_matrix')"
    with pytest.raises(TypeError, match="Linear"):
        FactorizedLinear.from_linear(nn.Conv2d(1, 1, 1))


def test_a_network_with_one_is_saved_and_loaded(tmp_path):
    model = nn.Sequential(FactorizedLinear(12, 8, rank=2))
    tenfold.save(model, tmp_path / "it")
    found = tenfold.load(tmp_path / "it", nn.Sequential(nn.Linear(12, 8)))
    x = torch.randn(2, 12)
    assert relative_error(model(x), found(x)) < 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": (2, 3), "out_features": (2, 3, 4)}, "as many parts"),
        ({"in_features": (2, 0), "out_features": 4}, "at least 1"),
        ({"in_features": (2, 3), "out_features": 4, "factorization": "tt"}, "takes"),
        ({"in_features": 0, "out_features": 4}, "in_channels=0"),
    ],
)
def test_a_bad_linear_layer_is_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FactorizedLinear(**arguments)


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("rows", [12, 17])
def test_an_embedding_is_its_table(factorization, rows):
    table = FactorizedEmbedding(
        rows, 6, padding_idx=3, rank=2, factorization=factorization, dtype=torch.float64
    )
    indices = torch.tensor([[0, rows - 1, 3], [5, 5, 7]])

    def dense(indices):
        whole = table.weight.to_tensor()[:rows]
        return nn.functional.embedding(indices, whole) * (indices != 3)[..., None]

    same(table, dense, indices, list(table.parameters()))
    assert not bool(table(indices)[0, 2].any())
    assert table(indices).shape == (2, 3, 6)


def test_an_embedding_makes_no_table():
    table = FactorizedEmbedding(30_011, 64, rank=4)
    assert table.weight.numel() < 30_011 * 64 / 100
    assert table(torch.tensor([0, 30_010])).shape == (2, 64)
    made = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            made.extend(one.numel() for one in (found,) if isinstance(one, torch.Tensor))
            return found

    with Watch():
        table(torch.tensor([5, 6]))
    assert max(made) < 10_000


def test_a_fresh_table_has_variance_1():
    torch.manual_seed(0)
    table = FactorizedEmbedding(64, 32, rank=8)
    assert table.weight.to_tensor().square().mean().item() == pytest.approx(1, rel=1e-4)


def test_a_trained_table_is_replaced():
    embedding = nn.Embedding(13, 8, padding_idx=-1).eval()
    table = FactorizedEmbedding.from_embedding(embedding, rank=10**9)
    indices = torch.arange(13)
    assert relative_error(embedding(indices), table(indices)) < 1e-5
    assert table.padding_idx == 12
    assert not table.training


def test_what_an_embedding_does_not_take_is_refused():
    table = FactorizedEmbedding(5, 4)
    with pytest.raises(IndexError, match="5 rows"):
        table(torch.tensor([5]))
    with pytest.raises(TypeError, match="int64"):
        table(torch.zeros(2))
    with pytest.raises(ValueError, match="sparse"):
        FactorizedEmbedding(5, 4, sparse=True)
    with pytest.raises(ValueError, match="within the 5 rows"):
        FactorizedEmbedding(5, 4, padding_idx=5)
    with pytest.raises(ValueError, match="max_norm"):
        FactorizedEmbedding.from_embedding(nn.Embedding(5, 4, max_norm=1.0))


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("shape", [(6,), (4, 5), (4, 3, 2), (2, 3, 2, 2)])
def test_a_regression_is_a_linear_map_of_the_tensor(factorization, shape):
    head = TensorRegression(shape, (2, 3), rank=2, factorization=factorization, dtype=torch.float64)
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)

    def dense(x):
        weight = head.layer.weight.to_tensor().flatten(1)
        return nn.functional.linear(x.flatten(1), weight, head.layer.bias).reshape(2, 2, 3)

    same(head, dense, x, [x, *head.parameters()])


def test_a_contraction_of_rank_1_is_a_matrix_for_each_axis():
    layer = TensorContraction((4, 5, 3), (2, 3, 2), dtype=torch.float64)
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    matrices = [factor[..., 0] for factor in layer.layer.weight.factors]
    expected = torch.einsum("bijk,ix,jy,kz->bxyz", x, *matrices)
    assert relative_error(expected, layer(x)) < 1e-12


@pytest.mark.parametrize("factorization", SPLIT)
def test_a_contraction_takes_any_format_of_parts(factorization):
    layer = TensorContraction((4, 5), (2, 3), True, rank=2, factorization=factorization)
    x = torch.randn(3, 4, 5)
    dense = nn.functional.linear(x.flatten(1), layer.layer.weight.to_tensor(), layer.layer.bias)
    assert relative_error(dense.reshape(3, 2, 3), layer(x)) < 1e-5


def test_bad_heads_are_refused():
    with pytest.raises(ValueError, match="same number of axes"):
        TensorContraction((4, 5), (2, 3, 4))
    with pytest.raises(ValueError, match="at least 1"):
        TensorRegression((4, 0), 2)
    with pytest.raises(ValueError, match=r"\(batch, 4, 5\)"):
        TensorRegression((4, 5), 2)(torch.randn(1, 4, 6))
    with pytest.raises(ValueError, match="20 inputs"):
        TensorRegression.from_linear(nn.Linear(20, 2), (4, 6))


@pytest.mark.parametrize(
    ("made", "x"),
    [
        (lambda: FactorizedLinear(12, 8, rank=4), torch.randn(2, 12)),
        (lambda: FactorizedEmbedding(12, 8, rank=4), torch.tensor([1, 2])),
        (lambda: TensorRegression((4, 3), 5, rank=4), torch.randn(2, 4, 3)),
        (lambda: TensorContraction((4, 3), (2, 2), rank=4), torch.randn(2, 4, 3)),
    ],
)
def test_what_acts_on_bonds_acts_on_them_too(made, x):
    module = made()
    before = module(x)
    tensor_dropout(module, p=0.5)
    assert any(not torch.equal(module(x), before) for _ in range(8))
    remove_tensor_dropout(module)
    lasso = tensor_lasso(module)
    with torch.no_grad():
        for name, gate in module.named_parameters():
            if "gates" in name:
                gate[1:2] = 0
    gated, whole = module(x), sum(p.numel() for p in module.parameters())
    prune_ranks(module)
    assert relative_error(gated, module(x)) < 1e-5
    assert sum(p.numel() for p in module.parameters()) < whole
    assert lasso.kernels
    assert not isinstance(module, FactorizedConv) or module.round(1).weight.numel() > 0
