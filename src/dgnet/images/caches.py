"""A folder of image caches: which belongs to which photos, one builder at a time, and what is no longer of use.

A cache is a file of pixels, a byte per image (1 where it could not be read), and, so that its folder can be looked
through, what it was made of: JSON, and the length of that in 8 bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dgnet import console
from dgnet.errors import UserError

SUFFIX = ".images"
_FORMAT = "dgnet images 2"  # part of every cache's name: change it when the pixels would come out differently
_LENGTH = 8


@dataclass(frozen=True)
class Cache:
    """One file of a cache folder."""

    file: Path
    size: int  # bytes
    images: int
    place: str
    """The folder that all its photos lie in; empty where the file does not say."""
    current: bool
    """Whether its photos are still as they were: if not, nothing will ever read it."""


def name_of(paths: Sequence[Path], height: int, width: int) -> str:
    """The name of the cache of these photos at this size, as they are now.

    A photo is known by its path, its size, and the times of its last change and of the last change of its state
    (`ctime`), which no program can set: another content of equal size and date shows there. On Windows, which has no
    such time, it goes unnoticed.
    """
    digest = hashlib.sha256(f"{_FORMAT} {height}x{width}".encode())
    for path in paths:
        try:
            state = path.stat()
            about = f" {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
        except OSError:
            about = " missing"
        digest.update(b"\n" + os.fsencode(path.resolve()) + about.encode())
    return digest.hexdigest()[:24] + SUFFIX


def description(paths: Sequence[Path], height: int, width: int) -> bytes:
    """What stands behind the pixels."""
    about = {"height": height, "width": width, "paths": [str(path.resolve()) for path in paths]}
    text = json.dumps(about).encode()
    return text + len(text).to_bytes(_LENGTH)


def listed(folder: Path) -> list[Cache]:
    """The caches in a folder, the largest first. Raises `UserError` where there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; data.cache of a configuration names it")
    found = [_cache(file) for file in folder.glob(f"*{SUFFIX}")]
    return sorted(found, key=lambda cache: (-cache.size, cache.file.name))


def cleared(folder: Path, *, every: bool = False) -> list[Cache]:
    """Delete the caches whose photos have changed since, or `every` one, and return them; a process that reads one
    keeps what it has. Raises `UserError` where one cannot be deleted."""
    with locked(folder):
        gone = [cache for cache in listed(folder) if every or not cache.current]
        for cache in gone:
            try:
                cache.file.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{cache.file}: cannot be deleted ({error.strerror}); is it in use?") from error
    return gone


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process; what builders left that were killed is removed.

    On a file system without locks, processes may build the same file at once, each its own, and the last one stays.
    """
    lock = FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.notice(f"waiting for another process that writes to {folder}")
            lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        for leftover in folder.glob(".*.part"):
            leftover.unlink()
        yield
    finally:
        lock.release()


def _cache(file: Path) -> Cache:
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, size - _LENGTH))
            length = int.from_bytes(opened.read(_LENGTH))
            opened.seek(max(0, size - _LENGTH - length))
            about = json.loads(opened.read(length)) if length < size else {}
        paths = [Path(path) for path in about["paths"]]
        now = name_of(paths, about["height"], about["width"])
        return Cache(file, size, len(paths), os.path.commonpath([path.parent for path in paths]), now == file.name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # of version 0.1.0, or damaged
        return Cache(file, size, 0, "", False)
