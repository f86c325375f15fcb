"""Verification: are these two images the same person? Every pair of a query and a gallery entry is one trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from dgnet.errors import UserError
from dgnet.evaluate.metrics import Floats, Ints
from dgnet.evaluate.pairs import SameIdentity
from dgnet.retrieval.feature_sets import Features
from dgnet.retrieval.scores import Scores, other_tiles, over_blocks

BINS = 2**20
CURVE_FPR = np.logspace(-6, 0, 61)


@dataclass(frozen=True)
class Verification:
    """True positive rate at false positive rates, and the numbers of pairs behind them."""

    tpr_at: dict[float, float]
    curve_fpr: Floats  # [61] from 1e-6 to 1, evenly spaced in the logarithm
    curve_tpr: Floats  # [61]
    genuine_pairs: int
    impostor_pairs: int


class Counts(NamedTuple):
    """Pairs by score, in equal bins from -reach to reach."""

    genuine: Ints  # [BINS]
    impostors: Ints  # [BINS]
    reach: float

    def edge(self, bin: Ints | int) -> Any:
        """The score at which a bin begins."""
        return np.asarray(bin) * (2 * self.reach / BINS) - self.reach


def counts(scores: Scores, query: Features, gallery: Features, block: int | None = None) -> Counts:
    """All pairs that count in the ranking, by score. Raises UserError where there is only one kind."""
    pairs = SameIdentity.of(query, gallery)
    half = scores.bound * (1 + 1e-6) + 1e-12
    genuine, impostors = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)

    def count(values: torch.Tensor) -> Ints:
        bins = ((values.double() + half) * (BINS / (2 * half))).clamp_(0, BINS - 1).long()
        counted: Ints = torch.bincount(bins.flatten(), minlength=BINS).cpu().numpy()
        return counted

    def count_block(start: int, stop: int) -> tuple[Ints, Ints]:
        (query_of, entry), excluded = pairs.within(start, stop, scores.device)
        own = torch.cat([query_of, excluded[0]]), torch.cat([entry, excluded[1]])
        others = np.zeros(BINS, np.int64)
        for _, tile in other_tiles(scores, start, stop, *own):
            others += count(tile)
        others[0] -= len(own[0])  # their scores were -inf
        return count(scores.exact(query_of + start, entry)), others

    for right, wrong in over_blocks(scores, block, count_block):
        genuine += right
        impostors += wrong
    if not genuine.any() or not impostors.any():
        raise UserError("verification needs a pair of one person and a pair of two: labels give only one kind")
    return Counts(genuine, impostors, half)


def verify(
    scores: Scores,
    query: Features,
    gallery: Features,
    *,
    at: tuple[float, ...] = (1e-3, 1e-4),
    block: int | None = None,
) -> Verification:
    """The ROC curve over all pairs that count in the ranking (junk and same-camera pairs of one person are left out).

    TPR at FPR f is the largest share of genuine pairs accepted by a threshold that accepts at most a share f of the
    impostor pairs. Scores are counted in 2**20 equal bins over their possible range (for cosine steps of 2e-6, about
    the precision of float32), so memory does not grow with the number of pairs; pairs in one bin are accepted together.
    """
    counted = counts(scores, query, gallery, block)
    # Accepted by a threshold at each bin, the highest bin first; 0 and 0 before the first.
    tpr, fpr = (np.concatenate([[0.0], np.cumsum(c[::-1]) / c.sum()]) for c in (counted.genuine, counted.impostors))

    def tpr_at(rate: float) -> float:
        return float(tpr[np.searchsorted(fpr, rate, side="right") - 1])

    return Verification(
        {rate: tpr_at(rate) for rate in at},
        CURVE_FPR,
        np.array([tpr_at(rate) for rate in CURVE_FPR]),
        int(counted.genuine.sum()),
        int(counted.impostors.sum()),
    )
