"""What a step asks of a device, counted without one: operator calls, bytes, copies from the host, synchronisations.

The step runs on the `meta` device, which knows shapes only: 8 + 8 images at the published size take two seconds. It
stands for a GPU in what matters here: whoever needs a number of it on the host fails, and what comes from the host is
copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dgnet import config as configuration
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Teacher, build_baseline
from dgnet.train.optim import joint_optimizers
from dgnet.train.step import JointStep

EARLY, LATE = 1, 10_000  # iterations: before the warm-ups, and with every term, once they start at 0
WARM_UPS = ("loss.warm_up.start=10", "loss.teacher_warm_up.start=10")
INDEXING = ("aten.index.Tensor", "aten.index_put.default", "aten.index_put_.default")
ALLOCATIONS = ("aten.empty", "aten.new_empty")  # nothing is launched for them


class Counts(TorchDispatchMode):
    """Counts what is called inside on another device than the host."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()  # by operator, without views and allocations
        self.views = 0
        self.bytes = 0  # read and written by `calls`
        self.from_host: Counter[str] = Counter()  # calls that take a tensor of the host, numbers ([]) excepted
        self.to_host: Counter[str] = Counter()  # calls whose result is on the host: they wait for the device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        fused = str(func).startswith("aten._fused_")  # optimisers in place: not all of them are known to `meta`
        result = None if fused else func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        tensors, name = [*given, *made], str(func)
        if all(t.device.type == "cpu" for t in tensors) or name.startswith(ALLOCATIONS):
            return result
        if func.is_view:
            self.views += 1
            return result
        self.calls[name] += 1
        self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        # A list as an index is made a tensor on the host; on `meta` that cannot be seen, so every index counts.
        self.from_host[name] += any(t.device.type == "cpu" and t.dim() for t in given) or name in INDEXING
        self.to_host[name] += isinstance(result, bool | int | float) or any(t.device.type == "cpu" for t in made)
        return result


class Counted(NamedTuple):
    """Of one iteration."""

    calls: int
    views: int
    gigabytes: float
    from_host: int
    to_host: int


def step_on(device: str, preset: str, half_batch: int, overrides: Sequence[str] = ()) -> tuple[JointStep, list[Tensor]]:
    """The step of a preset with weights as they are made, and a batch to call it with."""
    config = configuration.load(preset, [*WARM_UPS, f"train.half_batch={half_batch}", *overrides])
    classes, size = 751, (2 * half_batch, 3, config.data.height, config.data.width)
    with torch.device(device):
        net, baseline = DGNet(config, classes).train(), build_baseline(config, classes)
        batch = [torch.zeros(size), torch.zeros(size), torch.zeros(2 * half_batch, dtype=torch.long)]
        erased = torch.zeros(4 * half_batch, 1, *size[2:], dtype=torch.bool)
    with (
        patch("torch.optim.adam._device_dtype_check_for_fused"),
        patch("torch.optim.sgd._device_dtype_check_for_fused"),
    ):
        optimizers = joint_optimizers(net, config.train, torch.device(device))
    erase = (lambda x: x.masked_fill(erased, 0.0)) if config.data.erasing else None
    return JointStep(net, Teacher([baseline]), config, optimizers, torch.Generator(), erase), batch


def counted(iteration: int, half_batch: int = 8, overrides: Sequence[str] = (), preset: str = "market1501") -> Counted:
    """An iteration that is not the first, in which optimisers make their state."""
    step, batch = step_on("meta", preset, half_batch, overrides)
    with (  # neither knows devices without numbers
        patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["meta"]),
        patch("torch.autocast", lambda *given, **named: nullcontext()),
    ):
        for _ in range(2):
            with Counts() as counts:
                step(*batch, iteration)
    return Counted(
        counts.calls.total(),
        counts.views,
        round(counts.bytes / 1e9, 1),
        counts.from_host.total(),
        counts.to_host.total(),
    )
