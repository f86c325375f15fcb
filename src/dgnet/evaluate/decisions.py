"""What a threshold is worth on a data set: pairs judged, and searches for people who may not be in the gallery."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet.evaluate.pairs import SameIdentity
from dgnet.evaluate.verification import counts
from dgnet.labels import DISTRACTOR
from dgnet.retrieval.decision import Threshold
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.prepared import Comparison, Prepared, prepare
from dgnet.retrieval.scores import nearest, over_blocks, rows


@dataclass(frozen=True)
class Decisions:
    """Shares between 0 and 1; those of pairs are over all pairs that count in the ranking."""

    threshold: float
    low: float
    high: float
    far: float
    """The false-accept rate that was asked for, where the threshold was calibrated."""
    calibrated_on: str
    false_accepts: float
    """Pairs of different people with a score at or above the threshold."""
    true_accepts: float
    """Pairs of one person with such a score."""
    unsure: float
    """Pairs of one person between `low` and `high`."""
    residents: int
    """Searches for a person who is in the gallery."""
    found: float | None
    """Of these: the first answer is right, and accepted."""
    mistaken: float | None
    """Of these: the first answer is wrong, and accepted."""
    strangers: int
    """Searches for a person who is not: half of the people, whose entries are left out, and those who have none."""
    taken_for_residents: float | None
    """Of these: the first answer is accepted."""

    def rows(self) -> list[list[str]]:
        """Lines of a table: what, in per cent, and of how many."""

        def percent(share: float | None) -> str:
            return "-" if share is None else f"{100 * share:.2f}"

        return [
            [f"threshold {self.threshold:.3f}, for {self.far:g} false accepts on {self.calibrated_on}", "", ""],
            ["false accepts (pairs)", percent(self.false_accepts), ""],
            ["true accepts (pairs)", percent(self.true_accepts), ""],
            ["open set: found", percent(self.found), f"of {self.residents}"],
            ["open set: another person accepted", percent(self.mistaken), f"of {self.residents}"],
            ["open set: strangers accepted", percent(self.taken_for_residents), f"of {self.strangers}"],
        ]


def judge(feature_set: FeatureSet, threshold: Threshold, *, seed: int = 0) -> Decisions:
    """Judge every pair, and search an open set: half of the people, drawn by `seed`, are taken out of the gallery.

    Features are compared whole, of unit length, as `calibrate` does.

    Examples:
        >>> rows, unknown = np.eye(4), np.full(4, -1)
        >>> both = FeatureSet(Features(rows, np.arange(1, 5), unknown), Features(rows, np.arange(1, 5), unknown))
        >>> half = Threshold(0.5, 0.4, 0.6, 0.01, 1.0, "", "", 1, 1)
        >>> found = judge(both, half)
        >>> found.true_accepts, found.false_accepts, found.residents, found.found, found.strangers
        (1.0, 0.0, 2, 1.0, 2)
    """
    prepared = prepare(feature_set, Comparison(None))
    counted = counts(prepared.scores(), prepared.query, prepared.gallery)
    accepted, low, high = (
        int(np.clip(np.searchsorted(counted.edge(np.arange(len(counted.genuine))), edge), 0, len(counted.genuine)))
        for edge in (threshold.value, threshold.low, threshold.high)
    )
    people = np.unique(prepared.query.identities[prepared.query.identities > DISTRACTOR])
    absent = np.random.default_rng(seed).permutation(people)[: len(people) // 2]
    kept = ~np.isin(prepared.gallery.identities, absent)
    first, right, resident = _first(prepared, kept)
    taken = first >= threshold.value
    return Decisions(
        threshold.value,
        threshold.low,
        threshold.high,
        threshold.far,
        threshold.data,
        float(counted.impostors[accepted:].sum() / counted.impostors.sum()),
        float(counted.genuine[accepted:].sum() / counted.genuine.sum()),
        float(counted.genuine[low:high].sum() / counted.genuine.sum()),
        int(resident.sum()),
        _share(taken & right, resident),
        _share(taken & ~right, resident),
        int((~resident).sum()),
        _share(taken, ~resident),
    )


def _first(
    prepared: Prepared, kept: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each query [Q]: the score of its first answer among the kept entries (-inf: none), whether that is right, and
    whether it has a right one at all; its person's entries by its own camera do not count."""
    entries = np.flatnonzero(kept)
    gallery: Features = prepared.gallery.subset(entries)
    if not len(entries):
        nobody = np.zeros(len(prepared.query), bool)
        return np.full(len(prepared.query), -np.inf), nobody, nobody
    scores = replace(prepared, features=replace(prepared.features, gallery=gallery)).scores()
    pairs = SameIdentity.of(prepared.query, gallery)

    def best(start: int, stop: int) -> tuple[Tensor, Tensor]:
        values = rows(scores, start, stop)
        values[pairs.within(start, stop, scores.device)[1]] = -torch.inf
        found = nearest(scores, 1, start, values)
        return values.gather(1, found)[:, 0], found[:, 0]

    parts = over_blocks(scores, None, best)
    score, entry = (torch.cat([part[n] for part in parts]).cpu().numpy() for n in (0, 1))
    resident = np.zeros(len(prepared.query), bool)
    resident[pairs.query[~pairs.excluded]] = True
    right = np.isfinite(score) & (gallery.identities[entry] == prepared.query.identities)
    return score.astype(np.float64), right, resident


def _share(met: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(met[among].mean()) if among.any() else None
