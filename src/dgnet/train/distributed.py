"""Networks that several processes train together. In a single process every function here does nothing.

`DistributedDataParallel` hooks into `forward` alone; networks that are called through other methods, or frozen for part
of a step, would silently go without averaged gradients. `Exchange` hooks into the parameters, and cannot miss any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dgnet.processes import GO_ON, any_process, count, rank, several, start, told_if_lost, wait

__all__ = ["Exchange", "any_process", "average_statistics", "broadcast", "count", "mean", "rank", "start", "wait"]


class Exchange:
    """Replaces gradients by their means over all processes: in buckets, each sent once backward has filled it.

    All processes build the same graph, so the same parameters have a gradient in each, and the buckets leave in the
    same order everywhere. Buckets are of `size` bytes.
    """

    def __init__(self, parameters: dict[str, list[nn.Parameter]], size: int = 25 << 20) -> None:
        self._buckets = {name: _buckets(given, size) for name, given in parameters.items()} if several() else {}
        self._to_send: deque[list[nn.Parameter]] = deque()
        self._filled: set[nn.Parameter] = set()
        self._sent: list[tuple[list[Tensor], Tensor, dist.Work]] = []
        for bucket in (bucket for buckets in self._buckets.values() for bucket in buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(self._note)  # type: ignore[no-untyped-call]

    def begin(self, names: Sequence[str]) -> None:
        """Before the backward pass: whose gradients it computes."""
        if several():
            self._to_send = deque(bucket for name in names for bucket in self._buckets[name])
            self._filled.clear()

    def finish(self, flags: Tensor) -> Tensor:
        """After the backward pass: wait for the means. Returns the sum of `flags` over all processes."""
        if not several():
            return flags
        while self._to_send:  # some parameters have no gradient
            self._send(self._to_send.popleft())
        with told_if_lost(GO_ON):
            dist.all_reduce(flags)
            for gradients, flat, work in self._sent:
                work.wait()
                _spread(flat / dist.get_world_size(), gradients)
        self._sent.clear()
        return flags

    def _note(self, parameter: Tensor) -> None:
        assert isinstance(parameter, nn.Parameter)
        self._filled.add(parameter)
        while self._to_send and self._filled.issuperset(self._to_send[0]):
            self._send(self._to_send.popleft())

    def _send(self, bucket: list[nn.Parameter]) -> None:
        gradients = [p.grad for p in bucket if p.grad is not None]
        if gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            with told_if_lost(GO_ON):
                work = dist.all_reduce(flat, async_op=True)
            assert work is not None
            self._sent.append((gradients, flat, work))


def _buckets(parameters: Sequence[nn.Parameter], size: int) -> list[list[nn.Parameter]]:
    """The last parameters first, as the backward pass comes to them."""
    buckets: list[list[nn.Parameter]] = [[]]
    filled = 0
    for parameter in reversed(parameters):
        buckets[-1].append(parameter)
        filled += parameter.numel() * parameter.element_size()
        if filled >= size:
            buckets.append([])
            filled = 0
    return [bucket for bucket in buckets if bucket]


def average_statistics(module: nn.Module) -> None:
    """Replace every running statistic by its mean over all processes, so that all hold the same network.

    It is a sum of what each iteration added. So where no iteration reads it, one mean in the end is that of every one.
    """
    statistics = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    if several() and statistics:
        _spread(mean(torch.cat([t.flatten() for t in statistics])), statistics)


def mean(numbers: Tensor) -> Tensor:
    """The mean of a tensor over all processes."""
    if several():
        with told_if_lost(GO_ON):
            dist.all_reduce(numbers)
        numbers /= dist.get_world_size()
    return numbers


def broadcast(module: nn.Module) -> None:
    """Give every process the weights of the first."""
    if several():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
