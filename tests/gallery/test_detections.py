"""Boxes of a user's own detector or tracker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dgnet
from dgnet.errors import UserError
from dgnet.gallery.detections import of_detections
from dgnet.gallery.enrol import enrol
from dgnet.gallery.gallery import Gallery, Where

COLUMNS = ("image", "x1", "y1", "x2", "y2", "camera", "time", "track", "score")
ROWS: list[dict[str, Any]] = [
    dict(zip(COLUMNS, row, strict=True))
    for row in (
        ("cam 1/f_0001.png", 0, 0, 20, 40, "01", 1.5, "a", 0.9),
        ("cam 1/f_0001.png", 30.5, 5, 55, 60, "01", 1.5, "b", 0.8),
        ("cam 1/f_0002.png", 4, 2, 24, 42, "01", 2, "a", 0.7),
        ("cam 1/f_0002.png", -9, 2, 24, 99, "02", 3, "a", 0.6),
    )
]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames" / "cam 1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in (1, 2):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"f_{number:04}.png")
    return folder.parent


def written(rows: list[dict[str, Any]], file: Path) -> Path:
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    else:
        names = list(rows[0])
        file.write_text("\n".join([",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]))
    return file


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_every_box_is_an_entry_with_what_its_row_says(
    ending: str, frames: Path, model: dgnet.Model, weights: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    table = written(ROWS, tmp_path / f"boxes.{ending}")
    said = run("gallery", "build", weights, "--boxes", table, "--frames", frames, "--out", tmp_path / "g")
    assert (said.code, said.err) == (0, "")
    gallery = Gallery(tmp_path / "g")
    assert len(gallery) == 4
    for row in ROWS:
        frame = frames / row["image"]
        box = [row[corner] for corner in ("x1", "y1", "x2", "y2")]
        first = gallery.search(model.embed_boxes(frame, [box]), top=1)[0]
        assert first.score == pytest.approx(1, abs=1e-5)
        assert first.name == str(frame)
        assert first.about["box"] == box
        assert (first.about["camera"], float(first.about["score"])) == (row["camera"].lstrip("0"), row["score"])
    query = model.embed_boxes(frames / ROWS[0]["image"], [[0, 0, 20, 40]])
    assert len(gallery.search(query, where=Where(camera="1", after=1.6))) == 1
    assert len(gallery.search(query, where=Where(before=1.6))) == 2
    assert run("gallery", "add", tmp_path / "g", "--boxes", table, "--frames", frames).out.startswith("0 added, 4 were")
    assert run("gallery", "search", tmp_path / "g", frames / ROWS[0]["image"], "--sheet", tmp_path / "s.jpg").code == 0


def test_a_tracklet_is_the_mean_of_its_boxes(frames: Path, model: dgnet.Model, tmp_path: Path) -> None:
    table = written(ROWS, tmp_path / "boxes.csv")
    entries = of_detections(table, frames, tracklets="track")
    assert [(len(entry.pieces), entry.about["track"], entry.about["camera"]) for entry in entries] == [
        (2, "a", "1"), (1, "b", "1"), (1, "a", "2"),
    ]  # fmt: skip
    gallery = model.gallery(tmp_path / "g")
    enrol(gallery, model, entries)
    a = [model.embed_boxes(frames / ROWS[n]["image"], [[ROWS[n][c] for c in ("x1", "y1", "x2", "y2")]]) for n in (0, 2)]
    mean = (a[0] + a[1]) / (a[0] + a[1]).norm()
    first = gallery.search(mean)[0]
    assert first.score == pytest.approx(1, abs=1e-5)
    assert (first.about["photos"], first.about["track"]) == (2, "a")


def test_frames_may_be_told_by_number(frames: Path, tmp_path: Path) -> None:
    table = written([{"Frame": 2, "X1": 0, "y1": 0, "x2": 9, "y2": 9}], tmp_path / "boxes.csv")
    (entry,) = of_detections(table, frames / "cam 1", camera="7")
    assert entry.name == str(frames / "cam 1" / "f_0002.png")
    assert (entry.about["frame"], entry.about["camera"]) == ("2", "7")
    with pytest.raises(UserError, match="frames are told by number; --frames names the folder"):
        of_detections(table)
    with pytest.raises(UserError, match=r"boxes.csv, row 1: no image in .* ends in the frame number '7'"):
        of_detections(written([{"frame": 7, "x1": 0, "y1": 0, "x2": 9, "y2": 9}], table), frames / "cam 1")
    (frames / "cam 1" / "x2.png").touch()
    with pytest.raises(UserError, match=r"f_0002.png and x2.png both end in 2: which is that frame\?"):
        of_detections(table, frames / "cam 1")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x1": "left"}, "boxes.csv, row 2: x1 is 'left'; pixels are needed"),
        ({"x2": "inf"}, "row 2: x2 is 'inf'; pixels are needed"),
        ({"x2": 30}, "row 2: x1, y1, x2, y2 = 30.5, 5, 30, 60; x2 > x1 and y2 > y1 are needed"),
        ({"image": "f_0009.png"}, "row 2: image 'f_0009.png' is not in"),
        ({"time": "noon"}, "row 2: time 'noon': seconds, or a date"),
    ],
)
def test_a_row_that_is_none_is_named(change: dict[str, Any], says: str, frames: Path, tmp_path: Path) -> None:
    table = written([ROWS[0], ROWS[1] | change], tmp_path / "boxes.csv")
    with pytest.raises(UserError, match=says):
        of_detections(table, frames)


def test_what_is_no_table_of_boxes_is_told(frames: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"boxes.csv: columns x1, x2, image \(or frame\) are missing; there are y1, y2"):
        of_detections(written([{"y1": 0, "y2": 5}], tmp_path / "boxes.csv"), frames)
    (tmp_path / "boxes.jsonl").write_text('{"image": "a"}\n[1]\n')
    with pytest.raises(UserError, match=r"boxes\.jsonl, line 2: list, not an object"):
        of_detections(tmp_path / "boxes.jsonl", frames)
    (tmp_path / "boxes.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"boxes\.jsonl, line 1: no JSON"):
        of_detections(tmp_path / "boxes.jsonl", frames)
    with pytest.raises(UserError, match=r"none\.csv: no such table of boxes"):
        of_detections(tmp_path / "none.csv", frames)
    with pytest.raises(UserError, match="no column 'id' of tracklets; there are image, x1"):
        of_detections(written(ROWS, tmp_path / "boxes.csv"), frames, tracklets="id")


def test_a_box_outside_its_frame_is_named(
    frames: Path, weights: Path, tmp_path: Path, refused: Callable[..., str], run: Callable[..., Any]
) -> None:
    outside = ROWS[1] | {"x1": 64, "x2": 90}
    table = written([ROWS[0], outside], tmp_path / "boxes.csv")
    words = ("gallery", "build", weights, "--boxes", table, "--frames", frames, "--out", tmp_path / "g")
    assert "f_0001.png: boxes without a pixel of the frame of 64 x 64" in refused(*words)
    said = run(*words, "--on-unreadable", "skip")
    assert said.code == 0
    assert said.out.startswith("1 added")
    assert len(Gallery(tmp_path / "g")) == 1
