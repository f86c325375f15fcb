"""A whole new data set: the people of one, painted in other poses, or in others' clothes; resumable, and in shards.

The plan of every picture follows from the photos and the seed alone, so any number of processes can paint it in parts:
each writes its table of provenance first, then the pictures that are not there yet.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg
import torch

import dgnet
from dgnet import console
from dgnet.datasets.records import Dataset, Split
from dgnet.datasets.splits import MARKET_FOLDERS
from dgnet.errors import UserError, at_least
from dgnet.files import expanded, replacing, write_json
from dgnet.generate.edit import BATCH, appearance_codes, paint, structure_codes
from dgnet.images.decode import decode, resize
from dgnet.images.store import ImageStore
from dgnet.models.dgnet import DGNet
from dgnet.pixels import Pixels

Wear = Literal["own", "others"]
"""Whose clothes people wear: their `own`, in others' poses; or `others`', in their own poses (cloth-changing)."""

Provenance = Literal["csv", "parquet"]
"""How its table is written."""

ABOUT = "dataset.json"
COLUMNS = ("file", "identity", "camera", "appearance", "structure", "model")
QUALITY = 95  # of the JPEG files, colour at full resolution
_THREADS = 8  # that read and write


@dataclass(frozen=True)
class Picture:
    """One picture to paint; `appearance` and `structure` are places in the split of photos."""

    file: str
    identity: int
    camera: int
    appearance: int
    structure: int


def plan(photos: Split, per_identity: int, wear: Wear, seed: int) -> list[Picture]:
    """`per_identity` pictures of everyone, in the order of their names.

    Of the person come the appearance (wear `own`) or the structure (`others`), each photo as often as any other; the
    rest comes from a photo of someone else, drawn at random. The camera is the structure's, which holds the place.
    """
    at_least(0, seed=seed)
    rng = np.random.default_rng([seed, 0 if wear == "own" else 1])
    made: list[Picture] = []
    for person in photos.people.tolist():
        mine = np.flatnonzero(photos.identities == person)
        others = np.flatnonzero(photos.identities != person)
        rounds = -(-per_identity // len(mine))
        taken = np.concatenate([rng.permutation(mine) for _ in range(rounds)])[:per_identity].tolist()
        drawn = others[rng.integers(len(others), size=per_identity)].tolist()
        for a, s in zip(taken, drawn, strict=True) if wear == "own" else zip(drawn, taken, strict=True):
            camera = max(0, int(photos.cameras[s]))
            name = f"{person:04d}_c{camera}s2_{len(made) + 1:06d}_00.jpg"
            made.append(Picture(f"{MARKET_FOLDERS['train']}/{name}", person, camera, a, s))
    return made


def generate_dataset(
    net: DGNet,
    dataset: Dataset,
    out: Path,
    *,
    height: int,
    width: int,
    per_identity: int = 10,
    wear: Wear = "own",
    with_real: bool = False,
    shard: tuple[int, int] = (1, 1),
    provenance: Provenance = "csv",
    seed: int = 0,
    weights: str = "",
    on_unreadable: Literal["error", "skip"] = "error",
    batch: int = BATCH,
) -> int:
    """Paint the training set anew into `out`, in Market-1501 layout; returns how many pictures this call painted.

    `out/provenance.csv` (of shard 3 of 8, `provenance-3-of-8.csv`), or the same as `.parquet`, says for every picture
    whose appearance and structure it has, and which model painted it. The same call continues what was interrupted, and
    shards may run at once or one after the other, on one machine or several that share the folder.

    Args:
        net: the generator.
        dataset: whose training images are the source.
        out: a new folder, or one begun by the same call.
        height, width: of the pictures, which the network was trained on.
        per_identity: pictures of each person.
        wear: whose clothes people wear; the label is always that of the person whose `own` photo it is.
        with_real: put copies of the real training images, and of query and gallery, beside them: a set to train on.
        shard: which part of how many, from 1.
        provenance: the kind of table that says where pictures come from.
        seed: decides who wears what where.
        weights: a hash, or whatever else identifies the model.
        on_unreadable: stop where photos cannot be read, before the first picture; or name them and pass them over.

    Raises:
        UserError: photos that cannot be read, fewer than two people, a folder that holds anything else, or a picture
            that is not a number (weights that are damaged).
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise UserError(f"--shard {part}/{parts}: from 1/{parts} to {parts}/{parts} would be right")
    if per_identity < 1:
        raise UserError(f"--per-identity {per_identity}: at least 1 would be right")
    table = _table_of(shard, provenance)
    dataset.require("train")
    out = expanded(out)
    store = ImageStore(dataset.train.paths, height, width, on_unreadable=on_unreadable, on_demand=True)
    photos = dataset.train.subset(store.kept)
    if len(photos.people) < 2:
        raise UserError(f"{dataset.root}: photos of {len(photos.people)} identity; of 2 or more are needed")
    mine = plan(photos, per_identity, wear, seed)[part - 1 :: parts]
    about = {
        "dgnet": dgnet.__version__, "model": weights, "source": str(dataset.root), "photos": len(photos),
        "per_identity": per_identity, "wear": wear, "with_real": with_real, "seed": seed, "height": height,
        "width": width,
    }  # fmt: skip
    _claim(out, about, set(map(str, dataset.train.paths)) - set(map(str, photos.paths)))
    _write_provenance(out / table, shard, mine, photos, weights)
    if with_real and part == 1:
        _copy_real(dataset, photos, out)
    if parts == 1:  # of several shards, another may be writing
        for leftover in (out / MARKET_FOLDERS["train"]).glob(".*.part"):
            leftover.unlink()
    return _paint(net, mine, photos, out, height, width, batch)


