"""Readers for one's own data: a folder per identity, files named after a pattern, or a table."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from dgnet import console
from dgnet.datasets import patterns, tables
from dgnet.datasets.folders import IMAGE_SUFFIXES, child, images_below, images_in, subfolders
from dgnet.datasets.records import DISTRACTOR, JUNK, UNKNOWN_CAMERA, Dataset, Split, first_of_each
from dgnet.errors import UserError
from dgnet.files import expanded

# folder names of the splits; "test" alone is divided into query and gallery
_SPLIT_FOLDERS = {
    "train": ("train_all", "train", "bounding_box_train"),
    "query": ("query", "probe"),
    "gallery": ("gallery", "bounding_box_test"),
    "multi_query": ("multi-query", "multi_query"),
    "test": ("test",),
}
_SPECIAL = {"-1": JUNK, "junk": JUNK, "distractor": DISTRACTOR, "distractors": DISTRACTOR}
_NOTHING = ("nan", "null", "none", "n/a", "na", "<na>", "nat")  # what other programs write for an empty cell
_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?")
_LARGEST = 2**31 - 1  # a number beyond it is a name
_CAMERA_IN_NAME = re.compile(r"_c(\d+)", re.IGNORECASE)
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
    base = _inner(base)
    notes: list[str] = []
    parts = {name: _folder_per_identity(folder, notes) for name, folder in _split_folders(base, notes).items()}
    paths = [path for rows in parts.values() for path in rows.paths]
    cameras = [_CAMERA_IN_NAME.search(path.name) for path in paths]
    if all(cameras):
        for rows in parts.values():
            rows.cameras = [_CAMERA_IN_NAME.findall(path.name)[0] for path in rows.paths]
    elif any(cameras):
        without = paths[cameras.index(None)]
        notes.append(
            f"cameras are not used: {cameras.count(None)} of {len(paths)} file names do not say theirs (_c3), first "
            f"{without}"
        )
    return _dataset(base, parts, notes, folders=True)


def _inner(base: Path) -> Path:
    """`base`, or the only folder in it where that, and not `base`, holds the folders of people or splits."""
    inside = subfolders(base)
    if len(inside) == 1 and not images_in(base) and not images_in(inside[0]) and subfolders(inside[0]):
        console.notice(f"reading {inside[0]}, the only folder in {base}")
        return inside[0]
    return base


def _folder_per_identity(folder: Path, notes: list[str]) -> Rows:
    rows = Rows()
    empty = []
    for person in subfolders(folder):
        images = images_in(person)
        rows.paths += images
        rows.identities += [person.name] * len(images)
        if not images:
            empty.append(person)
    if not rows.paths:
        loose = " (images lie directly in it: use the layout pattern)" if images_in(folder) else ""
        deeper = next((inner for person in empty for inner in subfolders(person) if images_in(inner)), None)
        hint = (
            f" (there are some one level deeper, in {deeper}: use pattern:{{camera}}/{{identity}}/*)" if deeper else ""
        )
        raise UserError(f"{folder} has no folders with images, one per identity{loose or hint}")
    if loose_images := images_in(folder):
        notes.append(f"{len(loose_images)} images in {folder} lie outside the identities' folders and are left out")
    if empty:
        notes.append(f"{len(empty)} folders in {folder} hold no images directly and are left out, the first {empty[0]}")
    rows.cameras = [""] * len(rows.paths)
    return rows


def read_pattern(base: Path, text: str) -> Dataset:
    """Images whose paths follow a pattern, below `base`, or below train/, query/ and gallery/ in it.

    In the pattern, `{identity}`, `{camera}`, `{split}` and any other `{column}` stand for a part of a name, `*` for
    anything, `/` between folders: "{identity}_c{camera}_*.jpg", "{camera}/{identity}/*". Without `{camera}`, cameras
    are unknown. See `patterns.Pattern`.

    Raises:
        UserError: a pattern that is none, names that do not fit it, or one that fits it in two ways.
    """
    pattern = patterns.parse(text)
    parts: dict[str, Rows] = {}
    notes: list[str] = []
    for part, folder in _split_folders(base, notes).items():
        paths = images_below(folder, pattern.depth)
        if not paths:
            level = f" {pattern.depth} folders down" if pattern.depth else ""
            raise UserError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}){level}, where {text} looks")
        read = [pattern.readings(path.relative_to(folder).as_posix()) for path in paths]
        wrong = [path for path, found in zip(paths, read, strict=True) if not found]
        if wrong:
            raise UserError(f"{wrong[0]} is not named like {text} ({len(wrong)} of {len(paths)} in that folder)")
        for path, found in zip(paths, read, strict=True):
            if len(found) > 1:
                ways = " or ".join(", ".join(f"{name} '{value}'" for name, value in way.items()) for way in found)
                raise UserError(
                    f"{path}: {text} fits it in two ways: {ways}; say more in the pattern, as {{camera:d}} for digits"
                )
            _add(parts, path, {"split": part, **found[0]}, where=str(path))
    return _dataset(base, parts, notes)


def read_table(file: Path, option: str) -> Dataset:
    """A CSV (comma, semicolon or tab) or Parquet file with the columns path and identity, perhaps camera and split.

    Paths are relative to the file's folder. `split` is train, query, gallery, multi_query or test; without it all
    training. Other columns are kept as they are.
    """
    table = tables.read_table(file)
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
        if row["identity"].casefold() in _NOTHING:
            raise UserError(
                f"{where}: identity '{row['identity']}' is what programs write for an empty cell; write a name "
                "otherwise, and junk where nobody is known"
            )
        _add(parts, file.parent / expanded(row.pop("path")), {"split": "train", **row}, where)
    if not parts:
        raise UserError(f"{file} has no rows")
    _all_there(file, [path for rows in parts.values() for path in rows.paths])
    return _dataset(file, parts, [])


def _add(parts: dict[str, Rows], path: Path, row: Mapping[str, str], where: str) -> None:
    split = row["split"].casefold().replace("-", "_")
    if split not in _SPLIT_FOLDERS:
        raise UserError(f"{where}: unknown split '{row['split']}': one of {', '.join(_SPLIT_FOLDERS)}")
    rows = parts.setdefault(split, Rows())
    rows.paths.append(path)
    rows.identities.append(row["identity"])
    camera = row.get("camera", "")
    rows.cameras.append("" if camera.casefold() in _NOTHING else camera)
    for name, value in row.items():
        if name not in _KNOWN:
            rows.columns.setdefault(name, []).append(value)


def _all_there(file: Path, paths: list[Path]) -> None:
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise UserError(f"{file} names {len(absent)} files of {len(paths)} that do not exist, the first {absent[0]}")


def _split_folders(base: Path, notes: list[str]) -> dict[str, Path]:
    """The splits' folders in `base`; where there is none, `base` itself is for training. What is not read is noted."""
    found = {}
    for split, names in _SPLIT_FOLDERS.items():
        folders = [folder for name in names if (folder := child(base, name)) and folder.is_dir()]
        if folders:
            found[split] = folders[0]
    others = [folder for folder in subfolders(base) if folder not in found.values()]
    if found and others:
        notes.append(
            f"{', '.join(folder.name for folder in others[:4])}{', ...' * (len(others) > 4)} in {base}: not read, "
            f"beside {', '.join(folder.name for folder in found.values())}"
        )
    return found or {"train": base}


