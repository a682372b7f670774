"""What TensorLy-Torch 0.5 does wrong is right here, by the same calls."""

import warnings

import pytest
import torch
from torch import nn

from tenfold import relative_error, tltorch

PAIRS = [
    ("cp", "factorized"),
    ("cp", "reconstructed"),
    ("cp", "mobilenet"),
    ("tucker", "factorized"),
    ("tucker", "reconstructed"),
    ("tt", "factorized"),
    ("tt", "reconstructed"),
]


def converted(conv, factorization="cp", implementation="factorized", rank=10**6, **kwargs):
    return tltorch.FactorizedConv.from_conv(
        conv, rank=rank, factorization=factorization, implementation=implementation, **kwargs
    )


def test_a_rank_above_a_mode_s_size_is_exact():
    conv = nn.Conv2d(8, 16, 3)
    layer = converted(conv, "tucker", rank=64)
    assert relative_error(conv.weight, layer.weight.to_tensor()) < 1e-5


@pytest.mark.parametrize("norm", [1e-2, 1e-3, 1e-6])
def test_a_kernel_of_small_norm_is_decomposed_as_well(norm):
    torch.manual_seed(0)
    parts = [torch.randn(size, 4) for size in (8, 6, 3, 3)]
    kernel = torch.einsum("or,ir,ar,br->oiab", *parts)
    conv = nn.Conv2d(6, 8, 3)
    conv.weight.data = kernel * norm / kernel.norm()
    layer = converted(conv, rank=4)
    assert relative_error(conv.weight, layer.weight.to_tensor()) < 1e-2


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1),
    ],
    ids=["axes", "padding mode", "same", "groups", "transposed"],
)
@pytest.mark.parametrize(("factorization", "implementation"), PAIRS)
def test_every_argument_of_a_convolution_is_read(conv, factorization, implementation):
    x = torch.randn(2, 4, 9, 8)
    layer = converted(conv, factorization, implementation)
    torch.testing.assert_close(layer(x), conv(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_decomposed(dtype):
    conv = nn.Conv2d(4, 6, 3).to(dtype)
    layer = converted(conv, "tucker")
    assert layer.weight.dtype == dtype
    assert relative_error(conv.weight, layer.weight.to_tensor()) < 0.02


def test_training_the_copy_leaves_the_original():
    conv = nn.Conv2d(4, 6, 3)
    before = conv.bias.detach().clone()
    layer = converted(conv, rank=2)
    with torch.no_grad():
        layer.bias.zero_()
    assert torch.equal(conv.bias, before)


def test_a_frozen_source_in_eval_stays_so():
    layer = converted(nn.Conv2d(4, 6, 3).eval().requires_grad_(False), rank=2)
    assert not layer.training
    assert not any(one.requires_grad for one in layer.parameters())


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt"])
def test_a_fresh_layer_has_numbers_of_a_convolution_s_size(factorization):
    layer = tltorch.FactorizedConv(16, 16, 3, order=2, factorization=factorization)
    size = (
        layer.weight.to_tensor().detach().square().mean()
        / nn.Conv2d(16, 16, 3).weight.detach().var()
    )
    assert 0.7 < float(size) < 1.4


@pytest.mark.parametrize(("factorization", "implementation"), PAIRS)
def test_it_compiles_as_one_graph(factorization, implementation):
    layer = tltorch.FactorizedConv(
        4, 6, 3, order=2, rank=2, factorization=factorization, implementation=implementation
    )
    x = torch.randn(2, 4, 7, 7)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))


def test_an_unknown_implementation_is_refused_for_every_format():
    for factorization in ("cp", "tucker", "tt"):
        with pytest.raises(ValueError, match="implementation='banana'"):
            tltorch.FactorizedConv(4, 6, 3, order=2, factorization=factorization,
                                   implementation="banana")  # fmt: skip


def test_a_mobilenet_of_order_four_convolves():
    one, other = (
        tltorch.FactorizedConv(2, 3, 2, order=4, rank=2, implementation=way)
        for way in ("mobilenet", "reconstructed")
    )
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 2, 3, 3, 3, 3)
    torch.testing.assert_close(one(x), other(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt"])
@pytest.mark.parametrize("shape", [(16, 3, (7, 7)), (64, 64, (3, 3)), (32, 128, (1, 1))])
def test_a_budget_is_kept_and_never_gives_rank_zero(factorization, shape):
    out, channels, kernel_size = shape
    for rank in ("same", 0.5, 0.25):
        layer = tltorch.FactorizedConv(
            channels, out, kernel_size, rank=rank, factorization=factorization
        )
        whole = out * channels * kernel_size[0] * kernel_size[1]
        assert layer.weight.numel() <= whole * (1 if rank == "same" else rank)
    least = tltorch.FactorizedConv(16, 16, (3, 3), rank=0.001, factorization=factorization)
    assert min(least.rank if isinstance(least.rank, tuple) else (least.rank,)) == 1


def test_a_decomposition_is_the_same_under_the_same_seed():
    conv = nn.Conv2d(6, 8, 3)
    kernels = []
    for _ in range(2):
        torch.manual_seed(3)
        kernels.append(converted(conv, rank=3).weight.to_tensor())
    assert torch.equal(*kernels)


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt"])
def test_a_checkpoint_loads_into_a_layer_made_by_the_same_arguments(factorization):
    conv = nn.Conv2d(6, 8, 3)
    layer = converted(conv, factorization, rank=0.5)
    fresh = tltorch.FactorizedConv(
        6, 8, 3, order=2, bias=True, rank=layer.rank, factorization=factorization
    )
    fresh.load_state_dict(layer.state_dict())
    x = torch.randn(1, 6, 5, 5)
    torch.testing.assert_close(fresh(x), layer(x))


@pytest.mark.parametrize(("factorization", "implementation"), PAIRS)
def test_no_images_and_one_without_a_batch_go_through(factorization, implementation):
    layer = tltorch.FactorizedConv(
        4, 6, 3, order=2, rank=2, factorization=factorization, implementation=implementation
    )
    assert layer(torch.randn(0, 4, 7, 7)).shape == (0, 6, 5, 5)
    assert layer(torch.randn(4, 7, 7)).shape == (6, 5, 5)
    last = torch.randn(2, 4, 7, 7).to(memory_format=torch.channels_last)
    assert layer(last).is_contiguous(memory_format=torch.channels_last)


def test_a_tensor_has_the_standard_deviation_that_is_asked_for():
    for name in ("CP", "Tucker", "TT", "Dense"):
        tensor = tltorch.FactorizedTensor.new((8, 7, 6, 5), 3, name).normal_(0, 0.02)
        assert abs(float(tensor.to_tensor().detach().square().mean()) / 4e-4 - 1) < 1e-3


def test_the_spatial_modes_stay_whole_and_no_bond_is_wider_than_its_mode():
    tucker = tltorch.FactorizedConv(64, 64, 3, order=2, rank=0.25, factorization="tucker")
    assert len(tucker.rank) == 2
    train = tltorch.FactorizedConv(64, 64, 3, order=2, rank=0.25, factorization="tt")
    first, middle, last = train.rank
    assert first <= 64
    assert last <= 64
    assert middle >= max(first, last) // 3


def test_it_says_nothing_by_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted(nn.Conv2d(4, 6, 3), "cp", fixed_rank_modes="spatial")
