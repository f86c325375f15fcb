"""Whole folders of generated people, with the provenance of every picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

import dgnet
from dgnet import console
from dgnet.errors import UserError, at_least
from dgnet.files import expanded, occupied, write_json
from dgnet.generate.edit import BATCH, appearance_codes, paint, structure_codes
from dgnet.images import sheets
from dgnet.images.store import ImageStore
from dgnet.models.dgnet import DGNet

PROVENANCE = "provenance.json"

Plan = dict[str, dict[str, str]]  # of each picture's file, whose appearance and whose structure it has


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
    looked at before the first picture is painted; with `on_unreadable` "skip" those that cannot be read are named, here
    and in the provenance, and left out of the set.

    An interrupted folder is continued when the call is the same, and when photos have gone since: pictures that are
    painted stay, the others keep their structure, or get another one where theirs has gone.

    Raises:
        UserError: photos that cannot be read, fewer than two, a folder that holds anything else, or a picture that is
            not a number (weights that are damaged).
    """
    at_least(0, seed=seed)
    if len(paths) < 2:
        raise UserError(f"{len(paths)} images to generate from: a set of at least 2 is needed")
    out = expanded(out)
    photos = ImageStore([Path(path) for path in paths], height, width, on_unreadable=on_unreadable, on_demand=True)
    there = {str(photos.paths[place]): row for row, place in enumerate(photos.kept)}  # row of the store
    if len(there) < 2:
        raise UserError(f"{len(there)} images can be read to generate from: at least 2 are needed")
    about: dict[str, Any] = {
        "dgnet": dgnet.__version__, "weights": weights, "seed": seed, "height": height, "width": width,
    }  # fmt: skip
    left_out = {str(path) for path in photos.paths} - there.keys()
    drawn = _drawn(list(there), seed, suffix)
    plan = _claim(out, about, drawn, left_out)

    sources, names = list(plan.values()), list(plan)
    with console.progress(speed_unit="images") as bar:
        task = bar.add_task("generating", total=len(plan), note="")
        for start in range(0, len(plan), batch):
            places = range(start, min(start + batch, len(plan)))
            absent = [k for k in places if not (out / names[k]).exists()]
            if absent:
                now = places if plan == drawn else absent  # the same batches give the same pictures to the last bit
                s = structure_codes(net, photos[[there[sources[k]["structure"]] for k in now]], batch)
                f = appearance_codes(net, photos[[there[sources[k]["appearance"]] for k in now]], batch)
                for k, picture in zip(now, paint(net, s, f, batch).numpy(), strict=True):
                    sheets.save(out / names[k], picture)
            bar.advance(task, len(places))


def _drawn(paths: Sequence[str], seed: int, suffix: str) -> Plan:
    """A structure for everyone: any photo but one's own."""
    others = np.random.default_rng(seed).integers(len(paths) - 1, size=len(paths))
    others += others >= np.arange(len(paths))
    stems = [Path(path).stem for path in paths]
    if len({stem.casefold() for stem in stems}) < len(stems):
        stems = [f"{number:06d}_{stem}" for number, stem in enumerate(stems)]
    return {
        f"{stem}{suffix}": {"appearance": path, "structure": paths[other]}
        for stem, path, other in zip(stems, paths, others, strict=True)
    }


def _claim(out: Path, about: dict[str, Any], plan: Plan, left_out: set[str]) -> Plan:
    """Make `out` the folder of these pictures, or find it so: returns what is to be painted in it.

    Raises UserError where it holds anything else.
    """
    note = out / PROVENANCE
    if occupied(out):
        begun = _begun(note, about)
        if begun is None or not _part_of(plan, begun["images"]):
            raise UserError(f"{out}: not empty, and not begun with these images, weights and seed; give a new folder")
        for leftover in out.glob(".*.part"):
            leftover.unlink()
        plan, gone = _continued(out, begun["images"], plan, about["seed"])
        left_out |= gone | set(begun.get("left_out", []))
    text = about | ({"left_out": sorted(left_out)} if left_out else {}) | {"images": plan}
    write_json(note, text)
    return plan


def _begun(note: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What a folder's provenance says, if it is of the same weights, seed and size."""
    try:
        begun = json.loads(note.read_text(encoding="utf-8"))
        sources = [(Path(file).name == file, source["appearance"], source["structure"])
                   for file, source in begun["images"].items()]  # fmt: skip
        known = all(begun[key] == value for key, value in about.items()) and all(own for own, *_ in sources)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return begun if known else None


def _part_of(plan: Plan, begun: Plan) -> bool:
    """Whether all photos of `plan` are those of a folder that was begun, in its format."""
    suffixes = {Path(file).suffix for file in (*plan, *begun)}
    return len(suffixes) == 1 and _worn(plan) <= _worn(begun)


def _continued(out: Path, begun: Plan, plan: Plan, seed: int) -> tuple[Plan, set[str]]:
    """The plan of a folder with the photos that are still there, and the photos that it goes without."""
    there = sorted(_worn(plan))
    kept: Plan = {}
    for number, (file, source) in enumerate(begun.items()):
        worn, structure = source["appearance"], source["structure"]
        if not (out / file).exists():
            if worn not in there:
                continue
            if structure not in there:
                others = [path for path in there if path != worn]
                structure = others[np.random.default_rng([seed, number]).integers(len(others))]
        kept[file] = {"appearance": worn, "structure": structure}
    return kept, _worn(begun) - _worn(kept)


def _worn(plan: Plan) -> set[str]:
    return {source["appearance"] for source in plan.values()}
