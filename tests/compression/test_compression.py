"""Whole networks of many kinds, compressed."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn import utils
from torch.nn.utils import parametrizations, parametrize, prune

import tenfold
from tenfold import FactorizedConv, compress, hookimpl
from tenfold.compression import account
from tenfold.compression.candidates import Speed
from tenfold.plugin.hooks import plugin_manager
from tenfold.tuning import device_name

BUDGET = 0.5
QUICK = {
    "progress": False,
    "factorizations": "spatial_svd",
    "correct": False,
    "refine": "off",
    "never_slower": False,
}


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


class Residual(nn.Module):
    """torchvision's bottleneck: 1×1, 3×3 with a stride, 1×1, and a strided 1×1 beside it."""

    def __init__(self, given, inner, made, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(given, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, made, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(
            nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made)
        )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        return self.relu(y)


def resnet():
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, 2, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        Residual(16, 16, 32, 1),
        Residual(32, 32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def mobilenet():
    def block(given, made, stride):
        return nn.Sequential(
            nn.Conv2d(given, given, 3, stride, 1, groups=given, bias=False),
            nn.BatchNorm2d(given),
            nn.ReLU6(inplace=True),
            nn.Conv2d(given, made, 1, bias=False),
            nn.BatchNorm2d(made),
            nn.ReLU6(inplace=True),
        )

    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), block(16, 32, 1), block(32, 64, 2))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, padding=1)
        self.deep = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.out = nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, x):
        shallow = F.relu(self.down(x))
        deep = F.relu(self.deep(shallow))
        return {"mask": self.out(torch.cat([shallow, self.up(deep)], 1)), "size": x.shape[2]}


def volume():
    return nn.Sequential(
        nn.Conv3d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 16, 3, stride=2), nn.ReLU()
    )


def sequence():
    return nn.Sequential(
        nn.Conv1d(4, 32, 5, padding="same"),
        nn.SiLU(),
        nn.Conv1d(32, 32, 4, padding="same", dilation=2),
        nn.SiLU(),
    )


