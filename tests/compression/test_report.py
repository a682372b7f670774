"""What a report shows: the table, the page, the charts; and that JSON keeps all of it."""

import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from torch import nn

from tenfold.compression.candidates import LayerTable, Table
from tenfold.compression.reporting import Change, Compression, LayerReport, Point, Report

ERRORS = ["Kernel error", "Output error", "Network's error"]
numbers = st.floats(0, 1e12)
changes = st.builds(Change, before=numbers, after=numbers)
NASTY = "a<b>&\"'$x^2$_[red]"
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1) | st.just(
    NASTY
)


def layer(**fields):
    known = {
        "name": "features.3",
        "kind": "Conv2d",
        "shape": (64, 32, 3, 3),
        "calls": 1,
        "factorization": "tucker",
        "implementation": "factorized",
        "rank": (16, 8),
        "parameters": Change(before=18432, after=4096),
        "macs": Change(before=2e9, after=5e8),
        "milliseconds": Change(before=10.0, after=4.0),
        "kernel_error": 0.5,
        "output_error": 0.125,
        "error": 0.03125,
    }
    return LayerReport(**{**known, **fields})


def dense(**fields):
    return layer(factorization=None, implementation=None, rank=None, **fields)


def report(*layers, **fields):
    known = {
        "metric": "macs",
        "objective": "measured",
        "budget": 0.25,
        "layers": layers or (layer(), dense(name="head")),
        "parameters": Change(before=20000, after=5000),
        "macs": Change(before=4e9, after=1e9),
        "milliseconds": Change(before=30.0, after=12.0),
        "error": 0.0625,
        "score": Change(before=0.95, after=0.94),
        "inputs": ((64, 3, 32, 32),),
        "device": "Acme 9000, AVX512",
        "threads": 2,
        "versions": {"tenfold": "0.1.0", "torch": "2.13.0"},
    }
    return Report(**{**known, **fields})


CURVE = tuple(
    Point(budget=b, parameters=b, macs=b, milliseconds=None, error=0.1 / b, score=1 - b)
    for b in (0.5, 0.25)
)


