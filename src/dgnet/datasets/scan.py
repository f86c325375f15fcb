"""One look into every image file: can it be read, how large is it, is it grey, and what does it look like in small."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from dgnet import console
from dgnet.errors import UserError
from dgnet.files import content, expanded, replacing
from dgnet.images.decode import decode_bytes, jpeg_header, turned

READABLE, TRUNCATED, UNREADABLE = 1, 2, 3

LOOK = np.dtype(
    [
        ("bytes", np.int64),
        ("time", np.int64),  # of the last change, in ns
        ("state_time", np.int64),  # of its state's, which no program sets; the three tell a file from its later self
        ("state", np.uint8),  # 0: not looked at yet
        ("height", np.int32),
        ("width", np.int32),
        ("colour", np.uint8),  # largest difference between the channels of `small`, before it lost its colour
        ("digest", np.uint8, 16),  # of the file
        ("small", np.uint8, (16, 8)),  # the image in gray
    ]
)
_FORMAT = "check-3"  # part of the cache's name: change it when a look would come out differently
_CHUNK = 64
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def scan(paths: Sequence[Path], root: Path, cache: Path | None = None, workers: int | None = None) -> NDArray[np.void]:
    """A `LOOK` at each of `paths` [N].

    Looks are kept in the folder `cache` under the name of `root`, so that only new and changed files are read again; a
    scan that is interrupted goes on where it was. `workers` is the number of threads, by default one per core: decoding
    does not hold Python's lock. Raises UserError where the folder `cache` cannot be made.
    """
    if cache:
        cache = expanded(cache)
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{cache}: no folder can be made there for the cache ({error.strerror})") from error
    names = [os.path.relpath(path, root) for path in paths]
    store = cache and cache / f"{_FORMAT}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.npz"
    looks = _remembered(store, paths, names)
    todo = np.flatnonzero(looks["state"] == 0)
    if not len(todo):
        return looks
    chunks = [todo[start : start + _CHUNK].tolist() for start in range(0, len(todo), _CHUNK)]
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        with console.progress(speed_unit="images") as bar:
            task = bar.add_task("looking into files", total=len(todo), note="")
            for chunk, rows in zip(
                chunks, pool.map(lambda c: [look(paths[place]) for place in c], chunks), strict=True
            ):
                looks[chunk] = np.array(rows, LOOK)
                bar.update(task, advance=len(chunk))
    finally:
        pool.shutdown(cancel_futures=True)
        if store:
            _remember(store, names, looks)
    return looks


def look(path: Path) -> tuple[object, ...]:
    """One row of `LOOK`."""
    try:
        data = content(path)
        now = path.stat()
    except OSError:
        return 0, 0, 0, UNREADABLE, 0, 0, 0, np.zeros(16, np.uint8), np.zeros((16, 8), np.uint8)
    digest = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint8)
    state, height, width, colour, small = _see(path, data)
    return len(data), now.st_mtime_ns, now.st_ctime_ns, state, height, width, colour, digest, small


def _see(path: Path, data: bytes) -> tuple[int, int, int, int, NDArray[np.uint8]]:
    jpeg = data.startswith(b"\xff\xd8")
    try:
        if jpeg:
            height, width, orientation = jpeg_header(data, str(path))
            pixels = turned(simplejpeg.decode_jpeg(data, "RGB", True, True, min_height=32, min_width=16), orientation)
        else:
            pixels = decode_bytes(data, str(path))
            height, width = pixels.shape[:2]
    except (ValueError, UserError) as error:
        cut = b"\xff\xd9" not in data if jpeg else not data or "truncated" in str(error.__context__).lower()
        return TRUNCATED if cut else UNREADABLE, 0, 0, 0, np.zeros((16, 8), np.uint8)
    small = np.asarray(Image.fromarray(pixels).resize((8, 16), Image.Resampling.BOX))  # [16, 8, 3]
    colour = int((small.max(2) - small.min(2)).max())
    return READABLE, height, width, colour, np.rint(small @ _LUMA).astype(np.uint8)


def _remembered(store: Path | None, paths: Sequence[Path], names: Sequence[str]) -> NDArray[np.void]:
    looks = np.zeros(len(paths), LOOK)
    if store is None or not store.exists():
        return looks
    try:
        with np.load(store) as kept:
            before = dict(zip(str(kept["names"]).split("\n"), kept["looks"].astype(LOOK), strict=True))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return looks
    for place, (path, name) in enumerate(zip(paths, names, strict=True)):
        known = before.get(name)
        if known is not None and path.exists():
            now = path.stat()
            if tuple(known)[:3] == (now.st_size, now.st_mtime_ns, now.st_ctime_ns):
                looks[place] = known
    return looks


def _remember(store: Path, names: Sequence[str], looks: NDArray[np.void]) -> None:
    try:
        with replacing(store) as part, part.open("wb") as file:
            np.savez(file, names=np.array("\n".join(names)), looks=looks)
    except OSError as error:
        console.warn(f"{store.parent}: what was seen is not kept ({error.strerror or error})")
