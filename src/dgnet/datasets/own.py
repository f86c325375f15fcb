"""Readers for one's own data: a folder per identity, a flat folder with a name pattern, or a table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dgnet import console
from dgnet.datasets.folders import child, images_in, matches, some_images_in, subfolders
from dgnet.datasets.records import DISTRACTOR, JUNK, UNKNOWN_CAMERA, Dataset, Split
from dgnet.errors import UserError

# folder names of the splits; "test" alone is divided into query and gallery
_SPLIT_FOLDERS = {
    "train": ("train_all", "train", "bounding_box_train"),
    "query": ("query", "probe"),
    "gallery": ("gallery", "bounding_box_test"),
    "multi_query": ("multi-query", "multi_query"),
    "test": ("test",),
}
_SPECIAL = {"-1": JUNK, "junk": JUNK, "distractor": DISTRACTOR, "distractors": DISTRACTOR}
_FIELD = re.compile(r"\{(\w+)\}|\*")
_CAMERA_IN_NAME = re.compile(r"_c(\d+)")
_KNOWN = ("path", "identity", "camera", "split")


@dataclass
class Rows:
    """Images of one split in the user's own words; an empty camera is an unknown one."""

    paths: list[Path] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)


def read_folders(base: Path, option: str) -> Dataset:
    """One folder per identity, below train/, query/ and gallery/ (or test/), or directly in `base`: all for training.

    Cameras are known if every file name says its own as Market-1501 does ("_c3").
    """
    parts = {name: _folder_per_identity(folder) for name, folder in _split_folders(base).items()}
    paths = [path for rows in parts.values() for path in rows.paths]
    cameras = [_CAMERA_IN_NAME.search(path.name) for path in paths]
    if all(cameras):
        for rows in parts.values():
            rows.cameras = [_CAMERA_IN_NAME.findall(path.name)[0] for path in rows.paths]
    return _dataset(base, parts)


def _folder_per_identity(folder: Path) -> Rows:
    rows = Rows()
    for person in subfolders(folder):
        images = images_in(person)
        rows.paths += images
        rows.identities += [person.name] * len(images)
    if not rows.paths:
        loose = " (images lie directly in it: use the layout pattern)" if images_in(folder) else ""
        raise UserError(f"{folder} has no folders with images, one per identity{loose}")
    if loose_images := images_in(folder):
        console.warn(f"{len(loose_images)} images in {folder} lie outside the identities' folders and are left out")
    rows.cameras = [""] * len(rows.paths)
    return rows


def read_pattern(base: Path, pattern: str) -> Dataset:
    """Images in one folder, or in train/, query/ and gallery/, whose names follow `pattern`.

    In the pattern, `{identity}`, `{camera}`, `{split}` and any other `{column}` stand for a part of the name, `*` for
    anything: "{identity}_c{camera}_*.jpg". Without `{camera}`, cameras are unknown.
    """
    fields = re.findall(r"\{(.*?)\}", pattern)
    if "identity" not in fields:
        raise UserError("layout pattern needs a pattern with {identity}, as in pattern:{identity}_c{camera}_*.jpg")
    for name in fields:
        if not name.isidentifier():
            raise UserError(f"pattern {pattern}: '{name}' is no word of letters and digits")
        if fields.count(name) > 1:
            raise UserError(f"pattern {pattern}: {{{name}}} stands twice")
    parts: dict[str, Rows] = {}
    for part, folder in _split_folders(base).items():
        for match in matches(some_images_in(folder), _regex(pattern), pattern):
            path = folder / match.string
            _add(parts, path, {"split": part, **match.groupdict()}, where=str(path))
    return _dataset(base, parts)


def _regex(pattern: str) -> str:
    """A regular expression of the whole name: every field as short as it can be, but not empty."""
    made, end = "", 0
    for match in _FIELD.finditer(pattern):
        made += re.escape(pattern[end : match.start()]) + (f"(?P<{match[1]}>.+?)" if match[1] else ".*")
        end = match.end()
    return f"(?i:{made}{re.escape(pattern[end:])})$"


def read_table(file: Path, option: str) -> Dataset:
    """A CSV (comma, semicolon or tab) or Parquet file with the columns path and identity, perhaps camera and split.

    Paths are relative to the file's folder. `split` is train, query, gallery, multi_query or test; without it all
    training. Other columns are kept as they are.
    """
    table = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_csv(file)
    for name in ("path", "identity"):
        if name not in table:
            near = get_close_matches(name, table, 1)
            hint = f"; is '{near[0]}' the one?" if near else ""
            raise UserError(f"{file} has no column '{name}'; its columns are {', '.join(table)}{hint}")
    parts: dict[str, Rows] = {}
    for number, values in enumerate(zip(*table.values(), strict=True), start=1):
        row = dict(zip(table, values, strict=True))
        where = f"{file}, row {number}"
        if not row["path"] or not row["identity"]:
            raise UserError(f"{where}: path or identity is empty")
        _add(parts, file.parent / row.pop("path"), {"split": "train", **row}, where)
    if not parts:
        raise UserError(f"{file} has no rows")
    _all_there(file, [path for rows in parts.values() for path in rows.paths])
    return _dataset(file, parts)


