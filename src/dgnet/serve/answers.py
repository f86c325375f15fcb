"""What the page asks of a model, as values that JSON can hold; pictures are data URIs. Nothing here knows of HTTP."""

from __future__ import annotations

import base64
import io
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dgnet.errors import UserError
from dgnet.images import pieces
from dgnet.images.decode import decode_bytes, resize
from dgnet.images.pieces import Piece
from dgnet.model import Model
from dgnet.pixels import Pixels
from dgnet.serve.searched import Searched, Shown, piece_of

STEPS = 13  # of an interpolation
MOST = 60  # answers to a search, at most
KINDS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "WebP": b"RIFF"}
"""The photos that are taken, and how their files begin: anything else is refused before it is decoded."""


class Upload(NamedTuple):
    """A file as a browser sent it."""

    data: bytes
    name: str


class Answers:
    """One model, and what it searches; used by one thread at a time."""

    def __init__(self, model: Model, searched: Searched | None = None) -> None:
        self.model, self.searched, self.shown = model, searched, Shown()

    def about(self) -> dict[str, Any]:
        """What the page can offer."""
        height, width = self.model.size
        threshold = self.model.threshold
        return {
            "model": self.model.name,
            "notice": self.model.knows_only,
            "generates": self.model.generates,
            "size": f"{height} × {width} pixels",
            "device": str(self.model.device),
            "photos": 0 if self.searched is None else len(self.searched),
            "threshold": None
            if threshold is None
            else f"decided at {threshold.value:.3f}: {threshold.far:g} false accepts on {threshold.data}",
        }

    def pair(self, a: Upload, b: Upload) -> dict[str, Any]:
        """Two photos: how alike, where that comes from, and each in the other's clothes."""
        photos = self._photos(a, b)
        explained = self.model.explain(photos[:1], photos[1:])
        said = self.model.same(photos[:1], photos[1:])
        answer: dict[str, Any] = {
            "photos": _uris(photos),
            "shares": _uris(torch.cat(explained.painted())),
            "score": said.score,
            "same": said.answer,
        }
        if self.model.generates:
            answer["swaps"] = _uris(self.model.swap(photos, photos.flip(0), as_tensor=True))
        return answer

    def interpolation(self, a: Upload, b: Upload, of: str) -> dict[str, Any]:
        """From the clothes, or the pose, of the first photo to those of the second, in STEPS pictures."""
        if of not in ("appearance", "structure"):
            raise UserError(f"of = {of[:40]!r}: 'appearance' or 'structure' would be right")
        moving: Literal["appearance", "structure"] = of  # type: ignore[assignment]
        photos = self._photos(a, b)
        strip = self.model.interpolate(photos[:1], photos[1:], moving, steps=STEPS, as_tensor=True)
        return {"pictures": _uris(strip[0])}

    def search(self, query: Upload, top: int) -> dict[str, Any]:
        """The photos most like one, best first."""
        if not 1 <= top <= MOST:
            raise UserError(f"top is {top}: 1 to {MOST} would be right")
        searched = self._searched()
        feature = self.model.embed(self._photos(query))
        matches = searched.search(feature, top, threshold=self.model.threshold)
        found = [
            {"place": match.place, "score": match.score, "same": match.same, **self._told(piece_of(match))}
            for match in matches
        ]
        return {"matches": found, "of": len(searched)}

    def explanation(self, query: Upload, number: int) -> dict[str, Any]:
        """Where the likeness of a photo and of a match that was shown comes from."""
        both = torch.cat([self._photos(query), self._read(number)])
        explained = self.model.explain(both[:1], both[1:])
        return {"shares": _uris(torch.cat(explained.painted())), "score": float(explained.score[0])}

    def named(self, text: str, most: int = 6) -> dict[str, Any]:
        """The first photos of the gallery whose name holds `text`."""
        wanted = text.strip().casefold()
        found = (piece for piece in self._searched().pieces() if wanted in piece.path.name.casefold())
        return {"photos": [self._told(piece) for piece in islice(found, most if wanted else 0)]}

    def picture(self, number: int) -> bytes:
        """A photo that was shown, as the network sees it: a PNG."""
        return _png(self._read(number)[0])

    def _searched(self) -> Searched:
        if self.searched is None:
            raise UserError("nothing to search: start the page with --gallery FOLDER or --images FOLDER")
        return self.searched

    def _told(self, piece: Piece) -> dict[str, Any]:
        """Number, name and picture of a photo of the gallery; no picture where it can no longer be read."""
        read, _, told = pieces.read([piece], *self.model.size, on_unreadable="skip")
        picture = None if told else _uri(read[0])
        return {"number": self.shown.number(piece), "name": piece.path.name, "picture": picture}

    def _read(self, number: int) -> Tensor:
        piece = self.shown.piece(number)
        if piece is None:
            raise UserError(f"photo {number}: not one that this page was shown; search again")
        return pieces.read([piece], *self.model.size)[0]

    def _photos(self, *uploads: Upload) -> Tensor:
        """uint8 [N, H, W, 3] at the network's size."""
        return torch.from_numpy(np.stack([resize(decoded(upload), *self.model.size) for upload in uploads]))


def decoded(upload: Upload) -> Pixels:
    """The photo in a file [H, W, 3]. Raises UserError for what is no photo of a kind that is taken."""
    kind = next((kind for kind, start in KINDS.items() if upload.data.startswith(start)), None)
    if kind is None or (kind == "WebP" and upload.data[8:12] != b"WEBP"):
        *others, last = KINDS
        raise UserError(f"{upload.name}: not a {', '.join(others)} or {last} photo")
    return decode_bytes(upload.data, upload.name)


def _uris(pictures: Tensor) -> list[str]:
    return [_uri(picture) for picture in pictures]


def _uri(picture: Tensor) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(picture)).decode()


def _png(picture: Tensor) -> bytes:
    """uint8 [H, W, 3] as a file without loss: what a generator paints is not blurred by how it is sent."""
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, "PNG")
    return file.getvalue()
