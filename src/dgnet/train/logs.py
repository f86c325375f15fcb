"""The log of a run: JSON lines always, TensorBoard as well if asked for. The log holds the terms, the weights and their sum,
so what is plotted is what was minimised."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dgnet.errors import UserError


class Log:
    """Appends to RUN/log.jsonl. Continuing after iteration n drops the lines that a lost stretch of training left behind."""

    def __init__(self, run: Path, after: int, *, tensorboard: bool = False) -> None:
        self.path = run / "log.jsonl"
        kept = [line for line in read(self.path) if line["iteration"] <= after]
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text("".join(json.dumps(line) + "\n" for line in kept))
        part.replace(self.path)
        self.file = self.path.open("a", buffering=1)
        self.board = _tensorboard(run) if tensorboard else None

    def write(self, line: dict[str, Any]) -> None:
        """One line; `line["iteration"]` is its place in time, numbers and groups of numbers are plotted."""
        self.file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in line.items():
                for key, number in value.items() if isinstance(value, dict) else [("", value)]:
                    self.board.add_scalar(f"{name}/{key}".rstrip("/"), number, line["iteration"])

    def close(self) -> None:
        os.fsync(self.file.fileno())
        self.file.close()
        if self.board is not None:
            self.board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, without a last one that was cut off by the death of its writer; none if there is no file."""
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            lines.append(json.loads(text))
        except ValueError:
            if text.endswith("}"):
                raise UserError(f"{path}, line {number}: not JSON; move the file away to go on without it") from None
    return lines


def _tensorboard(run: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("train.tensorboard is on, but TensorBoard is missing: pip install dgnet[log]") from None
    return SummaryWriter(str(run / "tensorboard"))  # type: ignore[no-untyped-call]
