"""What several commands share: an exit code, telling what was written or found, refusing what makes no sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from dgnet import console
from dgnet.errors import UserError

if TYPE_CHECKING:
    from dgnet.model import Model
    from dgnet.retrieval.matches import Match

INTERRUPTED = 130  # exit code of a run that was asked to stop

# What stands first in a command, as its help calls it.
Weights = Annotated[Positional[Path], arg(metavar="MODEL")]
Out = Annotated[Positional[Path], arg(metavar="OUT")]
Run = Annotated[Positional[Path], arg(metavar="RUN")]
Photo = Annotated[Positional[Path], arg(metavar="PHOTO")]


def written(path: Path) -> int:
    console.stdout.print(f"written: {path}")
    return 0


def tell_matches(
    matches: Sequence[Match], query: Sequence[Path], model: Model, json: Path | None, sheet: Path | None, **about: Any
) -> int:
    """Print what a search has found; write it to files that are wanted, `about` into the JSON file, too."""
    from dgnet.retrieval.matches import lines, save_json

    threshold = model.threshold
    for line in lines(matches, threshold):
        console.stdout.print(line)
    if json is not None:
        told = None if threshold is None else threshold.to_dict()
        save_json(json, matches, query=[str(path) for path in query], threshold=told, **about)
    if sheet is not None:
        from dgnet.gallery.sheet import save_matches

        save_matches(sheet, query, matches, model.size)
        written(sheet)
    return 0


def refuse(main: str, others: Mapping[str, Any]) -> None:
    """Raise UserError where something is asked for that means nothing beside `main`."""
    given = [option for option, value in others.items() if value not in (None, False, (), 0)]
    if given:
        raise UserError(f"{main} with {given[0]}: {given[0]} means nothing there; leave one of them out")
