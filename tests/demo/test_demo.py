"""The demo: the files that the package ships, and the table that it makes of them."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from tenfold import FactorizedConv, Implementation, factorizations, implementations
from tenfold.commands import app as cli
from tenfold.demo import data, run, show

RANK, IMAGES = 0.5, 200
SHIPPED = ("cnn.safetensors", "fashion_mnist.npz")


@pytest.fixture(scope="module")
def model():
    return data.load_cnn()


@pytest.fixture(scope="module")
def images():
    """The images and labels that the demo is given here."""
    pixels, labels = data.load_images()
    return pixels[:IMAGES], labels[:IMAGES]


@pytest.fixture(scope="module")
def plot(tmp_path_factory):
    return tmp_path_factory.mktemp("plot") / "x.png"


@pytest.fixture(scope="module")
def everything(images, plot):
    """`tenfold demo --rank 0.5 --plot x.png` of every installed pair, for one convolution."""
    large = run.large_convolutions
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(run, "large_convolutions", lambda model: large(model)[:1])
        return run_demo(monkeypatch, images, "--plot", plot)


@pytest.fixture
def demo(monkeypatch, images):
    """Run `tenfold demo --rank 0.5` of some names only, for all convolutions."""

    def demo(factorization_names, implementation_names):
        monkeypatch.setattr(factorizations, "names", lambda: factorization_names)
        monkeypatch.setattr(implementations, "names", lambda: implementation_names)
        return run_demo(monkeypatch, images)

    return demo


def run_demo(monkeypatch, images, *arguments):
    """Run the command without repeating its timings; what it printed, and the numbers behind it."""
    measured = {}
    table = show.demo_table

    def seen(found, rank):
        measured.update({one.name: one for one in found})
        return table(found, rank)

    monkeypatch.setattr(run, "load_images", lambda: images)
    monkeypatch.setattr(run, "SECONDS", 0.0)
    monkeypatch.setattr(cli, "console", Console(width=200))
    monkeypatch.setattr("tenfold.demo.demo_table", seen)
    done = CliRunner().invoke(cli.main, ["demo", "--rank", str(RANK), *map(str, arguments)])
    return SimpleNamespace(done=done, measured=measured)


def rows(text):
    """The rows of the table, as the texts of their cells, each with its network's whole name."""
    body = re.split(r"─\s*\n", text)[1]
    found, factorization = [], ""
    for line in itertools.takewhile(str.strip, body.splitlines()):
        first, *numbers = re.split(r"\s{2,}", line.strip())
        if len(numbers) == 5:
            found.append(
                [f"{factorization} {first}" if line.startswith("   ") else first, *numbers]
            )
        elif not numbers:
            factorization = first
    return found


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


class TestTable:
    def test_it_has_every_pair_that_is_not_refused_after_the_dense_network(self, everything):
        assert everything.done.exit_code == 0, everything.done.output
        pairs = [
            f"{factorization} {implementation}"
            for factorization in factorizations.names()
            for implementation in implementations.names()
            if not refused(factorization=factorization, implementation=implementation)
        ]
        assert [row[0] for row in rows(everything.done.stdout)] == ["dense", *pairs]
        assert {"cp mobilenet", "tucker factorized"} <= set(pairs)
        assert "tucker mobilenet" not in pairs

    def test_each_number_stands_beside_the_dense_network_s(self, everything):
        shown = {row[0]: row[1:] for row in rows(everything.done.stdout)}
        dense = everything.measured["dense"]
        assert shown["dense"][0] == f"{dense.accuracy:.1%} +0.0"
        for name, one in everything.measured.items():
            accuracy, parameters, macs, milliseconds, error = shown[name]
            change = 100 * (one.accuracy - dense.accuracy)
            assert accuracy == f"{one.accuracy:.1%} {change:+.1f}"
            assert parameters.endswith(f" {one.parameters / dense.parameters:.2f}×")
            counted = "–" if one.macs is None else f" {one.macs / dense.macs:.2f}×"
            assert macs.endswith(counted)
            assert milliseconds.endswith("×")
            assert error == f"{one.error:.3f}"

    def test_each_way_of_running_gives_the_kernel_and_the_accuracy_of_its_format(self, everything):
        for name, one in everything.measured.items():
            if name != "dense":
                whole = everything.measured[f"{name.split()[0]} reconstructed"]
                assert one.error == pytest.approx(whole.error, rel=1e-6)
                assert one.accuracy == pytest.approx(whole.accuracy, abs=1.5 / IMAGES)
                assert one.parameters == whole.parameters

    def test_the_convolution_keeps_the_budget(self, everything, model):
        size = model.get_submodule("conv1").weight.numel()
        others = everything.measured["dense"].parameters - size
        for name, one in everything.measured.items():
            assert name == "dense" or 0 < one.parameters - others <= RANK * size


