"""The report of a run's folder in every state that it can be in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import dgnet
from dgnet.cli import main
from dgnet.errors import UserError
from dgnet.evaluate.results import save_all
from dgnet.run_report import write_run_report


def headings(page: Path) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page.read_text(encoding="utf-8"))


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; the data stay where they were."""
    for name in ("joint", "teacher"):
        shutil.copytree(trained / name, tmp_path / name)
    return tmp_path


def shown(runs: Sequence[Path] | Path, out: Path | None = None) -> tuple[list[str], str]:
    page = write_run_report(runs, out, device="cpu")
    return headings(page), page.read_text(encoding="utf-8")


PICTURES = ["Appearance and structure", "Reconstruction", "Interpolation", "Retrieval"]


def test_a_finished_run_shows_pictures_curves_and_its_evaluations(runs: Path) -> None:
    save_all(dgnet.load(runs / "joint", device="cpu").evaluate(name="ours"), runs / "joint" / "evaluation.json")
    found, html = shown(runs / "joint")
    assert found == ["Results", *PICTURES, "Cumulative match", "Losses and weights", "Configuration"]
    assert "<dd>finished</dd>" in html
    assert ">ours, alpha 0.5<" in html
    assert "<small>" in html
    assert "People whom training never saw." in html


def test_a_teacher_shows_its_loss_and_what_it_finds(runs: Path) -> None:
    found, html = shown(runs / "teacher")
    assert found == ["Retrieval", "Losses and weights", "Configuration"]
    assert "what speaks in it" in html
    assert ">teacher: loss<" in html
    assert "DG-Net (joint" not in html


def test_a_run_in_training_is_shown_from_its_newest_checkpoint(runs: Path) -> None:
    (runs / "joint" / "model.safetensors").unlink()
    log = runs / "joint" / "log.jsonl"
    log.write_text(log.read_text() + '{"iteration": 7, "tot')  # what a writer has half written
    found, html = shown(runs / "joint")
    assert found == [*PICTURES, "Losses and weights", "Configuration"]
    assert re.search(r"<dd>iteration \d+ of \d+; last line written now</dd>", html)
    assert "still in training" in html


def test_before_the_first_checkpoint_there_are_curves_and_a_reason(runs: Path) -> None:
    for name, file in (("joint", "model"), ("teacher", "teacher")):
        (runs / name / f"{file}.safetensors").unlink()
        shutil.rmtree(runs / name / "checkpoints")
        found, html = shown(runs / name)
        assert found == ["Losses and weights", "Configuration"]
        assert "none: no checkpoint is written yet" in html
    assert "<dd>epoch " in html


def test_before_the_first_line_there_is_the_configuration(runs: Path) -> None:
    shutil.rmtree(runs / "joint" / "checkpoints")
    (runs / "joint" / "model.safetensors").unlink()
    (runs / "joint" / "log.jsonl").unlink()
    found, html = shown(runs / "joint")
    assert found == ["Configuration"]
    assert "no line of the log yet" in html


def test_data_that_have_gone_leave_curves_and_a_reason(runs: Path, trained: Path) -> None:
    config = runs / "joint" / "config.yaml"
    (runs / "joint" / "model.safetensors").unlink()
    config.write_text(config.read_text().replace(str(trained / "people"), "/gone/people"))
    found, html = shown(runs / "joint")
    assert found == ["Losses and weights", "Configuration"]
    assert "none: data folder /gone/people, where the run was trained, does not exist" in html


def test_a_damaged_evaluation_is_named_and_passed_over(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "joint" / "evaluation.json").write_text('{"format": 1')
    found, _ = shown(runs / "joint")
    assert "Results" not in found
    assert "evaluation.json: not the JSON of an evaluation" in capsys.readouterr().err


def test_a_damaged_log_is_named(runs: Path) -> None:
    log = runs / "joint" / "log.jsonl"
    log.write_text("no JSON\n" + log.read_text())
    with pytest.raises(UserError, match=r"log.jsonl, line 1: not JSON"):
        write_run_report(runs / "joint", device="cpu")
    assert not (runs / "joint" / "report.html").exists()


def test_several_runs_stand_side_by_side(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "joint", runs / "again")
    config = runs / "again" / "config.yaml"
    config.write_text(config.read_text().replace("half_batch: ", "half_batch: 1", 1))
    for name in ("joint", "again"):
        save_all(dgnet.load(runs / name, device="cpu").evaluate(name="ours"), runs / name / "evaluation.json")
    found, html = shown([runs / "joint", runs / "again", runs / "teacher"], tmp_path / "all.html")
    assert found == ["Results", "Cumulative match", "Losses", "Settings"]
    assert ">joint ours, alpha 0.5<" in html
    assert ">again ours, alpha 0.5<" in html
    assert '<th scope="row">train.half_batch</th>' in html
    assert ">teacher: loss<" in html


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (".", r"no run \(no config.yaml\); in it are .*joint, .*teacher"),
        ("nothing", "no such folder; the folder of a run is needed"),
        ("joint/config.yaml", "a file; the folder of a run is needed"),
        ("joint/checkpoints", r"no run \(no config.yaml\)$"),
    ],
)
def test_what_is_no_run_is_one_line(runs: Path, folder: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        write_run_report(runs / folder, device="cpu")


def test_the_command_says_where_the_page_is(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["report", str(runs / "joint"), "--out", str(runs / "page.html")])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"written: {runs / 'page.html'}\n"
    assert "https:" not in (runs / "page.html").read_text()


def test_reporting_leaves_the_run_as_it_was(runs: Path) -> None:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in runs.rglob("*") if path.is_file() and path.suffix != ".html"}

    before = files()
    write_run_report(runs / "joint", device=torch.device("cpu"))
    assert files() == before
    assert json.loads((runs / "joint" / "log.jsonl").read_text().splitlines()[0])["iteration"] == 1
