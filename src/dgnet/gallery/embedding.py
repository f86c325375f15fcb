"""From photos on disk to features, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dgnet import console, processes
from dgnet.images.pieces import Piece, Unreadable, read


class Embedder(Protocol):
    """What makes features: a `dgnet.Model`."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photos that it sees."""

    @property
    def batch(self) -> int:
        """Photos that it sees at once."""

    def embed(self, images: Tensor, /) -> Tensor:
        """uint8 [n, H, W, 3] to float32 [n, D] on the CPU, rows of length 1."""


class Embedded(NamedTuple):
    """A batch of features."""

    places: list[int]
    """Of the pieces [n], rising; those that could not be read are not among them."""
    features: Tensor
    """[n, D]"""
    told: list[str]
    """A line for each that could not be read."""


def embedded(
    model: Embedder, pieces: Sequence[Piece], on_unreadable: Unreadable = "error", what: str = "features"
) -> Iterator[Embedded]:
    """Features of all pieces, in order, batch by batch; with a bar that counts them.

    Raises UserError, with `error`, for the first that cannot be read.
    """
    with console.progress(speed_unit="images", quiet=len(pieces) <= model.batch) as bar:
        task = bar.add_task(what, total=len(pieces), note="")
        for start in range(0, len(pieces), model.batch):
            some = pieces[start : start + model.batch]
            pixels, kept, told = read(some, *model.size, on_unreadable)
            yield Embedded([start + place for place in kept], model.embed(pixels), told)
            bar.advance(task, len(some))


def embedded_photos(
    model: Embedder,
    paths: Sequence[Path],
    on_unreadable: Unreadable = "error",
    what: str = "features",
    *,
    shared: bool = False,
) -> tuple[list[Path], Tensor]:
    """The photos that can be read, and their features [n, D]; the others are told. Raises as `embedded`.

    With `shared`, the processes of torchrun share the photos, and all of them must ask: the first gets all, the others
    nothing.
    """
    mine = processes.share(len(paths), model.batch) if shared else slice(0, len(paths))

    def own() -> list[Embedded]:
        made = embedded(model, [Piece(path) for path in paths[mine]], on_unreadable, what)
        return [Embedded([mine.start + place for place in some.places], *some[1:]) for some in made]

    read = [some for each in (processes.together(own) if shared else [own()]) for some in each]
    if not read:
        return [], torch.empty(0, 0)
    left_out([line for batch in read for line in batch.told], len(paths))
    return [paths[place] for batch in read for place in batch.places], torch.cat([batch.features for batch in read])


def left_out(told: Sequence[str], of: int) -> None:
    """Say what could not be read, if anything."""
    if told:
        few = "; ".join(told[:20]) + "; ..." * (len(told) > 20)
        console.warn(f"left out {len(told)} of {of} images, which cannot be read: {few}")
