"""`dgnet gallery`: people kept to be searched, on one's own disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from tyro.conf import Positional

from dgnet import console
from dgnet.cli.common import tell_matches
from dgnet.errors import UserError

if TYPE_CHECKING:
    from dgnet.gallery.ask import Kept
    from dgnet.gallery.entries import Entry
    from dgnet.model import Model

app = tyro.extras.SubcommandApp()


@app.command
def build(
    images: Positional[tuple[Path, ...]] = (),
    *,
    out: Path | None = None,
    store: str | None = None,
    model: str | None = None,
    data: Path | None = None,
    layout: str = "auto",
    splits: tuple[str, ...] = (),
    boxes: tuple[Path, ...] = (),
    frames: Path | None = None,
    tracklets: str | None = None,
    camera: str | None = None,
    times: Literal["none", "modified"] = "none",
    precision: Literal["float16", "float32"] = "float32",
    on_unreadable: Literal["error", "skip"] = "error",
    device: str = "auto",
) -> int:
    """Embed photos into a new gallery; where it was interrupted, the same command goes on.

    Args:
        images: the model (unless --model names it), then photos, or folders with photos at any depth
        out: folder of the gallery
        store: in its place, qdrant://host:port/name
        model: a run folder, model.safetensors or teacher.safetensors
        data: a data set, whose people and cameras are kept
        layout: how it is laid out: auto, market1501, msmt17, ... (docs/datasets.md)
        splits: of the data set: train, query, gallery; by default its gallery
        boxes: tables of boxes (.csv, .jsonl, .parquet): image or frame, x1, y1, x2, y2, camera, time, anything else
        frames: folder of the frames that they name; by default that of the table
        tracklets: average what belongs together: `folder`, or the column of the boxes that says so
        camera: the camera of all photos
        times: when a photo was taken: unknown, or when its file was last changed
        precision: of the features on disk; float16 is half as large
        on_unreadable: stop at photos that cannot be read, or name them and go on without them
        device: auto, cpu, cuda or cuda:N
    """
    place = store or (None if out is None else str(out))
    if place is None or (store and out):
        raise UserError("gallery build: say where to keep it: --out FOLDER, or --store qdrant://host:port/name")
    name, images = _model_and(images, model)
    entries = _entries(images, data, layout, splits, boxes, frames, tracklets, camera, times)
    held = _load(name, device)
    gallery = held.gallery(place, precision=precision)
    if gallery.about.whole:
        raise UserError(f"{place}: a whole gallery already; dgnet gallery add adds to it")
    return _enrol(gallery, held, entries, on_unreadable)


@app.command
def add(
    gallery: Positional[str] = "",
    images: Positional[tuple[Path, ...]] = (),
    *,
    store: str | None = None,
    model: str | None = None,
    data: Path | None = None,
    layout: str = "auto",
    splits: tuple[str, ...] = (),
    boxes: tuple[Path, ...] = (),
    frames: Path | None = None,
    tracklets: str | None = None,
    camera: str | None = None,
    times: Literal["none", "modified"] = "none",
    on_unreadable: Literal["error", "skip"] = "error",
    device: str = "auto",
) -> int:
    """Add photos to a gallery. Those that are in it are passed over; those whose files have changed are replaced.

    Args:
        gallery: its folder (not with --store)
        images: photos, or folders with photos at any depth
        store: the gallery at qdrant://host:port/name
        model: the model that made the gallery, where it has moved
        data: a data set, whose people and cameras are kept
        layout: how it is laid out: auto, market1501, msmt17, ... (docs/datasets.md)
        splits: of the data set: train, query, gallery; by default its gallery
        boxes: tables of boxes (.csv, .jsonl, .parquet): image or frame, x1, y1, x2, y2, camera, time, anything else
        frames: folder of the frames that they name; by default that of the table
        tracklets: average what belongs together: `folder`, or the column of the boxes that says so
        camera: the camera of all photos
        times: when a photo was taken: unknown, or when its file was last changed
        on_unreadable: stop at photos that cannot be read, or name them and go on without them
        device: auto, cpu, cuda or cuda:N
    """
    found, images = _opened(gallery, images, store)
    entries = _entries(images, data, layout, splits, boxes, frames, tracklets, camera, times)
    return _enrol(found, _model_of(found, model, device), entries, on_unreadable)


@app.command
def search(
    gallery: Positional[str] = "",
    query: Positional[tuple[Path, ...]] = (),
    store: str | None = None,
    top: int = 10,
    camera: str | None = None,
    identity: str | None = None,
    after: str | None = None,
    before: str | None = None,
    rerank: bool = False,
    json: Path | None = None,
    sheet: Path | None = None,
    model: str | None = None,
    device: str = "auto",
) -> int:
    """Who in the gallery is most like the person in a photo. Several photos are taken as one person's.

    Args:
        gallery: its folder (not with --store)
        query: photos of one person
        store: the gallery at qdrant://host:port/name
        top: how many to show
        camera: entries of this camera only
        identity: entries of this person only
        after: entries after this time only: seconds, or a date such as 2026-11-25T13:51
        before: entries before this time only
        rerank: rank the best 200 anew by k-reciprocal re-ranking
        json: write the matches to this file, too
        sheet: picture to write (.png or .jpg): the query, and the matches in their order
        model: the model that made the gallery, where it has moved
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.gallery.ask import Where
    from dgnet.images.sheets import require_format
    from dgnet.retrieval.rerank import ReRanking

    if sheet is not None:
        require_format(sheet)
    found, query = _opened(gallery, query, store)
    if not query:
        raise UserError("gallery search: give a photo of the person who is looked for")
    held = _model_of(found, model, device)
    where = Where(camera, identity, after, before)
    matches = found.search(
        held.embed_person(query), top, where, threshold=held.threshold, reranking=ReRanking() if rerank else None
    )
    if not matches:
        console.notice(f"{found.place}: no entry meets {where}" if where else f"{found.place}: is empty")
    return tell_matches(matches, query, held, json, sheet, gallery=found.place, lost=found.lost)


