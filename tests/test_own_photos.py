"""docs/own-photos.md as a new user goes through it: 60 crops of 8 people, every command of the page in its order."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

from dgnet import cli
from dgnet.drawn.dataset import synthesize
from dgnet.train.baseline import say_if_short

PAGE = (Path(__file__).parents[1] / "docs" / "own-photos.md").read_text()
NAMES = ("anna", "ben", "carl", "dora", "emil", "fay", "gus", "hana")


def crops(root: Path, count: int = 60) -> None:
    """shopA/anna/IMG_001.png and so on, of drawn people."""
    synthesize(
        root / "drawn", identities=10, test_identities=2, cameras=2, images_per_camera=4, distractors=0, junk=0,
        multi_query=0, height=64, width=32,
    )  # fmt: skip
    of_person: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((root / "drawn" / "bounding_box_train").glob("*.jpg"))[:count]:
        of_person[path.name[:4]].append(path)
    for name, paths in zip(NAMES, of_person.values(), strict=True):
        (root / "shopA" / name).mkdir(parents=True)
        for number, path in enumerate(paths, start=1):
            Image.open(path).save(root / "shopA" / name / f"IMG_{number:03d}.png")


def test_the_page_leads_from_a_folder_to_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crops(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    commands = [line for language, text in blocks if language == "bash" for line in text.splitlines()]
    assert len(commands) == 8
    said = {}
    for command in commands:
        small = command.replace("--config demo", "--config tiny").replace("teacher.epochs=60", "teacher.epochs=2")
        with pytest.raises(SystemExit) as stopped:
            cli.main(shlex.split(small)[1:])
        said[command], errors = capsys.readouterr()
        assert not stopped.value.code, f"{command}\n{errors}"
        assert "warning" not in errors.replace("warning: an epoch of 44 photos is 5 steps", ""), f"{command}\n{errors}"
    assert "clean (60 images" in said["dgnet data check shopA"]
    assert "queries with an answer / all" in said["dgnet evaluate runs/shop/joint"]
    assert Path("swap.png").is_file()

    (search,) = (text for language, text in blocks if language == "python")
    exec(compile(search, "own-photos.md", "exec"), {})
    answers = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 5
    assert answers[0] == ["1.00", "carl", "IMG_001.png"]
    assert {name for _, name, _ in answers} <= set(NAMES)


@pytest.mark.parametrize(
    ("epochs", "says"),
    [
        (
            8,
            "warning: an epoch of 44 photos is 5 steps: teacher.epochs = 8 makes 40, and a teacher takes some hundreds",
        ),
        (60, "an epoch of 44 photos is 5 steps: teacher.epochs = 60 makes 300"),
    ],
)
def test_epochs_of_few_steps_are_told(capsys: pytest.CaptureFixture[str], epochs: int, says: str) -> None:
    say_if_short(44, 5, epochs)
    say_if_short(1000, 50, epochs)
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(says)
    assert "1000" not in said
