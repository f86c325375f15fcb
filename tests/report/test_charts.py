"""Curves of real logs: what both trainings write is what the report draws."""

from __future__ import annotations

import typing

import pytest
import torch

from dgnet import config as configuration
from dgnet.datasets.read import read_dataset
from dgnet.drawn.dataset import synthesize
from dgnet.logline import LogLine
from dgnet.report.charts import loss_curves
from dgnet.train.baseline import train_teacher
from dgnet.train.joint import train_joint
from dgnet.train.logs import read
from dgnet.train.schedule import loss_weights


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[LogLine], list[LogLine]]:
    """Of a small run of each training."""
    folder, device = tmp_path_factory.mktemp("runs"), torch.device("cpu")
    people = folder / "people"
    synthesize(people, identities=6, test_identities=2, images_per_camera=2, height=32, width=16)
    config, dataset = configuration.load("tiny"), read_dataset(people)
    teacher = train_teacher(config, dataset, folder / "teacher", device)
    assert teacher is not None
    assert train_joint(config, dataset, folder / "joint", [teacher], device) is not None
    return read(folder / "joint" / "log.jsonl"), read(folder / "teacher" / "log.jsonl")


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