@app.command
def remove(
    gallery: Positional[str] = "",
    images: Positional[tuple[Path, ...]] = (),
    store: str | None = None,
    camera: str | None = None,
    identity: str | None = None,
    after: str | None = None,
    before: str | None = None,
) -> int:
    """Remove the entries of photos, or of folders, and those that an option names; `compact` then frees their room.

    Args:
        gallery: its folder (not with --store)
        images: photos or folders, which need not exist any more
        store: the gallery at qdrant://host:port/name
        camera: entries of this camera only
        identity: entries of this person only
        after: entries after this time only
        before: entries before this time only
    """
    from dgnet.gallery.ask import Where

    found, images = _opened(gallery, images, store)
    gone = found.remove(images, Where(camera, identity, after, before))
    console.stdout.print(f"removed {gone} entries; {len(found)} are left")
    return 0


@app.command
def compact(gallery: Positional[str] = "", store: str | None = None) -> int:
    """Write the gallery anew without what was removed, or lost by damage: then it is on the disk no more.

    Args:
        gallery: its folder (not with --store)
        store: the gallery at qdrant://host:port/name
    """
    from dgnet.images.store import megabytes

    found, _ = _opened(gallery, (), store)
    freed = found.compact()
    console.stdout.print(f"{len(found)} entries; {megabytes(freed)} freed" if freed > 0 else f"{len(found)} entries")
    return 0


@app.command
def info(gallery: Positional[str] = "", store: str | None = None, json: Path | None = None) -> int:
    """What is in a gallery, which model made it, and what damage has cost. Exit code 0: sound; 1: something is lost.

    Args:
        gallery: its folder (not with --store)
        store: the gallery at qdrant://host:port/name
        json: write it to this file, too
    """
    from dgnet.files import write_json

    found, _ = _opened(gallery, (), store)
    told = found.info()
    for key, value in told.items():
        console.stdout.print(f"{key}: {', '.join(value) or 'none' if isinstance(value, list) else value}")
    if json is not None:
        write_json(json, told, ascii=False)
    return 1 if told["lost"] else 0


