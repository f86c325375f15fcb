"""The log of a run: JSON lines always, TensorBoard as well if asked for.

It holds the terms, the weights and their sum, so what is plotted is what was minimised.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from dgnet import console
from dgnet.errors import UserError
from dgnet.files import replacing
from dgnet.logline import LogLine

OnLine = Callable[[LogLine], object]
"""Is given every line once it is in the file, in the first process; what it returns is not looked at.

Lines that a killed run had written and lost with its last stretch come again when it is resumed, with the same
`iteration`. What it raises is told once, and the training goes on: a tracker that cannot be reached costs no run.
"""


class Log:
    """Appends to RUN/log.jsonl. Continuing after iteration n drops the lines of a stretch of training that was lost."""

    def __init__(self, run: Path, after: int, *, tensorboard: bool = False, on_line: OnLine | None = None) -> None:
        self.path, self.on_line, self._failed = run / "log.jsonl", on_line, False
        kept = [line for line in read(self.path) if line["iteration"] <= after]
        try:
            with replacing(self.path) as part:
                part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error
        self.board = summary_writer()(str(run / "tensorboard"), purge_step=after + 1) if tensorboard else None

    def write(self, line: LogLine) -> None:
        """One line; `line["iteration"]` is its place in time, numbers and groups of numbers are plotted.

        Raises `UserError` if the disk is full.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._unwritable(error) from error
        if self.board is not None:
            for name, number in numbers(line).items():
                self.board.add_scalar(name, number, line["iteration"])
            self.board.flush()
        if self.on_line is not None:
            try:
                self.on_line(line)
            except Exception as error:  # whatever a tracker may raise
                if not self._failed:
                    console.warn(f"on_line: {type(error).__name__}: {error}; the training goes on, as does {self.path}")
                self._failed = True

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"{self.path}: cannot be written ({error}); free some space or choose another run folder")


def numbers(line: LogLine) -> dict[str, float]:
    """What a line plots, by name; groups are written as paths.

    Examples:
        >>> numbers({"iteration": 10, "total": 3.5, "seconds": 0.1, "terms": {"image": 0.25}})
        {'iteration': 10, 'total': 3.5, 'seconds': 0.1, 'terms/image': 0.25}
    """
    made: dict[str, float] = {}
    for name, value in line.items():
        made |= {f"{name}/{key}": number for key, number in value.items()} if isinstance(value, dict) else {name: value}  # type: ignore[dict-item]
    return made


def read(path: Path) -> list[LogLine]:
    """The lines of a log, without a last one that was cut off by the death of its writer; none if there is no file.

    Raises `UserError` that names a line which is not JSON, or holds something else than a line of a log.
    """
    lines: list[LogLine] = []
    texts = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not JSON; move the file away to go on without it") from error
        if flaw := _flaw(line):
            raise UserError(f"{path}, line {number}: {flaw}; move the file away to go on without it")
        lines.append(line)
    return lines


def _flaw(line: Any) -> str:
    """What keeps a JSON value from being a `LogLine`, beyond what it lacks; empty where nothing does."""
    if not isinstance(line, dict):
        return f"{str(line)[:40]!r} is no line of a log"
    if not isinstance(line.get("iteration"), int):
        return f"iteration is {line.get('iteration')!r}, not a whole number"
    for key, kind in get_type_hints(LogLine).items():
        grouped = get_origin(kind) is dict
        value = line.get(key, {} if grouped else 0)
        if grouped and not isinstance(value, dict):
            return f"{key} is {value!r}, not a group of numbers"
        for number in value.values() if grouped else [value]:
            if not isinstance(number, int | float):
                return f"{key} holds {number!r}, not a number"
    return ""


def summary_writer() -> Any:
    """TensorBoard's writer, a class. Raises `UserError` if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("train.tensorboard is on, but TensorBoard is missing: pip install dgnet[log]") from error
    return SummaryWriter