def _paint(net: DGNet, mine: Sequence[Picture], photos: Split, out: Path, height: int, width: int, batch: int) -> int:
    """Read ahead, paint and write at the same time: neither disk nor decoder holds the generator up.

    The batches are those of an uninterrupted call, so that the pictures are the same to the last bit.
    """
    (out / MARKET_FOLDERS["train"]).mkdir(parents=True, exist_ok=True)
    absent = {picture.file for picture in mine if not _whole(out / picture.file)}
    whole = (mine[start : start + batch] for start in range(0, len(mine), batch))
    batches = [pictures for pictures in whole if any(picture.file in absent for picture in pictures)]
    paths = photos.paths

    def read(place: int) -> Pixels:
        return resize(decode(paths[place]), height, width)

    with ThreadPoolExecutor(_THREADS) as pool, console.progress(speed_unit="images") as bar:
        task = bar.add_task("generating", total=len(mine), completed=len(mine) - len(absent), note="")
        written: list[Future[None]] = []
        for pictures, (structures, appearances) in zip(batches, _ahead(pool, read, batches), strict=True):
            s, f = structure_codes(net, structures, batch), appearance_codes(net, appearances, batch)
            painted = paint(net, s, f, batch).numpy()
            for done in written:  # of the batch before: a full disk is told here, and memory stays bounded
                done.result()
            written = [
                pool.submit(_save, out / picture.file, pixels)
                for picture, pixels in zip(pictures, painted, strict=True)
                if picture.file in absent
            ]
            bar.advance(task, len(written))
        for done in written:
            done.result()
    return len(absent)


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[int], Pixels], batches: Sequence[Sequence[Picture]]
) -> Iterator[Any]:
    """Structures and appearances of each batch, uint8 [n, H, W, 3]; the next one is read meanwhile."""

    def begun(pictures: Sequence[Picture]) -> list[Future[Pixels]]:
        places = [p.structure for p in pictures] + [p.appearance for p in pictures]
        return [pool.submit(read, place) for place in places]

    following = begun(batches[0]) if batches else []
    for number in range(len(batches)):
        now, following = following, begun(batches[number + 1]) if number + 1 < len(batches) else []
        yield torch.from_numpy(np.stack([future.result() for future in now])).chunk(2)


def _save(path: Path, pixels: Pixels) -> None:
    """A JPEG that is whole or not there; one that a power cut has left empty is painted again."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), QUALITY, "RGB", "444"))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _whole(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _claim(out: Path, about: dict[str, Any], left_out: set[str]) -> None:
    """Make `out` the folder of this data set, or find it so. Raises UserError where it holds anything else."""
    note = out / ABOUT
    if out.exists() and (not out.is_dir() or any(not entry.name.startswith(".") for entry in out.iterdir())):
        try:
            begun = json.loads(note.read_text(encoding="utf-8"))
            differs = next((key for key, value in about.items() if begun[key] != value), None)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{out}: not empty, and no data set that dgnet began; give a new folder") from error
        if differs:
            raise UserError(
                f"{out}: begun with {differs} = {begun[differs]}, not {about[differs]}; continue with the same, or "
                "give a new folder"
            )
        return
    write_json(note, about | ({"left_out": sorted(left_out)} if left_out else {}))


def _table_of(shard: tuple[int, int], kind: Provenance) -> str:
    """The name of a shard's table. Raises UserError for another kind, and where a package is missing."""
    if kind not in ("csv", "parquet"):
        raise UserError(f"--provenance {kind}: csv or parquet would be right")
    if kind == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UserError("--provenance parquet: needs pyarrow: pip install 'dgnet[parquet]'") from error
    part, parts = shard
    return f"provenance.{kind}" if parts == 1 else f"provenance-{part}-of-{parts}.{kind}"


def _write_provenance(
    file: Path, shard: tuple[int, int], pictures: Sequence[Picture], photos: Split, weights: str
) -> None:
    """The table of a shard. Raises UserError where the folder is painted in other shards, or has other tables."""
    _, parts = shard
    siblings = {_table_of((number, parts), file.suffix[1:]) for number in range(1, parts + 1)}  # type: ignore[arg-type]
    if others := sorted({other.name for other in file.parent.glob("provenance*.*")} - siblings):
        raise UserError(
            f"{file.parent}: is painted in other shards, or with other tables ({others[0]}); go on with these"
        )
    rows = [
        (picture.file, picture.identity, picture.camera, str(photos.paths[picture.appearance]),
         str(photos.paths[picture.structure]), weights)
        for picture in pictures
    ]  # fmt: skip
    with replacing(file) as new:
        if file.suffix == ".parquet":
            import pyarrow
            from pyarrow import parquet

            columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
            parquet.write_table(pyarrow.table(dict(zip(COLUMNS, map(list, columns), strict=True))), new)
        else:
            with new.open("w", encoding="utf-8", newline="") as out:
                csv.writer(out, lineterminator="\n").writerows([COLUMNS, *rows])


def _copy_real(dataset: Dataset, train: Split, out: Path) -> None:
    """The real images beside the generated ones, under names of the same layout."""
    for split, folder in MARKET_FOLDERS.items():
        images = train if split == "train" else dataset.splits.get(split, Split())
        (out / folder).mkdir(parents=True, exist_ok=True)
        labels = zip(images.paths, images.identities.tolist(), images.cameras.tolist(), strict=True)
        for number, (path, person, camera) in enumerate(labels, 1):
            who = f"{person:04d}" if person >= 0 else str(person)
            copy = out / folder / f"{who}_c{max(0, camera)}s1_{number:06d}_01{path.suffix.lower()}"
            if not _whole(copy):
                with replacing(copy) as new:
                    shutil.copyfile(path, new)
