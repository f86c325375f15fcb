"""The command line: one thin subcommand per task. `dgnet --help` lists them.

torch takes seconds to import, so every task imports what it needs when it is called: help and errors come at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from tyro.conf import Positional, UseAppendAction

from dgnet import __version__, console
from dgnet import config as configuration
from dgnet.config import Config
from dgnet.errors import UserError
from dgnet.memory import keep_freed

if TYPE_CHECKING:
    from dgnet.data.records import Dataset
    from dgnet.models.dgnet import DGNet
    from dgnet.models.teacher import Baseline
    from dgnet.weights import Loaded

INTERRUPTED = 130  # exit code of a run that was asked to stop

app = tyro.extras.SubcommandApp()
data_app, train_app = tyro.extras.SubcommandApp(), tyro.extras.SubcommandApp()
generate_app, weights_app = tyro.extras.SubcommandApp(), tyro.extras.SubcommandApp()
app.command(data_app, name="data")
app.command(train_app, name="train")
app.command(generate_app, name="generate")
app.command(weights_app, name="weights")


@app.command
def demo(
    folder: Positional[Path] = Path("demo"),
    overrides: Positional[tuple[str, ...]] = (),
    identities: int = 150,
    test_identities: int = 30,
) -> int:
    """The whole method in minutes: draw people, train the teacher and DG-Net, evaluate, write a report.

    Args:
        folder: where everything is made; finished stages in it are kept, an interrupted one is continued
        overrides: changes to the preset `demo`, such as train.iterations=50
        identities: people to draw
        test_identities: of these, held out from training
    """
    from dgnet.demo import demo as run

    chosen = configuration.load("demo", overrides)
    return 0 if run(folder, chosen, identities=identities, test_identities=test_identities) else INTERRUPTED


@app.command(name="config")
def show_config(preset: Positional[str] = "market1501", overrides: Positional[tuple[str, ...]] = ()) -> int:
    """Print the resolved configuration of a preset or of a YAML file.

    Args:
        preset: a preset (market1501, demo, tiny, ...) or a YAML file
        overrides: changes, such as train.half_batch=4
    """
    console.stdout.print(configuration.to_yaml(configuration.load(preset, overrides)), end="", markup=False)
    return 0


@data_app.command
def synthesize(
    folder: Positional[Path],
    identities: int = 90,
    test_identities: int = 30,
    cameras: int = 4,
    images_per_camera: int = 6,
    distractors: int = 60,
    junk: int = 30,
    seed: int = 0,
    height: int = 128,
    width: int = 64,
) -> int:
    """Draw a data set of people in Market-1501 layout, with the factors behind every image in factors.json.

    Args:
        folder: where to; must be new or empty, or hold this very data set
        identities: people in all
        test_identities: of these, for query and gallery
        cameras: cameras that see everyone
        images_per_camera: photos of each person by each camera
        distractors: gallery images of nobody in the query
        junk: gallery images to be left out of every ranking
        seed: decides everything that is drawn
        height: rows of an image
        width: columns of an image
    """
    from dgnet.data import synthetic

    made = synthetic.synthesize(
        folder, identities=identities, test_identities=test_identities, cameras=cameras,
        images_per_camera=images_per_camera, distractors=distractors, junk=junk, seed=seed, height=height, width=width,
    )  # fmt: skip
    console.stdout.print(f"{len(made.images)} images of {identities} people in {folder}", markup=False)
    return 0


@data_app.command
def check(
    root: Positional[Path], layout: str = "auto", cache: Path = Path("runs/check"), json: Path | None = None
) -> int:
    """Look into every file of a data set. Exit code 0: clean; 1: problems found; 2: unusable.

    Args:
        root: the data set's folder
        layout: how it is laid out: auto, market1501, msmt17, ... (docs/datasets.md)
        cache: folder that remembers what was seen, so that a second check is quick; never the data set's own
        json: write everything to this file, too
    """
    from dgnet.data.check import check as look
    from dgnet.data.readers import read_dataset
    from dgnet.files import replacing

    report = look(read_dataset(root, layout, need=[]), cache=cache)
    report.show()
    if json:
        with replacing(json) as part:
            part.write_text(report.to_json() + "\n")
    return report.exit_code


@train_app.command
def teacher(
    run: Positional[Path],
    overrides: Positional[tuple[str, ...]] = (),
    config: str | None = None,
    resume: bool = False,
    device: str = "auto",
) -> int:
    """Train a teacher on real images; writes RUN/teacher.safetensors.

    Args:
        run: folder of the run
        overrides: changes to the configuration, such as data.root=Market-1501 teacher.epochs=30
        config: a preset or a YAML file; by default market1501, or the own one of a run that is resumed
        resume: continue this run from its newest checkpoint
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.train.setup import device_named
    from dgnet.train.teacher import train_teacher

    chosen = _run_config(run, config, overrides, resume=resume)
    file = train_teacher(chosen, _dataset(chosen, "train"), run, device_named(device), resume=resume)
    return _finished(file)


