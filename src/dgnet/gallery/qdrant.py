"""A gallery in Qdrant, where one machine is outgrown: the same answers as from one's own disk.

Entries are points: their id is made of their key, their payload is what SQLite would hold. One more point says which
model made them. Qdrant finds the best by its own (exact) search in float32; a few more than are asked for are fetched
with their features, and ranked here as everywhere, in the order of float64.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgnet.errors import UserError
from dgnet.gallery.ask import (
    EVERYTHING,
    NOTHING_NAMED,
    Where,
    answers,
    asked,
    depth_of,
    given,
    made_by,
    piece_of,
    row_of,
)
from dgnet.gallery.entries import Entry, moment, spelt, whole
from dgnet.gallery.store import About, Precision, Row
from dgnet.images.pieces import Piece
from dgnet.retrieval.decision import Threshold
from dgnet.retrieval.exact import LONGEST
from dgnet.retrieval.matches import Match
from dgnet.retrieval.rerank import ReRanking

ADDRESS = re.compile(
    r"qdrant://(?:(?P<host>[^/:]+)(?::(?P<port>\d+))?/(?P<name>[^/]+)|(?P<folder>/.+)/(?P<inside>[^/]+))/?"
)
EPSILON = torch.finfo(torch.float32).eps
_AT_ONCE = 256  # points in one request


def is_address(place: str) -> bool:
    """Whether a gallery's place is in Qdrant rather than a folder."""
    return place.startswith("qdrant:")


