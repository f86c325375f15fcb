"""What the readers of public sets share: splits by folder, by name, by list and by .mat file.

A split that cannot be read stops no other one: the reason goes into `Dataset.absent`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dgnet import console
from dgnet.datasets.folders import child, matches, named, some_images_in, subfolders
from dgnet.datasets.records import UNKNOWN_CAMERA, Dataset, Ints, Split
from dgnet.errors import UserError

Read = TypeVar("Read")

MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MARKET_NAME = r"(?i)(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})(?!\d)"


def read_splits(
    name: str, base: Path, readers: Mapping[str, Callable[[], Split]], notes: Sequence[str] = ()
) -> Dataset:
    """Whatever splits can be read, and for the others why not; the readers may add to `notes`."""
    splits: dict[str, Any] = {}
    absent = {}
    for split, read in readers.items():
        try:
            splits[split] = read()
        except (UserError, OSError) as error:
            absent[split] = f"{name}, {split}: {error}"
    return Dataset(name, base, absent=absent, layout=name, notes=tuple(dict.fromkeys(notes)), **splits)


def in_folders(name: str, base: Path, folders: dict[str, str], read: Callable[[Path], Split]) -> Dataset:
    """The data set whose splits lie in `folders` of `base`, by split."""
    return read_splits(name, base, {split: partial(_in_folder, base, place, read) for split, place in folders.items()})


def _in_folder(base: Path, name: str, read: Callable[[Path], Split]) -> Split:
    return read(need(base, name))


def need(base: Path, name: str) -> Path:
    """The folder or file `name` in `base`, upper and lower case alike; raises UserError where it is missing."""
    found = child(base, name)
    if found is None:
        alike = [entry.name for entry in base.iterdir() if entry.name.casefold() == name.casefold()]
        if alike:
            raise UserError(f"{base} has {' and '.join(sorted(alike))}: which of them is '{name}'?")
        raise UserError(f"{base} has no '{name}'")
    if found.name != Path(name).name:
        console.notice(f"{base}: reading {found.name} as {name}")
    return found


def by_name(folder: Path, example: str, pattern: str = MARKET_NAME) -> Split:
    """The images in `folder`, whose names say `identity` and perhaps `camera`; other groups of `pattern` are columns.

    Raises UserError naming the first that is not named like `example`.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; a folder of images is needed")
    paths = some_images_in(folder)
    found = [match.groupdict() for match in matches(paths, pattern, example)]
    return Split(
        paths,
        ints(match["identity"] for match in found),
        ints(match.get("camera", UNKNOWN_CAMERA) for match in found),
        {
            column: np.array([match[column] for match in found])
            for column in found[0]
            if column not in ("identity", "camera")
        },
    )


def by_person(folder: Path) -> Split:
    """The images in the folders in `folder`, which are called by the number of a person; cameras unknown."""
    paths = [path for person in subfolders(folder) for path in some_images_in(person)]
    if not paths:
        raise UserError(f"{folder} has no folders with images, one per identity")
    found = matches([path.parent for path in paths], r"\d{1,9}$", "001")
    return Split(paths, ints(match[0] for match in found), unknown(len(paths)))


def by_list(listing: Path, folder: Path, names: Sequence[str], split: Split, notes: list[str]) -> Split:
    """`split`, whose images [N] are those that `listing` calls `names` [N] in `folder`; each of them once.

    Raises UserError where an image is missing, or is listed under two identities.
    """
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        before = first.setdefault(name, place)
        if split.identities[before] != split.identities[place]:
            raise UserError(f"{listing} names {name} under two identities")
    if len(first) < len(names):
        twice = next(name for place, name in enumerate(names) if first[name] != place)
        notes.append(f"{listing} names {len(names) - len(first)} images twice, which count once, the first {twice}")
    return replace(split, paths=named(listing, folder, names)).subset(list(first.values()))


def listed(
    names: Sequence[str], people: Ints, cameras: Ints, places: Ints | None = None, **columns: Sequence[str]
) -> Split:
    """What a list says of images that it calls `names` [N]; `by_list` finds their files."""
    return Split(
        list(map(Path, names)), people, cameras, {key: np.array(said) for key, said in columns.items()}, places
    )


def of_mat(file: Path, what: str, variables: Sequence[str], read: Callable[[dict[str, Any]], Read]) -> Read:
    """What `read` makes of the `variables` of a MATLAB file.

    Raises UserError where the file is damaged or no `what`: bytes from anywhere can make SciPy raise anything.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f"{file}: reading a .mat file needs scipy: pip install dgnet[mat]") from error
    try:
        return read(loadmat(file, variable_names=list(variables)))
    except Exception as error:
        raise UserError(f"{file} is no {what} ({type(error).__name__}: {error})") from error


def from_one(dataset: Dataset) -> Dataset:
    """Identities counted from 1 instead of 0, which would mean a distractor."""
    console.notice(f"{dataset.root}: identities count from 0; each is read as one more, since 0 means a distractor")
    return replace(
        dataset,
        train=_one_more(dataset.train),
        query=_one_more(dataset.query),
        gallery=_one_more(dataset.gallery),
        multi_query=dataset.multi_query and _one_more(dataset.multi_query),
    )


def _one_more(split: Split) -> Split:
    return replace(split, identities=np.where(split.identities < 0, split.identities, split.identities + 1))


def people_only(dataset: Dataset) -> Dataset:
    """The same of a set without distractors: a 0 is a person wherever it stands."""
    return from_one(dataset) if any(0 in split.identities for split in dataset.splits.values()) else dataset


def one_of_each(split: Split, keys: Sequence[Ints], seed: int) -> NDArray[np.bool_]:
    """A mask [N] of one image, drawn with `seed`, for each combination of `keys` (arrays [N])."""
    order = np.random.default_rng(seed).permutation(len(split))
    drawn = order[np.unique(np.stack(keys)[:, order], axis=1, return_index=True)[1]]
    return np.isin(np.arange(len(split)), drawn)


def ints(values: Iterable[Any]) -> Ints:
    return np.array([int(value) for value in values], np.int64)


def unknown(count: int) -> Ints:
    return np.full(count, UNKNOWN_CAMERA, np.int64)
