"""Files that are whole or not there: replaced in one move, or fetched once with their hash checked."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dgnet import __version__, console
from dgnet.errors import UserError


def expanded(path: str | Path) -> Path:
    """`path` with `~` as the home folder. Raises `UserError` for a user that there is not."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no home folder of that user is known; write the path in full") from error


def content(path: Path) -> bytes:
    """What is in a file. Raises `OSError`, too, for a pipe or a device, which may never end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a pipe or a device, no file", str(path))
    return path.read_bytes()


def is_file(path: Path) -> bool:
    """Whether there is such a file: no for a name that no file can have, which `Path.is_file` may raise at."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which becomes `path` once it is safely on disk; on failure, nothing stays.

    A symbolic link stays one, and what it leads to is replaced. A pipe or a device cannot be replaced: it is given
    what was written. Raises `UserError` for a folder.
    """
    path = expanded(path)
    target = path.resolve() if path.is_symlink() else path
    if target.is_dir():
        raise UserError(f"{path}: a folder; the name of a file to write is needed")
    if target.exists() and not target.is_file():
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder, target.name)
            yield part
            with part.open("rb") as written, target.open("wb") as out:
                shutil.copyfileobj(written, out)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        if error.filename is None:  # a full disk is told of no file
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, which is new or empty, to write to; it becomes `folder` at the end. On failure, nothing
    stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        os.rename(part, folder)  # noqa: PTH104
    finally:
        shutil.rmtree(part, ignore_errors=True)


def occupied(folder: Path) -> bool:
    """Whether something is there already: a file, or a folder that is not empty."""
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def write_json(path: Path, value: Any, *, ascii: bool = True) -> None:
    """Write `value` as JSON, a line for each entry, all or nothing. Raises as `replacing`."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=ascii) + "\n", encoding="utf-8")


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_file(source: str, advice: str) -> Path:
    """Where `source` lies on this machine: a path, a URL (`https://...#sha256=HASH`) or `hub:user/name/file`.

    What is fetched goes into the cache of torch.hub, or of the Hugging Face Hub. A URL needs no `#sha256=` if its file
    is named after the start of its hash, as `resnet50-0676ba61.pth` is. Raises `UserError`, which ends with `advice`
    where there is nothing to be had.
    """
    if re.match(r"(https?|file)://", source):
        return _from_url(source, advice)
    if source.startswith("hub:"):
        return _from_hub(source, advice)
    path = expanded(source)
    if path.is_dir():
        there = sorted(file.name for file in path.glob("*.*") if file.suffix in (".safetensors", ".pt", ".pth"))
        raise UserError(f"weights {source!r}: a folder; give the file in it ({', '.join(there) or 'there is none'})")
    if not path.is_file():
        raise UserError(f"weights {source!r}: no such file; {advice}")
    return path


def _from_url(source: str, advice: str) -> Path:
    url, _, fragment = source.partition("#")
    name = Path(urlsplit(url).path)
    named = re.search(r"-([0-9a-f]{8,64})$", name.stem)
    digest = fragment.removeprefix("sha256=").lower() or (named[1] if named else "")
    if not re.fullmatch(r"[0-9a-f]{8,64}", digest):
        raise UserError(f"weights {source}: put #sha256=HASH behind the URL, so that the file can be checked")
    from http.client import HTTPException

    import torch  # takes seconds, and is not needed to read a configuration

    cached = Path(torch.hub.get_dir(), "checkpoints", name.name if named else f"{name.stem}-{digest[:16]}{name.suffix}")
    if cached.is_file() and file_hash(cached).startswith(digest):
        return cached
    try:
        with replacing(cached) as part:
            _download(url, part)
            if not (got := file_hash(part)).startswith(digest):
                raise UserError(
                    f"weights {url}: its SHA-256 is {got}, not {digest}: damaged on the way, or another file"
                )
    except (OSError, HTTPException) as error:
        raise UserError(f"weights {url}: cannot be fetched ({error}); {advice}") from error
    return cached


def _download(url: str, to: Path) -> None:
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": f"dgnet/{__version__}"})
    with (
        urllib.request.urlopen(request, timeout=30) as reply,
        to.open("wb") as file,
        console.progress(speed_unit="MB") as bar,
    ):
        size = reply.headers["Content-Length"]
        task = bar.add_task(f"fetching {url}", total=int(size) / 1e6 if size else None, note="")
        while piece := reply.read(1_000_000):
            file.write(piece)
            bar.advance(task, len(piece) / 1e6)


def _from_hub(source: str, advice: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UserError(f"weights {source}: needs huggingface_hub: pip install 'dgnet[hub]'") from error
    parts = source.removeprefix("hub:").split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise UserError(f"weights {source}: write it as hub:user/name/file")
    user, name, file = parts
    try:
        return Path(hf_hub_download(repo_id=f"{user}/{name}", filename=file))
    except (OSError, ValueError) as error:  # the hub's own errors are one or the other
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"weights {source}: cannot be fetched ({reason}); {advice}") from error
