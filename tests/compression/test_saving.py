"""Saving and loading a network: the same outputs, or an error that names what is wrong."""

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.optim.swa_utils import AveragedModel

from tenfold import (
    Compression,
    Factorization,
    FactorizedConv,
    FactorizedKernel,
    factorizations,
    load,
    relative_error,
    save,
)
from tenfold.compression.candidates.table import Table
from tenfold.compression.reporting import Change, Report
from tenfold.compression.storage.files import load_report
from tenfold.model.replace import replace_convolutions, substitute

NAMES = ("tenfold.json", "model.safetensors")
QUIET = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Net(nn.Module):
    """Convolutions of several kinds, one of them used twice, one with a stride."""

    def __init__(self, width=8, twice=True):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.shared = nn.Conv2d(width, width, 3, padding="same", padding_mode="reflect")
        self.again = self.shared if twice else nn.Conv2d(width, width, 3, padding="same")
        self.up = nn.ConvTranspose2d(width, 4, 2, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.norm(self.first(x))
        x = self.up(self.again(self.shared(x).relu()).relu())
        return self.head(x.mean((2, 3)))


def small(model, names=("first", "shared", "up", "head"), **request):
    """A copy of `model` with factorized layers in the places of some."""
    copied = copy.deepcopy(model)
    request = {"rank": 0.5, "factorization": "tucker", **request}
    layers = {
        name: FactorizedConv.from_conv(copied.get_submodule(name), **request) for name in names
    }
    for name, module in list(copied.named_modules(remove_duplicate=False)):
        for asked, layer in layers.items():
            if module is model.get_submodule(asked) or name == asked:
                substitute(copied, {name: layer})
    if isinstance(copied, Net) and model.again is model.shared and "shared" in layers:
        copied.again = copied.shared
    return copied


@pytest.fixture
def network():
    torch.manual_seed(0)
    return small(Net().eval())


@pytest.fixture
def saved(network, tmp_path):
    save(network, tmp_path / "small")
    return tmp_path / "small"


X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def outputs(model, x=X):
    with torch.no_grad():
        return model.eval()(x)


class TestRoundTrip:
    @QUIET
    @given(data=st.data())
    def test_a_loaded_network_gives_the_same_outputs(self, tmp_path_factory, data):
        order = data.draw(st.integers(1, 3))
        groups = data.draw(st.sampled_from((1, 2)))
        transposed = data.draw(st.booleans())
        kind = getattr(nn, f"Conv{'Transpose' * transposed}{order}d")
        dtype = data.draw(st.sampled_from((torch.float32, torch.float64, torch.bfloat16)))
        stride = data.draw(st.integers(1, 2))
        bias = data.draw(st.booleans())

        def dense():
            conv = kind(4, 6, 3, stride=stride, padding=1, groups=groups, bias=bias, dtype=dtype)
            return nn.Sequential(conv, nn.ReLU()).eval()

        name = data.draw(st.sampled_from(factorizations.names()))
        rank = data.draw(st.sampled_from((1, 3, "same", 0.6)))
        model = dense()
        layer = FactorizedConv.from_conv(model[0], rank=rank, factorization=name)
        made = nn.Sequential(layer, nn.ReLU()).eval()
        place = tmp_path_factory.mktemp("saved") / "net"
        save(made, place)
        back = load(place, dense())
        x = torch.randn(2, 4, *(5,) * order, dtype=dtype)
        assert torch.equal(outputs(back, x), outputs(made, x))
        assert repr(back) == repr(made)

    def test_shared_layers_stay_shared(self, saved, network):
        back = load(saved, Net())
        assert back.again is back.shared
        assert isinstance(back.shared, FactorizedConv)
        assert torch.equal(outputs(back), outputs(network))

    def test_layers_that_share_a_kernel_share_it_again(self, tmp_path):
        def dense():
            return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=2))

        kernel = FactorizedKernel.new((4, 4, 3, 3), rank=2)
        made = nn.Sequential(
            *(
                FactorizedConv.from_factorization(kernel, padding=p, bias=torch.ones(4))
                for p in (1, 2)
            )
        )
        save(made, tmp_path / "net")
        back = load(tmp_path / "net", dense())
        x = torch.randn(1, 4, 6, 6)
        assert torch.equal(outputs(back, x), outputs(made, x))
        assert back[0].weight.factors[0] is back[1].weight.factors[0]

    def test_tied_and_overlapping_tensors(self, tmp_path):
        def dense():
            model = nn.Sequential(nn.Conv1d(4, 4, 3), nn.Linear(6, 6), nn.Linear(6, 6))
            model[2].weight = model[1].weight
            model.register_buffer("rows", torch.arange(12.0).reshape(3, 4)[:, 1:3])
            model.register_buffer("row", model.rows[0])
            return model

        made = dense()
        substitute(made, replace_convolutions(made, ["0"], rank=2))
        save(made, tmp_path / "net")
        back = load(tmp_path / "net", dense())
        assert back[2].weight is back[1].weight
        for name, value in made.state_dict().items():
            assert torch.equal(back.state_dict()[name], value), name

    def test_a_layer_may_be_the_whole_model(self, tmp_path):
        conv = nn.Conv2d(4, 6, 3)
        made = FactorizedConv.from_conv(conv, rank=2)
        save(made, tmp_path / "net")
        x = torch.randn(1, 4, 5, 5)
        assert torch.equal(outputs(load(tmp_path / "net", nn.Conv2d(4, 6, 3)), x), outputs(made, x))

    def test_a_layer_may_have_gained_a_bias(self, tmp_path):
        kernel = FactorizedKernel.new((4, 4, 3, 3), rank=2)
        made = nn.Sequential(FactorizedConv.from_factorization(kernel, bias=torch.ones(4)))
        save(made, tmp_path / "net")
        back = load(tmp_path / "net", nn.Sequential(nn.Conv2d(4, 4, 3, bias=False)))
        x = torch.randn(1, 4, 5, 5)
        assert torch.equal(outputs(back, x), outputs(made, x))
        assert back[0].bias.requires_grad

    def test_into_a_model_that_has_factorized_layers_already(self, saved, network):
        fresh = small(Net(), rank=1)
        assert torch.equal(outputs(load(saved, fresh)), outputs(network))

    def test_the_dense_model_is_left_as_it_was(self, saved):
        dense = Net()
        before = copy.deepcopy(dense.state_dict())
        load(saved, dense)
        assert isinstance(dense.first, nn.Conv2d)
        assert all(torch.equal(v, before[k]) for k, v in dense.state_dict().items())

    def test_frozen_layers_and_modes_are_those_of_the_dense_model(self, saved):
        dense = Net()
        dense.first.requires_grad_(False)
        dense.shared.eval()
        back = load(saved, dense)
        assert not any(p.requires_grad for p in back.first.parameters())
        assert all(p.requires_grad for p in back.up.parameters())
        assert back.up.training
        assert not back.shared.training

    def test_loading_draws_no_random_number(self, saved):
        dense = Net()
        state = torch.get_rng_state()
        load(saved, dense)
        assert torch.equal(torch.get_rng_state(), state)

    def test_channels_last_is_kept(self, tmp_path):
        dense = nn.Sequential(nn.Conv2d(4, 8, 3)).to(memory_format=torch.channels_last)
        made = small(dense, ("0",))
        save(made, tmp_path / "net")
        back = load(tmp_path / "net", nn.Sequential(nn.Conv2d(4, 8, 3)))
        assert made[0].channels_last
        assert back[0].channels_last

    def test_a_plan_that_was_fixed_stays(self, tmp_path):
        made = small(nn.Sequential(nn.Conv2d(4, 8, 3)), ("0",), implementation="auto")
        made[0].fix_plan({"partition": [[1], [0, 2]]})
        save(made, tmp_path / "net")
        back = load(tmp_path / "net", nn.Sequential(nn.Conv2d(4, 8, 3)))
        assert back[0].decision == made[0].decision
        assert (back[0].implementation, back[0].measures) == ("auto", False)
        manifest = json.loads((tmp_path / "net" / NAMES[0]).read_text())
        manifest["layers"][0]["decision"]["partition"] = [[0], [7]]
        (tmp_path / "net" / NAMES[0]).write_text(json.dumps(manifest))
        with pytest.raises(ValueError, match=r"layer '0': .*partition"):
            load(tmp_path / "net", nn.Sequential(nn.Conv2d(4, 8, 3)))

    def test_a_registered_class_is_found_by_its_name(self, tmp_path, install):
        factorizations.register("ring", Ring)
        made = nn.Sequential(FactorizedConv(4, 4, (3, 3), rank=2, factorization=Ring))
        save(made, tmp_path / "net")
        x = torch.randn(1, 4, 5, 5)
        back = load(tmp_path / "net", nn.Sequential(nn.Conv2d(4, 4, 3)))
        assert torch.equal(outputs(back, x), outputs(made, x))


