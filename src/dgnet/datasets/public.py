"""The public data sets, each read as its authors laid it out.

Every reader takes the data set's folder and an option, and leaves out what it cannot read with the reason in `absent`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgnet import console
from dgnet.datasets.folders import child, has_any, images_in, lines, matches, named, some_images_in, subfolders
from dgnet.datasets.records import DISTRACTOR, Dataset, Ints, Split, concatenate
from dgnet.errors import UserError

MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_MARKET_NAME = r"(?P<identity>-1|\d+)_c(?P<camera>\d+)"
_CUHK03_SPELLINGS = {"detected": ("detected",), "labelled": ("labeled", "labelled")}


def market1501(base: Path, option: str) -> Dataset:
    """Market-1501 (Zheng et al., ICCV 2015); gt_bbox gives the multiple queries, `500k` adds the distractors."""
    found = _folders("market1501", base, MARKET_FOLDERS, partial(_by_name, example="0002_c1s1_000451_03.jpg"))
    if option == "500k":
        found = replace(found, name="market1501-500k", gallery=concatenate([found.gallery, _distractors(base)]))
    boxes = child(base, "gt_bbox")
    if boxes:
        every = _by_name(boxes, "0002_c1s1_000451_00.jpg")
        asked = set(_pairs(found.query))
        found = replace(found, multi_query=every.subset([pair in asked for pair in _pairs(every)]))
    return _from_one(found) if 0 in found.train.identities or 0 in found.query.identities else found


def _pairs(split: Split) -> list[tuple[int, int]]:
    return list(zip(split.identities.tolist(), split.cameras.tolist(), strict=True))


def _distractors(base: Path) -> Split:
    for name in ("distractors_500k", "images", "distractors"):
        folder = child(base, name) or child(base.parent, name)
        if folder:
            paths = images_in(folder) or [path for inner in subfolders(folder) for path in images_in(inner)]
            return Split(paths, np.full(len(paths), DISTRACTOR), _unknown(len(paths)))
    raise UserError(f"{base} has no folder distractors_500k (or images) with the 500 000 distractors")


def _from_one(dataset: Dataset) -> Dataset:
    """Identities counted from 1 instead of 0. A 0 among train or query is a person, never a distractor."""
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


def dukemtmc(base: Path, option: str, name: str = "dukemtmc") -> Dataset:
    """DukeMTMC-reID (Zheng et al., ICCV 2017), and Occluded-Duke (Miao et al., ICCV 2019) under its name."""
    return _folders(name, base, MARKET_FOLDERS, partial(_by_name, example="0001_c2_f0046182.jpg"))


def msmt17(base: Path, option: str) -> Dataset:
    """MSMT17 (Wei et al., CVPR 2018), v1 and v2.

    People count from 0 twice: here those for training from 1, those of the test from 10 001.
    """

    def read(half: str, *listings: str) -> Split:
        folder = child(base, f"mask_{half}_v2") or _need(base, half)
        first = 1 if half == "train" else 10_001
        return concatenate([_msmt17_list(_need(base, listing), folder, first) for listing in listings])

    training = ["list_train.txt"] if option == "train" else ["list_train.txt", "list_val.txt"]
    return _dataset(
        "msmt17-train" if option == "train" else "msmt17",
        base,
        train=lambda: read("train", *training),
        query=lambda: read("test", "list_query.txt"),
        gallery=lambda: read("test", "list_gallery.txt"),
    )


def _msmt17_list(listing: Path, folder: Path, first: int) -> Split:
    found = lines(listing, r"(\d+/\d+_\d+_(\d+)_\S+)\s+(\d+)", "0000/0000_000_01_0303morning_0015_0.jpg 0")
    paths = named(listing, folder, [match[1] for match in found])
    return Split(paths, _ints(match[3] for match in found) + first, _ints(match[2] for match in found))


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
            return _folders(f"cuhk03-np-{kind}", folder, MARKET_FOLDERS, partial(_by_name, example="0001_c1_21.png"))
    for kind in kinds:
        config = child(base, f"cuhk03_new_protocol_config_{_CUHK03_SPELLINGS[kind][0]}.mat")
        if config:
            return _cuhk03_mat(f"cuhk03-np-{kind}", base, config, _CUHK03_SPELLINGS[kind])
    raise UserError(
        f"{base} has neither a folder {' or '.join(kinds)} with {', '.join(market)}, "
        "nor a split cuhk03_new_protocol_config_*.mat"
    )


def _cuhk03_mat(name: str, base: Path, config: Path, spellings: tuple[str, ...]) -> Dataset:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f"{config}: reading the .mat split needs scipy: pip install dgnet[mat]") from error
    try:
        table = loadmat(config)
        files = [str(entry[0]) for entry in table["filelist"].ravel()]
        identities, cameras = _ints(table["labels"].ravel()), _ints(table["camId"].ravel())
        chosen = {split: _ints(table[f"{split}_idx"].ravel()) - 1 for split in MARKET_FOLDERS}
    except (KeyError, ValueError, NotImplementedError) as error:
        raise UserError(f"{config} is no split of CUHK03's new protocol ({error})") from error
    places = [child(base, prefix + spelling) for prefix in ("images_", "") for spelling in spellings]
    folder = next((place for place in [*places, base] if place and (place / files[0]).exists()), None)
    if folder is None:
        raise UserError(
            f"{base} has no folder images_{spellings[0]} with the images that {config.name} names ({files[0]}, ...); "
            "if they are still inside cuhk-03.mat, write them out first (docs/datasets.md shows how)"
        )

    def read(split: str) -> Split:
        where = chosen[split]
        return Split(named(config, folder, [files[place] for place in where]), identities[where], cameras[where])

    return _dataset(name, base, **{split: partial(read, split) for split in chosen})


def viper(base: Path, option: str) -> Dataset:
    """VIPeR (Gray and Tao, ECCV 2008): half of the people to train, half to test, drawn with the option as seed."""
    sides = []
    for camera, name in enumerate(("cam_a", "cam_b"), start=1):
        side = _by_name(_need(base, name), "000_45.bmp", r"(?P<identity>\d+)_")
        sides.append(Split(side.paths, side.identities + 1, np.full(len(side), camera)))
    return _halves("viper", base, sides[0], sides[1], int(option))


def cuhk01(base: Path, option: str) -> Dataset:
    """CUHK01 (Li et al., ACCV 2012): four images a person, two by each camera; 485 of 971 people to train, as VIPeR."""
    paths = some_images_in(child(base, "campus") or base)
    found = matches(paths, r"(\d{4})00([1-4])\.", "0001001.png")
    cameras = (_ints(match[2] for match in found) + 1) // 2
    every = Split(paths, _ints(match[1] for match in found), cameras)
    return _halves("cuhk01", base, every.subset(cameras == 1), every.subset(cameras == 2), int(option))


def _halves(name: str, base: Path, first: Split, second: Split, seed: int) -> Dataset:
    """Half of the people for training, rounded down; the others are sought from camera `first` in camera `second`."""
    people = np.intersect1d(first.people, second.people)
    chosen = np.random.default_rng(seed).permutation(people)[: len(people) // 2]
    both = concatenate([first, second])
    return Dataset(
        name,
        base,
        both.subset(np.isin(both.identities, chosen)),
        first.subset(~np.isin(first.identities, chosen)),
        second.subset(~np.isin(second.identities, chosen)),
    )


def veri776(base: Path, option: str) -> Dataset:
    """VeRi-776 (Liu et al., ECCV 2016): vehicles, 20 cameras."""
    folders = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
    return _folders("veri776", base, folders, partial(_by_name, example="0001_c001_00016450_0.jpg"))


def vehicleid(base: Path, option: str) -> Dataset:
    """VehicleID (Liu et al., CVPR 2016): cameras unknown.

    The option is the number of test vehicles and perhaps a draw ("800", "2400/3"): one image of each, drawn at random,
    is the gallery and the others are the queries; the authors average ten draws.
    """
    size, _, draw = option.partition("/")
    if not ((size or "800").isdecimal() and (draw or "0").isdecimal()):
        raise UserError(f"layout vehicleid has no option '{option}': test vehicles and draw, as in vehicleid:800/3")

    def read(listing: str) -> Split:
        found = lines(_need(base, f"train_test_split/{listing}"), r"(\d+)\s+(\d+)", "0000001 1")
        paths = named(base / listing, _need(base, "image"), [f"{match[1]}.jpg" for match in found])
        return Split(paths, _ints(match[2] for match in found) + 1, _unknown(len(paths)))

    def read_test(gallery: bool) -> Split:
        test = read(f"test_list_{size or 800}.txt")
        order = np.random.default_rng(int(draw or 0)).permutation(len(test))
        drawn = order[np.unique(test.identities[order], return_index=True)[1]]
        return test.subset(np.isin(np.arange(len(test)), drawn, invert=not gallery))

    return _dataset(
        f"vehicleid-{size or 800}",
        base,
        train=lambda: read("train_list.txt"),
        query=lambda: read_test(gallery=False),
        gallery=lambda: read_test(gallery=True),
    )


def occluded_reid(base: Path, option: str) -> Dataset:
    """Occluded-REID (Zhuo et al., ICME 2018): query and gallery only, a folder per person, cameras unknown."""

    def read(folder: Path) -> Split:
        paths = [path for person in subfolders(folder) for path in some_images_in(person)]
        if not paths:
            raise UserError(f"{folder} has no folders with images, one per identity")
        found = matches([path.parent for path in paths], r"\d+$", "001")
        return Split(paths, _ints(match[0] for match in found), _unknown(len(paths)))

    return _folders("occluded-reid", base, {"query": "occluded_body_images", "gallery": "whole_body_images"}, read)


def _folders(name: str, base: Path, folders: dict[str, str], read: Callable[[Path], Split]) -> Dataset:
    return _dataset(name, base, **{split: partial(_in_folder, base, inner, read) for split, inner in folders.items()})


def _in_folder(base: Path, name: str, read: Callable[[Path], Split]) -> Split:
    return read(_need(base, name))


def _dataset(name: str, base: Path, **readers: Callable[[], Split]) -> Dataset:
    """Whatever splits can be read, and for the others why not."""
    splits: dict[str, Any] = {}
    absent = {}
    for split, read in readers.items():
        try:
            splits[split] = read()
        except UserError as error:
            absent[split] = f"{name}, {split}: {error}"
    return Dataset(name, base, absent=absent, layout=name, **splits)


def _need(base: Path, name: str) -> Path:
    """The folder or file `name` in `base`; raises UserError where it is missing."""
    found = child(base, name)
    if found is None:
        raise UserError(f"{base} has no '{name}'")
    if found.name != Path(name).name:
        console.notice(f"{base}: reading {found.name} as {name}")
    return found


def _by_name(folder: Path, example: str, pattern: str = _MARKET_NAME) -> Split:
    """The images in `folder`, whose names say `identity` and perhaps `camera`."""
    paths = some_images_in(folder)
    found = [match.groupdict() for match in matches(paths, pattern, example)]
    return Split(paths, _ints(match["identity"] for match in found), _ints(match.get("camera", -1) for match in found))


def _ints(values: object) -> Ints:
    return np.array([int(value) for value in values], np.int64)  # type: ignore[attr-defined]


def _unknown(count: int) -> Ints:
    return np.full(count, -1, np.int64)
