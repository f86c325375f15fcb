"""The published size of every public data set, and what a copy of it lacks."""

from __future__ import annotations

import re

from dgnet.datasets.records import UNKNOWN_CAMERA, Dataset

Counts = tuple[int, int | None, int | None]

# images, people and cameras of each split, as the authors' pages and papers give them (people without junk and
# distractors; VehicleID as its released lists are, which differ from its paper); None is what they do not say
OFFICIAL: dict[str, dict[str, Counts]] = {
    "market1501": {"train": (12936, 751, 6), "query": (3368, 750, 6), "gallery": (19732, 750, 6)},
    "dukemtmc": {"train": (16522, 702, 8), "query": (2228, 702, 8), "gallery": (17661, 1110, 8)},
    "occluded-duke": {"train": (15618, 702, 8), "query": (2210, 519, 8), "gallery": (17661, 1110, 8)},
    "msmt17": {"train": (32621, 1041, 15), "query": (11659, 3060, 15), "gallery": (82161, 3060, 15)},
    "msmt17-train": {"train": (30248, 1041, 15), "query": (11659, 3060, 15), "gallery": (82161, 3060, 15)},
    "cuhk03-np-labelled": {"train": (7368, 767, 2), "query": (1400, 700, 2), "gallery": (5328, 700, 2)},
    "cuhk03-np-detected": {"train": (7365, 767, 2), "query": (1400, 700, 2), "gallery": (5332, 700, 2)},
    "viper": {"train": (632, 316, 2), "query": (316, 316, 1), "gallery": (316, 316, 1)},
    "cuhk01": {"train": (1940, 485, 2), "query": (972, 486, 1), "gallery": (972, 486, 1)},
    "veri776": {"train": (37778, 576, 20), "query": (1678, 200, 19), "gallery": (11579, 200, 19)},
    "vehicleid-800": {"train": (113346, 13164, 0), "query": (5693, 800, 0), "gallery": (800, 800, 0)},
    "vehicleid-1600": {"train": (113346, 13164, 0), "query": (11777, 1600, 0), "gallery": (1600, 1600, 0)},
    "vehicleid-2400": {"train": (113346, 13164, 0), "query": (17377, 2400, 0), "gallery": (2400, 2400, 0)},
    "prid2011": {"train": (200, 100, 2), "query": (100, 100, 1), "gallery": (649, 649, 1)},
    "grid": {"train": (250, 125, None), "query": (125, 125, None), "gallery": (900, 125, None)},
    "occluded-reid": {"query": (1000, 200, 0), "gallery": (1000, 200, 0)},
    "partial-reid": {"query": (300, 60, 0), "gallery": (300, 60, 0)},
    "ag-reid-aerial": {"gallery": (3331, None, 1)},
    "ltcc": {"train": (9576, 77, 12), "query": (493, 75, None), "gallery": (7050, 75, None)},
    "prcc-change": {"train": (17896, 150, 3), "query": (3873, 71, 1), "gallery": (3384, 71, 1)},
    "prcc-same": {"train": (17896, 150, 3), "query": (3543, 71, 1), "gallery": (3384, 71, 1)},
    "prcc-change-single": {"train": (17896, 150, 3), "query": (3873, 71, 1), "gallery": (71, 71, 1)},
    "prcc-same-single": {"train": (17896, 150, 3), "query": (3543, 71, 1), "gallery": (71, 71, 1)},
    "deepchange": {"train": (75083, 450, None), "query": (17527, 521, None), "gallery": (62956, 521, None)},
    "sysu-mm01": {"train": (34167, 395, 6), "query": (3803, 96, 2), "gallery": (301, 96, 4)},
    "sysu-mm01-indoor": {"train": (34167, 395, 6), "query": (3803, 96, 2)},
    "regdb": {"train": (4120, 206, 2), "query": (2060, 206, 1), "gallery": (2060, 206, 1)},
}

_DISTRACTORS_500K = "market1501-500k"


def counts(dataset: Dataset) -> dict[str, tuple[int, int, int]]:
    """Images, people and cameras of each split that `dataset` has."""
    return {
        name: (len(split), len(split.people), len(set(split.cameras.tolist()) - {UNKNOWN_CAMERA}))
        for name, split in dataset.splits.items()
    }


def missing(dataset: Dataset) -> list[str]:
    """A sentence for each split whose counts differ from the published ones; empty for a complete copy or own data.

    Many keep their own data in the Market-1501 layout, so a folder that is not named like it is compared only if it has
    about as many images.
    """
    official = OFFICIAL.get(dataset.name, {})
    found = counts(dataset)
    if dataset.name == "market1501" and not re.search(r"market.?1501", dataset.root.name.lower()):
        expected = sum(images for images, _, _ in official.values())
        if not 0.5 < sum(found[split][0] for split in official if split in found) / expected < 1.5:
            return []
    return [
        f"{dataset.name}, {split}: {_difference(found[split], official[split])}"
        for split in official
        if split in found and _difference(found[split], official[split])
    ]


def _difference(found: tuple[int, int, int], official: Counts) -> str:
    parts = []
    for have, should, what in zip(found, official, ("images", "identities", "cameras"), strict=True):
        if should is not None and have != should:
            gap = f"{should - have} missing" if have < should else f"{have - should} too many"
            parts.append(f"{have} {what} where the published set has {should} ({gap})")
    return ", ".join(parts)
