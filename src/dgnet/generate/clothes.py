"""Clothes reliance: how much likeness a model loses when people change nothing but their clothes.

A generator paints each person three times: as it is, in someone else's clothes, and that someone. A model that goes by
clothes takes the second for another person; one that goes by shape hardly sees the change.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet import console
from dgnet.datasets.folders import images_in
from dgnet.datasets.records import Split
from dgnet.errors import UserError, at_least
from dgnet.files import expanded, occupied, replacing
from dgnet.generate import edit
from dgnet.images import sheets
from dgnet.models.dgnet import DGNet
from dgnet.retrieval.scores import unit

KINDS = ("own", "swapped", "other")
TABLE = "clothes.csv"
MOST = 1000  # people's photos, at most
_DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class Dressed:
    """Pictures uint8 [N, H, W, 3], in the order of the photos that they are made of."""

    own: Tensor
    """Everyone as they are."""
    swapped: Tensor
    """The same in someone else's clothes."""
    other: Tensor
    """Whose clothes these are."""
    photos: list[str]
    clothes: list[str]
    """The photos of `other`."""


@dataclass(frozen=True)
class Reliance:
    """What `reliance` measured: 0, nothing is lost with the clothes; 1, as much as if it were another person."""

    images: NDArray[np.float64]
    """Of each image [N]: the likeness lost, as a share of what another person lacks on average."""
    interval: tuple[float, float]
    """95 %, by bootstrap over images."""
    likeness: dict[str, float]
    """Mean cosine with the picture as it is, of that in other clothes and that of another person."""

    @property
    def mean(self) -> float:
        return float(self.images.mean())

    def figures(self) -> dict[str, Any]:
        return {
            "clothes_reliance": self.mean,
            "interval": list(self.interval),
            "images": len(self.images),
        } | self.likeness

    def table(self) -> Any:
        low, high = self.interval
        rows = [
            ["clothes reliance", f"{self.mean:.3f}", f"[{low:.3f}, {high:.3f}]"],
            *([f"likeness, {name.replace('_', ' ')}", f"{value:.3f}", ""] for name, value in self.likeness.items()),
        ]
        title = f"clothes reliance over {len(self.images)} images: 0 none lost, 1 taken for another person"
        return console.table(title, ["", "", "95 %"], rows)


def dressed(net: DGNet, photos: Split, height: int, width: int, *, most: int = MOST, seed: int = 0) -> Dressed:
    """Photos of people, painted as they are, in the clothes of someone of another identity, and that someone.

    All three are the generator's, so that its hand is no difference between them. Of more than `most` photos, so many
    are drawn at random. Raises UserError for photos of fewer than two people.
    """
    at_least(0, seed=seed)
    rng = np.random.default_rng(seed)
    proper = photos.subset(np.isin(photos.identities, photos.people))
    if len(proper.people) < 2:
        raise UserError(f"clothes reliance: photos of {len(proper.people)} identity; of 2 or more are needed")
    chosen = np.sort(rng.permutation(len(proper))[:most])
    wearers = np.array([rng.choice(np.flatnonzero(proper.identities != proper.identities[k])) for k in chosen])
    own, other = ([proper.paths[k] for k in places] for places in (chosen, wearers))
    of_own, of_other = edit.read(own, height, width), edit.read(other, height, width)
    return Dressed(
        edit.swap(net, of_own, of_own)[0],
        edit.swap(net, of_own, of_other)[0],
        edit.swap(net, of_other, of_other)[0],
        [str(path) for path in own],
        [str(path) for path in other],
    )


