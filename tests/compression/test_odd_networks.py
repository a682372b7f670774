"""Networks and inputs that are odd in some way, compressed or refused with the remedy."""

import copy
import warnings
from collections import UserDict
from dataclasses import dataclass

import pytest
import torch
from tests.reports import untimed
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from tenfold import FactorizedConv, compress, load, save
from tenfold.compression import account, groundwork
from tenfold.compression.candidates import Speed
from tenfold.compression.correction.answers import answers
from tenfold.compression.correction.normalisation import recalibrate
from tenfold.compression.correction.response import responses
from tenfold.compression.measurement import Replay, measuring
from tenfold.compression.measurement.task import Judge
from tenfold.compression.moments.gradients import importances
from tenfold.compression.moments.norm import Norm, Seen, shrinkage
from tenfold.compression.running.difference import Difference
from tenfold.compression.running.inference import undisturbed
from tenfold.compression.survey.apart import Apart
from tenfold.compression.survey.calibration import divide
from tenfold.compression.survey.layers import survey
from tenfold.layer.source import read_kernel

X = torch.randn(16, 8, 10, 10, generator=torch.Generator().manual_seed(0))


def plain():
    torch.manual_seed(0)
    layers = [nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    return nn.Sequential(*layers).eval()


def compressed(model, **fields):
    options = {"budget": 0.5, "example_inputs": X[:4], "calibration": X.split(4), **fields}
    return compress(model, progress=False, never_slower=False, **options)


class Around(nn.Module):
    """Something done before or after the plain network."""

    def __init__(self):
        super().__init__()
        self.inner = plain()


class Keywords(Around):
    def forward(self, image, *, scale=1.0, note=None):
        return {"out": self.inner(image) * scale, "nothing": None}


class OneDict(Around):
    def forward(self, batch):
        return self.inner(batch["image"])


class Noisy(Around):
    def forward(self, x):
        y = self.inner(x)
        return F.dropout(y, 0.5, training=True) + torch.randn(y.shape)


class Masked(Around):
    def forward(self, x):
        return self.inner(x).masked_fill(torch.arange(10) > 6, float("-inf"))


class Chosen(Around):
    def forward(self, x):
        return self.inner(x).argmax(1)


class Opaque(Around):
    @torch.inference_mode()
    def forward(self, x):
        return self.inner(x)


class Again(Around):
    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


class Reentrant(Around):
    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=True)


class InPlace(Around):
    def forward(self, x):
        return self.inner(x.mul_(0.5))


class Autocast(Around):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(x)


class Asking(Around):
    """Reads what a layer is, as many networks do."""

    def forward(self, x):
        first, last = self.inner[0], self.inner[2]
        x = x.to(first.weight.dtype).to(first.weight.device)
        assert (first.in_channels, first.kernel_size, first.padding) == (8, (3, 3), (1, 1))
        assert (first.weight.shape, first.bias.shape) == ((16, 8, 3, 3), (16,))
        assert (first.weight.size(0), first.weight.size()[1:]) == (16, (8, 3, 3))
        assert first.weight.dim() == first.weight.ndim == 4
        assert (first.weight.is_complex(), first.weight.is_cuda) == (False, False)
        return self.inner(x)[:, : last.out_channels]


class Empty(Around):
    """Keeps a tensor of nothing, as a converter from ONNX leaves it, which has no steps."""

    def __init__(self):
        super().__init__()
        self.register_buffer("roi", torch.empty_strided((0,), (0,)))

    def forward(self, x):
        return self.inner(x)


class Rooted(Around):
    """Has outputs, and no gradients: those of a root at zero are not finite."""

    def forward(self, x):
        y = self.inner(x)
        return y + (y - y).abs().sqrt()


@dataclass
class Answer:
    scores: torch.Tensor
    count: int


class Structured(Around):
    def forward(self, x):
        return Answer(self.inner(x), 3)


@pytest.mark.parametrize(
    "kind", [Noisy, Masked, Opaque, Again, InPlace, Autocast, Asking, Structured, Empty]
)
def test_networks_that_do_odd_things_are_compressed(kind):
    model, given = kind(), X.clone()
    drawn = torch.get_rng_state()
    found = compressed(model, example_inputs=given[:4], calibration=given.split(4))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(given, X)
    assert found.report.macs.after <= 0.5 * found.report.macs.before
    assert 0 < found.report.error < 1
    found.model(X)


