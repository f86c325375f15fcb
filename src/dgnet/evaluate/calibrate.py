"""From a data set to a threshold: which likeness is exceeded by a given share of the pairs of different people."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dgnet import console
from dgnet.errors import UserError, at_least
from dgnet.evaluate.metrics import Ints
from dgnet.evaluate.pairs import SameIdentity
from dgnet.evaluate.verification import BINS, Counts, counts
from dgnet.retrieval.decision import Threshold
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.prepared import Comparison, prepare
from dgnet.retrieval.scores import Scores, other_tiles, over_blocks

STEPS = 1024  # scores near the threshold, at which the bootstrap counts
AROUND = 16  # from this part of the false-accept rate up to this multiple of it
FEW = 10  # pairs above a threshold, with fewer of which it is hardly more than chance


def calibrate(
    feature_set: FeatureSet, far: float, *, model: str = "", data: str = "", draws: int = 1000, seed: int = 0
) -> Threshold:
    """The threshold that takes a share `far` of the pairs of different people for one, with its bootstrap interval.

    It is the lowest score s (to 2e-6) with #{impostor pairs: score >= s} <= far #{impostor pairs}; pairs are those of
    `verify`. Pairs of one query person are not independent, so it is people that are drawn again, with all their pairs:
    the interval holds the middle 95 % of the thresholds of `draws` such draws.

    Args:
        feature_set: features as they are compared later, whole, of unit length.
        far: false-accept rate, between 0 and 1.
        model, data: kept with the threshold.
        draws, seed: of the bootstrap.

    Raises:
        UserError: a rate that cannot be, or is too small for the number of pairs.

    Examples:
        >>> angle = np.deg2rad([10, 0, 60, 80, 90])  # from the query: the first entry is its person's
        >>> entries = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        >>> query = Features(np.array([[1.0, 0.0]]), np.array([1]), np.array([-1]))
        >>> gallery = Features(entries, np.array([1, 2, 3, 4, 5]), np.full(5, -1))
        >>> found = calibrate(FeatureSet(query, gallery), 0.5)
        >>> bool(np.cos(np.deg2rad(80)) < found.value < 0.5), found.tar, found.impostor_pairs
        (True, 1.0, 4)
    """
    if not 0 < far < 1:
        raise UserError(f"far = {far:g}: a false-accept rate between 0 and 1, such as 0.001, is needed")
    at_least(1, draws=draws)
    at_least(0, seed=seed)
    prepared = prepare(feature_set, Comparison(None))
    scores, query, gallery = prepared.scores(), prepared.query, prepared.gallery
    counted = counts(scores, query, gallery)
    genuine, impostors = int(counted.genuine.sum()), int(counted.impostors.sum())
    if far * impostors < 1:
        raise UserError(
            f"far = {far:g}: needs {round(1 / far):,} pairs of different people at least, and {data or 'the set'} has "
            f"{impostors:,}; take --far {_above(1 / impostors)} or more, or a larger set"
        )
    if far * impostors < FEW:
        console.warn(f"far = {far:g}: only {int(far * impostors)} pairs of different people lie above that threshold")
    at = int(_first_bins(counted.impostors, np.array([far]))[0])
    value = float(counted.edge(at))
    low, high = _interval(scores, query, gallery, counted, far, draws, seed)
    tar = float(counted.genuine[at:].sum() / genuine)
    return Threshold(value, min(low, value), max(high, value), far, tar, model, data, genuine, impostors)


def _first_bins(impostors: Ints, rates: NDArray[np.float64]) -> Ints:
    """For each rate the lowest bin from which on at most that share of the pairs lie."""
    above = np.cumsum(impostors[::-1])
    bins: Ints = BINS - np.searchsorted(above, rates * above[-1], side="right")
    return bins


def _interval(
    scores: Scores, query: Features, gallery: Features, counted: Counts, far: float, draws: int, seed: int
) -> tuple[float, float]:
    """The middle 95 % of thresholds under other draws of the query's people."""
    rates = np.geomspace(far / AROUND, min(1.0, far * AROUND), STEPS)
    edges = np.unique(counted.edge(_first_bins(counted.impostors, rates)))  # rising
    people, owner = np.unique(query.identities, return_inverse=True)
    above, all_of = _impostors_above(scores, query, gallery, edges, owner.reshape(-1), len(people))
    weight = np.random.default_rng(seed).multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws)
    total = np.maximum(weight @ all_of, 1)
    share = (weight @ above) / total[:, None]  # [draws, E], falling
    first = np.minimum((share > far).sum(1), len(edges) - 1)
    low, high = np.quantile(edges[first], [0.025, 0.975])
    return float(low), float(high)


def _impostors_above(
    scores: Scores, query: Features, gallery: Features, edges: NDArray[np.float64], owner: Ints, people: int
) -> tuple[Ints, Ints]:
    """For each person: impostor pairs of its queries at or above each edge [P, E], and all of them [P]."""
    pairs, bounds = SameIdentity.of(query, gallery), torch.from_numpy(edges).to(scores.device)

    def count(start: int, stop: int) -> Ints:
        (query_of, entry), excluded = pairs.within(start, stop, scores.device)
        own = torch.cat([query_of, excluded[0]]), torch.cat([entry, excluded[1]])
        found = torch.zeros(stop - start, len(edges) + 1, dtype=torch.long, device=scores.device)
        for _, tile in other_tiles(scores, start, stop, *own):
            row, column = (tile >= bounds[0].to(tile.dtype)).nonzero(as_tuple=True)
            step = torch.bucketize(tile[row, column].double(), bounds, right=True)
            found.index_put_((row, step), torch.ones_like(row), accumulate=True)
        counted: Ints = found[:, 1:].flip(1).cumsum(1).flip(1).cpu().numpy()
        return counted

    above = np.concatenate(over_blocks(scores, None, count))  # [Q, E]
    own = np.bincount(pairs.query, minlength=len(query))
    summed, every = np.zeros((people, len(edges)), np.int64), np.zeros(people, np.int64)
    np.add.at(summed, owner, above)
    np.add.at(every, owner, len(gallery) - own)
    return summed, every


def _above(rate: float) -> str:
    """A rate in two digits, not below the given one."""
    digits = 10.0 ** (np.floor(np.log10(rate)) - 1)
    return f"{np.ceil(rate / digits) * digits:.2g}"
