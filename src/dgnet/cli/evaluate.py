"""`dgnet evaluate`: a model, or features of any toolkit, scored; evaluations side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from dgnet import console
from dgnet.cli.common import refuse
from dgnet.errors import UserError

if TYPE_CHECKING:
    from dgnet.datasets.records import Split
    from dgnet.evaluate.results import Results
    from dgnet.generate.clothes import Reliance
    from dgnet.model import Model
    from dgnet.retrieval.feature_sets import FeatureSet


def evaluate(
    weights: Positional[tuple[Path, ...]] = (),
    data: Path | None = None,
    layout: str | None = None,
    holdout: float | None = None,
    features: Path | None = None,
    save_features: Path | None = None,
    json: Path | None = None,
    compare: tuple[Path, ...] = (),
    names: tuple[str, ...] = (),
    alphas: tuple[float, ...] = (),
    ranks: tuple[int, ...] = (),
    flip: bool = True,
    metric: Literal["cosine", "euclidean"] = "cosine",
    divisor: Literal["all", "valid"] | None = None,
    multi_query: Literal["mean", "max"] | None = None,
    rerank: bool = False,
    expand: int = 0,
    centralise: int = 0,
    neighbours: int = 0,
    verification: bool = False,
    camera_pairs: bool = False,
    ignore_cameras: bool = False,
    changed_clothes: bool = False,
    clothes_reliance: Path | None = None,
    reliance_images: Path | None = None,
    cache: Path | None = None,
    on_unreadable: Literal["error", "skip"] = "error",
    device: str | None = None,
) -> int:
    """Score a model on a data set, or features of any toolkit; or compare evaluations made before.

    Under torchrun (torchrun --nproc-per-node N -m dgnet evaluate MODEL ...) the processes share a model's photos.

    Args:
        weights: a run folder, model.safetensors or teacher.safetensors
        data: the data set's folder; by default the one that the model was trained on
        layout: how it is laid out; by default auto
        holdout: share of its people held out as query and gallery, where it has none; without --data as trained
        features: score this .npz (query_features, query_ids, query_cameras, the same with gallery_) instead of a model
        save_features: write the features to this .npz
        json: write the results, of every alpha, to this file
        compare: JSON files of evaluations to set side by side
        names: what to call them; by default their run's folder
        alphas: weights of the fine-grained half of the query; by default those of the configuration
        ranks: the k of the rank-k figures; by default those of the configuration
        flip: whether a model sees the mirror image, too
        metric: how features are compared
        divisor: means over all queries, as published, or over those with a correct answer; by default as configured
        multi_query: pool the features of all images of the query's identity and camera
        rerank: k-reciprocal re-ranking
        expand: average query expansion with so many answers
        centralise: add to each feature those of its appearance on so many typical structures, and say what that gains
        neighbours: add to each feature those of its mutual neighbours, among so many nearest
        verification: also ROC figures of pairs
        camera_pairs: also a table per pair of cameras
        ignore_cameras: count answers by the query's own camera, too: for data with one camera
        changed_clothes: leave out photos of the query's person in the query's clothes, too; the data set has a column
            clothes (LTCC, PRCC, DeepChange, a table), or the .npz arrays query_clothes and gallery_clothes
        clothes_reliance: a DG-Net that paints the queries in others' clothes: how much likeness is lost with them?
            With --features FILE.npz (names, features, as dgnet embed writes): the folder of --reliance-images
        reliance_images: folder to write these pictures to; without a model nothing else is done, so that any toolkit
            can make its features of them
        cache: folder for decoded photos; by default they are kept in memory
        on_unreadable: stop at photos that cannot be read, or name them and go on without them
        device: auto (the default), cpu, cuda or cuda:N
    """
    reading: dict[str, Any] = {
        "--layout": layout, "--holdout": holdout is not None, "--no-flip": not flip, "--cache": cache, "--data": data,
        "--centralise": centralise, "--on-unreadable": on_unreadable == "skip",
    }  # fmt: skip
    scoring: dict[str, Any] = {
        "--alphas": alphas, "--ranks": ranks, "--divisor": divisor, "--multi-query": multi_query, "--rerank": rerank,
        "--expand": expand, "--neighbours": neighbours, "--verification": verification, "--camera-pairs": camera_pairs,
        "--ignore-cameras": ignore_cameras, "--changed-clothes": changed_clothes,
        "--metric": metric != "cosine", "--json": json, "--save-features": save_features,
    }  # fmt: skip
    reliance = {"--clothes-reliance": clothes_reliance, "--reliance-images": reliance_images}
    if compare:
        scoring |= reliance
        refuse("--compare", {**reading, **scoring, "--features": features, "a model": weights, "--device": device})
        return _compare(compare, names)
    if names:
        raise UserError("--names: names the evaluations of --compare; there are none")
    if reliance_images is not None and clothes_reliance is None:
        raise UserError("--reliance-images: goes with --clothes-reliance GENERATOR, which paints them")
    if clothes_reliance is not None and not weights:
        refuse(
            "--clothes-reliance without a model", {**scoring, "--json": None, "--no-flip": not flip, "--cache": cache}
        )
        if features is None:
            from dgnet.model import load

            generator = load(clothes_reliance, device or "auto")
            return _write_dressed(generator, _queries(generator, data, layout, holdout), reliance_images)
        refuse("--features", {**reading, "--reliance-images": reliance_images})
        return _reliance_of_features(features, clothes_reliance, json)
    if (features is None) == (len(weights) != 1):
        raise UserError("evaluate: give one file of weights, or --features FILE.npz, or --compare FILE FILE ...")
    if features is not None:
        refuse("--features", reading)
    if data is None and layout is not None:
        raise UserError("--layout: says how the folder of --data is laid out; there is none")

    from dgnet.retrieval.rerank import ReRanking

    options: dict[str, Any] = {
        "metric": metric, "multi_query": multi_query, "expand": expand, "neighbours": neighbours,
        "verification": verification, "camera_pairs": camera_pairs, "ignore_cameras": ignore_cameras,
        "reranking": ReRanking() if rerank else None,
    }  # fmt: skip
    options |= {key: value for key, value in {"ranks": ranks, "divisor": divisor}.items() if value}
    plain: list[Results] = []  # what `results` have gained over
    if features is not None:
        from dgnet.retrieval.feature_sets import load_features

        options["name"] = features.stem
        found = load_features(features, changed_clothes=changed_clothes)
        results = _of_features(found, alphas, save_features, device, options)
    else:
        from dgnet import processes
        from dgnet.device import device_named
        from dgnet.evaluate.protocol import Reading
        from dgnet.model import load

        model = load(weights[0], processes.start(device_named(device or "auto"), sharing=True))
        options |= {"alphas": alphas, "save_features": save_features}
        seen = Reading(flip, cache, on_unreadable, changed_clothes=changed_clothes, shared=processes.several())

        def scored(seen: Reading, **changed: Any) -> list[Results]:
            return model.evaluate(data, layout or "auto", holdout=holdout, reading=seen, **options | changed)

        once_more = {"neighbours": 0} if neighbours and not centralise else None
        results = scored(replace(seen, centralise=centralise), again=once_more)
        if centralise:  # which makes other features
            plain = scored(seen, neighbours=0, save_features=None)
        if processes.rank():  # the first one goes on with what all have made
            return 0
    if neighbours and not centralise:
        results, plain = results[: len(results) // 2], results[len(results) // 2 :]
    told = None
    if clothes_reliance is not None:
        told = _reliance(model, clothes_reliance, _queries(model, data, layout, holdout), reliance_images)
        results[0].provenance["clothes_reliance"] = told.figures()
    for result in results:
        console.stdout.print(result.table())
        if camera_pairs:
            console.stdout.print(result.camera_table())
    if told is not None:
        console.stdout.print(told.table())
    for before, after in zip(plain, results, strict=False):
        console.stdout.print(_gain(before, after))
    if json is not None:
        from dgnet.evaluate.results import save_all

        save_all(results, json)
    return 0


def _of_features(
    found: FeatureSet, alphas: tuple[float, ...], save: Path | None, device: str | None, options: dict[str, Any]
) -> list[Results]:
    from dgnet.device import device_named
    from dgnet.evaluate.evaluation import evaluate_alphas
    from dgnet.retrieval.feature_sets import save_features

    if save is not None:
        save_features(found, save)
    where = None if device is None else device_named(device)
    options = {"provenance": {"features": found.feature_hash()}, "device": where} | options
    results = evaluate_alphas(found, alphas or (None,), **options)
    if options["neighbours"]:  # beside the same features without
        results += evaluate_alphas(found, alphas or (None,), **options | {"neighbours": 0})
    return results


def _queries(model: Model, data: Path | None, layout: str | None, holdout: float | None) -> Split:
    from dgnet.datasets.read import of_model

    return of_model(model.config.data, data, layout or "auto", holdout, need=["query"]).query


def _reliance(model: Model, generator: Path, queries: Split, images: Path | None) -> Reliance:
    from dgnet.generate.clothes import reliance_of, write_dressed
    from dgnet.model import load

    pictures = load(generator, model.device).dressed(queries)
    if images is not None:
        write_dressed(pictures, images)
    return reliance_of(model.embed, pictures)


def _write_dressed(generator: Model, queries: Split, images: Path | None) -> int:
    from dgnet.cli.common import written
    from dgnet.generate.clothes import write_dressed

    if images is None:
        raise UserError("--clothes-reliance without a model: give one, or --reliance-images FOLDER to write to")
    write_dressed(generator.dressed(queries), images)
    return written(images)


def _reliance_of_features(features: Path, images: Path, json: Path | None) -> int:
    from dgnet.files import write_json
    from dgnet.generate.clothes import reliance_of_features

    found = reliance_of_features(features, images)
    console.stdout.print(found.table())
    if json is not None:
        write_json(json, found.figures() | {"per_image": found.images.tolist()})
    return 0


def _gain(before: Results, after: Results) -> str:
    """What centralisation changed, on the very same queries."""
    from dgnet.evaluate.compare import difference

    change = difference([before], [after])
    said = "not comparable" if change is None else f"mAP {change.said}"
    return f"{after.name}: centralised over plain features: {said} (95 %, paired over the queries)"


def _compare(files: tuple[Path, ...], names: tuple[str, ...]) -> int:
    from dgnet.evaluate.compare import compare, names_of
    from dgnet.evaluate.results import load_results

    for table in compare([load_results(path) for path in files], names or names_of(files)):
        console.stdout.print(table)
    return 0
