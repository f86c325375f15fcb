"""The test protocol on a network and a data set: features of every split, then the rankings (docs/method.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dgnet import console, processes
from dgnet.config import Config
from dgnet.datasets.records import Dataset, Split
from dgnet.errors import UserError
from dgnet.evaluate.decisions import judge
from dgnet.evaluate.evaluation import evaluate_alphas
from dgnet.evaluate.results import Results
from dgnet.files import expanded
from dgnet.images.store import ImageStore
from dgnet.labels import NOTHING, UNKNOWN_CLOTHES, meaning
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline
from dgnet.retrieval import feature_sets
from dgnet.retrieval.centralise import centralised
from dgnet.retrieval.decision import Threshold
from dgnet.retrieval.feature_sets import Features, FeatureSet, joined
from dgnet.retrieval.features import extract, parts_of
from dgnet.retrieval.scores import unit, weigh


@dataclass(frozen=True)
class Reading:
    """How the photos of a test are read and seen."""

    flip: bool = True
    """Whether a network sees the mirror image, too."""
    cache: Path | None = None
    """Folder for decoded photos; none: they are kept in memory."""
    on_unreadable: Literal["error", "skip"] = "error"
    """Stop at photos that cannot be read, or name them and go on without them."""
    centralise: int = 0
    """On how many typical structures a photo's appearance is painted, whose features are added to its own."""
    changed_clothes: bool = False
    """Whether photos of the query's person in the query's clothes are left out, as the column `clothes` has them."""
    multi_query: bool = False
    """Whether the images for multi-query evaluation are seen, too, of which there can be as many as in the gallery."""
    shared: bool = False
    """Whether the processes of torchrun share the photos; all of them must ask, and the first gets the answer."""


PLAIN = Reading()


def evaluate_network(
    net: DGNet | Baseline,
    config: Config,
    dataset: Dataset,
    device: torch.device,
    *,
    name: str = "",
    alphas: Sequence[float] = (),
    reading: Reading = PLAIN,
    provenance: dict[str, Any] | None = None,
    save_features: Path | None = None,
    threshold: Threshold | None = None,
    again: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Results]:
    """The test protocol: one result per alpha, in their order; a single one where the feature has no halves.

    Of processes that share the photos, all but the first get no results.

    Args:
        alphas: by default those of the configuration; they mean nothing to a feature without halves.
        reading: how photos are read.
        save_features: a file (.npz) to write the features to, too.
        threshold: the model's; the first result then says what it is worth here.
        again: other options, by which the same features are ranked once more: as many results, behind the first.
        options: those of `evaluate`; ranks and divisor are by default the configuration's.

    Raises:
        UserError: a split that is missing, photos that cannot be read, options that cannot be.
    """
    if alphas and not has_halves(net):
        raise UserError(f"--alphas {list(alphas)}: features of this network have no fine-grained half to be weighed")
    if save_features is not None or options.get("multi_query") is not None:
        reading = replace(reading, multi_query=True)
    found = _features(net, config, dataset, device, reading)
    if found is None:
        return []
    tested = [dataset.query, dataset.gallery, _multi_query(dataset, reading)]
    unread = sum(map(len, tested)) - sum(len(part) for _, part in found.parts())
    if save_features is not None:
        feature_sets.save_features(found, save_features)
    results = [
        result
        for changed in ({}, again)
        if changed is not None
        for result in evaluate_alphas(
            found,
            (alphas or config.evaluate.alphas) if has_halves(net) else (None,),
            name=name or dataset.name,
            provenance={"data": str(dataset.root), "views": _views(reading), **(provenance or {})},
            **{"ranks": config.evaluate.ranks, "divisor": config.evaluate.divisor, **options, **changed},
        )
    ]
    if threshold is not None:
        results[0] = replace(results[0], decisions=judge(as_embedded(found, alpha_of(net, config)), threshold))
    left_out = {"unreadable photos left out": unread} if unread else {}
    return [replace(result, protocol=result.protocol | left_out) for result in results]


def features(
    net: DGNet | Baseline, config: Config, dataset: Dataset, device: torch.device, reading: Reading = PLAIN
) -> FeatureSet:
    """Features of query, gallery and, if so read, multi-query images, which no process shares with another.

    Raises `UserError` if query or gallery is missing.
    """
    found = _features(net, config, dataset, device, replace(reading, shared=False))
    assert found is not None
    return found


