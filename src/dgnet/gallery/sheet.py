"""Matches as one picture: the query, and what was found in its order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dgnet.images import sheets
from dgnet.images.inputs import Photo, Photos
from dgnet.images.pieces import Piece, read
from dgnet.retrieval.matches import Match

ACROSS = 10


def save_matches(path: Path, query: Sequence[Photo], matches: Sequence[Match], size: tuple[int, int]) -> None:
    """Write a contact sheet (.png or .jpg): the query's photos on top, below them the matches, ten in a row.

    Args:
        path: where to.
        query: photos of the person who was looked for; ten of them are shown.
        matches: what was found; a photo that is no longer there stays white.
        size: height and width of a picture.
    """
    blank = np.full((*size, 3), 255, np.uint8)
    cells = list(Photos(list(query[:ACROSS]), *size).all().numpy())
    cells += [blank] * (ACROSS - len(cells))
    for match in matches:
        box = match.about.get("box")
        pixels, kept, _ = read([Piece(Path(match.name), tuple(box) if box else None)], *size, "skip")
        cells.append(pixels[0].numpy() if kept else blank)
    cells += [blank] * (-len(cells) % ACROSS)
    sheets.save(path, sheets.sheet(np.stack(cells).reshape(-1, ACROSS, *size, 3), gutter=4))
