"""A gallery of people, as a user holds it: searched, added to, and looked after."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet import console
from dgnet.errors import UserError
from dgnet.gallery.ask import EVERYTHING, NOTHING_NAMED, answers, asked, given, made_by, piece_of, row_of
from dgnet.gallery.ask import Where as Where
from dgnet.gallery.entries import Entry, whole
from dgnet.gallery.store import About, Precision, Row, Store
from dgnet.images.pieces import Piece
from dgnet.retrieval.decision import Threshold
from dgnet.retrieval.matches import Match
from dgnet.retrieval.rerank import ReRanking


class Gallery:
    """Entries with their features, in a folder; made by one model, and asked by that model only.

    Any number of processes may search while one writes. A search sees what was there when it began, and the next one
    sees what has come since. What `add`, `remove` and `compact` have done when they return survives the death of the
    process.

    Raises:
        UserError: no gallery is there, or one that cannot be read.

    Examples:
        >>> gallery = Gallery("gallery")
        >>> gallery.search(model.embed_person("anna.jpg"), top=3)[0].place
        1
    """

    def __init__(self, folder: str | Path) -> None:
        self.store = Store(folder)
        self.place = str(self.store.folder)
        self.about = self.store.about()
        self._seen: _Seen | None = None

    @classmethod
    def create(
        cls, folder: str | Path, *, model: str, made_by: str, dimensions: int, precision: Precision = "float32"
    ) -> Gallery:
        """An empty gallery for a model's features. Raises UserError where one is there."""
        if precision not in ("float16", "float32"):
            raise UserError(f"precision is {precision!r}: 'float16' or 'float32' would be right")
        store = Store(folder)
        if store.folder.exists() and not store.table.is_file() and (not store.folder.is_dir() or _held(store.folder)):
            raise UserError(f"{folder}: is there already, and no gallery; give a new or an empty folder")
        store.create(About(model, made_by, dimensions, precision, "features-000001.bin", 0, 0, 0, False))
        return cls(folder)

    def __len__(self) -> int:
        return len(self._now().rows)

    def __repr__(self) -> str:
        return f"<dgnet gallery {self.place}: {len(self)} entries, {self.about.dimensions} dimensions>"

    @property
    def lost(self) -> list[str]:
        """A line for each entry, or stretch of entries, that damage has cost."""
        return self._now().lost

    def require(self, model: str, name: str) -> None:
        """Raise UserError unless the model of this fingerprint made the gallery."""
        made_by(self.place, self.about, model, name)

    # Ask

    def search(
        self,
        query: Tensor,
        top: int = 10,
        where: Where = EVERYTHING,
        *,
        threshold: Threshold | None = None,
        reranking: ReRanking | None = None,
    ) -> list[Match]:
        """The entries most like one person, best first; equal scores by their order in the gallery.

        Args:
            query: the person's feature, [D] or [1, D], of length 1 (`model.embed_person`).
            top: how many to give.
            where: which entries count.
            threshold: the model's, for a decision beside each score.
            reranking: rank the best 200 (or `top`) anew by k-reciprocal re-ranking; scores stay those of the features.

        Raises:
            UserError: a feature of another length, or a time that is none.
        """
        feature, now = asked(query, self.about.dimensions, top), self._now()
        rows, places = now.rows, now.places
        if where:
            met = np.flatnonzero(where.met_by(rows))
            rows, places = [rows[n] for n in met], places[met]
        return answers(feature, _Held(now.mapped, places), rows, top, threshold, reranking)

    def info(self) -> dict[str, Any]:
        """What is in it, by name: entries, people, cameras, what is lost, sizes, the model."""
        now, about = self._now(), self.about
        files = [self.store.table, self.store.folder / about.features]
        return {
            "place": self.place,
            "entries": len(now.rows),
            "lost": list(now.lost),
            "removed": about.places - about.entries,
            "people": len({row.identity for row in now.rows} - {None}),
            "cameras": sorted({row.camera for row in now.rows if row.camera is not None}),
            "model": about.made_by,
            "fingerprint": about.model,
            "dimensions": about.dimensions,
            "precision": about.precision,
            "bytes": sum(file.stat().st_size for file in files if file.is_file()),
            "whole": about.whole,
        }

    def pieces(self) -> list[Piece]:
        """The (first) photo of every entry, or the box of a frame that it is of, in the gallery's order."""
        return list(map(piece_of, self._now().rows))

    def known(self) -> dict[str, str]:
        """The state of every entry's files when it was added, by its key."""
        return {row.key: json.loads(row.about).get("state", "") for row in self._now().rows}

    # Change

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the gallery's one writer for several changes. Raises UserError where there is another."""
        with self.store.locked():
            yield

    def add(self, entries: Sequence[Entry], features: Tensor) -> int:
        """Add entries with their features [n, D] of length 1; one that is there already (by its key) is replaced.

        Returns how many entries there are now.

        Raises:
            UserError: features of another shape, or not finite; another writer; a full disk. Then nothing was added.
        """
        values = given(entries, features, self.about.dimensions)
        if len(entries):
            self.store.append([row_of(entry) for entry in entries], values.numpy())
        return self.store.about().entries

    def finish(self) -> None:
        """Note that the building came to an end."""
        empty = np.empty((0, self.about.dimensions), self.about.precision)
        self.store.append([], empty, whole=True)
        self.about = self.store.about()

    def remove(self, places: Sequence[str | Path] = (), where: Where = EVERYTHING) -> int:
        """Remove the entries of these photos, or of all photos in these folders, that meet `where`; returns how many.

        They are in no search any more; their features are on the disk until `compact`. Raises UserError where a place
        has no entry, or nothing is left to remove.
        """
        with self.writing():
            rows = self._now().rows
            met = where.met_by(rows)
            if not places and not where:
                raise UserError(NOTHING_NAMED)
            if places:
                named = np.zeros(len(rows), bool)
                for place in map(whole, places):
                    inside = place.rstrip("/\\") + os.sep
                    own = np.array([row.name == place or row.name.startswith(inside) for row in rows], bool)
                    if not own.any():
                        alike = [row.name for row in rows if Path(row.name).name == Path(place).name]
                        hint = f"; perhaps {alike[0]}?" if alike else ""
                        raise UserError(f"{place}: no entry of {self.place} is of that photo or folder{hint}")
                    named |= own
                met &= named
            if not met.any():
                raise UserError(f"{self.place}: no entry meets {where}")
            self.store.delete([rows[n].id for n in np.flatnonzero(met)])
            return int(met.sum())

    def compact(self) -> int:
        """Write the files anew, without what was removed or lost; returns how many bytes that freed."""
        with self.writing():
            before, now = self.info()["bytes"], self._now(afresh=True)
            self.store.rewrite(now.rows, now.mapped)
            self._seen = None
            return int(before - self.info()["bytes"])

    def _now(self, *, afresh: bool = False) -> _Seen:
        """What the gallery holds at this moment, read where it has changed."""
        self.about = self.store.about()
        if afresh or self._seen is None or self._seen.version != self.about.version:
            self._seen = _look(self.store)
            if self._seen.lost:
                few = "; ".join(self._seen.lost[:20]) + "; ..." * (len(self._seen.lost) > 20)
                console.warn(
                    f"{self.place}: damaged: {len(self._seen.lost)} lost, the rest is served: {few}; add them "
                    "again, or `dgnet gallery compact` to forget them"
                )
        return self._seen


