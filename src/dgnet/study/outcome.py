"""What came of a study: tables, JSON, CSV, and a page with the curves of its rows on the same charts."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from dgnet import __version__, console
from dgnet.config import to_dict
from dgnet.evaluate.compare import Difference, Together, difference, together
from dgnet.evaluate.results import Results, label
from dgnet.files import replacing, write_json
from dgnet.logline import LogLine
from dgnet.report.page import Report, write_report
from dgnet.study.plan import Run, Study
from dgnet.train.logs import read as read_log
from dgnet.train.run import flat

Seeds = Mapping[int, Results]
"""The evaluations of one row by seed."""


class Line(NamedTuple):
    """A row on a test: shares."""

    row: str
    seeds: Sequence[int]
    figures: Mapping[str, Together]
    """By the names of `Results.figures`."""
    change: Difference | None
    """In mAP, over the row that it is compared with: of the means over seeds, its interval over the queries; None of
    that row itself, and where the queries are not the same."""
    ahead: tuple[int, int] | None
    """Of how many seeds that both rows have this one is above the other, and how many these are."""


@dataclass(frozen=True)
class Outcome:
    """A study that is done."""

    study: Study
    results: Mapping[str, Mapping[str, Seeds]]
    """The first evaluation (of the first alpha) by test, row and seed."""

    def lines(self, test: str) -> list[Line]:
        """The table of a test, a line for each row."""
        return self._lines[test]

    @cached_property
    def _lines(self) -> Mapping[str, list[Line]]:
        """Of every test; their intervals are drawn once for all tables, files and the page."""
        against = self.study.against
        return {
            test: [_line(row, seeds, rows.get(against, {}) if row != against else {}) for row, seeds in rows.items()]
            for test, rows in self.results.items()
        }

    def tables(self) -> list[Table]:
        """A table for each test, in per cent: means and deviations over seeds, and the differences with intervals."""
        return [self._table(test) for test in self.results]

    def sentences(self) -> list[str]:
        """The differences in words."""
        found = [(test, line) for test in self.results for line in self.lines(test)]
        return [
            f"{line.row} over {self.study.against}, {test}: mAP {line.change.said} (95 %, paired over the queries)"
            + (f", above it in {line.ahead[0]} of {line.ahead[1]} seeds" if line.ahead else "")
            for test, line in found
            if line.change is not None
        ]

    def save(self) -> list[Path]:
        """Write `results.json`, `results.csv` and `report.html` into the study's folder; returns these files."""
        folder = self.study.folder
        files = [folder / "results.json", folder / "results.csv", folder / "report.html"]
        write_json(files[0], self.to_dict())
        with replacing(files[1]) as part, part.open("w", encoding="utf-8", newline="") as file:
            rows = [_cells(test, line) for test in self.results for line in self.lines(test)]
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
        write_report(files[2], self.report())
        return files

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values: shares between 0 and 1."""
        tests: dict[str, Any] = {}
        for test, rows in self.results.items():
            tests[test] = {
                line.row: {
                    "figures": {key: figure._asdict() for key, figure in line.figures.items()},
                    "seeds": {str(seed): result.figures() for seed, result in rows[line.row].items()},
                    "mAP_over_control": line.change and line.change._asdict(),
                    "seeds_ahead": line.ahead,
                }
                for line in self.lines(test)
            }
        runs = {run.folder.name: {"folder": str(run.folder), "command": run.command} for run in self.study.runs}
        return {"study": str(self.study.file), "against": self.study.against, "tests": tests, "runs": runs}

    def report(self) -> Report:
        """The page: figures, differences in words, and for every row the curves of its seeds taken together."""
        several = len(self.results) > 1
        figures = {
            f"{line.row}, {test}" if several else line.row: {key: each.mean for key, each in line.figures.items()}
            for test in self.results
            for line in self.lines(test)
        }
        made = {"study": str(self.study.file), "made": f"{date.today():%d %B %Y}, by dgnet {__version__}"}
        return Report(
            title=f"Study {self.study.file.stem}",
            facts={"rows": _in_words(self.study.rows)} | made,
            results=figures,
            verdicts=self.sentences(),
            run_logs={row: log for row, runs in self.study.rows.items() if (log := _together(runs))},
            settings=_settings(self.study.rows),
        )

    def _table(self, test: str) -> Table:
        lines = self.lines(test)
        shared = [key for key in lines[0].figures if all(key in line.figures for line in lines)]
        keys = [*[key for key in shared if key.startswith("rank")][:1], "mAP_standard"]
        rows = [
            [
                line.row,
                *(line.figures[key].said for key in keys),
                line.change.said if line.change else "",
                f"{line.ahead[0]}/{line.ahead[1]}" if line.ahead else "",
            ]
            for line in lines
        ]
        title = f"{test} test, %: mean ± deviation over seeds; change over {self.study.against}"
        heads = ["", *map(label, keys[:-1]), "mAP", "change of mAP, 95 %", "ahead"]
        made = console.table(title, heads, rows, plain=True)
        for column in made.columns[1:]:
            column.no_wrap = True  # on a narrow terminal, long names give way
        return made


def _line(row: str, seeds: Seeds, control: Seeds) -> Line:
    each = list(seeds.values())
    shared = [difference([control[seed]], [seeds[seed]], draws=1) for seed in seeds if seed in control]
    told = [one for one in shared if one is not None]
    return Line(
        row=row,
        seeds=list(seeds),
        figures={key: together(each, key) for key in each[0].figures()},
        change=difference(list(control.values()), each) if control else None,
        ahead=(sum(one.mean > 0 for one in told), len(told)) if told else None,
    )


def _cells(test: str, line: Line) -> dict[str, object]:
    """A line of the CSV file."""
    cells: dict[str, object] = {"test": test, "row": line.row, "seeds": len(line.seeds)}
    for key, figure in line.figures.items():
        cells |= {key: figure.mean, f"{key}_deviation": figure.deviation}
    low_high = dict(zip(("", "_low", "_high"), line.change or (None, None, None), strict=True))
    cells |= {f"mAP_over_control{end}": value for end, value in low_high.items()}
    return cells | {"seeds_ahead": line.ahead and line.ahead[0], "seeds_compared": line.ahead and line.ahead[1]}


def _together(runs: Sequence[Run]) -> list[LogLine]:
    """The lines of all seeds' logs by iteration: their curve is the mean over seeds."""
    lines = [line for run in runs for line in read_log(run.folder / "log.jsonl")]
    return sorted(lines, key=lambda line: line["iteration"])


def _in_words(rows: Mapping[str, Sequence[Run]]) -> str:
    return ", ".join(f"{row} (seeds {', '.join(str(run.seed) for run in runs)})" for row, runs in rows.items())


def _settings(rows: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, str]]:
    """In which the rows differ, seeds and paths of weights aside."""
    settings = {row: flat(to_dict(runs[0].config)) for row, runs in rows.items()}
    kinds = {row: ("teacher.", "data.") if runs[0].kind == "teacher" else ("model.", "loss.", "train.", "data.")
             for row, runs in rows.items()}  # fmt: skip
    keys = next(iter(settings.values()))
    table = {
        key: {row: str(values[key]) if key.startswith(kinds[row]) else "–" for row, values in settings.items()}
        for key in keys
        if not key.endswith((".seed", ".weights"))
    }
    return {key: row for key, row in table.items() if len(set(row.values()) - {"–"}) > 1}
