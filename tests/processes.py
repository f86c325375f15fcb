"""Processes of their own for tests that stop or kill what they run.

They are forked from a server that has loaded torch, so that they start at once and share no threads with the tests.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dgnet import config as configuration
from dgnet.cli import main
from dgnet.errors import UserError
from dgnet.gallery import embedding, enrol
from dgnet.gallery.entries import Entry
from dgnet.gallery.gallery import Gallery
from dgnet.images.pieces import Piece
from dgnet.images.transforms import random_erasing
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import group_statistics
from dgnet.models.teacher import Teacher, build_baseline
from dgnet.train import batches, checkpoint, distributed
from dgnet.train.chance import generator, seed_of
from dgnet.train.loop import Loop
from dgnet.train.optim import joint_optimizers
from dgnet.train.step import JointStep

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


def places(count: int) -> list[dict[str, str]]:
    """What `torchrun` tells each of so many processes, by their environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**here, "RANK": str(number), "LOCAL_RANK": str(number)} for number in range(count)]


def two_commands(arguments: list[str], folder: Path, target: Any = command) -> list[tuple[int, str]]:
    """`dgnet ARGUMENTS` in two processes: exit code and output of each."""
    outputs = [folder / f"output-{number}.txt" for number in range(2)]
    started = [start(target, arguments, *given) for given in zip(outputs, places(2), strict=True)]
    for process in started:
        process.join(PATIENCE)
    return [(process.exitcode, output.read_text()) for process, output in zip(started, outputs, strict=True)]


def command_that_dies(arguments: list[str], output: Path, environment: Mapping[str, str]) -> None:
    """`command`, whose second process is killed when it is to read its photos."""
    if environment["RANK"] == "1":
        embedding.read = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
    command(arguments, output, environment)


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
        batches.Share.number = lambda self, t: t  # type: ignore[method-assign]
    command(arguments, output, environment)


def rank_on_a_full_disk(
    arguments: list[str], output: Path, environment: Mapping[str, str], state: Path, same_draws: bool
) -> None:
    """`rank`, whose disk is full from the second checkpoint on."""
    write = checkpoint._write

    def full(path: Path, tensors: Any, plain: Any) -> None:
        if "00000004" in path.name:
            raise UserError(f"{path}: cannot be written (No space left on device); free some space")
        write(path, tensors, plain)

    checkpoint._write = full
    rank(arguments, output, environment, state, same_draws)


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


def three_steps(environment: Mapping[str, str], file: Path, synchronised: bool = False) -> None:
    """Three iterations in float64 on this process's share of a batch of 8 + 8; the weights are left in `file`.

    Batch norms take groups of four, or `synchronised` all eight.
    """
    torch.set_num_threads(1)
    os.environ.update(environment)
    device = distributed.start(torch.device("cpu"))
    rank, count = distributed.rank(), distributed.count()
    config = configuration.load(
        "tiny",
        [
            f"train.half_batch={8 // count}",
            "model.appearance.dropout=[0, 0]",
            "teacher.dropout=0",
            f"model.appearance.synchronised={synchronised}",
        ],
    )
    torch.manual_seed(0)
    net, baseline = DGNet(config, 5).double().train(), build_baseline(config, 5).double()
    x, x_pos = torch.randn(2, 16, 3, 32, 16, dtype=torch.float64)
    y = torch.randint(5, (16,))
    mine = torch.arange(16).view(2, count, -1)[:, rank].flatten()
    before = copy.deepcopy(net.state_dict())
    optimizers = joint_optimizers(net, config.train, device)
    step = JointStep(net, Teacher([baseline]), config, optimizers, torch.Generator())
    if not synchronised:
        step.teacher.group = 4
        group_statistics(net.appearance, 4)
    tuned = []
    recovered = step.recovered_structure
    step.recovered_structure = lambda image, tune_encoder: (
        tuned.append(tune_encoder) or recovered(image, tune_encoder=tune_encoder)
    )
    for iteration in (2, 3, 4, 5):
        step(x[mine], x_pos[mine], y[mine], iteration)
        step.coins.manual_seed(seed_of(0, "coin", iteration))
    erased = random_erasing(torch.ones(4, 3, 32, 16), generator(seed_of(0, "images", 1, rank)), probability=1.0)
    weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
    statistics = {name: buffer for name, buffer in net.named_buffers() if "running" in name}
    torch.save({"statistics": statistics, "weights": weights, "before": before, "erased": erased, "tuned": tuned}, file)
