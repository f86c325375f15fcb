"""`dgnet train`: a baseline, such as a teacher, or DG-Net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from tyro.conf import Positional, UseAppendAction

from dgnet.cli.common import INTERRUPTED, Run, written
from dgnet.errors import UserError

if TYPE_CHECKING:
    from dgnet.config import Config

app = tyro.extras.SubcommandApp()


@app.command
def teacher(
    run: Run,
    overrides: Positional[tuple[str, ...]] = (),
    config: str | None = None,
    resume: Literal["no", "yes", "auto"] = "no",
    device: str = "auto",
) -> int:
    """Train a teacher on real images; writes RUN/teacher.safetensors.

    Args:
        run: folder of the run
        overrides: changes to the configuration, such as data.root=Market-1501 teacher.epochs=30
        config: a preset or a YAML file; by default market1501. A run that is resumed keeps its own
        resume: continue this run from its newest checkpoint; auto: start it where there is none
        device: auto, cpu, cuda or cuda:N
    """
    return _train_baseline(run, overrides, config, "market1501", resume, device)


@app.command
def baseline(
    run: Run,
    overrides: Positional[tuple[str, ...]] = (),
    config: str | None = None,
    resume: Literal["no", "yes", "auto"] = "no",
    device: str = "auto",
) -> int:
    """Train a strong re-ID network without a generator; writes RUN/teacher.safetensors, which is a teacher, too.

    Args:
        run: folder of the run
        overrides: changes to the configuration, such as data.root=Market-1501 teacher.epochs=60
        config: a preset (baseline, small, or any other) or a YAML file; by default baseline. A run that is
            resumed keeps its own
        resume: continue this run from its newest checkpoint; auto: start it where there is none
        device: auto, cpu, cuda or cuda:N
    """
    return _train_baseline(run, overrides, config, "baseline", resume, device)


def _train_baseline(
    run: Path,
    overrides: Sequence[str],
    config: str | None,
    default: str,
    resume: Literal["no", "yes", "auto"],
    device: str,
) -> int:
    from dgnet.datasets.read import of_config
    from dgnet.device import device_named
    from dgnet.train import distributed
    from dgnet.train.baseline import train_baseline

    place = distributed.start(device_named(device))  # before anything is said: only the first process talks
    chosen, again = _run_config(run, config, default, overrides, resume)
    file = train_baseline(chosen, of_config(chosen.data, "train", recorded=again), run, place, resume=again)
    return _finished(file)


@app.command
def joint(
    run: Run,
    overrides: Positional[tuple[str, ...]] = (),
    teacher: UseAppendAction[tuple[Path, ...]] = (),
    config: str | None = None,
    resume: Literal["no", "yes", "auto"] = "no",
    device: str = "auto",
) -> int:
    """Train DG-Net; writes RUN/model.safetensors. Several GPUs: torchrun --nproc-per-node N -m dgnet train joint ...

    Args:
        run: folder of the run
        overrides: changes to the configuration, such as data.root=Market-1501 train.precision=bfloat16
        teacher: weights of a teacher; several are averaged; a run that is resumed knows its own
        config: a preset or a YAML file; by default market1501. A run that is resumed keeps its own
        resume: continue this run from its newest checkpoint; auto: start it where there is none
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.datasets.read import of_config
    from dgnet.device import device_named
    from dgnet.train import distributed
    from dgnet.train.joint import train_joint

    place = distributed.start(device_named(device))  # before anything is said: only the first process talks
    chosen, again = _run_config(run, config, "market1501", overrides, resume)
    file = train_joint(
        chosen,
        of_config(chosen.data, "train", recorded=again),
        run,
        list(teacher),
        place,
        resume=again,
    )
    return _finished(file)


def _run_config(
    run: Path, config: str | None, default: str, overrides: Sequence[str], resume: Literal["no", "yes", "auto"]
) -> tuple[Config, bool]:
    """The configuration, and whether a run is continued. The same command, with auto, starts a run and continues it."""
    from dgnet import config as configuration

    begun = (run / "config.yaml").is_file()
    if resume == "no" or (resume == "auto" and not begun):
        return configuration.load(config or default, overrides), False
    if config and resume == "yes":
        raise UserError(f"--config {config}: a resumed run keeps its own, {run}/config.yaml; leave --config out")
    if not begun:
        raise UserError(f"{run}: no run to resume here (no config.yaml)")
    return configuration.load(run / "config.yaml", overrides), True


def _finished(file: Path | None) -> int:
    return written(file) if file else INTERRUPTED
