"""Where the correct answers of each query come in the ranking, and the evaluation made of that.

Galleries are never sorted. Correct answers, which are few, get exact scores; of all others only those that score as
high as the worst of them matter, and each is counted between two of them. One that is too close to a correct answer for
the precision of its tile gets an exact score too. Equal scores are ordered by gallery index, the lower first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet import console
from dgnet.errors import UserError
from dgnet.evaluate.metrics import (
    Ranks,
    bootstrap,
    first_hit,
    inverse_negative_penalty,
    precision_recall,
    standard_ap,
    trapezoid_ap,
)
from dgnet.evaluate.pairs import SameIdentity
from dgnet.evaluate.results import CameraPair, Results, versions
from dgnet.evaluate.verification import verify
from dgnet.retrieval.feature_sets import Features, FeatureSet, pool_queries
from dgnet.retrieval.rerank import ReRanking, expand_queries, rerank
from dgnet.retrieval.scores import (
    MatrixScores,
    Metric,
    Scores,
    nearest,
    order_within,
    other_tiles,
    over_blocks,
    prepare,
    rows,
    score,
)

__all__ = ["FeatureSet", "Features", "alpha_sweep", "evaluate", "rank_correct", "retrieve"]

MANY = 1 / 64  # of a block's scores: so many near ties are first thinned out by a product in float64


def evaluate(
    feature_set: FeatureSet,
    *,
    alpha: float | None = 0.5,
    metric: Metric = "cosine",
    ranks: Sequence[int] = (1, 5, 10),
    divisor: Literal["all", "valid"] = "all",
    multi_query: Literal["mean", "max"] | None = None,
    expand: int = 0,
    reranking: ReRanking | None = None,
    verification: bool = False,
    camera_pairs: bool = False,
    draws: int = 1000,
    seed: int = 0,
    block: int | None = None,
    device: torch.device | str | None = None,
    name: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Results:
    """Rank the gallery for every query and say how well that went.

    Gallery entries of identity -1 are junk and left out, as are those that show the query's identity by the query's
    own (known) camera. Every other entry of another identity is a wrong answer: distractors are, since no query has
    their identity. Equal scores are ordered by gallery index, the lower first. `prepare` says what becomes of lengths.

    alpha: the feature is two halves, the second weighs alpha (DG-Net: 0.5; 0 and -1: first and second half alone);
        None takes it whole, which is right for features of other methods.
    divisor: means over `all` queries, one without a correct answer counting 0 (as the published code of DG-Net), or
        over the `valid` ones, those with a correct answer (as most toolkits).
    multi_query: pool the features of all images of the query's identity and camera (see `pool_queries`).
    expand: average query expansion with that many answers; reranking: k-reciprocal re-ranking. Both see no labels.
    verification, camera_pairs: also these tables; each costs about one more pass.
    draws, seed: of the bootstrap intervals; 0 draws for none.
    block: queries ranked at once (default: 384, fewer for huge galleries).
    device: where, by default where the features are. Neither it nor the block changes a ranking.
    provenance: kept with the results, next to a hash of the labels and the versions.
    """
    if divisor not in ("all", "valid"):
        raise UserError(f"divisor is {divisor!r}: 'all' or 'valid' would be right")
    if any(k < 1 for k in ranks):
        raise UserError(f"ranks are {list(ranks)}: each must be at least 1")
    junk = int((feature_set.gallery.identities == -1).sum())
    prepared = prepare(feature_set.without_junk(), alpha=alpha, metric=metric, device=device)
    if multi_query is not None:
        prepared = pool_queries(prepared, multi_query)
    if expand:
        prepared = expand_queries(prepared, expand, alpha=alpha, metric=metric, block=block)
    scores: Scores = score(prepared, alpha=alpha, metric=metric)
    if reranking is not None:
        scores = MatrixScores(-rerank(prepared, reranking, alpha=alpha, block=block))
    query, gallery = prepared.query, prepared.gallery

    ranked = rank_correct(scores, query, gallery, block=block)
    valid = int(ranked.valid.sum())
    if valid == 0:
        reason = "no query has a correct answer in the gallery: do query and gallery show the same identities?"
        if divisor == "valid":
            raise UserError(reason)
        console.warn(reason)
    results = Results(
        name=name,
        queries=len(query),
        valid_queries=valid,
        gallery=len(gallery) + junk,
        divisor=divisor,
        ranks=tuple(ranks),
        first_hit=first_hit(ranked),
        ap_standard=standard_ap(ranked),
        ap_trapezoid=trapezoid_ap(ranked),
        inp=inverse_negative_penalty(ranked),
        precision_recall=precision_recall(ranked) / (len(query) if divisor == "all" else valid),
        protocol={
            "alpha": alpha,
            "metric": metric,
            "multi_query": multi_query,
            "expand": expand,
            "reranking": None if reranking is None else asdict(reranking),
            "same camera": _same_camera_rule(query, gallery),
            "ties": "lower gallery index first",
            "intervals": {"draws": draws, "seed": seed},
        },
        provenance={"labels": feature_set.label_hash(), "versions": versions()} | dict(provenance or {}),
        verification=verify(scores, query, gallery, block=block) if verification else None,
        camera_pairs=_by_camera_pair(scores, query, gallery, block) if camera_pairs else None,
    )
    return replace(results, intervals=bootstrap(results.per_query(), draws=draws, seed=seed)) if draws else results


def alpha_sweep(feature_set: FeatureSet, alphas: Sequence[float], **options: Any) -> list[Results]:
    """`evaluate` with each weight of the second half; each result is named after its alpha."""
    return [evaluate(feature_set, alpha=alpha, name=f"alpha {alpha:g}", **options) for alpha in alphas]


def retrieve(
    feature_set: FeatureSet,
    queries: NDArray[np.int64],
    count: int,
    *,
    alpha: float | None = 0.5,
    metric: Metric = "cosine",
    device: torch.device | str | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The first `count` places of some queries: gallery indices `[n, count]`, and which of them are correct.

    The same ranking as in `evaluate`, to be looked at. Where a gallery holds fewer entries that count, -1 fills up.
    """
    kept = np.flatnonzero(feature_set.gallery.identities != -1)
    some = replace(feature_set, query=feature_set.query.subset(queries), multi_query=None)
    some = prepare(some.without_junk(), alpha=alpha, metric=metric, device=device)
    scores = score(some, alpha=alpha, metric=metric)
    pairs = SameIdentity.of(some.query, some.gallery)
    count = min(count, len(kept))

    def best(start: int, stop: int) -> Tensor:
        values = rows(scores, start, stop)
        values[pairs.within(start, stop, scores.device)[1]] = -torch.inf
        entries = nearest(scores, count, start, values)
        return torch.where(values.gather(1, entries).isfinite(), entries, -1)

    found = torch.cat(list(over_blocks(scores, None, best))).cpu().numpy()
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

    flat = np.concatenate(list(over_blocks(scores, block, ranks)))
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


