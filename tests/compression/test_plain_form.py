"""A network saved as it runs is loaded without the class that it was made by."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, load, save


def net():
    torch.manual_seed(0)
    conv = FactorizedConv(3, 8, (3, 3), rank=4, factorization="tucker")
    return nn.Sequential(conv, nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(288, 4))


class Several(NamedTuple):
    scores: torch.Tensor
    parts: list[Any]


@dataclass
class Answer:
    scores: torch.Tensor
    rest: Any


class Giving(nn.Module):
    def __init__(self, given):
        super().__init__()
        self.net, self.given = net(), given

    def forward(self, x):
        return self.given(self.net(x))


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, image):
        return {"scores": self.net(image)}


def test_weights_with_their_channels_last_are_saved(tmp_path):
    """Of which PyTorch warns, and a warning is an error here."""
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3)), torch.randn(2, 3, 8, 8)
    model.to(memory_format=torch.channels_last)
    save(model, tmp_path / "a", example_inputs=x)
    assert torch.allclose(load(tmp_path / "a")(x), model(x), atol=1e-6)


def test_it_runs_in_eval_mode_on_any_batch(tmp_path):
    model, x = net().train(), torch.randn(7, 3, 8, 8)
    save(model, tmp_path / "a", example_inputs=x[:2])
    assert model.training
    plain = load(tmp_path / "a")
    torch.testing.assert_close(plain(x), model.eval()(x))
    dense = nn.Sequential(nn.Conv2d(3, 8, 3), *net()[1:])
    assert isinstance(load(tmp_path / "a", dense)[0], FactorizedConv)


def test_keywords_and_dicts_stay_what_they_are(tmp_path):
    model, x = Named().eval(), torch.randn(3, 3, 8, 8)
    save(model, tmp_path / "a", example_inputs={"image": x})
    torch.testing.assert_close(load(tmp_path / "a")(image=x)["scores"], model(x)["scores"])


@pytest.mark.parametrize(
    ("given", "loaded"),
    [
        (lambda y: Several(y, [y.mean(), 2]), lambda y: (y, [y.mean(), 2])),
        (
            lambda y: Answer(y, (Several(y, []), "text")),
            lambda y: {"scores": y, "rest": ((y, []), None)},
        ),
        (lambda y: OrderedDict(a=y, b=None), lambda y: OrderedDict(a=y, b=None)),
    ],
)
def test_what_a_network_gives_is_loaded_without_its_classes(tmp_path, given, loaded):
    model, x = Giving(given).eval(), torch.randn(2, 3, 8, 8)
    save(model, tmp_path / "a", example_inputs=x)
    found, wanted = load(tmp_path / "a")(x), loaded(model.net(x))
    assert type(found) is type(wanted)
    torch.testing.assert_close(found, wanted)


def test_what_is_not_there_or_damaged_is_named(tmp_path):
    save(net(), tmp_path / "a", example_inputs=torch.randn(2, 3, 8, 8))
    (tmp_path / "a" / "plain.pt2").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"plain\.pt2 is damaged or foreign"):
        load(tmp_path / "a")
    save(net(), tmp_path / "a")  # the old form does not stay beside the new numbers
    with pytest.raises(FileNotFoundError, match=r"example_inputs=x\) when saving"):
        load(tmp_path / "a")


def test_a_network_that_cannot_be_written_leaves_nothing(tmp_path):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            return self.net(x) if x.sum().item() > 0 else x

    with pytest.raises(RuntimeError, match=r"torch\.export cannot write this network"):
        save(Branching(), tmp_path / "a", example_inputs=torch.randn(2, 3, 8, 8))
    assert not (tmp_path / "a").exists()
