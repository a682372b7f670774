"""PyTorch's functions on factorized tensors: as on the dense one, and made of factors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tenfold import FactorizedTensor

FORMATS = ("dense", "cp", "tucker", "tt", "kronecker", "tt_matrix", "hadamard", "tucker+cp")
X = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)).double()
Y = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(2)).double()
APART = {  # what never makes the dense tensor: of t (4, 6, 5) and m (4, 6)
    "einsum": lambda t, m: torch.einsum("bi,iok->bok", X, t),
    "einsum of two": lambda t, m: torch.einsum("bi,io,ick->bock", X, m, t),
    "einsum with itself": lambda t, m: torch.einsum("iok,iok->o", t, t),
    "einsum, output left out": lambda t, m: torch.einsum("bi,iok", X, t),
    "einsum of a list": lambda t, m: torch.einsum("bi,io->bo", [X, m]),
    "matmul": lambda t, m: X @ m,
    "matmul, on the right": lambda t, m: m @ Y.mT[0],
    "linear": lambda t, m: F.linear(Y, m, torch.arange(4.0).double()),
    "tensordot": lambda t, m: torch.tensordot(t, m, ([0, 1], [0, 1])),
    "tensordot of a number of axes": lambda t, m: torch.tensordot(X, t, 1),
    "scaled": lambda t, m: 2 * t / 3 - t,
    "less from": lambda t, m: m - m * 3,
    "permute": lambda t, m: torch.permute(t, (2, 0, -2)),
    "transpose": lambda t, m: torch.transpose(t, 0, -1),
    "t": lambda t, m: torch.t(m),
    "sum": lambda t, m: torch.sum(t, (0, 2)),
    "sum of all": lambda t, m: torch.sum(t),
    "mean": lambda t, m: torch.mean(t, 1),
    "norm": lambda t, m: torch.linalg.norm(t) + torch.norm(m),
    "conj": lambda t, m: torch.conj(t),
    "a new axis in einsum": lambda t, m: torch.einsum("aiok,bi->bok", t[None], X),
}
DENSELY = {
    "relu": lambda t, m: torch.relu(t),
    "cat": lambda t, m: torch.cat([t, t], 1),
    "add a number": lambda t, m: 1 + t,
    "from a number": lambda t, m: 1 - t,
    "times a tensor": lambda t, m: torch.arange(5.0) * t,
    "einsum with dots": lambda t, m: torch.einsum("...k->...", t),
    "matmul of batches": lambda t, m: torch.matmul(t, Y.new_ones(5, 2)),
    "sum, axes kept": lambda t, m: torch.sum(t, 1, keepdim=True),
    "by keyword": lambda t, m: F.pad(input=t, pad=(1, 1)),
}


def both(name):
    tensor = FactorizedTensor.new((4, 6, 5), rank=3, factorization=name, dtype=torch.float64)
    matrix = FactorizedTensor.new((4, 6), rank=2, factorization=name, dtype=torch.float64)
    return tensor, matrix


def dense(one):
    return one if isinstance(one, torch.Tensor) else one.to_tensor()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("case", [*APART, *DENSELY])
def test_a_function_gives_what_it_gives_for_the_dense_tensor(name, case):
    tensor, matrix = both(name)
    function = {**APART, **DENSELY}[case]
    found, wanted = function(tensor, matrix), function(tensor.to_tensor(), matrix.to_tensor())
    torch.testing.assert_close(dense(found), wanted)
    parameters = [*tensor.parameters(), *matrix.parameters()]
    pairs = [
        torch.autograd.grad(dense(one).square().sum(), parameters, allow_unused=True)
        for one in (found, wanted)
    ]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("case", APART)
def test_a_function_that_keeps_the_factors_apart_makes_no_dense_tensor(case, monkeypatch):
    tensor, matrix = both("tucker")

    def refuse(self):
        raise AssertionError("made dense")

    monkeypatch.setattr(FactorizedTensor, "to_tensor", refuse)
    APART[case](tensor, matrix)


def test_a_contraction_holds_nothing_of_the_dense_size():
    tensor = FactorizedTensor.new((10**4, 10**4, 10**4), rank=3)  # a million million elements
    x = torch.randn(2, 10**4)
    assert torch.einsum("bi,iok,bo,bk->b", x, tensor, x, x).shape == (2,)
    assert torch.linalg.norm(tensor).isfinite()


def test_a_complex_tensor_is_one_for_pytorch():
    tensor = FactorizedTensor.new((4, 3), rank=2, dtype=torch.cfloat)
    assert torch.is_complex(tensor)
    assert not torch.is_floating_point(tensor)
    torch.testing.assert_close(torch.conj(tensor).to_tensor(), tensor.to_tensor().conj())
    torch.testing.assert_close(torch.linalg.norm(tensor), torch.linalg.norm(tensor.to_tensor()))


def test_init_draws_it_anew():
    tensor = FactorizedTensor.new((40, 30), rank=2)
    nn.init.normal_(tensor, 0, 0.5)
    assert abs(float(tensor.to_tensor().detach().square().mean()) - 0.25) < 1e-5


@pytest.mark.parametrize(
    "write",
    [
        nn.init.uniform_,
        lambda tensor: torch.add(torch.ones(4, 3), 1, out=tensor),
        lambda tensor: torch.relu_(tensor),
    ],
)
def test_what_would_write_into_it_is_refused(write):
    with pytest.raises(TypeError, match="would write into a factorized tensor"):
        write(FactorizedTensor.new((4, 3), rank=2))


def test_what_writes_into_another_reads_it():
    tensor = FactorizedTensor.new((4, 3), rank=2)
    sums = torch.zeros(4, 3)
    sums += tensor
    sums.add_(tensor)
    torch.testing.assert_close(sums, 2 * tensor.to_tensor())


class Spectral(nn.Module):
    """The lowest frequencies of an input by a factorized weight."""

    def __init__(self, name):
        super().__init__()
        self.weight = FactorizedTensor.new(
            (4, 6, 8, 5), rank=0.5, factorization=name, dtype=torch.cfloat
        )

    def forward(self, x):
        part = self.weight[:, :, 1:-1]
        return torch.einsum("bixy,ioxy->boxy", x, part) + x.sum() * part.to_tensor().mean()


@pytest.mark.parametrize("name", ["cp", "tucker", "tt", "dense"])
def test_it_is_compiled_as_one_graph(name):
    layer = Spectral(name)
    x = torch.randn(2, 4, 6, 5, dtype=torch.cfloat)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))
