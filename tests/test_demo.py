"""The demo at its smallest: every stage once, stopped in between, the report whole."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command import code_of

from dgnet import demo as stages
from dgnet.evaluate.results import load_results
from dgnet.train import logs
from dgnet.train.step import JointStep

SMALLEST = (
    "data.height=32", "data.width=16", "model.appearance.backbone_width=8", "teacher.backbone_width=8",
    "train.iterations=4", "train.half_batch=2", "train.checkpoint_every=1", "train.log_every=1", "teacher.epochs=1",
    "teacher.batch=8", "loss.warm_up={start: 1, per_iteration: 1}", "loss.teacher_warm_up={start: 1, per_iteration: 1}",
    "--identities", "6", "--test-identities", "3",
)  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    """Every file below `folder` with a hash; the report without the line that says when and how fast it was made."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            data = re.sub(rb"<dt>made</dt><dd>[^<]*</dd>", b"", path.read_bytes())
            found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def test_stopped_continued_and_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    step = JointStep.__call__

    def stopped(self: JointStep, *batch: Any) -> Any:
        if batch[-1] == 3:
            raise KeyboardInterrupt
        return step(self, *batch)

    monkeypatch.setattr(JointStep, "__call__", stopped)
    assert code_of("demo", folder, *SMALLEST) == 130
    monkeypatch.undo()
    assert (folder / "teacher" / "teacher.safetensors").exists()
    assert not (folder / "report.html").exists()

    # What is left of a stopped stage can be continued on its own, too: it knows its data and its teacher.
    assert code_of("train", "joint", folder / "joint", "--resume") == 0
    assert [line["iteration"] for line in logs.read(folder / "joint" / "log.jsonl")] == [1, 2, 3, 4]
    terms = logs.read(folder / "joint" / "log.jsonl")[-1]["terms"]
    assert sorted(terms) == [
        "adversarial", "appearance_code", "cycle", "fine_grained", "fine_identity", "generated_identity", "identity",
        "image", "positive_identity", "primary", "same_identity", "structure_code",
    ]  # fmt: skip

    capsys.readouterr()
    assert code_of("demo", folder, *SMALLEST) == 0
    screen = capsys.readouterr().out
    report = (folder / "report.html").read_text()
    for words in ("teacher", "DG-Net, alpha 0.5", "copy of the structure image", "per-channel colour transfer", "PSNR"):
        assert words in screen
        assert words in report
    assert screen.endswith(f"report: {folder / 'report.html'}\n")
    assert re.findall(r'<section id="([\w-]+)"', report) == [
        "results", "appearance-and-structure", "generation-quality", "reconstruction", "interpolation", "retrieval",
        "cumulative-match", "losses-and-weights", "configuration",
    ]  # fmt: skip
    assert not re.search(r"(src|href)=.?(https?:)?//", report)  # it opens offline
    assert "iterations: 4" in report

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a finished stage was done again")

    before = contents(folder)
    monkeypatch.setattr(stages, "train_baseline", refused)
    monkeypatch.setattr(stages, "train_joint", refused)
    assert code_of("demo", folder, *SMALLEST) == 0
    assert contents(folder) == before


def test_a_control_says_what_generated_images_are_worth(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(finished, folder)
    assert "Whether generated images helped, these figures cannot say" in (folder / "report.html").read_text()
    capsys.readouterr()
    assert code_of("demo", folder, *SMALLEST, "--control") == 0
    lines = logs.read(folder / "control" / "log.jsonl")
    assert len(lines) == 4
    assert not any(line["weights"].get(name) for line in lines for name in ("primary", "fine_grained"))
    control, ours = (load_results(folder / f"evaluation-{name}.json") for name in ("control-alpha0", "DG-Net-alpha0.5"))
    change = 100 * (ours.mAP_standard - control.mAP_standard)
    for told in (capsys.readouterr().out, (folder / "report.html").read_text()):
        assert f"without learning from generated images: mAP {change:+.2f} [" in " ".join(told.split())


@pytest.mark.parametrize(
    ("difference", "says"), [(0.1, "generated images helped"), (-0.1, "did harm"), (0.0, "could not undo")]
)
def test_the_verdict_is_that_of_the_interval(difference: float, says: str) -> None:
    chance = np.random.default_rng(0).normal(0, 0.1, 200)
    ours, control = (
        SimpleNamespace(
            provenance={"labels": "x"},
            divisor="all",
            first_hit=np.ones(200),
            per_query=lambda mean=mean: {"mAP_standard": mean},
        )
        for mean in (0.5 + difference + chance - chance.mean(), np.full(200, 0.5))
    )
    assert says in stages.verdict(ours, control)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("train.iterations=5", "joint: was trained with train.iterations = 4, not 5"),
        ("loss.image=3", "joint: was trained with loss.image = 5.0, not 3.0"),
        ("teacher.epochs=2", "teacher: was trained with teacher.epochs = 1, not 2"),
        ("data.flip=0", "teacher: was trained with data.flip = 0.5, not 0.0"),
        ("data.height=64", "people: is not empty and not this data set, but one drawn with height = 32, not 64"),
    ],
)
def test_a_finished_demo_is_not_reported_under_other_settings(
    finished: Path, change: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    assert code_of("demo", finished, *SMALLEST, change) == 2
    assert says in capsys.readouterr().err
    assert contents(finished) == before


def test_other_people_are_told_by_number(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("demo", finished, *SMALLEST[:-3], "7", *SMALLEST[-2:]) == 2
    assert "drawn with identities = 6, not 7" in capsys.readouterr().err


def test_stages_of_other_people_are_not_taken_for_these(finished: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "people")
    assert code_of("demo", folder, *SMALLEST[:-3], "9", *SMALLEST[-2:]) == 2
    assert "trained on other people than those in" in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "demo"
    assert code_of("demo", folder, *SMALLEST) == 0
    return folder
