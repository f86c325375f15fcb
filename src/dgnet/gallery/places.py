"""Where a gallery is kept: a folder, or Qdrant."""

from __future__ import annotations

from pathlib import Path

from dgnet.gallery.ask import Kept
from dgnet.gallery.gallery import Gallery
from dgnet.gallery.qdrant import QdrantGallery, is_address
from dgnet.gallery.store import Precision, Store


def open_gallery(place: str | Path) -> Kept:
    """The gallery in a folder, or at `qdrant://host:port/name`. Raises UserError where there is none."""
    return QdrantGallery(str(place)) if is_address(str(place)) else Gallery(place)


def open_or_create(
    place: str | Path, *, model: str, made_by: str, dimensions: int, precision: Precision = "float32"
) -> Kept:
    """The same; an empty one for this model where there is none. Raises UserError for the gallery of another model."""
    elsewhere = is_address(str(place))
    if QdrantGallery.begun(str(place)) if elsewhere else Store(place).begun:
        found = open_gallery(place)
        found.require(model, made_by)
        return found
    if elsewhere:
        return QdrantGallery.create(
            str(place), model=model, made_by=made_by, dimensions=dimensions, precision=precision
        )
    return Gallery.create(place, model=model, made_by=made_by, dimensions=dimensions, precision=precision)
