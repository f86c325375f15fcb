"""What is wrong with a data set, beyond what its names show: damaged files, duplicates, leakage, odd identities."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dgnet import console
from dgnet.datasets.official import missing
from dgnet.datasets.records import DISTRACTOR, JUNK, UNKNOWN_CAMERA, Dataset, Split, concatenate
from dgnet.datasets.scan import READABLE, TRUNCATED, UNREADABLE, scan
from dgnet.errors import UserError
from dgnet.files import expanded

BINS = (1, 2, 4, 8, 16, 32, 64)  # images per identity: 1, 2 to 3, 4 to 7, ...

_GRAY = 3  # difference between channels, of 255: rounding alone may make 2 of it
_FLAT = 2.0  # standard deviation, of 255: too even to be told from another image
_ALIKE = 0.985  # correlation of two small images; Market-1501's train and test stay below 0.962, its scaled or
# recompressed copies above 0.998
_BLOCK = 1 << 26  # correlations at a time


@dataclass(frozen=True)
class SplitCounts:
    """One split in figures.

    cameras: images of each camera, -1 for unknown ones
    images_per_identity: identities with so many images, by the smallest of each bin ("4" is 4 to 7)
    """

    images: int
    identities: int
    junk: int
    distractors: int
    cameras: dict[int, int]
    images_per_identity: dict[int, int]


@dataclass(frozen=True)
class Finding:
    """Something to know about a data set. A problem spoils training or evaluation; what is none is worth a note."""

    kind: str
    text: str
    problem: bool
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CheckReport:
    """The result of `check`. `seconds` is the time it took, `usable` whether every split has a readable image."""

    name: str
    layout: str
    root: str
    splits: dict[str, SplitCounts]
    findings: list[Finding]
    usable: bool
    seconds: float
    camera_names: dict[int, str] = field(default_factory=dict)
    """What the user calls each camera; empty for public sets."""

    @property
    def exit_code(self) -> int:
        """0: clean, 1: problems were found, 2: the data set cannot be used."""
        return 2 if not self.usable else int(any(finding.problem for finding in self.findings))

    def to_json(self) -> str:
        """Everything, with all examples."""
        return json.dumps({**asdict(self), "exit_code": self.exit_code}, indent=2)

    def show(self) -> None:
        """Tables and sentences on standard output."""
        counts = [
            [name, *map(str, (split.images, split.identities, split.junk, split.distractors))]
            for name, split in self.splits.items()
        ]
        title = f"{self.name} at {self.root}, layout {self.layout}"
        console.stdout.print(console.table(title, ["split", "images", "identities", "junk", "distractors"], counts))
        cameras = sorted({camera for split in self.splits.values() for camera in split.cameras})
        self._show_by_split(
            "images per camera",
            "camera",
            {"unknown" if k == UNKNOWN_CAMERA else self.camera_names.get(k, str(k)): k for k in cameras},
            {name: split.cameras for name, split in self.splits.items()},
        )
        ends = [f" to {after - 1}" if after > start + 1 else "" for start, after in pairwise(BINS)]
        self._show_by_split(
            "identities by number of images",
            "images",
            {f"{start}{end}": start for start, end in zip(BINS, [*ends, " and more"], strict=True)},
            {name: split.images_per_identity for name, split in self.splits.items()},
        )
        for finding in sorted(self.findings, key=lambda finding: not finding.problem):
            console.stdout.print("problem: " if finding.problem else "note: ", style="red" * finding.problem, end="")
            few = f": {', '.join(finding.examples[:3])}" if finding.examples else ""
            console.stdout.print(f"{finding.text}{few}{', ...' if len(finding.examples) > 3 else ''}")
        verdict = ("clean", "problems found", "unusable")[self.exit_code]
        images = sum(split.images for split in self.splits.values())
        console.stdout.print(f"{verdict} ({images} images, {self.seconds:.1f} s)")

    def _show_by_split(self, title: str, what: str, rows: dict[str, int], counts: dict[str, dict[int, int]]) -> None:
        cells = [[label, *(str(split.get(key, "")) for split in counts.values())] for label, key in rows.items()]
        console.stdout.print(console.table(title, [what, *counts], cells))


def check(
    dataset: Dataset, *, cache: Path | None = None, workers: int | None = None, tiny: tuple[int, int] = (32, 16)
) -> CheckReport:
    """Look into every file of `dataset` and say what was found.

    Args:
        dataset: as `read_dataset` gives it.
        cache: a folder, not the data set's own, that keeps what was seen: a second check reads changed files only.
        workers: threads; by default one per core.
        tiny: rows and columns below which an image is called tiny.

    Raises:
        UserError: `cache` cannot be written, or lies in the data set's folder.
    """
    started = time.perf_counter()
    cache = cache and expanded(cache)
    if cache and dataset.root.is_dir() and cache.absolute().is_relative_to(dataset.root):
        raise UserError(f"cache folder {cache} lies inside the data set; nothing is written there: name another")
    unread = [Finding("unread", sentence, problem=True) for sentence in (*dataset.absent.values(), *dataset.notes)]
    if not dataset.splits:
        seconds = round(time.perf_counter() - started, 2)
        nothing = Finding("empty", f"no split of {dataset.root} can be read", problem=True)
        return CheckReport(dataset.name, dataset.layout, str(dataset.root), {}, [*unread, nothing], False, seconds)
    split_of = np.repeat(list(dataset.splits), [len(split) for split in dataset.splits.values()])
    every = concatenate(list(dataset.splits.values()))
    looks = scan(every.paths, dataset.root, cache, workers)
    folder = dataset.root if dataset.root.is_dir() else dataset.root.parent
    images = _Images(folder, every, split_of, looks)
    findings = [
        *unread,
        *(Finding("incomplete", sentence, problem=True) for sentence in missing(dataset)),
        *_damaged(images, tiny),
        *_twins(images),
        *_leaks(images),
        *_odd_identities(dataset),
    ]
    readable = {name for name in dataset.splits if (looks["state"][split_of == name] == READABLE).any()}
    return CheckReport(
        name=dataset.name,
        layout=dataset.layout,
        root=str(dataset.root),
        splits={name: _counts(split) for name, split in dataset.splits.items()},
        findings=findings,
        usable=readable == set(dataset.splits),
        seconds=round(time.perf_counter() - started, 2),
        camera_names=dataset.words("camera"),
    )


@dataclass(frozen=True)
class _Images:
    """All images of a data set in one row: its records, the split and the look of each [N]."""

    root: Path
    records: Split
    split: NDArray[np.str_]
    looks: NDArray[np.void]

    def name(self, place: int) -> str:
        path = self.records.paths[place]
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def pair(self, one: int, other: int) -> str:
        return f"{self.name(one)} = {self.name(other)}"

    def named(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [self.name(place) for place in np.flatnonzero(chosen).tolist()]


def _counts(split: Split) -> SplitCounts:
    people = split.identities[split.identities > DISTRACTOR]
    sizes = np.unique(people, return_counts=True)[1]
    bins = np.searchsorted(BINS, sizes, side="right") - 1
    return SplitCounts(
        images=len(split),
        identities=len(sizes),
        junk=int((split.identities == JUNK).sum()),
        distractors=int((split.identities == DISTRACTOR).sum()),
        cameras=dict(sorted(Counter(split.cameras.tolist()).items())),
        images_per_identity={start: int((bins == place).sum()) for place, start in enumerate(BINS)},
    )


def _damaged(images: _Images, tiny: tuple[int, int]) -> Iterator[Finding]:
    looks = images.looks
    readable = looks["state"] == READABLE
    height, width = tiny
    small = images.looks["small"].reshape(len(looks), -1)
    for kind, chosen, text, problem in (
        ("unreadable", looks["state"] == UNREADABLE, "files are no readable images", True),
        ("truncated", looks["state"] == TRUNCATED, "files are truncated", True),
        ("tiny", (looks["height"] < height) | (looks["width"] < width), f"images are below {height} x {width}", True),
        ("grayscale", looks["colour"] < _GRAY, "images have no colour", False),
        ("flat", small.std(1) < _FLAT, "images show one even colour", False),
    ):
        names = images.named(chosen if kind in ("unreadable", "truncated") else chosen & readable)
        if names:
            yield Finding(kind, f"{len(names)} {text}", problem, names)


def _twins(images: _Images) -> Iterator[Finding]:
    """Files of the same bytes within a split, or under different identities."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place in np.flatnonzero((images.looks["state"] == READABLE) & (images.split != "multi_query")):
        groups[images.looks["digest"][place].tobytes()].append(int(place))
    repeated, contradicting = [], []
    for first, *others in groups.values():
        for other in others:
            people = images.records.identities[[first, other]]
            if people[0] != people[1] and JUNK not in people:
                contradicting.append(images.pair(first, other))
            elif images.split[first] == images.split[other]:
                repeated.append(images.pair(first, other))
    if contradicting:
        yield Finding(
            "contradiction", f"{len(contradicting)} files are there under two identities", True, contradicting
        )
    if repeated:
        yield Finding("duplicate", f"{len(repeated)} files are there twice in their split", False, repeated)


