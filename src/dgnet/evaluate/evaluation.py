"""One evaluation: from features with their labels to every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch

from dgnet import console
from dgnet.errors import UserError
from dgnet.evaluate.metrics import (
    bootstrap,
    first_hit,
    inverse_negative_penalty,
    precision_recall,
    standard_ap,
    trapezoid_ap,
)
from dgnet.evaluate.ranking import rank_correct
from dgnet.evaluate.results import CameraPair, Results, versions
from dgnet.evaluate.verification import verify
from dgnet.labels import JUNK, UNKNOWN_CAMERA
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.prepared import Comparison, Prepared, prepare
from dgnet.retrieval.rerank import ReRanking, rerank
from dgnet.retrieval.scores import MatrixScores, Metric, Scores


def evaluate(
    feature_set: FeatureSet,
    *,
    alpha: float | None = 0.5,
    metric: Metric = "cosine",
    ranks: Sequence[int] = (1, 5, 10),
    divisor: Literal["all", "valid"] = "all",
    multi_query: Literal["mean", "max"] | None = None,
    expand: int = 0,
    neighbours: int = 0,
    reranking: ReRanking | None = None,
    verification: bool = False,
    camera_pairs: bool = False,
    ignore_cameras: bool = False,
    draws: int = 1000,
    seed: int = 0,
    block: int | None = None,
    device: torch.device | str | None = None,
    name: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Results:
    """Rank the gallery for every query and say how well that went.

    Gallery entries of identity -1 are junk and left out, as are those that show the query's identity by the query's
    own (known) camera, or in its clothes where features have `clothes`. Every other entry of another identity is a
    wrong answer: distractors are, since no query has their identity. Equal scores are ordered by gallery index, the
    lower first. `prepare` says what becomes of lengths.

    alpha, metric: see `Comparison`; alpha None takes the feature whole, which is right for those of other methods.
    divisor: means over `all` queries, one without a correct answer counting 0 (as the published code of DG-Net), or
        over the `valid` ones, those with a correct answer (as most toolkits).
    multi_query: pool the features of all images of the query's identity and camera (see `pool_queries`).
    expand: average query expansion with that many answers; neighbours: centralisation by that many mutual neighbours
        (see `Prepared.drawn_together`); reranking: k-reciprocal re-ranking. None of them sees labels.
    verification, camera_pairs: also these tables; each costs about one more pass.
    ignore_cameras: count answers by the query's own camera, too: for data with one camera.
    draws, seed: of the bootstrap intervals; 0 draws for none.
    block: queries ranked at once (default: 384, fewer for huge galleries).
    device: where, by default where the features are. Neither it nor the block changes a ranking.
    provenance: kept with the results, next to a hash of the labels and the versions.

    Raises:
        UserError: an option that cannot be, no gallery but junk, or, with the divisor `valid`, no query with an answer.

    Examples:
        >>> same, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
        >>> query = Features(same, np.array([7]), np.array([1]))
        >>> gallery = Features(np.concatenate([other, same]), np.array([8, 7]), np.array([2, 2]))
        >>> evaluate(FeatureSet(query, gallery), alpha=None).mAP_standard
        1.0
    """
    if divisor not in ("all", "valid"):
        raise UserError(f"divisor is {divisor!r}: 'all' or 'valid' would be right")
    if any(k < 1 for k in ranks):
        raise UserError(f"ranks are {list(ranks)}: each must be at least 1")
    if ignore_cameras and camera_pairs:
        raise UserError("--camera-pairs with --ignore-cameras: there are no pairs of cameras that are not told apart")
    asked = feature_set.without_cameras() if ignore_cameras else feature_set
    prepared = prepare(asked, Comparison(alpha, metric), device=device, block=block)
    if multi_query is not None:
        prepared = prepared.pooled(multi_query)
    if neighbours:
        prepared = prepared.drawn_together(neighbours)
    if expand:
        prepared = prepared.expanded(expand)
    scores: Scores = prepared.scores()
    if reranking is not None:
        scores = MatrixScores(-rerank(prepared, reranking))
    query, gallery = prepared.query, prepared.gallery

    ranked = rank_correct(scores, query, gallery, block=block)
    valid = int(ranked.valid.sum())
    if valid == 0:
        reason = _why_nothing_is_right(query, gallery)
        if divisor == "valid":
            raise UserError(reason)
        console.warn(reason)
    results = Results(
        name=name,
        queries=len(query),
        valid_queries=valid,
        gallery=len(feature_set.gallery),
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
            "neighbours": neighbours,
            "reranking": None if reranking is None else asdict(reranking),
            "same camera": "kept (as asked)" if ignore_cameras else _same_camera_rule(query, gallery),
            **({} if query.clothes is None else {"same clothes": "left out"}),
            "ties": "lower gallery index first",
            "intervals": {"draws": draws, "seed": seed},
        },
        provenance={"labels": feature_set.label_hash(), "versions": versions()} | dict(provenance or {}),
        verification=verify(scores, query, gallery, block=block) if verification else None,
        camera_pairs=_by_camera_pair(prepared, scores) if camera_pairs else None,
    )
    return replace(results, intervals=bootstrap(results.per_query(), draws=draws, seed=seed)) if draws else results


def evaluate_alphas(
    feature_set: FeatureSet, alphas: Sequence[float | None], *, name: str = "", **options: Any
) -> list[Results]:
    """`evaluate` with each weight of the second half, each result named after its alpha; None takes features whole."""
    return [
        evaluate(feature_set, alpha=alpha, name=name if alpha is None else f"{name}, alpha {alpha:g}", **options)
        for alpha in alphas
    ]


def _why_nothing_is_right(query: Features, gallery: Features) -> str:
    shared = np.intersect1d(query.identities, gallery.identities)
    if not len(shared[shared != JUNK]):
        return "no query has a correct answer: query and gallery show nobody in common; do their identities match?"
    if query.clothes is not None:
        return (
            "no query has a correct answer that counts: all photos of its person are of its own camera or in its own "
            "clothes; without --changed-clothes those in other cameras count"
        )
    return (
        "no query has a correct answer that counts: all photos of its person were taken by its own camera, and are "
        "left out for it; --ignore-cameras (ignore_cameras=True) counts them"
    )


def _by_camera_pair(prepared: Prepared, scores: Scores) -> list[CameraPair]:
    """Rank-1 and standard mAP of each query camera against each gallery camera, over queries with an answer there."""
    query, gallery, table = prepared.query, prepared.gallery, []
    words = prepared.features.camera_words
    if any((part.cameras == UNKNOWN_CAMERA).all() for part in (query, gallery)):
        raise UserError(
            "--camera-pairs: the cameras of query or gallery are unknown; leave it out, or give the cameras"
        )
    for gallery_camera in np.unique(gallery.cameras[gallery.cameras != UNKNOWN_CAMERA]).tolist():
        seen = np.flatnonzero(gallery.cameras == gallery_camera)
        columns = scores.columns(torch.from_numpy(seen).to(scores.device))
        ranked = rank_correct(columns, query, gallery.subset(seen), block=prepared.block)
        hits, aps = first_hit(ranked), standard_ap(ranked)
        for query_camera in np.unique(query.cameras[ranked.valid]).tolist():
            chosen = ranked.valid & (query.cameras == query_camera)
            rank1, mean = float((hits[chosen] == 1).mean()), float(aps[chosen].mean())
            names = (words.get(query_camera, query_camera), words.get(gallery_camera, gallery_camera))
            table.append((query_camera, CameraPair(*names, int(chosen.sum()), rank1, mean)))
    return [pair for _, pair in sorted(table, key=lambda row: row[0])]


def _same_camera_rule(query: Features, gallery: Features) -> str:
    unknown = [int((part.cameras == UNKNOWN_CAMERA).sum()) for part in (query, gallery)]
    if unknown[0] == len(query) or unknown[1] == len(gallery):
        return "kept (cameras unknown)"
    return "left out" if not any(unknown) else f"left out where known ({sum(unknown)} images without a camera)"
