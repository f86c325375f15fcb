"""Data sets from the folders in which they lie: `read_dataset` is the way in. No file is copied or moved."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dgnet import console
from dgnet.config import Data
from dgnet.datasets import public
from dgnet.datasets.folders import (
    child,
    existing_folder,
    find_root,
    has_any,
    images_in,
    innermost,
    levels,
    not_read,
    require_utf8,
    subfolders,
)
from dgnet.datasets.official import missing
from dgnet.datasets.own import read_folders, read_pattern, read_table
from dgnet.datasets.records import DISTRACTOR, Dataset, hold_out, join
from dgnet.errors import UserError, nearest
from dgnet.files import expanded


class Layout(NamedTuple):
    """How one data set lies on disk.

    title: its name in messages
    marks: files or folders of which any one shows that a folder is this data set; none for own data
    read: the reader, given the folder and the option
    options: the words that may follow the layout's name after a colon, the first being the default; None: free text
    """

    title: str
    marks: tuple[str, ...]
    read: Callable[[Path, str], Dataset]
    options: tuple[str, ...] | None = ("",)


_MARKET_MARKS = ("bounding_box_train", "bounding_box_test")
_CUHK03_MARKS = (
    "detected",
    "labeled",
    "labelled",
    "cuhk03_new_protocol_config_detected.mat",
    "cuhk03_new_protocol_config_labeled.mat",
)
_DRAWS = tuple(str(draw) for draw in range(10))

LAYOUTS: dict[str, Layout] = {
    "market1501": Layout("Market-1501", _MARKET_MARKS, public.market1501, ("", "500k")),
    "dukemtmc": Layout("DukeMTMC-reID", _MARKET_MARKS, public.dukemtmc),
    "occluded-duke": Layout("Occluded-Duke", _MARKET_MARKS, partial(public.dukemtmc, name="occluded-duke")),
    "msmt17": Layout("MSMT17", ("list_train.txt", "list_query.txt"), public.msmt17, ("train+val", "train")),
    "cuhk03-np": Layout("CUHK03-NP", _CUHK03_MARKS + _MARKET_MARKS, public.cuhk03_np, ("", "detected", "labelled")),
    "viper": Layout("VIPeR", ("cam_a", "cam_b"), public.viper, _DRAWS),
    "cuhk01": Layout("CUHK01", ("campus",), public.cuhk01, _DRAWS),
    "veri776": Layout("VeRi-776", ("image_train", "image_query"), public.veri776),
    "vehicleid": Layout("VehicleID", ("train_test_split",), public.vehicleid, None),
    "occluded-reid": Layout("Occluded-REID", ("occluded_body_images", "whole_body_images"), public.occluded_reid),
    "folders": Layout("a folder per identity", (), read_folders),
    "pattern": Layout("a folder with a name pattern", (), read_pattern, None),
    "table": Layout("a table", (), read_table, None),
}


def read_dataset(root: Path | str, layout: str = "auto", need: Sequence[str] | None = None) -> Dataset:
    """The data set in the folder (or table) `root`.

    Args:
        root: the folder of the data set; one that holds it, up to two levels above, will do.
        layout: a key of `LAYOUTS`, perhaps with an option ("msmt17:train", "pattern:{identity}_*"), or "auto".
        need: the splits that must be there ("train", "query", "gallery"); by default all that the layout has.

    Raises:
        UserError: an unknown layout, a folder that does not follow it, a split that is needed and cannot be read, or
            training images of a single identity.
    """
    root = expanded(root)
    if layout == "auto":
        layout = detect(root)
        console.notice(f"{root}: layout {layout}")
    name, _, option = layout.partition(":")
    if name not in LAYOUTS:
        raise UserError(f"unknown layout '{name}'{_nearest(name, ['auto', *LAYOUTS])}")
    kind = LAYOUTS[name]
    if kind.options is not None:
        option = option or kind.options[0]
        if option not in kind.options:
            raise UserError(f"layout {name} has no option '{option}'{_nearest(option, kind.options)}")
    if name == "table":
        base = _table_file(root, option)
    else:
        base = find_root(root, kind.marks, kind.title) if kind.marks else existing_folder(root)
    dataset = replace(kind.read(base, option), layout=layout)
    if base.is_dir() and (passed_over := not_read(base)):
        sentence = f"{len(passed_over)} pictures of a kind that is not read, the first {passed_over[0]}; make them JPEG"
        dataset = replace(dataset, notes=(*dataset.notes, sentence))
    dataset.require(*(dataset.absent if need is None else need))
    for sentence in dataset.notes:
        console.warn(sentence)
    for sentence in missing(dataset):
        console.warn(sentence)
    return _trainable(dataset) if dataset.train and (need is None or "train" in need) else dataset


def elsewhere(data: Data, root: Path | str | None, layout: str = "auto", holdout: float | None = None) -> Data:
    """`data` with another folder, another share of people held out of it, or both; None leaves what is there.

    Of another folder nobody is held out unless asked for. The seed stays, so that on the same people the same are held
    out. Raises UserError for a share that is none.
    """
    if holdout is not None and not 0 <= holdout < 1:
        raise UserError(f"holdout = {holdout:g}: a share of the people, from 0 to below 1, is needed")
    data = data if root is None else Data(root=str(root), layout=layout, holdout_seed=data.holdout_seed)
    return data if holdout is None else replace(data, holdout=holdout)


def of_config(data: Data, *need: str, recorded: bool = False) -> Dataset:
    """The data set that a configuration names, with what `join` adds to its training and `holdout` holds out of it.

    Args:
        data: `Config.data`.
        need: the splits that must be there; `join` matters where "train" is among them.
        recorded: whether a run wrote `data`, so that its folder may have moved since.

    Raises:
        UserError: as `read_dataset`; no root; an entry of `join` that is none.
    """
    option = "data.root=FOLDER" if "train" in need else "--data FOLDER"
    if not data.root:
        raise UserError(f"data.root is empty: say where the data set is, as {option}")
    if recorded and not expanded(data.root).exists():
        again = f", data.holdout={data.holdout:g} (--holdout {data.holdout:g}) as before" if data.holdout else ""
        raise UserError(
            f"data folder {data.root}, where the run was trained, does not exist; if it has moved, say {option}{again}"
            ", and data.layout (--layout) where it is laid out otherwise"
        )
    asked = ("train",) if data.holdout else need
    dataset = read_dataset(data.root, data.layout, need=asked)
    if data.holdout:
        dataset = hold_out(dataset, data.holdout, data.holdout_seed)
        words = dataset.words("identity")
        held_out = [words.get(person, str(person)) for person in dataset.query.people.tolist()]
        few = f"{', '.join(held_out[:8])}{', ...' * (len(held_out) > 8)}"
        console.notice(f"{dataset.root}: held out as query and gallery: {few} (data.holdout = {data.holdout:g})")
    if "train" not in need or not data.join:
        return dataset
    others = []
    for entry in data.join:
        named, equals, folder = entry.partition("=")
        if not equals or (named.partition(":")[0] not in ("auto", *LAYOUTS) and expanded(entry).exists()):
            named, folder = "auto", entry
        others.append(read_dataset(folder, named, need=("train",)))
    both = join([dataset, *others])
    return replace(dataset, name=both.name, train=both.train)


def detect(root: Path | str) -> str:
    """The layout of the folder (or table) `root`, for `read_dataset`.

    Raises UserError where no layout or more than one fits.
    """
    root = expanded(root)
    if root.is_file() and root.suffix.lower() in (".csv", ".parquet"):
        return "table"
    root = existing_folder(root)
    for level in levels(root):
        found = {
            _tell_apart(name, folder)
            for folder in level
            for name, kind in LAYOUTS.items()
            if has_any(folder, kind.marks)
        }
        if len(found) == 1:
            return found.pop()
        if found:
            raise UserError(f"{root} fits more than one layout: choose {' or '.join(sorted(found))}")
    if len(_tables_in(root)) == 1:
        return "table"
    inside = innermost(root)
    if any(images_in(inner) for folder in [inside, *subfolders(inside)] for inner in subfolders(folder)):
        return "folders"
    for above in root.parents[:2]:
        names = {_tell_apart(name, above) for name, kind in LAYOUTS.items() if has_any(above, kind.marks)}
        titles = {LAYOUTS[name.partition(":")[0]].title for name in names}
        if titles:
            raise UserError(f"{root} is a folder inside {' or '.join(sorted(titles))}: give {above} instead")
    held = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    few = f"it holds {', '.join(held[:4])}{', ...' * (len(held) > 4)}" if held else "it is empty"
    example = "pattern:{identity}_*.jpg, after its file names" if images_in(root) else f"one of {', '.join(LAYOUTS)}"
    raise UserError(f"the layout of {root} cannot be told: name it ({example}); {few}")


def _tell_apart(layout: str, folder: Path) -> str:
    """Of the layouts that share the folders of Market-1501, the one that the names of `folder` and its images show."""
    if not set(_MARKET_MARKS) <= set(LAYOUTS[layout].marks) or has_any(folder, _CUHK03_MARKS):
        return layout
    if folder.name.casefold() in ("detected", "labeled", "labelled"):
        return "cuhk03-np:detected" if folder.name.casefold() == "detected" else "cuhk03-np:labelled"
    inner = [child(folder, name) for name in public.MARKET_FOLDERS.values()]
    images = next((images for place in inner if place and place.is_dir() and (images := images_in(place))), [])
    if images and re.search(r"_c\d+_f\d+", images[0].name):
        return "occluded-duke" if "occluded" in str(folder).casefold() else "dukemtmc"
    return "market1501"


def _trainable(dataset: Dataset) -> Dataset:
    """`dataset` without junk and distractors among its training images, of which there must be two identities."""
    train = dataset.train
    proper = train.identities > DISTRACTOR
    if not proper.all():
        console.warn(f"{dataset.name}: {(~proper).sum()} training images are junk or distractors and are left out")
        train = train.subset(proper)
    if len(train.people) < 2:
        raise UserError(f"{dataset.root} has training images of {len(train.people)} identity: two or more are needed")
    return replace(dataset, train=train)


def _tables_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".parquet"))


def _table_file(root: Path, option: str) -> Path:
    """The table that `root` is, or that lies in it: the one that `option` names, or the only one."""
    if root.is_file():
        require_utf8(root)
        return root.absolute()
    folder = existing_folder(root)
    found = [folder / option] if option else _tables_in(folder)
    if len(found) != 1 or not found[0].is_file():
        held = ", ".join(path.name for path in _tables_in(folder)) or "none"
        raise UserError(f"{root}: name the CSV or Parquet file, as in table:people.csv (there: {held})")
    return found[0]


def _nearest(word: str, choices: Sequence[str]) -> str:
    near = nearest(word, choices)
    hint = f" did you mean '{near}'?" if near else ""
    return f":{hint} one of {', '.join(choice for choice in choices if choice)}"
