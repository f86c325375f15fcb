"""Batch norm whose statistics are those of all processes: P of them with n images each are one with P n.

PyTorch's own (`nn.SyncBatchNorm`) is for GPUs only and for whole batches.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dgnet.device import full_precision
from dgnet.processes import GO_ON, told_if_lost


class _Everyone(torch.autograd.Function):
    """A tensor of every process, [P, ...], in each. The gradient is that of the sum of all processes' losses."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        with told_if_lost(GO_ON):
            dist.all_gather(everyone, mine.contiguous())
        return torch.stack(everyone)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        with told_if_lost(GO_ON):
            dist.all_reduce(total)
        return total[dist.get_rank()]


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """As `F.batch_norm` in training, of x [n, C] or [n, C, H, W] and as many images in every other process.

    With the mean m and the variance v of all processes: (x - m) / sqrt(v + eps) * weight + bias.
    """
    assert training
    wide = full_precision(x)
    own = torch.stack(torch.var_mean(wide, [0, *range(2, x.dim())], correction=0))  # [2, C]
    variances, means = _Everyone.apply(own).unbind(1)  # type: ignore[no-untyped-call]  # [P, C] each
    mean = means.mean(0)
    variance = variances.mean(0) + (means - mean).square().mean(0)
    if running_mean is not None and running_var is not None:
        seen = len(means) * x.numel() // x.shape[1]  # numbers per channel
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (seen / max(1, seen - 1)), momentum)
    scale = weight * (variance + eps).rsqrt()
    over = (1, -1, *[1] * (x.dim() - 2))
    return torch.addcmul((bias - mean * scale).view(over), wide, scale.view(over)).to(x.dtype)