def _features(
    net: DGNet | Baseline, config: Config, dataset: Dataset, device: torch.device, reading: Reading
) -> FeatureSet | None:
    """The same; of processes that share the photos, the first has them all, the others None."""
    dataset.require("query", "gallery")

    seen_by = centralised(net, reading.centralise)
    data, batch = config.data, config.evaluate.batch

    several = _multi_query(dataset, reading)
    worn = _clothes(dataset, several) if reading.changed_clothes else {}

    def seen(split: Split) -> Features:
        if not len(split):
            return joined([])
        store = ImageStore(split.paths, data.height, data.width, reading.cache, reading.on_unreadable)
        kept = split.subset(store.kept)
        made = extract(seen_by, store, batch, device, reading.flip, parts_of(net))
        clothes = np.array([worn[meaning(word)] for word in kept.columns["clothes"]], np.int64) if worn else None
        return Features(made, kept.identities, kept.left_out_by, clothes)

    def of(split: Split) -> Features:
        if not reading.shared:
            return seen(split)
        mine = split.subset(range(len(split))[processes.share(len(split), batch)])
        return joined(processes.together(lambda: seen(mine)))

    query, gallery, multi_query = of(dataset.query), of(dataset.gallery), of(several)
    if reading.shared and processes.rank():
        return None
    return FeatureSet(query, gallery, multi_query if len(multi_query) else None, dataset.words("camera"))


def _clothes(dataset: Dataset, several: Split) -> dict[str, int]:
    """A number for each word of the column `clothes`. Raises UserError where query or gallery has no such column."""
    tested = [split for split in (dataset.query, dataset.gallery, several) if split]
    if any("clothes" not in split.columns for split in tested):
        raise UserError(
            f"--changed-clothes: {dataset.name} at {dataset.root} does not say who wears what: LTCC, PRCC and "
            "DeepChange do, and a table with a column clothes"
        )
    words = sorted({meaning(word) for split in tested for word in split.columns["clothes"].tolist()})
    return {word: UNKNOWN_CLOTHES if word.casefold() in ("", *NOTHING) else number for number, word in enumerate(words)}


def _multi_query(dataset: Dataset, reading: Reading) -> Split:
    """The images for multi-query evaluation that are to be seen."""
    return dataset.multi_query if reading.multi_query and dataset.multi_query is not None else Split()


def as_embedded(found: FeatureSet, alpha: float | None) -> FeatureSet:
    """Features whose halves are weighed, and their length made 1, as `Model.embed` gives them."""

    def whole(part: Features) -> Features:
        return replace(part, features=unit(weigh(part.tensor(), alpha, 0.5), 1))

    return replace(found, query=whole(found.query), gallery=whole(found.gallery), multi_query=None)


def alpha_of(net: DGNet | Baseline, config: Config) -> float | None:
    """What the second half of an embedded feature is weighed by; None for features without halves."""
    return config.evaluate.alphas[0] if has_halves(net) else None


def has_halves(net: DGNet | Baseline) -> bool:
    """Whether the feature is a primary and a fine-grained half, so that alpha means something."""
    return isinstance(net, DGNet) and net.appearance.fine_grained


def warn_of_acquaintances(dataset: Dataset, trained_on: Config, identities: Sequence[int]) -> None:
    """Say so where people of a test were trained on: the figures then tell how well the network remembers them.

    Identities are numbers of one data set, so only the set that the network was trained on is asked.
    """
    if expanded(dataset.root).resolve() != expanded(trained_on.data.root).resolve() or trained_on.data.join:
        return
    tested = np.union1d(dataset.query.people, dataset.gallery.people)
    known = np.intersect1d(tested, np.asarray(identities, np.int64))
    if len(known):
        console.warn(
            f"{len(known)} of the {len(tested)} people of this test were trained on: these figures say how well the "
            "network remembers them, not how well it knows others (data.holdout keeps people apart)"
        )


def _views(reading: Reading) -> str:
    views = "image and mirror image" if reading.flip else "image"
    return f"{views}, each centralised on {reading.centralise} structures" if reading.centralise else views