@dataclass(frozen=True)
class _Seen:
    """What a gallery held at one moment: sound entries by id, their features, what is lost."""

    version: int
    rows: list[Row]
    places: NDArray[np.int64]
    """Where in the features each of them is [n]."""
    mapped: NDArray[Any]
    lost: list[str]


def _look(store: Store) -> _Seen:
    """Read a gallery, and compare every entry with its checksum."""
    while True:  # until nobody has changed it in between
        about = store.about()
        mapped = store.mapped(about)
        rows, lost = store.rows()
        if store.about().version == about.version:
            break
    sound: list[Row] = []
    width = about.dimensions * mapped.itemsize
    raw = mapped.reshape(-1).view(np.uint8).data if len(mapped) else memoryview(b"")
    for row in rows:
        at = row.place
        inside = isinstance(at, int) and 0 <= at < len(mapped)
        if inside and row.sum_with(raw[at * width : (at + 1) * width]) == row.checksum:
            sound.append(row)
        else:
            lost.append(f"{row.name}" if row.key == row.name else f"{row.key} of {row.name}")
    if not lost and len(rows) < about.entries:
        lost = [f"{about.entries - len(rows)} entries (their names are lost, too)"]
    return _Seen(about.version, sound, np.array([row.place for row in sound], np.int64), mapped, lost)


class _Held:
    """The features of some entries, as `best` reads them."""

    def __init__(self, mapped: NDArray[Any], places: NDArray[np.int64]) -> None:
        self.mapped, self.places = mapped, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: Any) -> Tensor:
        places = self.places[chosen.numpy() if isinstance(chosen, Tensor) else chosen]
        if len(places) and places[-1] - places[0] + 1 == len(places) and isinstance(chosen, slice):
            found = self.mapped[places[0] : places[-1] + 1]  # rise, so these are all: nothing is copied
        else:
            found = self.mapped[places]
        return torch.from_numpy(np.asarray(found)).float()


def _held(folder: Path) -> list[str]:
    """What is in a folder, but for hidden files."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