def test_where_gradients_are_not_finite_it_is_compressed_and_not_refined():
    report = compressed(Rooted()).report
    assert 0 < report.error < 1
    assert report.refinement.share == 0
    assert "gradients are not finite" in report.refinement.reason


def test_a_reentrant_checkpoint_changes_nothing():
    apply = torch.utils.checkpoint.CheckpointFunction
    assert compressed(Reentrant()).report.error == compressed(plain()).report.error
    assert torch.utils.checkpoint.CheckpointFunction is apply
    model = plain()
    x, layers = X[:4], survey(model, X)
    with undisturbed():
        found = importances(Reentrant(), survey(Reentrant(), X), [x], 0, 2**20).channels
    wanted = importances(model, layers, [x], 0, 2**20).channels
    assert torch.equal(found["inner.0"], wanted["0"])


@pytest.mark.parametrize(
    ("example", "calibration"),
    [
        ({"image": X[:4], "scale": 2.0}, [{"image": x, "note": "a"} for x in X.split(4)]),
        (UserDict(image=X[:4]), [UserDict(image=x) for x in X.split(4)]),
        ({"image": X, "scale": 2.0}, None),
    ],
)
def test_a_batch_may_be_keywords(example, calibration):
    report = compressed(Keywords(), example_inputs=example, calibration=calibration).report
    assert 0 < report.error < 0.8


def test_a_batch_may_be_one_dict_in_a_tuple():
    batches = [({"image": x},) for x in X.split(4)]
    assert compressed(OneDict(), example_inputs=batches[0], calibration=batches).report.error < 0.8
    with pytest.raises(TypeError, match=r"example_inputs is not.*one argument as \(\{…\},\)"):
        compressed(OneDict(), example_inputs=batches[0][0])


def test_a_calibration_may_be_read_once_only():
    once = compressed(plain(), calibration=(x for x in X.split(4)))
    assert once.report.error == compressed(plain()).report.error


def test_single_samples_without_a_batch_axis_are_taken():
    found = compressed(plain(), example_inputs=X[0], calibration=None)
    assert found.model(X[0]).shape == (16, 10, 10)
    assert compressed(plain(), example_inputs=X[0], calibration=list(X)).report.error < 0.8


def test_a_batch_is_parted_only_where_the_parts_give_the_same():
    class Mixing(nn.Module):
        def forward(self, x, mask):
            return torch.einsum("st,tbc->sbc", mask, x)

    x, mask = torch.randn(12, 4, 3), torch.rand(12, 12)
    alone = [(x, mask)]
    assert divide(alone, 0.25, Apart(Mixing(), alone)) == (alone, alone)
    fitted, held = divide([(x, x)], 0.25, Apart(nn.Bilinear(3, 3, 2), [(x, x)]))
    assert len(fitted) + len(held) == 8


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_caller_s_mode_does_not_matter(mode):
    wanted = compressed(plain())
    with mode():
        found = compressed(plain())
    assert untimed(found.report) == untimed(wanted.report)
    found.model(X).sum().backward()
    layers = [one for one in found.model.modules() if isinstance(one, FactorizedConv)]
    assert layers
    assert all(parameter.grad is not None for parameter in found.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_networks_in_other_floats_are_compressed_and_stay_so(dtype):
    found = compressed(plain().to(dtype), example_inputs=X[:4].to(dtype), calibration=[X.to(dtype)])
    assert {p.dtype for p in found.model.parameters()} == {dtype}
    assert found.report.error < 0.8


def test_normalisations_of_single_values_are_left_as_they_are():
    layers = [nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32)]
    model = nn.Sequential(*layers).eval()
    x = torch.randn(8, 32).split(1)
    found = compressed(model, example_inputs=x[0], calibration=x)
    for name, value in model[1].state_dict().items():
        assert torch.equal(found.model[1].state_dict()[name], value)
    assert not recalibrate(model, x, Judge.of(model, x, None))


def test_an_encoder_layer_s_linear_layers_are_replaced_and_called():
    torch.manual_seed(0)
    inside = nn.TransformerEncoderLayer(32, 4, 128, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(inside, 2), nn.Linear(32, 8)).eval()
    x = torch.randn(8, 5, 32)
    found = compressed(model, example_inputs=x, calibration=None)
    made = [layer.name for layer in found.report.layers if layer.factorization]
    assert any("linear1" in name for name in made)
    assert any("linear2" in name for name in made)
    assert found.report.macs.after <= 0.5 * found.report.macs.before
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        quick = found.model(x)
    torch.testing.assert_close(quick, found.model(x).detach())


