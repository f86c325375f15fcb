"""Where the correct answers of each query come in the ranking.

Galleries are never sorted. Correct answers, which are few, get exact scores; of all others only those that score as
high as the worst of them matter, and each is counted between two of them. One that is too close to a correct answer for
the precision of its tile gets an exact score too. Equal scores are ordered by gallery index, the lower first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet.evaluate.metrics import Ranks
from dgnet.evaluate.pairs import SameIdentity
from dgnet.labels import JUNK
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.prepared import DGNET, Comparison, prepare
from dgnet.retrieval.scores import MatrixScores, Scores, nearest, order_within, other_tiles, over_blocks, rows

MANY = 1 / 64  # of a block's scores: so many near ties are first thinned out by a product in float64


def retrieve(
    feature_set: FeatureSet,
    queries: NDArray[np.int64],
    count: int,
    *,
    how: Comparison = DGNET,
    device: torch.device | str | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The first `count` places of some queries: gallery indices `[n, count]`, and which of them are correct.

    The same ranking as in `evaluate`, to be looked at. Where a gallery holds fewer entries that count, -1 fills up.
    """
    kept = np.flatnonzero(feature_set.gallery.identities != JUNK)
    some = prepare(replace(feature_set, query=feature_set.query.subset(queries), multi_query=None), how, device=device)
    scores = some.scores()
    pairs = SameIdentity.of(some.query, some.gallery)
    count = min(count, len(kept))

    def best(start: int, stop: int) -> Tensor:
        values = rows(scores, start, stop)
        values[pairs.within(start, stop, scores.device)[1]] = -torch.inf
        entries = nearest(scores, count, start, values)
        return torch.where(values.gather(1, entries).isfinite(), entries, -1)

    found = torch.cat(over_blocks(scores, None, best)).cpu().numpy()
    correct = (found >= 0) & (some.gallery.identities[found] == some.query.identities[:, None])
    return np.where(found >= 0, kept[found], -1), correct


def rank_correct(scores: Scores, query: Features, gallery: Features, *, block: int | None = None) -> Ranks:
    """Ranks of every query's correct answers, `block` queries at a time; the gallery must be free of junk.

    Memory: a tile of scores and a few times that, and some hundred bytes for each near tie.
    """
    pairs = SameIdentity.of(query, gallery)
    owner = pairs.query[~pairs.excluded]

    def ranks(start: int, stop: int) -> NDArray[np.int64]:
        correct, excluded = pairs.within(start, stop, scores.device)
        found: NDArray[np.int64] = _rank_block(scores, start, stop, correct, excluded).cpu().numpy()
        return found

    flat = np.concatenate(over_blocks(scores, block, ranks))
    return Ranks(flat[np.lexsort((flat, owner))], np.searchsorted(owner, np.arange(len(query) + 1)))


def _rank_block(
    scores: Scores,
    start: int,
    stop: int,
    correct: tuple[Tensor, Tensor],
    excluded: tuple[Tensor, Tensor],
    *,
    double: bool = False,
) -> Tensor:
    """Ranks `[P]` of the correct pairs `(query, entry)` of one block of queries."""
    query, entry = correct
    if len(query) == 0:
        return query
    exact = scores.exact(query + start, entry)
    each = torch.arange(stop - start, device=scores.device)
    width = 2.5 * scores.bound + 1
    shift = each * width  # sets the queries apart on one line, so that one search serves them all
    slack = scores.slack(start, stop, double=double) + 2.0**-50 * (stop - start) * width

    # Correct answers in rising order: by query, then by score.
    line, rising = (exact - slack[query] + shift[query]).sort()
    sorted_query, sorted_exact = query[rising], exact[rising]
    worst = torch.full_like(slack, torch.inf).scatter_reduce(0, query, exact, "amin")

    # Rivals: wrong answers that may be as good as the worst correct one. Each is set above the best that it may reach,
    # and counted, or kept aside where it may also be below that one.
    lowest = (worst - 2 * slack)[:, None]
    above = torch.zeros_like(query)
    aside: list[tuple[Tensor, Tensor]] = []
    own_query, own_entry = (torch.cat(pair) for pair in zip(correct, excluded, strict=True))
    for first, tile in other_tiles(scores, start, stop, own_query, own_entry, double=double):
        rival_query, rival = (tile >= lowest.to(tile.dtype)).nonzero(as_tuple=True)
        value = tile[rival_query, rival].double()
        best = torch.searchsorted(line, value + shift[rival_query], right=True) - 1
        reached = (best >= 0) & (sorted_query[best] == rival_query)
        near = reached & (value <= sorted_exact[best] + slack[rival_query])
        above += torch.bincount(best[reached & ~near], minlength=len(line))
        aside.append((rival_query[near], rival[near] + first))
    near_query, near_entry = (torch.cat(parts) for parts in zip(*aside, strict=True))
    if not double and len(near_query) > MANY * len(each) * scores.shape[1] and not isinstance(scores, MatrixScores):
        return _rank_block(scores, start, stop, correct, excluded, double=True)
    above = torch.cat([above.flip(0).cumsum(0).flip(0), above.new_zeros(1)])
    end = torch.searchsorted(sorted_query, each, right=True)

    # Correct answers, and the rivals kept aside, in their exact order.
    pool_query = torch.cat([query, near_query])
    pool_score = torch.cat([exact, scores.exact(near_query + start, near_entry)])
    by_entry = torch.cat([entry, near_entry]).argsort()
    order = by_entry[order_within(pool_query[by_entry], pool_score[by_entry])]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    ranks = 1 + place[: len(query)] - torch.searchsorted(pool_query[order], each)[query]
    ranks[rising] += above[:-1] - above[end[sorted_query]]
    return ranks
