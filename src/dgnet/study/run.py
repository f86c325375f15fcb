"""What a study does: train what is not trained yet, evaluate what is not evaluated yet, and tell what came of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from dgnet import console
from dgnet.config import Config, load
from dgnet.datasets.read import elsewhere, of_config
from dgnet.datasets.records import Dataset, Split
from dgnet.device import device_named
from dgnet.errors import UserError
from dgnet.evaluate.protocol import evaluate_network, warn_of_acquaintances
from dgnet.evaluate.results import Results, label, load_all, percent, save_all
from dgnet.files import file_hash, write_json
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.study.outcome import Outcome
from dgnet.study.plan import OWN, Run, Study
from dgnet.train.baseline import train_baseline
from dgnet.train.joint import require_fitting, require_sense, train_joint
from dgnet.train.run import check_run, recorded, require_same
from dgnet.weights import files

_PLAIN: dict[str, Any] = {"metric": "cosine", "multi_query": None, "expand": 0, "neighbours": 0, "reranking": None}
_SOURCES = ".sources.json"  # in a run's folder: SHA-256 of the weights that it began from


def run_study(study: Study, device: str | torch.device = "auto") -> Outcome | None:
    """Train, evaluate and compare; None if it was interrupted. Called again, it goes on where it was.

    Finished runs and evaluations are kept, an interrupted run is continued. Before anything is trained, the whole table
    is held against the data and against what is there already.

    Raises:
        UserError: a line that names the file, the row and the seed: what in its configuration, its data and its weights
            does not fit together, or a run that is there and was trained with other settings.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("study: trains in one process; leave torchrun out, or type the commands of --dry-run with it")
    where = device_named(device)
    sets = _Sets(study)
    check(study, sets)
    results: dict[str, dict[str, dict[int, Results]]] = {}
    for run in study.runs:
        with study.naming(run):
            dataset = sets.of(run, OWN)
            if not run.weights.is_file() and not _train(run, dataset, where):
                return None
            _require_same_sources(run)
            for test in sets.tests(run):
                result = _evaluate(run, test, sets.of(run, test), where)[0]
                results.setdefault(test, {}).setdefault(run.row, {})[run.seed] = result
    return Outcome(study, results)


def check(study: Study, sets: _Sets | None = None) -> None:
    """Hold every run against its data and against what its folder holds; writes nothing. Raises as `run_study`."""
    sets = sets or _Sets(study)
    rows = {run.weights.absolute(): run.config for run in study.runs}
    for run in study.runs:
        with study.naming(run):
            dataset = sets.of(run, OWN)
            tests = sets.tests(run)
            for test in tests:
                sets.of(run, test)
            if not tests:
                dataset.require("query", "gallery")
            config = _with_weights(run)
            if run.kind == "joint":
                require_sense(config)
                if config.model.appearance.weights == "teacher":
                    teacher = Path(config.train.teachers[0])
                    known = rows[teacher] if teacher in rows else files.load_teacher(teacher).config
                    require_fitting(config.model.appearance, known.teacher)
            found = files.finished(run.folder)
            if found not in (None, run.weights):
                raise UserError(f"{found}: of another training than this row's; remove {run.folder}, or rename the row")
            if found:
                require_same(run.folder, config, dataset, run.kind)
            elif begun(run):
                check_run(run.folder, recorded(config, dataset), run.kind, resume=True)
            _require_same_sources(run)


def commands(study: Study) -> Iterator[str]:
    """The lines of a shell that come to the same; what is done already and how long a training is stands behind `#`.

    Raises as `run_study`.
    """
    sets = _Sets(study)
    check(study, sets)
    for run in study.runs:
        photos = len(sets.of(run, OWN).train)
        state = "finished" if run.weights.is_file() else "begun" if begun(run) else "to do"
        yield f"# {run.row}, seed {run.seed}: {_length(run, photos)}; {state}"
        yield "# " * run.weights.is_file() + run.command
        for test in sets.tests(run):
            words = ["dgnet", "evaluate", str(run.folder), "--json", str(evaluation_file(run, test))]
            if test != OWN:
                layout, root = study.tests[test]
                words += ["--data", root, "--layout", layout]
            yield "# " * bool(_kept(run, test, sets.of(run, test))) + shlex.join(words)