def _by_camera_pair(scores: Scores, query: Features, gallery: Features, block: int | None) -> list[CameraPair]:
    """Rank-1 and standard mAP of each query camera against each gallery camera, over queries with an answer there."""
    table = []
    for gallery_camera in np.unique(gallery.cameras[gallery.cameras != -1]).tolist():
        seen = np.flatnonzero(gallery.cameras == gallery_camera)
        columns = scores.columns(torch.from_numpy(seen).to(scores.device))
        ranked = rank_correct(columns, query, gallery.subset(seen), block=block)
        hits, aps = first_hit(ranked), standard_ap(ranked)
        for query_camera in np.unique(query.cameras[ranked.valid]).tolist():
            chosen = ranked.valid & (query.cameras == query_camera)
            rank1 = float((hits[chosen] == 1).mean())
            table.append(CameraPair(query_camera, gallery_camera, int(chosen.sum()), rank1, float(aps[chosen].mean())))
    return sorted(table, key=lambda pair: (pair.query_camera, pair.gallery_camera))


def _same_camera_rule(query: Features, gallery: Features) -> str:
    unknown = [int((part.cameras == -1).sum()) for part in (query, gallery)]
    if unknown[0] == len(query) or unknown[1] == len(gallery):
        return "kept (cameras unknown)"
    return "left out" if not any(unknown) else f"left out where known ({sum(unknown)} images without a camera)"
