"""What both trainings begin with: the device, the run's folder, the training photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dgnet.config import Config, from_dict, load, to_dict, to_yaml
from dgnet.data.images import ImageStore
from dgnet.data.records import Dataset, labels
from dgnet.errors import UserError

# What may differ when a run is continued: where things are and how often something is done, not what is computed.
FREE = ("data.root", "data.cache", "train.iterations", "train.checkpoint_every", "train.keep", "train.log_every",
        "train.tensorboard", "teacher.epochs", "evaluate")  # fmt: skip


@dataclass(frozen=True)
class Photos:
    """The training photos of a run."""

    images: ImageStore
    classes: Tensor  # [N], 0 to K - 1
    identities: list[int]  # [K], the data set's own numbers


def device_named(name: str) -> torch.device:
    """`auto` is the first GPU if there is one. Raises `UserError` if the device isn't there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"--device {name}: not available here; use auto, cpu, cuda or cuda:N") from None
    return device


def training_photos(config: Config, dataset: Dataset) -> Photos:
    """Decode (or map from the cache) the training images, and number the identities from 0.

    Raises `UserError` if there are no training images or fewer than two identities.
    """
    dataset.require("train")
    data = config.data
    cache = Path(data.cache) if data.cache else None
    people = dataset.train.subset(dataset.train.identities > 0)
    store = ImageStore(people.paths, data.height, data.width, cache, data.on_unreadable)
    classes, identities = labels(people.identities[store.kept])
    if len(identities) < 2:
        raise UserError(f"{dataset.root}: the training images show {len(identities)} identity; training needs two or more")
    return Photos(store, torch.from_numpy(classes), identities)


def open_run(run: Path, config: Config, *, resume: bool) -> None:
    """Make the folder of a run and write its configuration, or check that it is the one to continue.

    Raises `UserError` if a new run's folder holds a run already, or if one to continue doesn't or was configured otherwise.
    """
    written = run / "config.yaml"
    if not resume:
        if written.exists():
            raise UserError(f"{run}: holds a run already; continue it with --resume, or name another folder")
    elif not written.exists():
        raise UserError(f"{run}: no run to resume here (no config.yaml)")
    else:
        before, now = _flat(to_dict(load(written))), _flat(to_dict(config))
        changed = [key for key in now if before.get(key) != now[key] and not key.startswith(FREE)]
        if changed:
            key = changed[0]
            raise UserError(f"{run}: was started with {key} = {before.get(key)}, not {now[key]}; that cannot change midway")
    run.mkdir(parents=True, exist_ok=True)
    part = run / ".config.yaml.part"
    part.write_text(to_yaml(config))
    part.replace(written)


def computed(config: Config, *sections: str) -> dict[str, object]:
    """The values of the configuration's `sections` on which the numbers of a run depend, by key path."""
    flat = _flat(to_dict(from_dict(to_dict(config))))
    return {key: value for key, value in flat.items() if key.startswith(sections) and not key.startswith(FREE)}


def _flat(tree: dict[str, object], path: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat
