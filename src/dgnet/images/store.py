"""Photos from files: decoded once, scaled to training size, and kept in a memory-mapped array of bytes."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgnet import console
from dgnet.device import available_memory
from dgnet.errors import UserError
from dgnet.files import expanded, replacing
from dgnet.images import caches
from dgnet.images.decode import decode, resize
from dgnet.pixels import Pixels

Indices = npt.NDArray[np.int64]

_CHUNK = 512  # images decoded between two writes: bounds the memory that waits for a slow disk
_LARGE_SHARE = 0.25  # of the free memory: images that take more are worth a word
_ON_DISK = "data.cache=FOLDER (evaluate: --cache FOLDER)"
_SPARE = 64 << 20  # bytes left free on the disk beyond the cache itself


class Images(Protocol):
    """A tensor uint8 [N, H, W, 3], an `ImageStore`, or anything else that gives such images for int64 [n]."""

    def __len__(self) -> int: ...
    def __getitem__(self, indices: Indices, /) -> Tensor: ...


class ImageStore:
    """Images of one size, taken by index: `store[indices]` is uint8 [n, height, width, 3].

    The first use decodes every file once, into a file in the folder `cache` that later runs map into memory. It is
    named after the files' paths and states (`caches.name_of`) and the size of the images, so a changed data set gets a
    new one; `dgnet data cache` tells and deletes the old ones. Several processes may start at once: one builds, the
    others wait. The folder may be deleted between runs.

    Args:
        paths: the image files, in order.
        height, width: size of the images in pixels.
        cache: folder for the cache file, made where missing. None keeps the pixels in memory.
        on_unreadable: "error" raises where files cannot be decoded; "skip" drops them. Either way they are all named.
        on_demand: keep nothing and decode at every access: slow, for sets larger than both disk and memory.

    Attributes:
        kept: int64 [len(store)], the place in `paths` of each image of the store; `labels[store.kept]` are its labels.

    Raises:
        UserError: an unreadable file, no readable file at all, or no room for the cache.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        height: int,
        width: int,
        cache: Path | None = None,
        on_unreadable: Literal["error", "skip"] = "error",
        on_demand: bool = False,
    ) -> None:
        if not paths:
            raise UserError("no images to load: the list of files is empty")
        self.paths = [Path(path) for path in paths]
        self.height, self.width = height, width
        self._skip = on_unreadable == "skip"
        self._pixels: Pixels | None = None
        bad = np.zeros(len(paths), dtype=np.uint8)
        if cache is not None and not on_demand:
            self._pixels, bad = self._cached(expanded(cache))
        elif not on_demand:
            _check_memory(len(paths), height, width)
            self._pixels = np.empty((len(paths), height, width, 3), dtype=np.uint8)
            bad = self._decode_all(partial(_put, self._pixels))
        else:
            bad = self._decode_all(lambda start, rows: None)
        self.kept: npt.NDArray[np.int64] = np.flatnonzero(bad == 0)
        if len(self.kept) < len(paths):
            dropped = np.flatnonzero(bad)
            console.warn(
                f"left out {len(dropped)} of {len(paths)} images, which cannot be read: {self._names(dropped)}"
            )
        if not len(self.kept):
            raise UserError(f"none of the {len(paths)} images can be read; the first is {self.paths[0]}")

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, indices: npt.ArrayLike | Tensor) -> Tensor:
        """Images at int64 [n]: uint8 [n, height, width, 3], a copy on the CPU."""
        places = self.kept[np.asarray(indices, dtype=np.int64)]
        if self._pixels is None:
            return torch.from_numpy(np.stack([self._decode_one(self.paths[place]) for place in places]))
        return torch.from_numpy(np.take(self._pixels, places, axis=0))

    def _decode_one(self, path: Path) -> Pixels:
        return resize(decode(path), self.height, self.width)

    def _decode_all(self, write: Callable[[int, list[Pixels]], object]) -> npt.NDArray[np.uint8]:
        """Call `write(start, rows)` on all images, in order and in chunks; returns uint8 [N], 1 where unreadable."""
        bad = np.zeros(len(self.paths), dtype=np.uint8)
        blank = np.zeros((self.height, self.width, 3), dtype=np.uint8)

        def attempt(place: int) -> Pixels:
            try:
                return self._decode_one(self.paths[place])
            except UserError:
                bad[place] = 1
                return blank

        with ThreadPoolExecutor(os.cpu_count()) as pool, console.progress(speed_unit="images") as bar:
            task = bar.add_task("decoding images", total=len(self.paths), note="")
            for start in range(0, len(self.paths), _CHUNK):
                rows = list(pool.map(attempt, range(start, min(start + _CHUNK, len(self.paths)))))
                write(start, rows)
                bar.update(task, advance=len(rows))
        if bad.any() and not self._skip:
            self._refuse(np.flatnonzero(bad))
        return bad

    def _refuse(self, places: Indices) -> NoReturn:
        """Raise what is wrong with the first of these, and name the others."""
        try:
            self._decode_one(self.paths[places[0]])
            raise UserError(f"{self.paths[places[0]]}: could not be read a moment ago; is the disk well?")
        except UserError as error:
            others = f"; nor can {len(places) - 1} more: {self._names(places[1:])}" if len(places) > 1 else ""
            raise UserError(f"{error}{others}; mend or remove them, or pass them over (on_unreadable=skip)") from error

    def _names(self, places: Indices) -> str:
        return ", ".join([str(self.paths[place]) for place in places[:20]] + ["..."] * (len(places) > 20))

    def _cached(self, folder: Path) -> tuple[Pixels, npt.NDArray[np.uint8]]:
        """Map the cache file, building it first where there is no good one."""
        file = folder / caches.name_of(self.paths, self.height, self.width)
        count, shape = len(self.paths), (len(self.paths), self.height, self.width, 3)
        about = caches.description(self.paths, self.height, self.width)
        pixels = count * self.height * self.width * 3
        size = pixels + count + len(about)

        def marks() -> npt.NDArray[np.uint8]:
            return np.fromfile(file, dtype=np.uint8, offset=pixels, count=count)

        def good() -> bool:
            return file.exists() and file.stat().st_size == size and (self._skip or not marks().any())

        try:
            if not good():
                folder.mkdir(parents=True, exist_ok=True)
                with caches.locked(folder):
                    if not good():
                        self._build(file, size, about)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot keep the image cache of {megabytes(size)} there ({error.strerror or error}); "
                "free some space, name another folder, or go without a cache"
            ) from error
        return np.asarray(np.memmap(file, dtype=np.uint8, mode="r", shape=shape)), marks()

    def _build(self, file: Path, size: int, about: bytes) -> None:
        if shutil.disk_usage(file.parent).free < size + _SPARE:
            raise OSError(errno.ENOSPC, "not enough free space")
        console.notice(f"decoding {len(self.paths)} images once into {file} ({megabytes(size)})")
        with replacing(file) as part, part.open("wb") as out:
            bad = self._decode_all(lambda _, rows: out.writelines(row.data for row in rows))
            out.write(bad.data)
            out.write(about)
        old = [cache for cache in caches.listed(file.parent) if not cache.current]
        if old:
            console.notice(
                f"{file.parent}: {len(old)} caches ({megabytes(sum(cache.size for cache in old))}) of photos that have "
                f"changed since; dgnet data cache {shlex.quote(str(file.parent))} --clear deletes them"
            )


def _put(pixels: Pixels, start: int, rows: list[Pixels]) -> None:
    pixels[start : start + len(rows)] = rows


def _check_memory(count: int, height: int, width: int) -> None:
    """Say how much memory the images take; raises `UserError` where there is less."""
    size = count * height * width * 3
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's number of processes on this machine
    each = f" in each of {processes} processes" if processes > 1 else ""
    said = f"decoding {count} images into memory ({megabytes(size)}{each})"
    free = available_memory()
    if free is None or size * processes < free * _LARGE_SHARE:
        console.notice(said)
        return
    if size * processes > free:
        raise UserError(
            f"{count} images of {height} x {width} take {megabytes(size)} of memory{each}, and {megabytes(free)} are "
            f"free; keep them on disk: {_ON_DISK}"
        )
    console.notice(f"{said}, of {megabytes(free)} that are free; on disk: {_ON_DISK}")


def megabytes(size: int) -> str:
    return f"{max(1, round(size / 1e6))} MB" if size < 1e10 else f"{size / 1e9:.1f} GB"
