"""How batches lie in memory while a network is compressed."""

import pytest
import torch
from torch import nn

from tenfold.compression.request.config import CompressionConfig
from tenfold.compression.survey.layers import survey
from tenfold.compression.survey.layout import laid_out
from tenfold.compression.survey.subject import surveyed


class Viewing(nn.Module):
    """What it has made must lie in memory as its axes say."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.conv(x).view(len(x), -1)


def images(count=2, channels=3):
    return torch.randn(count, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def convolutional(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_their_channels_last_and_the_numbers_that_they_had(channels):
    model, x = convolutional(channels), images(channels=channels)
    (found,) = laid_out(model, [x], survey(model, x), x)
    assert torch.equal(found, x)
    assert found.stride() != x.stride()
    assert model(found).is_contiguous(memory_format=torch.channels_last)


def test_tuples_and_dicts_keep_their_kind_and_what_is_no_image():
    model, x = convolutional(), images()
    layers, scale = survey(model, x), torch.ones(2)

    class Scaled(nn.Module):
        def forward(self, x, scale):
            return model(x) * scale[:, None, None, None]

    holder = Scaled()
    holder.inner = model
    batches = (x, scale), {"x": x, "scale": scale}
    pair, named = (laid_out(holder, [one], layers, one) for one in batches)
    assert pair[0][1] is scale
    assert named[0]["scale"] is scale
    assert pair[0][0].stride() == named[0]["x"].stride() != x.stride()


class Particular(nn.Module):
    """It refuses what does not lie in memory as its axes say."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        assert x.is_contiguous()
        return self.conv(x)


def test_batches_stay_where_the_network_refuses_them_so():
    model, x = Particular().eval(), images()
    (found,) = laid_out(model, [x], survey(model, x), x)
    assert found is x


def test_batches_stay_where_the_network_cannot_take_them_so():
    model, x = Viewing().eval(), images()
    (found,) = laid_out(model, [x], survey(model, x), x)
    assert found is x


def test_batches_stay_where_other_layers_have_most_of_the_work():
    model = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(36, 500)).eval()
    x = images()
    (found,) = laid_out(model, [x], survey(model, x), x)
    assert found is x


def test_a_compression_works_on_such_batches_and_leaves_the_users_alone():
    x = images(8)
    before = x.stride()
    subject = surveyed(convolutional(), CompressionConfig(budget=0.5), (x, [x], None), False)
    assert all(one.stride(1) == 1 for one in (*subject.fitted, *subject.held))
    assert x.stride() == before