class Ring(Factorization):
    """A tensor train whose ends are joined."""

    def factors(self, order, rank):
        middle = [(f"b{axis}", f"k{axis}", f"b{axis + 1}") for axis in range(order)]
        return [("z", "in", "b0"), *middle, (f"b{order}", "out", "z")]


class TestRefusals:
    def test_a_class_without_an_installed_name(self, tmp_path):
        made = nn.Sequential(FactorizedConv(4, 4, (3, 3), rank=2, factorization=Ring))
        with pytest.raises(
            ValueError, match=r"layer '0': factorization=Ring.*register\('ring', Ring"
        ):
            save(made, tmp_path / "net")
        assert not (tmp_path / "net").exists()

    def test_a_plugin_that_is_not_installed(self, tmp_path, install, monkeypatch):
        source = "import tenfold_plugins.cp as cp\nclass Mine(cp.CP): pass\n"
        install("acme", {"tenfold.factorizations": {"mine": "acme_mine:Mine"}}, acme_mine=source)
        made = nn.Sequential(FactorizedConv(4, 4, (3, 3), rank=2, factorization="mine"))
        save(made, tmp_path / "net")
        monkeypatch.setenv("TENFOLD_DISABLE", "acme:mine")
        factorizations._loaded.clear()
        with pytest.raises(ValueError, match="layer '0': factorization='mine' is not installed"):
            load(tmp_path / "net", nn.Sequential(nn.Conv2d(4, 4, 3)))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda m: setattr(m, "first", nn.Conv2d(3, 8, 3, 1, 1)),
                r"'first' has stride=\(1, 1\)",
            ),
            (lambda m: setattr(m, "first", nn.Conv2d(3, 9, 3, 2, 1)), "'first' has out_channels=9"),
            (lambda m: setattr(m, "first", nn.ReLU()), "'first' is not the one.*ReLU"),
            (lambda m: setattr(m, "head", nn.Linear(4, 6)), "'head' has out_channels=6"),
            (lambda m: delattr(m, "up"), "no layer 'up'"),
            (lambda m: setattr(m, "more", nn.Linear(2, 2)), r"has no 'more\.bias' and 1 more"),
            (lambda m: setattr(m, "norm", nn.Identity()), r"the model has no 'norm\.bias'"),
            (lambda m: setattr(m, "norm", nn.BatchNorm2d(9)), r"'norm.weight' has shape \(8,\)"),
            (lambda m: m.norm.bfloat16(), r"'norm.weight' is F32 .* torch.bfloat16 in the model"),
            (lambda m: setattr(m, "again", copy.deepcopy(m.shared)), "were one layer"),
            (lambda m: m.to("meta"), "is on the meta device"),
        ],
    )
    def test_another_architecture(self, saved, change, message):
        dense = Net()
        change(dense)
        with pytest.raises(ValueError, match=message):
            load(saved, dense)

    def test_a_tie_of_the_model_that_the_file_has_not(self, tmp_path):
        made = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        save(made, tmp_path / "net")
        dense = copy.deepcopy(made)
        dense[1].weight = dense[0].weight
        with pytest.raises(ValueError, match="one tensor in the model and two in"):
            load(tmp_path / "net", dense)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_missing_file(self, saved, name):
        (saved / name).unlink()
        with pytest.raises(FileNotFoundError, match=name):
            load(saved, Net())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda m: m.update(version=99), "has version 99; .* upgrade tenfold"),
            (lambda m: m.pop("format"), "not a network that tenfold saved: format"),
            (lambda m: m.update(extra=1), "damaged: extra"),
            (
                lambda m: m["layers"][0].update(factorization="os.system"),
                "'os.system' is not installed",
            ),
            (lambda m: m["layers"][0].update(implementation="os:x"), "'os:x' is not installed"),
            (lambda m: m["layers"][0].update(rank=10**18), "layer 'first': factor . is"),
            (lambda m: m["layers"][0].update(rank=[2] * 65), "rank"),
            (lambda m: m["layers"][0].update(rank=0), "rank"),
            (lambda m: m["layers"][0].update(rank="same"), "rank"),
            (lambda m: m["layers"][0]["config"].update(order=10**12), "stride|kernel_size"),
            (lambda m: m["layers"][0]["config"].update(stride=1), "stride must be a list"),
            (
                lambda m: m["layers"][0]["config"].update(in_channels=10**15),
                "in_channels=3, and",
            ),
            (lambda m: m["layers"][0].update(names=["first", "shared"]), "is there twice"),
            (lambda m: m["layers"][0].update(names=["__class__"]), "no layer '__class__'"),
            (lambda m: m.update(weights_bytes=1), "bytes, and 1 were written"),
            (lambda m: m["layers"].pop(), "'head.weight.factors.0'|'head.weight'"),
        ],
    )
    def test_a_changed_manifest(self, saved, change, message):
        path = saved / NAMES[0]
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))
        with pytest.raises(ValueError, match=message) as caught:
            load(saved, Net())
        assert str(saved) in str(caught.value)

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "x"}', "[" * 100_000])
    def test_a_foreign_manifest(self, saved, text):
        (saved / NAMES[0]).write_text(text)
        with pytest.raises(ValueError, match=NAMES[0]):
            load(saved, Net())

    def test_a_foreign_file_of_weights(self, saved):
        values = load_file(saved / NAMES[1])
        save_file({name: value + 1 for name, value in values.items()}, saved / NAMES[1])
        with pytest.raises(ValueError, match=r"model\.safetensors (is damaged|has)"):
            load(saved, Net())

    def test_a_state_that_is_no_tensor(self, tmp_path):
        with pytest.raises(ValueError, match="'_extra_state' is a dict"):
            save(Extra(), tmp_path / "net")
        assert list(tmp_path.iterdir()) == []