class Twice(nn.Module):
    """One convolution that stands in two places, and is called three times."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.again = nn.ModuleList([self.first])

    def forward(self, x):
        return self.again[0](F.relu(self.first(F.relu(self.first(x)))))


NETWORKS = {
    "resnet": (resnet, (3, 32, 32)),
    "mobilenet": (mobilenet, (3, 16, 16)),
    "unet": (UNet, (3, 16, 16)),
    "volume": (volume, (2, 8, 8, 8)),
    "sequence": (sequence, (4, 20)),
    "twice": (Twice, (8, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_kind_come_within_the_budget(name):
    make, shape = NETWORKS[name]
    model = seeded(make)
    x = torch.randn(16, *shape)
    before = copy.deepcopy(model.state_dict())
    found = compress(
        model,
        budget=BUDGET,
        example_inputs=x[:2],
        calibration=x.split(4),
        progress=False,
        factorizations=("spatial_svd", "tucker"),
    )
    report = found.report
    assert report.macs.after <= BUDGET * report.macs.before
    assert report.macs.before == sum(layer.macs.before for layer in report.layers)
    compressed = [layer for layer in report.layers if layer.factorization]
    assert compressed
    for layer in compressed:
        made = found.model.get_submodule(layer.name)
        assert isinstance(made, FactorizedConv)
        assert made.rank == layer.rank
        assert layer.parameters.after == sum(p.numel() for p in made.parameters())
    assert report.parameters.after == sum(p.numel() for p in found.model.parameters())
    assert 0 < report.error < 1
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_generous_budget_changes_little_and_a_tight_one_more():
    model = seeded(resnet)
    x = torch.randn(16, 3, 32, 32)
    errors = [
        compress(model, budget=b, example_inputs=x, calibration=x.split(4), **QUICK).report.error
        for b in (0.8, 0.4)
    ]
    assert errors[0] < errors[1]


def test_a_depthwise_convolution_is_left_alone_and_a_pointwise_one_is_two():
    found = compress(
        seeded(mobilenet), budget=0.6, example_inputs=torch.randn(8, 3, 16, 16), progress=False
    )
    rows = {layer.name: layer for layer in found.report.layers}
    assert rows["1.0"].factorization is None
    assert "depthwise" in rows["1.0"].reason
    factorized = [row for row in rows.values() if row.factorization and row.shape[2:] == (1, 1)]
    assert factorized
    for row in factorized:
        assert len(found.model.get_submodule(row.name).weight.factors) == 2


def test_a_module_in_two_places_is_one_layer_and_each_call_counts():
    model = seeded(Twice)
    found = compress(model, budget=0.6, example_inputs=torch.randn(2, 8, 8, 8), **QUICK)
    (layer,) = found.report.layers
    assert layer.calls == 3
    assert layer.macs.before == 3 * 2 * 8 * 8 * 8 * 8 * 9
    assert found.model.first is found.model.again[0]
    assert isinstance(found.model.first, FactorizedConv)


def test_a_network_in_bfloat16_stays_so():
    model = seeded(resnet).to(torch.bfloat16)
    x = torch.randn(8, 3, 32, 32, dtype=torch.bfloat16)
    found = compress(model, budget=0.5, example_inputs=x, progress=False)
    assert {p.dtype for p in found.model.parameters()} == {torch.bfloat16}
    assert torch.isfinite(found.model(x)).all()
    assert found.report.error < 0.5


WRAPS = {
    "parametrized": (
        lambda layer: parametrize.register_parametrization(layer, "weight", nn.Tanh()),
        "utils.parametrize.remove_parametrizations",
    ),
    "weight_norm": (parametrizations.weight_norm, "utils.parametrize.remove_parametrizations"),
    "hooked": (utils.spectral_norm, "utils.remove_spectral_norm"),
    "pruned": (lambda layer: prune.l1_unstructured(layer, "weight", 0.3), "utils.prune.remove"),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_weight_that_is_computed_from_others_stays_dense_with_the_reason(wrap):
    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)))
    made, undone = WRAPS[wrap]
    made(model[2])
    x = torch.randn(4, 8, 10, 10)
    found = compress(model, budget=0.9, example_inputs=x, **QUICK)
    first, last, *_ = found.report.layers
    assert first.factorization == "spatial_svd"
    assert last.factorization is None
    assert f"computed from others (torch.nn.{undone} makes" in last.reason
    assert "weight" not in found.model[2]._parameters
    assert last.macs.before == 4 * 32 * 32 * 9 * 6 * 6


def test_a_network_with_nothing_but_such_weights_is_refused_with_each_reason_once():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 3)))
    for one in model:
        parametrizations.weight_norm(one)
    once = r"compress \('0' and 1 more layer: its weight is computed from others[^:]*not\)\)$"
    with pytest.raises(ValueError, match=once):
        compress(model, budget=0.5, example_inputs=torch.randn(1, 8, 8, 8), **QUICK)


def test_an_attention_s_projection_is_left_alone():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
            self.mix = nn.Linear(32, 64)

        def forward(self, x):
            return self.mix(self.attend(x, x, x)[0])

    x = torch.randn(8, 6, 32)
    found = compress(seeded(Attention), budget=0.75, example_inputs=x, **QUICK)
    assert [layer.name for layer in found.report.layers if layer.shape] == ["mix"]
    assert isinstance(found.model.mix, FactorizedConv)


def test_a_weight_that_two_modules_share_stays_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(40, 32)
            self.mix = nn.Linear(32, 32)
            self.out = nn.Linear(32, 40, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, tokens):
            return self.out(F.relu(self.mix(self.embed(tokens))))

    tokens = torch.randint(0, 40, (16, 5))
    found = compress(seeded(Tied), budget=0.9, example_inputs=tokens, **QUICK)
    rows = {layer.name: layer for layer in found.report.layers}
    assert rows["mix"].factorization is not None
    assert "shared" in rows["out"].reason
    assert found.model.out.weight is found.model.embed.weight


def test_frozen_parameters_hooks_and_training_flags_stay():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)))
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    model.train()
    model[2].eval()
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append("hook"))
    model[0].register_forward_pre_hook(lambda *_: seen.append("pre"))
    x = torch.randn(4, 8, 10, 10)
    found = compress(model, budget=0.2, example_inputs=x, **QUICK).model
    assert all(isinstance(found[i], FactorizedConv) for i in (0, 2))
    assert [p.requires_grad for p in found[0].parameters()] == [False] * 3
    assert [p.requires_grad for p in found[2].weight.parameters()] == [True] * 2
    assert found[2].bias.requires_grad is False
    assert [found.training, found[0].training, found[2].training] == [True, True, False]
    seen.clear()
    found(x)
    assert seen == ["pre", "hook"]
    assert [model.training, model[0].training, model[2].training] == [True, True, False]
    assert len(model[0]._forward_hooks) == 1
    assert isinstance(model[0], nn.Conv2d)


@pytest.mark.parametrize(
    ("field", "chosen"),
    [
        ({"include": "0"}, {"0"}),
        ({"include": ["[0-2]"]}, {"0", "2"}),
        ({"exclude": nn.Linear}, {"0", "2"}),
        ({"include": nn.Conv2d, "exclude": lambda name, _: name == "0"}, {"2"}),
    ],
)
def test_layers_are_chosen_by_name_type_or_function(field, chosen):
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(8, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3),
            nn.Flatten(),
            nn.Linear(32 * 36, 16),
        )
    )
    x = torch.randn(4, 8, 10, 10)
    report = compress(model, budget=0.97, example_inputs=x, **QUICK, **field).report
    unchosen = {layer.name for layer in report.layers if "cluded" in (layer.reason or "")}
    assert unchosen == {"0", "2", "4"} - chosen
    assert {layer.name for layer in report.layers if layer.factorization} <= chosen


def test_each_layer_that_stays_dense_says_why_and_no_other_does():
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 1, 1)
        )
    )
    x = torch.randn(4, 8, 10, 10)
    asked = ({"budget": 0.9}, {"max_error": 1e-9})
    for aim, why in zip(asked, ("the budget did not ask for it", "too large"), strict=True):
        rows = compress(model, example_inputs=x, **QUICK, **aim).report.layers
        assert all((row.reason is None) == (row.factorization is not None) for row in rows)
        assert any(why in (row.reason or "") for row in rows)
        assert rows[2].reason == "no format that was tried has fewer MACs"


def test_a_report_says_of_which_inputs_its_macs_are_and_where_they_ran():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 32, 3)))
    x = torch.randn(4, 8, 10, 10)
    report = compress(model, budget=0.5, example_inputs=x, **QUICK).report
    assert report.inputs == ((4, 8, 10, 10),)
    assert report.macs.before == 4 * 64 * 32 * 8 * 9
    assert report.device == device_name(torch.device("cpu"))


def test_a_hook_leaves_a_layer_out_and_changes_another_s_request():
    class Choosing:
        @hookimpl
        def tenfold_select(self, name, module):
            return {"0": False, "2": {"factorization": "tucker", "rank": (8, 8)}}.get(name)

    plugin = Choosing()
    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)))
    plugin_manager().register(plugin)
    try:
        found = compress(model, budget=0.5, example_inputs=torch.randn(4, 8, 10, 10), **QUICK)
    finally:
        plugin_manager().unregister(plugin)
    first, last = found.report.layers
    assert (first.factorization, first.reason) == (None, "left out by a hook")
    assert (last.factorization, last.rank) == ("tucker", (8, 8))


def test_the_metric_of_parameters_counts_them_all():
    model = seeded(resnet)
    x = torch.randn(4, 3, 32, 32)
    report = compress(model, budget=0.5, metric="parameters", example_inputs=x, **QUICK).report
    assert report.parameters.before == sum(p.numel() for p in model.parameters())
    assert report.parameters.after <= 0.5 * report.parameters.before


def test_under_latency_no_layer_is_chosen_that_was_slower_than_dense():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 128, 3), nn.ReLU(), nn.Conv2d(128, 128, 3)))
    x = torch.randn(8, 3, 20, 20)
    try:
        report = compress(model, budget=0.95, metric="latency", example_inputs=x, **QUICK).report
    except ValueError as refusal:  # on a machine so busy that nothing is seen to be faster
        if "of the latency cannot be reached" not in str(refusal):
            raise
        return
    assert any(layer.factorization for layer in report.layers)
    for layer in report.layers:
        assert layer.milliseconds.after <= layer.milliseconds.before
        if layer.factorization:
            assert layer.milliseconds.after < layer.milliseconds.before


@pytest.mark.parametrize("objective", ["energy", "uniform"])
def test_the_cheap_objectives_keep_the_budget_without_a_run_for_each_layer(objective, monkeypatch):
    speed = Speed(before=1.0, after=1.0, layers={})
    monkeypatch.setattr(account, "time_in_place", lambda *_: speed)
    monkeypatch.setattr(account, "better", lambda model, _, example: (model, example))
    model = seeded(resnet)
    runs = []
    model.register_forward_hook(lambda _, given, __: runs.append(len(given[0])))
    x = torch.randn(8, 3, 32, 32)
    options = {**QUICK, "factorizations": ("tucker", "spatial_svd")}
    report = compress(
        model, budget=0.5, objective=objective, example_inputs=x, calibration=[x, x], **options
    ).report
    assert report.macs.after <= 0.5 * report.macs.before
    assert sum(runs) <= 6 * 16  # of the survey, whatever the depth: six times the calibration
    if objective == "uniform":
        assert {layer.factorization for layer in report.layers} <= {"tucker", "spatial_svd", None}


def test_several_budgets_give_a_curve():
    model = seeded(resnet)
    x = torch.randn(8, 3, 32, 32)
    found = compress(model, budgets=[0.4, 0.7], example_inputs=x, **QUICK)
    curve = found.report.curve
    assert [point.budget for point in curve] == [0.7, 0.4]
    for point in curve:
        assert point.macs <= point.budget * found.report.macs.before
    assert curve[0].error < curve[1].error
    assert found.report.macs.after == curve[1].macs


def test_the_largest_error_allowed_gives_the_smallest_network_that_keeps_it():
    model = seeded(resnet)
    x = torch.randn(16, 3, 32, 32)
    loose, tight = (
        compress(model, max_error=e, example_inputs=x, calibration=x.split(4), **QUICK).report
        for e in (0.3, 0.05)
    )
    assert loose.error <= 0.3
    assert tight.error <= 0.05
    assert loose.macs.after < tight.macs.after < tight.macs.before


def test_a_least_score_is_kept():
    model = seeded(resnet)
    x = torch.randn(16, 3, 32, 32)
    wanted = model(x).argmax(1)

    def agreement(other):
        return float((other(x).argmax(1) == wanted).double().mean())

    found = compress(model, min_score=0.9, evaluate=agreement, example_inputs=x, **QUICK)
    assert found.report.score.before == 1.0
    assert found.report.score.after >= 0.9
    assert agreement(found.model.eval()) == found.report.score.after
    assert found.report.macs.after < found.report.macs.before


BAD = [
    ({}, "give one of them"),
    ({"budget": 0.5, "max_error": 0.1}, "give one of them"),
    ({"budget": 1.5}, "budget=1.5"),
    ({"budget": 0.5, "factorizations": "tukcer"}, "did you mean 'tucker'"),
    ({"budget": 0.5, "metric": "speed"}, "metric='speed'"),
    ({"budget": 0.5, "include": "layer*"}, "include='layer\\*' matches no layer"),
    ({"budget": 0.001}, "cannot be reached: the smallest is"),
    ({"min_score": 0.9}, "needs evaluate="),
    ({"budget": 0.5, "calibration": []}, "calibration has no batch"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_a_bad_request_is_refused_and_says_what_to_do(fields, message):
    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 16, 3)))
    with pytest.raises(ValueError, match=message):
        compress(model, example_inputs=torch.randn(2, 8, 8, 8), progress=False, **fields)


def test_a_configuration_s_fields_may_be_given_beside_it():
    config = tenfold.CompressionConfig(budget=0.9, **QUICK)
    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 16, 3)))
    x = torch.randn(2, 8, 8, 8)
    report = compress(model, config, example_inputs=x, budget=0.5).report
    assert report.macs.after <= 0.5 * report.macs.before
    with pytest.raises(TypeError, match="rank= is no option: the options are budget"):
        compress(model, example_inputs=x, budget=0.5, rank=4)
    with pytest.raises(TypeError, match="config=dict must be a CompressionConfig"):
        compress(model, {"budget": 0.5}, example_inputs=x)


def test_a_lazy_layer_must_have_run_before():
    model = nn.Sequential(nn.LazyConv2d(16, 3))
    with pytest.raises(ValueError, match="not made yet: run it on an input first"):
        compress(model, budget=0.5, example_inputs=torch.randn(2, 8, 8, 8), **QUICK)


def test_a_network_that_has_no_derivative_is_compressed_all_the_same():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

    class Opaque(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 16, 3), Opaque(), nn.BatchNorm2d(16)))
    report = compress(model, budget=0.5, example_inputs=torch.randn(2, 8, 8, 8), **QUICK).report
    assert report.macs.after <= 0.5 * report.macs.before


def test_a_failing_evaluation_names_the_layer_and_leaves_the_model_as_it_was():
    model = seeded(resnet)
    kinds = [type(module) for module in model.modules()]

    def failing(other):
        if any(isinstance(module, FactorizedConv) for module in other.modules()):
            raise OSError("the disk is full")
        return 1.0

    with pytest.raises(RuntimeError, match=r"layer '0' failed: OSError: the disk is full"):
        compress(
            model, budget=0.5, evaluate=failing, example_inputs=torch.randn(2, 3, 32, 32), **QUICK
        )
    assert [type(module) for module in model.modules()] == kinds


def test_importing_tenfold_does_not_import_rich_or_matplotlib():
    import subprocess
    import sys

    code = "import sys, tenfold; assert not {'rich', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert tenfold.compress is compress
