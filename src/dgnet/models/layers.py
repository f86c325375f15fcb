"""The few layers that DG-Net's networks share, and the two ways in which a network is borrowed: frozen, or grouped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from dgnet import processes
from dgnet.device import full_precision
from dgnet.errors import UserError
from dgnet.models.synchronised import batch_norm

SLOPE = 0.2  # of every leaky rectifier in E_s, G and D


class Conv(nn.Module):
    """Convolution with reflection padding: "same" size at stride 1, then an optional norm, then an optional rectifier.

    `norm` is `"instance"` (not affine) or `None`. [N, C_in, H, W] -> [N, C_out, H', W']

    An instance norm takes out whatever constant a bias adds, so such a bias has no gradient, only rounding noise that
    Adam would amplify. It is kept as a buffer, because published weight files have one, and is not used.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        *,
        dilation: int = 1,
        norm: Literal["instance"] | None = None,
        rectify: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, kernel, kernel))
        self.normalised = norm == "instance"
        if self.normalised:
            self.register_buffer("bias", torch.zeros(channels_out))
        else:
            self.bias = nn.Parameter(torch.zeros(channels_out))
        self.stride, self.dilation, self.rectify = stride, dilation, rectify
        self.padding = dilation * (kernel - 1) // 2
        kaiming(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding:
            x = reflection_pad(x, self.padding)
        x = F.conv2d(x, self.weight, None if self.normalised else self.bias, self.stride, dilation=self.dilation)
        if self.normalised:
            x = F.instance_norm(x)
        return F.leaky_relu(x, SLOPE, inplace=True) if self.rectify else x


def reflection_pad(x: Tensor, padding: int) -> Tensor:
    """Reflect `padding` pixels at every border. A side too short for that repeats its last pixel beyond."""
    shortest = min(x.shape[-2:])
    if padding < shortest:
        return pad(x, (padding,) * 4, "reflect")
    inner = shortest - 1
    x = pad(x, (inner,) * 4, "reflect") if inner else x
    return pad(x, (padding - inner,) * 4, "replicate")


def pad(x: Tensor, borders: tuple[int, ...], mode: Literal["reflect", "replicate"]) -> Tensor:
    """`F.pad` in the precision of `x`: nothing is computed, yet autocast on a CPU would make it float32."""
    mixed = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False) if mixed else nullcontext():
        return F.pad(x, borders, mode=mode)


class LayerNorm(nn.Module):
    """Layer norm as in the published decoder: per sample over C, H, W with the *unbiased* standard deviation.

    y = gamma * (x - mean) / (std + eps) + beta, gamma and beta per channel; gamma starts uniform in [0, 1), beta at 0.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = full_precision(x)
        deviation, mean = torch.std_mean(wide, dim=(1, 2, 3), keepdim=True)
        scale = self.gamma.view(-1, 1, 1) / (deviation + self.eps)  # [N, C, 1, 1]
        return torch.addcmul(self.beta.view(-1, 1, 1) - mean * scale, wide, scale).to(x.dtype)


class NonLocal(nn.Module):
    """Self-attention of the older published networks: gamma * attention(x) + x, softmax over keys, gamma 0 at start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.key_conv = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        for convolution in (self.query_conv, self.key_conv, self.value_conv):
            kaiming(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (  # [N, HW, C']
            convolution(x).flatten(2).mT for convolution in (self.query_conv, self.key_conv, self.value_conv)
        )
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return self.gamma * attended.mT.reshape(x.shape) + x


class ResidualBlock(nn.Module):
    """x + conv3(lrelu(conv3(x))), each with `norm`; nothing after the sum. With `non_local`, attention comes first."""

    def __init__(self, channels: int, norm: Literal["instance"] | None, *, non_local: bool = False) -> None:
        super().__init__()
        self.nonloc = NonLocal(channels) if non_local else nn.Identity()
        self.first = Conv(channels, channels, 3, norm=norm)
        self.second = Conv(channels, channels, 3, norm=norm, rectify=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.nonloc(x)
        change: Tensor = self.second(self.first(x))
        return x + change


class _GroupedStatistics(_BatchNorm):
    """Batch norm whose training statistics are those of each `group` of consecutive samples.

    The published method runs every half-batch on its own; here the convolutions run on the whole batch and only the
    statistics are taken per half. Running statistics are updated group after group, in order. `group` None: the whole
    batch. `synchronised`: those of the group in all processes together.
    """

    group: int | None = None
    synchronised = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        running = (self.running_mean, self.running_var)
        norm = batch_norm if self.synchronised and processes.several() else F.batch_norm
        normalised = [
            norm(part, *running, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
            for part in (torch.split(x, self.group) if self.group else (x,))
        ]
        return normalised[0] if len(normalised) == 1 else torch.cat(normalised)


class BatchNorm2d(_GroupedStatistics, nn.BatchNorm2d):
    """Batch norm of maps [N, C, H, W]; see `_GroupedStatistics`."""


class BatchNorm1d(_GroupedStatistics, nn.BatchNorm1d):
    """Batch norm of vectors [N, C]; see `_GroupedStatistics`."""


def group_statistics(net: nn.Module, group: int | None, *, synchronised: bool = False) -> None:
    """Let every batch norm in `net` take training statistics of `group` consecutive samples (None: the whole batch).

    `synchronised`: of as many in each of the processes of torchrun, together.

    Raises `UserError` for a batch norm that knows no groups: one of PyTorch's own, say, in a backbone from elsewhere.
    """
    for name, module in net.named_modules():
        if isinstance(module, _GroupedStatistics):
            module.group, module.synchronised = group, synchronised
        elif isinstance(module, _BatchNorm):
            raise UserError(
                f"{name or 'the network'} is a {type(module).__module__}.{type(module).__name__}, which cannot take "
                "statistics per half-batch: build the network with dgnet.models.layers.BatchNorm1d and BatchNorm2d"
            )


@contextmanager
def frozen(net: nn.Module, *, batch_statistics: bool = False) -> Iterator[None]:
    """Inside, `net` is a fixed function: gradients run through it to its input, none is computed for its weights.

    Dropout is off. Batch norms, PyTorch's own included, use their running statistics or, with `batch_statistics`, those
    of the batch at hand; the running statistics stay untouched either way. The published method makes a deep copy for
    this; here is none.
    """
    learning = [p for p in net.parameters() if p.requires_grad]
    modes = [(module, module.training) for module in net.modules()]
    norms = [module for module in net.modules() if isinstance(module, _NormBase)]
    statistics = [(norm, name, tensor) for norm in norms for name, tensor in norm.named_buffers(recurse=False)]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        for module, _ in modes:
            module.training = batch_statistics and isinstance(module, _BatchNorm)
        for norm, name, tensor in statistics:
            # Ours need none beside the batch's. Elsewhere copies take whatever moves; backward reads them again, when a
            # later pass may have moved the originals.
            setattr(norm, name, None if batch_statistics and isinstance(norm, _GroupedStatistics) else tensor.clone())
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training
        for norm, name, tensor in statistics:
            setattr(norm, name, tensor)


def kaiming(weight: Tensor) -> None:
    """Kaiming normal initialisation, fan-in, slope 0 (E_s and G)."""
    nn.init.kaiming_normal_(weight, a=0, mode="fan_in")
