"""Networks whose outputs can be compared, and those that are told why theirs cannot."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tenfold import compress, distill, relative_error
from tenfold.compression.correction.answers import answers
from tenfold.compression.correction.response import responses
from tenfold.compression.measurement import Replay
from tenfold.compression.moments import Importance
from tenfold.compression.running import tensors
from tenfold.compression.survey import filled, observe, survey

X = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
SCORED = {"evaluate": lambda model: 1.0}


def small(model, **fields):
    options = {"budget": 0.6, "example_inputs": X[:4], "calibration": X.split(4), **fields}
    return compress(model.eval(), progress=False, never_slower=False, multiple=2, **options)


class Around(nn.Module):
    """Something done with what two convolutions give."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 6, 3))


class Spectrum(Around):
    def forward(self, x):
        return torch.view_as_complex(self.net(x).unflatten(1, (3, 2)).movedim(2, -1).contiguous())


class Streaming(Around):
    state = 0.0

    def forward(self, x):
        self.state = self.net(x) + 0.9 * self.state
        return self.state


class Growing(Around):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(self.net(x))
        return torch.cat(self.seen)


class Boxes(Around):
    def forward(self, x):
        y = self.net(x).flatten(2).mT
        return {"boxes": y[y[..., 0] > y[..., 0].median()]}


class Nonzero(Around):
    def forward(self, x):
        y = self.net(x).flatten()
        return y[(y > 0.3).nonzero()[:, 0]]


class Selected(Around):
    def forward(self, x):
        y = self.net(x)
        return torch.masked_select(y, y > 0)


class Limited(Around):
    """More are picked than it gives, as detectors give the best 100."""

    def forward(self, x):
        y = self.net(x).flatten()
        return y[y > 0].sort().values[-5:]


class Nothing(Around):
    """None is picked, as by a detector on what has nothing in it."""

    def forward(self, x):
        y = self.net(x)
        return y, y[y > 1e6]


class Routed(Around):
    """Picks by values, and puts back: the size is the same whatever they are."""

    def forward(self, x):
        y = self.net(x).flatten(2).mT.flatten(0, 1)
        picked = y[:, 0] > 0
        found = torch.zeros_like(y)
        found[picked] = y[picked] * 2
        return found


class Spare(Routed):
    def forward(self, x):
        return super().forward(x), x.new_zeros(0)


class Windowed(Around):
    """Picks by a mask of its own, or of the input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.arange(16).reshape(4, 4) % 3 == 0)

    def forward(self, x):
        y = self.net(x)
        return y[:, :, self.mask], y[x[:, 0, 0, 0] > 0]


class Choice(Around):
    def forward(self, x):
        return self.net(x).argmax(1)


def test_complex_outputs_count_as_their_real_and_imaginary_parts():
    made = small(Spectrum())
    model = Spectrum().eval()
    with torch.no_grad():
        held = X.split(4)[2]
        wanted = relative_error(*(torch.view_as_real(m(held)) for m in (model, made.model)))
    assert made.report.error == pytest.approx(wanted, rel=1e-4)
    assert 0 < wanted < 1
    one = torch.tensor([3 + 4j]).conj()
    assert torch.equal(tensors({"a": one})[0], torch.tensor([[3.0, -4.0]]))


def test_complex_outputs_are_distilled():
    teacher, student = Spectrum(), Spectrum()
    nn.init.zeros_(student.net[2].weight)

    def gap():
        return relative_error(*(torch.view_as_real(m(X)) for m in (teacher, student)))

    before = gap()
    distill(student, teacher, [X], epochs=5, progress=False)
    assert gap() < before


@pytest.mark.parametrize("kind", [Streaming, Growing])
def test_state_between_calls_is_refused(kind):
    with pytest.raises(ValueError, match=r"keeps state between its calls.*whose forward resets it"):
        small(kind(), **SCORED)


@pytest.mark.parametrize("kind", [Boxes, Nonzero, Selected, Limited, Nothing])
def test_an_output_whose_size_depends_on_its_values_is_refused_unless_scored(kind):
    with pytest.raises(ValueError, match=r"size of the model's output.*picked from, or give eval"):
        small(kind())
    layers = survey(kind().eval(), X)
    observe(kind().eval(), X, layers, scored=True)


@pytest.mark.parametrize("kind", [Routed, Spare, Windowed])
def test_picking_that_leaves_the_size_alone_is_no_matter(kind):
    model = kind().eval()
    assert observe(model, X, survey(model, X)) == (0, ())


def test_whole_numbers_alone_are_refused_unless_scored():
    with pytest.raises(TypeError, match=r"returns torch\.int64 alone, as argmax.*give evaluate="):
        small(Choice())
    with pytest.raises(TypeError, match="teacher returns whole numbers alone"):
        distill(Choice(), Choice(), [X], epochs=1, progress=False)
    observe(Choice(), X, survey(Choice(), X), scored=True)


def test_batches_of_no_items_are_skipped():
    batches = [X[:4], X[:0], X[4:8], X[8:12]]
    model = Around().net
    assert small(model, calibration=batches).report.error == (
        small(model, calibration=[one for one in batches if len(one)]).report.error
    )
    with pytest.raises(ValueError, match="calibration has only batches of no items"):
        small(model, calibration=[X[:0]])
    kept = [{"x": X, "empty": X[:0]}, (X, 3), ([X, X],), 3]
    assert filled([*kept, (X[:0], X), [{"x": X[:0]}]]) == kept


def test_parts_of_a_network_may_see_no_items():
    class Proposals(Around):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6))

        def forward(self, x):
            y = self.net(x).flatten(2).mT.flatten(0, 1)
            picked = (y[:, 0] > 0) & (x.sum() > 0)
            found = y.clone()
            found[picked] = self.head(y[picked])
            return found

    batches = [(-1) ** i * one.abs() for i, one in enumerate(X.split(2))]
    assert 0 < small(Proposals(), example_inputs=batches[0], calibration=batches).report.error < 1


def test_a_list_of_images_is_one_argument_in_a_tuple():
    class Listed(Around):
        def forward(self, images, targets=None):
            if not isinstance(images, list):
                raise ValueError("images is to be a list")
            return [{"scores": self.net(F.pad(one, (1, 1))[None])} for one in images]

    batches = [([one, other],) for one, other in zip(X[::2], X[1::2], strict=True)]
    report = small(Listed(), example_inputs=batches[0], calibration=batches).report
    assert 0 < report.error < 1
    for images in ([X[0], X[1]], list(X[:3])):
        with pytest.raises((TypeError, ValueError), match=r"list.* as \(\[…\],\)"):
            small(Listed(), example_inputs=images, calibration=None)


def test_a_layer_is_not_fitted_to_answers_about_other_items():
    model = nn.Sequential(nn.Conv2d(8, 8, 3)).eval()
    x = torch.randn(6, 8, 6, 6)
    layers = survey(model, x[:4])
    found = answers(model, layers, [x[:4]], {"0": 1000}, Importance(), 0)
    replay = Replay(["0"], [x], 2**20)
    assert set(responses(model, layers, [x[:4]], found, {"0": None}, replay)) == {"0"}
    assert responses(model, layers, [x], found, {"0": None}, replay) == {}
