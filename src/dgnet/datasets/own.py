"""Readers for one's own data: a folder per identity, files named after a pattern, or a table."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dgnet import console
from dgnet.datasets import patterns, tables
from dgnet.datasets.folders import (
    IMAGE_SUFFIXES,
    child,
    everywhere_below,
    images_below,
    images_in,
    innermost,
    is_image,
    subfolders,
)
from dgnet.datasets.names import number_cameras, number_people, one_spelling
from dgnet.datasets.records import Dataset, Split, first_of_each
from dgnet.errors import UserError, nearest
from dgnet.files import expanded, is_file
from dgnet.labels import NOTHING, meaning

# folder names of the splits; "test" alone is divided into query and gallery
_SPLIT_FOLDERS = {
    "train": ("train_all", "train", "bounding_box_train"),
    "query": ("query", "probe"),
    "gallery": ("gallery", "bounding_box_test"),
    "multi_query": ("multi-query", "multi_query"),
    "test": ("test",),
}
_CAMERA_IN_NAME = re.compile(r"_c(\d+)", re.IGNORECASE)
_SHORTENED = re.compile(r"\d([.,]\d+)?[eE]\+\d\d")
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
    if (inner := innermost(base)) != base:
        console.notice(f"reading {inner}, the only folder in {base}")
        base = inner
    notes: list[str] = []
    places = _split_folders(base)
    parts = {name: _folder_per_identity(folder, notes) for name, folder in places.items()}
    _cameras_of_names(parts, notes)
    _note_left_out(base, places, parts, notes)
    return _dataset(base, parts, notes, folders=True)


def _cameras_of_names(parts: Mapping[str, Rows], notes: list[str]) -> None:
    """Fill in the cameras if every file name says its own. Raises UserError where one says two."""
    paths = [path for rows in parts.values() for path in rows.paths]
    said = [_CAMERA_IN_NAME.findall(path.name) for path in paths]
    if not all(said):
        if any(said):
            notes.append(
                f"cameras are not used: {said.count([])} of {len(paths)} file names do not say theirs (_c3), first "
                f"{paths[said.index([])]}"
            )
        return
    for path, cameras in zip(paths, said, strict=True):
        if len(set(map(int, cameras))) > 1:
            raise UserError(
                f"{path}: its name says camera {' and camera '.join(cameras)}: which one? Rename it, or say it by a "
                "pattern, as pattern:{identity}/*_c{camera:d}_*"
            )
    cameras_of = iter(said)
    for rows in parts.values():
        rows.cameras = [next(cameras_of)[0] for _ in rows.paths]


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
        loose = (
            f" (images lie directly in it: use the layout pattern; if {folder.name} is a person, name the folder "
            "otherwise)"
            if images_in(folder)
            else ""
        )
        deeper = next((inner for person in empty for inner in subfolders(person) if images_in(inner)), None)
        hint = (
            f" (there are some one level deeper, in {deeper}: use pattern:{{camera}}/{{identity}}/*)" if deeper else ""
        )
        raise UserError(f"{folder} has no folders with images, one per identity{loose or hint}")
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
    in_pattern = any(piece.name == "split" for piece in pattern.pieces)
    places = {"train": base} if in_pattern else _split_folders(base)
    for part, folder in places.items():
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
        _note_longer_names(pattern, folder, paths, notes)
    _note_left_out(base, places, parts, notes)
    return _dataset(base, parts, notes)


def _note_longer_names(pattern: patterns.Pattern, folder: Path, paths: Sequence[Path], notes: list[str]) -> None:
    """Say where a name before `*` ends at the first place that fits, and might as well end later: anna, anna_clara."""
    doubtful = []
    for path in paths:
        ways = pattern.readings(path.relative_to(folder).as_posix(), shortest=False)
        who = dict.fromkeys(way["identity"] for way in ways)
        if len(who) > 1 and not next(iter(who)).isdecimal():
            doubtful.append((path, list(who)))
    if doubtful:
        path, (taken, longer, *_) = doubtful[0]
        notes.append(
            f"{pattern.text} takes {path.name} for '{taken}', and could take it for '{longer}' ({len(doubtful)} of "
            f"{len(paths)} names in {folder}): a field before * is as short as it can be; if the longer name is meant, "
            "say what follows it, as {identity}_{number:d}.*"
        )


def read_table(file: Path, option: str) -> Dataset:
    """A CSV (comma, semicolon or tab) or Parquet file with the columns path and identity, perhaps camera and split.

    Paths are relative to the file's folder. `split` is train, query, gallery, multi_query or test; without it all
    training. Other columns are kept as they are.

    Raises:
        UserError: as `tables.read_table`; no such column, a cell without a meaning, a file that is not there or that is
            said to show two people.
    """
    notes: list[str] = []
    table = _known_columns(file, tables.read_table(file), notes)
    parts: dict[str, Rows] = {}
    seen: dict[str, tuple[int, str, str]] = {}
    for number, values in enumerate(zip(*table.values(), strict=True), start=1):
        row = dict(zip(table, values, strict=True))
        where = f"{file}, row {number}"
        if not row["path"] or not row["identity"]:
            raise UserError(f"{where}: path or identity is empty")
        if row["identity"].casefold() in NOTHING:
            raise UserError(
                f"{where}: identity '{row['identity']}' is what programs write for an empty cell; write a name "
                "otherwise, and junk where nobody is known"
            )
        if _SHORTENED.fullmatch(row["identity"]):
            raise UserError(
                f"{where}: identity '{row['identity']}' is how a spreadsheet shortens a long number, "
                "whose last digits are lost; write it in full, as text"
            )
        path = _file_of(file, row.pop("path"), where)
        who, camera = row["identity"], row.get("camera", "")
        before, *words = seen.setdefault(os.path.normpath(path), (number, who, camera))
        if [*map(meaning, words)] != [meaning(who), meaning(camera)]:
            one, other = (
                f"'{who}'" + f" by camera '{camera}'" * bool(camera) for who, camera in (words, (who, camera))
            )
            raise UserError(f"{where}: {path} shows {other}, but {one} in row {before}: which is right?")
        _add(parts, path, {"split": "train", **row}, where)
    if not parts:
        raise UserError(f"{file} has no rows")
    _all_there(file, [path for rows in parts.values() for path in rows.paths])
    return _dataset(file, parts, notes)


def _known_columns(file: Path, table: tables.Table, notes: list[str]) -> tables.Table:
    """`table` with the columns that mean something under their own names, upper and lower case alike."""
    known: tables.Table = {}
    for name, cells in table.items():
        meant = name.casefold() if name.casefold() in _KNOWN else name
        if meant in known:
            raise UserError(f"{file}: column '{meant}' stands twice ({', '.join(table)}); remove or rename one")
        known[meant] = cells
    for name in ("path", "identity"):
        if name not in known:
            close = nearest(name, table)
            hint = f"; is '{close}' the one?" if close else ""
            raise UserError(f"{file} has no column '{name}'; its columns are {', '.join(table)}{hint}")
    for name in ("camera", "split"):
        near = [column for column in known if column.casefold().startswith(name[:3])]
        if name not in known and near:
            notes.append(f"{file} has no column '{name}'; if '{near[0]}' is meant, rename it")
    return known


def _file_of(table: Path, said: str, where: str) -> Path:
    r"""The file that a cell of `table` names; "shop\anna.jpg" of a table from Windows is read elsewhere, too.

    Raises UserError for what can be no path on this machine: a URL, a drive of Windows.
    """
    if re.match(r"[a-zA-Z][\w+.-]+://", said):
        raise UserError(f"{where}: {said} is a URL; fetch the photos, and write their paths")
    if os.name != "nt" and re.match(r"[a-zA-Z]:[\\/]", said):
        raise UserError(f"{where}: {said} lies on a drive of Windows; write where it is on this machine")
    path = table.parent / expanded(said)
    return path if "\\" not in said or is_file(path) else table.parent / said.replace("\\", "/")


def _add(parts: dict[str, Rows], path: Path, row: Mapping[str, str], where: str) -> None:
    split = row["split"].casefold().replace("-", "_")
    if not split:
        raise UserError(f"{where}: split is empty; one of {', '.join(_SPLIT_FOLDERS)} is needed")
    if split not in _SPLIT_FOLDERS:
        raise UserError(f"{where}: unknown split '{row['split']}': one of {', '.join(_SPLIT_FOLDERS)}")
    rows = parts.setdefault(split, Rows())
    rows.paths.append(path)
    rows.identities.append(row["identity"])
    camera = row.get("camera", "")
    rows.cameras.append(camera)
    for name, value in row.items():
        if name not in _KNOWN:
            rows.columns.setdefault(name, []).append(value)


def _instead_of(folder: Path, path: Path) -> str:
    """What there is in place of a file below `folder` that is missing, for the end of a sentence."""
    try:
        if path.is_dir():
            return " (a folder: name each photo in it)"
        alike = child(folder, str(path.relative_to(folder)))
    except (OSError, ValueError):  # a name that no file can have, or elsewhere
        return ""
    return f" (there is {alike})" if alike else ""


def _all_there(file: Path, paths: list[Path]) -> None:
    absent = [path for path in paths if not is_file(path)]
    if not absent:
        return
    there = _instead_of(file.parent, absent[0])
    raise UserError(f"{file} names {len(absent)} files of {len(paths)} that do not exist, the first {absent[0]}{there}")


def _split_folders(base: Path) -> dict[str, Path]:
    """The splits' folders in `base`, upper and lower case alike; where there is none, `base` itself is for training.

    Raises UserError where a name stands twice.
    """
    inside: dict[str, list[Path]] = defaultdict(list)
    for folder in subfolders(base):
        inside[folder.name.casefold()].append(folder)
    found: dict[str, Path] = {}
    for split, names in _SPLIT_FOLDERS.items():
        folders = next((inside[name] for name in names if name in inside), [])
        if len(folders) > 1:
            raise UserError(f"{base} holds {' and '.join(folder.name for folder in folders)}: which is for {split}?")
        if folders:
            found[split] = folders[0]
    return found or {"train": base}


def _note_left_out(base: Path, places: Mapping[str, Path], parts: Mapping[str, Rows], notes: list[str]) -> None:
    """Say which folders beside those of the splits, and which images elsewhere below `base`, are not read."""
    read = set(places.values())
    beside = [] if base in read else [folder for folder in subfolders(base) if folder not in read]
    used = {path for rows in parts.values() for path in rows.paths}
    left = [path for path in everywhere_below(base) if is_image(path.name) and path not in used]
    left = [path for path in left if not any(path.is_relative_to(folder) for folder in beside)]
    if base / "train_all" in read:  # as the published implementation prepares a set: train and val are copies
        beside = [folder for folder in beside if folder.name not in ("train", "val")]
    if beside:
        notes.append(
            f"{', '.join(folder.name for folder in beside[:4])}{', ...' * (len(beside) > 4)} in {base}: not read, "
            f"beside {', '.join(folder.name for folder in places.values())}"
        )
    if left:
        notes.append(f"{len(left)} images below {base} lie where none is looked for and are left out, first {left[0]}")


def _dataset(source: Path, parts: dict[str, Rows], notes: list[str], *, folders: bool = False) -> Dataset:
    """Numbers for the names of people and cameras, the same in all splits; the names stay beside them."""
    if "test" in parts and (rivals := parts.keys() & {"query", "gallery"}):
        raise UserError(
            f"{source} has test images beside {' and '.join(sorted(rivals))} images: if test is the gallery, call it "
            "gallery; if it is to be divided into query and gallery, there must be neither beside it"
        )
    people_of = one_spelling({split: rows.identities for split, rows in parts.items()}, "identity", notes, folders)
    cameras_of = one_spelling({split: rows.cameras for split, rows in parts.items()}, "camera", notes, False)
    notes += [
        f"camera '{word}' is taken as unknown; if a camera is called so, name it otherwise"
        for word in cameras_of
        if word.casefold() in NOTHING and word.casefold() != "nan"
    ]
    asked = {people_of[name] for split, rows in parts.items() if split != "gallery" for name in rows.identities}
    people, cameras = number_people(set(people_of.values()), asked, source), number_cameras(set(cameras_of.values()))
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
