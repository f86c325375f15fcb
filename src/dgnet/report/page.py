"""What a run came to, as one HTML file that opens anywhere, offline: tables, pictures, curves and the configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dgnet.files import replacing
from dgnet.images import sheets
from dgnet.logline import LogLine
from dgnet.pixels import Pixels
from dgnet.report import charts

Figures = Mapping[str, Mapping[str, float]]
"""Rows of a table by name, each with its values by the names of the columns."""


class Grid(NamedTuple):
    """Everyone in everyone's clothes, with the photos that structures and appearances come from."""

    cells: Pixels  # [A, S, H, W, 3]
    structures: Pixels  # [S, H, W, 3]
    appearances: Pixels  # [A, H, W, 3]


class Interpolation(NamedTuple):
    """Generated pictures between the codes of two photos, the other code fixed."""

    fixed: Pixels  # [N, H, W, 3]
    start: Pixels  # [N, H, W, 3]
    end: Pixels  # [N, H, W, 3]
    strips: Pixels  # [N, K, H, W, 3]


class Retrieval(NamedTuple):
    """Queries with their first K answers."""

    queries: Pixels  # [Q, H, W, 3]
    ranked: Pixels  # [Q, K, H, W, 3]
    correct: npt.NDArray[np.bool_]  # [Q, K]


@dataclass(frozen=True)
class Report:
    """Everything that a report shows; what is left empty has no section."""

    title: str
    config: str
    """The resolved configuration, YAML."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """For the head of the page: preset, data, date, duration, weights ..."""
    results: Figures = field(default_factory=dict)
    """Shares between 0 and 1 by model, such as `Results.figures()`: rank1, ..., mAP_standard, mAP_trapezoid."""
    quality: Figures = field(default_factory=dict)
    """PSNR and SSIM against the ground truth by method; higher is better."""
    swaps: Mapping[str, Pixels] = field(default_factory=dict)
    """Examples for `quality`, rows [N, H, W, 3] by name."""
    grid: Grid | None = None
    reconstructions: Mapping[str, Pixels] = field(default_factory=dict)
    """Rows [N, H, W, 3] by name: the photo, then what was generated to equal it."""
    appearance: Interpolation | None = None
    structure: Interpolation | None = None
    retrieval: Retrieval | None = None
    cmc: Mapping[str, Sequence[float] | npt.NDArray[np.float64]] = field(default_factory=dict)
    """Curves [G] by model."""
    log: Sequence[LogLine] = ()
    """Lines of the log of joint training."""
    teacher_log: Sequence[LogLine] = ()
    """Lines of the teacher's log."""


class _Section(NamedTuple):
    title: str
    guide: str
    """What one sees and how to judge it."""
    body: str

    @property
    def key(self) -> str:
        return self.title.lower().replace(" ", "-")