def reliance(own: Tensor, swapped: Tensor, other: Tensor, seed: int = 0) -> Reliance:
    """From features [N, D] of the three kinds of pictures: (1 - own.swapped) / mean(1 - own.other), by cosine.

    Raises:
        UserError: features of different shapes, fewer than two, or that do not tell people apart at all.

    Examples:
        >>> colour_alone = reliance(torch.eye(4)[[0, 1]], torch.eye(4)[[2, 3]], torch.eye(4)[[2, 3]])
        >>> colour_alone.mean
        1.0
        >>> shape_alone = reliance(torch.eye(4)[[0, 1]], torch.eye(4)[[0, 1]], torch.eye(4)[[2, 3]])
        >>> shape_alone.mean
        0.0
    """
    if not own.shape == swapped.shape == other.shape or own.ndim != 2 or len(own) < 2:
        shapes = ", ".join(str(list(part.shape)) for part in (own, swapped, other))
        raise UserError(f"clothes reliance: features of shape {shapes}; three times [N, D] of 2 or more are needed")
    own, swapped, other = (unit(part.double(), 1) for part in (own, swapped, other))
    lost, whole = (1 - (own * swapped).sum(1)).numpy(), (1 - (own * other).sum(1)).numpy()
    if not np.isfinite(lost).all() or not np.isfinite(whole).all() or whole.mean() < 1e-9:
        raise UserError("clothes reliance: the features are the same for all people, or not finite")
    rows = np.random.default_rng(seed).integers(len(lost), size=(_DRAWS, len(lost)))
    drawn = lost[rows].mean(1) / np.maximum(whole[rows].mean(1), 1e-12)
    low, high = np.quantile(drawn, [0.025, 0.975])
    likeness = {"in_other_clothes": float(1 - lost.mean()), "another_person": float(1 - whole.mean())}
    return Reliance(lost / whole.mean(), (float(low), float(high)), likeness)


def reliance_of(embed: Callable[[Tensor], Tensor], pictures: Dressed) -> Reliance:
    """Of a model whose `embed` gives features [N, D] of pictures uint8 [N, H, W, 3]."""
    return reliance(embed(pictures.own), embed(pictures.swapped), embed(pictures.other))


def write_dressed(pictures: Dressed, folder: Path) -> None:
    """Write `own/NAME.png`, `swapped/NAME.png`, `other/NAME.png` and `clothes.csv`, for features of any toolkit.

    Raises UserError for a folder that holds anything.
    """
    folder = expanded(folder)
    if occupied(folder):
        raise UserError(f"{folder}: not empty; give a new folder for the pictures")
    names = [f"{number:04d}" for number in range(len(pictures.photos))]
    for kind in KINDS:
        for name, picture in zip(names, getattr(pictures, kind).numpy(), strict=True):
            sheets.save(folder / kind / f"{name}.png", picture)
    with replacing(folder / TABLE) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["name", "photo", "clothes"])
        rows.writerows(zip(names, pictures.photos, pictures.clothes, strict=True))


def reliance_of_features(file: Path, folder: Path) -> Reliance:
    """Of any toolkit: features in an .npz (`names`, `features`) of the pictures that `write_dressed` wrote in `folder`.

    A name is a picture's path; its last two parts say which it is (`own/0000.png`). Raises UserError where features
    of some pictures are missing, or the file is no such thing.
    """
    file, folder = expanded(file), expanded(folder)
    if not (folder / TABLE).is_file():
        raise UserError(f"{folder}: no pictures of people in others' clothes ({TABLE}); --reliance-images writes them")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            names, features = arrays["names"], arrays["features"]
        rows = {tuple(Path(str(name)).with_suffix("").parts[-2:]): row for row, name in enumerate(names.tolist())}
        found = torch.from_numpy(np.asarray(features, np.float32))
        if found.ndim != 2 or len(found) != len(names):
            raise ValueError(f"names {list(names.shape)}, features {list(features.shape)}")
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file") from error
    except Exception as error:  # a damaged archive can fail in any way
        raise UserError(f"{file}: not an .npz of arrays names [N] and features [N, D] ({error})") from error
    parts: list[Tensor] = []
    for kind in KINDS:
        wanted = [(kind, path.stem) for path in images_in(folder / kind)]
        absent = [name for name in wanted if name not in rows]
        if absent:
            raise UserError(
                f"{file}: no features of {len(absent)} pictures of {folder}, the first {'/'.join(absent[0])}"
            )
        parts.append(found[[rows[name] for name in wanted]])
    own, swapped, other = parts
    return reliance(own, swapped, other)
