"""What the page looks for people in: a gallery, or the photos of folders, embedded when it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dgnet.datasets.folders import images_among
from dgnet.gallery.embedding import embedded, left_out
from dgnet.images.pieces import Piece
from dgnet.model import Model
from dgnet.retrieval.decision import Threshold
from dgnet.retrieval.exact import best
from dgnet.retrieval.matches import Match


class Searched(Protocol):
    """Photos that can be searched: a `dgnet.gallery.gallery.Gallery`, or a `Folder`."""

    def __len__(self) -> int: ...

    def search(self, query: Tensor, top: int, *, threshold: Threshold | None) -> list[Match]:
        """The photos most like a feature [1, D], best first."""

    def pieces(self) -> Sequence[Piece]:
        """All photos."""


class Folder:
    """The photos of folders. Raises UserError where there are none; those that cannot be read are told and left out."""

    def __init__(self, model: Model, places: Sequence[str | Path]) -> None:
        paths = images_among(places)
        read = list(embedded(model, [Piece(path) for path in paths], "skip", "embedding the photos"))
        left_out([line for batch in read for line in batch.told], len(paths))
        self.photos = [Piece(paths[place]) for batch in read for place in batch.places]
        self.features = torch.cat([batch.features for batch in read])

    def __len__(self) -> int:
        return len(self.photos)

    def search(self, query: Tensor, top: int, *, threshold: Threshold | None) -> list[Match]:
        score, place = best(query, self.features, top)
        return [
            Match(rank, str(self.photos[at].path), value, None if threshold is None else threshold.decide(value))
            for rank, (value, at) in enumerate(zip(score[0].tolist(), place[0].tolist(), strict=True), start=1)
        ]

    def pieces(self) -> Sequence[Piece]:
        return self.photos


class Shown:
    """Numbers for the photos that the page was shown: it may ask for these again, and for nothing else on the disk."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._numbers: dict[Piece, int] = {}

    def number(self, piece: Piece) -> int:
        if piece not in self._numbers:
            self._numbers[piece] = len(self._pieces)
            self._pieces.append(piece)
        return self._numbers[piece]

    def piece(self, number: int) -> Piece | None:
        return self._pieces[number] if 0 <= number < len(self._pieces) else None


def piece_of(match: Match) -> Piece:
    """The photo, or the box of a frame, that a match is of."""
    box = match.about.get("box")
    return Piece(Path(match.name), None if not box else tuple(box))