def test_a_layer_that_the_network_keeps_in_a_list_of_its_own_stays_dense():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 3)
            self.own = [self.last]

        def forward(self, x):
            return self.own[0](F.relu(self.first(x)))

    found = compressed(Listed().eval(), budget=0.9)
    rows = {row.name: row for row in found.report.layers}
    assert isinstance(found.model.first, FactorizedConv)
    assert "a reference that is none of its submodules" in rows["last"].reason


def test_a_layer_whose_weight_the_network_reads_stays_dense():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(32, 64), nn.Linear(64, 64)

        def forward(self, x):
            return F.linear(self.last(F.relu(self.first(x))), self.first.weight.T)

    x = torch.randn(16, 32)
    rows = compressed(Tied().eval(), budget=0.7, example_inputs=x, calibration=None).report.layers
    assert "does not run in its place (AttributeError" in rows[0].reason
    assert rows[1].factorization is not None


def test_a_layer_that_is_called_by_a_keyword_stays_dense():
    class Named(Around):
        def forward(self, x):
            return self.inner[2](input=F.relu(self.inner[0](x)))

    rows = compressed(Named(), budget=0.9).report.layers
    assert "called by a keyword" in rows[1].reason


def test_a_pruned_layer_stays_as_it_is():
    model = plain()
    prune.l1_unstructured(model[2], "weight", 0.3)
    found = compressed(model, budget=0.9)
    assert "computed from others" in found.report.layers[1].reason
    assert torch.equal(found.model[2].weight, model[2].weight)


def test_hooks_that_change_an_output_still_do():
    model = plain()
    model[2].register_forward_hook(lambda _, __, y: y * 2)
    found = compressed(model)
    assert found.report.error == pytest.approx(compressed(plain()).report.error, rel=1e-3)


def test_a_transposed_convolution_with_an_output_size_is_fitted_to_its_own_positions():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.up = nn.ConvTranspose2d(4, 6, 3, 2, 1)

        def forward(self, x):
            return self.up(x, output_size=[2 * size for size in x.shape[2:]])

    model = Sized().double()
    x = torch.randn(6, 4, 7, 5, dtype=torch.float64)
    (layer,) = survey(model, x)
    worth = importances(model, [layer], [x], 0, 2**20)
    found = answers(model, [layer], [x], {layer.name: 10**6}, worth, 0)
    replay = Replay([layer.name], [x], 2**20)
    response = responses(model, [layer], [x], found, {layer.name: None}, replay)[layer.name]
    kernel = read_kernel(model.up).flatten(1)[None]
    torch.testing.assert_close(kernel @ response.seen, response.cross, rtol=1e-5, atol=1e-5)


def test_a_layer_that_no_batch_reaches_is_compressed_without_moments():
    class Either(Around):
        def __init__(self):
            super().__init__()
            self.other = nn.Conv2d(8, 16, 3, padding=1)

        def forward(self, x):
            return self.other(x) if len(x) == 5 else self.inner(x)

    found = compressed(Either(), calibration=[X[:5], X[5:10]])
    assert found.report.macs.after <= 0.5 * found.report.macs.before


def test_few_inputs_do_not_make_a_wide_layer_look_free():
    generator = torch.Generator().manual_seed(0)
    moment = torch.randn(1, 64, 8, generator=generator, dtype=torch.float64)
    few = Norm.of(Seen(moment @ moment.mT, count=8), None, torch.randn(1, 16, 64)).seen.whole
    assert float(torch.linalg.eigvalsh(few[0])[0]) > 0.5 * float(few[0].trace()) / 64
    many = torch.randn(1, 64, 9000, generator=generator, dtype=torch.float64)
    many[:, 1:] *= 0.01
    whole = many @ many.mT
    assert float(shrinkage(whole, 9000)) < 1e-3
    gap = torch.randn(1, 16, 64, generator=generator, dtype=torch.float64)
    norm = Norm.of(Seen(moment @ moment.mT, count=8), None, gap)
    assert norm.squared(gap)[0] > 0


def test_outputs_that_are_whole_numbers_count_by_how_many_differ():
    found = Difference()
    found.add([torch.tensor([1, 2, 3, 4])], [torch.tensor([1, 2, 3, 5])])
    assert found.relative == pytest.approx(0.5)
    found = Difference()
    y = torch.tensor([3.0, float("-inf")])
    found.add([y], [torch.tensor([3.0, 7.0])])
    assert found.relative == 0
    found.add([y], [torch.tensor([3.0])])
    assert found.relative == pytest.approx(0.5**0.5)


