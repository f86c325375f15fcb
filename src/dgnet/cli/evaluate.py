"""`dgnet evaluate`: a model, or features of any toolkit, scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from dgnet import config as configuration
from dgnet import console
from dgnet.cli.common import load
from dgnet.errors import UserError


def evaluate(
    weights: Positional[tuple[Path, ...]] = (),
    data: Path | None = None,
    layout: str = "auto",
    holdout: float | None = None,
    features: Path | None = None,
    save_features: Path | None = None,
    json: Path | None = None,
    compare: tuple[Path, ...] = (),
    alphas: tuple[float, ...] = (),
    ranks: tuple[int, ...] = (),
    flip: bool = True,
    metric: Literal["cosine", "euclidean"] = "cosine",
    divisor: Literal["all", "valid"] | None = None,
    multi_query: Literal["mean", "max"] | None = None,
    rerank: bool = False,
    expand: int = 0,
    verification: bool = False,
    camera_pairs: bool = False,
    device: str = "auto",
) -> int:
    """Score a model on a data set, or features of any toolkit; or compare evaluations made before.

    Args:
        weights: model.safetensors or teacher.safetensors
        data: the data set's folder; by default the one that the model was trained on
        layout: how it is laid out
        holdout: share of its people who are held out as query and gallery, where it has none; by default as trained
        features: score this .npz (query_features, query_ids, query_cameras, the same with gallery_) instead of a model
        save_features: write the features to this .npz
        json: write the results to this file (of several alphas, those of the first)
        compare: JSON files of evaluations to set side by side
        alphas: weights of the fine-grained half of the query; by default those of the configuration
        ranks: the k of the rank-k figures; by default those of the configuration
        flip: whether a model sees the mirror image, too
        metric: how features are compared
        divisor: means over all queries, as published, or over those with a correct answer; by default as configured
        multi_query: pool the features of all images of the query's identity and camera
        rerank: k-reciprocal re-ranking
        expand: average query expansion with so many answers
        verification: also ROC figures of pairs
        camera_pairs: also a table per pair of cameras
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.datasets.read import of_config
    from dgnet.device import device_named
    from dgnet.evaluate import protocol, ranking, results
    from dgnet.retrieval import feature_sets as feature_set
    from dgnet.retrieval.rerank import ReRanking

    if compare:
        console.stdout.print(results.compare([results.load_results(path) for path in compare]))
        return 0
    if (features is None) == (len(weights) != 1):
        raise UserError("evaluate: give one file of weights, or --features FILE.npz, or --compare FILE FILE ...")
    protocol_of, chosen = configuration.Evaluate(), alphas or (None,)
    if features is not None:
        found, name = feature_set.load_features(features), features.stem
        provenance = {"features": found.feature_hash()}
    else:
        loaded = load(weights[0], device)
        where = loaded.config.data if data is None else configuration.Data(root=str(data), layout=layout)
        where = where if holdout is None else replace(where, holdout=holdout)
        photos = of_config(where, "query", "gallery", recorded=data is None)
        if alphas and not protocol.has_halves(loaded.net):
            raise UserError(f"--alphas: the features of {weights[0]} have no fine-grained half to be weighed")
        found = protocol.features(loaded.net, loaded.config, photos, device_named(device), flip=flip)
        views = "image and mirror image" if flip else "image"
        name, provenance = photos.name, {"weights": loaded.hash, "data": str(photos.root), "views": views}
        protocol_of = loaded.config.evaluate
        if not alphas and protocol.has_halves(loaded.net):
            chosen = protocol_of.alphas
    if save_features is not None:
        feature_set.save_features(found, save_features)
    for number, alpha in enumerate(chosen):
        result = ranking.evaluate(
            found,
            alpha=alpha,
            metric=metric,
            ranks=ranks or protocol_of.ranks,
            divisor=divisor or protocol_of.divisor,
            multi_query=multi_query,
            expand=expand,
            reranking=ReRanking() if rerank else None,
            verification=verification,
            camera_pairs=camera_pairs,
            name=name if alpha is None else f"{name}, alpha {alpha:g}",
            provenance=provenance,
        )
        console.stdout.print(result.table())
        if camera_pairs:
            console.stdout.print(result.camera_table())
        if json is not None and number == 0:
            result.save(json)
    return 0
