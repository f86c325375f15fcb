"""Studies: trained, stopped, continued, kept, refused; their figures are those of their evaluations."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Refused, Run, code_of

from dgnet.drawn.dataset import synthesize
from dgnet.evaluate.compare import difference
from dgnet.evaluate.results import load_all
from dgnet.study import run as work
from dgnet.study.plan import read_study
from dgnet.train import logs
from dgnet.train.step import JointStep

TABLE = """
config: tiny
data: people
seeds: [0, 1]
rows:
  base: {train: baseline}
  longer: {train: baseline, start: base, set: teacher.epochs=3}
  DG-Net: {teacher: base}
  control: {teacher: base, set: {loss.teacher: 0, evaluate: {alphas: [0]}}}
against: control
tests: {elsewhere: others}
"""


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "report.html"  # which says when it was made
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two data sets and the study of TABLE, done."""
    folder = tmp_path_factory.mktemp("study")
    for seed, name in enumerate(("people", "others")):
        synthesize(
            folder / name, identities=8, test_identities=4, images_per_camera=2, distractors=0, junk=0, height=32,
            width=16, seed=seed,
        )  # fmt: skip
    (folder / "small.yaml").write_text(TABLE)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        assert code_of("study", "small.yaml") == 0
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is that of the finished study, which a test leaves as it was."""
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, without what is trained, to be changed."""
    for name in ("people", "others"):
        (tmp_path / name).symlink_to(made / name)
    (tmp_path / "small.yaml").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_row_is_trained_with_every_seed(here: Path) -> None:
    runs = sorted(path.parent.name for path in here.glob("small/*/config.yaml"))
    assert runs == sorted(f"{row}-seed{seed}" for row in ("base", "longer", "DG-Net", "control") for seed in (0, 1))
    config = (here / "small" / "longer-seed1" / "config.yaml").read_text()
    assert f"weights: {here / 'small' / 'base-seed1' / 'teacher.safetensors'}" in config
    config = (here / "small" / "DG-Net-seed1" / "config.yaml").read_text()
    assert f"teachers:\n  - {here / 'small' / 'base-seed1' / 'teacher.safetensors'}" in config
    first, second = ((here / "small" / f"base-seed{n}" / "teacher.safetensors").read_bytes() for n in (0, 1))
    assert first != second


def test_figures_are_those_of_the_evaluations(here: Path) -> None:
    found = json.loads((here / "small" / "results.json").read_text())
    assert found["against"] == "control"
    for test in ("own", "elsewhere"):
        seeds = {
            row: [load_all(here / "small" / f"{row}-seed{n}" / f"study-{test}.json")[0] for n in (0, 1)]
            for row in ("base", "longer", "DG-Net", "control")
        }
        for row, (a, b) in seeds.items():
            line = found["tests"][test][row]
            one, two = a.mAP_standard, b.mAP_standard
            assert line["figures"]["mAP_standard"]["mean"] == pytest.approx((one + two) / 2)
            assert line["figures"]["mAP_standard"]["deviation"] == pytest.approx(abs(one - two) / np.sqrt(2))
            assert line["seeds"] == {"0": a.figures(), "1": b.figures()}
            if row == "control":
                assert line["mAP_over_control"] is None
                continue
            change = difference(seeds["control"], [a, b])
            assert change is not None
            assert line["mAP_over_control"] == change._asdict()
            ahead = sum(x.mAP_standard > c.mAP_standard for x, c in zip((a, b), seeds["control"], strict=True))
            assert line["seeds_ahead"] == [ahead, 2]
    with (here / "small" / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(line["test"], line["row"]) for line in table[:2]] == [("own", "base"), ("own", "longer")]
    for line in table:
        told = found["tests"][line["test"]][line["row"]]
        assert float(line["rank1"]) == told["figures"]["rank1"]["mean"]
        assert line["mAP_over_control_low"] == str((told["mAP_over_control"] or {"low": ""})["low"])


