"""What a data set is, once read: which image shows whom, seen by which camera."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dgnet.errors import UserError
from dgnet.labels import DISTRACTOR as DISTRACTOR
from dgnet.labels import JUNK as JUNK
from dgnet.labels import UNKNOWN_CAMERA as UNKNOWN_CAMERA

Ints = NDArray[np.int64]

_WAY_OUT = "; data.holdout=0.25 (evaluate: --holdout 0.25) holds out a quarter of the people for query and gallery"

SPLITS = ("train", "query", "gallery", "multi_query")


@dataclass(frozen=True, eq=False)
class Split:
    """N images: their files, identities and cameras.

    `identities` [N] are numbers from 1 up, 0 for a distractor and -1 for junk; `cameras` [N] are the set's own numbers,
    -1 where unknown. `columns` is whatever else is known of each image, every value of length N; own data keeps its
    words for people and cameras there, as "identity" and "camera". `places` [N] are there where the set's protocol
    counts two cameras as one, or goes by tracklets instead.
    """

    paths: list[Path] = field(default_factory=list)
    identities: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    cameras: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    places: Ints | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.paths), len(self.identities), len(self.cameras), *map(len, self.columns.values())}
        lengths |= set() if self.places is None else {len(self.places)}
        if len(lengths) > 1:
            raise ValueError(f"paths, identities, cameras and columns differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]) -> Split:
        """The images at `indices` (positions, or a mask [N]), in that order."""
        chosen = np.arange(len(self))[np.asarray(indices, dtype=None if len(indices) else np.int64)]
        return Split(
            [self.paths[index] for index in chosen],
            self.identities[chosen],
            self.cameras[chosen],
            {name: values[chosen] for name, values in self.columns.items()},
            None if self.places is None else self.places[chosen],
        )

    @property
    def people(self) -> Ints:
        """The identities proper, sorted: neither junk nor distractors."""
        found = np.unique(self.identities)
        return found[found > DISTRACTOR]

    @property
    def left_out_by(self) -> Ints:
        """What a ranking goes by [N]: images of the query's person with the query's own number here do not count."""
        return self.cameras if self.places is None else self.places

    @property
    def has_cameras(self) -> bool:
        """Whether any camera is known; without, no same-camera image can be left out of a ranking."""
        return bool((self.cameras != UNKNOWN_CAMERA).any())


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set as read from `root`; its files stay where they are.

    A split that the data set does not have is empty. For a split that should be there and is not, `absent` says what is
    missing. `layout` is what it was read as. `notes` says, a sentence each, what was found and not used, or could have
    been read otherwise.
    """

    name: str
    root: Path
    train: Split = field(default_factory=Split)
    query: Split = field(default_factory=Split)
    gallery: Split = field(default_factory=Split)
    multi_query: Split | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    layout: str = ""
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that hold images, by name."""
        named = {name: getattr(self, name) for name in SPLITS}
        return {name: split for name, split in named.items() if split}

    @property
    def paths(self) -> list[Path]:
        """The files of all splits."""
        return [path for split in self.splits.values() for path in split.paths]

    def words(self, column: str) -> dict[int, str]:
        """What the user calls each identity or camera ("identity", "camera"), by number; empty for public sets."""
        numbers = {"identity": "identities", "camera": "cameras"}[column]
        said: dict[int, str] = {}
        for split in self.splits.values():
            if column in split.columns:
                for number, word in zip(getattr(split, numbers).tolist(), split.columns[column].tolist(), strict=True):
                    said.setdefault(number, word)
        return {number: word for number, word in said.items() if column == "identity" or number != UNKNOWN_CAMERA}

    def require(self, *names: str) -> None:
        """Raises UserError if one of the splits `names` is empty, saying why."""
        for name in names:
            if name not in self.splits:
                way_out = _WAY_OUT if name in ("query", "gallery") and self.train else ""
                raise UserError(self.absent.get(name, f"{self.name} at {self.root} has no {name} images{way_out}"))


def first_of_each(split: Split) -> NDArray[np.bool_]:
    """A mask [N] of the first image of each person in each camera; the last one that a person has is never taken."""
    left = Counter(split.identities.tolist())
    seen: set[tuple[int, int]] = set()
    chosen = np.zeros(len(split), bool)
    for place, pair in enumerate(zip(split.identities.tolist(), split.cameras.tolist(), strict=True)):
        person = pair[0]
        if person > DISTRACTOR and pair not in seen and left[person] > 1:
            chosen[place] = True
            seen.add(pair)
            left[person] -= 1
    return chosen


def hold_out(dataset: Dataset, share: float, seed: int = 0) -> Dataset:
    """The same with a `share` of the training's people held out of it: their images become query and gallery.

    Only people who can be found again are held out: those with two images, of different cameras where the set has
    several. Who it is depends on the people and the seed alone. The first image of each of them in each camera (without
    cameras: the first of each) is a query, the others are the gallery; the last one is never a query.

    Raises:
        UserError: the set has a test of its own, or so few people that one half would have less than two.
    """
    if dataset.query or dataset.gallery:
        raise UserError(f"data.holdout: {dataset.name} at {dataset.root} has query or gallery images of its own")
    dataset.require("train")
    people = dataset.train.people
    count = round(share * len(people))
    if not 2 <= count <= len(people) - 2:
        raise UserError(
            f"data.holdout = {share:g}: that is {count} of {len(people)} people; hold out at least 2, and leave 2"
        )
    shuffled = np.random.default_rng(seed).permutation(people)
    held_out = shuffled[np.isin(shuffled, _found_again(dataset.train))][:count]
    if len(held_out) < count:
        different = " of different cameras" * (len(set(dataset.train.cameras.tolist())) > 1)
        raise UserError(
            f"data.holdout = {share:g}: that is {count} of {len(people)} people, but only {len(held_out)} have two "
            f"images{different}; hold out less"
        )
    tested = np.isin(dataset.train.identities, held_out)
    test = dataset.train.subset(tested)
    query = first_of_each(test)
    return replace(dataset, train=dataset.train.subset(~tested), query=test.subset(query), gallery=test.subset(~query))


def _found_again(split: Split) -> list[int]:
    """The people with two images, not both of one known camera where the split has several cameras."""
    several = len(set(split.cameras.tolist())) > 1
    seen: dict[int, list[int]] = defaultdict(list)
    for person, camera in zip(split.identities.tolist(), split.cameras.tolist(), strict=True):
        seen[person].append(camera)
    return [
        person
        for person, cameras in seen.items()
        if len(cameras) > 1 and (not several or len(set(cameras)) > 1 or cameras[0] == UNKNOWN_CAMERA)
    ]


def labels(identities: Ints) -> tuple[Ints, list[int]]:
    """Class labels 0..K-1 [N] of `identities` [N], and the K identities in the order of their labels (sorted)."""
    people, classes = np.unique(identities, return_inverse=True)
    return classes.astype(np.int64).reshape(-1), [int(person) for person in people]


def concatenate(splits: Sequence[Split]) -> Split:
    """The images of several splits in one; of the columns, those that all of them have."""
    shared = set.intersection(*(set(split.columns) for split in splits))
    by_camera = all(split.places is None for split in splits)
    return Split(
        [path for split in splits for path in split.paths],
        np.concatenate([split.identities for split in splits]),
        np.concatenate([split.cameras for split in splits]),
        {
            name: np.concatenate([split.columns[name] for split in splits])
            for name in splits[0].columns
            if name in shared
        },
        None if by_camera else np.concatenate([split.left_out_by for split in splits]),
    )


def join(datasets: Sequence[Dataset]) -> Dataset:
    """The training images of several data sets as one; people and cameras of different sets stay different.

    There is no joint query or gallery: each set is tested on its own. The column "source" names each image's set.
    Raises UserError if one of them has no training images.
    """
    parts: list[Split] = []
    people_before = cameras_before = 0
    for dataset in datasets:
        dataset.require("train")
        train = dataset.train
        parts.append(
            Split(
                train.paths,
                np.where(train.identities > DISTRACTOR, train.identities + people_before, train.identities),
                np.where(train.cameras > UNKNOWN_CAMERA, train.cameras + cameras_before, train.cameras),
                {**train.columns, "source": np.repeat(dataset.name, len(train))},
            )
        )
        people_before += max(0, int(train.identities.max()))
        cameras_before += int(train.cameras.max()) + 1
    name = "+".join(dataset.name for dataset in datasets)
    return Dataset(name, datasets[0].root, train=concatenate(parts))
