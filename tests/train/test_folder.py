"""The folder of a run: one training at a time, and everything in it found again from anywhere."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import code_of

from dgnet import config as configuration
from dgnet.drawn.dataset import synthesize
from dgnet.errors import UserError
from dgnet.train.run import alone


@pytest.fixture
def people(tmp_path: Path) -> Path:
    synthesize(tmp_path / "people", identities=6, test_identities=2, images_per_camera=2, height=32, width=16)
    return tmp_path / "people"


def listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_second_training_in_the_folder_is_told_and_writes_nothing(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    words = ("train", "teacher", folder, f"data.root={people}", "--config", "tiny", "--device", "cpu")
    with alone(folder, resume=False):
        before = listing(folder)
        assert code_of(*words) == 2
        assert "another training is at work in this folder" in capsys.readouterr().err
        assert listing(folder) == before
    assert list(folder.iterdir()) == []
    assert code_of(*words) == 0
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "log.jsonl",
        "teacher.safetensors",
    }
    with alone(folder, resume=True):
        assert code_of("train", "teacher", folder, "--resume") == 2
    assert "another training is at work" in capsys.readouterr().err


def test_a_run_that_began_in_between_is_seen(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match="holds a run already"), alone(tmp_path, resume=False):
        pass
    with alone(tmp_path, resume=True):
        pass


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom dgnet.train.run import alone\n"
        "with alone(Path(sys.argv[1]), resume=False):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="another training"), alone(tmp_path / "run", resume=False):
        pass
    child.kill()
    child.wait()
    time.sleep(0.1)
    with alone(tmp_path / "run", resume=False):
        pass


def test_a_run_is_continued_from_anywhere(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    synthesize(tmp_path / "more", identities=6, test_identities=2, images_per_camera=2, height=32, width=16, seed=1)
    data = ("data.root=people", "data.join=[more]", "data.cache=decoded", "--config", "tiny", "--device", "cpu")
    assert code_of("train", "teacher", "teacher", *data) == 0
    assert (
        code_of("train", "joint", "joint", "train.iterations=2", *data, "--teacher", "teacher/teacher.safetensors") == 0
    )
    written = configuration.load(tmp_path / "joint" / "config.yaml")
    assert written.train.teachers == (str(tmp_path / "teacher" / "teacher.safetensors"),)
    assert written.data.root == str(people)
    assert written.data.join == (str(tmp_path / "more"),)
    assert written.data.cache == str(tmp_path / "decoded")
    assert written.model.appearance.weights == "scratch"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert code_of("train", "joint", tmp_path / "joint", "train.iterations=4", "--resume") == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