def test_a_network_of_choices_is_judged_by_its_score():
    model = Chosen()
    wanted = model(X)
    found = compressed(model, evaluate=lambda other: float((other(X) == wanted).float().mean()))
    assert found.report.score.before == 1
    assert found.report.score.after > 0.3


def test_a_latency_that_no_network_reaches_is_refused(monkeypatch):
    def by_macs(_, __, table, runtime):
        for index, one in enumerate(table.candidates):
            table.candidates[index] = one.model_copy(update={"milliseconds": one.macs / 1e6})

    monkeypatch.setattr(measuring, "time_layer", by_macs)
    monkeypatch.setattr(groundwork, "time_networks", lambda *_: [1.0])
    speed = Speed(before=1.0, after=1.2, layers={})
    monkeypatch.setattr(account, "time_in_place", lambda *_: speed)
    model = plain()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"latency cannot be reached: .*takes 1\.20 of"):
        compressed(model, metric="latency", budget=0.95)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


NAN = X.clone()
NAN[9] = float("nan")


def broken(where):
    model = plain()
    model[2].weight.data[where] = float("nan")
    return model


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # PyTorch's own
def by_hand():
    model, whole = plain(), plain()
    model.forward = lambda x: whole(x)
    return model


@pytest.mark.parametrize(
    ("make", "fields", "kind", "message"),
    [
        (plain, {"calibration": NAN.split(4)}, ValueError, r"calibration\[2\] has NaN"),
        (plain, {"example_inputs": NAN}, ValueError, "example_inputs has NaN"),
        (plain, {"calibration": [(X, X, X)]}, TypeError, r"calibration\[0\] is not.*inputs=0"),
        (plain, {"example_inputs": X[:0]}, ValueError, "example_inputs is empty"),
        (lambda: torch.compile(plain()), {}, TypeError, r"compiled: give model\._orig_mod"),
        (
            lambda: nn.Sequential(torch.compile(plain())),
            {},
            TypeError,
            r"model\.0 is compiled: put its _orig_mod in its place",
        ),
        (
            by_hand,
            {},
            ValueError,
            r"the model has a forward that was set on it.*what comes of this",
        ),
        (plain, {"evaluate": lambda _: "x"}, TypeError, "evaluate must take a model and return a"),
        (lambda: broken(...), {}, ValueError, r"NaN or infinite values in '2\.weight'"),
        (lambda: broken(0), {}, ValueError, r"NaN or infinite values in '2\.weight'"),
    ],
)
def test_what_cannot_be_compressed_is_refused_with_the_remedy(make, fields, kind, message):
    with pytest.raises(kind, match=message):
        compressed(make(), **fields)


def test_a_scripted_network_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(plain())
    with pytest.raises(TypeError, match="scripted: give the one that it was made from"):
        compressed(scripted)


def test_an_exported_network_is_refused_and_a_traced_one_is_not():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(plain(), (X,)).module()
    with pytest.raises(TypeError, match=r"exported, .* give what it was made from"):
        compressed(exported)
    assert compressed(torch.fx.symbolic_trace(plain())).report.macs.after > 0


def test_a_network_that_is_spread_over_processes_is_refused_and_its_inner_one_is_saved(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    try:
        wrapped = DistributedDataParallel(plain())
        with pytest.raises(TypeError, match=r"spread over processes.*give model\.module"):
            compressed(wrapped)
        with pytest.raises(TypeError, match=r"spread over processes.*give model\.module"):
            compressed(nn.Sequential(wrapped))
        made = compressed(wrapped.module)
        student = DistributedDataParallel(made.model)
        student(X).sum().backward()
        assert all(one.grad is not None for one in made.model.parameters())
        save(student, tmp_path / "saved")
    finally:
        distributed.destroy_process_group()
    again = load(tmp_path / "saved", plain())
    assert torch.equal(again(X), made.model.eval()(X))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_strided_convolution_of_one_tap_is_compressed(order):
    """As the shortcuts of a ResNet are: two bonds of a chain there hold no more than one."""
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[order - 1]
    net = nn.Sequential(kind(16, 64, 1), nn.ReLU(), kind(64, 128, 1, stride=2)).eval()
    x = torch.randn(4, 16, *(4,) * order)
    found = compressed(net, example_inputs=x, calibration=x.split(2))
    assert found.report.macs.after <= 0.5 * found.report.macs.before
    assert found.report.layers[1].factorization is not None