class QdrantGallery:
    """A collection of Qdrant, as a gallery; see `dgnet.gallery.gallery.Gallery` for what its methods do.

    Args:
        place: `qdrant://host:port/name` (the key is taken from QDRANT_API_KEY), or `qdrant:///folder/name` for Qdrant's
            embedded store in a folder.
        client: a `QdrantClient` to use instead of one for that address.

    Raises:
        UserError: no such collection, or none of dgnet's; no server; qdrant-client is not installed.
    """

    def __init__(self, place: str, client: Any = None) -> None:
        self.place, self.name, self.client = _reached(place, client)
        found = self._about()
        if found is None:
            raise UserError(f"{place}: no gallery; `dgnet gallery build` makes one")
        self.about = found

    @classmethod
    def create(
        cls,
        place: str,
        *,
        model: str,
        made_by: str,
        dimensions: int,
        precision: Precision = "float32",
        client: Any = None,
    ) -> QdrantGallery:
        """An empty gallery for a model's features. Raises UserError where a collection of that name is there."""
        self = cls.__new__(cls)
        self.place, self.name, self.client = _reached(place, client)
        self.about = About(model, made_by, dimensions, precision, "", 0, 0, 0, False)
        models = _models()
        kind = models.Datatype.FLOAT16 if precision == "float16" else models.Datatype.FLOAT32
        with _told(place):
            if self.client.collection_exists(self.name):
                raise UserError(f"{place}: a collection of that name is there already; choose another name")
            vectors = models.VectorParams(size=dimensions, distance=models.Distance.DOT, datatype=kind, on_disk=True)
            self.client.create_collection(self.name, vectors_config=vectors)
            if not _embedded(self.client):
                for field, schema in (("kind", "keyword"), ("within", "keyword"), ("camera", "keyword"),
                                      ("identity", "keyword"), ("moment", "float")):  # fmt: skip
                    self.client.create_payload_index(self.name, field, schema, wait=True)
            self._state(self.about)
        return self

    @classmethod
    def begun(cls, place: str, client: Any = None) -> bool:
        """Whether a gallery is there. Raises UserError for a collection of something else."""
        self = cls.__new__(cls)
        self.place, self.name, self.client = _reached(place, client)
        return self._about() is not None

    def __len__(self) -> int:
        with _told(self.place):
            return int(self.client.count(self.name, count_filter=self._filter(EVERYTHING), exact=True).count)

    def __repr__(self) -> str:
        return f"<dgnet gallery {self.place}: {len(self)} entries, {self.about.dimensions} dimensions>"

    @property
    def lost(self) -> list[str]:
        """Qdrant looks after its own files."""
        return []

    def require(self, model: str, name: str) -> None:
        """Raise UserError unless the model of this fingerprint made the gallery."""
        made_by(self.place, self.about, model, name)

    def search(
        self,
        query: Tensor,
        top: int = 10,
        where: Where = EVERYTHING,
        *,
        threshold: Threshold | None = None,
        reranking: ReRanking | None = None,
    ) -> list[Match]:
        """The entries most like one person, best first; equal scores by the order in which they were added."""
        feature = asked(query, self.about.dimensions, top)
        depth = depth_of(top, reranking)
        slack = 2 * LONGEST * EPSILON * (math.sqrt(self.about.dimensions) + 4)
        limit = depth + 16
        exactly = None if _embedded(self.client) else _models().SearchParams(exact=True)
        with _told(self.place):
            while True:  # until those that are left out are surely worse than the last that is asked for
                points = self.client.query_points(
                    self.name, query=feature[0].tolist(), query_filter=self._filter(where), limit=limit,
                    search_params=exactly, with_payload=True, with_vectors=True,
                ).points  # fmt: skip
                if len(points) < limit or points[-1].score < points[depth - 1].score - 2 * slack:
                    break
                limit *= 4
        points = sorted(points, key=lambda point: point.payload["order"])
        vectors = torch.tensor([point.vector for point in points], dtype=torch.float32)
        vectors = vectors.reshape(len(points), self.about.dimensions)
        return answers(feature, vectors, [_row(point) for point in points], top, threshold, reranking)

    def info(self) -> dict[str, Any]:
        """What is in it, by name."""
        rows, about = list(self._rows()), self.about
        return {
            "place": self.place,
            "entries": len(rows),
            "lost": [],
            "removed": 0,
            "people": len({row.identity for row in rows} - {None}),
            "cameras": sorted({row.camera for row in rows if row.camera is not None}),
            "model": about.made_by,
            "fingerprint": about.model,
            "dimensions": about.dimensions,
            "precision": about.precision,
            "whole": about.whole,
        }

    def pieces(self) -> list[Piece]:
        """The (first) photo of every entry, or the box of a frame that it is of, in the order of adding."""
        return [piece_of(row) for row in sorted(self._rows(), key=lambda row: row.id)]

    def known(self) -> dict[str, str]:
        """The state of every entry's files when it was added, by its key."""
        return {row.key: json.loads(row.about).get("state", "") for row in self._rows()}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Several may write to Qdrant at once."""
        yield

    def add(self, entries: Sequence[Entry], features: Tensor) -> int:
        """Add entries with their features; when it returns, Qdrant has them. Returns how many entries there are now."""
        values = given(entries, features, self.about.dimensions)
        about = self._about() or self.about
        self._state(replace(about, places=about.places + len(entries)))  # first: no order is given twice
        models, rows = _models(), [row_of(entry) for entry in entries]
        points = [
            models.PointStruct(id=_id(row.key), vector=vector, payload=_payload(row, about.places + n))
            for n, (row, vector) in enumerate(zip(rows, values.tolist(), strict=True))
        ]
        with _told(self.place):
            for start in range(0, len(points), _AT_ONCE):
                self.client.upsert(self.name, points[start : start + _AT_ONCE], wait=True)
        return len(self)

    def finish(self) -> None:
        """Note that the building came to an end."""
        self._state(replace(self._about() or self.about, whole=True))

    def remove(self, places: Sequence[str | Path] = (), where: Where = EVERYTHING) -> int:
        """Remove the entries of these photos, or of what is in these folders, that meet `where`; returns how many."""
        if not places and not where:
            raise UserError(NOTHING_NAMED)
        models, named = _models(), [whole(place) for place in places]
        with _told(self.place):
            for place in named:
                if not self.client.count(self.name, count_filter=self._filter(EVERYTHING, [place]), exact=True).count:
                    raise UserError(f"{place}: no entry of {self.place} is of that photo or folder")
            chosen = self._filter(where, named)
            count = int(self.client.count(self.name, count_filter=chosen, exact=True).count)
            if not count:
                raise UserError(f"{self.place}: no entry meets {where}")
            self.client.delete(self.name, points_selector=models.FilterSelector(filter=chosen), wait=True)
        return count

    def compact(self) -> int:
        """Qdrant frees the room of what was removed by itself."""
        return 0

    def _about(self) -> About | None:
        """What the gallery says of itself; None where there is no such collection."""
        with _told(self.place):
            if not self.client.collection_exists(self.name):
                return None
            points = self.client.retrieve(self.name, [_id("about")], with_payload=True)
        try:
            return About(**points[0].payload["about"])
        except (IndexError, KeyError, TypeError) as error:
            raise UserError(f"{self.place}: a collection, but no gallery of this dgnet; choose another name") from error

    def _state(self, about: About) -> None:
        self.about = about
        nowhere = [0.0] * about.dimensions
        payload = {"kind": "about", "about": vars(about)}
        with _told(self.place):
            point = _models().PointStruct(id=_id("about"), vector=nowhere, payload=payload)
            self.client.upsert(self.name, [point], wait=True)

    def _filter(self, where: Where, places: Sequence[str] = ()) -> Any:
        models = _models()

        def is_one_of(field: str, words: Sequence[str]) -> Any:
            return models.FieldCondition(key=field, match=models.MatchAny(any=list(words)))

        must = [is_one_of("kind", ["entry"])]
        must += [is_one_of(key, [spelt(word)]) for key, word in (("camera", where.camera), ("identity", where.identity))
                 if word is not None]  # fmt: skip
        must += [is_one_of("within", places)] if places else []
        if where.after is not None or where.before is not None:
            after, before = (None if time is None else moment(time) for time in (where.after, where.before))
            must.append(models.FieldCondition(key="moment", range=models.Range(gt=after, lt=before)))
        return models.Filter(must=must)

    def _rows(self) -> Iterator[Row]:
        offset = None
        with _told(self.place):
            while True:
                points, offset = self.client.scroll(
                    self.name, scroll_filter=self._filter(EVERYTHING), limit=1024, offset=offset, with_payload=True
                )
                yield from map(_row, points)
                if offset is None:
                    return


def _embedded(client: Any) -> bool:
    """Whether a client has no server behind it, but Qdrant's embedded store, which knows neither indices nor HNSW."""
    return client.init_options.get("location") == ":memory:" or client.init_options.get("path") is not None


