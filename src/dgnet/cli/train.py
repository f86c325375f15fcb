"""`dgnet train`: a teacher, or DG-Net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from tyro.conf import Positional, UseAppendAction

from dgnet.cli.common import INTERRUPTED, written
from dgnet.errors import UserError

if TYPE_CHECKING:
    from dgnet.config import Config

app = tyro.extras.SubcommandApp()


@app.command
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
    from dgnet.datasets.read import of_config
    from dgnet.device import device_named
    from dgnet.train import distributed
    from dgnet.train.baseline import train_baseline

    place = distributed.start(device_named(device))  # before anything is said: only the first process talks
    chosen = _run_config(run, config, overrides, resume=resume)
    file = train_baseline(chosen, of_config(chosen.data, "train", recorded=resume), run, place, resume=resume)
    return _finished(file)


@app.command
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
    from dgnet.datasets.read import of_config
    from dgnet.device import device_named
    from dgnet.train import distributed
    from dgnet.train.joint import train_joint

    place = distributed.start(device_named(device))  # before anything is said: only the first process talks
    chosen = _run_config(run, config, overrides, resume=resume)
    file = train_joint(
        chosen,
        of_config(chosen.data, "train", recorded=resume),
        run,
        list(teacher),
        place,
        resume=resume,
    )
    return _finished(file)


def _run_config(run: Path, config: str | None, overrides: Sequence[str], *, resume: bool) -> Config:
    from dgnet import config as configuration

    if not resume:
        return configuration.load(config or "market1501", overrides)
    if config:
        raise UserError(f"--config {config}: a resumed run keeps its own, {run}/config.yaml; leave --config out")
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: no run to resume here (no config.yaml)")
    return configuration.load(run / "config.yaml", overrides)


def _finished(file: Path | None) -> int:
    return written(file) if file else INTERRUPTED