def _leaks(images: _Images) -> Iterator[Finding]:
    """Images that look the same across splits where they must not.

    Two images look the same if their small gray versions [16, 8] correlate by more than 0.985: scaling, recompression
    and brightness do not matter. Between query and gallery, what the ranking leaves out is left out here: junk, and
    images of the same identity and camera (they are often cut from one frame).
    """
    seen = (images.looks["state"] == READABLE) & (images.looks["small"].std((1, 2)) >= _FLAT)
    train, query, gallery = (np.flatnonzero(seen & (images.split == name)) for name in ("train", "query", "gallery"))
    people, cameras = images.records.identities, images.records.left_out_by
    for first, second, ranked, text in (
        (train, query, False, "training images look like a query image: leakage"),
        (train, gallery, False, "training images look like a gallery image: leakage"),
        (query, gallery, True, "query images look like a gallery image of another identity or camera"),
    ):
        pairs = []
        for rows, likeness in _likeness(images.looks["small"], first, second):
            if ranked:
                same = people[rows, None] == people[second]
                same &= (cameras[rows, None] == cameras[second]) & (cameras[second] != UNKNOWN_CAMERA)
                likeness[same | (people[second] == JUNK)] = 0
            best = likeness.argmax(1)
            alike = likeness[np.arange(len(rows)), best] > _ALIKE
            pairs += [
                images.pair(int(one), int(second[place])) for one, place in zip(rows[alike], best[alike], strict=True)
            ]
        if pairs:
            yield Finding("leakage", f"{len(pairs)} {text}", True, pairs)


