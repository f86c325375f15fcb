"""Features made ready to be compared, and how they are compared: the one value that every ranking starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dgnet.errors import UserError
from dgnet.retrieval.feature_sets import Features, FeatureSet, pool_queries
from dgnet.retrieval.scores import FeatureScores, Metric, nearest, over_blocks, rows, unit, weigh


@dataclass(frozen=True)
class Comparison:
    """How a query's feature is compared with a gallery entry's: s_1 + alpha s_2 of their halves.

    `cosine`: s is the dot product of halves of unit length, and alpha weighs the query alone; `euclidean`: s is minus
    the squared distance. Alpha -1 is the second half alone, 0 the first; None takes the feature whole. Raises UserError
    for an alpha or a metric that cannot be.
    """

    alpha: float | None = 0.5
    metric: Metric = "cosine"

    def __post_init__(self) -> None:
        if self.metric not in ("cosine", "euclidean"):
            raise UserError(f"metric is {self.metric!r}: 'cosine' or 'euclidean' would be right")
        if self.alpha is not None and not (0 <= self.alpha <= 1e6 or self.alpha == -1):
            raise UserError(f"alpha is {self.alpha}: 0 to 1e6, -1 (second half alone) or none would be right")

    @property
    def halves(self) -> int:
        """Into how many parts a feature is cut."""
        return 1 if self.alpha is None else 2


DGNET = Comparison()
"""As DG-Net's features are compared."""


@dataclass(frozen=True)
class Prepared:
    """Query and gallery features as tensors where they are compared, of the length that the comparison needs, no junk.

    `block` is how many queries are ranked at once (None: 384, fewer for huge galleries); it changes no ranking.
    """

    features: FeatureSet
    how: Comparison
    block: int | None = None

    @property
    def query(self) -> Features:
        return self.features.query

    @property
    def gallery(self) -> Features:
        return self.features.gallery

    def scores(self) -> FeatureScores:
        """Every query against every entry. Raises UserError where numbers of that size cannot be compared."""
        query, gallery = self.query.tensor(), self.gallery.tensor()
        powers = (1.0, 0.0) if self.how.metric == "cosine" else (0.5, 0.5)
        alpha = self.how.alpha
        made = FeatureScores(
            weigh(query.to(gallery), alpha, powers[0]), weigh(gallery, alpha, powers[1]), self.how.metric
        )
        limits = torch.finfo(torch.float32)
        if not made.bound < limits.max / 4:
            raise UserError("features are so long that their squared distances exceed torch.float32: scale them")
        short = self.how.metric == "euclidean" and made.bound < limits.tiny / limits.eps**2
        if short and bool(made.gallery.any() or made.query.any()):
            raise UserError("features are so short that their squared distances vanish in torch.float32: scale them")
        return made

    def pooled(self, how: Literal["mean", "max"]) -> Prepared:
        """With each query's feature pooled over its identity and camera; see `pool_queries`."""
        return replace(self, features=pool_queries(self.features, how))

    def expanded(self, count: int) -> Prepared:
        """Average query expansion (Chum et al., ICCV 2007): each query becomes its mean with its `count` best answers.

        For `cosine` the mean is brought back to unit length (each half, with an alpha). The best answers come from the
        whole gallery, whatever their labels. Raises UserError for a count beyond the gallery.
        """
        if not 1 <= count <= len(self.gallery):
            raise UserError(f"query expansion by {count}: 1 to {len(self.gallery)} (the gallery) would be right")
        scores = self.scores()
        gallery = self.gallery.tensor()
        query = self.query.tensor().to(gallery, copy=True)

        def add_best(start: int, stop: int) -> None:
            for entry in nearest(scores, count, start, rows(scores, start, stop)).unbind(1):
                query[start:stop] += gallery[entry]

        over_blocks(scores, self.block, add_best)
        query /= count + 1
        if self.how.metric == "cosine":
            query = unit(query, self.how.halves)
        return replace(self, features=replace(self.features, query=replace(self.query, features=query)))

    def drawn_together(self, count: int) -> Prepared:
        """Neighbour centralisation (Yuan et al., CVPR 2025): to each feature those of its mutual neighbours are added.

        Among all queries and entries together, two are mutual neighbours where each is one of the other's `count`
        nearest. Labels are not looked at; the test is seen as a whole, as in re-ranking. For `cosine` the sum is
        brought back to unit length. Raises UserError for a count beyond the others.
        """
        query, gallery = self.query.tensor().to(self.gallery.tensor()), self.gallery.tensor()
        everyone = torch.cat([query, gallery])
        if not 1 <= count < len(everyone):
            raise UserError(f"{count} neighbours: 1 to {len(everyone) - 1} (all others) would be right")
        crowd = Features(everyone, np.zeros(len(everyone), np.int64), np.zeros(len(everyone), np.int64))
        scores = replace(self, features=FeatureSet(crowd, crowd)).scores()

        def best(start: int, stop: int) -> Tensor:
            found = rows(scores, start, stop)
            found[torch.arange(stop - start), torch.arange(start, stop)] = -torch.inf  # nobody is their own neighbour
            return nearest(scores, count, start, found)

        near = torch.cat(over_blocks(scores, self.block, best))  # [N, count]
        mine = torch.arange(len(everyone), device=near.device).view(-1, 1)
        total = everyone.clone()
        for other in near.unbind(1):
            mutual = (near[other] == mine).any(1, keepdim=True)
            total += everyone[other] * mutual
        if self.how.metric == "cosine":
            total = unit(total, self.how.halves)
        query, gallery = total[: len(self.query)], total[len(self.query) :]
        drawn = replace(
            self.features, query=replace(self.query, features=query), gallery=replace(self.gallery, features=gallery)
        )
        return replace(self, features=drawn)


def prepare(
    feature_set: FeatureSet,
    how: Comparison = DGNET,
    *,
    device: torch.device | str | None = None,
    block: int | None = None,
) -> Prepared:
    """Features without the gallery's junk, on the device, of unit length for `cosine`: whole, or each half with alpha.

    A length that is 1 to within 1e-5 is left alone, so features from a file rank as they were written. Work is done in
    float32, or in float64 where the gallery is. Raises UserError for an alpha where features have no two halves.
    """
    feature_set = feature_set.without_junk()
    dimensions = feature_set.gallery.features.shape[1]
    if how.alpha is not None and dimensions % 2:
        raise UserError(f"alpha weighs two halves of a feature, but features have {dimensions} dimensions")
    dtype = torch.float64 if feature_set.gallery.tensor().dtype == torch.float64 else torch.float32

    def ready(part: Features) -> Features:
        values = part.tensor().detach().to(device=device, dtype=dtype)
        if part.tensor().dtype == torch.float64 != dtype and not torch.isfinite(values).all():
            raise UserError("features hold numbers that are too large for those of the gallery, float32: scale them")
        return replace(part, features=unit(values, how.halves) if how.metric == "cosine" else values)

    parts: dict[str, Any] = {name: ready(part) for name, part in feature_set.parts()}
    return Prepared(replace(feature_set, **parts), how, block)
