"""What counts in a layer's inputs and outputs, and what is made of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import Moment, compress
from tenfold.algebra.spectrum import by_group
from tenfold.compression.candidates.turned import Turned
from tenfold.compression.moments.gathering import effective, measure
from tenfold.compression.moments.gradients import importances
from tenfold.compression.moments.importance import FLOOR, Importance
from tenfold.compression.moments.norm import Norm, Seen, upper_root
from tenfold.compression.moments.sampling import Sampling
from tenfold.compression.running.inference import copied
from tenfold.compression.survey.layers import survey
from tenfold.layer.moment import products
from tenfold.plugin.registry import factorizations

X = torch.randn(12, 4, 9, 9, generator=torch.Generator().manual_seed(0))


class Half(nn.Module):
    """Only the left columns reach the output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        return self.conv(x)[..., :4].relu().sum((2, 3))


def test_places_that_do_not_reach_the_output_count_for_the_floor_alone():
    model = Half().eval()
    found = importances(model, survey(model, X), [X], 0, 2**20)
    ((places,),) = found.places["conv"]
    assert places.shape == (12, 9, 9)
    assert float(places.mean()) == pytest.approx(1)
    torch.testing.assert_close(places[..., 4:], torch.full((12, 9, 5), FLOOR / (1 + FLOOR)))
    assert float(places[..., :4].mean()) > 2


def test_places_that_take_more_memory_than_there_is_are_not_kept():
    model = Half().eval()
    found = importances(model, survey(model, X), [X], 0, 100)
    assert found.places == {}
    assert set(found.channels) == {"conv"}


def test_the_moment_is_that_of_the_patches_as_often_as_their_places_count():
    model = Half().eval()
    layers = survey(model, X)
    worth = importances(model, layers, [X], 0, 2**20)
    seen = measure(model, layers, [X], 1, 2**30, 0, worth)["conv"]
    (patches,) = Moment(model.conv).patches_of(X)
    weights = worth.places["conv"][0][0].flatten()
    wanted = (patches * weights) @ patches.mT
    torch.testing.assert_close(seen.whole, wanted.double(), rtol=1e-4, atol=1e-3)
    assert seen.count == round(float(weights.sum() ** 2 / weights.square().sum()))


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_few_patches_are_drawn_and_places_count_on_average_what_they_are_worth(share, seed):
    model = Half().eval()
    (layer,) = survey(model, X)
    places = torch.rand(12, 9, 9, generator=torch.Generator().manual_seed(seed)) ** 2
    places /= places.mean()
    sampling = Sampling(layer, 1, round(share * 12 * 81), seed)
    totals = torch.stack([sampling.counts(places.reshape(12, 81)) for _ in range(200)])
    drawn = (totals > 0).double().mean()
    assert 0.5 * share < float(drawn) < 1.1 * share + 0.01
    mean, few = totals.mean(0).flatten(), (places < places.median()).flatten()
    little, much = (mean[some].sum() / places.flatten()[some].sum() for some in (few, ~few))
    assert float(little / much) == pytest.approx(1, abs=0.35)


def test_places_are_drawn_as_often_as_they_count_in_all_calls():
    model = Half().eval()
    (layer,) = survey(model, X)
    sampling = Sampling(layer, 2, round(0.2 * 2 * 12 * 81), 0)
    drawn = [0.0, 0.0]
    for _ in range(100):
        for call, worth in enumerate((0.5, 1.5)):
            drawn[call] += float((sampling.counts(torch.full((12, 81), worth)) > 0).double().mean())
    assert drawn[1] / drawn[0] == pytest.approx(3, rel=0.15)
    assert sum(drawn) / 200 == pytest.approx(0.2, rel=0.15)


def test_equal_samples_are_as_many_as_they_are():
    assert effective(5 * 2.0, 5 * 4.0) == 5
    assert effective(0.0, 0.0) == 0


@settings(deadline=None, max_examples=40)
@given(
    groups=st.integers(1, 2),
    count=st.integers(2, 40),
    level=st.floats(0, 1e4),
    seed=st.integers(0, 99),
)
def test_products_keep_what_is_small_beside_the_mean(groups, count, level, seed):
    generator = torch.Generator().manual_seed(seed)
    patches = level + torch.randn(groups, 5, count, generator=generator)
    wide = patches.double()
    gap = products(patches) - wide @ wide.mT
    assert float(gap.abs().max()) <= 1e-5 * count * (1 + level * 1e-3)


