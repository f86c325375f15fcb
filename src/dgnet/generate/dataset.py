"""Whole folders of generated people, with the provenance of every picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

import dgnet
from dgnet import console
from dgnet.errors import UserError
from dgnet.files import replacing
from dgnet.generate.edit import BATCH, appearance_codes, paint, structure_codes
from dgnet.images import sheets
from dgnet.images.store import ImageStore
from dgnet.models.dgnet import DGNet

PROVENANCE = "provenance.json"


def folder(
    net: DGNet,
    paths: Sequence[Path],
    out: Path,
    *,
    height: int,
    width: int,
    seed: int = 0,
    weights: str = "",
    suffix: Literal[".png", ".jpg"] = ".png",
    on_unreadable: Literal["error", "skip"] = "error",
    batch: int = BATCH,
) -> None:
    """For each photo one picture: its clothes on the structure of another photo of the set, drawn at random.

    This is the set that the published FID is taken of. `out/provenance.json` says for every file where appearance and
    structure come from, and holds the seed and `weights` (a hash, or whatever else identifies them). Every photo is
    looked at before the first picture is painted; with `on_unreadable` "skip" those that cannot be read are named and
    left out of the set. An interrupted folder is continued when the call is the same.

    Raises:
        UserError: photos that cannot be read, fewer than two, a folder that holds anything else, or a picture that is
            not a number (weights that are damaged).
    """
    if len(paths) < 2:
        raise UserError(f"{len(paths)} images to generate from: a set of at least 2 is needed")
    photos = ImageStore([Path(path) for path in paths], height, width, on_unreadable=on_unreadable, on_demand=True)
    paths = [photos.paths[place] for place in photos.kept]
    if len(paths) < 2:
        raise UserError(f"{len(paths)} images can be read to generate from: at least 2 are needed")
    structure_of = np.random.default_rng(seed).integers(len(paths) - 1, size=len(paths))
    structure_of += structure_of >= np.arange(len(paths))  # any photo but one's own
    stems = [path.stem for path in paths]
    if len({stem.casefold() for stem in stems}) < len(stems):
        stems = [f"{number:06d}_{stem}" for number, stem in enumerate(stems)]
    files = [out / f"{stem}{suffix}" for stem in stems]
    sources = {
        file.name: {"appearance": str(path), "structure": str(paths[other])}
        for file, path, other in zip(files, paths, structure_of, strict=True)
    }
    settings = {"dgnet": dgnet.__version__, "weights": weights, "seed": seed, "height": height, "width": width}
    _claim(out, json.dumps(settings | {"images": sources}, indent=1) + "\n")

    with console.progress(speed_unit="images") as bar:
        task = bar.add_task("generating", total=len(files), note="")
        for indices in np.split(np.arange(len(files)), range(batch, len(files), batch)):
            if not all(files[index].exists() for index in indices):
                s = structure_codes(net, photos[structure_of[indices]], batch)
                pictures = paint(net, s, appearance_codes(net, photos[indices], batch), batch).numpy()
                for index, picture in zip(indices, pictures, strict=True):
                    sheets.save(files[index], picture)
            bar.advance(task, len(indices))


def _claim(out: Path, provenance: str) -> None:
    """Make `out` the folder of these pictures; raises UserError where it holds anything else."""
    note = out / PROVENANCE
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not note.is_file() or note.read_text() != provenance:
            raise UserError(f"{out}: not empty, and not begun with these images, weights and seed; give a new folder")
        for leftover in out.glob(".*.part"):
            leftover.unlink()
        return
    with replacing(note) as part:
        part.write_text(provenance, encoding="utf-8")