def test_a_study_that_is_done_is_only_told_again(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    for name in ("train_baseline", "train_joint", "evaluate_network"):
        monkeypatch.setattr(work, name, never)
    before = contents(here)
    said = run("study", "small.yaml")
    assert said.code == 0
    assert contents(here) == before
    assert "change over control" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert re.search(r"DG-Net +\d+\.\d\d ± \d+\.\d\d +\d+\.\d\d ± \d+\.\d\d +[+-]\d+\.\d\d \[", said.out)
    page = (here / "small" / "report.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Results", "Losses", "Settings"]
    for title in ("identity", "teacher: loss", "teacher: accuracy"):
        assert page.count(f">{title}<") == 1  # one chart for all rows
    assert "DG-Net over control, own: mAP" in page
    assert "loss.teacher" in page


def test_a_study_killed_at_any_time_ends_as_if_it_had_not_been(
    copy: Path, made: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, evaluated = JointStep.__call__, work.evaluate_network

    def stopped(self: JointStep, *batch: Any) -> Any:
        if batch[-1] == 5:
            raise KeyboardInterrupt
        return step(self, *batch)

    def killed(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "evaluate_network", killed)
    assert run("study", "small.yaml").code == 130  # trained, not evaluated
    monkeypatch.setattr(work, "evaluate_network", evaluated)
    monkeypatch.setattr(JointStep, "__call__", stopped)
    assert run("study", "small.yaml").code == 130  # in the middle of the first joint training
    assert not (copy / "small" / "DG-Net-seed0" / "model.safetensors").exists()
    monkeypatch.setattr(JointStep, "__call__", step)
    said = run("study", "small.yaml")
    assert said.code == 0
    assert "going on after iteration 4 of 6" in said.err
    assert [line["iteration"] for line in logs.read(copy / "small" / "DG-Net-seed0" / "log.jsonl")] == list(range(1, 7))
    ours, theirs = (json.loads((place / "small" / "results.json").read_text())["tests"] for place in (copy, made))
    assert ours == theirs


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("teacher.epochs=3", "teacher.epochs=4",
         "row longer, seed 0: small/longer-seed0: was trained with teacher.epochs = 3, not 4"),
        ("loss.teacher: 0", "loss.teacher: 1",
         "row control, seed 0: small/control-seed0: was trained with loss.teacher = 0.0, not 1.0"),
        ("config: tiny", "config: tiny\nset: data.flip=0",
         "row base, seed 0: small/base-seed0: was trained with data.flip = 0.5, not 0.0"),
        ("DG-Net: {teacher: base}", "DG-Net: {teacher: longer}",
         "row DG-Net, seed 0: small/DG-Net-seed0: began with another teacher than"),
        ("DG-Net: {teacher: base}", "DG-Net: {set: loss.teacher=0}",
         "row DG-Net, seed 0: small/DG-Net-seed0: was trained with loss.teacher = 2.0, not 0.0"),
        ("control: {teacher: base, set", "control: {set",
         "row control, seed 0: small/control-seed0: began with another teacher than its row names now (none)"),
        ("start: base, ", "", "row longer, seed 0: small/longer-seed0: was trained with teacher.weights = /"),
        ("base: {train: baseline}", "base: {train: baseline, start: small/longer-seed0}",
         "row base, seed 0: small/base-seed0: was trained with teacher.weights = scratch, not /"),
        ("base: {train: baseline}\n  longer: {train: baseline, start: base, set: teacher.epochs=3}",
         "base: {train: baseline}\n  longer: {teacher: base}",
         "row longer, seed 0: small/longer-seed0/teacher.safetensors: of another training than this row's"),
    ],
)  # fmt: skip
def test_a_finished_run_is_not_told_under_other_settings(
    here: Path, refused: Refused, tmp_path: Path, old: str, new: str, says: str
) -> None:
    before = contents(here)
    assert old in TABLE
    file = tmp_path / "small.yaml"
    file.write_text(TABLE.replace(old, new))
    said = refused("study", file, "--runs", "small")
    assert said.startswith(f"{file}: {says}")
    assert contents(here) == before


def test_weights_that_have_changed_since_are_noticed(copy: Path, made: Path, refused: Refused) -> None:
    shutil.copytree(made / "small", copy / "small")
    shutil.copy(copy / "small/base-seed0/teacher.safetensors", copy / "small/base-seed1/teacher.safetensors")
    assert "row longer, seed 1: small/longer-seed1: began with another start than" in refused("study", "small.yaml")


def test_a_run_that_was_begun_by_hand_is_held_against_its_teacher(
    copy: Path, made: Path, run: Run, refused: Refused
) -> None:
    shutil.copytree(made / "small", copy / "small")
    lines = run("study", "small.yaml", "--dry-run").out.splitlines()
    (command,) = (line for line in lines if line.startswith("# dgnet train joint small/control-seed1 "))
    shutil.rmtree(copy / "small" / "control-seed1")
    assert run(*shlex.split(command)[2:]).code == 0
    assert run("study", "small.yaml", "--dry-run").code == 0
    Path("small.yaml").write_text(TABLE.replace("control: {teacher: base, set", "control: {seeds: [1], set"))
    assert refused("study", "small.yaml").startswith(
        "small.yaml: row control, seed 1: small/control-seed1: began with another teacher than its row names now (none)"
    )


