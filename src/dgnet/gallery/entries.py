"""What is put into a gallery: photos of folders, data sets, boxes of frames, tracklets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dgnet.datasets.folders import images_among
from dgnet.datasets.records import DISTRACTOR, JUNK, UNKNOWN_CAMERA, Dataset
from dgnet.errors import UserError
from dgnet.images.pieces import Piece
from dgnet.labels import meaning


@dataclass(frozen=True)
class Entry:
    """One entry: a photo, a box of a frame, or a tracklet, whose photos' features are averaged.

    `about` holds whatever is known of it; `camera`, `identity` and `time` can be searched by.
    """

    pieces: tuple[Piece, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    tracklet: str | None = None
    """What a tracklet is known by."""

    @property
    def name(self) -> str:
        """The path of its (first) photo, whole."""
        return whole(self.pieces[0].path)

    @property
    def key(self) -> str:
        """What it is known by: an entry with the same key takes its place."""
        if self.tracklet is not None:
            return self.tracklet
        box = self.pieces[0].box
        return self.name if box is None else f"{self.name}#{','.join(f'{edge:g}' for edge in box)}"

    @property
    def state(self) -> str:
        """Of its files: another one when they have changed."""
        try:
            found = [path.stat() for path in dict.fromkeys(piece.path for piece in self.pieces)]
        except OSError:  # told when it is read
            return ""
        return f"{len(self.pieces)} {sum(f.st_size for f in found)} {max(f.st_mtime_ns for f in found)}"


def of_images(
    places: Iterable[str | Path], *, camera: str | None = None, modified: bool = False, by_folder: bool = False
) -> list[Entry]:
    """An entry per photo among files and folders; `by_folder`: one per folder, as a tracklet.

    `camera` is that of all of them; `modified`: their time is when the files were last changed. Raises UserError for
    what is not there.
    """
    paths = images_among(places)
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.parent if by_folder else path, []).append(path)
    made = []
    for place, members in groups.items():
        about: dict[str, Any] = {} if camera is None else {"camera": spelt(camera)}
        if modified:
            about["time"] = datetime.fromtimestamp(members[0].stat().st_mtime, UTC).isoformat()
        if by_folder:
            about["photos"] = len(members)
        made.append(Entry(tuple(map(Piece, members)), about, whole(place) if by_folder else None))
    return made


def of_dataset(dataset: Dataset, splits: Sequence[str] = ()) -> list[Entry]:
    """An entry per photo of these splits (by default the gallery, or all where there is none), but for its junk.

    Raises UserError for a split that it does not have.
    """
    names = list(splits) or (["gallery"] if dataset.gallery else list(dataset.splits))
    dataset.require(*names)
    people, cameras = dataset.words("identity"), dataset.words("camera")
    made = []
    for split in map(dataset.splits.__getitem__, names):
        labels = zip(split.paths, split.identities.tolist(), split.cameras.tolist(), strict=True)
        for path, person, camera in labels:
            if person == JUNK:
                continue
            about = {} if person == DISTRACTOR else {"identity": people.get(person, str(person))}
            if camera != UNKNOWN_CAMERA:
                about["camera"] = spelt(cameras.get(camera, str(camera)))
            made.append(Entry((Piece(path),), about))
    return made


def whole(path: str | Path) -> str:
    """A path in full, without `..`; links stay what they are, so that a photo keeps the name that its user knows."""
    return os.path.abspath(path)  # noqa: PTH100


def spelt(word: object) -> str:
    """A camera's or a person's name in its one spelling: 3, 03 and 3.0 are one."""
    return meaning(str(word).strip())


def moment(text: object) -> float:
    """A time as a number: seconds as they are; a date (ISO 8601) in seconds since 1970, in UTC unless it says where.

    Raises UserError for anything else.

    Examples:
        >>> moment("12.5"), moment("1970-01-02"), moment("1970-01-02T00:00:10+00:00")
        (12.5, 86400.0, 86410.0)
    """
    word = str(text).strip()
    try:
        number = float(word)
    except ValueError:
        try:
            said = datetime.fromisoformat(word)
        except ValueError as error:
            raise UserError(f"time {word!r}: seconds, or a date such as 2026-11-25T13:51:00, would be right") from error
        number = (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
    if abs(number) < 1e18:
        return number
    raise UserError(f"time {word!r}: a finite number of seconds would be right")
