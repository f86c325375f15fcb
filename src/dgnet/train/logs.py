"""The log of a run: JSON lines always, TensorBoard as well if asked for.

It holds the terms, the weights and their sum, so what is plotted is what was minimised.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dgnet.errors import UserError
from dgnet.files import replacing
from dgnet.logline import LogLine


class Log:
    """Appends to RUN/log.jsonl. Continuing after iteration n drops the lines of a stretch of training that was lost."""

    def __init__(self, run: Path, after: int, *, tensorboard: bool = False) -> None:
        self.path = run / "log.jsonl"
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
            for name, value in line.items():
                for key, number in value.items() if isinstance(value, dict) else [("", value)]:
                    self.board.add_scalar(f"{name}/{key}".rstrip("/"), number, line["iteration"])
            self.board.flush()

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"{self.path}: cannot be written ({error}); free some space or choose another run folder")


def read(path: Path) -> list[LogLine]:
    """The lines of a log, without a last one that was cut off by the death of its writer; none if there is no file.

    Raises `UserError` that names a line which is not JSON.
    """
    lines: list[LogLine] = []
    texts = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON; move the file away to go on without it") from error
        if not isinstance(lines[-1], dict) or "iteration" not in lines[-1]:
            raise UserError(f"{path}, line {number}: no line of a log; move the file away to go on without it")
    return lines


def summary_writer() -> Any:
    """TensorBoard's writer, a class. Raises `UserError` if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("train.tensorboard is on, but TensorBoard is missing: pip install dgnet[log]") from error
    return SummaryWriter