def write_report(path: Path, report: Report) -> None:
    """Write the report to one HTML file, all or nothing. It refers to nothing outside itself."""
    with replacing(path) as part:
        part.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The report as HTML."""
    sections = list(_sections(report))
    contents = "".join(f'<a href="#{section.key}">{section.title}</a> ' for section in sections)
    facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in report.facts.items())
    body = "".join(
        f'<section id="{section.key}"><h2>{section.title}</h2><p>{section.guide}</p>{section.body}</section>'
        for section in sections
    )
    style = (resources.files("dgnet") / "report" / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(report.title)}</title><style>{style}</style>'
        f"</head><body><main><header><h1>{escape(report.title)}</h1><dl>{facts}</dl><nav>{contents}</nav></header>"
        f"{body}</main></body></html>\n"
    )


def _sections(report: Report) -> Iterator[_Section]:
    if report.results:
        yield _Section(
            "Results",
            "How often the right person is among the first k answers (rank-k), and how early all photos of that person "
            "come (mean average precision: “standard” as in most toolkits, “trapezoid” as in the published code). In "
            "per cent, higher is better: DG-Net should lie above the teacher that it learnt from.",
            _table(report.results, lambda share: f"{100 * share:.1f}"),
        )
    if report.grid is not None:
        yield _Section(
            "Appearance and structure",
            "People whom training never saw. A row wears the clothes of the photo on its left, a column has the pose "
            "and the background of the photo above it: clothes should stay along a row, poses down a column.",
            _figure(
                sheets.grid_figure(report.grid.cells, report.grid.structures, report.grid.appearances),
                "Photos on the margin, generated people inside.",
            ),
        )
    if report.quality:
        examples = _figure(sheets.rows_figure(report.swaps), "Some of these swaps.") if report.swaps else ""
        yield _Section(
            "Generation quality",
            "Synthetic people can be drawn in anyone’s clothes, so every swap has a true picture. PSNR in dB and SSIM "
            "against it, means over pairs of people, higher is better: a swap is worth something where it beats the "
            "structure image left as it is, and that image with its colours moved to those of the other photo.",
            _table(report.quality, lambda value: f"{value:.1f}" if abs(value) >= 2 else f"{value:.3f}") + examples,
        )
    if report.reconstructions:
        yield _Section(
            "Reconstruction",
            "Every column is one photo, with what must equal it below: the closer, the less the two codes have lost.",
            _figure(sheets.rows_figure(report.reconstructions), "The photo is in the first row."),
        )
    if report.appearance is not None or report.structure is not None:
        yield _Section(
            "Interpolation",
            "Codes between those of two photos. Each step should be a plausible person, the change even, and whatever "
            "belongs to the other code should stay still.",
            _strips(report.appearance, "structure", "Appearance changes, structure stays: someone is dressed anew.")
            + _strips(report.structure, "appearance", "Structure changes, appearance stays: the same clothes move."),
        )
    if report.retrieval is not None:
        yield _Section(
            "Retrieval",
            "Queries with their first answers from the gallery: a tick on green is the right person, a cross on red a "
            "wrong one. Ticks should come first, and those wrongly found should at least look alike.",
            _figure(
                sheets.retrieval_panel(*report.retrieval),
                "The person’s photos by the query’s own camera are left out.",
            ),
        )
    if report.cmc:
        yield _Section(
            "Cumulative match",
            "The share of queries whose person is among the first k answers: a good curve starts high and flattens.",
            _figure(charts.cmc_curve(report.cmc)),
        )
    if report.log or report.teacher_log:
        yield _Section(
            "Losses and weights",
            "The objective is the sum of these terms times their weights. Lines are means over stretches of iterations "
            "and bands their extremes; the shaded area and the factor above it are the weight. Reconstruction should "
            "fall and flatten; the adversarial term and the discriminator should hold each other in balance.",
            _figure(
                charts.loss_curves(report.log, report.teacher_log),
                "Iterations run to the right; for the teacher, epochs.",
            ),
        )
    yield _Section(
        "Configuration",
        "Every setting of this run, defaults included. Saved as a file, it repeats the run.",
        f"<details><summary>Show the YAML</summary><pre>{escape(report.config)}</pre></details>",
    )


def _strips(strips: Interpolation | None, kept: str, caption: str) -> str:
    return "" if strips is None else _figure(sheets.interpolation_figure(*strips, kept), caption)


def _figure(svg: str, caption: str = "") -> str:
    return f"<figure><div>{svg}</div>{caption and f'<figcaption>{escape(caption)}</figcaption>'}</figure>"


def _table(rows: Figures, written: Callable[[float], str]) -> str:
    """A table whose best (highest) value of each column stands out."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    best = {column: max(row[column] for row in rows.values() if column in row) for column in columns}

    def cell(row: Mapping[str, float], column: str) -> str:
        if column not in row:
            return "<td>–</td>"
        value = escape(written(row[column]))
        return f"<td><b>{value}</b></td>" if len(rows) > 1 and row[column] == best[column] else f"<td>{value}</td>"

    head = "".join(f'<th scope="col">{escape(_heading(column))}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(cell(row, column) for column in columns)}</tr>'
        for name, row in rows.items()
    )
    return f"<div><table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _heading(column: str) -> str:
    """rank1 -> rank-1, mAP_standard -> mAP (standard)"""
    return re.sub(r"^(mAP)_(\w+)$", r"\1 (\2)", re.sub(r"^rank(\d+)$", r"rank-\1", column))
