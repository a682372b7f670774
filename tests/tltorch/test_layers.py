"""Linear layers, embeddings, heads and hooks by TensorLy-Torch's names, and its own tests."""

import numpy as np
import pytest
import torch
from torch import nn, testing

import tenfold
from tenfold import tltorch


@pytest.mark.parametrize("factorization", ["CP", "Tucker", "BlockTT", "Dense", "ComplexBlockTT"])
def test_tensorized_matrix(factorization):
    names = {
        "CP": tltorch.CPTensorized,
        "Tucker": tltorch.TuckerTensorized,
        "BlockTT": tltorch.BlockTT,
        "Dense": tltorch.DenseTensorized,
        "ComplexBlockTT": tltorch.ComplexBlockTT,
    }
    shape = ((4, 3, 2), (5, 3, 2))
    matrix = tltorch.TensorizedTensor.new(shape, rank=0.5, factorization=factorization)
    matrix.normal_()
    assert isinstance(matrix, names[factorization])
    assert isinstance(matrix, tltorch.TensorizedTensor)
    others = {tltorch.CPTensorized, tltorch.TuckerTensorized, tltorch.BlockTT}
    others -= {names[factorization], names[factorization.removeprefix("Complex")]}
    assert not any(isinstance(matrix, one) for one in others)
    assert matrix.tensor_shape == (4, 3, 2, 5, 3, 2)
    whole = matrix.to_matrix()
    assert matrix.shape == whole.shape == (24, 30)
    for index in (np.s_[:, :], np.s_[:, 2], np.s_[2, 3], np.s_[1, :], np.s_[3:9:2]):
        found = matrix[index]
        testing.assert_close(whole[index], found if torch.is_tensor(found) else found.to_tensor())
    near = names[factorization].from_matrix(whole.detach(), *shape, rank=99)
    testing.assert_close(near.to_matrix(), whole.detach(), rtol=1e-3, atol=1e-3)


def test_several_matrices_in_one_are_refused():
    with pytest.raises(ValueError, match="must be of one matrix"):
        tltorch.CPTensorized.new((4, (2, 3), (3, 2)), rank=2)
    with pytest.raises(ValueError, match="as many parts on both sides"):
        tltorch.CPTensorized.new(((2, 3), (3, 2, 2)), rank=2)


@pytest.mark.parametrize("factorization", ["CP", "Tucker", "BlockTT"])
@pytest.mark.parametrize("implementation", ["factorized", "Reconstructed"])
def test_factorized_linear(factorization, implementation):
    x = torch.rand(2, 9)
    layer = tltorch.FactorizedLinear(
        (3, 3), (4, 4), True, factorization, implementation=implementation, n_layers=1
    )
    assert isinstance(layer, tenfold.FactorizedLinear)
    wanted = nn.functional.linear(x, layer.weight.to_tensor(), layer.bias)
    testing.assert_close(layer(x), wanted)
    linear = nn.Linear(9, 16)
    sides = {"in_tensorized_features": (3, 3), "out_tensorized_features": (4, 4)}
    for asked in ({"auto_tensorize": False, **sides}, {"n_tensorized_modes": 2}):
        layer = tltorch.FactorizedLinear.from_linear(
            linear, rank=99, factorization=factorization, implementation=implementation, **asked
        )
        testing.assert_close(layer(x), linear(x), rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match=r"checkpointing=True: call it by torch.utils.checkpoint"):
        tltorch.FactorizedLinear((3, 3), (4, 4), checkpointing=True)


