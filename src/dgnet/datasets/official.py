"""The published size of every public data set, and what a copy of it lacks."""

from __future__ import annotations

import re

from dgnet.datasets.records import UNKNOWN_CAMERA, Dataset

# images, people and cameras of each split, as the authors' pages and papers give them (people without junk and
# distractors; VehicleID as its released lists are, which differ from its paper)
OFFICIAL: dict[str, dict[str, tuple[int, int, int]]] = {
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
    "occluded-reid": {"query": (1000, 200, 0), "gallery": (1000, 200, 0)},
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
    if dataset.name == "market1501" and not re.search(r"market.?1501", "/".join(dataset.root.parts[-2:]).lower()):
        expected = sum(images for images, _, _ in official.values())
        if not 0.5 < sum(found[split][0] for split in official if split in found) / expected < 1.5:
            return []
    return [
        f"{dataset.name}, {split}: {_difference(found[split], official[split])}"
        for split in official
        if split in found and found[split] != official[split]
    ]


def _difference(found: tuple[int, ...], official: tuple[int, ...]) -> str:
    parts = []
    for have, should, what in zip(found, official, ("images", "identities", "cameras"), strict=True):
        if have != should:
            gap = f"{should - have} missing" if have < should else f"{have - should} too many"
            parts.append(f"{have} {what} where the published set has {should} ({gap})")
    return ", ".join(parts)
