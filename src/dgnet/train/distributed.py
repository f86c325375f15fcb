"""Several processes, one per GPU, as `torchrun` starts them. In a single process every function here does nothing.

`DistributedDataParallel` hooks into `forward` alone; networks that are called through other methods, or frozen for part
of a step, would silently go without averaged gradients. Averaging after the backward pass cannot miss any.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dgnet import console
from dgnet.errors import UserError


def start(device: torch.device) -> torch.device:
    """Join the other processes if `torchrun` started this one; returns this process's device. Only the first talks.

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
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except ValueError as error:  # variables of the environment are missing
            raise UserError(f"WORLD_SIZE is set, but {error}; start several processes with torchrun") from error
        atexit.register(dist.destroy_process_group)
    console.stdout.quiet = console.stderr.quiet = rank() > 0
    return device


def rank() -> int:
    """Number of this process, 0 in a single one."""
    return dist.get_rank() if _several() else 0


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _several() else 1


def wait() -> None:
    """Until every process is here."""
    if _several():
        dist.barrier()


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process."""
    if not _several():
        return flag
    total = torch.tensor([float(flag)], device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(total)
    return bool(total.item())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over all processes, in one exchange.

    All processes build the same graph, so the same parameters have a gradient in each.
    """
    if _several():
        _average([p.grad for p in parameters if p.grad is not None])


def average_statistics(module: nn.Module) -> None:
    """Replace every running statistic by its mean over all processes, so that all hold the same network."""
    if _several():
        _average([buffer for buffer in module.buffers() if buffer.is_floating_point()])


def broadcast(module: nn.Module) -> None:
    """Give every process the weights of the first."""
    if _several():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _average(tensors: list[Tensor]) -> None:
    if not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))
