"""The demo: the files that the package ships, and the two tables that it makes of them."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tenfold
from tenfold import FactorizedConv, Implementation, factorizations, implementations
from tenfold.commands import app as cli
from tenfold.demo import budgets, data, formats, measured

RANK, IMAGES = 0.5, 100
PAIRED = ("cp", "depthwise_separable", "tt", "tucker", "tucker_matrix")
SHIPPED = ("cnn.safetensors", "fashion_mnist.npz")
QUICK = {"factorizations": "spatial_svd", "objective": "uniform", "correct": False}


@pytest.fixture(scope="module")
def model():
    return data.load_cnn()


@pytest.fixture(scope="module")
def plot(tmp_path_factory):
    return tmp_path_factory.mktemp("plot") / "x.png"


def quickened(monkeypatch):
    """Judge by few images, time nothing twice, and compress in the quickest way."""
    monkeypatch.setattr(measured, "JUDGED", IMAGES)
    monkeypatch.setattr(measured, "SECONDS", 0.0)
    monkeypatch.setattr(budgets, "CALIBRATION", 32)
    made = []

    def compress(*arguments, **keywords):
        made.append(tenfold.compress(*arguments, **keywords, **QUICK))
        return made[-1]

    monkeypatch.setattr(budgets, "compress", compress)
    monkeypatch.setenv("COLUMNS", "80")
    return made


def run_demo(*arguments):
    """Run the command; what it printed, and the numbers behind it."""
    tables, found = {}, {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = quickened(monkeypatch)
        for name in ("budgets_table", "formats_table"):
            shown = getattr(tenfold.demo, name)

            def seen(rows, *others, name=name, shown=shown):
                found.update({one.name: one for one in rows})
                tables[name] = rows
                return shown(rows, *others)

            monkeypatch.setattr(tenfold.demo, name, seen)
        done = CliRunner().invoke(cli.main, ["demo", "--rank", str(RANK), *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return SimpleNamespace(text=done.stdout, tables=tables, found=found, made=made)


@pytest.fixture(scope="module")
def everything(plot):
    """`tenfold demo --rank 0.5 --pairs --plot x.png`, of formats for one convolution."""
    large = formats.large_convolutions
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(formats, "large_convolutions", lambda setting: large(setting)[:1])
        monkeypatch.setattr(formats, "factorizations", SimpleNamespace(names=lambda: PAIRED))
        return run_demo("--pairs", "--plot", plot)


@pytest.fixture
def setting(monkeypatch):
    quickened(monkeypatch)
    return measured.Setting()


@pytest.fixture
def of_formats(monkeypatch, setting):
    """What is measured of some formats, run some ways, in all large convolutions."""

    def of_formats(factorization_names, implementation_names):
        monkeypatch.setattr(factorizations, "names", lambda: factorization_names)
        monkeypatch.setattr(implementations, "names", lambda: implementation_names)
        steps = formats.run_formats(setting, RANK, pairs=True)
        return {one.name: one for one in steps if isinstance(one, measured.Measured)}

    return of_formats


def refused(**names):
    try:
        FactorizedConv(8, 8, (3, 3), rank=RANK, **names)
    except ValueError as refusal:
        return "cannot run" in str(refusal)
    return False


class TestShippedFiles:
    def test_together_they_are_below_2_5_megabytes(self):
        files = [path for path in data.HERE.iterdir() if path.suffix not in (".py", "")]
        assert sorted(path.name for path in files) == sorted(SHIPPED)
        assert sum(path.stat().st_size for path in files) < 2.5e6

    def test_the_network_has_five_convolutions_and_about_280_thousand_parameters(self, model):
        convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert [conv.out_channels for conv in convs] == [32, 64, 64, 128, 128]
        assert 270_000 <= sum(p.numel() for p in model.parameters()) <= 290_000
        assert not model.training

    @pytest.mark.parametrize(("part", "count"), [("test", 2000), ("train", 512)])
    def test_the_images_are_of_28_by_28_pixels_in_ten_classes(self, part, count):
        images, labels = data.load_images(part)
        assert images.shape == (count, 1, 28, 28)
        assert images.dtype == torch.float32
        assert (labels.shape, labels.dtype) == ((count,), torch.int64)
        assert labels.unique().tolist() == list(range(10))

    def test_the_images_are_kept_as_bytes_and_scaled_to_about_mean_0_and_deviation_1(self):
        with np.load(data.HERE / "fashion_mnist.npz") as arrays:
            assert {arrays[name].dtype for name in arrays} == {np.dtype(np.uint8)}
            pixels = arrays["test_images"]
        images, _ = data.load_images()
        assert torch.equal(data.scaled(torch.from_numpy(pixels)), images)
        assert images.mean().item() == pytest.approx(0, abs=0.05)
        assert images.std().item() == pytest.approx(1, abs=0.05)

    def test_the_network_labels_at_least_92_5_percent_of_the_test_images_right(self, model):
        assert data.accuracy(model, *data.load_images()) >= 0.925


class TestBudgets:
    def test_the_whole_network_is_compressed_at_two_and_keeps_them(self, everything):
        original, *compressed = everything.tables["budgets_table"]
        assert [one.name for one in compressed] == list(budgets.BUDGETS)
        for one, budget in zip(compressed, budgets.BUDGETS.values(), strict=True):
            assert 0 < one.macs <= budget * original.macs

    def test_the_numbers_are_those_of_the_networks(self, everything, model):
        with pytest.MonkeyPatch.context() as monkeypatch:
            quickened(monkeypatch)
            setting = measured.Setting()
        original, *compressed = everything.tables["budgets_table"]
        assert original.accuracy == data.accuracy(model, setting.images, setting.labels)
        for one, made in zip(compressed, everything.made, strict=True):
            assert one.accuracy == data.accuracy(made.model, setting.images, setting.labels)
            assert one.parameters == made.report.parameters.after
            assert (original.macs, one.macs) == (made.report.macs.before, made.report.macs.after)

    def test_each_is_shown_beside_the_original(self, everything):
        for one in everything.tables["budgets_table"][1:]:
            row = next(line for line in everything.text.splitlines() if f" {one.name} " in line)
            original = everything.found["original"]
            change = 100 * (one.accuracy - original.accuracy)
            assert f"{one.accuracy:.1%} ({change:+.1f})" in row
            assert f" {one.macs / original.macs:.0%} " in row
            assert f" {one.speed:.2f}×" in row


class TestFormats:
    def test_pairs_are_all_that_are_not_refused(self, everything):
        pairs = [
            f"{factorization} {implementation}"
            for factorization in PAIRED
            for implementation in implementations.names()
            if not refused(factorization=factorization, implementation=implementation)
        ]
        assert [one.name for one in everything.tables["formats_table"]] == pairs
        assert {"cp mobilenet", "tucker factorized"} <= set(pairs)
        assert "tucker mobilenet" not in pairs

    def test_without_them_a_few_formats_have_one_row_each(self, monkeypatch, setting):
        monkeypatch.setattr(setting, "layers", setting.layers[:2])
        steps = list(formats.run_formats(setting, RANK, pairs=False))
        names = [one.name for one in steps if isinstance(one, measured.Measured)]
        assert tuple(names) == formats.SHOWN
        assert set(names) < set(factorizations.names())

    def test_each_way_of_running_has_the_kernel_and_the_accuracy_of_its_format(self, everything):
        for one in everything.tables["formats_table"]:
            whole = everything.found[f"{one.name.split()[0]} reconstructed"]
            assert one.accuracy == pytest.approx(whole.accuracy, abs=1.5 / IMAGES)
            assert one.parameters == whole.parameters

    def test_the_convolution_keeps_the_budget(self, everything, model):
        size = model.get_submodule("conv1").weight.numel()
        others = everything.found["original"].parameters - size
        for one in everything.tables["formats_table"]:
            assert 0 < one.parameters - others <= RANK * size

    def test_the_numbers_are_what_a_direct_computation_gives(self, of_formats, setting):
        found = of_formats(["tucker"], ["factorized"])["tucker factorized"]
        model = data.load_cnn()
        parameters, macs = sum(p.numel() for p in model.parameters()), setting.macs
        for name in ("conv1", "conv2", "conv3", "conv4"):
            conv = model.get_submodule(name)
            layer = FactorizedConv.from_conv(conv, rank=RANK, factorization="tucker")
            (outer, inner), area = layer.rank, image_size(model, name, setting.images[:1]) ** 2
            taps = 9 * outer * inner
            mine = conv.in_channels * inner + taps + outer * conv.out_channels
            macs += measured.BATCH * area * (mine - conv.weight.numel())
            parameters += layer.weight.numel() - conv.weight.numel()
            setattr(model, name, layer.to_conv())
        assert (found.parameters, found.macs) == (parameters, macs)
        right = (model(setting.images).argmax(1) == setting.labels).float().mean().item()
        assert found.accuracy == pytest.approx(right, abs=1.5 / IMAGES)
        assert found.chain == ((1, 1), (3, 3), (1, 1))

    def test_a_random_start_is_seeded(self, monkeypatch):
        with pytest.MonkeyPatch.context() as patch:
            quickened(patch)
            setting = measured.Setting()
        monkeypatch.setattr(formats, "SHOWN", ("cp",))
        accuracies = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            _, found = formats.run_formats(setting, 0.05, False)
            accuracies.append(found.accuracy)
        assert accuracies[0] == accuracies[1]


def image_size(model, name, x):
    """The size of what the layer `name` sees."""
    for child, module in model.named_children():
        if child == name:
            return x.shape[-1]
        x = module(x)
    raise AssertionError(name)


def test_it_fits_eighty_columns_and_no_word_is_broken(everything):
    assert max(map(len, everything.text.splitlines())) <= 80
    for name in (*PAIRED, *implementations.names(), *budgets.BUDGETS):
        assert name in everything.text
    assert "…" not in everything.text


def test_the_plot_is_a_png(everything, plot):
    assert f"drawn: {plot}" in everything.text.replace("\n", "")
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert plot.stat().st_size > 10_000


class Own(Implementation):
    """A way of running with code of its own, whose MACs nobody counts."""

    def plan(self, network, geometry):
        return partial(convolve, network, geometry)


def convolve(network, geometry, x, factors, bias):
    kernel = network.to_tensor(factors)
    return nn.functional.conv2d(x, kernel, bias, geometry.stride, geometry.padding)


@pytest.mark.usefixtures("install")
def test_a_stranger_s_implementation_with_code_of_its_own_is_shown(of_formats, setting):
    implementations.register("own", Own)
    found = of_formats(["tucker"], ["own"])["tucker own"]
    assert (found.macs, found.chain) == (None, ())
    shown = tenfold.demo.formats_table([found], setting.measure({})[0], RANK)
    assert list(shown.columns[4].cells)[-1] == "–"


def test_a_stranger_s_broken_package_does_not_stop_it(install, of_formats):
    install("acme", {"tenfold.factorizations": {"acme": "acme:Acme"}}, acme="raise OSError")
    assert list(of_formats(["acme", "tucker"], ["factorized"])) == ["tucker factorized"]
