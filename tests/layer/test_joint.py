"""Joint layers: one network, many convolutions, each equal to its dense one."""

import copy
import pickle

import pytest
import torch
from torch import nn

from tenfold import (
    FactorizedConv,
    FactorizedKernel,
    JointConv,
    factorizations,
    relative_error,
    tune,
)
from tenfold.bonds import prune_ranks, remove_tensor_dropout, tensor_dropout, tensor_lasso
from tenfold.testing import dense_convolution

FORMATS = [*factorizations.names(), "tucker+depthwise_separable"]
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def dense(joint, index, x):
    member = joint[index]
    given = index if isinstance(index, tuple) else (index,)
    kernel = joint.weight.to_tensor()
    for place in given:
        kernel = kernel.select(2, place)
    config = member.config
    return dense_convolution(
        x,
        kernel,
        member.bias,
        stride=config.stride,
        padding=config.padding,
        dilation=config.dilation,
        groups=config.groups,
        transposed=config.transposed,
        output_padding=config.output_padding,
    )


def agree(joint, index, x):
    """Values and gradients."""
    mine, theirs = joint(x, index), dense(joint, index, x)
    assert relative_error(theirs, mine) < 1e-10
    towards = torch.randn_like(mine)
    inputs = [x, *joint.parameters()]
    pairs = [
        torch.autograd.grad((y * towards).sum(), inputs, allow_unused=True) for y in (mine, theirs)
    ]
    for a, b in zip(*pairs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or relative_error(b, a) < 1e-9


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_convolution_is_its_dense_one(factorization, order):
    size = (7, 6, 5)[:order]
    for options in (
        {"n_layers": 2, "stride": [(1,) * order, (2,) * order], "bias": [True, False]},
        {"n_layers": (2, 2), "padding": [0, 1, 1, 0], "dilation": [1, 1, 2, 2], "groups": 2},
        {"n_layers": 1, "transposed": True, "stride": 2, "output_padding": 1},
    ):
        joint = FactorizedConv(
            4,
            6,
            2,
            order=order,
            rank=2,
            factorization=factorization,
            dtype=torch.float64,
            **options,
        )
        x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
        last = tuple(n - 1 for n in joint.n_layers)
        for index in {(0,) * len(last), last}:
            agree(joint, index, x)


@pytest.mark.parametrize(
    "implementation", ["reconstructed", "factorized", "mobilenet", "auto", "fft"]
)
def test_each_implementation_runs_them(implementation):
    joint = FactorizedConv(
        4,
        4,
        3,
        padding=1,
        order=2,
        rank=3,
        n_layers=3,
        implementation=implementation,
        dtype=torch.float64,
    )
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    agree(joint, 2, x)
    with torch.no_grad():
        joint.eval()
        assert relative_error(dense(joint, 1, x), joint(x, 1)) < 1e-10
        assert relative_error(dense(joint, 1, x), joint(x, 1)) < 1e-10


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tucker+depthwise_separable"])
def test_auto_measures_each_convolution_by_itself(factorization):
    joint = FactorizedConv(
        6,
        6,
        3,
        padding=1,
        order=2,
        rank=3,
        n_layers=2,
        stride=[1, 2],
        factorization=factorization,
        implementation="auto",
    ).eval()
    assert joint[0].decision is None
    x = torch.randn(2, 6, 9, 9)
    with torch.no_grad():
        for index in (0, 1):
            for _ in range(2):  # measured, then as decided
                assert relative_error(dense(joint, index, x), joint(x, index)) < 1e-4
    decisions = [member.decision for member in joint]
    assert all(one is not None and len(one.measured) > 1 for one in decisions)
    assert decisions[0].situation.geometry != decisions[1].situation.geometry
    found = copy.deepcopy(joint)
    assert relative_error(joint(x, 1), found(x, 1)) < 1e-6
    joint.train()
    joint(x, 1).sum().backward()


def test_linear_layers_may_be_joint():
    joint = FactorizedConv(4, 6, (), rank=2, n_layers=3, factorization="tt", dtype=torch.float64)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    kernel = joint.weight.to_tensor()[..., 1]
    assert relative_error(nn.functional.linear(x, kernel, joint[1].bias), joint(x, 1)) < 1e-12


def test_a_member_is_light_and_shares_the_parameters():
    joint = FactorizedConv(4, 4, 3, order=2, rank=2, n_layers=(2, 2))
    network = nn.ModuleDict({"all": joint, "one": joint[0, 1], "two": joint[1, 1]})
    assert list(network.state_dict()) == [f"all.{name}" for name in joint.state_dict()]
    assert not list(joint[0, 1].parameters())
    assert len(list(joint.parameters())) == len(joint.weight.factors) + 4
    before = joint[0, 1].weight.to_tensor().detach()
    with torch.no_grad():
        joint.weight.factors[0].mul_(2)
    assert relative_error(2 * before, joint[0, 1].weight.to_tensor()) < 1e-6
    network.eval()
    assert not joint.training
    network.double()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    assert torch.equal(network["one"](x), joint(x, (0, 1)))


def test_what_is_kept_in_eval_follows_the_parameters():
    joint = FactorizedConv(4, 4, 3, order=2, rank=2, n_layers=2).eval()
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        first = joint(x, 1)
        assert joint[1].eval_cache._kept is not None
        joint.bias[1].add_(1)
        joint.weight.factors[0].mul_(3)
        second = joint(x, 1)
    assert relative_error(dense(joint, 1, x), second) < 1e-5
    assert relative_error(first, second) > 0.1


def test_it_is_copied_and_pickled_and_loaded():
    joint = FactorizedConv(4, 4, 3, order=2, rank=2, n_layers=2)
    x = torch.randn(1, 4, 5, 5)
    for made in (copy.deepcopy(joint), pickle.loads(pickle.dumps(joint))):
        assert torch.equal(made(x, 1), joint(x, 1))
        assert made[0].__dict__["joint"] is made
    fresh = FactorizedConv(4, 4, 3, order=2, rank=joint.weight.rank, n_layers=2)
    fresh.load_state_dict(joint.state_dict())
    assert torch.equal(fresh(x, 1), joint(x, 1))


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt", "spatial_svd"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_list_of_convolutions_is_joined(factorization, order):
    torch.manual_seed(0)
    convs = [
        CONVS[order](3, 4, 2, stride=stride, padding=stride - 1, bias=stride > 1).double()
        for stride in (1, 2)
    ]
    joint = FactorizedConv.from_conv_list(convs, rank=10**9, factorization=factorization)
    x = torch.randn(2, 3, *(6, 5, 5)[:order], dtype=torch.float64)
    for index, conv in enumerate(convs):
        assert relative_error(conv(x), joint(x, index)) < 1e-6
        assert relative_error(conv(x), joint[index].to_conv()(x)) < 1e-6
    assert joint[0].bias is None
    assert joint[1].bias is not convs[1].bias


def test_a_list_of_one_is_joined():
    conv = nn.Conv2d(3, 4, 3).half().eval().requires_grad_(False)
    joint = FactorizedConv.from_conv_list([conv], rank=2)
    assert (len(joint), joint.weight.dtype, joint.training) == (1, torch.float16, False)
    assert not any(p.requires_grad for p in joint.parameters())


def test_a_list_may_have_several_numbers_of_layers():
    convs = [nn.Conv2d(3, 4, 3) for _ in range(6)]
    joint = FactorizedConv.from_conv_list(
        convs, n_layers=(2, 3), rank=10**9, factorization="tucker"
    )
    x = torch.randn(1, 3, 5, 5)
    assert relative_error(convs[5](x), joint(x, (1, 2))) < 1e-5
    assert relative_error(convs[4](x), joint(x, 4)) < 1e-5
    assert relative_error(convs[5](x), joint[-1](x)) < 1e-5


@pytest.mark.parametrize("factorization", ["cp", "tt", "tucker"])
def test_one_is_made_around_a_kernel(factorization):
    kernel = FactorizedKernel.new((4, 3, 2, 3, 3), rank=2, factorization=factorization)
    joint = FactorizedConv.from_factorization(
        kernel, n_layers=2, padding=[0, 1], bias=[torch.zeros(4), None]
    )
    assert isinstance(joint, JointConv)
    assert joint.weight is kernel
    x = torch.randn(1, 3, 6, 6)
    assert relative_error(dense(joint, 1, x), joint(x, 1)) < 1e-5
    assert joint(x, 1).shape[2:] == (6, 6)


@pytest.mark.parametrize("init", ["variance", "spectral"])
def test_each_is_drawn_as_a_convolution_is(init):
    torch.manual_seed(0)
    joint = FactorizedConv(
        16, 16, 3, order=2, n_layers=4, rank=10**9, factorization="tucker", init=init
    )
    for member in joint:
        square = member.weight.to_tensor().square().mean().item()
        assert square == pytest.approx(1 / (3 * 16 * 9), rel=0.4)


def test_a_transposed_one_takes_an_output_size():
    joint = FactorizedConv(4, 4, 3, stride=2, order=2, n_layers=2, transposed=True, rank=2)
    assert joint(torch.randn(1, 4, 5, 5), 1, output_size=(12, 12)).shape == (1, 4, 12, 12)


def test_what_acts_on_bonds_acts_on_all():
    joint = FactorizedConv(4, 4, 3, order=2, rank=4, n_layers=2)
    x = torch.randn(1, 4, 5, 5)
    tensor_dropout(joint, p=0.5)
    assert not torch.equal(joint(x, 1), joint(x, 1)) or not torch.equal(joint(x, 1), joint(x, 1))
    remove_tensor_dropout(joint)
    tensor_lasso(joint)
    with torch.no_grad():
        next(p for name, p in joint.named_parameters() if "gates" in name)[1:3] = 0
    gated = joint(x, 1)
    prune_ranks(joint)
    assert joint.weight.rank == 2
    assert relative_error(gated, joint(x, 1)) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_layers": 0}, "n_layers=0"),
        ({"n_layers": 3, "stride": [1, 2]}, "one for each of 3 layers"),
        ({"n_layers": 2, "rank": 0}, "at least 1"),
        ({"n_layers": 2, "init": "small"}, "init='small'"),
        ({"n_layers": 2, "implementation": "mobilenet", "factorization": "tucker"}, "mobilenet"),
    ],
)
def test_bad_ones_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FactorizedConv(4, 4, 3, order=2, **arguments)


