"""The steps of a compression, each against what it stands for."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, Moment, compress
from tenfold.compression.candidates import turned
from tenfold.compression.candidates.candidate import Candidate
from tenfold.compression.candidates.fitting import distinct, fits
from tenfold.compression.candidates.meter import Meter
from tenfold.compression.candidates.table import LayerTable
from tenfold.compression.correction import regression
from tenfold.compression.correction.fits import fits_of
from tenfold.compression.correction.normalisation import recalibrate
from tenfold.compression.correction.regression import features, owner, regress, solved
from tenfold.compression.correction.response import Sums
from tenfold.compression.measurement.prediction import interpolated
from tenfold.compression.measurement.replay import Replay
from tenfold.compression.measurement.task import Judge, replaced
from tenfold.compression.moments import gathering
from tenfold.compression.moments import norm as norm_room
from tenfold.compression.moments.gathering import measure
from tenfold.compression.moments.gradients import importances
from tenfold.compression.moments.importance import Importance, scaling
from tenfold.compression.moments.norm import SKETCH, Norm, Seen
from tenfold.compression.running.difference import Difference, change, of_their_mean
from tenfold.compression.running.inference import outputs
from tenfold.compression.survey.calibration import divide
from tenfold.compression.survey.layers import survey


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 16, 3), nn.ReLU(inplace=True), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Conv2d(16, 4, 1)).eval()


def batches(count=4, size=4):
    generator = torch.Generator().manual_seed(1)
    few = torch.randn(count, size, 2, 10, 10, generator=generator)  # correlated, as images are
    return [torch.cat([x, x + 0.2 * torch.randn(x.shape, generator=generator)], 1) for x in few]


def test_the_survey_finds_layers_calls_and_normalisations_in_order():
    layers = survey(network(), batches()[0])
    assert [layer.name for layer in layers] == ["0", "2", "5"]
    assert [layer.shapes for layer in layers] == [
        [(4, 4, 10, 10)],
        [(4, 16, 8, 8)],
        [(4, 16, 6, 6)],
    ]
    assert [layer.follower for layer in layers] == [None, "3", None]
    assert layers[0].macs == 4 * 16 * 4 * 9 * 64


def test_the_change_is_that_of_all_outputs_together():
    found = Difference()
    y = torch.tensor([3.0, 4.0])
    found.add([y], [y + torch.tensor([0.0, 1.0])])
    found.add([y], [y])
    assert found.relative == pytest.approx((1 / 50) ** 0.5)
    found.add([y], [y * float("nan")])
    assert found.relative == float("inf")


@pytest.mark.parametrize("name", ["0", "2", "5"])
def test_a_replay_gives_what_running_everything_gives(name):
    model, inputs = network(), batches(2)
    (layer,) = [one for one in survey(model, inputs[0]) if one.name == name]
    judge = Judge.of(model, inputs, None, Replay(["0", "2", "5"], inputs, 2**30))
    other = nn.Conv2d(*(getattr(model[int(name)], a) for a in CONV)).eval()
    with replaced(model, layer, other):
        assert judge.alone(model, name) == judge.change(model) > 0
    assert "forward" not in model[0].__dict__
    assert judge.change(model) == judge.alone(model, name) == 0
    pairs = zip(judge.references, outputs(model, inputs), strict=True)
    assert all(torch.equal(*both) for one in pairs for both in zip(*one, strict=True))


CONV = ("in_channels", "out_channels", "kernel_size")


def test_the_mean_of_all_items_in_the_place_of_each_is_as_far_off_as_they_vary():
    torch.manual_seed(0)
    first = [3 + 4 * torch.randn(size, 50) for size in (300, 200)]
    found = of_their_mean([[one] for one in first])
    assert found == pytest.approx(4 / 5, rel=0.02)
    two = torch.tensor([[1.0], [-1.0]])
    assert of_their_mean([[two]]) == pytest.approx(2**0.5)  # of others, by these two
    both = of_their_mean([[one, torch.ones(len(one), 3)] for one in first])
    assert both == pytest.approx(found / 2**0.5)
    assert of_their_mean([[torch.ones(3, 2)], [torch.ones(1, 2)]]) == 0


@pytest.mark.parametrize(
    "given",
    [
        [[torch.randn(1, 4)]],
        [[torch.randn(())], [torch.randn(())]],
        [[torch.randn(3, 4)], [torch.randn(3, 5)]],
        [[torch.ones(3, 4, dtype=torch.long)]],
    ],
)
def test_where_nothing_is_given_for_each_of_several_items_there_is_no_mean(given):
    assert of_their_mean(given) is None


def test_a_replay_keeps_no_more_than_its_memory():
    replay = Replay.whole(network(), ["0", "2", "5"], batches(1), 4 * 4 * 16 * 64 + 1000)
    (calls,) = replay.calls
    assert [None if one is None else one.numel() for _, one in calls] == [4 * 16 * 64, None, None]


class CountingConv(nn.Conv2d):
    runs = 0

    def forward(self, x):
        self.runs += 1
        return super().forward(x)


def test_what_is_in_front_of_a_layer_runs_once_and_what_comes_after_anew():
    torch.manual_seed(0)
    first, second = CountingConv(4, 8, 3), CountingConv(8, 8, 3)
    model = nn.Sequential(first, nn.ReLU(inplace=True), second).eval()
    inputs = batches(2)
    judge, replay = Judge.of(model, inputs, None), Replay(["0", "2"], inputs, 2**30)
    first.runs = second.runs = 0
    found = []
    for _ in range(3):
        with torch.no_grad():
            second.weight.mul_(1.1)
        found.append(judge.onwards(model, "2", replay))
    assert (first.runs, second.runs) == (2, 6)
    assert found[0] < found[1] < found[2] == judge.change(model)


def test_a_layer_that_is_called_again_behind_another_is_not_answered_for():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.first(self.second(self.first(x)))

    torch.manual_seed(0)
    model, inputs = Again().eval(), [torch.randn(5, 4)]
    judge, replay = Judge.of(model, inputs, None), Replay(["first", "second"], inputs, 2**30)
    for _ in range(2):
        with torch.no_grad():
            model.second.weight.mul_(1.1)
        assert judge.onwards(model, "second", replay) == judge.change(model) > 0


def test_a_layer_is_worth_what_its_change_does_to_the_output_to_first_order():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Linear(4, 3, bias=False)).double()
    inputs = [torch.randn(200, 5, dtype=torch.float64) for _ in range(20)]
    found = importances(model, survey(model, inputs[0]), inputs, 0, 2**20).channels["0"][0]
    weight = model[1].weight.detach()
    wanted = weight.T @ weight  # Jᵀ J, up to the scale of the outputs
    ratio = found / found.trace() - wanted / wanted.trace()
    assert float(ratio.abs().max()) < 0.1
    assert all(p.requires_grad for p in model.parameters())


def test_the_norm_of_a_kernel_s_change_is_that_of_the_weighted_output():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, bias=False).double()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    moment = Moment(conv)
    moment.update(x)
    root = torch.randn(5, 5, dtype=torch.float64)
    norm = Norm.of(Seen(moment.matrix), (root.T @ root)[None], conv.weight)
    gap = torch.randn_like(conv.weight).detach()
    y, z = (nn.functional.conv2d(x, k) for k in (gap, conv.weight.detach()))
    weighted, plain = norm.squared(gap[None])
    whole = norm.squared(conv.weight.detach()[None])
    assert plain / whole[1] == pytest.approx(float(y.square().sum() / z.square().sum()))
    inner = norm.worth[0]
    heights = [float(torch.einsum("bohw,op,bphw->", one, inner, one)) for one in (y, z)]
    assert weighted / whole[0] == pytest.approx(heights[0] / heights[1])


def test_a_sketch_of_a_large_moment_measures_nearly_the_same():
    generator = torch.Generator().manual_seed(0)
    size = 2 * SKETCH + 8
    mix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    mix *= torch.linspace(1, 0.01, size, dtype=torch.float64)
    norm = Norm(Seen((mix @ mix.T)[None] / size))
    gap = torch.randn(1, 64, size, generator=generator, dtype=torch.float64)
    measured = norm.sketched(0, gap).squared(gap)[0]
    assert measured == pytest.approx(norm.squared(gap)[0], rel=0.05)


def test_marginals_measure_by_a_root_of_their_product():
    generator = torch.Generator().manual_seed(0)
    roots = [torch.randn(2, n, n, generator=generator, dtype=torch.float64) for n in (5, 3, 2)]
    norm = Norm(Seen(marginals=tuple(root @ root.mT + torch.eye(root.shape[1]) for root in roots)))
    gap = torch.randn(2, 7, 5, 3, 2, generator=generator, dtype=torch.float64)
    assert norm.sketched(0, gap).squared(gap) == pytest.approx(norm.squared(gap))


def test_layers_of_many_channels_are_decomposed_in_their_norm():
    torch.manual_seed(0)
    whole = Seen(torch.eye(16, dtype=torch.float64)[None], count=100)
    apart = Seen(marginals=(torch.eye(1100)[None].double(), torch.eye(1)[None].double()))
    for channels, made, seen in ((16, 1100, whole), (1100, 16, apart)):
        (layer,) = survey(nn.Sequential(nn.Conv1d(channels, made, 1)), torch.randn(2, channels, 4))
        layer.request = {"rank": 4, "factorization": "channel_svd"}
        kernel = torch.randn(made, channels, 1)
        norm = Norm.of(seen, torch.eye(made, dtype=torch.float64)[None], kernel)
        (found,) = fits(layer, kernel, norm, ["channel_svd"], 4, 0)
        assert Meter(kernel, norm, 1, 0).lost(found.network.to_tensor(found.factors))[0] < 1


def test_large_layers_are_worked_with_in_float32_to_the_same_end(monkeypatch):
    model = network().eval()
    options = {"example_inputs": batches()[0], "calibration": batches(), "progress": False}
    options |= {"budget": 0.5, "refine": "off", "never_slower": False}
    usual = compress(model, **options).report
    assert usual.constant > 0
    for room in (norm_room, regression, turned):
        monkeypatch.setattr(room, "LARGE", 8)
    narrow = compress(model, **options).report
    assert narrow.error == pytest.approx(usual.error, rel=0.05)


def test_wide_layers_are_compressed_by_the_marginals_of_their_moment(monkeypatch):
    monkeypatch.setattr(gathering, "WIDE", 64)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3)).eval()
    layers = survey(model, batches()[0])
    seen = measure(model, layers, batches(), 4, 2**30, 0, Importance())
    assert [tuple(m.shape[1:]) for m in seen["2"].marginals] == [(16, 16), (3, 3), (3, 3)]
    assert seen["0"].whole is not None
    kernel, whole = model[2].weight.detach(), Moment(model[2])
    for batch in batches():
        whole.update(model[:2](batch).detach())
    layers[1].request = {"rank": (8, 8), "factorization": "tucker"}
    losses = []
    for given in (seen["2"], Seen()):
        norm = Norm.of(given, None, kernel)
        (made,) = fits(layers[1], kernel, norm, ["tucker"], 4, 0)
        losses.append(whole.output_error(kernel, made.network.to_tensor(made.factors)))
    assert losses[0] < 0.9 * losses[1]


def test_a_wide_layer_that_stays_dense_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(gathering, "WIDE", 30)
    model, inputs = network(), batches(1)
    block = survey(model, inputs[0])[:1]
    replay = Replay(["0", "2", "5"], inputs, 2**20)
    assert fits_of(model, model, block, inputs, {}, 0, Importance(), 2**30, replay) == []


def test_sums_about_the_mean_do_not_lose_what_varies_little():
    generator = torch.Generator().manual_seed(0)
    patches = 1000 + torch.randn(1, 3, 4000, generator=generator)
    sums = Sums(centred=True)
    for some in patches.split(500, 2):
        sums.add(some, 2 * some, torch.ones(some.shape[2]))
    response = sums.response()
    wide = patches.double()
    wanted = torch.cov(wide[0]) * (wide.shape[2] - 1)
    torch.testing.assert_close(response.seen[0], wanted, rtol=1e-3, atol=5.0)
    torch.testing.assert_close(response.cross[0], 2 * wanted, rtol=1e-3, atol=10.0)
    torch.testing.assert_close(response.mean[0], wide[0].mean(1))


def test_regression_finds_the_kernel_that_made_the_responses():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(1, 5, 3, 2, generator=generator, dtype=torch.float64)
    patches = torch.randn(1, 6, 300, generator=generator, dtype=torch.float64)
    sums = Sums(centred=False)
    sums.add(patches, kernel.flatten(2) @ patches, torch.ones(patches.shape[2]))
    found = regress(torch.zeros_like(kernel), sums.response(), 1e-9)
    torch.testing.assert_close(found, kernel)


@pytest.mark.parametrize("format_", ["spatial_svd", "tucker", "cp", "tt"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_output_s_factor_and_the_bias_are_fitted_exactly(format_, groups):
    generator = torch.Generator().manual_seed(0)
    made = FactorizedConv(
        8, 6, (3, 3), groups=groups, rank=3, factorization=format_, dtype=torch.float64,
        generator=generator,
    )  # fmt: skip
    network, factors = made.weight.network, [f.detach() for f in made.weight.factors]
    patches = torch.randn(groups, 72 // groups, 2000, generator=generator, dtype=torch.float64)
    kernel = network.to_tensor(factors).reshape(groups, 6 // groups, -1)
    bias = torch.randn(groups, 6 // groups, 1, generator=generator, dtype=torch.float64)
    sums = Sums(centred=True)
    sums.add(patches, kernel @ patches + bias, torch.ones(patches.shape[2]))
    place = owner(network)
    spoilt = [torch.zeros_like(f) if i == place else f for i, f in enumerate(factors)]
    seeds = features(network, spoilt)
    found, fitted = solved(network, spoilt, sums.response().projected(seeds))
    made_again = network.to_tensor(found).reshape(kernel.shape)
    assert float((made_again - kernel).norm() / kernel.norm()) < 0.02  # the ridge's pull to zero
    torch.testing.assert_close(fitted, bias.flatten(), rtol=0.05, atol=0.05)


def test_a_correction_lowers_the_error_on_inputs_that_it_did_not_see():
    model, unseen = network(), batches(8, 8)[6:]
    options = {"example_inputs": unseen[0], "calibration": batches(8, 8)[:6], "progress": False}
    plain, corrected = (
        compress(model, budget=0.4, correct=correct, never_slower=False, **options)
        for correct in (False, True)
    )
    references = outputs(model, unseen)
    assert corrected.report.error < plain.report.error
    assert change(corrected.model, unseen, references) < change(plain.model, unseen, references)


def test_a_normalisation_is_worth_its_gain_squared():
    norm = nn.BatchNorm1d(4).double()
    norm.running_var.copy_(torch.tensor([1.0, 4.0, 9.0, 16.0]))
    norm.weight.data.copy_(torch.tensor([1.0, 2.0, 3.0, 8.0]))
    found = scaling(norm, 2)
    torch.testing.assert_close(
        found.diagonal(dim1=1, dim2=2).flatten(), torch.tensor([1.0, 1.0, 1.0, 4.0]).double(),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_statistics_are_taken_anew_only_where_that_helps():
    model, inputs = network(), batches()
    model[3].momentum = None
    model.train()
    for batch in inputs:
        model(batch)
    model[3].momentum = 0.1
    model.eval()
    judge = Judge.of(model, inputs, None)
    before = {key: value.clone() for key, value in model[3].state_dict().items()}
    assert not recalibrate(model, inputs, judge)
    assert all(torch.equal(value, before[key]) for key, value in model[3].state_dict().items())
    model[2].bias.data += 1  # as a compression that shifts the mean
    assert judge.change(model) > 0.1
    assert recalibrate(model, inputs, judge)
    assert judge.change(model) < 1e-4
    assert model[3].momentum == 0.1
    assert not model[3].training


def test_errors_between_measured_ones_are_read_off_and_never_fall():
    weighted = [0.0, 0.01, 0.02, 0.04, 0.1, 0.2, 0.4]
    errors = [None, None, 0.03, None, 0.2, None, None]
    rows = [
        Candidate(parameters=1, macs=1, weighted=w, error=e)
        for w, e in zip(weighted, errors, strict=True)
    ]
    found = interpolated(LayerTable("x", rows, {}))
    assert found[0] == 0
    assert found[1] == pytest.approx(0.015)
    assert found[2] == pytest.approx(0.03)
    assert found[4] == pytest.approx(0.2)
    assert found[6] == pytest.approx(0.8)
    assert all(one <= other for one, other in pairwise(found))


def test_the_calibration_is_parted_in_two_that_share_nothing():
    x = torch.arange(12.0).reshape(12, 1)
    fitted, held = divide([x], 0.25)
    together = torch.cat([*fitted, *held]).flatten().sort().values
    assert torch.equal(together, x.flatten())
    assert sum(map(len, held)) in (2, 3, 4)
    pairs, kept = divide([(x, x + 1)], 0.25)
    assert all(torch.equal(one + 1, other) for one, other in [*pairs, *kept])
    named, _ = divide([{"x": x, "kind": "a"}], 0.25)
    assert [list(one) for one in named] == [["x", "kind"]] * len(named)
    for alone in ([("text",)], ["text"]):
        assert divide(alone, 0.25) == (alone, alone)


ALL = ["spatial_svd", "tucker", "tt", "cp", "channel_svd", "block_term", "hadamard"]


@pytest.mark.parametrize(
    ("conv", "formats"),
    [
        (nn.Conv1d(8, 12, 1), ["spatial_svd", "hadamard"]),
        (nn.Conv2d(8, 12, 1), ["spatial_svd", "hadamard"]),
        (nn.Conv1d(8, 12, 3), ["spatial_svd", "tucker", "cp", "block_term", "hadamard"]),
        (nn.Conv2d(8, 12, 3), ALL),
    ],
)
def test_formats_that_differ_on_a_layer_are_all_tried(conv, formats):
    x = torch.randn(1, 8, *[5] * (conv.weight.dim() - 2))
    (layer,) = survey(nn.Sequential(conv), x)
    assert [one.name for one in distinct(layer, ALL)] == formats
