"""The report: every section, nothing from outside, no name that could break it, pictures that say what they show."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from dgnet.images import sheets
from dgnet.pixels import Pixels
from dgnet.report import charts
from dgnet.report import page as report
from dgnet.report.page import Grid, Interpolation, Report, Retrieval

TITLES = [
    "Results",
    "Appearance and structure",
    "Generation quality",
    "Reconstruction",
    "Interpolation",
    "Retrieval",
    "Cumulative match",
    "Losses and weights",
    "Configuration",
]
HOSTILE = '<script>alert("&")</script>'


def pictures(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(256, size=(*shape, 16, 8, 3), dtype=np.uint8)


def line(iteration: int) -> dict[str, object]:
    late = iteration > 5
    return {
        "iteration": iteration,
        "terms": {"image": 2 / iteration} | ({"cycle": 1.0} if late else {}),
        "weights": {"image": 5.0, "cycle": 0.5 if late else 0.0},
        "total": 10 / iteration + 0.5 * late,
        "discriminator": 1.0,
        "penalty": 0.01,
        "seconds": 0.1,
    }


@pytest.fixture
def full() -> Report:
    strips = Interpolation(pictures(2), pictures(2), pictures(2), pictures(2, 5))
    return Report(
        title="A run",
        config="train:\n  seed: 1\n",
        facts={"Preset": "tiny"},
        results={"Teacher": {"rank1": 0.5, "mAP_standard": 0.25}, "DG-Net": {"rank1": 0.75, "mAP_standard": 0.2}},
        quality={"DG-Net": {"PSNR": 21.04, "SSIM": 0.71}, "copy": {"PSNR": 15.0, "SSIM": 0.5}},
        swaps={"structure": pictures(3), "DG-Net": pictures(3)},
        grid=Grid(pictures(2, 3), pictures(3), pictures(2)),
        reconstructions={"photo": pictures(3), "cycle": pictures(3)},
        appearance=strips,
        structure=strips,
        retrieval=Retrieval(pictures(2), pictures(2, 4), np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool)),
        explained={"query": pictures(2), "first answer": pictures(2)},
        cmc={"DG-Net": [0.75, 0.8, 1.0], "Teacher": [0.5, 0.6, 0.9]},
        log=[line(iteration) for iteration in range(1, 11)],
        teacher_log=[
            {"iteration": 1, "epoch": 1, "total": 2.0, "accuracy": 0.1, "seconds": 0.1},
            {"iteration": 2, "epoch": 2, "total": 1.0, "accuracy": 0.5, "seconds": 0.1},
        ],
    )


class Page(HTMLParser):
    """What a browser would find: balanced tags, headings, attributes, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if "style" not in self.open:
            self.text += data


def drawings_of(html: str) -> Iterator[ElementTree.Element]:
    """The drawings of a page; fails where one is not well-formed."""
    return (ElementTree.fromstring(drawing) for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL))


def test_every_section_is_there_and_can_be_reached(full: Report) -> None:
    page = Page(report.render(full))
    assert page.headings == TITLES
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"] == [f"#{key}" for key in sections]
    assert "seed: 1" in page.text


def test_what_is_not_given_has_no_section() -> None:
    assert Page(report.render(Report("A run", "a: 1"))).headings == ["Configuration"]


def test_nothing_comes_from_outside(full: Report) -> None:
    html = report.render(full)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    references = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert all(value and value.startswith(("data:image/jpeg;base64,", "#")) for value in references)


def test_names_are_text_wherever_they_stand(full: Report) -> None:
    hostile = replace(
        full,
        title=HOSTILE,
        config=HOSTILE,
        facts={HOSTILE: HOSTILE},
        results={HOSTILE: {HOSTILE: 0.5}},
        quality={HOSTILE: {HOSTILE: 0.5}},
        swaps={HOSTILE: pictures(1)},
        reconstructions={HOSTILE: pictures(1)},
        cmc={HOSTILE: [0.5]},
        log=[{"iteration": 1, "terms": {HOSTILE: 1.0}, "weights": {HOSTILE: 1.0}}],
    )
    html = report.render(hostile)
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.headings == TITLES
    assert page.text.count(HOSTILE) >= 10
    assert sum(HOSTILE in drawing.get("aria-label", "") for drawing in drawings_of(html)) == 4


def test_every_figure_says_what_it_shows_and_every_drawing_is_sound(full: Report) -> None:
    drawings = list(drawings_of(report.render(full)))
    assert len(drawings) == 9
    for drawing in drawings:
        assert drawing.get("role") == "img"
        assert len(drawing.get("aria-label", "")) > 20
        assert b"nan" not in ElementTree.tostring(drawing)


def test_tables_show_per_cent_and_mark_the_best(full: Report) -> None:
    html = report.render(full)
    assert "<td>50.0</td><td><b>25.0</b></td>" in html
    assert "<td><b>75.0</b></td><td>20.0</td>" in html
    assert "<td><b>21.0</b></td><td><b>0.710</b></td>" in html
    assert ">rank-1<" in html
    assert ">mAP (standard)<" in html


