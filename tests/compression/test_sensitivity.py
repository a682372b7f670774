"""What less of each layer would cost: the numbers that a compression decides by."""

import sys
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from tenfold import compress, survey
from tenfold.compression.reporting import LayerCost, Sensitivity

torch.manual_seed(0)
X = torch.randn(32, 3, 12, 12).cumsum(2).cumsum(3) / 12
GIVEN = {"example_inputs": X[:4], "calibration": list(X.split(8)), "progress": False}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1))
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def found(model):
    return survey(model, **GIVEN, exclude="4")


def test_less_of_a_layer_costs_more_and_what_is_not_so_small_is_none(found):
    assert found.fractions == (0.5, 0.25, 0.1)
    assert [layer.name for layer in found.layers] == ["0", "2"]
    for layer in found.layers:
        errors = [error for error in layer.errors if error is not None]
        assert errors == sorted(errors)
        assert 0 < errors[0] < 1
        assert all(
            (e is None) == (f is None) for e, f in zip(layer.errors, layer.formats, strict=True)
        )
    assert found.kept == (("4", "excluded"),)


def test_the_error_is_about_that_of_the_layer_compressed_alone(model, found):
    small = compress(
        model, budget=0.6, include="2", correct=False, never_slower=False, **GIVEN
    ).model
    with torch.no_grad():
        wanted, given = model(X), small(X)
    alone = float((given - wanted).norm() / wanted.norm())
    half = found.layers[1].errors[0]
    assert half / 2 < alone < 2 * half


def test_shares_are_of_the_network(model, found):
    whole = compress(model, budget=0.8, correct=False, never_slower=False, **GIVEN).report
    macs = {layer.name: layer.macs.before / whole.macs.before for layer in whole.layers}
    assert {layer.name: layer.share for layer in found.layers} == pytest.approx(
        {name: macs[name] for name in ("0", "2")}
    )


def test_a_compression_goes_on_from_its_table(model, tmp_path, monkeypatch):
    survey(model, **GIVEN, table=tmp_path)
    monkeypatch.setattr(
        "tenfold.compression.measurement.measuring.tasks", None
    )  # nothing is measured anew
    compress(model, budget=0.6, correct=False, never_slower=False, **GIVEN, table=tmp_path)


def test_it_prints_the_table_the_most_sensitive_first_and_draws_it(found, tmp_path, monkeypatch):
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    first = max(found.layers, key=lambda layer: layer.errors[1] or 0.0)
    rows = [line.split()[0] for line in lines if line[1:2] in ("0", "2")]
    assert rows[0] == first.name
    assert "Dense: 4 (excluded)." in str(found)
    found.plot(tmp_path / "it.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found.plot(tmp_path / "it.svg")
    drawn = ElementTree.parse(tmp_path / "it.svg")
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert {"0.5 of it", "0.25 of it", "0.1 of it", "0", "2"} <= set(texts)
    with pytest.raises(ImportError):
        found.plot(tmp_path / "it.pdf")
    with pytest.raises(ValueError, match=r"must end in \.png"):
        found.plot(tmp_path / "it.jpeg")


def test_too_little_data_is_told_of_and_a_budget_refused(model):
    few = survey(model, example_inputs=X[:1], progress=False)
    assert isinstance(few, Sensitivity)
    assert str(few).startswith("Take care: no calibration was given")
    with pytest.raises(ValueError, match=r"budget=0\.5: a survey looks at every size"):
        survey(model, example_inputs=X[:1], budget=0.5)


def test_a_layer_that_cannot_be_made_so_small_counts_by_how_small_it_can():
    layers = (
        LayerCost("robust", 0.5, (0.1, 0.2, 0.3), ("tt", "tt", "tt")),
        LayerCost("narrow", 0.5, (0.4, None, None), ("tt", None, None)),
    )
    found = Sensitivity("macs", (0.5, 0.25, 0.1), layers, (), ())
    assert str(found).index("narrow") < str(found).index("robust")
