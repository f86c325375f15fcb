"""Curves of real logs: what both trainings write is what the report draws."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from dgnet import config as configuration
from dgnet.logline import LogLine
from dgnet.report.charts import LETTERS, _nice, loss_curves, run_curves
from dgnet.train.logs import read
from dgnet.train.schedule import loss_weights


@pytest.fixture
def logs(trained: Path) -> tuple[list[LogLine], list[LogLine]]:
    return read(trained / "joint" / "log.jsonl"), read(trained / "teacher" / "log.jsonl")


def test_every_line_is_of_the_shared_type(logs: tuple[list[LogLine], list[LogLine]]) -> None:
    known = typing.get_type_hints(LogLine)
    for lines in logs:
        assert lines
        for line in lines:
            assert LogLine.__required_keys__ <= line.keys() <= known.keys()


def test_every_quantity_of_both_logs_is_drawn(logs: tuple[list[LogLine], list[LogLine]]) -> None:
    svg = loss_curves(*logs)
    terms = [name.replace("_", " ") for name in logs[0][-1]["terms"]]
    assert len(terms) == len(set(terms)) >= 10
    for title in [*terms, "total", "discriminator", "penalty", "teacher: loss", "teacher: accuracy"]:
        assert f">{title}</tspan>" in svg, title
    assert loss_weights(configuration.load("tiny").loss, 6).keys() >= logs[0][-1]["terms"].keys()


def test_without_a_log_its_panels_are_not_there(logs: tuple[list[LogLine], list[LogLine]]) -> None:
    assert "teacher" not in loss_curves(logs[0])
    assert "teacher: loss" in loss_curves([], logs[1])
    assert "discriminator" not in loss_curves([], logs[1])


def test_runs_share_their_panels_a_line_each(logs: tuple[list[LogLine], list[LogLine]]) -> None:
    joint, teacher = logs
    svg = run_curves({"first": joint, "second": joint[1:], "its teacher": teacher})
    panels = svg.split("<g transform")[1:]
    assert [name in svg for name in (">first<", ">second<", ">its teacher<")] == [True] * 3
    for panel in panels:
        lines = ["c"] if "teacher: " in panel else ["a", "b"]
        assert [letter for letter in LETTERS if f'"line {letter}"' in panel] == lines
        assert "band" not in panel
        assert "nan" not in panel
    assert sum("teacher: " in panel for panel in panels) == 2


def test_more_runs_than_colours_are_all_drawn(logs: tuple[list[LogLine], list[LogLine]]) -> None:
    svg = run_curves({f"run {number}": logs[0] for number in range(11)})
    assert svg.split("<g transform")[1].count('class="line') == 11
    assert ">run 10<" in svg


def test_a_run_without_a_line_has_a_name_and_no_curve() -> None:
    svg = run_curves({"begun": []})
    assert ">begun<" in svg
    assert "<g transform" not in svg


@pytest.mark.parametrize("value", [1e-300, 1e-13, 2.4e-12, 0.07, 3.0])
def test_an_axis_reaches_its_values_however_small(value: float) -> None:
    log: list[LogLine] = [
        {"iteration": i, "terms": {"tiny": value}, "weights": {"tiny": 1.0}, "total": value} for i in range(1, 5)
    ]  # type: ignore[list-item, typeddict-item]
    drawing = loss_curves(log)
    assert "nan" not in drawing
    assert value * (1 - 1e-9) <= _nice(value) < 2 * value
