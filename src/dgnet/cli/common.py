"""What several commands share: finding the data set, loading a model, saying what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dgnet import console

if TYPE_CHECKING:
    from dgnet.models.dgnet import DGNet
    from dgnet.models.teacher import Baseline
    from dgnet.weights.files import Loaded

INTERRUPTED = 130  # exit code of a run that was asked to stop


def load(weights: Path, device: str) -> Loaded[DGNet] | Loaded[Baseline]:
    from dgnet.device import device_named
    from dgnet.weights.files import load_any

    return load_any(weights, device_named(device))


def written(path: Path) -> int:
    console.stdout.print(f"written: {path}")
    return 0
