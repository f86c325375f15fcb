"""The test protocol on a network and a data set: features of every split, then the rankings (reference, section 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgnet.config import Config
from dgnet.datasets.records import Dataset, Split
from dgnet.evaluate.ranking import evaluate
from dgnet.evaluate.results import Results
from dgnet.images.store import ImageStore
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.features import extract


def photos(split: Split, config: Config) -> tuple[ImageStore, Split]:
    """The images of a split at the network's size, and the split without those that could not be read."""
    data = config.data
    cache = Path(data.cache) if data.cache else None
    store = ImageStore(split.paths, data.height, data.width, cache, data.on_unreadable)
    return store, split.subset(store.kept)


def features(
    net: DGNet | Baseline, config: Config, dataset: Dataset, device: torch.device, *, flip: bool = True
) -> FeatureSet:
    """Features of query, gallery and any multi-query images. Raises `UserError` if one of the first two is missing."""
    dataset.require("query", "gallery")

    def of(split: Split) -> Features:
        store, kept = photos(split, config)
        extracted: Tensor = extract(net, store, config.evaluate.batch, device, flip)
        return Features(extracted, kept.identities, kept.cameras)

    many = dataset.multi_query
    return FeatureSet(of(dataset.query), of(dataset.gallery), of(many) if many is not None and len(many) else None)


def has_halves(net: DGNet | Baseline) -> bool:
    """Whether the feature is a primary and a fine-grained half, so that alpha means something."""
    return isinstance(net, DGNet) and net.appearance.kind == "two"


def evaluate_alphas(
    net: DGNet | Baseline, feature_set: FeatureSet, config: Config, name: str, **options: Any
) -> list[Results]:
    """One result per alpha of the configuration, named after it; a single one where the feature has no halves.

    `options` go to `evaluate`.
    """
    protocol = config.evaluate
    return [
        evaluate(
            feature_set,
            alpha=alpha,
            ranks=protocol.ranks,
            divisor=protocol.divisor,
            name=name if alpha is None else f"{name}, alpha {alpha:g}",
            **options,
        )
        for alpha in (protocol.alphas if has_halves(net) else (None,))
    ]
