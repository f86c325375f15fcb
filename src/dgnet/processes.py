"""Several processes, one per GPU, as `torchrun` starts them. In a single process every function here does nothing.

torch takes seconds to import: the command line asks for this file where it is needed.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from dgnet import console
from dgnet.errors import UserError

T = TypeVar("T")
GO_ON = "what was saved last stands: the same command with --resume auto goes on from there"
_PATIENCE = timedelta(days=7)  # with the slowest process


def start(device: torch.device, *, sharing: bool = False) -> torch.device:
    """Join the other processes if `torchrun` started this one; returns this process's device. Only the first talks.

    `sharing`: they will work `together`.

    Raises `UserError` if there are more processes than GPUs, or something else started several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if device.type == "cuda":
        place, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= gpus:
            raise UserError(f"torchrun --nproc-per-node: {place + 1} or more processes, but {gpus} GPU(s) here")
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        try:
            store, number, size = next(rendezvous("env://"))
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo", store=_of_this_start(store), rank=number, world_size=size
            )
        except ValueError as error:  # variables of the environment are missing
            raise UserError(f"WORLD_SIZE is set, but {error}; start several processes with torchrun") from error
        atexit.register(dist.destroy_process_group)
    if sharing:
        _of_hosts()  # while all are there
    console.stdout.quiet = console.stderr.quiet = rank() > 0
    return device


def _of_this_start(store: Any) -> Any:
    """The processes' notice board without what those of an earlier start have left there.

    `torchrun --max-restarts` keeps one board for all of its starts, on which a new process can find the address of a
    dead one. Starts are counted on each machine by itself, so several machines need another way (docs/many-gpus.md).
    """
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        return store
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"dgnet/{start}", store)  # type: ignore[attr-defined]  # not in torch's list of names


def rank() -> int:
    """Number of this process, 0 in a single one."""
    return dist.get_rank() if several() else 0


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if several() else 1


def wait() -> None:
    """Until every process is here."""
    if several():
        dist.barrier()


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process."""
    if not several():
        return flag
    total = torch.tensor([float(flag)], device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(total)
    return bool(total.item())


def share(of: int, batch: int) -> slice:
    """Which of so many things are this process's, in a row and in whole batches: those of one process, shared out.

    Examples:
        >>> share(100, 64)  # of a single process
        slice(0, 100, None)
    """
    batches = -(-of // batch)
    begin, end = (batch * (batches * number // count()) for number in (rank(), rank() + 1))
    return slice(begin, min(end, of))


def together(work: Callable[[], T]) -> list[T]:
    """What `work` gives in each process, in their order: the first one has them all, the others none.

    A `UserError` of one of them is raised in all.
    """
    if not several():
        return [work()]
    made: list[Any] = []
    error = ""
    try:
        made = [work()]
    except UserError as own:
        error = str(own)
    errors: list[Any] = [None] * count()
    everything: list[Any] | None = [None] * count() if rank() == 0 else None
    with told_if_lost("start them again"):
        dist.all_gather_object(errors, error, group=_of_hosts())
        if any(errors):
            raise UserError(next(filter(None, errors)))
        dist.gather_object(made[0], everything, group=_of_hosts())
    return everything or []


@contextmanager
def told_if_lost(advice: str) -> Iterator[None]:
    """An exchange that fails, since a process has died, as a `UserError` with that advice."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"another process is lost ({reason}); {advice}") from error


def several() -> bool:
    """Whether there are others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@cache
def _of_hosts() -> Any:
    """All processes, to exchange what is in the memory of hosts."""
    return dist.new_group(backend="gloo", timeout=_PATIENCE)