def _read_csv(file: Path) -> dict[str, list[str]]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        head = lines.readline()
        lines.seek(0)
        rows = csv.DictReader(lines, delimiter=max(",;\t", key=head.count), skipinitialspace=True)
        names = [name.strip() for name in rows.fieldnames or []]
        table: dict[str, list[str]] = {name: [] for name in names}
        for row in rows:
            if None in row or None in row.values():
                raise UserError(f"{file}, line {rows.line_num}: expected {len(names)} fields ({', '.join(names)})")
            for name, value in zip(names, row.values(), strict=True):
                table[name].append(value.strip())
    return table


def _read_parquet(file: Path) -> dict[str, list[str]]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise UserError(f"{file}: reading Parquet needs pyarrow: pip install dgnet[parquet]") from error
    try:
        columns = parquet.read_table(file).to_pydict()
    except ArrowInvalid as error:
        raise UserError(f"{file} is no readable Parquet file: {error}") from error
    return {name: [_word(value) for value in values] for name, values in columns.items()}


def _word(value: object) -> str:
    """A cell as text; whole numbers without the ".0" that a column with gaps gives them."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _add(parts: dict[str, Rows], path: Path, row: dict[str, str], where: str) -> None:
    split = row["split"].lower()
    if split not in _SPLIT_FOLDERS:
        raise UserError(f"{where}: unknown split '{row['split']}': one of {', '.join(_SPLIT_FOLDERS)}")
    rows = parts.setdefault(split, Rows())
    rows.paths.append(path)
    rows.identities.append(row["identity"])
    rows.cameras.append(row.get("camera", ""))
    for name, value in row.items():
        if name not in _KNOWN:
            rows.columns.setdefault(name, []).append(value)


def _all_there(file: Path, paths: list[Path]) -> None:
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise UserError(f"{file} names {len(absent)} files of {len(paths)} that do not exist, the first {absent[0]}")


def _split_folders(base: Path) -> dict[str, Path]:
    """The splits' folders in `base`; where there is none, `base` itself is for training."""
    found = {}
    for split, names in _SPLIT_FOLDERS.items():
        folders = [folder for name in names if (folder := child(base, name)) and folder.is_dir()]
        if folders:
            found[split] = folders[0]
    return found or {"train": base}


def _dataset(source: Path, parts: dict[str, Rows]) -> Dataset:
    """Numbers for the names of people and cameras, the same in all splits."""
    asked = [name for split in ("train", "query", "test") if split in parts for name in parts[split].identities]
    people = _number_people({name for rows in parts.values() for name in rows.identities}, set(asked))
    cameras = _number_cameras({name for rows in parts.values() for name in rows.cameras})
    splits = {split: _split(rows, people, cameras) for split, rows in parts.items()}
    if "test" in splits:
        test = splits.pop("test")
        query = _first_of_each(test)
        splits |= {"query": test.subset(query), "gallery": test.subset(~query)}
    half = splits.keys() & {"query", "gallery"}
    absent = {
        name: f"{source} has {', '.join(half)} images, but none for {name}" for name in ("query", "gallery") if half
    }
    return Dataset(source.stem, source, absent=absent, layout="own", **splits)


def _split(rows: Rows, people: dict[str, int], cameras: dict[str, int]) -> Split:
    words = rows.columns | {"identity": rows.identities, "camera": rows.cameras}
    return Split(
        rows.paths,
        np.array([people[name] for name in rows.identities], np.int64),
        np.array([cameras[name] for name in rows.cameras], np.int64),
        {name: np.array(values) for name, values in words.items()},
    )


def _number_people(names: Iterable[str], asked: set[str]) -> dict[str, int]:
    """Identity numbers: whole numbers keep their value, other names are numbered from 1 in sorted order.

    A 0 among the `asked` (train and query) is a person, not a distractor; then all numbers go up by one.
    """
    names = set(names)
    if all(map(_is_number, names)) and len({int(name) for name in names}) == len(names):
        first = 1 if any(int(name) == 0 for name in asked) else 0
        return {name: JUNK if int(name) < 0 else int(name) + first for name in names}
    ordinary = sorted(names - _SPECIAL.keys())
    return {name: number for number, name in enumerate(ordinary, start=1)} | {
        name: _SPECIAL[name] for name in names & _SPECIAL.keys()
    }


def _number_cameras(names: set[str]) -> dict[str, int]:
    known = sorted(names - {"", "-1"})
    numbers = all(name.isdecimal() for name in known)
    return {name: int(name) if numbers else place for place, name in enumerate(known, start=1)} | {
        "": UNKNOWN_CAMERA,
        "-1": UNKNOWN_CAMERA,
    }


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _first_of_each(split: Split) -> NDArray[np.bool_]:
    """A mask [N] of the first image of each person in each camera; the last one that a person has is never taken."""
    left = Counter(split.identities.tolist())
    seen: set[tuple[int, int]] = set()
    chosen = np.zeros(len(split), bool)
    for place, pair in enumerate(zip(split.identities.tolist(), split.cameras.tolist(), strict=True)):
        person = pair[0]
        if person > DISTRACTOR and pair not in seen and left[person] > 1:
            chosen[place] = True
            seen.add(pair)
            left[person] -= 1
    return chosen