def printed(shown, width=80):
    console = Console(width=width, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


class Text(HTMLParser):
    """The text of a page, its tags and their attributes."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags, self.attributes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.words.append(data)


class TestJson:
    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def test_it_keeps_everything(self, data):
        made = report(
            *(
                layer(
                    name=data.draw(names),
                    rank=data.draw(st.none() | st.integers(1, 99)),
                    output_error=data.draw(st.floats(allow_nan=False)),
                )
                for _ in range(data.draw(st.integers(0, 3)))
            ),
            error=data.draw(st.floats(allow_nan=False)),
            milliseconds=data.draw(st.none() | changes),
            curve=CURVE,
        )
        assert Report.from_json(made.to_json()) == made

    def test_a_wrong_field_is_named(self):
        text = report().to_json().replace('"calls": 1', '"calls": "no"')
        with pytest.raises(ValueError, match=r"^layers\.0\.calls: "):
            Report.from_json(text)


class TestTable:
    def test_it_shows_each_factorized_layer_and_the_totals(self):
        text = printed(report().table())
        row = next(line for line in text.splitlines() if "features.3" in line)
        assert row.split() == [
            *("features.3", "tucker", "16,", "8", "22%", "25%", "2.50×", "0.1250")
        ]
        totals = next(line for line in text.splitlines() if "network " in line)
        assert totals.split() == ["network", "25%", "25%", "2.50×", "0.0625"]
        assert "score 0.9500 → 0.9400" in text

    def test_its_first_lines_say_what_changed_of_what_and_where(self):
        first, second = (line.strip() for line in printed(report().table()).splitlines()[:2])
        assert first == "20 k → 5 k parameters · 4 G → 1 G MACs · 30.0 → 12.0 ms (2.50×)"
        assert second == "one run on 64×3×32×32; Acme 9000, AVX512, 2 threads"

    def test_it_names_the_dense_layers_by_their_reasons(self):
        heads = [dense(name=f"head{n}", reason="excluded") for n in range(6)]
        text = printed(report(layer(), *heads, dense(name="stem", reason="too small")).table())
        assert "Dense (excluded): head0, head1, head2, head3 and 2 more." in " ".join(text.split())
        assert "Dense (too small): stem." in text

    def test_an_implementation_is_named_where_it_is_not_the_usual_one(self):
        text = printed(report(layer(), layer(), layer(implementation="mobilenet")).table())
        assert "Run by 'factorized'" in text
        assert "tucker mobilenet" in text

    def test_no_word_is_broken_at_eighty_columns(self):
        name = "features.denseblock4.denselayer16.conv2"
        wide = layer(name=name, factorization="depthwise_separable", rank=(301, 301, 128, 128))
        rows = [layer(implementation="reconstructed"), wide, layer(), layer()]
        text = printed(report(*rows).table())
        for word in ("…", "depthwise_separable", "reconstructed", "301,", "128,", "features.3"):
            assert any(one.startswith(word) for one in text.split())
        assert "ock4.denselayer16.conv2" in text

    @settings(max_examples=20, deadline=None)
    @given(st.lists(names, max_size=4), st.none() | changes)
    def test_it_fits_eighty_columns(self, found, times):
        shown = report(*(layer(name=name, calls=3, milliseconds=times) for name in found)).table()
        assert all(cell_len(line) <= 80 for line in printed(shown).splitlines())

    def test_markup_in_a_name_is_text(self):
        assert "[red]x" in printed(report(layer(name="[red]x")).table())

    @pytest.mark.parametrize(
        ("metric", "after", "told"),
        [("macs", 11.0, True), ("macs", 4.0, False), ("latency", 11.0, False)],
    )
    def test_a_network_that_is_no_faster_is_said_to_be_so(self, metric, after, told):
        made = report(metric=metric, milliseconds=Change(before=10.0, after=after))
        for text in (" ".join(printed(made.table()).split()), made.to_html()):
            assert ("No faster on this machine" in text) == told

    @pytest.mark.parametrize(
        ("constant", "told"), [(None, False), (0.0, False), (0.2, False), (0.065, True)]
    )
    def test_that_little_is_left_of_a_network_is_said(self, constant, told):
        made = report(error=0.0625, constant=constant)
        for text in (" ".join(printed(made.table()).split()), made.to_html()):
            assert ("Hardly nearer to the original" in text) == told


class TestPage:
    def test_it_has_all_numbers_of_a_layer_and_of_the_whole(self, tmp_path):
        path = tmp_path / "report.html"
        page = report(layer(), dense(reason="excluded"), curve=CURVE).to_html(path)
        assert path.read_text(encoding="utf-8") == page
        words = " ".join(Text(page).words)
        for shown in (
            *("25% of the MACs, 2.50× as fast", "0.0625", "0.9400", "features.3", "tucker"),
            *("18.4 k → 4.1 k", "2 G → 500 M", "10.0 → 4.00", "0.5000", "0.1250", "0.0312"),
            *("factorized", "dense", "Conv2d 64×32×3×3", "torch 2.13.0", "16, 8", "excluded"),
            *("one run on 64×3×32×32; Acme 9000, AVX512, 2 threads", "at each budget"),
        ):
            assert shown in words

    def test_it_needs_no_matplotlib(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert "<svg" in report(curve=CURVE).to_html()
        report(curve=CURVE).plot(tmp_path / "x.svg")

    def test_on_a_narrow_screen_each_cell_says_its_title(self):
        page = Text(report(layer()).to_html())
        titles = [value for _, name, value in page.attributes if name == "data-t"]
        assert titles == 2 * ["Layer", "Format", "Rank", "Parameters", "MACs", "ms", *ERRORS]

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(numbers, numbers), max_size=3), st.lists(st.floats(0), max_size=3))
    def test_its_charts_stay_within_their_width(self, costs, errors):
        layers = [layer(macs=Change(before=a, after=b)) for a, b in costs]
        points = tuple(CURVE[0].model_copy(update={"budget": 0.1, "error": e}) for e in errors)
        page = report(*layers, curve=points).to_html()
        drawn = page[page.index("<svg") :]
        parts = [float(one) for one in re.findall(r'(?:width|cx|x1|x2)="([\d.e+-]+)%"', drawn)]
        assert all(0 <= one <= 100 for one in parts)
        assert "nan" not in drawn.split("<h2>Layers")[0]

    def test_a_bar_is_as_long_as_its_part_of_the_longest(self):
        long, short = (layer(macs=Change(before=b, after=1.0)) for b in (8.0, 4.0))
        chart = report(long, short).to_html().split("<svg")[1]
        widths = re.findall(r'width="([\d.]+)%" height="10"', chart)
        assert widths == ["100.00", "12.50", "50.00", "12.50"]

    def test_it_loads_nothing(self):
        page = Text(report(curve=CURVE).to_html())
        assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
        links = {name for _, name, _ in page.attributes if name in ("src", "href")}
        assert links == set()
        assert "@import" not in report().to_html()

    @pytest.mark.parametrize("curve", [(), CURVE])
    def test_names_are_text_and_nothing_else(self, curve):
        name = "<script>alert(1)</script>"
        clean, found = (Text(report(layer(name=n), curve=curve).to_html()) for n in ("a", name))
        assert found.tags == clean.tags
        assert name in found.words
        nasty = Text(report(layer(name=NASTY)).to_html())
        assert nasty.words.count(NASTY) == 3  # in two charts and in the table

    def test_without_times_score_and_factorized_layers(self):
        bare = report(dense(milliseconds=None), milliseconds=None, score=None, metric="latency")
        page = bare.to_html()
        assert "A compressed network" in page
        assert "Score" not in page


class TestPlot:
    @pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
    @pytest.mark.parametrize("curve", [(), CURVE])
    def test_it_draws_each_kind_of_file(self, tmp_path, suffix, curve):
        path = tmp_path / f"report.{suffix}"
        report(curve=curve).plot(path)
        starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
        assert path.read_bytes().startswith(starts[suffix])
        if suffix == "svg":
            assert ElementTree.parse(path).getroot().tag.endswith("}svg")

    def test_another_kind_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"report.jpeg must end in \.png, \.pdf, \.svg"):
            report().plot(tmp_path / "report.jpeg")

    def test_of_many_layers_the_largest_are_drawn(self):
        many = [
            layer(name=f"layer{n}", macs=Change(before=n + 1, after=1), milliseconds=None)
            for n in range(60)
        ]
        page = report(*many).to_html()
        chart = page[page.index("<svg") : page.index("</svg>")]
        assert "layer59" in chart
        assert "layer19<" not in chart


class TestShowing:
    def test_printing_one_prints_its_table(self):
        shown = report()
        assert str(shown).split() == printed(shown.table()).split()
        assert printed(shown) == printed(shown.table())
        assert all(cell_len(line) <= 80 for line in str(shown).splitlines())

    def test_its_repr_is_one_line(self):
        many = report(*(layer(name=f"layer{n}") for n in range(200)))
        assert repr(many) == (
            "<Report: 20 k → 5 k parameters, 4 G → 1 G MACs, 30.0 → 12.0 ms (2.50×), error 0.0625>"
        )

    def test_a_notebook_shows_the_page_without_the_document_around_it(self):
        shown = report()
        assert shown._repr_html_() in shown.to_html()
        assert not {"html", "title", "meta"} & set(Text(shown._repr_html_()).tags)

    def test_a_compression_and_its_table_do_likewise(self):
        layers = {"a": LayerTable("a", [], {"key": [torch.zeros(100)]})}
        made = Compression(nn.Sequential(), report(), Table("0", layers=layers))
        assert (str(made), made._repr_html_()) == (str(report()), report()._repr_html_())
        assert repr(made) == f"<Compression of Sequential: {report()!r}>"
        assert repr(made.table) == "<Table of 1 layers, 0 candidates>"
        assert repr(made.table.layers["a"]) == "<LayerTable 'a': 0 candidates>"