@pytest.mark.parametrize("factorization", ["CP", "Tucker", "BlockTT"])
def test_factorized_embedding(factorization):
    table = tltorch.FactorizedEmbedding(100, 16, factorization=factorization)
    rows = torch.randperm(100).reshape(4, 25)
    whole = table.weight.to_tensor()
    testing.assert_close(table(rows), whole[rows])
    embedding = nn.Embedding(60, 12)
    near = tltorch.FactorizedEmbedding.from_embedding(
        embedding, factorization=factorization, rank=10**6
    )
    testing.assert_close(near(torch.arange(60)), embedding.weight, rtol=1e-2, atol=1e-2)
    drawn = tltorch.FactorizedEmbedding.from_embedding(embedding, decompose_weights=False)
    assert drawn(torch.arange(60)).shape == (60, 12)
    with pytest.raises(ValueError, match="the parts are chosen here"):
        tltorch.FactorizedEmbedding(
            100, 16, auto_tensorize=False, tensorized_num_embeddings=(10, 10)
        )


@pytest.mark.parametrize("factorization", ["CP", "Tucker", "TT"])
def test_trl(factorization):
    linear = nn.Linear(4 * 5 * 3, 6)
    x = torch.randn(2, 4, 5, 3)
    head = tltorch.TRL((4, 5, 3), 6, bias=True, factorization=factorization, rank=10**6)
    assert head(x).shape == (2, 6)
    head.init_from_linear(linear)
    testing.assert_close(head(x), linear(x.flatten(1)), rtol=1e-3, atol=1e-3)
    assert tltorch.TRL((4, 5), (2, 3), rank=2)(torch.randn(2, 4, 5)).shape == (2, 2, 3)
    assert tltorch.TRL(7, 3, rank=2)(torch.randn(2, 7)).shape == (2, 3)


def test_tcl():
    layer = tltorch.TCL(input_shape=(4, 5, 6), rank=(2, 3, 5), bias=False)
    assert layer(torch.rand(2, 4, 5, 6)).shape == (2, 2, 3, 5)
    assert tltorch.TCL((4, 5), 3)(torch.rand(2, 4, 5)).shape == (2, 3, 3)


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt"])
def test_tensor_dropout(factorization):
    layer = tltorch.FactorizedConv(4, 4, 3, order=2, rank=2, factorization=factorization)
    before = layer.weight.to_tensor().detach()
    assert tltorch.tensor_dropout(layer.weight, p=0.5) is layer.weight
    kernels = [layer.weight.to_tensor().detach() for _ in range(8)]
    assert any(not torch.equal(kernels[0], one) for one in kernels)
    testing.assert_close(layer.eval().weight.to_tensor(), before)
    tltorch.remove_tensor_dropout(layer.weight)
    testing.assert_close(layer.train().weight.to_tensor(), before)
    with pytest.raises(ValueError, match="min_dim=3: every bond takes part"):
        tltorch.tensor_dropout(layer.weight, p=0.5, min_dim=3)


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt"])
def test_tensor_lasso(factorization):
    layers = [
        tltorch.FactorizedConv(4, 4, 3, order=2, rank=2, factorization=factorization)
        for _ in range(2)
    ]
    before = [layer.weight.to_tensor().detach() for layer in layers]
    lasso = tltorch.tensor_lasso(factorization, penalty=0.5)
    assert lasso.loss == 0
    for layer in layers:
        lasso.apply(layer.weight)
    assert abs(lasso.loss.item() - 0.5) < 1e-6
    lasso.loss.backward()
    lasso.reset()
    raw = tltorch.tensor_lasso(factorization, penalty=2, normalize_loss=False)
    for layer, whole in zip(layers, before, strict=True):
        lasso.remove(layer.weight)
        testing.assert_close(layer.weight.to_tensor(), whole)
    raw.apply(layers[0].weight)
    bonds = len(layers[0].weight.network.bonds)
    assert raw.loss.item() == 2 * 2 * bonds


@pytest.mark.parametrize(
    "make",
    [
        lambda: tltorch.FactorizedLinear((2, 2), (2, 2), n_layers=2),
        lambda: tltorch.FactorizedEmbedding(8, 4, n_layers=2),
        lambda: tltorch.TRL((2, 2), 3, n_layers=2),
    ],
)
def test_joint_layers_are_refused(make):
    with pytest.raises(ValueError, match="n_layers=2 must be 1 here"):
        make()
