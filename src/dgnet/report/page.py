"""What a run came to, as one HTML file that opens anywhere, offline: tables, pictures, curves and the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined

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
    config: str = ""
    """The resolved configuration, YAML."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """For the head of the page: preset, data, date, duration, weights ..."""
    results: Figures = field(default_factory=dict)
    """Shares between 0 and 1 by model, any number of them, such as `Results.figures()`: rank1, ..., mAP_standard."""
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """Of `results`, lowest and highest, where they are known."""
    verdicts: Sequence[str] = ()
    """Sentences on what `results` show and what they do not."""
    people: str = "People whom training never saw."
    """Whose photos the generated pictures are made of: a sentence."""
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
    searched: str = "the gallery"
    """What the answers of `retrieval` were looked for in."""
    explained: Mapping[str, Pixels] = field(default_factory=dict)
    """Rows [Q, H, W, 3] by name: queries and first answers, with what their likeness comes from painted over them."""
    cmc: Mapping[str, Sequence[float] | npt.NDArray[np.float64]] = field(default_factory=dict)
    """Curves [G] by model."""
    log: Sequence[LogLine] = ()
    """Lines of the log of joint training."""
    teacher_log: Sequence[LogLine] = ()
    """Lines of the teacher's log."""
    run_logs: Mapping[str, Sequence[LogLine]] = field(default_factory=dict)
    """Instead of both: lines of the logs of several runs by name, drawn on the same charts."""
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """In which several runs differ: values by key, by run."""


def write_report(path: Path, report: Report) -> None:
    """Write the report to one HTML file, all or nothing. It refers to nothing outside itself."""
    with replacing(path) as part:
        part.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The report as HTML."""
    return _pages().get_template("report.html").render(report=report)


@cache
def _pages() -> Environment:
    """The templates beside this file, with what they call."""
    loader = PackageLoader("dgnet.report")
    pages = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.do"],
        keep_trailing_newline=True,
    )
    pages.globals |= {"sheets": sheets, "charts": charts, "per_cent": _per_cent, "plain": _plain, "str": str}
    pages.globals["style"] = loader.get_source(pages, "report.css")[0]
    pages.filters |= {"columns": _columns, "best": _best, "heading": _heading, "key": _key}
    return pages


def _columns(rows: Figures) -> list[str]:
    return list(dict.fromkeys(column for row in rows.values() for column in row))


def _best(rows: Figures, column: str) -> float:
    """The highest value of a column."""
    return max(row[column] for row in rows.values() if column in row)


def _per_cent(share: float) -> str:
    return f"{100 * share:.1f}"


def _plain(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 2 else f"{value:.3f}"


def _key(title: str) -> str:
    return title.lower().replace(" ", "-")


def _heading(column: str) -> str:
    """rank1 -> rank-1, mAP_standard -> mAP (standard)"""
    return re.sub(r"^(mAP)_(\w+)$", r"\1 (\2)", re.sub(r"^rank(\d+)$", r"rank-\1", column))
