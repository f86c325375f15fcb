"""Checkpoints that survive the death of the process at any moment: one safetensors file each, put in place when whole.

A checkpoint is a tree of dictionaries and lists with tensors and plain JSON values as leaves; nothing is pickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from dgnet import console
from dgnet.errors import UserError
from dgnet.files import replacing

_NAME = re.compile(r"\d{8,}\.safetensors")
Tree = dict[str, Any]


def save(path: Path, tree: Tree) -> None:
    """Write `tree` to `path`; what stood there stays whole until the new file is safely on disk.

    Raises `UserError` if the disk is full or the folder cannot be written; nothing half-written stays.
    """
    _write(path, *_copied(tree))


class Saver:
    """Saves the checkpoints of a folder while the training goes on, one after the other; keeps the `keep` newest."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dgnet-checkpoint")
        self._under_way: Future[None] | None = None

    def save(self, iteration: int, tree: Tree, then: Callable[[], None]) -> None:
        """Copy `tree` now, write it meanwhile, then call `then`. Waits for the one before; raises as `wait` does."""
        self.wait()
        self._under_way = self._thread.submit(self._keep_newest, iteration, *_copied(tree), then)

    def wait(self) -> None:
        """Until what was to be saved is on disk. Raises `UserError` if it could not be written."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def look(self) -> None:
        """Raises `UserError` if what was to be saved last could not be written, as far as that is known by now."""
        if self._under_way is not None and self._under_way.done():
            self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.wait()

    def _keep_newest(self, iteration: int, tensors: dict[str, Tensor], plain: Any, then: Callable[[], None]) -> None:
        _write(of_iteration(self._folder, iteration), tensors, plain)
        prune(self._folder, self._keep)
        then()


def _copied(tree: Tree) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a tree by name, copied to the host, and the tree with their names in their places."""
    tensors: dict[str, Tensor] = {}
    plain = _split(tree, "", tensors)
    return tensors, plain


def _write(path: Path, tensors: dict[str, Tensor], plain: Any) -> None:
    try:
        with replacing(path) as part:
            part.write_bytes(serialise(tensors, {"tree": json.dumps(plain)}))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); free some space or choose another run folder") from error


def load(path: Path) -> Tree:
    """The tree that `save` wrote, on the CPU; tuples have become lists.

    Raises `UserError` if the file is missing, damaged, or no such checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        tree: Tree = _join(json.loads(metadata["tree"]), tensors)
        return tree
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such checkpoint") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a whole checkpoint of dgnet ({error})") from error


def of_iteration(folder: Path, iteration: int) -> Path:
    """Where the checkpoint of an iteration stands."""
    return folder / f"{iteration:08d}.safetensors"


def in_folder(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the newest (of the highest iteration) first."""
    found = [path for path in folder.glob("*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def load_newest(folder: Path) -> tuple[Path, Tree]:
    """The newest whole checkpoint; damaged ones are passed over with a warning. Raises `UserError` if none is whole."""
    for path in in_folder(folder):
        try:
            return path, load(path)
        except UserError as error:
            console.warn(f"{error}; trying the one before")
    raise UserError(f"{folder}: holds no whole checkpoint; start a new run folder")


def prune(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the `keep` newest, and what writers that died have left."""
    for path in [*in_folder(folder)[keep:], *folder.glob(".*.part")]:
        path.unlink(missing_ok=True)


def _split(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """`node` with every tensor moved into `tensors` and replaced by {"tensor": its name there}."""
    if isinstance(node, Tensor):
        # A copy, since tensors that share memory, such as the two halves of a batch, cannot be written as they are.
        name = f"{len(tensors)}{path}"  # the number keeps it unique, the path is for people
        tensors[name] = node.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(node, dict):
        # Keys can be numbers (optimiser states): kept as pairs, since JSON would make them words.
        return {"dict": [[key, _split(value, f"{path}/{key}", tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return {"list": [_split(value, f"{path}/{number}", tensors) for number, value in enumerate(node)]}
    return node


def _join(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _join(value, tensors) for key, value in content}
    return [_join(value, tensors) for value in content]
