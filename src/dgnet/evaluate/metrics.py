"""From the ranks of a query's correct answers to CMC, average precision, mINP and the precision-recall curve.

Everything here starts from the `ranks` of one query's R correct answers: rising places, counted from 1, in the list
that is left when junk and same-camera images of the same person are taken out. The examples have two queries: one whose
correct answers stand at places 1 and 4, and one without a correct answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dgnet.errors import at_least

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RECALL_LEVELS = 101


@dataclass(frozen=True)
class Ranks:
    """Ranks of all queries' correct answers, one query after the other; query i's are `flat[first[i]:first[i + 1]]`."""

    flat: Ints  # [H]
    first: Ints  # [Q + 1]

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def correct(self) -> Ints:
        """How many correct answers each query has, `[Q]`."""
        return np.diff(self.first)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which queries have a correct answer at all, `[Q]`."""
        return self.correct > 0

    def of(self, query: int) -> Ints:
        """The ranks of one query's correct answers, rising, `[R]`."""
        return self.flat[self.first[query] : self.first[query + 1]]


def first_hit(ranks: Ranks) -> Ints:
    """Rank of the first correct answer per query, `[Q]`: rank_1, or 0 where there is none.

    Examples:
        >>> first_hit(Ranks(np.array([1, 4]), np.array([0, 2, 2]))).tolist()
        [1, 0]
    """
    hits = np.zeros(len(ranks), np.int64)
    hits[ranks.valid] = ranks.flat[ranks.first[:-1][ranks.valid]]
    return hits


def standard_ap(ranks: Ranks) -> Floats:
    """Average precision as most toolkits have it: mean over the correct answers of the precision at each, `[Q]`.

    AP = 1/R sum_k k / rank_k, and 0 without a correct answer. Ranks 1 and 4: (1/1 + 2/4) / 2 = 3/4.

    Examples:
        >>> standard_ap(Ranks(np.array([1, 4]), np.array([0, 2, 2]))).tolist()
        [0.75, 0.0]
    """
    return _mean_per_query(ranks, _hit_number(ranks) / ranks.flat)


def trapezoid_ap(ranks: Ranks) -> Floats:
    """Average precision of the original Market-1501 code: mean of the precision just before and at each, `[Q]`.

    AP = 1/R sum_k ((k - 1) / (rank_k - 1) + k / rank_k) / 2, where the precision before rank 1 counts as 1.
    Ranks 1 and 4: ((1 + 1/1) / 2 + (1/3 + 2/4) / 2) / 2 = 17/24.

    Examples:
        >>> trapezoid_ap(Ranks(np.array([1, 4]), np.array([0, 2, 2]))).round(4).tolist()
        [0.7083, 0.0]
    """
    hit = _hit_number(ranks)
    before = np.divide(hit - 1, ranks.flat - 1, out=np.ones(len(hit)), where=ranks.flat > 1)
    return _mean_per_query(ranks, (before + hit / ranks.flat) / 2)


def inverse_negative_penalty(ranks: Ranks) -> Floats:
    """How soon the last correct answer comes, `[Q]` (Ye et al., TPAMI 2021); its mean is mINP.

    INP = R / rank_R, and 0 without a correct answer. Ranks 1 and 4: 2/4.

    Examples:
        >>> inverse_negative_penalty(Ranks(np.array([1, 4]), np.array([0, 2, 2]))).tolist()
        [0.5, 0.0]
    """
    penalty = np.zeros(len(ranks))
    penalty[ranks.valid] = ranks.correct[ranks.valid] / ranks.flat[ranks.first[1:][ranks.valid] - 1]
    return penalty


def cumulative_match(first_hits: Ints, length: int) -> Floats:
    """The CMC curve `[length]`: share of queries `[Q]` with a correct answer in the first 1, 2, ..., `length` places.

    CMC(k) = #(queries with 1 <= first hit <= k) / Q; rank-k is CMC(k).

    Examples:
        >>> cumulative_match(np.array([1, 3, 0, 1]), 4).tolist()
        [0.5, 0.5, 0.75, 0.75]
    """
    return np.cumsum(np.bincount(first_hits[first_hits > 0] - 1, minlength=length)[:length]) / len(first_hits)


def precision_recall(ranks: Ranks) -> Floats:
    """Sum over queries of interpolated precision at recall 0, 0.01, ..., 1, `[101]`.

    Interpolated: the best precision at that recall or any higher one, max over k >= recall R of k / rank_k.
    Ranks 1 and 4: 1 up to recall 0.5, then 0.5.

    Examples:
        >>> precision_recall(Ranks(np.array([1, 4]), np.array([0, 2, 2])))[[0, 50, 51, 100]].tolist()
        [1.0, 1.0, 0.5, 0.5]
    """
    total = np.zeros(RECALL_LEVELS)
    levels = np.arange(RECALL_LEVELS)
    for query in np.flatnonzero(ranks.valid).tolist():
        at = ranks.of(query)
        precision = np.arange(1, len(at) + 1) / at
        best = np.maximum.accumulate(precision[::-1])[::-1]
        needed = -(-levels * len(at) // (RECALL_LEVELS - 1))  # hits that reach the recall level
        total += best[np.maximum(needed, 1) - 1]
    return total


def bootstrap(
    values: Mapping[str, Floats], *, draws: int, seed: int, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the mean of each per-query array `[Q]`, queries drawn with replacement.

    All arrays are drawn alike, so differences of runs on the same queries are paired.

    Examples:
        >>> bootstrap({"rank1": np.array([1.0, 0.0, 1.0, 1.0])}, draws=1000, seed=0)
        {'rank1': (0.25, 1.0)}
    """
    at_least(0, draws=draws, seed=seed)
    table = np.stack(list(values.values()), axis=1)  # [Q, K]
    generator = np.random.default_rng(seed)
    queries = len(table)
    means = np.empty((draws, table.shape[1]))
    for draw in range(draws):
        weight = np.bincount(generator.integers(queries, size=queries), minlength=queries)
        means[draw] = weight @ table / queries
    tails = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(tails[0, k]), float(tails[1, k])) for k, name in enumerate(values)}


def _hit_number(ranks: Ranks) -> Ints:
    """1, 2, ..., R for each query, one after the other, `[H]`."""
    return np.arange(1, len(ranks.flat) + 1) - np.repeat(ranks.first[:-1], ranks.correct)


def _mean_per_query(ranks: Ranks, per_hit: Floats) -> Floats:
    owner = np.repeat(np.arange(len(ranks)), ranks.correct)
    return np.bincount(owner, weights=per_hit, minlength=len(ranks)) / np.maximum(ranks.correct, 1)
