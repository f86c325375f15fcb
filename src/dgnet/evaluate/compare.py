"""Evaluations side by side: a row each, seeds of one run together, differences on the very same queries."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from dgnet import console
from dgnet.errors import UserError
from dgnet.evaluate.metrics import bootstrap
from dgnet.evaluate.results import Results, label, percent, plain

_SEED = re.compile(r"(?:(?:^|[-_. /])(?:seed|run|s)[-_. =]?|[-_])\d{1,4}(?=/|$)", re.IGNORECASE)


def names_of(paths: Sequence[Path]) -> list[str]:
    """What evaluations are called in a table: their run's folder, or their file where folders are alike."""
    stems = [path.stem for path in paths]
    folders = [path.absolute().parent.parts[1:] for path in paths]
    for depth in (1, 2):
        names = ["/".join(folder[-depth:]) for folder in folders]
        if len(set(names)) == len(paths):
            return names
        if depth == 1 and len(set(stems)) == len(paths):
            return stems
    both = [f"{folder[-1] if folder else ''}/{stem}" for folder, stem in zip(folders, stems, strict=True)]
    return [f"{name} ({number})" if both.count(name) > 1 else name for number, name in enumerate(both, 1)]


def compare(runs: Sequence[Results], names: Sequence[str] = (), *, draws: int = 1000, seed: int = 0) -> list[Table]:
    """Tables of several runs, a row each, in per cent: the figures, then seeds taken together, then what differs.

    mAP gets its interval; and, where a run shares its queries with the first (same labels, same divisor), the paired
    interval of its difference: one that excludes 0 is a difference that the choice of queries does not explain. Runs
    whose names differ in a number at the end (`joint-seed0`, `joint-seed1`) are seeds of one: their mean, the deviation
    between them, and the paired difference of their mean to that of the first group.

    Args:
        runs: at least two evaluations.
        names: one each; by default those that they have.

    Raises:
        UserError: fewer than two, or another number of names.
    """
    if len(runs) < 2:
        raise UserError("comparing needs at least two evaluations")
    if names and len(names) != len(runs):
        raise UserError(f"--names: {len(names)} given for {len(runs)} evaluations")
    called = list(names) or [run.name or f"run {number}" for number, run in enumerate(runs, 1)]
    keys = [key for key in runs[0].figures() if all(key in run.figures() for run in runs)]
    shown = [*[key for key in keys if key.startswith("rank")][:1], "mAP_standard"]
    rows = [_row(run, name, shown) for run, name in zip(runs, called, strict=True)]
    for row, run in zip(rows[1:], runs[1:], strict=True):
        row[-1] = _said([runs[0]], [run], draws, seed)
    heads = ["", *(label(key) for key in shown), "95 %", "mAP against the first"]
    tables = [console.table("side by side, %", heads, rows, plain=True)]
    groups: dict[str, list[Results]] = defaultdict(list)
    for run, name in zip(runs, called, strict=True):
        groups[_SEED.sub("", name) or "seeds"].append(run)
    if any(len(group) > 1 for group in groups.values()):
        first = next(iter(groups.values()))
        cells = [_group_row(name, group, first, shown, draws, seed) for name, group in groups.items()]
        tables.append(console.table("seeds together: mean ± deviation, %", [*heads[:-2], heads[-1]], cells, plain=True))
    if differing := _differing(runs, called):
        tables.append(differing)
    return tables


def _row(run: Results, name: str, keys: Sequence[str]) -> list[str]:
    low, high = run.intervals.get("mAP_standard", (np.nan, np.nan))
    interval = "" if np.isnan(low) else f"[{percent(low)}, {percent(high)}]"
    return [name, *(percent(run.figures()[key]) for key in keys), interval, ""]


def _group_row(
    name: str, group: Sequence[Results], first: Sequence[Results], keys: Sequence[str], draws: int, seed: int
) -> list[str]:
    change = "" if group is first else _said(first, group, draws, seed)
    return [f"{name} ({len(group)})", *(together(group, key).said for key in keys), change]


class Together(NamedTuple):
    """A figure of several seeds: shares."""

    mean: float
    deviation: float | None
    """Between the seeds; None of a single one."""

    @property
    def said(self) -> str:
        """In per cent: 45.20 ± 0.31."""
        return percent(self.mean) + ("" if self.deviation is None else f" ± {percent(self.deviation)}")


def together(seeds: Sequence[Results], key: str) -> Together:
    """A figure, one of `Results.figures`, over evaluations that differ in their seed."""
    values = [run.figures()[key] for run in seeds]
    return Together(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


class Difference(NamedTuple):
    """Between two groups of evaluations, in mean average precision (shares), with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def said(self) -> str:
        """In points of per cent: +0.82 [-0.70, +2.32]."""
        return f"{100 * self.mean:+.2f} [{100 * self.low:+.2f}, {100 * self.high:+.2f}]"


def difference(
    first: Sequence[Results], other: Sequence[Results], *, draws: int = 1000, seed: int = 0
) -> Difference | None:
    """By how much the mean mAP (standard) of `other` is above that of `first`, with its paired bootstrap interval.

    Queries are drawn with replacement, the same for all; None where the evaluations have not the same queries.
    """
    every = [*first, *other]
    labels = {run.provenance.get("labels") for run in every}
    if None in labels or len(labels) > 1 or len({run.divisor for run in every}) > 1:
        return None
    if not all(np.array_equal(run.first_hit > 0, every[0].first_hit > 0) for run in every):
        return None
    after, before = (np.mean([run.per_query()["mAP_standard"] for run in runs], axis=0) for runs in (other, first))
    low, high = bootstrap({"change": after - before}, draws=draws, seed=seed)["change"]
    return Difference(float((after - before).mean()), low, high)


def _said(first: Sequence[Results], other: Sequence[Results], draws: int, seed: int) -> str:
    change = difference(first, other, draws=draws, seed=seed)
    return change.said if change else ""


def _differing(runs: Sequence[Results], names: Sequence[str]) -> Table | None:
    """A row for each option in which the runs differ."""
    options = [
        run.protocol
        | {
            "divisor": run.divisor,
            "gallery": run.gallery,
            "queries with an answer": f"{run.valid_queries}/{run.queries}",
        }
        for run in runs
    ]
    keys = dict.fromkeys(key for option in options for key in option)
    values = {key: [plain(option.get(key, "-")) for option in options] for key in keys}
    differing = [key for key, said in values.items() if len(set(said)) > 1]
    if not differing:
        return None
    rows = [[name, *(values[key][place] for key in differing)] for place, name in enumerate(names)]
    return console.table("evaluated differently", ["", *differing], rows, plain=True)