def _likeness(
    small: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Blocks of `first` and the correlation [n, M] of their small images with those of `second`."""
    if not (len(first) and len(second)):
        return
    right = _standardised(small[second])
    with console.progress(speed_unit="images") as bar:
        task = bar.add_task("comparing images", total=len(first), note="")
        step = max(1, _BLOCK // len(second))
        for start in range(0, len(first), step):
            rows = first[start : start + step]
            yield rows, _standardised(small[rows]) @ right.T
            bar.update(task, advance=len(rows))


def _standardised(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return flat


def _odd_identities(dataset: Dataset) -> Iterator[Finding]:
    train, query, gallery = dataset.train, dataset.query, dataset.gallery
    words = dataset.words("identity")

    def named(person: int) -> str:
        return f"identity {words.get(person, person)}"

    def about(people: NDArray[np.int64], kind: str, text: str, problem: bool) -> Finding:
        return Finding(kind, f"{len(people)} {text}", problem, [named(person) for person in people.tolist()])

    both = np.intersect1d(train.people, np.union1d(query.people, gallery.people))
    if len(both):
        yield about(both, "identities in train and test", "identities are in train and in query or gallery", True)
    if query and gallery:
        answers = set(zip(gallery.identities.tolist(), gallery.left_out_by.tolist(), strict=True))
        cameras_of = defaultdict(set)
        for person, camera in answers:
            cameras_of[person].add(camera)
        alone = [
            person
            for person, camera in zip(query.identities.tolist(), query.left_out_by.tolist(), strict=True)
            if not cameras_of[person] - ({camera} - {UNKNOWN_CAMERA})
        ]
        if alone:
            text = "queries have no image of their identity in the gallery from another camera"
            yield Finding("no answer", f"{len(alone)} {text}", True, [named(person) for person in alone])
    for name, split in dataset.splits.items():
        people, images = np.unique(split.identities[split.identities > DISTRACTOR], return_counts=True)
        if name == "train" and (images == 1).any():
            yield about(people[images == 1], "single image", "training identities have one image only", False)
        if not split.has_cameras:
            yield Finding("no cameras", f"the cameras of {name} are unknown", False)
        elif name == "train":
            seen = np.unique(np.stack([split.identities, split.cameras]), axis=1)
            people, cameras = np.unique(seen[0][seen[0] > DISTRACTOR], return_counts=True)
            if (cameras == 1).any():
                yield about(
                    people[cameras == 1], "single camera", "training identities are seen by one camera only", False
                )