def _dataset(source: Path, parts: dict[str, Rows], notes: list[str], *, folders: bool = False) -> Dataset:
    """Numbers for the names of people and cameras, the same in all splits; the names stay beside them."""
    if "test" in parts and (rivals := parts.keys() & {"query", "gallery"}):
        raise UserError(
            f"{source} has test images beside {' and '.join(sorted(rivals))} images: if test is the gallery, call it "
            "gallery; if it is to be divided into query and gallery, there must be neither beside it"
        )
    people_of = _one_spelling({split: rows.identities for split, rows in parts.items()}, "identity", notes, folders)
    cameras_of = _one_spelling({split: rows.cameras for split, rows in parts.items()}, "camera", notes, False)
    asked = {people_of[name] for split, rows in parts.items() if split != "gallery" for name in rows.identities}
    people, cameras = _number_people(set(people_of.values()), asked), _number_cameras(set(cameras_of.values()))
    splits = {
        split: Split(
            rows.paths,
            np.array([people[people_of[name]] for name in rows.identities], np.int64),
            np.array([cameras[cameras_of[name]] for name in rows.cameras], np.int64),
            {
                name: np.array(words)
                for name, words in {**rows.columns, "identity": rows.identities, "camera": rows.cameras}.items()
            },
        )
        for split, rows in parts.items()
    }
    if "test" in splits:
        test = splits.pop("test")
        query = first_of_each(test)
        splits |= {"query": test.subset(query), "gallery": test.subset(~query)}
    half = splits.keys() & {"query", "gallery"}
    absent = {
        name: f"{source} has {', '.join(half)} images, but none for {name}"
        for name in ("query", "gallery")
        if half and name not in splits
    }
    return Dataset(source.stem, source, absent=absent, layout="own", notes=tuple(notes), **splits)


