"""The function that is given every line of the log, and the recipe that shows it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dgnet import config
from dgnet.datasets.read import read_dataset
from dgnet.datasets.records import Dataset
from dgnet.drawn.dataset import synthesize
from dgnet.train import logs
from dgnet.train.baseline import train_baseline
from dgnet.train.joint import train_joint

CPU = torch.device("cpu")
RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"
FEW = ["train.iterations=3", "train.log_every=1", "loss.teacher=0"]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=6, test_identities=2, cameras=2, images_per_camera=2, height=32, width=16)
    return read_dataset(folder)


def test_every_line_of_both_trainings_is_given(people: Dataset, tmp_path: Path) -> None:
    chosen = config.load("tiny", [*FEW, "teacher.epochs=2"])
    for train, run in ((train_joint, tmp_path / "joint"), (train_baseline, tmp_path / "teacher")):
        given: list[Any] = []
        inputs: tuple[Any, ...] = ([], CPU) if train is train_joint else (CPU,)
        train(chosen, people, run, *inputs, on_line=given.append)  # type: ignore[operator]
        assert given == logs.read(run / "log.jsonl")
        assert len(given) >= 2


def test_a_tracker_that_fails_is_told_once_and_costs_no_training(
    people: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(line: logs.LogLine) -> None:
        raise ConnectionError(f"no route at {line['iteration']}")

    assert train_joint(config.load("tiny", FEW), people, tmp_path / "run", [], CPU, on_line=fail)
    said = capsys.readouterr().err
    assert said.count("warning: on_line: ConnectionError: no route at 1; the training goes on") == 1
    assert "no route at 2" not in said
    assert [line["iteration"] for line in logs.read(tmp_path / "run" / "log.jsonl")] == [1, 2, 3]


def test_the_recipe_works(people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[dict[str, float], int]] = []
    tracker = SimpleNamespace(init=lambda **_: None, log=lambda values, step: sent.append((values, step)))
    monkeypatch.setitem(sys.modules, "wandb", tracker)
    monkeypatch.chdir(tmp_path)
    used, begun = re.findall(r"^```python\n(.*?)^```$", RECIPES.read_text().split("## Send the log")[1], re.M | re.S)[
        :2
    ]
    run: dict[str, Any] = {}
    exec(begun.replace("/data/Market-1501", str(people.root)), run)
    run |= {"chosen": config.load("tiny", [*FEW, f"data.root={people.root}"]), "device": CPU}
    exec(used.replace("[teacher]", "[]"), run)
    assert [step for _, step in sent] == [1, 2, 3]
    assert all(isinstance(value, float | int) for values, _ in sent for value in values.values())
    assert sent[0][0]["terms/image"] > 0
