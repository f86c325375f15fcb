"""The report of any run's folder at any time: finished, in training or interrupted, a teacher's too; or of several."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dgnet import __version__, console
from dgnet.config import Config, load, to_dict, to_yaml
from dgnet.datasets.read import of_config
from dgnet.datasets.records import Dataset, Split
from dgnet.device import device_named
from dgnet.errors import UserError
from dgnet.evaluate.compare import names_of
from dgnet.evaluate.protocol import features
from dgnet.evaluate.results import Results, load_all
from dgnet.files import expanded
from dgnet.logline import LogLine
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline, build_baseline
from dgnet.report.page import Report, write_report
from dgnet.showcase import explained, generated, retrieved
from dgnet.train import checkpoint
from dgnet.train.logs import read as read_log
from dgnet.train.loop import CHECKPOINTS
from dgnet.train.run import flat
from dgnet.weights.files import CLASSIFIER, FILE_OF, finished, load_any

SEARCHED = 600  # gallery photos that the examples of retrieval are looked for in, at most


@dataclass(frozen=True)
class Run:
    """What lies in the folder of a run."""

    folder: Path
    config: Config
    log: Sequence[LogLine]
    evaluations: Mapping[str, Sequence[Results]]
    """Of each JSON file of an evaluation, by its name without the ending."""

    @property
    def finished(self) -> Path | None:
        """The file of its finished weights."""
        return finished(self.folder)

    @property
    def joint(self) -> bool | None:
        """Whether it trains a DG-Net, and not a teacher; None where nothing tells yet."""
        if self.finished is not None:
            return self.finished.name == FILE_OF["joint"]
        return "epoch" not in self.log[-1] if self.log else None


def write_run_report(
    runs: str | Path | Sequence[str | Path], out: str | Path | None = None, device: str | torch.device = "auto"
) -> Path:
    """Write what is known of a run, or of several side by side, to one HTML file that opens offline.

    The losses come from the log as far as it goes, the figures from the JSON files of `dgnet evaluate` in the folder,
    the pictures from the finished weights, else from the newest checkpoint, where the data are there. What cannot be
    shown is said in the page.

    Args:
        runs: a run's folder, or several.
        out: the file; by default `report.html` in the run's folder, or, of several, in the current one.
        device: where pictures are made.

    Returns:
        The file.

    Raises:
        UserError: a folder that holds no run, a log with a line that is none.
    """
    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    if not folders:
        raise UserError("report: the folder of a run is needed")
    where = device_named(device)
    read = [read_run(folder) for folder in folders]
    if len(read) == 1:
        path, report = read[0].folder / "report.html", of_run(read[0], where)
    else:
        path, report = Path("report.html"), of_runs(read)
    path = expanded(out) if out is not None else path
    write_report(path, report)
    return path


def read_run(folder: str | Path) -> Run:
    """What lies in the folder of a run. Raises UserError where that is none, naming those near it."""
    folder = expanded(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: {'a file' if folder.exists() else 'no such folder'}; the folder of a run is needed")
    if not (folder / "config.yaml").is_file():
        near = [str(file.parent) for file in sorted(folder.glob("*/config.yaml"))]
        raise UserError(f"{folder}: no run (no config.yaml)" + (f"; in it are {', '.join(near)}" if near else ""))
    evaluations = {}
    for file in sorted(folder.glob("*.json")):
        try:
            evaluations[file.stem] = load_all(file)
        except UserError as error:
            console.warn(f"left out of the report: {error}")
    return Run(folder, load(folder / "config.yaml"), read_log(folder / "log.jsonl"), evaluations)


def of_run(run: Run, device: torch.device) -> Report:
    """The report of one run."""
    results = _named([run], [""])
    report = Report(
        title=f"Run {run.folder.absolute().name}",
        config=to_yaml(run.config),
        facts=_facts(run),
        results={name: result.figures() for name, result in results.items()},
        intervals={name: result.intervals for name, result in results.items()},
        cmc={name: result.cmc for name, result in results.items()},
        log=[] if run.joint is False else run.log,
        teacher_log=run.log if run.joint is False else [],
    )
    try:
        return replace(report, **_pictures(run, device))
    except UserError as error:
        return replace(report, facts={**report.facts, "pictures": f"none: {error}"})


def of_runs(runs: Sequence[Run]) -> Report:
    """The report of several runs side by side."""
    names = names_of([run.folder / "config.yaml" for run in runs])
    results = _named(runs, names)
    settings = [{key: str(value) for key, value in flat(to_dict(run.config)).items()} for run in runs]
    differing = [key for key in settings[0] if len({each.get(key) for each in settings}) > 1]
    return Report(
        title=f"{len(runs)} runs",
        facts={name: _state(run) for name, run in zip(names, runs, strict=True)} | _made(),
        results={name: result.figures() for name, result in results.items()},
        intervals={name: result.intervals for name, result in results.items()},
        cmc={name: result.cmc for name, result in results.items()},
        run_logs={name: run.log for name, run in zip(names, runs, strict=True) if run.log},
        settings={
            key: {name: each.get(key, "–") for name, each in zip(names, settings, strict=True)} for key in differing
        },
    )


def _named(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Results]:
    """The evaluations of runs by a name that tells them apart."""
    found = [
        (name, stem, result)
        for name, run in zip(names, runs, strict=True)
        for stem, results in run.evaluations.items()
        for result in results
    ]
    short = [" ".join(filter(None, (name, result.name or stem))) for name, stem, result in found]
    return {
        (f"{called} ({stem})" if short.count(called) > 1 else called): result
        for called, (_, stem, result) in zip(short, found, strict=True)
    }


def _facts(run: Run) -> dict[str, str]:
    what = {True: "DG-Net (joint training)", False: "a teacher", None: "not known before the first line of the log"}
    data = run.config.data.root or "not named"
    facts = {"folder": str(run.folder.absolute()), "trains": what[run.joint], "state": _state(run), "data": data}
    if run.log:
        seconds = float(np.median([line.get("seconds", 0.0) for line in run.log]))
        facts["speed"] = f"{seconds:.3g} s an iteration"
    return facts | _made()


def _state(run: Run) -> str:
    """How far a run is, in words."""
    if run.finished is not None:
        return "finished"
    if not run.log:
        return "begun; no line of the log yet"
    last = run.log[-1]
    if "epoch" in last:
        done = f"epoch {last['epoch']} of {run.config.teacher.epochs}"
    else:
        done = f"iteration {last['iteration']} of {run.config.train.iterations}"
    minutes = (time.time() - (run.folder / "log.jsonl").stat().st_mtime) / 60
    return f"{done}; last line written {'now' if minutes < 2 else f'{_duration(minutes)} ago'}"


def _duration(minutes: float) -> str:
    for unit, length in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * length:
            return f"{minutes / length:.0f} {unit}"
    return f"{minutes:.0f} minutes"


def _made() -> dict[str, str]:
    return {"made": f"{date.today():%d %B %Y}, by dgnet {__version__}"}


def _pictures(run: Run, device: torch.device) -> dict[str, Any]:
    """Sections of the report that show photos. Raises UserError where there are none to show."""
    net, config, weights = _network(run, device)
    dataset = of_config(config.data, recorded=True)
    held_out = bool(len(dataset.query) and len(dataset.gallery))
    people = dataset.query if held_out else dataset.train
    whose = "People whom training never saw." if held_out else "People of the training: the data have no query images."
    shown: dict[str, Any] = {"people": f"{whose} {weights}"}
    if isinstance(net, DGNet):
        if len(people.people) < 2:
            raise UserError(f"{dataset.root}: photos of {len(people.people)} person; two are needed")
        shown |= generated(net, people, config)._asdict()
    if held_out:
        some = _fewer(dataset)
        found = features(net, config, some, device)
        shown["retrieval"] = retrieved(net, found, some, config)
        shown["explained"] = explained(net, shown["retrieval"], config)
        if len(some.gallery) < len(dataset.gallery):
            shown["searched"] = f"{len(some.gallery)} photos of the gallery, with all of theirs among them"
    return shown


def _network(run: Run, device: torch.device) -> tuple[DGNet | Baseline, Config, str]:
    """The network of a run as far as it is trained, and a sentence on how far. Raises UserError where there is none."""
    if run.finished is not None:
        loaded = load_any(run.finished, device)
        return loaded.net, loaded.config, f"Weights {loaded.hash[:12]}."
    if not checkpoint.in_folder(run.folder / CHECKPOINTS):
        raise UserError("no checkpoint is written yet")
    path, state = checkpoint.load_newest(run.folder / CHECKPOINTS)
    tensors = state["module"]
    kind = next((kind for kind, key in CLASSIFIER.items() if key in tensors), None)
    if kind is None:
        raise UserError(f"{path}: of another version of dgnet")
    build: Callable[[Config, int], DGNet | Baseline] = DGNet if kind == "joint" else build_baseline
    net = build(run.config, len(tensors[CLASSIFIER[kind]]))
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: of another version of dgnet") from error
    return net.to(device).eval(), run.config, f"Weights after iteration {state['iteration']}, still in training."


def _fewer(dataset: Dataset, seed: int = 0) -> Dataset:
    """Six queries, and at most SEARCHED photos of the gallery: theirs, then others by lot."""
    chosen = np.linspace(0, len(dataset.query) - 1, min(6, len(dataset.query))).astype(np.int64)
    query, gallery = dataset.query.subset(chosen), dataset.gallery
    by_lot = np.random.default_rng(seed).permutation(len(gallery))
    theirs = np.isin(gallery.identities[by_lot], query.people)
    first = np.concatenate([by_lot[theirs], by_lot[~theirs]])[:SEARCHED]
    kept: Split = gallery.subset(np.sort(first))
    return replace(dataset, query=query, gallery=kept, multi_query=None)