def _one_spelling(words: Mapping[str, Iterable[str]], what: str, notes: list[str], folders: bool) -> dict[str, str]:
    """For each word the one that stands for it: numbers are compared as numbers, letters as their composed form.

    Raises UserError where two folders of one split would be one person's.
    """
    meant: dict[str, str] = {}
    spelt: dict[str, dict[str, str]] = defaultdict(dict)  # by meaning: each spelling, and the split where it stands
    for split, said in words.items():
        for word in said:
            if word not in meant:
                number = _NUMBER.fullmatch(word)
                key = number.expand(r"\1\2").removeprefix("+") if number else unicodedata.normalize("NFC", word)
                meant[word] = "0" if key == "-0" else key
            key = meant[word]
            if word not in spelt[key] and folders and split in spelt[key].values():
                other = next(spelling for spelling, place in spelt[key].items() if place == split)
                raise UserError(
                    f"the folders '{other}' and '{word}' of {split}: one {what} or two? Join them, or name them apart"
                )
            spelt[key].setdefault(word, split)
    several = [list(spellings) for spellings in spelt.values() if len(spellings) > 1]
    if several:
        shown = "; ".join(" = ".join(f"'{word}'" for word in spellings) for spellings in several[:3])
        notes.append(f"{len(several)} with one {what} in several spellings, taken as one: {shown}")
    return meant


def _number_people(names: set[str], asked: set[str]) -> dict[str, int]:
    """Identity numbers: whole numbers keep their value, other names are numbered from 1 in sorted order.

    A 0 among the `asked` (train and query) is a person, not a distractor; then all numbers go up by one.
    """
    if any(name.startswith("-") and _NUMBER.fullmatch(name) and name != "-1" for name in names):
        wrong = next(name for name in sorted(names) if name.startswith("-") and name != "-1")
        raise UserError(f"identity {wrong}: of the negative numbers only -1, junk, means something")
    if all(map(_NUMBER.fullmatch, names)) and max(map(int, names)) < _LARGEST:
        first = 1 if "0" in asked else 0
        return {name: JUNK if name == "-1" else int(name) + first for name in names}
    special = {name: _SPECIAL[name.casefold()] for name in names if name.casefold() in _SPECIAL}
    return {name: number for number, name in enumerate(sorted(names - special.keys()), start=1)} | special


def _number_cameras(names: set[str]) -> dict[str, int]:
    known = sorted(names - {"", "-1"})
    numbers = all(name.isdecimal() and int(name) < _LARGEST for name in known)
    return {name: int(name) if numbers else place for place, name in enumerate(known, start=1)} | {
        "": UNKNOWN_CAMERA,
        "-1": UNKNOWN_CAMERA,
    }
