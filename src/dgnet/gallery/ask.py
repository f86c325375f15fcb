"""What is asked of a gallery, and what it answers, wherever it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet.errors import UserError
from dgnet.gallery.entries import Entry, moment, spelt
from dgnet.gallery.store import About, Row, described
from dgnet.images.pieces import Piece
from dgnet.retrieval.decision import Threshold
from dgnet.retrieval.exact import Rows, best
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.matches import Match
from dgnet.retrieval.prepared import Comparison, prepare
from dgnet.retrieval.rerank import ReRanking, rerank
from dgnet.retrieval.scores import unit

RERANKED = 200  # of the best, which are ranked anew: k-reciprocal re-ranking compares all of them with each other


@dataclass(frozen=True)
class Where:
    """Which entries a search, or a removal, is about: those that meet all that is given."""

    camera: str | None = None
    identity: str | None = None
    after: str | float | None = None
    """Seconds, or a date (ISO 8601, in UTC unless it says where); entries without a time do not meet it."""
    before: str | float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in vars(self).values())

    def met_by(self, rows: Sequence[Row]) -> NDArray[np.bool_]:
        """A mask over rows. Raises UserError for a time that is none."""
        met = np.ones(len(rows), bool)
        for key, word in (("camera", self.camera), ("identity", self.identity)):
            if word is not None:
                met &= np.array([getattr(row, key) == spelt(word) for row in rows], bool)
        if self.after is not None or self.before is not None:
            times = np.array([np.nan if row.time is None else row.time for row in rows], np.float64)
            met &= ~np.isnan(times)
            if self.after is not None:
                met &= times > moment(self.after)
            if self.before is not None:
                met &= times < moment(self.before)
        return met

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in vars(self).items() if value is not None)


EVERYTHING = Where()
NOTHING_NAMED = "remove: name photos or folders, or say which entries (--camera, --identity, --after, --before)"


class Kept(Protocol):
    """A gallery, on one's own disk or elsewhere: see `dgnet.gallery.gallery.Gallery`."""

    about: About
    place: str

    def __len__(self) -> int: ...
    @property
    def lost(self) -> list[str]: ...
    def require(self, model: str, name: str) -> None: ...
    def search(
        self,
        query: Tensor,
        top: int = 10,
        where: Where = EVERYTHING,
        *,
        threshold: Threshold | None = None,
        reranking: ReRanking | None = None,
    ) -> list[Match]: ...
    def info(self) -> dict[str, Any]: ...
    def pieces(self) -> list[Piece]: ...
    def known(self) -> dict[str, str]: ...
    def writing(self) -> AbstractContextManager[None]: ...
    def add(self, entries: Sequence[Entry], features: Tensor) -> int: ...
    def finish(self) -> None: ...
    def remove(self, places: Sequence[str | Path] = (), where: Where = EVERYTHING) -> int: ...
    def compact(self) -> int: ...


def made_by(place: str, about: About, model: str, name: str) -> None:
    """Raise UserError unless the model of this fingerprint made the gallery."""
    if model != about.model:
        maker = f"{about.made_by} ({about.model[:12]})"
        raise UserError(
            f"{place}: made by {maker}, another model than {name} ({model[:12]}): their features cannot be compared; "
            "give that one, or build another gallery"
        )


def asked(query: Tensor, dimensions: int, top: int) -> Tensor:
    """A query's feature as float32 [1, D] of length 1. Raises UserError for one of another length, and an odd `top`."""
    feature = torch.as_tensor(query, dtype=torch.float32).reshape(1, -1)
    if feature.shape[1] != dimensions:
        raise UserError(f"query has {feature.shape[1]} dimensions, the gallery {dimensions}")
    if top < 1:
        raise UserError(f"top is {top}: 1 or more would be right")
    return unit(feature, 1)


def given(entries: Sequence[Entry], features: Tensor, dimensions: int) -> Tensor:
    """Features to be added, float32 [n, D] of length 1. Raises UserError for others than these."""
    values = features.detach().cpu().float()
    if values.shape != (len(entries), dimensions):
        raise UserError(f"features of shape {list(values.shape)}, not [{len(entries)}, {dimensions}]")
    if not torch.isfinite(values).all():
        raise UserError("features with NaN or infinity: finite numbers are needed")
    return unit(values, 1)


def depth_of(top: int, reranking: ReRanking | None) -> int:
    """How many of the best are looked at to give `top`."""
    return top if reranking is None else max(top, RERANKED)


def answers(
    feature: Tensor,
    features: Rows,
    rows: Sequence[Row],
    top: int,
    threshold: Threshold | None,
    reranking: ReRanking | None,
) -> list[Match]:
    """The rows [G] whose features [G, D] are most like a feature [1, D], best first; equal scores in their order."""
    score, place = (found[0] for found in best(feature, features, depth_of(top, reranking)))
    if reranking is not None and len(place) > 1:
        order = _reranked(feature, features[place], reranking)
        score, place = score[order], place[order]
    ranked = zip(score[:top].tolist(), place[:top].tolist(), strict=True)
    return [_match(n, rows[at], value, threshold) for n, (value, at) in enumerate(ranked, start=1)]


def _reranked(query: Tensor, best_few: Tensor, settings: ReRanking) -> Tensor:
    """The order [K] of the best few [K, D] by their k-reciprocal distance; k1 fits where they are fewer."""
    unknown = np.full(len(best_few), -1)
    both = FeatureSet(
        Features(query, np.array([1]), np.array([-1])), Features(best_few, np.zeros(len(best_few), np.int64), unknown)
    )
    few = ReRanking(min(settings.k1, len(best_few) - 1), min(settings.k2, len(best_few)), settings.weight)
    return rerank(prepare(both, Comparison(None)), few)[0].argsort(stable=True)


def row_of(entry: Entry) -> Row:
    """An entry as it is kept; its id, place and checksum come when it is."""
    about = dict(entry.about) | {"state": entry.state}
    told: dict[str, Any] = {key: about.get(key) for key in ("camera", "identity")}
    time = None if about.get("time") in (None, "") else moment(about["time"])
    spelling = {key: None if word is None else spelt(word) for key, word in told.items()}
    return Row(0, 0, entry.key, entry.name, spelling["camera"], spelling["identity"], time, described(about), 0)


def piece_of(row: Row) -> Piece:
    """The (first) photo of an entry, or the box of a frame that it is of."""
    box = json.loads(row.about).get("box")
    return Piece(Path(row.name), tuple(box) if box else None)


def _match(place: int, row: Row, score: float, threshold: Threshold | None) -> Match:
    about = {key: value for key, value in json.loads(row.about).items() if key != "state"}
    decision = None if threshold is None else threshold.decide(score)
    return Match(place, row.name, score, decision, {"id": row.id, **about})