def _opened(gallery: str, words: tuple[Path, ...], store: str | None) -> tuple[Kept, tuple[Path, ...]]:
    """The gallery, and the photos: with --store, the first word is a photo."""
    from dgnet.gallery.places import open_gallery

    if store is not None:
        return open_gallery(store), (*((Path(gallery),) if gallery else ()), *words)
    if not gallery:
        raise UserError("gallery: name its folder, or --store qdrant://host:port/name")
    return open_gallery(gallery), words


def _entries(
    images: tuple[Path, ...], data: Path | None, layout: str, splits: tuple[str, ...], boxes: tuple[Path, ...],
    frames: Path | None, tracklets: str | None, camera: str | None, times: str,
) -> list[Entry]:  # fmt: skip
    """What is to be put in. Raises UserError where that is nothing, or an option means nothing."""
    from dgnet.datasets.read import read_dataset
    from dgnet.gallery.detections import of_detections
    from dgnet.gallery.entries import of_dataset, of_images

    if not images and data is None and not boxes:
        raise UserError("gallery: give photos, folders of photos, --data FOLDER or --boxes FILE")
    if data is None and (layout != "auto" or splits):
        raise UserError("--layout and --splits are of the data set of --data; there is none")
    if frames is not None and not boxes:
        raise UserError("--frames: holds the frames of --boxes; there are none")
    made: list[Entry] = []
    if images:
        by_folder = tracklets == "folder"
        if tracklets and not by_folder and not boxes:
            raise UserError(f"--tracklets {tracklets}: of photos, `folder` alone means something")
        made += of_images(images, camera=camera, modified=times == "modified", by_folder=by_folder)
    if data is not None:
        made += of_dataset(read_dataset(data, layout, need=splits), splits)
    for table in boxes:
        made += of_detections(table, frames, camera=camera, tracklets=None if tracklets == "folder" else tracklets)
    return made


def _model_and(images: tuple[Path, ...], model: str | None) -> tuple[str, tuple[Path, ...]]:
    """The model that is asked for, and the photos: it stands before them where --model does not name it."""
    if model is not None:
        return model, images
    if not images:
        raise UserError("gallery build: give a model (--model, or the first word), and photos")
    from dgnet.model import weights_file

    try:
        weights_file(images[0])
    except UserError as error:
        if images[0].is_dir() or images[0].suffix.lower() in (".jpg", ".jpeg", ".png"):
            raise UserError(f"{images[0]}: no model; say which one makes the features: --model RUN") from error
        raise
    return str(images[0]), images[1:]


def _load(name: str, device: str) -> Model:
    """The model, called by its whole path where it has one: the gallery asks for it again."""
    from dgnet.files import expanded
    from dgnet.model import load

    path = expanded(name)
    return load(str(path.absolute()) if path.exists() else name, device)


def _model_of(gallery: Kept, model: str | None, device: str) -> Model:
    """The model that made a gallery. Raises UserError where it is another one, or not there any more."""
    try:
        held = _load(model or gallery.about.made_by, device)
    except UserError as error:
        if model is not None:
            raise
        raise UserError(f"{error}; it made {gallery.place}: --model says where it is now") from error
    gallery.require(held.fingerprint, held.name)
    return held


def _enrol(gallery: Kept, model: Model, entries: list[Entry], on_unreadable: Literal["error", "skip"]) -> int:
    from dgnet.gallery.enrol import enrol

    done = enrol(gallery, model, entries, on_unreadable)
    if not gallery.about.whole:
        gallery.finish()
    known = f", {done.known} were in it already" if done.known else ""
    unread = f", {done.unreadable} left out" if done.unreadable else ""
    console.stdout.print(f"{done.added} added{known}{unread}; {len(gallery)} entries in {gallery.place}")
    return 0