class Extra(nn.Module):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A saved network that tests damage and repair, and its outputs."""
    torch.manual_seed(0)
    made, place = small(Net().eval()), tmp_path_factory.mktemp("damage") / "net"
    save(made, place)
    return place, outputs(made)


def loaded_or_refused(place):
    """The network, or the message of the error."""
    try:
        return load(place, Net())
    except ValueError as fault:
        return str(fault)


HOSTILE = [None, True, 0, -1, 1e9, 2.5, 10**9, 10**30, float("nan"), float("inf"), "", "../../etc"]
HOSTILE += ["0", "first", "os:system", "__class__", "x" * 10_000, [], {}, [10**9], [10**9] * 3]
HOSTILE += [["first"], [[[[]]]], {"a": "b"}, {"head.bias": "nothing"}, {"head.bias": "up.bias"}]


def spoiled(value, data):
    """The JSON data with one of its values replaced, dropped or doubled, however deep."""
    if not isinstance(value, dict | list) or not value or data.draw(st.integers(0, 5)) == 0:
        return data.draw(st.sampled_from(HOSTILE))
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    key, changed = data.draw(st.sampled_from(list(keys))), copy.copy(value)
    kind = data.draw(st.sampled_from(["deeper", "deeper", "deeper", "dropped", "doubled"]))
    if kind == "deeper":
        changed[key] = spoiled(value[key], data)
    elif kind == "dropped":
        del changed[key]
    elif isinstance(value, list):
        changed.append(value[key])
    else:
        changed[f"{key} "] = value[key]
    return changed


class TestDamage:
    @settings(QUIET, max_examples=150)
    @given(data=st.data())
    def test_damaged_bytes_are_an_error_or_change_nothing(self, whole, data):
        place, wanted = whole
        path = place / data.draw(st.sampled_from(NAMES))
        right = path.read_bytes()
        start = data.draw(st.integers(0, len(right) - 1))
        stop = data.draw(st.integers(start, min(len(right), start + 8)))
        damaged = right[:start] + data.draw(st.binary(max_size=8)) + right[stop:]
        damaged = data.draw(st.sampled_from((damaged, right[:start])))
        assume(damaged != right)
        path.write_bytes(damaged)
        found = loaded_or_refused(place)
        path.write_bytes(right)
        if isinstance(found, str):
            assert str(place) in found
        else:
            assert path.name == NAMES[0]
            assert torch.equal(outputs(found), wanted)

    @settings(QUIET, max_examples=150)
    @given(data=st.data())
    def test_hostile_values_are_an_error_or_change_nothing(self, whole, data):
        place, wanted = whole
        path = place / NAMES[0]
        right = path.read_text()
        path.write_text(json.dumps(spoiled(json.loads(right), data)))
        found = loaded_or_refused(place)
        path.write_text(right)
        if isinstance(found, str):
            assert str(place) in found
        else:
            assert relative_error(wanted, outputs(found)) < 1e-5

    def test_nothing_is_unpickled(self, saved, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("unpickled")

        dense = Net()
        for owner, name in ((torch, "load"), (pickle, "loads"), (pickle, "Unpickler")):
            monkeypatch.setattr(owner, name, refuse)
        load(saved, dense)


class TestWriting:
    def test_saving_again_replaces_and_keeps_what_others_wrote(self, saved, network):
        (saved / "notes.txt").write_text("mine")
        with torch.no_grad():
            network.head.bias.add_(1)
        save(network, saved)
        assert torch.equal(outputs(load(saved, Net())), outputs(network))
        assert (saved / "notes.txt").read_text() == "mine"
        assert [path.name for path in saved.parent.iterdir()] == [saved.name]

    def test_a_failure_leaves_what_was_there(self, saved, network, monkeypatch):
        before = {path.name: path.read_bytes() for path in saved.iterdir()}

        def full(*_):
            raise OSError("no space left on device")

        monkeypatch.setattr("tenfold.compression.storage.files.fingerprint", full)
        with pytest.raises(OSError, match="no space"):
            save(network, saved)
        assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
        assert [path.name for path in saved.parent.iterdir()] == [saved.name]

    def test_a_directory_of_other_things_is_refused(self, network, tmp_path):
        (tmp_path / "thesis.tex").write_text("mine")
        with pytest.raises(FileExistsError, match="holds other things"):
            save(network, tmp_path)
        with pytest.raises(FileExistsError, match="is a file"):
            save(network, tmp_path / "thesis.tex")
        assert (tmp_path / "thesis.tex").read_text() == "mine"

    def test_the_report_comes_back(self, network, tmp_path):
        save(Compression(network, report(), Table("")), tmp_path / "net")
        assert load_report(tmp_path / "net") == report()
        save(network, tmp_path / "net")
        with pytest.raises(FileNotFoundError, match=r"report\.json"):
            load_report(tmp_path / "net")

    def test_anything_else_is_refused(self, tmp_path):
        with pytest.raises(TypeError, match="dict must be a Compression"):
            save({}, tmp_path / "net")

    def test_a_damaged_report_names_its_field(self, network, tmp_path):
        save(Compression(network, report(), Table("")), tmp_path / "net")
        path = Path(tmp_path / "net" / "report.json")
        path.write_text(path.read_text().replace('"threads": 2', '"threads": "two"'))
        with pytest.raises(ValueError, match=r"report\.json is damaged: threads"):
            load_report(tmp_path / "net")


def report():
    same = Change(before=2.0, after=1.0)
    return Report(
        metric="macs",
        objective="measured",
        budget=0.5,
        layers=(),
        parameters=same,
        macs=same,
        milliseconds=None,
        error=float("inf"),
        score=None,
        inputs=((1, 3, 8, 8),),
        device="Acme 9000",
        threads=2,
        versions={"torch": "2"},
    )


def half(factor):
    return factor * (torch.arange(factor.numel()).reshape(factor.shape) % 2)


class Half(nn.Module):
    def forward(self, factor):
        return half(factor)


def test_masks_and_parametrizations_on_factors_are_written_as_what_they_give(tmp_path):
    layer = FactorizedConv(4, 6, (3, 3), rank=0.5)
    prune.l1_unstructured(layer.weight.factors, "0", 0.5)
    prune.l1_unstructured(layer, "bias", 0.5)
    parametrize.register_parametrization(layer.weight.factors, "1", Half())
    model, x = nn.Sequential(layer).eval(), torch.randn(2, 4, 9, 9)
    save(model, tmp_path / "small")
    loaded = load(tmp_path / "small", nn.Sequential(nn.Conv2d(4, 6, 3)).eval())
    assert sorted(loaded.state_dict()) == ["0.bias", *(f"0.weight.factors.{i}" for i in range(4))]
    torch.testing.assert_close(loaded(x), model(x))
    assert torch.equal(loaded[0].weight.factors[1], layer.weight.factors[1])


def test_a_parametrized_layer_in_two_places_stays_one(tmp_path):
    layer = FactorizedConv(4, 4, (3, 3), padding=1, rank=0.5)
    parametrize.register_parametrization(layer.weight.factors, "1", Half())
    save(nn.Sequential(layer, layer), tmp_path / "small")
    dense = nn.Conv2d(4, 4, 3, padding=1)
    loaded = load(tmp_path / "small", nn.Sequential(dense, dense))
    assert loaded[0] is loaded[1]
    torch.testing.assert_close(loaded[0].weight.to_tensor(), layer.weight.to_tensor())


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        nn.DataParallel,
        AveragedModel,
        lambda model: torch.compile(nn.DataParallel(model)),
    ],
)
def test_of_a_compiled_or_wrapped_network_the_one_inside_is_written(wrap, network, tmp_path):
    save(wrap(network), tmp_path / "small")
    x = torch.randn(2, 3, 9, 9)
    for dense in (Net().eval(), wrap(Net().eval())):
        loaded = load(tmp_path / "small", dense)
        assert type(loaded) is Net
        assert torch.equal(loaded(x), network(x))
