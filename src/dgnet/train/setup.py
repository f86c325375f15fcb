"""What both trainings begin and end with: the training photos, the folder of the run, the finished weights."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from dgnet import console
from dgnet.config import Config, load, to_dict, to_yaml
from dgnet.datasets.records import UNKNOWN_CAMERA, Dataset, Ints, labels
from dgnet.device import device_named
from dgnet.errors import UserError
from dgnet.files import expanded, replacing
from dgnet.images.store import ImageStore
from dgnet.train import checkpoint, distributed
from dgnet.train.batches import Order, camera_balanced, identity_balanced
from dgnet.train.loop import CHECKPOINTS, Loop
from dgnet.weights import files

# What may differ when a run is continued: where things are and how often something is done, not what is computed.
FREE = ("data.root", "data.join", "data.cache", "train.teachers", "train.iterations", "train.checkpoint_every",
        "train.keep", "train.log_every", "train.tensorboard", "teacher.epochs")  # fmt: skip

LENGTHS = ("train.iterations", "teacher.epochs")  # may grow when a run is continued, but say what a finished one is

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Photos:
    """The training photos of a run."""

    images: ImageStore
    classes: Tensor  # [N], 0 to K - 1
    cameras: Ints  # [N], -1 where unknown
    identities: list[int]  # [K], the data set's own numbers
    summary: str
    """In words and as a hash of names and identities: two sets with the same summary train the same."""


def placed(net: Net, device: torch.device) -> Net:
    """`net` itself, on the device, laid out for its convolutions (channels last)."""
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # unknown to torch's annotations
    return net


def training_photos(config: Config, dataset: Dataset) -> Photos:
    """Decode (or map from the cache) the training images, and number the identities from 0.

    Raises `UserError` if there are no training images or fewer than two identities.
    """
    dataset.require("train")
    data = config.data
    cache = Path(data.cache) if data.cache else None
    people = dataset.train.subset(dataset.train.identities > 0)
    store = ImageStore(people.paths, data.height, data.width, cache, data.on_unreadable)
    people = people.subset(store.kept)
    classes, identities = labels(people.identities)
    if len(identities) < 2:
        raise UserError(f"{dataset.root}: training images of {len(identities)} identity; training needs two or more")
    digest = hashlib.sha256()
    for path, identity in zip(people.paths, people.identities, strict=True):
        digest.update(f"{path.name} {identity}\n".encode())
    summary = f"{len(people)} of {len(identities)} people ({digest.hexdigest()[:8]})"
    return Photos(store, torch.from_numpy(classes), people.cameras, identities, summary)


def order(config: Config, photos: Photos) -> Order | None:
    """How a half-batch takes the photos; None is the published order. Raises `UserError` if it cannot be had."""
    train = config.train
    if train.sampling == "shuffled":
        return None
    if train.sampling == "identity_balanced":
        people, rest = divmod(train.half_batch, train.photos_per_identity)
        if rest:
            raise UserError(
                f"train.half_batch = {train.half_batch}: not a multiple of train.photos_per_identity = "
                f"{train.photos_per_identity}"
            )
        return identity_balanced(photos.classes.numpy(), people, train.photos_per_identity)
    if (photos.cameras == UNKNOWN_CAMERA).any():
        raise UserError("train.sampling = camera_balanced: the cameras of the training images are not known")
    return camera_balanced(photos.cameras, train.half_batch)


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
        model=replace(config.model, appearance=replace(appearance, weights=in_full(appearance.weights))),
        teacher=replace(config.teacher, weights=in_full(config.teacher.weights)),
        train=replace(config.train, teachers=tuple(map(in_full, config.train.teachers))),
    )


def in_full(path: str | Path) -> str:
    """A path from the root on; a word that is no file or folder here, such as `imagenet` or a URL, as it is."""
    here = expanded(path)
    return str(here.absolute()) if here.exists() else str(path)


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


def check_run(run: Path, config: Config, *sections: str, resume: bool) -> bool:
    """Whether the folder `run` holds a checkpoint to continue from; writes nothing.

    Raises `UserError` if a new run's folder holds a run already, or if one to continue doesn't, or was started with
    other values in `sections`.
    """
    written = run / "config.yaml"
    begun = bool(checkpoint.in_folder(run / CHECKPOINTS))
    if not resume:
        if written.exists() or begun:
            raise UserError(f"{run}: holds a run already; continue it with --resume, or name another folder")
        return False
    if not written.exists():
        raise UserError(f"{run}: no run to resume here (no config.yaml)")
    before = computed(load(written), *sections)
    for key, value in computed(config, *sections).items():
        if before.get(key) != value:
            raise UserError(f"{run}: was started with {key} = {before.get(key)}, not {value}; it cannot change midway")
    return begun


def require_same(run: Path, config: Config, *sections: str) -> None:
    """Raises `UserError` if the finished run in the folder `run` was trained with other values, lengths included."""
    before, now = flat(to_dict(load(run / "config.yaml"))), flat(to_dict(config))
    for key, value in now.items():
        if key.startswith(sections) and (key not in FREE or key in LENGTHS) and before[key] != value:
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


def carry_out(
    loop: Loop[Any], config: Config, kind: files.Kind, identities: Sequence[int], *, begun: bool, resume: bool
) -> Path | None:
    """Train in the run's folder, alone there; returns the file of the finished weights, or None if it was interrupted.

    `begun` says whether there is a checkpoint to go on from, `resume` whether the folder may hold a run.
    """
    run = loop.plan.run
    with alone(run, resume=resume):
        if begun:
            loop.resume()
        write_config(run, config)
        if not loop.run():
            return None
        file = run / files.FILE_OF[kind]
        if distributed.rank() == 0:
            files.save_model(file, loop.module, config, kind, identities)
        distributed.wait()
    return file


def resume_command(training: str, run: Path, device: torch.device) -> str:
    """What to type to continue the `training` (teacher or joint) in the folder `run`."""
    command = f"dgnet train {training} {shlex.quote(str(run))} --resume"
    if distributed.count() > 1:
        command = f"torchrun --standalone --nproc-per-node {distributed.count()} -m {command}"
    return command if device.type == device_named("auto").type else f"{command} --device {device}"


def computed(config: Config, *sections: str) -> dict[str, object]:
    """The values in `sections` of the configuration on which the numbers of a run depend, by key path."""
    return {key: value for key, value in flat(to_dict(config)).items() if key.startswith(sections) and key not in FREE}


def flat(tree: dict[str, object], path: str = "") -> dict[str, object]:
    """The values of a configuration as nested dictionaries, by key path."""
    values: dict[str, object] = {}
    for key, value in tree.items():
        values |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return values
