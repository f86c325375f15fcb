"""The large public data sets, each read as its authors laid it out.

Every reader takes the data set's folder and an option, and leaves out what it cannot read with the reason in `absent`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgnet.datasets.folders import child, has_any, images_below, lines, some_images_in, subfolders
from dgnet.datasets.records import DISTRACTOR, Dataset, Ints, Split, concatenate
from dgnet.datasets.splits import (
    MARKET_FOLDERS,
    by_list,
    by_name,
    from_one,
    in_folders,
    ints,
    listed,
    need,
    of_mat,
    one_of_each,
    read_splits,
    unknown,
)
from dgnet.errors import UserError

_CUHK03_SPELLINGS = {"detected": ("detected",), "labelled": ("labeled", "labelled")}
_MARKET_EXAMPLE = "0002_c1s1_000451_03.jpg"


def market1501(base: Path, option: str) -> Dataset:
    """Market-1501 (Zheng et al., ICCV 2015); gt_bbox gives the multiple queries, `500k` adds the distractors."""
    splits: dict[str, Callable[[], Split]] = {
        split: partial(_of_market, base, folder) for split, folder in MARKET_FOLDERS.items()
    }
    if option == "500k":
        splits["gallery"] = lambda: concatenate([_of_market(base, MARKET_FOLDERS["gallery"]), _distractors(base)])
    found = read_splits("market1501-500k" if option == "500k" else "market1501", base, splits)
    found = _with_boxes(found)
    return from_one(found) if 0 in found.train.identities or 0 in found.query.identities else found


def _of_market(base: Path, folder: str) -> Split:
    return by_name(need(base, folder), _MARKET_EXAMPLE)


def _with_boxes(dataset: Dataset) -> Dataset:
    """`dataset` with the images of gt_bbox that show a query's person in the query's camera as multiple queries.

    They are an extra: where they cannot be read, a note says so, and nothing else is the poorer.
    """
    boxes = child(dataset.root, "gt_bbox")
    if boxes is None:
        return dataset
    try:
        every = by_name(boxes, _MARKET_EXAMPLE)
    except (UserError, OSError) as error:
        return replace(dataset, notes=(*dataset.notes, f"no multiple queries: {error}"))
    asked = set(_pairs(dataset.query))
    chosen = every.subset([pair in asked for pair in _pairs(every)])
    if dataset.query and not chosen:
        note = f"no multiple queries: none of the {len(every)} images in {boxes} shows a query's person in its camera"
        return replace(dataset, notes=(*dataset.notes, note))
    return replace(dataset, multi_query=chosen or None)


def _pairs(split: Split) -> list[tuple[int, int]]:
    return list(zip(split.identities.tolist(), split.cameras.tolist(), strict=True))


def _distractors(base: Path) -> Split:
    for name in ("distractors_500k", "images", "distractors"):
        folder = child(base, name) or child(base.parent, name)
        if folder and folder.is_dir():
            inside = [folder, *subfolders(folder)]
            paths = [path for place in inside for path in images_below(place, 0)] or some_images_in(folder)
            return Split(paths, np.full(len(paths), DISTRACTOR), unknown(len(paths)))
    raise UserError(f"{base} has no folder distractors_500k (or images) with the 500 000 distractors")


def dukemtmc(base: Path, option: str, name: str = "dukemtmc") -> Dataset:
    """DukeMTMC-reID (Zheng et al., ICCV 2017), and Occluded-Duke (Miao et al., ICCV 2019) under its name."""
    return in_folders(name, base, MARKET_FOLDERS, partial(by_name, example="0001_c2_f0046182.jpg"))


def msmt17(base: Path, option: str) -> Dataset:
    """MSMT17 (Wei et al., CVPR 2018), v1 and v2.

    People count from 0 twice: here those for training from 1, those of the test from 10 001.
    """

    notes: list[str] = []

    def read(half: str, *listings: str) -> Split:
        folder = child(base, f"mask_{half}_v2") or need(base, half)
        first = 1 if half == "train" else 10_001
        return concatenate([_msmt17_list(need(base, listing), folder, first, notes) for listing in listings])

    training = ["list_train.txt"] if option == "train" else ["list_train.txt", "list_val.txt"]
    found = read_splits(
        "msmt17-train" if option == "train" else "msmt17",
        base,
        {
            "train": lambda: read("train", *training),
            "query": lambda: read("test", "list_query.txt"),
            "gallery": lambda: read("test", "list_gallery.txt"),
        },
        notes,
    )
    return found if found.absent or option == "train" else _with_unlisted(found)


def _with_unlisted(dataset: Dataset) -> Dataset:
    """`dataset` with a note where its folders hold images that no list names."""
    halves = {path.parents[1] for path in dataset.paths}
    unlisted = {image for half in halves for image in images_below(half, 1)}.difference(dataset.paths)
    if not unlisted:
        return dataset
    note = f"{dataset.root}: {len(unlisted)} images are in no list and not used, the first {min(unlisted)}"
    return replace(dataset, notes=(*dataset.notes, note))


def _msmt17_list(listing: Path, folder: Path, first: int, notes: list[str]) -> Split:
    pattern = r"(\d+/\d+_\d+_(\d{1,9})_\S+)\s+(\d{1,9})"
    found = lines(listing, pattern, "0000/0000_000_01_0303morning_0015_0.jpg 0")
    names = [match[1] for match in found]
    people, cameras = ints(match[3] for match in found) + first, ints(match[2] for match in found)
    return by_list(listing, folder, names, listed(names, people, cameras), notes)


def cuhk03_np(base: Path, option: str) -> Dataset:
    """CUHK03, new protocol (Zhong et al., CVPR 2017): folders like Market-1501's, or the authors' .mat split.

    The option chooses the detected or the labelled boxes; without it, detected where they are there.
    """
    market = list(MARKET_FOLDERS.values())
    kinds = [option] if option else list(_CUHK03_SPELLINGS)
    places = [(kind, child(base, spelling)) for kind in kinds for spelling in _CUHK03_SPELLINGS[kind]]
    itself = option or ("labelled" if base.name.casefold().startswith("label") else "detected")
    for kind, folder in [*places, (itself, base)]:
        if folder and folder.is_dir() and has_any(folder, market):
            return in_folders(f"cuhk03-np-{kind}", folder, MARKET_FOLDERS, partial(by_name, example="0001_c1_21.png"))
    for kind in kinds:
        config = child(base, f"cuhk03_new_protocol_config_{_CUHK03_SPELLINGS[kind][0]}.mat")
        if config:
            return _cuhk03_mat(f"cuhk03-np-{kind}", base, config, _CUHK03_SPELLINGS[kind])
    raise UserError(
        f"{base} has neither a folder {' or '.join(kinds)} with {', '.join(market)}, "
        "nor a split cuhk03_new_protocol_config_*.mat"
    )


def _cuhk03_mat(name: str, base: Path, config: Path, spellings: tuple[str, ...]) -> Dataset:
    variables = ["filelist", "labels", "camId", *(f"{split}_idx" for split in MARKET_FOLDERS)]
    files, people, cameras, chosen = of_mat(config, "split of CUHK03's new protocol", variables, _cuhk03_split)
    places = [child(base, prefix + spelling) for prefix in ("images_", "") for spelling in spellings]
    folder = next((place for place in [*places, base] if place and (place / files[0]).is_file()), None)
    if folder is None:
        raise UserError(
            f"{base} has no folder images_{spellings[0]} with the images that {config.name} names ({files[0]}, ...); "
            "if they are still inside cuhk-03.mat, write them out first (docs/datasets.md shows how)"
        )
    notes: list[str] = []

    def read(split: str) -> Split:
        where = chosen[split]
        names = [files[place] for place in where]
        return by_list(config, folder, names, listed(names, people[where], cameras[where]), notes)

    return read_splits(name, base, {split: partial(read, split) for split in chosen}, notes)


def _cuhk03_split(table: dict[str, Any]) -> tuple[list[str], Ints, Ints, dict[str, Ints]]:
    """Files [N], identities [N], cameras [N] and, for each split, its places among them."""
    files = [str(entry[0]) for entry in table["filelist"].ravel()]
    people, cameras = ints(table["labels"].ravel()), ints(table["camId"].ravel())
    chosen = {split: ints(table[f"{split}_idx"].ravel()) - 1 for split in MARKET_FOLDERS}
    places = np.concatenate(list(chosen.values()))
    if not len(files) == len(people) == len(cameras) or places.min() < 0 or places.max() >= len(files):
        raise ValueError(f"{len(files)} files, {len(people)} labels, {len(cameras)} cameras, indices to {places.max()}")
    return files, people, cameras, chosen


def veri776(base: Path, option: str) -> Dataset:
    """VeRi-776 (Liu et al., ECCV 2016): vehicles, 20 cameras."""
    folders = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
    return in_folders("veri776", base, folders, partial(by_name, example="0001_c001_00016450_0.jpg"))


def vehicleid(base: Path, option: str) -> Dataset:
    """VehicleID (Liu et al., CVPR 2016): cameras unknown.

    The option is the number of test vehicles and perhaps a draw ("800", "2400/3"): one image of each, drawn at random,
    is the gallery and the others are the queries; the authors average ten draws.
    """
    size, _, draw = option.partition("/")
    if not ((size or "800").isdecimal() and (draw or "0").isdecimal()):
        raise UserError(f"layout vehicleid has no option '{option}': test vehicles and draw, as in vehicleid:800/3")

    notes: list[str] = []

    def read(name: str) -> Split:
        listing = need(base, f"train_test_split/{name}")
        found = lines(listing, r"(\d+)\s+(\d{1,9})", "0000001 1")
        people = ints(match[2] for match in found) + 1
        names = [f"{match[1]}.jpg" for match in found]
        return by_list(listing, need(base, "image"), names, listed(names, people, unknown(len(names))), notes)

    def read_test(gallery: bool) -> Split:
        test = read(f"test_list_{size or 800}.txt")
        drawn = one_of_each(test, [test.identities], int(draw or 0))
        return test.subset(drawn if gallery else ~drawn)

    return read_splits(
        f"vehicleid-{size or 800}",
        base,
        {
            "train": lambda: read("train_list.txt"),
            "query": lambda: read_test(gallery=False),
            "gallery": lambda: read_test(gallery=True),
        },
        notes,
    )
