"""Files that programs hand on, with bytes changed, cut or doubled: read as they stand, or refused in one line."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dgnet.errors import UserError
from dgnet.export import session
from dgnet.files import replacing
from dgnet.gallery.detections import of_detections
from dgnet.generate import fidelity
from dgnet.study.plan import read_study
from dgnet.train.logs import read as read_log

BOXES = "image,x1,y1,x2,y2,camera,time,track\nf1.png,0,0,20,40,01,1.5,a\nf2.png,3.5,2,24,42,02,2,a\n"
LINES = "".join(
    json.dumps({"image": name, "x1": 0, "y1": 1.5, "x2": 20, "y2": 40, "time": "2024-01-02T03:04:05", "track": 7})
    + "\n"
    for name in ("f1.png", "f2.png")
)
NUMBERED = BOXES.replace("image", "frame").replace("f1.png", "1").replace("f2.png", "2")
LOG = "".join(
    json.dumps({"iteration": k, "total": 0.5, "rates": {"a": 1e-3}, "seconds": 0.1, "terms": {"identity": 0.2}}) + "\n"
    for k in (1, 2)
)
STUDY = """data: people
seeds: [0, 1]
config: tiny
rows:
  plain: {train: baseline}
  other: {train: baseline, set: ['teacher.epochs=3']}
"""


def _boxes(file: Path) -> None:
    for entry in of_detections(file, file.parent, tracklets="track"):
        for piece in entry.pieces:
            assert piece.path.is_file()
            assert piece.box is not None
            assert np.isfinite(piece.box).all()
            assert piece.box[0] < piece.box[2]
        json.dumps(entry.about, ensure_ascii=False).encode()


def _log(file: Path) -> None:
    for line in read_log(file):
        assert isinstance(line["iteration"], int)
        assert isinstance(line["total"], float | int)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "boxes.csv": (BOXES, _boxes),
    "boxes.jsonl": (LINES, _boxes),
    "frames.csv": (NUMBERED, _boxes),
    "log.jsonl": (LOG, _log),
    "study.yaml": (STUDY, read_study),
}


def odd(name: str) -> list[bytes]:
    """What chance hardly finds: depth, long words and numbers, letters that are none, a byte that no text has."""
    text = READERS[name][0]
    words = [
        "[" * 100_000,
        "9" * 5000,
        "f" * 5000 + ".png",
        "1e999",
        "-0",
        "NaN",
        "1_0",
        r"\ud800",
        r"\u0000",
        "../" * 50,
    ]
    made = [text.replace(old, word, 1) for word in words for old in ("f1.png", "40", "0.5", "1", "plain", "2024")]
    made += [word + text for word in words]
    return [one.encode() for one in made] + [text.encode("utf-16"), text.encode("cp037"), b"", b"\0", b"\xff" * 9]


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data())
def test_a_damaged_file_is_read_as_it_stands_or_refused_in_one_line(name: str, data: st.DataObject) -> None:
    text, read = READERS[name]
    content = bytearray(text.encode())
    if data.draw(st.booleans()):
        content = bytearray(data.draw(st.sampled_from(odd(name))))
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        for number in (1, 2):
            Image.new("RGB", (32, 64)).save(Path(folder, f"f{number}.png"))
        file = Path(folder, name)
        file.write_bytes(content)
        try:
            read(file)
        except UserError as error:
            assert str(error).count("\n") == 0  # noqa: PT017
            assert file.name in str(error) or "frame" in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", READERS)
def test_the_whole_file_is_read(tmp_path: Path, name: str) -> None:
    for number in (1, 2):
        Image.new("RGB", (32, 64)).save(tmp_path / f"f{number}.png")
    (tmp_path / name).write_text(READERS[name][0])
    READERS[name][1](tmp_path / name)


ABOUT = {
    "part": "embedding", "inputs": ["x"], "output": "y", "height": 64, "width": 32, "normalise": False, "flip": True,
    "precision": "float32", "tracker": "", "model": "a", "weights": "b", "version": "0.2.0",
}  # fmt: skip


@pytest.mark.parametrize(
    "said",
    ["[" * 100_000, "{", "[]", "3", "{}", *[json.dumps({"format": 1, **ABOUT, key: None}) for key in ABOUT],
     json.dumps({"format": "1", **ABOUT}), json.dumps({"format": 1, **ABOUT, "height": "64"})],
)  # fmt: skip
def test_what_a_file_says_of_itself_is_checked(said: str) -> None:
    with pytest.raises(UserError, match=r"a\.onnx: its description by dgnet is damaged"):
        session._about(Path("a.onnx"), said)
    assert session._about(Path("a.onnx"), json.dumps({"format": 1, **ABOUT})).height == 64


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", "3"])
def test_notes_beside_pictures_may_be_anything(tmp_path: Path, text: str) -> None:
    (tmp_path / fidelity.RECIPE).write_text(text)
    with pytest.raises(UserError, match=tmp_path.name):
        fidelity.read_benchmark(tmp_path)


def test_a_disk_that_is_full_is_told_with_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*report\.html'"),
        replacing(tmp_path / "report.html"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
