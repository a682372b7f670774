"""TensorLy both ways: its tensors as kernels, kernels as its tensors, its algorithms as solvers."""

import numpy as np
import pytest
import tensorly
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly import decomposition

from tenfold import FactorizedConv, FactorizedKernel, relative_error
from tenfold.testing import kernel_shapes

SHAPE = (8, 6, 3, 2)


def normal(shape=SHAPE, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(autouse=True)
def _the_user_s_backend_stays():
    assert tensorly.get_backend() == "numpy"
    yield
    assert tensorly.get_backend() == "numpy"


def reconstructed(tensor, factorization):
    """TensorLy's own reconstruction as `(out, in, *k)`."""
    with tensorly.backend_context("pytorch"):
        kernel = tensor.to_tensor()
    return kernel.movedim(-1, 0) if factorization == "tt" else kernel


@settings(max_examples=60, deadline=None)
@given(
    shape=kernel_shapes((0, 1, 2, 3)),
    name=st.sampled_from(["cp", "tucker", "tt"]),
    rank=st.one_of(st.integers(1, 5), st.floats(0.1, 1)),
)
def test_a_kernel_goes_to_tensorly_and_comes_back(shape, name, rank):
    kernel = FactorizedKernel.new(shape, rank=rank, factorization=name, dtype=torch.float64)
    tensor = kernel.to_tensorly()
    assert relative_error(kernel.to_tensor(), reconstructed(tensor, name)) < 1e-12
    back = FactorizedKernel.from_tensorly(tensor)
    assert back.factorization == name
    assert relative_error(kernel.to_tensor(), back.to_tensor()) < 1e-12
    back.factors[0].data.zero_()
    assert kernel.factors[0].any()


@pytest.mark.filterwarnings("ignore:Trying to compute SVD")
@pytest.mark.parametrize("backend", ["numpy", "pytorch"])
def test_what_tensorly_decomposed_is_a_kernel_here(backend):
    kernel = normal()
    given_ = kernel if backend == "pytorch" else kernel.numpy()
    with tensorly.backend_context(backend):
        found = {
            "cp": decomposition.parafac(given_, 4, normalize_factors=True, random_state=0),
            "tucker": decomposition.tucker(given_, [4, 3, 2, 2]),
            "tt": decomposition.tensor_train(
                np.moveaxis(given_, 0, -1) if backend == "numpy" else given_.movedim(0, -1),
                [1, 4, 5, 4, 1],
            ),
        }
        dense = {name: tensor.to_tensor() for name, tensor in found.items()}
    for name, tensor in found.items():
        made = FactorizedKernel.from_tensorly(tensor)
        theirs = torch.as_tensor(dense[name])
        theirs = theirs.movedim(-1, 0) if name == "tt" else theirs
        assert made.factorization == name
        assert relative_error(theirs, made.to_tensor()) < 1e-10
        layer = FactorizedConv.from_factorization(made)
        assert layer(torch.randn(1, 6, 5, 5, dtype=torch.float64)).shape == (1, 8, 3, 4)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.filterwarnings("ignore:Trying to compute SVD")
@pytest.mark.parametrize("rank", [3, 0.5, 64])
def test_tensorly_s_algorithm_solves_the_same_problem(factorization, rank, groups):
    kernel = torch.cat([normal(seed=seed) for seed in range(groups)])
    request = {"rank": rank, "factorization": factorization, "groups": groups}
    ranks, errors = set(), []
    for options in ({}, {"solver": "tensorly"}):
        found = []
        for seed in range(3):  # CP's errors differ by 0.02 with the random start alone
            torch.manual_seed(seed)
            made = FactorizedKernel.from_tensor(kernel, **request, decomposition_kwargs=options)
            ranks.add(made.rank)
            found.append(relative_error(kernel, made.to_tensor()))
        errors.append(min(found))
    assert len(ranks) == 1
    error, other = errors
    assert other < error + 0.05  # a rank above a mode's size too, where TensorLy alone is wrong
    assert error < other + 0.01


def test_a_tucker_rank_for_every_mode_is_tensorly_s_whole_tucker():
    kernel = normal()
    request = {"rank": (5, 4, 2, 2), "factorization": "tucker"}
    made = FactorizedKernel.from_tensor(
        kernel, **request, decomposition_kwargs={"solver": "tensorly"}
    )
    with tensorly.backend_context("pytorch"):
        theirs = decomposition.tucker(kernel, [5, 4, 2, 2]).to_tensor()
    assert relative_error(theirs, made.to_tensor()) < 1e-6


def test_its_other_functions_and_options_are_there():
    kernel = normal().abs()
    options = {"solver": "tensorly:non_negative_parafac", "solver_options": {"init": "random"}}
    made = FactorizedKernel.from_tensor(kernel, rank=4, decomposition_kwargs=options)
    assert all(bool((factor >= 0).all()) for factor in made.factors)
    assert relative_error(kernel, made.to_tensor()) < 0.6


def test_it_follows_torch_s_random_state_and_leaves_numpy_s_alone():
    state = np.random.get_state()[1].copy()
    options = {"solver": "tensorly", "solver_options": {"init": "random", "n_iter_max": 3}}
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(FactorizedKernel.from_tensor(normal(), rank=3, decomposition_kwargs=options))
    assert torch.equal(made[0].to_tensor(), made[1].to_tensor())
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "banana"}, "solver='banana' must be 'tenfold', 'tensorly' or"),
        ({"solver": "tensorly:banana"}, "has no function 'banana'"),
        ({"solver": "tensorly", "solver_options": {"banana": 1}}, "solver_options=.*banana"),
    ],
)
def test_a_solver_or_an_option_that_is_none_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FactorizedKernel.from_tensor(normal(), rank=3, decomposition_kwargs=options)


def test_what_is_no_tensorly_tensor_is_refused():
    with pytest.raises(TypeError, match="tensor=Tensor must be a TensorLy CPTensor"):
        FactorizedKernel.from_tensorly(normal())


def test_what_tensorly_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="'spatial_svd' has no tensor in TensorLy"):
        FactorizedKernel.new(SHAPE, factorization="spatial_svd").to_tensorly()
    with pytest.raises(ValueError, match="groups=2"):
        FactorizedKernel.new(SHAPE, groups=2).to_tensorly()


def test_a_rank_above_what_is_exact_is_refused_on_the_way_in():
    with tensorly.backend_context("pytorch"):
        tensor = decomposition.parafac(normal((3, 2, 1, 1)), 7, init="random", random_state=0)
    with pytest.raises(ValueError, match="exact ranks here are"):
        FactorizedKernel.from_tensorly(tensor)
