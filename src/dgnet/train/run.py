"""A training's run: what every training begins with and ends with, and the folder that holds what it made.

run = begin("teacher", config, dataset, folder, device)   looks at everything, writes nothing
net = run.network(build, weights)                          the same in every process
run.carry_out(Loop(run.plan(...), net, ...))               trains, saves, writes the finished weights
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout
from torch import nn

from dgnet import console
from dgnet.config import Config, TeacherTraining, Train, load, to_dict, to_yaml
from dgnet.datasets.records import Dataset
from dgnet.device import device_named, float32_as
from dgnet.errors import UserError
from dgnet.files import expanded, replacing
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline
from dgnet.retrieval.centralise import typical_structures
from dgnet.train import checkpoint, distributed
from dgnet.train.chance import seed_of
from dgnet.train.loop import CHECKPOINTS, Loop, Plan
from dgnet.train.photos import Photos, training_photos
from dgnet.weights import files
from dgnet.weights.pretrained import WORDS, pretrained

# What may differ when a run is continued: where things are and how often something is done, not what is computed.
FREE = ("data.root", "data.join", "data.cache", "data.on_device", "train.teachers", "train.iterations",
        "train.accumulate", "train.checkpoint_every", "train.keep", "train.log_every", "train.cudnn_benchmark",
        "train.activation_checkpointing", "train.tensorboard", "teacher.epochs")  # fmt: skip

LENGTHS = ("train.iterations", "teacher.epochs")  # may grow when a run is continued, but say what a finished one is

SECTIONS: dict[files.Kind, tuple[str, ...]] = {
    "teacher": ("data", "teacher"),
    "joint": ("data", "model", "loss", "train"),
}
"""Of the configuration: what the numbers of each training depend on."""


TYPICAL = 8  # structures of training photos that a model keeps, to centralise features by

Net = TypeVar("Net", Baseline, DGNet)
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Run:
    """A training that may begin: everything outside has been read and fits together. `begin` makes one."""

    kind: files.Kind
    folder: Path
    config: Config
    """As it is recorded: every path in full."""
    device: torch.device
    photos: Photos
    resume: bool
    """Whether the folder may hold a run."""
    begun: bool
    """Whether it holds a checkpoint to go on from."""

    @property
    def own(self) -> Train | TeacherTraining:
        """The part of the configuration that says how this training goes."""
        return self.config.train if self.kind == "joint" else self.config.teacher

    @property
    def seed(self) -> int:
        """Of everything that this training draws."""
        return seed_of(self.own.seed, self.kind)

    def network(self, build: Callable[[Config, int], Net], weights: str) -> Net:
        """The network for the people of this run, its backbone from `weights`; placed, and alike in every process."""
        torch.manual_seed(seed_of(self.seed, "weights"))
        net = build(self.config, len(self.photos.identities))
        if not self.begun:
            pretrained(net.backbone, weights)
        net = placed(net, self.device)
        distributed.broadcast(net)
        return net

    def plan(
        self,
        iterations: int,
        checkpoint_every: int,
        log_every: int,
        inputs: Mapping[str, object] = MappingProxyType({}),
        advice: Mapping[str, str] = MappingProxyType({}),
    ) -> Plan:
        """How long to train and what to leave behind.

        `inputs` are what a continued run must have again, beside its configuration; `advice` tells what to do if not.
        """
        title, length_key = {"joint": ("DG-Net", "train.iterations"), "teacher": ("teacher", "teacher.epochs")}[
            self.kind
        ]
        return Plan(
            run=self.folder,
            iterations=iterations,
            length_key=length_key,
            seed=self.seed,
            checkpoint_every=checkpoint_every,
            keep=self.config.train.keep,
            log_every=log_every,
            title=title,
            resume_command=resume_command(self.kind, self.folder, self.device),
            fingerprint={
                **computed(self.config, self.kind),
                "training images": self.photos.summary,
                "processes": distributed.count(),
                **inputs,
            },
            advice=advice,
            tensorboard=self.config.train.tensorboard,
            ema=self.own.ema,
        )

    def carry_out(self, loop: Loop[Any]) -> Path | None:
        """Train in the folder, alone there; returns the file of the finished weights, or None if interrupted."""
        train = self.config.train
        float32 = float32_as(tf32=train.tf32, benchmark=train.cudnn_benchmark)
        with alone(self.folder, resume=self.resume), float32:
            if self.begun:
                loop.resume()
            write_config(self.folder, self.config)
            if not loop.run():
                return None
            file = self.folder / files.FILE_OF[self.kind]
            if distributed.rank() == 0:
                if isinstance(loop.result, DGNet):
                    images = self.photos.images
                    loop.result.typical = typical_structures(loop.result, images, min(TYPICAL, len(images)))
                files.save_model(file, loop.result, self.config, self.kind, self.photos.identities)
            distributed.wait()
        return file


def begin(
    kind: files.Kind, config: Config, dataset: Dataset, folder: Path, device: torch.device, *, resume: bool = False
) -> Run:
    """Look at the folder, decode the training photos; writes nothing.

    Raises `UserError` for whatever in the configuration, the data or the folder doesn't fit together.
    """
    device = distributed.start(device)
    config = recorded(config, dataset)
    begun = check_run(folder, config, kind, resume=resume)
    return Run(kind, folder, config, device, training_photos(config, dataset), resume, begun)


def placed(net: Module, device: torch.device) -> Module:
    """`net` itself, on the device, laid out for its convolutions (channels last)."""
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # unknown to torch's annotations
    return net


def recorded(config: Config, dataset: Dataset) -> Config:
    """`config` with the data set that is really used, and every path in full: a run is continued from anywhere."""
    data, appearance = config.data, config.model.appearance
    joined = (("", "", entry) if expanded(entry).exists() else entry.partition("=") for entry in data.join)
    data = replace(
        data,
        root=str(dataset.root),
        layout=dataset.layout or data.layout,
        join=tuple(f"{layout}{equals}{in_full(folder)}" for layout, equals, folder in joined),
        cache=data.cache and str(expanded(data.cache).absolute()),
    )
    return replace(
        config,
        data=data,
        model=replace(config.model, appearance=replace(appearance, weights=source_in_full(appearance.weights))),
        teacher=replace(config.teacher, weights=source_in_full(config.teacher.weights)),
        train=replace(config.train, teachers=tuple(map(in_full, config.train.teachers))),
    )


def in_full(path: str | Path) -> str:
    """A path from the root on; a word that is no file or folder here, such as `imagenet` or a URL, as it is."""
    here = expanded(path)
    return str(here.absolute()) if here.exists() else str(path)


def source_in_full(weights: str) -> str:
    """Where weights come from: a path from the root on; a word, even where a file or folder has that name, as it is."""
    return weights if weights in WORDS else in_full(weights)


@contextmanager
def alone(run: Path, *, resume: bool) -> Iterator[None]:
    """Hold the folder of a run while it trains. The lock ends with the process, however that ends.

    Raises `UserError`, in every process, where another training holds it, or has begun there since it was looked at.
    """
    lock = FileLock(run / ".lock") if distributed.rank() == 0 else None
    reason = ""
    if lock is not None:
        try:
            run.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            reason = f"{run}: another training is at work in this folder; wait for it, or name another folder"
        except (OSError, NotImplementedError) as error:
            if not run.is_dir() or not os.access(run, os.W_OK):
                reason = f"{run}: cannot be written ({error}); choose another run folder"
            else:
                console.warn(f"{run}: no locks on this file system: start no second training there ({error})")
        if not reason and not resume and (run / "config.yaml").exists():
            lock.release()
            reason = f"{run}: holds a run already; continue it with --resume, or name another folder"
    if distributed.any_process(bool(reason)):
        raise UserError(reason or f"{run}: the first process could not take this folder")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)


def check_run(run: Path, config: Config, kind: files.Kind, *, resume: bool) -> bool:
    """Whether the folder `run` holds a checkpoint to continue from; writes nothing.

    Raises `UserError` if a new run's folder holds a run already, or if one to continue doesn't, or was started with
    other values of what it depends on.
    """
    written = run / "config.yaml"
    begun = bool(checkpoint.in_folder(run / CHECKPOINTS))
    if not resume:
        if written.exists() or begun:
            raise UserError(f"{run}: holds a run already; continue it with --resume, or name another folder")
        return False
    if not written.exists():
        raise UserError(f"{run}: no run to resume here (no config.yaml)")
    before = computed(load(written), kind)
    for key, value in computed(config, kind).items():
        if before.get(key) != value:
            raise UserError(f"{run}: was started with {key} = {before.get(key)}, not {value}; it cannot change midway")
    return begun


def require_same(run: Path, config: Config, dataset: Dataset, kind: files.Kind) -> None:
    """Raises `UserError` if the finished run in the folder `run` was trained with other values, lengths included."""
    before, now = flat(to_dict(load(run / "config.yaml"))), flat(to_dict(recorded(config, dataset)))
    for key, value in now.items():
        if key.startswith(SECTIONS[kind]) and (key not in FREE or key in LENGTHS) and before[key] != value:
            raise UserError(
                f"{run}: was trained with {key} = {before[key]}, not {value}; name another folder, or remove this one"
            )


def write_config(run: Path, config: Config) -> None:
    """Write RUN/config.yaml: from here on, the folder holds a run. To be called when nothing can fail any more."""
    distributed.wait()  # until every process has checked the folder
    if distributed.rank() == 0:
        try:
            with replacing(run / "config.yaml") as part:
                part.write_text(to_yaml(config), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{run}: cannot be written ({error}); choose another run folder") from error


def resume_command(training: str, run: Path, device: torch.device) -> str:
    """What to type to continue the `training` (teacher or joint) in the folder `run`."""
    command = f"dgnet train {training} {shlex.quote(str(run))} --resume"
    if distributed.count() > 1:
        command = f"torchrun --standalone --nproc-per-node {distributed.count()} -m {command}"
    return command if device.type == device_named("auto").type else f"{command} --device {device}"


def computed(config: Config, kind: files.Kind) -> dict[str, object]:
    """The values of the configuration on which the numbers of such a run depend, by key path.

    Its length is one of them where learning rates fall towards its end.
    """
    values = flat(to_dict(config))
    free = set(FREE)
    if (config.train if kind == "joint" else config.teacher).schedule == "cosine":
        free -= set(LENGTHS)
    return {key: value for key, value in values.items() if key.startswith(SECTIONS[kind]) and key not in free}


def flat(tree: dict[str, object], path: str = "") -> dict[str, object]:
    """The values of a configuration as nested dictionaries, by key path."""
    values: dict[str, object] = {}
    for key, value in tree.items():
        values |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return values
