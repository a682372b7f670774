"""Layers alike are tied into one network where that brings the whole nearer to the original."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import FactorizedConv, JointConv, compress, load, relative_error, save, to_plain
from tenfold.compression.correction import refit
from tenfold.compression.correction import tied as together
from tenfold.compression.measurement.task import Judge
from tenfold.compression.moments.importance import Importance
from tenfold.compression.survey.layers import survey
from tenfold.compression.tying import pooled

QUICK = {
    "metric": "parameters",
    "multiple": 1,
    "progress": False,
    "factorizations": "tucker",
    "correct": False,
    "refine": "off",
    "never_slower": False,
}


class Stage(nn.Module):
    """Convolutions alike, with their own strides, dilations and biases."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.first = nn.Conv2d(12, 12, 3, padding=1)
        self.blocks = nn.ModuleList(
            [
                nn.Conv2d(12, 12, 3, padding=2, dilation=2, bias=False),
                nn.Conv2d(12, 12, 3, stride=2),
            ]
        )
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = self.first(self.stem(x).relu()).relu()
        for block in self.blocks:
            x = block(x).relu()
        return self.head(x.mean((2, 3)))


def alike(bases=6, noise=0.0):
    """A network whose kernels have the same bases of channels, and each its own core.

    With so much that they have not in common.
    """
    torch.manual_seed(0)
    model = Stage().eval()
    outer, inner = (torch.linalg.qr(torch.randn(12, bases))[0] for _ in range(2))
    with torch.no_grad():
        for conv in (model.first, *model.blocks):
            core = torch.randn(bases, bases, 3, 3)
            kernel = torch.einsum("or,is,rskl->oikl", outer, inner, core) / 3
            conv.weight.copy_(kernel + noise * kernel.std() * torch.randn(kernel.shape))
    return model


X = torch.randn(12, 3, 10, 10, generator=torch.Generator().manual_seed(0))


def is_of_the_stage(name, module):
    return name == "first" or name.startswith("blocks")


def made(model, **options):
    given = {**QUICK, "budget": 0.42, **options}
    given = {"calibration": list(X.split(4)), **given}
    return compress(model, example_inputs=X[:2], **given)


@pytest.fixture(scope="module")
def tied():
    return made(alike(), joint=is_of_the_stage)


def test_layers_that_share_bases_are_tied_and_are_nearer(tied):
    apart = made(alike())
    assert tied.report.error < 1e-5 < apart.report.error
    assert isinstance(tied.model.first, JointConv)
    assert tied.model.blocks[1] is tied.model.first[2]


def test_the_budget_counts_shared_factors_once(tied):
    parameters = sum(one.numel() for one in tied.model.parameters())
    before = sum(one.numel() for one in alike().parameters())
    assert parameters == tied.report.parameters.after <= 0.42 * before
    assert sum(one.numel() for one in tied.model.state_dict().values()) == parameters
    rows = [row.parameters.after for row in tied.report.layers]
    assert sum(rows) == parameters


def test_the_report_names_the_group(tied):
    rows = {row.name: row for row in tied.report.layers}
    names = ("first", "blocks.0", "blocks.1")
    assert {rows[name].joint for name in names} == {"first"}
    assert rows["stem"].joint is None
    (stage,) = tied.report.stages
    assert stage.layers == names
    assert stage.reason is None
    assert stage.error < stage.apart
    assert "Tied into one network: first, blocks.0, blocks.1" in str(tied)
    assert "tied to first" in tied.report._repr_html_()
    assert type(tied.report).from_json(tied.report.to_json()) == tied.report


def test_each_keeps_its_geometry_and_its_bias(tied):
    original = alike()
    for name in ("blocks.0", "blocks.1"):
        mine, theirs = (one.get_submodule(name) for one in (tied.model, original))
        assert (mine.stride, mine.dilation) == (theirs.stride, theirs.dilation)
        assert (mine.bias is None) == (theirs.bias is None)


def test_it_is_saved_loaded_copied_and_made_plain(tied, tmp_path):
    expected = tied.model(X)
    save(tied, tmp_path / "small")
    for dense in (Stage(), copy.deepcopy(tied.model)):
        found = load(tmp_path / "small", dense).eval()
        assert isinstance(found.first, JointConv)
        assert torch.equal(found(X), expected)
    plain = to_plain(tied.model)
    assert not any(isinstance(module, JointConv) for module in plain.modules())
    assert relative_error(expected, plain(X)) < 1e-5
    assert isinstance(plain.blocks[0], nn.Sequential)


def test_what_was_decided_for_each_is_saved_and_loaded(tied, tmp_path):
    small = copy.deepcopy(tied.model)
    wanted = []
    for member in small.first:
        one = list(range(len(member.weight.factors)))
        cut = len(wanted)  # another partition for each
        groups = [group for group in (one[:cut], one[cut:]) if group]
        member.fix_plan({"partition": groups})
        wanted.append(member.decision)
    save(small, tmp_path / "small")
    found = load(tmp_path / "small", Stage())
    assert [member.decision for member in found.first] == wanted
    assert [member.inner.partition for member in found.first] == [one.partition for one in wanted]
    assert relative_error(small(X), found.eval()(X)) < 1e-5


def test_a_broken_group_is_refused_by_name(tied, tmp_path):
    save(tied, tmp_path / "small")
    path = tmp_path / "small" / "tenfold.json"
    path.write_text(path.read_text().replace('"n_layers": [\n    3', '"n_layers": [\n    2'))
    with pytest.raises(ValueError, match="'first' and those tied to it are not of one network"):
        load(tmp_path / "small", Stage())


