"""The one exception that is meant for the user's eyes, and what it suggests for a word that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user gave is not usable.

    Its text is one line that names the file, key or value and says what would be right. The command line prints that
    line alone, without a traceback, and exits with code 2.
    """


def at_least(least: int, **numbers: int) -> None:
    """Raise `UserError` naming the first of these numbers that is smaller."""
    for name, number in numbers.items():
        if number < least:
            raise UserError(f"{name} = {number}: {least} or more would be right")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Which of the known words was probably meant, if any is like it."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.5)), None)
