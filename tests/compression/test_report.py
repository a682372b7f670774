"""What a report shows: the table, the page, the charts; and that JSON keeps all of it."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tenfold.compression.reporting import Change, LayerReport, Point, Report

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
            *("features.3", "tucker", "16,", "8", "0.22×", "0.25×", "0.40×", "0.1250")
        ]
        totals = next(line for line in text.splitlines() if "network " in line)
        assert totals.split() == ["network", "0.25×", "0.25×", "0.40×", "0.0625"]
        assert "20 k → 5 k params" in text
        assert "score 0.9500 → 0.9400" in text
        assert "1 other layer stayed dense" in text
        assert "head" not in text

    def test_an_implementation_is_named_where_it_is_not_the_usual_one(self):
        text = printed(report(layer(), layer(), layer(implementation="mobilenet")).table())
        assert "Run by 'factorized'" in text
        assert "tucker mobilenet" in text

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


class TestPage:
    def test_it_has_all_numbers_of_a_layer_and_of_the_whole(self, tmp_path):
        path = tmp_path / "report.html"
        page = report(curve=CURVE).to_html(path)
        assert path.read_text(encoding="utf-8") == page
        words = " ".join(Text(page).words)
        for shown in (
            *("4.0× fewer MACs", "2.5×", "0.0625", "0.9400", "features.3", "tucker", "16, 8"),
            *("18.4 k → 4.1 k", "2 G → 500 M", "10.0 → 4.00", "0.5000", "0.1250", "0.0312"),
            *("factorized", "dense", "Conv2d 64×32×3×3", "torch 2.13.0", "Error against budget"),
        ):
            assert shown in words

    def test_it_loads_nothing(self):
        page = Text(report(curve=CURVE).to_html())
        assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
        links = {name for _, name, _ in page.attributes if name in ("src", "href")}
        assert links == set()
        inside = [v for _, name, v in page.attributes if name in ("xlink:href", "clip-path")]
        assert all(value.startswith(("#", "url(#")) for value in inside)
        assert "@import" not in report().to_html()

    @pytest.mark.parametrize("curve", [(), CURVE])
    def test_names_are_text_and_nothing_else(self, curve):
        name = "<script>alert(1)</script>"
        clean, found = (Text(report(layer(name=n), curve=curve).to_html()) for n in ("a", name))
        assert found.tags == clean.tags
        assert name in found.words
        nasty = Text(report(layer(name=NASTY)).to_html())
        assert nasty.words.count(NASTY) == 2  # in the chart and in the table

    def test_no_id_is_there_twice(self):
        ids = re.findall(r'\bid="([^"]+)"', report(curve=CURVE).to_html())
        repeated = {one for one in ids if ids.count(one) > 1}
        assert repeated == set()

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