def test_layers_with_nothing_in_common_stay_apart_and_it_is_said():
    torch.manual_seed(1)
    model = Stage().eval()
    found, apart = made(model, joint=is_of_the_stage, budget=0.6), made(model, budget=0.6)
    (stage,) = found.report.stages
    assert stage.error >= stage.apart
    assert "Not tied, as apart they are nearer" in str(found)
    kinds = [type(one) for one in found.model.modules()]
    assert FactorizedConv in kinds
    assert JointConv not in kinds
    states = found.model.state_dict(), apart.model.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_corrected_and_refined_it_is_no_farther_than_apart():
    given = {"correct": True, "refine": "blocks", "budget": 0.3}
    found, apart = made(alike(), joint=is_of_the_stage, **given), made(alike(), **given)
    assert found.report.error <= apart.report.error * (1 + 1e-6)


@pytest.mark.parametrize("wide", [False, True])
def test_tied_layers_are_corrected_together(wide, monkeypatch):
    """By the patches of them all; or, where these are too wide, by what their factor meets."""
    given = {"joint": is_of_the_stage, "correct": True}
    x = torch.randn(96, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    given["calibration"] = list(x.split(16))
    monkeypatch.setattr(together, "WIDE", 10 if wide else 5000)
    found = made(alike(noise=0.05), **given)
    monkeypatch.setattr(refit, "ties", lambda *_: [])
    without = made(alike(noise=0.05), **given)
    assert found.report.layers[1].joint == without.report.layers[1].joint == "first"
    assert found.report.error < 0.98 * without.report.error


def test_layers_are_tied_by_least_squares_over_all_their_patches(monkeypatch):
    asked = {"joint": is_of_the_stage, "calibration": list(X.split(2))}
    found = made(alike(noise=0.05), **asked)
    monkeypatch.setattr(pooled, "WIDE", 10)  # then the moments are products of marginals
    rough = made(alike(noise=0.05), **asked)
    assert found.report.stages[0].error < 0.95 * rough.report.stages[0].error


@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_the_joined_moment_is_each_layers_on_its_own_kernel(count, groups, seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = (2, 3, 1)
    roots = torch.randn(count, groups, 6, 6, generator=generator, dtype=torch.float64)
    kernels = torch.randn(groups, 4, 2, count, 3, 1, generator=generator, dtype=torch.float64)
    whole = pooled.joined(list(roots @ roots.mT), sizes)
    together = kernels.flatten(2) @ whole
    apart = [kernels[:, :, :, n].flatten(2) @ roots[n] @ roots[n].mT for n in range(count)]
    apart = torch.stack([one.reshape(groups, 4, *sizes) for one in apart], 3)
    torch.testing.assert_close(together, apart.flatten(2))


class Beside(nn.Module):
    """Layers alike that meet the same inputs."""

    def __init__(self, bias, groups):
        super().__init__()
        self.a, self.b = (nn.Conv2d(6, 8, 3, groups=groups, bias=bias) for _ in range(2))

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("wide", [False, True])
def test_the_correction_goes_half_the_way_three_times(bias, groups, wide, monkeypatch):
    """Of a shared factor and of biases that are off, an eighth of what they are off is left."""
    monkeypatch.setattr(together, "WIDE", 10 if wide else 5000)
    torch.manual_seed(0)
    original = Beside(bias, groups).eval()
    joint = FactorizedConv.from_conv_list(
        [original.a, original.b], rank=10**9, factorization="tucker"
    )
    changed = Beside(bias, groups).eval()
    changed.a, changed.b = joint, joint[1]
    with torch.no_grad():
        for part in (joint.weight.factors[0], *joint.bias):
            part.mul_(1 + 0.5 * torch.randn(part.shape))
    inputs = [torch.randn(8, 6, 8, 8) for _ in range(4)]
    judge = Judge.of(original, inputs, None)
    before = judge.change(changed)
    layers = survey(original, inputs[0])
    asked = (original, changed, layers, ["a", "b"], inputs)
    list(refit.correct(*asked, judge, 0, Importance(), 2**30, {}))
    assert judge.change(changed) == pytest.approx(before / 8, rel=0.05)


@pytest.mark.parametrize("format_", ["cp", "hadamard", "tucker+depthwise_separable"])
def test_any_format_ties(format_):
    found = made(alike(), joint="blocks.*", factorizations=format_, objective="energy")
    (stage,) = found.report.stages
    assert stage.error is not None
    before = sum(one.numel() for one in alike().parameters())
    assert found.report.parameters.after <= 0.42 * before


def test_linear_layers_are_tied_too():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(12, 12) for _ in range(3))).eval()
    shared = torch.randn(12, 2) @ torch.randn(2, 12)
    with torch.no_grad():
        for index, layer in enumerate(model):
            layer.weight.copy_(shared * (index + 1) / 6)
    x = torch.randn(32, 12)
    found = compress(
        model, budget=0.35, example_inputs=x, joint=nn.Linear, **{**QUICK, "factorizations": "cp"}
    )
    assert isinstance(found.model[0], JointConv)
    assert found.report.error < 1e-4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"joint": "blocks.*", "metric": "macs"}, "give metric='parameters'"),
        ({"joint": "blocks.*", "bits": 8}, "give one of the two"),
        ({"joint": "no.*"}, "joint='no.\\*' matches no two layers"),
        ({"joint": "head"}, "joint='head' matches no two layers"),
        ({"joint": ("blocks.*", 3)}, "give names with"),
    ],
)
def test_what_ties_nothing_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        made(alike(), **options)
