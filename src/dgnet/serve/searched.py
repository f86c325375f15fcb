"""What the page looks for people in: a gallery, or the photos of folders, embedded when it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from dgnet.datasets.folders import images_among
from dgnet.gallery.embedding import embedded_photos
from dgnet.images.pieces import Piece
from dgnet.model import Model
from dgnet.retrieval.decision import Threshold
from dgnet.retrieval.matches import Match, most_alike


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
        self.read, self.features = embedded_photos(model, paths, "skip", "embedding the photos")
        self.photos = list(map(Piece, self.read))

    def __len__(self) -> int:
        return len(self.photos)

    def search(self, query: Tensor, top: int, *, threshold: Threshold | None) -> list[Match]:
        return most_alike(query, self.features, self.read, top, threshold)

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
