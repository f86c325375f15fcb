"""What several commands share: finding the data set, loading a model, saying what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dgnet import console
from dgnet.config import Config
from dgnet.errors import UserError

if TYPE_CHECKING:
    from dgnet.datasets.records import Dataset
    from dgnet.models.dgnet import DGNet
    from dgnet.models.teacher import Baseline
    from dgnet.weights.files import Loaded

INTERRUPTED = 130  # exit code of a run that was asked to stop


def dataset(
    config: Config, *splits: str, root: Path | None = None, layout: str = "auto", option: str = "data.root=FOLDER"
) -> Dataset:
    """Of the folder `root`, by default the one that the configuration names; `option` is how a user names one."""
    from dgnet.datasets.read import read_dataset
    from dgnet.datasets.records import join

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


def load(weights: Path, device: str) -> Loaded[DGNet] | Loaded[Baseline]:
    from dgnet.device import device_named
    from dgnet.weights.files import load_any

    return load_any(weights, device_named(device))


def written(path: Path) -> int:
    console.stdout.print(f"written: {path}", markup=False)
    return 0