def _length(run: Run, photos: int) -> str:
    """How long a training is, in words."""
    train, teacher = run.config.train, run.config.teacher
    if run.kind == "joint":
        return f"{train.iterations} iterations of {train.half_batch} + {train.half_batch} photos"
    steps = max(1, photos // teacher.batch)
    return f"{teacher.epochs} epochs, {teacher.epochs * steps} iterations of {teacher.batch} photos"


def begun(run: Run) -> bool:
    """Whether a training has begun in the folder of a run."""
    return (run.folder / "config.yaml").is_file()


class _Sets:
    """The data sets of a study, each read once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.read: dict[tuple[object, ...], Dataset] = {}

    def of(self, run: Run, test: str) -> Dataset:
        """What a run is trained and tested on, or one that it is tested on beside."""
        data, need = run.config.data, ["train"]
        if test != OWN:
            layout, root = self.study.tests[test]
            data, need = elsewhere(data, root, layout), ["query", "gallery"]
        key = (data.root, data.layout, data.join, data.holdout, data.holdout_seed, *need)
        if key not in self.read:
            try:
                self.read[key] = of_config(data, *need)
            except UserError as error:
                raise UserError(f"{'data' if test == OWN else f'tests: {test}'}: {error}") from error
        return self.read[key]

    def tests(self, run: Run) -> list[str]:
        """The names of what a run is tested on: its own data, where they have a test, and the study's others."""
        own = self.of(run, OWN)
        return [OWN] * bool(len(own.query) and len(own.gallery)) + list(self.study.tests)


def _with_weights(run: Run) -> Config:
    """The configuration of a run with its teacher in it, and with the start by the path that it had when it began: its
    hash, not its place, tells whether it is the same."""
    config, before = run.config, _record(run)
    if "teacher" in run.sources:
        config = replace(config, train=replace(config.train, teachers=(str(run.sources["teacher"]),)))
    if before and "start" in before and "start" in run.sources:
        old = load(run.folder / "config.yaml")
        if run.kind == "teacher":
            return replace(config, teacher=replace(config.teacher, weights=old.teacher.weights))
        appearance = replace(config.model.appearance, weights=old.model.appearance.weights)
        return replace(config, model=replace(config.model, appearance=appearance))
    return config


def _train(run: Run, dataset: Dataset, device: torch.device) -> bool:
    """Whether the training came to its end."""
    console.notice(f"{run.row}, seed {run.seed}: {run.folder}")
    resume = begun(run)
    if not resume:
        write_json(run.folder / _SOURCES, _hashes(run))
    config = _with_weights(run)
    if run.kind == "teacher":
        return train_baseline(config, dataset, run.folder, device, resume=resume) is not None
    return train_joint(config, dataset, run.folder, [], device, resume=resume) is not None


def _hashes(run: Run) -> dict[str, str]:
    return {key: file_hash(file) for key, file in run.sources.items() if file.is_file()}


def _record(run: Run) -> dict[str, str] | None:
    """SHA-256 of the weights that a run in training began from, by key; None where another command began it."""
    record = run.folder / _SOURCES
    if not record.is_file() or not begun(run):
        return None
    try:
        return TypeAdapter(dict[str, str]).validate_json(record.read_bytes())
    except ValidationError as error:
        raise UserError(f"{record}: damaged; remove {run.folder} to train it again") from error


def _require_same_sources(run: Run) -> None:
    """Raises UserError if the weights that a run began from are not those that its row names, as they are now."""
    if not begun(run):
        return
    before, now = _record(run), _hashes(run)
    if before is None:  # its configuration names its teachers
        was = load(run.folder / "config.yaml").train.teachers
        wrong = ["teacher"] * (run.kind == "joint" and not _alike(was, _with_weights(run).train.teachers))
    else:
        judged = [key for key in {**before, **run.sources} if key in now or key not in run.sources]  # not those to come
        wrong = [key for key in judged if before.get(key) != now.get(key)]
    for key in wrong:
        its = run.sources.get(key, "none")
        raise UserError(
            f"{run.folder}: began with another {key} than its row names now ({its}); remove the folder to train it "
            "again"
        )


def _alike(files: Sequence[str], others: Sequence[str]) -> bool:
    """Whether files hold the same, as far as they are there."""
    pairs = [(Path(a), Path(b)) for a, b in zip(files, others, strict=False)]
    there = [pair for pair in pairs if all(file.is_file() for file in pair)]
    return len(files) == len(others) and all(file_hash(a) == file_hash(b) for a, b in there)


def _evaluate(run: Run, test: str, dataset: Dataset, device: torch.device) -> list[Results]:
    """The evaluations of a run on a data set, one per alpha; kept where they are there already."""
    if found := _kept(run, test, dataset):
        return found
    loaded = files.load_any(run.weights, device)
    warn_of_acquaintances(dataset, loaded.config, loaded.identities)
    results = evaluate_network(loaded.net, run.config, dataset, device, name=test, provenance={"weights": loaded.hash})
    save_all(results, evaluation_file(run, test))
    figures = results[0].figures()
    shown = [*[key for key in figures if key.startswith("rank")][:1], "mAP_standard"]
    told = ", ".join(f"{label(key)} {percent(figures[key])}" for key in shown)
    console.notice(f"{run.row}, seed {run.seed}, {test}: {told}")
    return results


def evaluation_file(run: Run, test: str) -> Path:
    """Where the evaluation of a run on a data set is written."""
    return run.folder / f"study-{test}.json"


def _kept(run: Run, test: str, dataset: Dataset) -> list[Results]:
    """The evaluations in a run's folder, if they are of its weights, these labels and these settings; else none."""
    file = evaluation_file(run, test)
    if not file.is_file() or not run.weights.is_file():
        return []
    try:
        found = load_all(file)
    except UserError as error:
        console.warn(f"evaluated again: {error}")
        return []
    about = {"weights": file_hash(run.weights), "data": str(dataset.root), "labels": _labels(dataset)}
    asked = [
        (about, _PLAIN | {"alpha": alpha}, run.config.evaluate.ranks, run.config.evaluate.divisor)
        for alpha in run.alphas
    ]
    return found if asked == [_told(result) for result in found] else []


def _told(result: Results) -> tuple[object, ...]:
    """What an evaluation depends on, of what a study can be edited in or its data changed in."""
    about = {key: result.provenance.get(key) for key in ("weights", "data", "labels")}
    protocol = {key: result.protocol.get(key) for key in (*_PLAIN, "alpha")}
    return about, protocol, result.ranks, result.divisor


def _labels(dataset: Dataset) -> str:
    """`FeatureSet.label_hash` of what will be tested."""

    def of(split: Split) -> Features:
        return Features(np.zeros((len(split), 1), np.float32), split.identities, split.left_out_by)

    return FeatureSet(of(dataset.query), of(dataset.gallery)).label_hash()
