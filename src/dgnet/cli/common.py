"""What several commands share: an exit code, saying what was written."""

from __future__ import annotations

from pathlib import Path

from dgnet import console

INTERRUPTED = 130  # exit code of a run that was asked to stop


def written(path: Path) -> int:
    console.stdout.print(f"written: {path}")
    return 0
