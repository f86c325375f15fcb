"""`dgnet study`: a table of trainings, times seeds."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from dgnet import console
from dgnet.cli.common import INTERRUPTED, written


def study(file: Positional[Path], runs: Path | None = None, dry_run: bool = False, device: str = "auto") -> int:
    """Train a table of rows times seeds, evaluate them, and compare them with one row (docs/studies.md).

    The same command goes on with a study that was stopped; what is finished is kept.

    Args:
        file: the YAML file that says what is trained, and what is compared with what
        runs: folder of the runs and of what comes of them; by default named after the file
        dry_run: check everything and print the commands that it comes to; nothing is written
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.study.plan import read_study
    from dgnet.study.run import commands, run_study

    chosen = read_study(file, runs)
    if dry_run:
        for line in commands(chosen):
            console.stdout.print(line)
        return 0
    outcome = run_study(chosen, device)
    if outcome is None:
        console.notice("the study goes on with the same command")
        return INTERRUPTED
    for table in outcome.tables():
        console.stdout.print(table)
    for path in outcome.save():
        written(path)
    return 0
