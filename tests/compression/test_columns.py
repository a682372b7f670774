"""Networks of columns, as 1-D ones are that came from elsewhere, are measured as rows."""

import pytest
import torch
from torch import nn

import tenfold
from tenfold.compression import groundwork
from tenfold.compression.running import as_users_run, call, turn_columns, undisturbed


def network(width=16):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, width, (9, 1), padding="same"), nn.Conv2d(width, width, (9, 1), (2, 1))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.BatchNorm2d(width)).eval()


def test_they_are_turned_until_the_end_but_where_they_are_timed(kernels):
    def seen(model, x):
        with kernels() as watch:
            y = call(model, x)
        return y, watch.seen

    model, x = network(), torch.randn(4, 3, 40, 1)
    wanted, standing = seen(model, x)
    assert standing == [(9, 1), (9, 1)]
    with undisturbed():
        assert seen(model, x)[1] == standing  # nobody asked yet
        turn_columns()
        y, lying = seen(model, x)
        assert lying == [(9, 1), (1, 9)]  # what pads by a word is left as it is
        assert torch.allclose(y, wanted, atol=1e-5)
        with as_users_run():
            assert seen(model, x)[1] == standing
        assert seen(model, x)[1] == lying
        assert seen(model, torch.randn(4, 3, 40, 2))[1] == standing
    assert seen(model, x)[1] == standing


@pytest.mark.parametrize(("width", "times"), [(2, 0), (1, 1)])
def test_a_compression_turns_them_where_there_are_some(monkeypatch, width, times):
    x = torch.randn(8, 3, 40, width, generator=torch.Generator().manual_seed(0))
    options = {"budget": 0.5, "never_slower": False, "example_inputs": x, "progress": False}
    asked, errors = [], []
    for turns in (turn_columns, lambda: None):
        monkeypatch.setattr(groundwork, "turn_columns", lambda turns=turns: asked.append(turns()))
        errors.append(tenfold.compress(network(), **options).report.error)
    assert len(asked) == 2 * times
    assert errors[0] == pytest.approx(errors[1], abs=1e-3)
