"""The one place that talks to the terminal: progress bars, tables, notices. Quiet bars where there is no terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence

from rich.box import HEAVY_HEAD, SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text


class _Speed(ProgressColumn):
    """Steps per second, in the stage's own unit."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self.unit}/s")


# What is printed often comes from outside: names, paths, messages. None of it is ever taken for markup.
stdout = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def notice(text: str) -> None:
    """One line of information on standard error."""
    stderr.print(text)


def warn(text: str) -> None:
    """One line of warning on standard error."""
    stderr.print(Text("warning: ", "yellow"), end="")
    stderr.print(text)


def failed(text: str) -> None:
    """The one line of an error on standard error, whichever process it is."""
    stderr.quiet = False  # as it is in all processes but the first
    stderr.print(Text("error: ", "red"), end="")
    stderr.print(text)


def print_anything() -> None:
    """Let the terminal show what it has no letters for, such as file names that are not UTF-8, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def progress(*, speed_unit: str = "it", quiet: bool = False) -> Progress:
    """A progress bar for one long stage: description, done/total, speed, remaining time and a free `note` field.

    Use as a context manager; pass `note=""` to `add_task` and update it with `update(task, note="loss 1.23")`.
    On a terminal only, and not for what is over at once (`quiet`); elsewhere stages report through `notice`.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Speed(speed_unit),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=stderr,
        disable=quiet or not stderr.is_terminal,
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, plain: bool = False) -> Table:
    """A table with a left-aligned first column and right-aligned figures; print it with `stdout.print`.

    `plain` ones have no frame, for many columns on a narrow terminal.
    """
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE if plain else HEAVY_HEAD)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        made.add_row(*row)
    return made
