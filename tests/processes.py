"""Processes of their own for tests that stop or kill what they run.

They are forked from a server that has loaded torch, so that they start at once and share no threads with the tests.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dgnet.cli import main
from dgnet.gallery import enrol
from dgnet.gallery.entries import Entry
from dgnet.gallery.gallery import Gallery
from dgnet.images.pieces import Piece
from dgnet.train import checkpoint, distributed
from dgnet.train.loop import Loop

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["dgnet.train.joint", "dgnet.train.baseline", "dgnet.cli"])
PATIENCE = 300  # seconds: the machine may be busy with something else


def start(target: Any, *arguments: Any) -> Any:
    process = _CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def command(arguments: list[str], output: Path, environment: Mapping[str, str]) -> None:
    """`dgnet ARGUMENTS`; what it prints goes to the file `output`."""
    torch.set_num_threads(1)
    os.environ.update(environment)
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(arguments)


def rank(arguments: list[str], output: Path, environment: Mapping[str, str], state: Path, same_draws: bool) -> None:
    """One process of several: `command`, and what it has trained in the end is left in the file `state`.

    With `same_draws` it draws what the first process draws, and saves like that one.
    """
    run = Loop.run

    def kept(self: Loop[Any]) -> bool:
        done = run(self)
        checkpoint.save(state, self._state())
        return done

    Loop.run = kept  # type: ignore[method-assign]
    if same_draws:
        distributed.rank = lambda: 0
    command(arguments, output, environment)


def save_without_end(folder: Path, size: int, reports: Any) -> None:
    """Save checkpoints 1, 2, 3, ... whose every number is that of the checkpoint, and report each that is done."""
    torch.set_num_threads(1)
    number = 0
    while True:
        number += 1
        tree = {"number": number, "parts": [torch.full((size,), float(number)) for _ in range(4)]}
        checkpoint.save(checkpoint.of_iteration(folder, number), tree)
        reports.send(number)
        checkpoint.prune(folder, keep=2)


def entries_of(number: int, count: int = 20) -> tuple[list[Entry], torch.Tensor]:
    """The entries that a writer adds as its change `number`, and their features [count, 8]."""
    entries = [Entry((Piece(Path(f"/photos/{number}/{n}.jpg")),), {"camera": str(number)}) for n in range(count)]
    features = torch.randn(count, 8, generator=torch.Generator().manual_seed(number))
    return entries, features / features.norm(dim=1, keepdim=True)


def change_without_end(folder: Path, first: int, compacting: bool, reports: Any) -> None:
    """Add to a gallery, remove every third change again and, if asked, compact it each time; report what is done."""
    torch.set_num_threads(1)
    gallery = Gallery(folder)
    number = first
    while True:
        gallery.add(*entries_of(number))
        reports.send(("added", number))
        if number % 3 == 0:
            reports.send(("removing", number))
            gallery.remove([f"/photos/{number}"])
            reports.send(("removed", number))
        if compacting:
            gallery.compact()
            reports.send(("compacted", number))
        number += 1


def build_in_small_steps(arguments: list[str], output: Path) -> None:
    """`dgnet gallery build ...` with a commit after every 32 entries."""
    enrol.COMMIT = 32
    command(arguments, output, {})


def hold(folder: Path, reports: Any) -> None:
    """Be a gallery's writer until killed."""
    with Gallery(folder).writing():
        reports.send("holding")
        reports.poll(PATIENCE)
