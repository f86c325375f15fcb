"""Where the photos are, and how they are shown to the networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from dgnet.config.values import STRICT, Fraction, yes_or_no


@dataclass(frozen=True, config=STRICT)
class Augmentation:
    """What makes photos harder for the identity losses alone, beside random erasing: probabilities, off by default."""

    colour_jitter: Fraction = 0.0
    """Brightness, contrast and saturation of a photo, each times 0.8 to 1.2."""
    local_grayscale: Fraction = 0.0
    """A rectangle of a photo without its colours."""
    random_patch: Fraction = 0.0
    """A rectangle of another photo of the batch, pasted over this one."""


@dataclass(frozen=True, config=STRICT)
class Data:
    """Where the photos are and how they are shown to the networks."""

    root: str = ""
    """Folder of the data set."""
    layout: str = "auto"
    """How the folder is laid out: docs/datasets.md lists the known layouts; `auto` looks."""
    join: tuple[str, ...] = ()
    """More folders (or `layout=folder`) whose training images are joined to it; people of different sets stay apart."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the people held out of the training, as query and gallery: for data that have no test of their own."""
    holdout_seed: Annotated[int, Field(ge=0)] = 0
    """Decides who is held out."""
    height: Annotated[int, Field(ge=16, multiple_of=4)] = 256
    """Rows of every image that the networks see; a multiple of 4, since the structure code is up to 4 times smaller."""
    width: Annotated[int, Field(ge=16, multiple_of=4)] = 128
    """Columns, likewise."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip in training."""
    pad: Annotated[int, Field(ge=0)] = 10
    """Pixels by which edges are repeated before the random crop back to size."""
    erasing: Fraction = 0.5
    """Probability of random erasing, with the mean; it touches only the identity losses on real images."""
    augment: Augmentation = Augmentation()
    """More of that kind."""
    cache: str | None = None
    """Folder for decoded images (uint8, memory-mapped); none: they are kept in memory."""
    on_device: Annotated[Literal["auto", "yes", "no"], BeforeValidator(yes_or_no)] = "no"
    """Keep the training photos, a byte per pixel and colour, in the memory of the device that trains; `auto`: if it is
    a GPU and they take at most a quarter of what is free there."""
    on_unreadable: Literal["error", "skip"] = "error"
    """What to do with an image that cannot be decoded: stop and name it, or name it and go on without it."""