@train_app.command
def joint(
    run: Positional[Path],
    overrides: Positional[tuple[str, ...]] = (),
    teacher: UseAppendAction[tuple[Path, ...]] = (),
    config: str | None = None,
    resume: bool = False,
    device: str = "auto",
) -> int:
    """Train DG-Net; writes RUN/model.safetensors. Several GPUs: torchrun --nproc-per-node N -m dgnet train joint ...

    Args:
        run: folder of the run
        overrides: changes to the configuration, such as data.root=Market-1501 train.precision=bfloat16
        teacher: weights of a teacher; several are averaged; a run that is resumed knows its own
        config: a preset or a YAML file; by default market1501, or the own one of a run that is resumed
        resume: continue this run from its newest checkpoint
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.train.joint import train_joint
    from dgnet.train.setup import device_named

    chosen = _run_config(run, config, overrides, resume=resume)
    file = train_joint(chosen, _dataset(chosen, "train"), run, list(teacher), device_named(device), resume=resume)
    return _finished(file)


@app.command
def evaluate(
    weights: Positional[tuple[Path, ...]] = (),
    data: Path | None = None,
    layout: str = "auto",
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
    from dgnet.evaluate import feature_set, protocol, ranking, results
    from dgnet.evaluate.rerank import ReRanking
    from dgnet.train.setup import device_named

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
        loaded = _load(weights[0], device)
        dataset = _dataset(loaded.config, "query", "gallery", root=data, layout=layout, option="--data FOLDER")
        if alphas and not protocol.has_halves(loaded.net):
            raise UserError(f"--alphas: the features of {weights[0]} have no fine-grained half to be weighed")
        found = protocol.features(loaded.net, loaded.config, dataset, device_named(device), flip=flip)
        views = "image and mirror image" if flip else "image"
        name, provenance = dataset.name, {"weights": loaded.hash, "data": str(dataset.root), "views": views}
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


@generate_app.command
def grid(
    weights: Positional[Path], out: Positional[Path], structures: tuple[Path, ...], appearances: tuple[Path, ...],
    device: str = "auto",
) -> int:  # fmt: skip
    """Everyone in everyone's clothes: columns are structures, rows are appearances.

    Args:
        weights: model.safetensors
        out: picture to write (.png or .jpg)
        structures: images whose pose and place are kept, one column each
        appearances: images whose clothes are worn, one row each
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet import figures, generate

    net, size = _generator(weights, device)
    s, a = generate.read(structures, *size), generate.read(appearances, *size)
    figures.save(out, figures.sheet(generate.grid(net, s, a).numpy(), s.numpy(), a.numpy()))
    return _written(out)


@generate_app.command
def swap(weights: Positional[Path], out: Positional[Path], images: tuple[Path, ...], device: str = "auto") -> int:
    """Pairs of people exchange their clothes: two photos, then both generated, a row a pair.

    Args:
        weights: model.safetensors
        out: picture to write (.png or .jpg)
        images: photos, two for each pair
        device: auto, cpu, cuda or cuda:N
    """
    import torch

    from dgnet import figures, generate

    if len(images) < 2 or len(images) % 2:
        raise UserError(f"--images: {len(images)} given; two for each pair are needed")
    net, size = _generator(weights, device)
    photos = generate.read(images, *size)
    a, b = photos[0::2], photos[1::2]
    figures.save(out, figures.sheet(torch.stack([a, b, *generate.swap(net, a, b)], dim=1).numpy()))
    return _written(out)