def test_any_number_of_models_is_shown_with_intervals_and_verdicts(full: Report) -> None:
    models = {f"model {number}": {"rank1": number / 20} for number in range(12)}
    html = report.render(
        replace(
            full,
            results=models,
            intervals={"model 3": {"rank1": (0.1, 0.2)}},
            verdicts=["The control is as good.", HOSTILE],
            cmc={name: [0.5, 1.0] for name in models},
        )
    )
    assert all(html.count(f">{name}<") == 2 for name in models)  # in the table and beside its curve
    assert "15.0<small>10.0 – 20.0</small>" in html
    assert "<li>The control is as good.</li><li>&lt;script&gt;" in html
    assert "should lie above" not in html
    assert "does not say why" in html


def test_the_templates_are_in_the_package() -> None:
    there = {file.name for file in (resources.files("dgnet") / "report" / "templates").iterdir()}
    assert {"report.html", "report.css"} <= there


def test_a_table_of_one_row_has_no_best_and_an_unknown_value_a_dash(full: Report) -> None:
    assert "<b>" not in report.render(replace(full, results={"DG-Net": {"rank1": 0.5}}, quality={}))
    html = report.render(replace(full, results={"a": {"rank1": 0.5}, "b": {"mAP_standard": 0.25}}, quality={}))
    assert "<td><b>50.0</b></td><td>–</td>" in html


def test_answers_are_marked_by_colour_and_by_sign() -> None:
    drawing = sheets.retrieval_panel(pictures(1), pictures(1, 3), np.array([[True, False, True]]))
    right = re.findall(r'<g class="right">.*?<path d="(.*?)"', drawing)
    wrong = re.findall(r'<g class="wrong">.*?<path d="(.*?)"', drawing)
    assert (len(right), len(wrong)) == (2, 1)
    assert right[0] != wrong[0]
    assert "query 1: right at 1, 3" in drawing


def test_a_term_that_starts_late_is_drawn_from_there_on() -> None:
    drawing = charts.loss_curves([line(iteration) for iteration in range(1, 11)])
    image, cycle = (
        [
            [float(x) for x in re.findall(r"[ML](\d+\.\d) ", path)]
            for path in re.findall(r'class="line a" d="(.*?)"', part)
        ]
        for part in drawing.split("<g transform")[1:3]
    )
    assert len(image[0]) == 10
    assert len(cycle[0]) == 5
    assert cycle[0] == image[0][5:]
    assert "× 0 → 0.5" in drawing
    assert "× 5<" in drawing


def test_a_gap_in_a_curve_stays_a_gap() -> None:
    lines = [{"iteration": k, "terms": {"image": 1.0} if k != 4 else {}, "weights": {}} for k in range(1, 8)]
    assert charts.loss_curves(lines).count('class="line a"') == 2


def test_long_logs_are_thinned_to_means_between_their_extremes() -> None:
    time = np.arange(3000.0)
    middle, mean, lowest, highest = charts._thinned(time, time % 2)
    assert len(mean) == charts.POINTS
    assert middle[0] == 9.5  # of 0 to 19
    assert (mean == 0.5).all()
    assert (lowest == 0).all()
    assert (highest == 1).all()


@pytest.mark.parametrize(("value", "ceiling"), [(0.013, 0.015), (1, 1), (1.01, 1.5), (7, 8), (99, 100), (0, 1)])
def test_axes_end_at_round_numbers(value: float, ceiling: float) -> None:
    assert math.isclose(charts._nice(value), ceiling)


def test_negative_and_absent_losses_can_be_drawn() -> None:
    lines = [{"iteration": k, "terms": {"adversarial": -2.0 * k}, "weights": {}, "total": math.nan} for k in (1, 2, 3)]
    assert "-6<" in charts.loss_curves(lines)
    assert "nan" not in charts.loss_curves(lines)


def test_cmc_axis_starts_below_the_lowest_curve() -> None:
    drawing = charts.cmc_curve({"DG-Net": [0.75, 0.8], "Teacher": np.array([0.53, 0.6])})
    assert ">50%<" in drawing
    assert ">40%<" not in drawing
    assert "DG-Net 75.0% at the first place; Teacher 53.0%" in drawing


def test_a_perfect_curve_has_an_axis_too() -> None:
    assert ">90%<" in charts.cmc_curve({"DG-Net": [1.0, 1.0]})


def test_the_file_is_whole_or_not_there(full: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "report.html"
    report.write_report(path, full)
    before = path.read_text(encoding="utf-8")
    assert before == report.render(full)

    def broken(_: Report) -> str:
        raise RuntimeError

    monkeypatch.setattr(report, "render", broken)
    with pytest.raises(RuntimeError):
        report.write_report(path, full)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == before
