"""Every layout that is known, and which of them a folder has."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dgnet.datasets import cloth_changing, infrared, public, two_views
from dgnet.datasets.folders import child, existing_folder, has_any, images_in, innermost, levels, subfolders
from dgnet.datasets.official import OFFICIAL
from dgnet.datasets.own import read_folders, read_pattern, read_table
from dgnet.datasets.records import Dataset
from dgnet.datasets.splits import MARKET_FOLDERS
from dgnet.datasets.tables import TABLE_SUFFIXES
from dgnet.errors import UserError
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
_TRIALS = tuple(str(trial) for trial in range(1, 11))


def _with_draws(*options: str) -> tuple[str, ...]:
    return options + tuple(f"{option}/{draw}" for option in options for draw in _DRAWS)


LAYOUTS: dict[str, Layout] = {
    "market1501": Layout("Market-1501", _MARKET_MARKS, public.market1501, ("", "500k")),
    "dukemtmc": Layout("DukeMTMC-reID", _MARKET_MARKS, public.dukemtmc),
    "occluded-duke": Layout("Occluded-Duke", _MARKET_MARKS, partial(public.dukemtmc, name="occluded-duke")),
    "msmt17": Layout("MSMT17", ("list_train.txt", "list_query.txt"), public.msmt17, ("train+val", "train")),
    "cuhk03-np": Layout("CUHK03-NP", _CUHK03_MARKS + _MARKET_MARKS, public.cuhk03_np, ("", "detected", "labelled")),
    "viper": Layout("VIPeR", ("cam_a", "cam_b"), two_views.viper, _DRAWS),
    "cuhk01": Layout("CUHK01", ("campus",), two_views.cuhk01, _DRAWS),
    "veri776": Layout("VeRi-776", ("image_train", "image_query"), public.veri776),
    "vehicleid": Layout("VehicleID", ("train_test_split",), public.vehicleid, None),
    "prid2011": Layout("PRID 2011", ("single_shot", "multi_shot", "cam_a", "cam_b"), two_views.prid2011, _DRAWS),
    "grid": Layout("GRID", ("features_and_partitions.mat", "probe"), two_views.grid, _DRAWS),
    "occluded-reid": Layout("Occluded-REID", ("occluded_body_images", "whole_body_images"), two_views.occluded_reid),
    "partial-reid": Layout(
        "Partial-REID", ("partial_body_images", "whole_body_images"), two_views.partial_reid, ("partial", "occluded")
    ),
    "ag-reid": Layout(
        "AG-ReID", ("query_all_c0", "query_all_c3", "bounding_box_train"), two_views.ag_reid, ("aerial", "ground")
    ),
    "ltcc": Layout("LTCC", tuple(cloth_changing.LTCC_FOLDERS.values()), cloth_changing.ltcc),
    "prcc": Layout("PRCC", ("rgb",), cloth_changing.prcc, _with_draws("change", "same")),
    "deepchange": Layout("DeepChange", ("train-set-bbox.txt", "test-set-query-bbox.txt"), cloth_changing.deepchange),
    "sysu-mm01": Layout("SYSU-MM01", ("cam1", "cam3"), infrared.sysu_mm01, _with_draws("all", "indoor")),
    "regdb": Layout("RegDB", ("visible", "thermal"), infrared.regdb, _TRIALS + tuple(f"thermal/{n}" for n in _TRIALS)),
    "folders": Layout("a folder per identity", (), read_folders),
    "pattern": Layout("a folder with a name pattern", (), read_pattern, None),
    "table": Layout("a table", (), read_table, None),
}


def _first_image(folder: Path, *places: str) -> str:
    """The name of the first image in the first of `places` that holds any; "" where none does."""
    inner = (child(folder, place) for place in places)
    images = (image.name for place in inner if place and place.is_dir() for image in images_in(place)[:1])
    return next(images, "")


# Of the sets whose folders have names that any folder might have: whether what is in them is theirs.
_SHOWN_BY: dict[str, Callable[[Path], object]] = {
    "grid": lambda folder: re.match(two_views.GRID_NAME, _first_image(folder, "probe", "gallery")),
    "ltcc": lambda folder: re.match(cloth_changing.LTCC_NAME, _first_image(folder, "train", "query", "test")),
    "prcc": lambda folder: child(folder, "rgb/train") or child(folder, "rgb/test"),
    "sysu-mm01": lambda folder: child(folder, "exp"),
    "regdb": lambda folder: child(folder, "idx"),
}


def detect(root: Path | str) -> str:
    """The layout of the folder (or table) `root`, for `read_dataset`.

    Raises UserError where no layout or more than one fits.
    """
    root = expanded(root)
    if root.is_file() and root.suffix.lower() in TABLE_SUFFIXES:
        return "table"
    root = existing_folder(root)
    for level in levels(root):
        found = {name for folder in level for name in _fitting(folder)}
        if len(found) == 1:
            return found.pop()
        if found:
            raise UserError(f"{root} fits more than one layout: choose {' or '.join(sorted(found))}")
    if len(tables_in(root)) == 1:
        return "table"
    inside = innermost(root)
    if any(images_in(inner) for folder in [inside, *subfolders(inside)] for inner in subfolders(folder)):
        return "folders"
    for above in root.parents[:2]:
        titles = {LAYOUTS[name.partition(":")[0]].title for name in _fitting(above)}
        if titles:
            raise UserError(f"{root} is a folder inside {' or '.join(sorted(titles))}: give {above} instead")
    held = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    few = f"it holds {', '.join(held[:4])}{', ...' * (len(held) > 4)}" if held else "it is empty"
    example = "pattern:{identity}_*.jpg, after its file names" if images_in(root) else f"one of {', '.join(LAYOUTS)}"
    raise UserError(f"the layout of {root} cannot be told: name it ({example}); {few}")


def _fitting(folder: Path) -> set[str]:
    """The layouts that `folder` itself could have, after the names in it."""
    fitting = {_tell_apart(name, folder) for name, kind in LAYOUTS.items() if has_any(folder, kind.marks)}
    return fitting - {""}


def _tell_apart(layout: str, folder: Path) -> str:
    """`layout`, or of the layouts that share its folders the one that images show; "" where they show none of them."""
    if layout in _SHOWN_BY:
        return layout if _SHOWN_BY[layout](folder) else ""
    if layout in ("viper", "prid2011") and not has_any(folder, ("single_shot", "multi_shot")):
        prid = re.match(two_views.PRID_NAME, _first_image(folder, "cam_a", "cam_b"))
        return "prid2011" if prid else "viper"
    if layout in ("occluded-reid", "partial-reid"):
        return "partial-reid" if has_any(folder, ("partial_body_images",)) else "occluded-reid"
    if has_any(folder, ("query_all_c0", "query_all_c3")):
        return "ag-reid"
    shares_market = layout == "ag-reid" or set(_MARKET_MARKS) <= set(LAYOUTS[layout].marks)
    if not shares_market or has_any(folder, _CUHK03_MARKS):
        return "" if layout == "ag-reid" else layout
    if folder.name.casefold() in ("detected", "labeled", "labelled"):
        return "cuhk03-np:detected" if folder.name.casefold() == "detected" else "cuhk03-np:labelled"
    first = _first_image(folder, *MARKET_FOLDERS.values())
    if re.match(two_views.AERIAL_NAME, first):
        return "ag-reid"
    return _which_duke(folder) if re.search(r"(?i)_c\d+_f\d+", first) else "market1501"


def _which_duke(folder: Path) -> str:
    """DukeMTMC-reID or Occluded-Duke: by the number of training images, else by the folder's own name."""
    training = child(folder, MARKET_FOLDERS["train"])
    count = len(images_in(training)) if training and training.is_dir() else 0
    for name in ("dukemtmc", "occluded-duke"):
        if count == OFFICIAL[name]["train"][0]:
            return name
    return "occluded-duke" if "occluded" in folder.name.casefold() else "dukemtmc"


def tables_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
