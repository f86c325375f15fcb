"""Public data sets of people who change their clothes, which are the column "clothes" (numbered for each person)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dgnet.datasets.folders import lines
from dgnet.datasets.records import Dataset, Split
from dgnet.datasets.splits import (
    by_list,
    by_name,
    by_person,
    in_folders,
    ints,
    listed,
    need,
    one_of_each,
    people_only,
    read_splits,
)
from dgnet.errors import UserError

LTCC_FOLDERS = {"train": "train", "query": "query", "gallery": "test"}
LTCC_NAME = r"(?i)(?P<identity>\d{1,9})_(?P<clothes>\d{1,9})_c(?P<camera>\d{1,9})(?!\d)"
_PRCC_CAMERAS = {"A": 1, "B": 2, "C": 3}
_DEEPCHANGE_LINE = r"(?i)(P(\d{1,9})_C(\d{1,9})_(\d{1,9})[^,/\\]*),\s*(\d{1,9})"


def ltcc(base: Path, option: str) -> Dataset:
    """LTCC (Qian et al., ACCV 2020): every query against the whole test set, the published general setting."""
    return people_only(
        in_folders("ltcc", base, LTCC_FOLDERS, partial(by_name, example="000_1_c9_015833.png", pattern=LTCC_NAME))
    )


def prcc(base: Path, option: str) -> Dataset:
    """PRCC (Yang et al., TPAMI 2021): three cameras, the same clothes under A and B, others under C.

    Queries are of camera C (`change`) or B (`same`), the gallery of A: all of it, or with a draw (`change/3`) one image
    of each person, as the authors test, who average ten draws.
    """
    clothes, _, draw = option.partition("/")

    def test(camera: str) -> Split:
        return _prcc_seen(by_person(need(base, f"rgb/test/{camera}")), camera)

    def gallery() -> Split:
        every = test("A")
        return every.subset(one_of_each(every, [every.identities], int(draw))) if draw else every

    return read_splits(
        f"prcc-{clothes}-single" if draw else f"prcc-{clothes}",
        base,
        {
            "train": lambda: _prcc_training(need(base, "rgb/train")),
            "query": lambda: test("C" if clothes == "change" else "B"),
            "gallery": gallery,
        },
    )


def _prcc_training(folder: Path) -> Split:
    found = by_person(folder)
    wrong = next((path for path in found.paths if path.name[0].upper() not in _PRCC_CAMERAS), None)
    if wrong:
        raise UserError(f"{wrong} is not named like A_cropped_rgb001.jpg, after its camera")
    return _prcc_seen(found, "".join(path.name[0].upper() for path in found.paths))


def _prcc_seen(split: Split, cameras: str) -> Split:
    """`split` with `cameras` as letters, one for all or one each."""
    seen = list(cameras) if len(cameras) > 1 else list(cameras) * len(split)
    clothes = np.array(["2" if camera == "C" else "1" for camera in seen])
    return replace(split, cameras=ints(_PRCC_CAMERAS[camera] for camera in seen), columns={"clothes": clothes})


def deepchange(base: Path, option: str) -> Dataset:
    """DeepChange (Xu and Zhu, ICCV 2023). Its test counts the query's own camera, but not the query's own tracklet."""
    notes: list[str] = []

    def read(name: str) -> Split:
        listing = need(base, f"{name}-bbox.txt")
        found = lines(listing, _DEEPCHANGE_LINE, "P1_C2_3_000123.jpg,45")
        names = [match[1] for match in found]
        people, cameras, tracklets = (ints(match[group] for match in found) for group in (2, 3, 5))
        split = listed(names, people, cameras, tracklets, clothes=[match[4] for match in found])
        return by_list(listing, need(base, name), names, split, notes)

    splits = {"train": "train-set", "query": "test-set-query", "gallery": "test-set-gallery"}
    return people_only(
        read_splits("deepchange", base, {split: partial(read, name) for split, name in splits.items()}, notes)
    )
