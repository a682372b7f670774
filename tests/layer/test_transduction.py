"""Transduction: a layer of one more axis that treats each frame as before."""

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, factorizations, relative_error
from tenfold.demo import load_cnn, load_images

FORMATS = [*factorizations.names(), "tucker+depthwise_separable"]


def layer_of(factorization, order=2, rank=2, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return FactorizedConv(
        4, 6, 3, order=order, rank=rank, factorization=factorization, dtype=dtype, **options
    )


def by_frames(run, video, mode):
    return torch.stack([run(frame) for frame in video.unbind(2 + mode)], 2 + mode)


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("groups", [1, 2])
def test_each_frame_is_treated_as_before(factorization, groups):
    video = torch.randn(2, 4, 5, 5, 5, dtype=torch.float64)
    for mode in range(3):
        layer = layer_of(factorization, groups=groups, padding=1)
        frames = by_frames(layer, video, mode)
        assert layer.transduct(3, mode) is layer
        assert layer.order == 3
        assert relative_error(frames, layer(video)) < 1e-8
        again = layer_of(factorization, 3, layer.rank, groups=groups, padding=1)
        again.load_state_dict(layer.state_dict())
        assert relative_error(frames, again(video)) < 1e-8


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt", "tensor_ring"])
def test_an_axis_of_order_1_and_of_all_modes(factorization):
    if factorization not in factorizations.names():
        pytest.skip("not installed")
    layer = layer_of(factorization, order=1)
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    frames = by_frames(layer, x, 0)
    assert relative_error(frames, layer.transduct(5)(x)) < 1e-12


def test_tucker_of_all_modes_stays_so():
    layer = layer_of("tucker", rank=(3, 3, 2, 2))
    x = torch.randn(1, 4, 5, 6, 7, dtype=torch.float64)
    frames = by_frames(layer, x, 1)
    assert relative_error(frames, layer.transduct(3, mode=1)(x)) < 1e-12
    assert len(layer.rank) == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("factorization", ["cp", "tt", "spatial_svd"])
def test_any_dtype(dtype, factorization):
    layer = layer_of(factorization, dtype=dtype)
    before = layer.weight.to_tensor()
    whole = layer.transduct(3).weight.to_tensor()
    assert whole.dtype == dtype
    assert relative_error(before, whole[:, :, 1]) < (2e-2 if dtype == torch.bfloat16 else 1e-4)


def test_the_geometry_of_the_new_axis():
    layer = layer_of("cp", stride=2, padding_mode="circular", padding=1)
    layer.transduct(3, mode=2, padding=0, stride=2, dilation=2)
    assert layer.stride == (2, 2, 2)
    assert layer.padding == (1, 1, 0)
    assert layer.dilation == (1, 1, 2)
    assert layer(torch.randn(1, 4, 6, 6, 9, dtype=torch.float64)).shape == (1, 6, 3, 3, 3)
    same = layer_of("cp", padding="same").transduct(3)
    assert same.padding == "same"
    turned = layer_of("cp", transposed=True, stride=2, output_padding=1).transduct(3)
    assert turned.output_padding == (0, 1, 1)


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt"])
def test_joint_layers_too(factorization):
    joint = layer_of(factorization, n_layers=2, padding=[0, 1])
    video = torch.randn(1, 4, 4, 5, 5, dtype=torch.float64)
    frames = [by_frames(lambda x, i=i: joint(x, i), video, 0) for i in (0, 1)]
    joint.transduct(3)
    for index in (0, 1):
        assert relative_error(frames[index], joint(video, index)) < 1e-12


def test_only_what_has_the_new_axis_learns():
    layer = layer_of("tt").transduct(3, fine_tune_transduction_only=True)
    learns = [p.requires_grad for p in layer.weight.factors]
    assert learns == [False, True, False, False, False]
    assert not layer.bias.requires_grad
    video = torch.randn(1, 4, 5, 5, 5, dtype=torch.float64)
    layer(video).sum().backward()
    assert layer.weight.factors[1].grad is not None
    assert layer_of("tt").transduct(3).bias.requires_grad


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kernel_size": 2}, "odd"),
        ({"kernel_size": 3, "mode": 3}, "from 0 to 2"),
        ({"kernel_size": 3, "stride": 0}, "stride"),
        ({"kernel_size": 3, "dilation": "a"}, "dilation"),
    ],
)
def test_a_failure_changes_nothing(asked, message):
    layer = layer_of("cp")
    before, parameters = repr(layer), list(layer.parameters())
    with pytest.raises(ValueError, match=message):
        layer.transduct(**asked)
    assert repr(layer) == before
    assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))


def test_what_has_no_axes_is_refused():
    with pytest.raises(ValueError, match="linear layer"):
        FactorizedConv(4, 4, ()).transduct(3)
    with pytest.raises(ValueError, match="leave it out"):
        layer_of("cp", padding="same").transduct(3, padding=1)


def test_a_network_becomes_one_of_videos():
    network = nn.Sequential(
        layer_of("tucker", padding=1),
        nn.ReLU(),
        FactorizedConv(6, 3, 3, order=2, rank=3, dtype=torch.float64),
    )
    video = torch.randn(1, 4, 3, 6, 6, dtype=torch.float64)
    frames = by_frames(network, video, 0)
    for layer in network:
        if isinstance(layer, FactorizedConv):
            layer.transduct(3)
    assert relative_error(frames, network(video)) < 1e-12


def inflated(network, factorization):
    """The demo's network of images as one of videos: every layer of it gets the axis of frames."""
    made = nn.Sequential()
    for name, module in network.named_children():
        if isinstance(module, nn.Conv2d):
            module = FactorizedConv.from_conv(module, rank=0.5, factorization=factorization)
        elif isinstance(module, nn.BatchNorm2d):
            frames = nn.BatchNorm3d(module.num_features).eval()
            frames.load_state_dict(module.state_dict())
            module = frames
        elif isinstance(module, nn.MaxPool2d):
            module = nn.MaxPool3d((1, 2, 2))
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            module = nn.AdaptiveAvgPool3d(1)
        made.add_module(name, module)
    return made


@pytest.mark.parametrize("factorization", ["tucker", "cp", "tt", "spatial_svd"])
def test_the_demos_network_becomes_one_of_videos(factorization):
    """Still videos get the logits of their image, and what moves is then learnt."""
    torch.manual_seed(0)
    network, (images, _) = load_cnn().eval(), load_images()
    layers = inflated(network, factorization)
    compressed = nn.Sequential(
        *(
            layers.get_submodule(name) if isinstance(module, nn.Conv2d) else module
            for name, module in network.named_children()
        )
    )
    with torch.no_grad():
        wanted = compressed(images[:8])
    for layer in layers:
        if isinstance(layer, FactorizedConv):
            layer.transduct(3, fine_tune_transduction_only=True)
    still = images[:8].unsqueeze(2).expand(-1, -1, 4, -1, -1)
    found = layers(still)
    assert relative_error(wanted, found) < 1e-5
    found.square().sum().backward()
    learnt = [p for p in layers.conv1.parameters() if p.requires_grad]
    assert learnt
    assert all(bool(p.grad.abs().sum() > 0) for p in learnt)
