"""Readers: from the folder of a data set, as its authors published it, to a `Dataset`. No file is copied or moved."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dgnet.data.files import child, find_root, some_images_in
from dgnet.data.records import Dataset, Split
from dgnet.errors import UserError

_MARKET_NAME = re.compile(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)")


def read_dataset(root: Path, layout: str = "market1501", need: Sequence[str] | None = None) -> Dataset:
    """The data set at `root`.

    `need` names the splits that must be there; by default all those that the layout has.
    Raises UserError for an unknown layout, a folder that does not follow it, or an empty split.
    """
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout '{layout}': one of {', '.join(LAYOUTS)}")
    dataset = LAYOUTS[layout](Path(root), "")
    for name in dataset.absent if need is None else need:
        dataset.require(name)
    return dataset


def _market1501(root: Path, option: str, title: str = "Market-1501") -> Dataset:
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    base = find_root(root, list(folders.values()), title)
    splits, absent = {}, {}
    for name, folder in folders.items():
        where = child(base, folder)
        if where is None:
            absent[name] = f"{title} at {base} lacks its folder {folder} with the {name} images"
        else:
            splits[name] = _by_name(where, _MARKET_NAME, "0002_c1s1_000451_03.jpg")
    multi_query = None
    boxes = child(base, "gt_bbox")
    if boxes is not None and "query" in splits:
        every = _by_name(boxes, _MARKET_NAME, "0002_c1s1_000451_00.jpg")
        asked = set(zip(splits["query"].identities, splits["query"].cameras, strict=True))
        multi_query = every.subset([pair in asked for pair in zip(every.identities, every.cameras, strict=True)])
    return Dataset("market1501", base, multi_query=multi_query, absent=absent, **splits)


def _by_name(folder: Path, pattern: re.Pattern[str], example: str) -> Split:
    """The images in `folder`, whose names say `identity` and perhaps `camera`."""
    paths = some_images_in(folder)
    matches = [pattern.match(path.name) for path in paths]
    found = [match for match in matches if match]
    if len(found) < len(paths):
        wrong = paths[matches.index(None)]
        raise UserError(
            f"{wrong}: the name does not say identity and camera as in {example} "
            f"({len(paths) - len(found)} of {len(paths)} images in that folder)"
        )
    return Split(
        paths,
        np.array([int(match["identity"]) for match in found], np.int64),
        np.array([int(match["camera"]) for match in found], np.int64),
    )


LAYOUTS: dict[str, Callable[[Path, str], Dataset]] = {
    "market1501": _market1501,
}
