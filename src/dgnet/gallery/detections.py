"""The boxes of a user's detector or tracker, as entries: CSV, Parquet or JSON lines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dgnet.datasets.folders import existing_folder, images_in
from dgnet.datasets.tables import Table, read_table, text_of
from dgnet.errors import UserError, nearest
from dgnet.files import expanded, is_file
from dgnet.gallery.entries import Entry, moment, spelt, whole
from dgnet.images.pieces import Piece

CORNERS = ("x1", "y1", "x2", "y2")
MEANT = {  # what columns may be called, upper and lower case alike
    "image": ("image", "file", "path", "filename"),
    "frame": ("frame", "frame_number"),
    "camera": ("camera", "cam"),
    "identity": ("identity", "person"),
    "time": ("time", "timestamp"),
    **{corner: (corner,) for corner in CORNERS},
}


def of_detections(
    table: Path, frames: Path | None = None, *, camera: str | None = None, tracklets: str | None = None
) -> list[Entry]:
    """An entry per row of a table of boxes, or one per tracklet.

    Args:
        table: .csv, .parquet, or JSON lines (an object a line): columns `image` (a path, from `frames` or the table's
            own folder) or `frame` (a number, of the file in `frames` whose name ends in it), `x1`, `y1`, `x2`, `y2` in
            pixels; `camera`, `identity`, `time` are searched by, and any other column is kept.
        frames: folder of the frames.
        camera: that of all rows, where the table has no such column.
        tracklets: the column that says which rows are one tracklet (of one camera); their features are averaged.

    Raises:
        UserError: no such file, columns that are missing, a row that is none, with its number.
    """
    table = expanded(table)
    if not table.is_file():
        raise UserError(f"{table}: no such table of boxes")
    columns = _json_lines(table) if table.suffix.lower() in (".jsonl", ".json", ".ndjson") else read_table(table)
    named = _columns(table, columns)
    if tracklets is not None and tracklets not in columns:
        raise UserError(f"{table}: no column '{tracklets}' of tracklets; there are {', '.join(columns)}")
    find = _frame_finder(table, frames) if "image" not in named else _image_finder(table, frames)
    made = [
        _entry(f"{table}, row {number}", row, named, find, camera) for number, row in enumerate(_rows(columns), start=1)
    ]
    if not made:
        raise UserError(f"{table}: no boxes in it")
    return made if tracklets is None else _tracklets(table, made, columns[tracklets])


def _columns(table: Path, columns: Table) -> dict[str, str]:
    """The table's own name for each that is meant. Raises UserError where one is missing."""
    by_case = {name.casefold(): name for name in reversed(list(columns))}
    named = {meant: by_case[word] for meant, words in MEANT.items() for word in reversed(words) if word in by_case}
    missing = [corner for corner in CORNERS if corner not in named]
    missing += ["image (or frame)"] if not {"image", "frame"} & named.keys() else []
    if missing:
        held = ", ".join(columns) or "none"
        raise UserError(f"{table}: columns {', '.join(missing)} are missing; there are {held}")
    return named


def _rows(columns: Table) -> Iterator[dict[str, str]]:
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(columns, cells, strict=True))


def _entry(where: str, row: Mapping[str, str], named: Mapping[str, str], find: Any, camera: str | None) -> Entry:
    corners = []
    for corner in CORNERS:
        try:
            corners.append(float(row[named[corner]]))
        except ValueError:
            corners.append(math.nan)
        if not math.isfinite(corners[-1]):
            raise UserError(f"{where}: {named[corner]} is {row[named[corner]][:80]!r}; pixels are needed")
    x1, y1, x2, y2 = corners
    if not (x2 > x1 and y2 > y1):
        raise UserError(f"{where}: x1, y1, x2, y2 = {x1:g}, {y1:g}, {x2:g}, {y2:g}; x2 > x1 and y2 > y1 are needed")
    word = row[named["image" if "image" in named else "frame"]]
    about: dict[str, Any] = {name: text for name, text in row.items() if name not in named.values() and text}
    for meant in ("camera", "identity", "time"):
        if meant in named and row[named[meant]]:
            about[meant] = row[named[meant]] if meant == "time" else spelt(row[named[meant]])
    if "time" in about:
        try:
            moment(about["time"])
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    if camera is not None:
        about.setdefault("camera", spelt(camera))
    if "image" not in named:
        about["frame"] = word
    return Entry((Piece(find(where, word), (x1, y1, x2, y2)),), about | {"box": corners})


def _tracklets(table: Path, entries: list[Entry], words: list[str]) -> list[Entry]:
    """Entries joined where they are of one tracklet and camera; those without a word stay alone."""
    groups: dict[object, list[int]] = {}
    for place, (entry, word) in enumerate(zip(entries, words, strict=True)):
        groups.setdefault((word, entry.about.get("camera")) if word else place, []).append(place)
    made = []
    for places in groups.values():
        first = entries[places[0]]
        if not words[places[0]]:
            made.append(first)
            continue
        known_by = f"{whole(table)}#{first.about.get('camera', '')}#{words[places[0]]}"
        pieces = tuple(entries[place].pieces[0] for place in places)
        made.append(Entry(pieces, {**first.about, "photos": len(places)}, known_by))
    return made


def _image_finder(table: Path, frames: Path | None) -> Any:
    base = existing_folder(frames) if frames is not None else table.parent

    def find(where: str, word: str) -> Path:
        path = base / expanded(word) if word else base
        if not is_file(path):
            raise UserError(f"{where}: image {word[:80]!r} is not in {base}; --frames names another folder")
        return path

    return find


def _frame_finder(table: Path, frames: Path | None) -> Any:
    if frames is None:
        raise UserError(f"{table}: frames are told by number; --frames names the folder of their images")
    numbered: dict[int, Path] = {}
    for path in images_in(existing_folder(frames)):
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            continue
        other = numbered.setdefault(int(digits[-1]), path)
        if other != path:
            raise UserError(f"{frames}: {other.name} and {path.name} both end in {digits[-1]}: which is that frame?")

    def find(where: str, word: str) -> Path:
        number = re.fullmatch(r"(\d{1,18})(?:\.0*)?", word)
        path = numbered.get(int(number[1])) if number else None
        if path is None:
            near = nearest(word[:80], map(str, numbered))
            hint = f"; the nearest is {near}" if near else ""
            raise UserError(f"{where}: no image in {frames} ends in the frame number {word[:80]!r}{hint}")
        return path

    return find


def _json_lines(table: Path) -> Table:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text_of(table).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # raises for half a letter, which no file could keep
        except (ValueError, RecursionError) as error:
            raise UserError(f"{table}, line {number}: no JSON ({error}); an object a line is needed") from error
        if not isinstance(row, dict):
            raise UserError(f"{table}, line {number}: {type(row).__name__}, not an object with image, x1, y1, x2, y2")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_word(row.get(name)) for row in rows] for name in names}


def _word(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