@generate_app.command
def interpolate(
    weights: Positional[Path], out: Positional[Path], start: Path, end: Path, of: Literal["appearance", "structure"],
    fixed: Path | None = None, steps: int = 11, device: str = "auto",
) -> int:  # fmt: skip
    """From one photo to another in a few steps: a strip (.png, .jpg) or an animation (.gif).

    Args:
        weights: model.safetensors
        out: what to write; its ending decides
        start: photo at the first step
        end: photo at the last step
        of: which code moves; the other stays that of `fixed`
        fixed: photo that gives the code that stays; by default `start`
        steps: pictures from start to end
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet import figures, generate

    net, size = _generator(weights, device)
    still, first, last = (generate.read([path], *size) for path in (fixed or start, start, end))
    between = generate.interpolate_appearance if of == "appearance" else generate.interpolate_structure
    strip = between(net, still, first, last, steps).numpy()
    if out.suffix.lower() == ".gif":
        figures.animate(out, strip)
    else:
        figures.save(out, figures.sheet(strip))
    return _written(out)


@generate_app.command
def folder(
    weights: Positional[Path], out: Positional[Path], images: Path, seed: int = 0,
    suffix: Literal[".png", ".jpg"] = ".png", device: str = "auto",
) -> int:  # fmt: skip
    """For every image of a folder, its clothes on a random other structure: the set that FID is taken of.

    Args:
        weights: model.safetensors
        out: folder to write to, with provenance.json
        images: folder of photos
        seed: decides the structures
        suffix: format of the pictures
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet import generate
    from dgnet.data.files import images_in

    if not images.is_dir():
        raise UserError(f"{images}: no such folder of images")
    loaded = _load_joint(weights, device)
    data = loaded.config.data
    generate.folder(
        loaded.net, images_in(images), out, height=data.height, width=data.width, seed=seed, weights=loaded.hash,
        suffix=suffix,
    )  # fmt: skip
    return _written(out)


@weights_app.command(name="import")
def import_weights(
    source: Positional[tuple[Path, ...]], out: Path, overrides: tuple[str, ...] = (), partial: bool = False
) -> int:
    """Make a model of published checkpoints: gen_*.pt, id_*.pt, dis_*.pt and config.yaml, or a teacher's net_last.pth.

    Args:
        source: the folder of a published run, or its files
        out: folder or .safetensors file to write
        overrides: values of our configuration, such as data.height=128
        partial: import what fits, and name what does not
    """
    from dgnet.published import import_published

    return _written(import_published([str(path) for path in source], out, overrides, partial=partial))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a check found problems, 2 something given was wrong, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        console.stdout.print(f"dgnet {__version__}", markup=False)
        sys.exit(0)
    keep_freed()
    try:
        code = app.cli(prog="dgnet", description=__doc__.split("\n")[0], args=given or ["--help"])
    except UserError as error:
        code = _failed(str(error))
    except OSError as error:  # a full disk, a folder that may not be written
        code = _failed(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        console.notice("interrupted")
        code = INTERRUPTED
    sys.exit(code)


def _run_config(run: Path, config: str | None, overrides: Sequence[str], *, resume: bool) -> Config:
    if not resume:
        return configuration.load(config or "market1501", overrides)
    if config:
        raise UserError(f"--config {config}: a resumed run keeps its own, {run}/config.yaml; leave --config out")
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: no run to resume here (no config.yaml)")
    return configuration.load(run / "config.yaml", overrides)


def _dataset(
    config: Config, *splits: str, root: Path | None = None, layout: str = "auto", option: str = "data.root=FOLDER"
) -> Dataset:
    """Of the folder `root`, by default the one that the configuration names; `option` is how a user names one."""
    from dgnet.data.readers import read_dataset
    from dgnet.data.records import join

    if root is not None:
        return read_dataset(root, layout, need=splits)
    if not config.data.root:
        raise UserError(f"data.root is empty: say where the data set is, as {option}")
    first = read_dataset(Path(config.data.root), config.data.layout, need=splits)
    if splits != ("train",) or not config.data.join:
        return first
    others = []
    for entry in config.data.join:
        layout, equals, folder = entry.partition("=")
        if not equals:
            raise UserError(f"data.join: {entry!r}: write it as layout=folder, for example msmt17=/data/MSMT17")
        others.append(read_dataset(Path(folder), layout, need=splits))
    return join([first, *others])


def _load(weights: Path, device: str) -> Loaded[DGNet] | Loaded[Baseline]:
    from dgnet.train.setup import device_named
    from dgnet.weights import load_any

    return load_any(weights, device_named(device))


def _load_joint(weights: Path, device: str) -> Loaded[DGNet]:
    from dgnet.train.setup import device_named
    from dgnet.weights import load_joint

    return load_joint(weights, device_named(device))


def _generator(weights: Path, device: str) -> tuple[DGNet, tuple[int, int]]:
    loaded = _load_joint(weights, device)
    return loaded.net, (loaded.config.data.height, loaded.config.data.width)


def _failed(message: str) -> int:
    console.stderr.quiet = False  # as it is in all processes but the first
    console.stderr.print("[red]error:[/red] ", end="")
    console.stderr.print(message, markup=False)
    return 2


def _finished(file: Path | None) -> int:
    return _written(file) if file else INTERRUPTED


def _written(path: Path) -> int:
    console.stdout.print(f"written: {path}", markup=False)
    return 0
