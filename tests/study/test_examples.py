"""The study files that come with the project: each does what it says, at the smallest size and for two steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import code_of

from dgnet.drawn.dataset import synthesize
from dgnet.study.plan import read_study
from dgnet.train import logs

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples" / "studies").glob("*.yaml"))
SHORT = ["train.iterations=2", "teacher.epochs=1", "teacher.batch=8", "teacher.milestones=[]", "train.milestones=[]"]


def smaller(table: dict[str, Any]) -> dict[str, Any]:
    """The same table for the preset `tiny`, with one seed and two steps."""
    small = table | {"config": "tiny", "seeds": [0]}
    for name, row in table["rows"].items():
        row = row or {}
        own = row.get("set", {})
        words = own.split() if isinstance(own, str) else [f"{key}={json.dumps(value)}" for key, value in own.items()]
        small["rows"][name] = {**row, "set": [*words, *SHORT]}
        small["rows"][name].pop("config", None)
    return small


def test_there_are_examples() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_study_file_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = file.read_text().replace("/data/", "")
    table = yaml.safe_load(text)
    for seed, name in enumerate([table["data"], *table.get("tests", {}).values()]):
        synthesize(
            name, identities=8, test_identities=4, cameras=2, images_per_camera=2, distractors=0, junk=0, height=32,
            width=16, seed=seed,
        )  # fmt: skip
    Path("original.yaml").write_text(text)
    original = read_study("original.yaml")  # its own configuration is a right one, too
    Path("small.yaml").write_text(yaml.safe_dump(smaller(table), sort_keys=False))
    assert code_of("study", "small.yaml") == 0
    found = json.loads(Path("small/results.json").read_text())["tests"]
    assert list(found) == ["own", *table.get("tests", {})]
    for lines in found.values():
        assert list(lines) == list(table["rows"])
    for row in original.rows:
        assert logs.read(Path("small") / f"{row}-seed0" / "log.jsonl")[-1]["iteration"] >= 2


def test_the_page_shows_them_as_they_are() -> None:
    shown = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "studies.md").read_text(), re.MULTILINE | re.DOTALL)
    for text, name in zip(shown, ("first", "generation"), strict=True):
        written = (ROOT / "examples" / "studies" / f"{name}.yaml").read_text()
        assert text == "".join(line for line in written.splitlines(keepends=True) if not line.startswith("#"))