def test_bad_lists_and_indices_are_refused():
    convs = [nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5)]
    with pytest.raises(ValueError, match=r"convs\[1\] has kernel"):
        FactorizedConv.from_conv_list(convs)
    with pytest.raises(ValueError, match="dtype"):
        FactorizedConv.from_conv_list([convs[0], copy.deepcopy(convs[0]).double()])
    with pytest.raises(ValueError, match="at least one"):
        FactorizedConv.from_conv_list([])
    with pytest.raises(ValueError, match="must number the 1"):
        FactorizedConv.from_conv_list(convs[:1], n_layers=2)
    joint = FactorizedConv(4, 4, 3, order=2, rank=2, n_layers=2)
    for index in (2, -3, (0, 0), "a", 0.5):
        with pytest.raises(IndexError, match="is no layer"):
            joint[index]


class Twice(nn.Module):
    """A joint layer whose two convolutions run one after the other."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        options = {"rank": 3, "n_layers": 3, "implementation": "auto", "generator": generator}
        self.joint = FactorizedConv(4, 4, 3, padding=1, order=2, **options)

    def forward(self, x):
        return self.joint(self.joint(x, 0), 2)


def test_each_that_runs_is_tuned_with_its_network_and_by_itself():
    model, x = Twice().eval(), torch.randn(1, 4, 6, 6)
    decisions = tune(model, x)
    assert list(decisions) == ["joint[0]", "joint[2]"]
    assert decisions["joint[2]"] is model.joint[2].decision
    assert model.joint[1].decision is None
    model.joint[1].tune(x)
    assert model.joint[1].decision is not None


def test_one_whose_plan_is_fixed_runs_so_and_is_not_tuned():
    model, x = Twice().eval(), torch.randn(1, 4, 6, 6)
    for one in model.joint:
        one.fix_plan({"partition": [[0], [1], [2, 3]]})
    with torch.no_grad():
        assert relative_error(model.joint[2].to_conv()(x), model.joint(x, 2)) < 1e-5
    assert model.joint[2].inner.partition == ((0,), (1,), (2, 3))
    with pytest.raises(ValueError, match="no layer whose plan is to be measured"):
        tune(model, x)
