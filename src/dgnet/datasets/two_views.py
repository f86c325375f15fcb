"""Public data sets of people in two views: two cameras, whole and occluded bodies, from the ground and from the air."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgnet.datasets.folders import child, has_any, images_in, matches, some_images_in
from dgnet.datasets.records import Dataset, Ints, Split, concatenate
from dgnet.datasets.splits import MARKET_FOLDERS, by_name, by_person, in_folders, ints, need, of_mat, people_only
from dgnet.errors import UserError

PRID_NAME = r"(?i)person_(?P<identity>\d{1,9})\."
_PRID_SHARED = 200  # people 1 to 200 are seen by both cameras; equal numbers above are different people
GRID_NAME = r"(?P<identity>\d{1,9})_(?P<camera>\d{1,9})_"
AERIAL_NAME = r"(?i)P(?P<identity>\d{1,9})T\d+A\d+C(?P<camera>\d{1,9})F"


def viper(base: Path, option: str) -> Dataset:
    """VIPeR (Gray and Tao, ECCV 2008): half of the people to train, half to test, drawn with the option as seed."""
    first, second = _both_sides(base, "000_45.bmp", r"(?P<identity>\d{1,9})_")
    return _halves("viper", base, _counted_from_1(first), _counted_from_1(second), int(option))


def _both_sides(base: Path, example: str, pattern: str) -> list[Split]:
    sides = [by_name(need(base, name), example, pattern) for name in ("cam_a", "cam_b")]
    return [replace(side, cameras=np.full(len(side), camera)) for camera, side in enumerate(sides, start=1)]


def _counted_from_1(split: Split) -> Split:
    return replace(split, identities=split.identities + 1)


def cuhk01(base: Path, option: str) -> Dataset:
    """CUHK01 (Li et al., ACCV 2012): four images a person, two by each camera; 485 of 971 people to train, as VIPeR."""
    paths = some_images_in(child(base, "campus") or base)
    found = matches(paths, r"(\d{4})00([1-4])\.", "0001001.png")
    cameras = (ints(match[2] for match in found) + 1) // 2
    every = Split(paths, ints(match[1] for match in found), cameras)
    return _halves("cuhk01", base, every.subset(cameras == 1), every.subset(cameras == 2), int(option))


def prid2011(base: Path, option: str) -> Dataset:
    """PRID 2011 (Hirzer et al., SCIA 2011), single shot: half of the 200 people whom both cameras saw to train.

    The others are sought from camera a among theirs and those whom camera b alone saw. The option is the draw.
    """
    folder = child(base, "single_shot") or base
    if child(folder, "cam_a") is None and child(base, "multi_shot"):
        raise UserError(f"{base} has multi_shot only; the folder single_shot, of the single-shot protocol, is read")
    first, second = _both_sides(folder, "person_0001.png", PRID_NAME)
    alone = second.identities > _PRID_SHARED
    first = first.subset(first.identities <= _PRID_SHARED)
    found = _halves("prid2011", base, first, second.subset(~alone), int(option))
    return replace(found, gallery=concatenate([found.gallery, second.subset(alone)]))


def grid(base: Path, option: str) -> Dataset:
    """QMUL GRID (Loy et al., CVPR 2009): 125 of 250 people to train; the option is the partition, of ten.

    The 775 images of the gallery that show nobody in the probe set are distractors.
    """
    example = "0001_1_25004_107_32_106_221.jpeg"
    probe, gallery = (by_name(need(base, name), example, GRID_NAME) for name in ("probe", "gallery"))
    partitions = child(base, "features_and_partitions.mat")
    if partitions is None:
        note = (
            f"{base} has no features_and_partitions.mat: the half to train on is drawn, and none of the published ones"
        )
        return replace(_halves("grid", base, probe, gallery, int(option)), notes=(note,))
    read = partial(_grid_people, int(option), set(probe.people.tolist()))
    trained = of_mat(partitions, "file of GRID's partitions", ["trainIdxAll"], read)
    return _divided("grid", base, probe, gallery, trained)


def _grid_people(partition: int, known: set[int], table: dict[str, Any]) -> Ints:
    """The people to train on: the third field of the partition's record."""
    people = ints(np.ravel(table["trainIdxAll"].ravel()[partition].ravel()[0][2]))
    if not set(people.tolist()) <= known:
        raise ValueError(f"partition {partition} names people who are not in the probe set")
    return people


def _halves(name: str, base: Path, first: Split, second: Split, seed: int) -> Dataset:
    """Half of the people for training, rounded down; the others are sought from camera `first` in camera `second`."""
    people = np.intersect1d(first.people, second.people)
    return _divided(name, base, first, second, np.random.default_rng(seed).permutation(people)[: len(people) // 2])


def _divided(name: str, base: Path, first: Split, second: Split, trained: Ints) -> Dataset:
    both = concatenate([first, second])
    return Dataset(
        name,
        base,
        both.subset(np.isin(both.identities, trained)),
        first.subset(~np.isin(first.identities, trained)),
        second.subset(~np.isin(second.identities, trained)),
    )


def occluded_reid(base: Path, option: str) -> Dataset:
    """Occluded-REID (Zhuo et al., ICME 2018): query and gallery only, cameras unknown."""
    return in_folders("occluded-reid", base, {"query": "occluded_body_images", "gallery": "whole_body_images"}, _bodies)


def partial_reid(base: Path, option: str) -> Dataset:
    """Partial-REID (Zheng et al., ICCV 2015): query and gallery only, cameras unknown.

    The queries are the images cut to what is seen of a body, or by the option `occluded` the uncut ones.
    """
    folders = {"query": f"{option}_body_images", "gallery": "whole_body_images"}
    return in_folders("partial-reid", base, folders, _bodies)


def _bodies(folder: Path) -> Split:
    """Images called by a person's number, or in a folder per person."""
    if folder.is_dir() and images_in(folder):
        return by_name(folder, "001_001.jpg", r"(?P<identity>\d{1,9})_")
    return by_person(folder)


def ag_reid(base: Path, option: str) -> Dataset:
    """AG-ReID (Nguyen et al., ICME 2023): queries from the air (camera 0) against the ground (camera 3), or back."""
    query, gallery = ("c0", "c3") if option == "aerial" else ("c3", "c0")
    folders = MARKET_FOLDERS
    if has_any(base, ("query_all_c0", "query_all_c3")):
        folders = folders | {"query": f"query_all_{query}", "gallery": f"bounding_box_test_all_{gallery}"}
    read = partial(by_name, example="P0001T04041A0C0F31.jpg", pattern=AERIAL_NAME)
    return people_only(in_folders(f"ag-reid-{option}", base, folders, read))
