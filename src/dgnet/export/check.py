"""An exported file held against the network that it was made of: number by number, and by what it recognises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.config import Config
from dgnet.datasets.folders import images_among
from dgnet.datasets.read import of_model, read_dataset
from dgnet.datasets.records import Dataset
from dgnet.errors import UserError
from dgnet.evaluate.protocol import Reading, evaluate_network
from dgnet.evaluate.results import Results, percent
from dgnet.export.session import Exported
from dgnet.files import expanded
from dgnet.images.store import ImageStore

BATCHES = (1, 7, 32)
TOLERANCE = 1e-3  # of the largest output, in float32


@dataclass(frozen=True)
class Parity:
    """How far a file's outputs are from PyTorch's in float32, for one size of batch."""

    batch: int
    difference: float
    """The largest, of any number."""
    largest: float
    """The largest output, by its absolute value: what the difference is to be compared with."""
    cosine: float
    """The smallest between a row of the file and the same row of PyTorch."""


def parity(exported: nn.Module, module: nn.Module, inputs: Sequence[Tensor]) -> list[Parity]:
    """The file against the module at batch 1, 7 and 32, on `inputs`: 32 rows each. Raises UserError for NaN."""
    found = []
    for batch in BATCHES:
        given = [rows[:batch] for rows in inputs]
        with torch.inference_mode():
            ours, theirs = module(*given), exported(*given)
        if theirs.shape != ours.shape:
            raise UserError(f"at batch {batch} the file gives {list(theirs.shape)}, PyTorch {list(ours.shape)}")
        if not torch.isfinite(theirs).all():
            raise UserError(f"at batch {batch} the file gives NaN or infinity")
        cosine = F.cosine_similarity(ours.flatten(1).double(), theirs.flatten(1).double(), dim=1).min()
        found.append(Parity(batch, float((ours - theirs).abs().max()), float(ours.abs().max()), float(cosine)))
    return found


def require_equal(found: Sequence[Parity]) -> None:
    """Raises UserError where a file in float32 does not compute what the network computes, up to rounding."""
    for at in found:
        if at.difference > TOLERANCE * at.largest:
            raise UserError(
                f"at batch {at.batch} the file differs from PyTorch by {at.difference:.2g} (cosine {at.cosine:.6f}); "
                "nothing was written: please report this with the versions of torch, onnx and onnxruntime"
            )


@dataclass(frozen=True)
class Material:
    """What an export is checked on."""

    photos: list[Path]
    dataset: Dataset | None
    """One with query and gallery, on which figures can be computed."""
    named: str


def material(check: Sequence[str | Path], config: Config) -> Material:
    """Photos, folders of photos, or the folder of a data set; without any, the data that the model was trained on.

    Its own data are read as they were in training: laid out so, with the same people held out. Raises UserError where
    there is nothing of the kind.
    """
    places = [expanded(place) for place in check]
    own = expanded(config.data.root) if config.data.root else None
    if not places and (own is None or not own.exists()):
        raise UserError(
            "--check: say on which photos, or which data set, the export is compared with the model; the data that "
            f"it was trained on are not here ({config.data.root or 'unknown'})"
        )
    if own is not None and own.exists() and [place.resolve() for place in places or [own]] == [own.resolve()]:
        dataset: Dataset | None = of_model(config.data, None, need=())
        named, photos = str(config.data.root), [] if dataset is None else dataset.paths
    else:
        dataset = _dataset(places[0]) if len(places) == 1 and places[0].is_dir() else None
        named, photos = ", ".join(map(str, places)), [] if dataset is not None else images_among(places)
    if dataset is not None and dataset.query and dataset.gallery:
        return Material(list(dataset.query.paths), replace(dataset, multi_query=None), named)
    return Material(photos, None, named)


def _dataset(folder: Path) -> Dataset | None:
    """The data set in a folder, or None where it is a plain folder of photos."""
    try:
        return read_dataset(folder, "auto", need=("query", "gallery"))
    except UserError:
        return None


def photos_at(paths: Sequence[Path], height: int, width: int) -> Tensor:
    """32 photos spread over `paths`, uint8 [32, height, width, 3]; fewer are repeated."""
    count = min(len(paths), BATCHES[-1])
    chosen = [paths[place] for place in np.linspace(0, len(paths) - 1, count).round().astype(int)]
    store = ImageStore(chosen, height, width, on_unreadable="skip")
    return store[np.resize(np.arange(len(store)), BATCHES[-1])]


def figures(exported: Exported, config: Config, dataset: Dataset, **options: Any) -> Results:
    """The test protocol on the file itself: its photos are read at the size that the file is fed."""
    about = exported.about
    seen = replace(config, data=replace(config.data, height=about.height, width=about.width))
    reading = Reading(flip=False)  # which the file does itself, or does not
    name, provenance = f"{exported.path.name} ({about.precision})", {"file": exported.path.name}
    extractor: Any = exported  # which has no halves, as a teacher has none
    return evaluate_network(
        extractor, seen, dataset, torch.device("cpu"), name=name, reading=reading, provenance=provenance, **options
    )[0]


PARITY_HEAD = ("batch", "largest difference", "largest output", "smallest cosine")
FIGURES_HEAD = ("", "model", "file", "difference")


def parity_rows(found: Sequence[Parity]) -> list[list[str]]:
    """Under PARITY_HEAD, a row for each size of batch."""
    return [[str(at.batch), f"{at.difference:.2e}", f"{at.largest:.3g}", f"{at.cosine:.7f}"] for at in found]


def figures_rows(original: Results, file: Results) -> list[list[str]]:
    """Under FIGURES_HEAD, rank-1 and mAP of the model and of its file, and what is lost, in per cent."""
    wanted = {f"rank{file.ranks[0]}": f"rank-{file.ranks[0]}", "mAP_standard": "mAP"}
    ours, theirs = original.figures(), file.figures()
    return [
        [name, percent(ours[key]), percent(theirs[key]), f"{100 * (theirs[key] - ours[key]):+.2f}"]
        for key, name in wanted.items()
    ]