def test_rows_may_be_evaluated_in_different_ways(copy: Path, run: Run, rows: str) -> None:
    one, other = "set: {evaluate.ranks: []}", "set: {evaluate.ranks: [3], evaluate.divisor: valid}"
    table = rows.replace("[0, 1]", "[0]") + f"  a: {{train: teacher, {one}}}\n  b: {{train: teacher, {other}}}\n"
    Path("ways.yaml").write_text(table)
    said = run("study", "ways.yaml")
    assert said.code == 0
    assert re.search(r"^ +mAP +change of mAP, 95 % +ahead *$", said.out, re.MULTILINE)  # no rank that both have
    assert re.search(r"^  b +\d+\.\d\d *$", said.out, re.MULTILINE)  # means over other queries are not compared
    assert "b, seed 0, own: rank-3 " in said.err


def test_one_process_alone(here: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refused("study", "small.yaml").startswith("study: trains in one process; leave torchrun out")


def test_a_study_may_be_moved(copy: Path, made: Path, run: Run) -> None:
    shutil.copytree(made / "small", copy / "elsewhere")
    Path("elsewhere.yaml").write_text(TABLE)
    said = run("study", "elsewhere.yaml")
    assert (said.code, "and saved" in said.err) == (0, False)  # nothing is trained again
    files = (copy / "elsewhere" / "results.json", made / "small" / "results.json")
    ours, theirs = (json.loads(file.read_text())["tests"] for file in files)
    assert ours == theirs


def test_what_would_run_is_printed_and_nothing_is_written(copy: Path, run: Run) -> None:
    before = contents(copy)
    said = run("study", "small.yaml", "--dry-run")
    assert said.code == 0
    assert contents(copy) == before
    assert not (copy / "small").exists()
    lines = said.out.splitlines()
    assert "# longer, seed 1: 3 epochs, 12 iterations of 8 photos; to do" in lines
    assert "# DG-Net, seed 0: 6 iterations of 4 + 4 photos; to do" in lines
    commands = [shlex.split(line) for line in lines if not line.startswith("#")]
    assert len(commands) == 8 + 16
    for command in commands[:3]:  # the first run and its evaluations, by hand
        assert run(*command[1:]).code == 0
    again = run("study", "small.yaml", "--dry-run").out.splitlines()
    assert again[0] == "# base, seed 0: 2 epochs, 8 iterations of 8 photos; finished"
    assert again[1:4] == [f"# {line}" for line in lines[1:4]]
    assert again[4:] == lines[4:]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("rows: [", "not YAML"),
        ("[1]", "keys are needed: data, rows"),
        ("", "keys are needed: data, rows"),
        ("data: people", "rows is missing"),
        ("rows: {a: {train: baseline}}", "data is missing"),
        ("data: people\nrows: {}", "rows is empty"),
        ("data: people\nrow: {a: }", "unknown key row; did you mean rows?"),
        ("data: people\nrows: {a: {train: baselin}}", "row a: train = 'baselin': input should be 'teacher', '"),
        ("data: people\nrows: {a: {sett: x}}", "row a: unknown key sett; did you mean set?"),
        ("data: people\nrows: {a: joint}", "row a: keys are needed, such as train: joint"),
        ("data: people\nrows: {a: {train: teacher, set: loss.teachr=0}}",
         "row a: market1501: unknown key loss.teachr; did you mean loss.teacher?"),
        ("data: people\nrows: {a: {train: teacher, set: [teacher]}}", "row a: override 'teacher': write it as"),
        ("data: people\nrows: {a: {train: teacher, config: nowhere}}", "row a: nowhere: neither a preset"),
        ("data: people\nrows: {a: {train: teacher, set: train.seed=3}}", "row a: set: train.seed=3: seeds stand in"),
        ("data: people\nseeds: []\nrows: {a: {train: teacher}}", "seeds = []: give one or more"),
        ("data: people\nseeds: 3\nrows: {a: {train: teacher}}", "seeds = 3: "),
        ("data: people\nseeds: [1, 1]\nrows: {a: {train: teacher}}", "seeds = [1, 1]: give one or more, each once"),
        ("data: people\nseeds: [-1]\nrows: {a: {train: teacher}}", "seeds.0 = -1: "),
        ("data: people\nrows: {a/b: {train: teacher}}", "row 'a/b': is a folder's name, too"),
        ("data: people\nrows: {a: {train: teacher}, A: {train: teacher}}", "row 'A': and 'a' are one folder's name"),
        ("data: people\nrows: {a: {train: teacher}, a: {train: joint}}", "a stands twice, in line 2 and in line 2"),
        ("data: people\nagainst: contrl\nrows: {control: {train: teacher}}",
         "against = 'contrl': no such row; did you mean control?"),
        ("data: people\nrows: {a: {teacher: b}, b: {train: teacher}}", "row a: b: a row that comes later"),
        ("data: people\nrows: {a: {teacher: a}}", "row a: a: a row that comes later"),
        ("data: people\nrows: {base: {train: teacher}, b: {teacher: bse}}",
         "row b: bse: neither a row above it nor a file of weights or a finished run; did you mean base?"),
        ("data: people\nrows: {a: {train: teacher}, b: {train: baseline, teacher: a}}",
         "row b: teacher: a baseline learns from none"),
        ("data: people\nrows: {a: {train: teacher, seeds: [1, 2]}, b: {teacher: a}}",
         "row b: seed 0 of a: there are 1, 2"),
        ("data: people\ntests: {own: others}\nrows: {a: {train: teacher}}", "tests: own is the test of data"),
        ("config: tiny\ndata: nobody\nrows: {a: {train: teacher}}", "row a, seed 0: data: data folder"),
        ("config: tiny\ndata: people\ntests: {b: no}\nrows: {a: {train: teacher}}", "row a, seed 0: tests: b: data"),
        ("config: tiny\ndata: people\nrows: {a: {}}", "row a, seed 0: loss.teacher is on"),
        ("config: tiny\ndata: people\nrows: {a: {train: teacher}, b: {teacher: a, set: {model.appearance: {weights: "
         "teacher, backbone_width: 16}}}}", "row b, seed 0: model.appearance.weights = teacher: E_a's"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_meant_is_one_line(copy: Path, refused: Refused, table: str, says: str) -> None:
    Path("odd.yaml").write_text(table)
    assert refused("study", "odd.yaml").startswith(f"odd.yaml: {says}")
    assert not (copy / "odd").exists()


def test_files_that_are_not_there(copy: Path, refused: Refused) -> None:
    assert refused("study", "none.yaml") == "none.yaml: no such file; the YAML file of a study is needed"
    assert refused("study", "people") == "people: a folder; the YAML file of a study is needed"
    Path("bare").write_text(TABLE)
    assert refused("study", "bare") == "bare: without an ending there is no name for its folder; call it bare.yaml"


@pytest.fixture
def rows() -> str:
    return "config: tiny\ndata: people\nseeds: [0, 1]\nrows:\n"


def test_one_start_may_serve_all_seeds(copy: Path, rows: str) -> None:
    Path("one.yaml").write_text(rows + "  base: {train: teacher, seeds: [7]}\n  DG-Net: {teacher: base}\n")
    runs = read_study("one.yaml").runs
    assert [(run.row, run.seed) for run in runs] == [("base", 7), ("DG-Net", 0), ("DG-Net", 1)]
    start = (copy / "one" / "base-seed7" / "teacher.safetensors").absolute()
    assert [run.sources for run in runs[1:]] == [{"teacher": start}, {"teacher": start}]


def test_names_are_texts_whatever_yaml_takes_them_for(copy: Path, rows: str) -> None:
    Path("odd.yaml").write_text(
        rows + "  1e3: {train: teacher}\n  no: {train: teacher, start: 1e3}\n  2.50: {teacher: no}\n"
    )
    study = read_study("odd.yaml")
    assert list(study.rows) == ["1e3", "no", "2.50"]
    assert study.against == "1e3"


def test_a_file_of_weights_is_a_start_too(copy: Path, made: Path, rows: str) -> None:
    file = made / "small" / "base-seed0" / "teacher.safetensors"
    Path("file.yaml").write_text(f"{rows}  a: {{train: baseline, start: {file}}}\n  b: {{teacher: {file.parent}}}\n")
    assert [list(run.sources.values()) for run in read_study("file.yaml").runs] == [[file]] * 4
