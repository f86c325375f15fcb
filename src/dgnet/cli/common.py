"""What several commands share: an exit code, saying what was written, refusing what means nothing together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dgnet import console
from dgnet.errors import UserError

INTERRUPTED = 130  # exit code of a run that was asked to stop


def written(path: Path) -> int:
    console.stdout.print(f"written: {path}")
    return 0


def refuse(main: str, others: Mapping[str, Any]) -> None:
    """Raise UserError where something is asked for that means nothing beside `main`."""
    given = [option for option, value in others.items() if value not in (None, False, (), 0)]
    if given:
        raise UserError(f"{main} with {given[0]}: {given[0]} means nothing there; leave one of them out")