def test_the_numbers_of_a_pair_are_what_a_direct_computation_gives(demo, images):
    measured = demo(["tucker"], ["factorized"]).measured
    model, (pixels, labels) = data.load_cnn(), images

    def accuracy():
        return (model(pixels).argmax(1) == labels).float().mean().item()

    dense, found = measured["dense"], measured["tucker factorized"]
    parameters = sum(p.numel() for p in model.parameters())
    assert (dense.parameters, dense.error) == (parameters, pytest.approx(0, abs=1e-6))
    assert dense.accuracy == pytest.approx(accuracy())
    gap = norm = macs = dense_macs = 0
    for name in ("conv1", "conv2", "conv3", "conv4"):
        conv = model.get_submodule(name)
        layer = FactorizedConv.from_conv(conv, rank=RANK, factorization="tucker")
        (outer, inner), area = layer.rank, image_size(model, name, pixels[:1]) ** 2
        taps = 9 * outer * inner
        macs += area * (conv.in_channels * inner + taps + outer * conv.out_channels)
        dense_macs += area * conv.weight.numel()
        parameters += layer.weight.numel() - conv.weight.numel()
        approximate = layer.to_conv()
        gap += (conv.weight - approximate.weight).square().sum().item()
        norm += conv.weight.square().sum().item()
        setattr(model, name, approximate)
    assert (found.parameters, found.macs, dense.macs) == (parameters, macs, dense_macs)
    assert found.error == pytest.approx((gap / norm) ** 0.5, rel=1e-4)
    assert found.accuracy == pytest.approx(accuracy(), abs=1.5 / IMAGES)


def image_size(model, name, x):
    """The size of what the layer `name` sees."""
    for child, module in model.named_children():
        if child == name:
            return x.shape[-1]
        x = module(x)
    raise AssertionError(name)


def test_the_plot_is_a_png(everything, plot):
    assert f"drawn: {plot}" in everything.done.stdout.replace("\n", "")
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert plot.stat().st_size > 10_000


class Own(Implementation):
    """A way of running with code of its own, whose MACs nobody counts."""

    def plan(self, network, geometry):
        def convolve(x, factors, bias):
            kernel = network.to_tensor(factors)
            return nn.functional.conv2d(x, kernel, bias, geometry.stride, geometry.padding)

        return convolve


@pytest.mark.usefixtures("install")
def test_a_stranger_s_implementation_with_code_of_its_own_is_shown(demo):
    implementations.register("own", Own)
    found = demo(["tucker"], ["own"])
    assert found.done.exit_code == 0, found.done.output
    assert [row[0] for row in rows(found.done.stdout)] == ["dense", "tucker own"]


def test_a_stranger_s_broken_package_does_not_stop_it(install, demo):
    install("acme", {"tenfold.factorizations": {"acme": "acme:Acme"}}, acme="raise OSError")
    found = demo(["acme", "tucker"], ["factorized"])
    assert found.done.exit_code == 0, found.done.output
    assert "tucker factorized" in found.measured
