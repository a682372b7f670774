"""Batches as loaders give them, what is refused of them, and what is said of too few of them."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tenfold import compress

torch.manual_seed(0)
SMOOTH = torch.randn(32, 3, 12, 12).cumsum(2).cumsum(3) / 12  # neighbours have to do with another
LABELS = torch.arange(32)


def net():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class Keyed(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, image, scale=1.0):
        return self.net(image * scale)


def small(model=None, **given):
    fixed = {"budget": 0.5, "example_inputs": SMOOTH[:8], "progress": False, "correct": False}
    fixed |= {"objective": "energy", "never_slower": False}  # nothing is timed
    return compress(model or net(), **{**fixed, **given})


def same(one, other):
    return all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))


PLAIN = list(SMOOTH.split(8))


@pytest.mark.parametrize(
    ("calibration", "inputs"),
    [
        (DataLoader(TensorDataset(SMOOTH, LABELS), 8), None),
        ([(x, LABELS[:8]) for x in PLAIN], 0),
        ([[LABELS[:8], x] for x in PLAIN], 1),
        ([{"picture": x, "label": LABELS[:8]} for x in PLAIN], "picture"),
        ([{"input": x, "label": LABELS[:8]} for x in PLAIN], None),
        ([(LABELS[:8], LABELS[:8], x) for x in PLAIN], lambda batch: batch[-1]),
    ],
)
def test_of_a_loader_as_it_is_the_labels_are_left_out(calibration, inputs):
    example = next(iter(calibration))
    found = small(calibration=calibration, inputs=inputs, example_inputs=example)
    plain = small(calibration=PLAIN)
    assert same(found, plain)
    assert found.report.warnings == plain.report.warnings


def test_what_forward_takes_is_taken_whole():
    pairs = [(x, torch.tensor(2.0)) for x in PLAIN]
    whole = small(Keyed(), calibration=pairs, example_inputs=pairs[0])
    parts = small(Keyed(), calibration=pairs, example_inputs=pairs[0], inputs=0)
    assert whole.report.error != parts.report.error


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"example_inputs": SMOOTH[0].numpy()},
            r"example_inputs is a NumPy array of shape \(3, 12",
        ),
        ({"calibration": [SMOOTH[:2].numpy()]}, r"calibration\[0\] is a NumPy array"),
        (
            {"calibration": [SMOOTH[:2, :1]]},
            r"give what has the shape \(8, 3, 12, 12",
        ),
        ({"inputs": True}, "inputs=True must be an index, a key or a function"),
        ({"calibration": [(SMOOTH, LABELS)], "inputs": 5}, r"inputs=5 is no part of"),
        ({"budget": 25}, "budget=25: it must be above 0 and below 1.*as 0.25"),
        ({"factorization": "tt", "factorizations": "tt"}, "are the same: give one of them"),
        ({"score": 3}, "score=3 must be a function of a model"),
        (
            {"budget": None, "min_score": 94, "evaluate": lambda _: 0.9},
            "min_score=94 is above the original's own, which evaluate gives as 0.9",
        ),
    ],
)
def test_refusals_name_what_was_given_and_what_was_wanted(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(**given)


def test_an_unbatched_image_and_a_weight_that_is_nan_are_named():
    model = nn.Sequential(nn.BatchNorm2d(3), net())
    with pytest.raises(ValueError, match=r"axis of the batch is missing: give \(1, 3, 12, 12\)"):
        small(model, example_inputs=SMOOTH[0])
    with torch.no_grad():
        model[1][2].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"NaN or infinite values in '1\.2\.weight'"):
        small(model)


def test_a_misspelt_keyword_is_no_keyword():
    with pytest.raises(TypeError, match=r"^calibraton= is no option: did you mean 'calibration'"):
        small(calibraton=[SMOOTH])


def test_a_format_may_be_named_in_the_singular():
    report = small(factorization="tucker", calibration=PLAIN).report
    assert {layer.factorization for layer in report.layers} <= {"tucker", None}


def test_one_sample_and_noise_are_told_of_in_the_first_line():
    def first(**given):
        found = small(**given)
        return " ".join(str(found).split())[:400], found.report.to_html()

    line, page = first(example_inputs=SMOOTH[:1])
    assert line.startswith("Take care: no calibration was given")
    assert "nothing to hold out" in line
    assert "nothing to hold out" in page
    line, _ = first(calibration=PLAIN[:1])
    assert line.startswith("Take care: only 2 samples were held out, to choose by and to judge")
    assert small(calibration=PLAIN).report.warnings[0].startswith("only 8 samples were")
    assert small(calibration=[*PLAIN, *PLAIN, *PLAIN, *PLAIN]).report.warnings == ()
    line, _ = first(calibration=[torch.randn(32, 3, 12, 12) for _ in range(4)])
    assert line.startswith("Take care: the inputs are noise")
    wide = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(800, 8))
    warnings = small(wide, calibration=PLAIN, budget=0.8).report.warnings
    assert warnings[1:] == ("'2' saw fewer inputs than it takes to fit (24 of 800 numbers each)",)


class Cut(nn.Module):
    """Cuts images into windows, each of them one more item to its layers."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(27, 128), nn.ReLU(), nn.Linear(128, 128))

    def forward(self, batch):
        windows = nn.functional.unfold(batch["image"], 3, stride=3).mT
        return self.net(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])


class Each(nn.Module):
    """Takes a list of images."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, images):
        return [self.net(image[None]) for image in images]


@pytest.mark.parametrize(
    ("model", "batch"),
    [(Cut, lambda x: ({"image": x},)), (Each, lambda x: (list(x),))],
)
def test_items_are_counted_in_dicts_and_lists_and_where_layers_see_more_of_them(model, batch):
    torch.manual_seed(1)
    calibration = [batch(x) for x in PLAIN]
    found = small(model(), example_inputs=calibration[0], calibration=calibration, holdout=0.3)
    (few,) = found.report.warnings
    assert few.startswith("only 8 samples were held out")


def test_a_score_is_shown_before_and_after_and_steers_nothing():
    def size(model):
        return sum(parameter.numel() for parameter in model.parameters())

    shown, plain = small(score=size, calibration=PLAIN), small(calibration=PLAIN)
    assert same(shown, plain)
    assert plain.report.score is None
    assert shown.report.score.before == plain.report.parameters.before
    assert shown.report.score.after == plain.report.parameters.after
    curve = small(score=size, calibration=PLAIN, budget=None, budgets=(0.5, 0.7)).report.curve
    assert [point.score for point in curve] == [point.parameters for point in curve]
