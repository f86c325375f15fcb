"""The machine that a run is on: which device it computes on, how precisely, and a setting of memory for a CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgnet.errors import UserError

if TYPE_CHECKING:
    import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc, malloc.h
_GIGABYTE = 1 << 30


def keep_freed() -> bool:
    """Let this process, and those it forks, keep the memory of freed tensors for the next ones.

    By default glibc gives large blocks back to the kernel, which then zeroes them page by page whenever the next
    tensor asks for them: measured, 13 to 28 % of a training step of small convolutions on a CPU.
    The peak of memory in use stays the same. To be called once, early.

    Returns:
        Whether it was done: False on other C libraries.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_MMAP_THRESHOLD, _GIGABYTE) and libc.mallopt(_TRIM_THRESHOLD, _GIGABYTE))
    except (OSError, AttributeError):
        return False


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """`x` in float32 if it is in half precision; float32 and float64 as they are."""
    return x.float() if x.is_floating_point() and x.element_size() == 2 else x


@contextmanager
def float32_as(*, tf32: bool, benchmark: bool) -> Iterator[None]:
    """Inside, float32 on a GPU means what is said, in matrix products and in convolutions; and cuDNN tries its ways.

    Args:
        tf32: with 10 bits of mantissa, on tensor cores, instead of 23.
        benchmark: whether cuDNN times several algorithms for every new shape and keeps the quickest.
    """
    import torch

    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    tried = torch.backends.cudnn.benchmark
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if tf32 else "ieee"
        torch.backends.cudnn.benchmark = benchmark
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
        torch.backends.cudnn.benchmark = tried


def available_memory() -> int | None:
    """Bytes that this process could still take without swapping, by the machine and by the container it is in.

    None where that is not known: on other systems than Linux.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        used, most = (int((group / name).read_text()) for name in ("memory.current", "memory.max"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, min(free, most - used + int(counts["inactive_file"])))  # what was read ahead is given back
    except (OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        return free


def device_named(name: str | torch.device) -> torch.device:
    """`auto` is the first GPU if there is one. Raises `UserError` if the device isn't there.

    A `torch.device` may be of any kind that this machine has; names are those of the command line.
    """
    import torch  # takes seconds: the command line calls `keep_freed` before it is needed

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device: torch.device | None = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        device = None
    if device is None or (isinstance(name, str) and device.type not in ("cpu", "cuda")):
        raise UserError(f"--device {name}: not available here; use auto, cpu, cuda or cuda:N")
    return device
