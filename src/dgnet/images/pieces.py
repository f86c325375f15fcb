"""Many photos, or people in boxes of frames, read at once into one size; those that cannot be read are named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgnet.errors import UserError
from dgnet.images.decode import decode, resize
from dgnet.images.inputs import crop
from dgnet.pixels import Pixels

Unreadable = Literal["error", "skip"]


class Piece(NamedTuple):
    """A photo, or the part of one that a box holds: x1, y1, x2, y2 in pixels."""

    path: Path
    box: tuple[float, float, float, float] | None = None


def read(
    pieces: Sequence[Piece], height: int, width: int, on_unreadable: Unreadable = "error"
) -> tuple[Tensor, list[int], list[str]]:
    """Pieces scaled (bicubic) to one size; a frame is decoded once for all of its boxes that follow each other.

    Returns:
        uint8 [n, height, width, 3], the places [n] in `pieces` of what could be read, and a line for each that could
        not (none with `error`).

    Raises:
        UserError: with `error`, what is wrong with the first that cannot be read.
    """
    frames = [list(group) for _, group in groupby(range(len(pieces)), key=lambda place: pieces[place].path)]
    rows: list[Pixels] = []
    kept: list[int] = []
    told: list[str] = []

    def attempt(places: list[int]) -> list[Pixels | UserError]:
        try:
            frame = decode(pieces[places[0]].path)
        except UserError as error:
            return [error] * len(places)
        return [_part(frame, pieces[place], height, width) for place in places]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for places, found in zip(frames, pool.map(attempt, frames), strict=True):
            for place, part in zip(places, found, strict=True):
                if not isinstance(part, UserError):
                    rows.append(part)
                    kept.append(place)
                elif on_unreadable == "error":
                    raise part
                else:
                    told.append(str(part))
    pixels = np.stack(rows) if rows else np.empty((0, height, width, 3), np.uint8)
    return torch.from_numpy(pixels), kept, told


def _part(frame: Pixels, piece: Piece, height: int, width: int) -> Pixels | UserError:
    if piece.box is None:
        return resize(frame, height, width)
    try:
        return resize(crop(frame, [piece.box])[0], height, width)
    except UserError as error:
        return UserError(f"{piece.path}: {error}")
