"""Public data sets of visible and infrared photos, told apart by camera and by the column "modality"."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dgnet.datasets.folders import child, images_in, lines
from dgnet.datasets.records import Dataset, Split, concatenate
from dgnet.datasets.splits import by_list, ints, listed, need, one_of_each, read_splits
from dgnet.errors import UserError

_VISIBLE = {"all": (1, 2, 4, 5), "indoor": (1, 2)}  # cameras of SYSU-MM01, by the gallery of the test
_INFRARED = (3, 6)


def sysu_mm01(base: Path, option: str) -> Dataset:
    """SYSU-MM01 (Wu et al., ICCV 2017): infrared queries, and one visible image of each person in each camera.

    Camera 3 stands where camera 2 does, so what one saw of a person is no answer to the other.
    The option is the search (`all`, or `indoor` cameras only) and the draw of the gallery, as in all/3; papers average
    ten.
    """
    search, _, draw = option.partition("/")
    notes: list[str] = []

    def read(cameras: tuple[int, ...], *listings: str) -> Split:
        people = [person for listing in listings for person in _numbers(need(base, f"exp/{listing}"))]
        return _sysu_images(base, cameras, people, notes)

    def gallery() -> Split:
        every = read(_VISIBLE[search], "test_id.txt")
        return every.subset(one_of_each(every, [every.cameras, every.identities], int(draw or 0)))

    return read_splits(
        "sysu-mm01" if search == "all" else "sysu-mm01-indoor",
        base,
        {
            "train": lambda: read((*_VISIBLE["all"], *_INFRARED), "train_id.txt", "val_id.txt"),
            "query": lambda: read(_INFRARED, "test_id.txt"),
            "gallery": gallery,
        },
        notes,
    )


def _numbers(listing: Path) -> list[int]:
    """The numbers in a file, between commas."""
    if listing.is_dir():
        raise UserError(f"{listing} is a folder; a file of numbers like 1,2,5 is needed")
    words = re.split(r"[\s,]+", listing.read_text(encoding="utf-8-sig", errors="replace").strip(" ,\r\n\t"))
    wrong = next((word for word in words if not re.fullmatch(r"\d{1,9}", word)), None)
    if wrong is not None:
        raise UserError(f"{listing}: {wrong[:40]!r} is no number; numbers like 1,2,5 are needed")
    return [int(word) for word in words]


def _sysu_images(base: Path, cameras: tuple[int, ...], people: list[int], notes: list[str]) -> Split:
    rows: list[tuple[Path, int, int]] = []
    for camera in sorted(cameras):
        folder = need(base, f"cam{camera}")
        for person in sorted(set(people)):
            inner = child(folder, f"{person:04d}")
            rows += [(path, person, camera) for path in images_in(inner)] if inner else []
    lost = sorted(set(people) - {person for _, person, _ in rows})
    where = f"cameras {', '.join(map(str, sorted(cameras)))}"
    if not rows:
        raise UserError(f"{base} has no images of the listed people in {where}, such as cam1/0001/0001.jpg")
    if lost and set(cameras) > set(_INFRARED):
        notes.append(f"{base} has no image of {len(lost)} listed people in {where}, the first {lost[0]}")
    seen = ints(camera for _, _, camera in rows)
    return Split(
        [path for path, _, _ in rows],
        ints(person for _, person, _ in rows),
        seen,
        {"modality": np.where(np.isin(seen, _INFRARED), "infrared", "visible")},
        np.where(seen == 3, 2, seen),
    )


def regdb(base: Path, option: str) -> Dataset:
    """RegDB (Nguyen et al., Sensors 2017): visible queries (camera 1) against thermal images (camera 2), or back.

    The option is the trial, 1 to 10, which says who is for training; papers average ten. `thermal/1` asks from thermal
    to visible. People count from 0 in both halves: here those for training from 1, those of the test from 10 001.
    """
    asked, _, trial = option.rpartition("/")
    notes: list[str] = []

    def read(half: str, modality: str) -> Split:
        listing = need(base, f"idx/{half}_{modality}_{trial}.txt")
        found = lines(listing, r"(\S.*\S)\s+(\d{1,9})", "Visible/1/male_back_v_02671_1.bmp 0")
        people = ints(match[2] for match in found) + (1 if half == "train" else 10_001)
        cameras = np.full(len(found), 1 if modality == "visible" else 2)
        names = [match[1] for match in found]
        split = listed(names, people, cameras, modality=[modality] * len(found))
        return by_list(listing, base, names, split, notes)

    return read_splits(
        "regdb",
        base,
        {
            "train": lambda: concatenate([read("train", "visible"), read("train", "thermal")]),
            "query": lambda: read("test", "thermal" if asked else "visible"),
            "gallery": lambda: read("test", "visible" if asked else "thermal"),
        },
        notes,
    )