def _reached(place: str, client: Any) -> tuple[str, str, Any]:
    """The place, its collection and a client for it."""
    parts = ADDRESS.fullmatch(place)
    if parts is None:
        raise UserError(f"{place}: write it as qdrant://host:port/name, or qdrant:///folder/name for a folder")
    name = parts["name"] or parts["inside"]
    return place, name, client or _client(parts["host"], int(parts["port"] or 6333), parts["folder"])


@cache
def _client(host: str | None, port: int, folder: str | None) -> Any:
    """One client per server, or folder: the embedded store may be opened once."""
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise UserError("a gallery in Qdrant needs qdrant-client: pip install 'dgnet[gallery]'") from error
    with _told(f"qdrant://{host}:{port}" if host else f"qdrant://{folder}"):
        if folder is not None:
            client = QdrantClient(path=folder)
            atexit.register(client.close)  # left to Python's own end, it complains
            return client
        key = os.environ.get("QDRANT_API_KEY")
        return QdrantClient(host=host, port=port, api_key=key, https=key is not None, check_compatibility=False)


def _models() -> Any:
    from qdrant_client import models

    return models


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Whatever goes wrong at the other end is one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of several libraries, without a common kind
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{place}: {reason}; is a Qdrant server there?") from error


def _id(key: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"dgnet gallery {key}"))


def _payload(row: Row, order: int) -> dict[str, Any]:
    within = [row.name, *map(str, Path(row.name).parents)]
    known = {"key": row.key, "name": row.name, "about": row.about}
    sought = {"camera": row.camera, "identity": row.identity, "moment": row.time}
    return (
        known | {k: v for k, v in sought.items() if v is not None} | {"kind": "entry", "order": order, "within": within}
    )


def _row(point: Any) -> Row:
    held = point.payload
    camera, identity, time = (held.get(key) for key in ("camera", "identity", "moment"))
    return Row(held["order"], held["order"], held["key"], held["name"], camera, identity, time, held["about"], 0)
