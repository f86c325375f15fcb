"""The whole method at a small size on people that the project draws: data, teacher, DG-Net, evaluation, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dgnet import console
from dgnet.config import Config, to_yaml
from dgnet.datasets.read import read_dataset
from dgnet.datasets.records import Dataset
from dgnet.device import device_named
from dgnet.drawn.dataset import synthesize
from dgnet.errors import UserError
from dgnet.evaluate.compare import difference
from dgnet.evaluate.evaluation import evaluate_alphas
from dgnet.evaluate.protocol import evaluate_network, features
from dgnet.evaluate.results import Results
from dgnet.generate.quality import swap_quality
from dgnet.models.dgnet import DGNet
from dgnet.report.page import Report, write_report
from dgnet.showcase import explained, generated, retrieved
from dgnet.train.baseline import train_baseline
from dgnet.train.joint import require_fitting, train_joint
from dgnet.train.logs import read as read_log
from dgnet.train.run import require_same
from dgnet.weights.files import Kind, Loaded, load_joint, load_teacher


class Stage(NamedTuple):
    """A training of the demo: what it leaves behind, and how it is done."""

    file: Path
    kind: Kind
    config: Config
    train: Callable[..., Path | None]


def demo(
    folder: Path, config: Config, *, identities: int = 150, test_identities: int = 30, control: bool = False
) -> Path | None:
    """Make everything below `folder`; finished stages are kept. Returns the report's path, or None if it was stopped.

    The data are `identities` synthetic people, of whom `test_identities` are held out from all training. With
    `control`, a second DG-Net is trained for as long, from the same start, that learns nothing from generated images:
    only the difference to it says what these are worth. Raises `UserError` where a stage that is kept was made with
    other settings: the report would state what was never trained.
    """
    if config.model.appearance.weights == "teacher":
        require_fitting(config.model.appearance, config.teacher)
    began = time.monotonic()
    device = device_named("auto")
    height, width = config.data.height, config.data.width
    people = folder / "people"
    factors = synthesize(
        people, identities=identities, test_identities=test_identities, images_per_camera=4, height=height, width=width
    )
    dataset = read_dataset(people)

    teacher, model = folder / "teacher" / "teacher.safetensors", folder / "joint" / "model.safetensors"
    unaided, without = folder / "control" / "model.safetensors", _without_generated(config)
    stages = [
        Stage(teacher, "teacher", config, partial(train_baseline, config, dataset, teacher.parent, device)),
        Stage(model, "joint", config, partial(train_joint, config, dataset, model.parent, [teacher], device)),
    ]
    if control:
        control_run = partial(train_joint, without, dataset, unaided.parent, [teacher], device)
        stages.append(Stage(unaided, "joint", without, control_run))
    for stage in stages:
        if stage.file.exists():
            require_same(stage.file.parent, stage.config, dataset, stage.kind)
    for file, *_, train in stages:
        if not file.exists() and train(resume=(file.parent / "config.yaml").exists()) is None:
            return None

    loaded, alone = load_joint(model, device), load_teacher(teacher, device)
    kept = load_joint(unaided, device) if control else None
    for file, held in ((teacher, alone), (model, loaded), (unaided, kept)):
        if held is not None and held.identities != dataset.train.people.tolist():
            raise UserError(f"{file}: trained on other people than those in {people}; remove {file.parent}, too")
    found = features(loaded.net, config, dataset, device)
    protocol = {"ranks": config.evaluate.ranks, "divisor": config.evaluate.divisor}
    ours = evaluate_alphas(
        found, config.evaluate.alphas, name="DG-Net", provenance={"weights": loaded.hash}, **protocol
    )
    theirs = evaluate_network(alone.net, config, dataset, device, name="teacher", provenance={"weights": alone.hash})
    rows, verdicts = [*theirs, *ours], [UNDECIDED]
    if kept is not None:  # its fine-grained half was never trained: alpha 0 leaves it out
        rows += evaluate_network(
            kept.net, config, dataset, device, name="control", alphas=[0.0], provenance={"weights": kept.hash}
        )
        verdicts = [verdict(ours[0], rows[-1])]
    for result in rows:
        result.save(folder / f"evaluation-{result.name.replace(', alpha ', '-alpha')}.json")

    quality, examples = swap_quality(loaded.net, dataset.query, factors)
    answers = retrieved(loaded.net, found, dataset, config)
    pictures = generated(loaded.net, dataset.query, config)
    report = Report(
        title="DG-Net on synthetic people",
        config=to_yaml(config),
        facts=_facts(dataset, loaded, time.monotonic() - began),
        results={result.name: result.figures() for result in rows},
        intervals={result.name: result.intervals for result in rows},
        verdicts=verdicts,
        quality=quality,
        swaps=examples,
        grid=pictures.grid,
        reconstructions=pictures.reconstructions,
        appearance=pictures.appearance,
        structure=pictures.structure,
        retrieval=answers,
        explained=explained(loaded.net, answers, config),
        cmc={theirs[0].name: theirs[0].cmc, ours[0].name: ours[0].cmc},
        log=read_log(model.parent / "log.jsonl"),
        teacher_log=read_log(teacher.parent / "log.jsonl"),
    )
    path = folder / "report.html"
    write_report(path, report)
    _last_screen(report, path)
    return path


UNDECIDED = (
    "Whether generated images helped, these figures cannot say: DG-Net was also trained longer than the teacher. "
    "`dgnet demo --control` trains a DG-Net as long that learns nothing from them."
)


def verdict(ours: Results, control: Results) -> str:
    """What the paired difference to the control says, in a sentence or two."""
    change = difference([control], [ours])
    assert change is not None, "the same queries"
    if change.low > 0:
        said = "here generated images helped"
    elif change.high < 0:
        said = "here generated images did harm"
    else:
        said = "no difference that other queries could not undo"
    return (
        f"DG-Net over the control, trained as long but without learning from generated images: mAP {change.said}, "
        f"95 %: {said}. One training each: other seeds may decide otherwise."
    )


def _without_generated(config: Config) -> Config:
    """The control's: the generator trains, and teaches the re-ID network nothing."""
    return replace(config, loss=replace(config.loss, teacher=0.0))


def _facts(dataset: Dataset, loaded: Loaded[DGNet], seconds: float) -> dict[str, str]:
    splits = ", ".join(f"{len(split)} {name.replace('_', '-')}" for name, split in dataset.splits.items())
    return {
        "data": f"{dataset.root.name}: {splits} photos of drawn people",
        "training": f"{len(dataset.train.people)} people; {len(dataset.query.people)} others are held out",
        "weights": loaded.hash[:12],
        "dgnet": loaded.version,
        "made": f"{date.today():%d %B %Y}, in {seconds / 60:.1f} minutes",
    }


def _last_screen(report: Report, path: Path) -> None:
    figures = {name: {k: v for k, v in row.items() if k != "mINP"} for name, row in report.results.items()}
    columns = list(next(iter(figures.values())))
    rows = [[name, *(f"{100 * row[c]:.1f}" for c in columns)] for name, row in figures.items()]
    console.stdout.print(console.table("held-out people, %", ["", *columns], rows))
    for sentence in report.verdicts:
        console.stdout.print(sentence, end="\n\n")
    rows = [[name, f"{row['PSNR']:.2f}", f"{row['SSIM']:.3f}"] for name, row in report.quality.items()]
    console.stdout.print(console.table("swaps against their ground truth", ["", "PSNR (dB)", "SSIM"], rows))
    console.stdout.print(f"report: {path}")