@settings(deadline=None, max_examples=40)
@given(
    format_=st.sampled_from(["spatial_svd", "tucker", "tt", "cp"]),
    groups=st.sampled_from([1, 2]),
    rank=st.integers(1, 4),
    worth=st.booleans(),
    seed=st.integers(0, 99),
)
def test_refined_factors_are_nearer_to_the_kernel_in_the_norm(format_, groups, rank, worth, seed):
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(6, 8 // groups, 3, 3, generator=generator, dtype=torch.float64)
    size = 72 // groups
    root = torch.randn(groups, size, size, generator=generator, dtype=torch.float64)
    outs = torch.randn(groups, 6 // groups, 6 // groups, generator=generator, dtype=torch.float64)
    norm = Norm.of(Seen(root @ root.mT, count=10**6), outs @ outs.mT if worth else None, kernel)
    plugin = factorizations.choose(format_).plugin
    turned = Turned(plugin, kernel, norm, groups)
    network = turned.network(rank)
    factors = turned.factors(network, torch.Generator().manual_seed(0))
    refined = turned.refined(network, factors, 2**33)

    def error(found):
        return norm.squared(by_group(kernel - network.to_tensor(found), groups))[0]

    energy = norm.squared(by_group(kernel, groups))[0]
    assert error(refined) <= error(factors) * (1 + 1e-3) + 1e-12 * energy


def test_a_moment_of_fewer_patches_than_rows_refines_nothing():
    kernel = torch.randn(6, 8, 3, 3, dtype=torch.float64)
    norm = Norm.of(Seen(torch.eye(72, dtype=torch.float64)[None], count=20), None, kernel)
    turned = Turned(factorizations.choose("tucker").plugin, kernel, norm, 1)
    network = turned.network(2)
    factors = turned.factors(network, torch.Generator().manual_seed(0))
    assert turned.refined(network, factors, 2**33) is None


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(400, 3)).eval()


def squeezed(model, **fields):
    options = {"budget": 0.4, "example_inputs": X[:2], "calibration": X.split(2)}
    return compress(model, **options, progress=False, never_slower=False, **fields)


def test_dense_layers_after_what_changed_are_fitted_and_excluded_ones_stay():
    model = net()
    kept = squeezed(model, exclude="5")
    assert torch.equal(kept.model[5].weight, model[5].weight)
    before = copied(model)
    options = {"factorizations": "tucker", "include": ("2", "5"), "refine": "off"}
    made, plain = squeezed(model, **options), squeezed(model, correct=False, **options)
    assert torch.equal(made.model[0].weight, model[0].weight)
    assert made.report.error < plain.report.error
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True)
    )


def test_the_root_of_a_moment_that_rounding_made_indefinite_is_that_of_a_ridged_one():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(1, 40, 12, generator=generator, dtype=torch.float64)
    moment = root @ root.mT / 12 - 1e-6 * torch.eye(40, dtype=torch.float64)
    assert torch.linalg.cholesky_ex(moment)[1].any()
    found = upper_root(moment)
    torch.testing.assert_close(found.mT @ found, moment, rtol=0, atol=1e-3)
    one = moment + torch.eye(40, dtype=torch.float64)
    found = upper_root(one)
    torch.testing.assert_close(found.mT @ found, one)


def test_nothing_known_counts_everything_the_same():
    model = Half().eval()
    layers = survey(model, X)
    seen = measure(model, layers, [X], 1, 2**30, 0, Importance())["conv"]
    moment = Moment(model.conv)
    moment.update(X)
    torch.testing.assert_close(seen.whole, moment.matrix, rtol=1e-5, atol=1e-5)
    assert seen.count == moment.patches


def test_gradients_of_many_channels_are_multiplied_in_blocks_and_added_over_batches():
    layers = survey(nn.Sequential(nn.Linear(4, 1100)), X[:, :, 0, 0])
    gradients = torch.randn(3, 2, 1100)
    found = Importance()
    for batch, gradient in enumerate(gradients):
        found.add(layers[0], batch, gradient)
    (worth,) = found.finished(2**30, 3).channels["0"]
    every = gradients.flatten(0, 1).double()
    torch.testing.assert_close(worth, every.mT @ every / 3, rtol=1e-5, atol=1e-5)


def test_a_layer_whose_output_nothing_takes_counts_nothing_and_warns_of_nothing():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.out = (nn.Conv1d(8, 8, 1) for _ in range(3))

        def forward(self, x):
            x = self.first(x)
            self.last(x)  # of a chain of blocks with two outputs each, the last one's first
            return self.out(x)

    model, x = Skips().eval(), torch.randn(4, 8, 10)
    found = importances(model, survey(model, x), [x], 0, 2**20)
    assert set(found.channels) == {"first", "out"}
    assert not any(one.requires_grad for one in found.channels.values())
