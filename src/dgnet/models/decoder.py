"""G, the decoder: (structure code s, appearance code f) -> image.

The structure code is the canvas; the appearance code sets the scale and shift of every normalised channel in the
residual blocks (AdaIN; Huang and Belongie, ICCV 2017). Zheng et al., CVPR 2019, section 3.1.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.device import full_precision
from dgnet.models.layers import SLOPE, Conv, LayerNorm, NonLocal, kaiming, pad, reflection_pad


class StyleMLP(nn.Module):
    """One part of the appearance code -> the scales, or the shifts, of the two AdaIN of one residual block.

    [N, features] -> [N, 2, channels]
    """

    def __init__(self, features: int, width: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(features, width), nn.Linear(width, width), nn.Linear(width, 2 * channels)]
        )
        for layer in self.layers:
            kaiming(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, part: Tensor) -> Tensor:
        first, second, last = self.layers
        hidden = F.leaky_relu(second(F.leaky_relu(first(part), SLOPE)), SLOPE)
        return last(hidden).unflatten(1, (2, -1))  # type: ignore[no-any-return]


class StyledBlock(nn.Module):
    """x + AdaIN(conv3(lrelu(AdaIN(conv3(x))))); nothing after the sum. With `non_local`, attention comes first."""

    def __init__(self, channels: int, *, non_local: bool) -> None:
        super().__init__()
        self.nonloc = NonLocal(channels) if non_local else nn.Identity()
        self.first = Conv(channels, channels, 3, norm="instance", rectify=False)
        self.second = Conv(channels, channels, 3, norm="instance", rectify=False)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """x [N, C, h, w], scale and shift [k N, 2, C] -> [k N, C, h, w]; what has no style yet is computed once."""
        x = self.nonloc(x)
        hidden = self.first(x)
        if (times := scale.shape[0] // x.shape[0]) > 1:  # not len, which would fix the batch of an exported graph
            x, hidden = x.repeat(times, 1, 1, 1), hidden.repeat(times, 1, 1, 1)
        scale, shift = scale[..., None, None], shift[..., None, None]  # [k N, 2, C, 1, 1]
        hidden = F.leaky_relu(hidden * scale[:, 0] + shift[:, 0], SLOPE)
        change: Tensor = self.second(hidden)
        return x + change * scale[:, 1] + shift[:, 1]


class UpsampleConv(nn.Module):
    """Nearest upsampling x2, convolution 5x5, layer norm, rectifier: [N, C_in, h, w] -> [N, C_out, 2 h, 2 w].

    Upsampled pixels come in equal pairs, so an output pixel sees only 3x3 different ones: `upsampled_convolution` makes
    use of that. On small maps, where its many small steps cost more than they save, one is done after the other.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 5, 5))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.norm = LayerNorm(channels_out)
        kaiming(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] * x.shape[3] > 512:
            y = upsampled_convolution(x, self.weight, self.bias)
        else:
            y = F.conv2d(reflection_pad(F.interpolate(x, scale_factor=2), 2), self.weight, self.bias)
        return F.leaky_relu(self.norm(y), SLOPE)


def upsampled_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 5x5 convolution of the nearest-upsampled and reflected `x`, with 2.8 times fewer multiplications.

    x [N, C, h, w], h and w at least 2; weight [O, C, 5, 5], bias [O] -> [N, O, 2 h, 2 w]. Where two taps of the kernel
    fall on an equal pair of pixels, they act as one tap, their sum. Even and odd output pixels pair the taps otherwise:
    that makes 2 x 2 kernels of 3x3 on the small map. They need the border repeated; the outermost pixels, where
    reflection is something else, are computed on their own.
    """
    kernels = torch.stack([torch.stack(_paired(rows, 3), 1) for rows in _paired(weight, 2)], 1)  # [O, 2, 2, C, 3, 3]
    repeated = pad(x, (1, 1, 1, 1), "replicate")
    y = F.pixel_shuffle(F.conv2d(repeated, kernels.flatten(0, 2), bias.repeat_interleave(4)), 2)
    first, last = _outermost(x, weight, bias, 2)
    y = torch.cat([first, y[:, :, 1:-1], last], dim=2)
    first, last = _outermost(x, weight, bias, 3)
    return torch.cat([first, y[:, :, :, 1:-1], last], dim=3)


def _paired(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The five taps along `dim` as three on the small map: for even and for odd output pixels."""
    a, b, c, d, e = weight.unbind(dim)
    return torch.stack([a + b, c + d, e], dim), torch.stack([a, b + c, d + e], dim)


def _outermost(x: Tensor, weight: Tensor, bias: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The first and the last output row (`dim` 2) or column (3) of `upsampled_convolution`.

    Of the upsampled and reflected pixels the first row sees x1 x0 x0 x0 x1, and the last one the same of the other end,
    turned round: two taps on two pixels. Along the row, pixels are upsampled and reflected as they are defined.
    """
    ends = torch.cat([x.narrow(dim, 0, 2), x.narrow(dim, x.shape[dim] - 2, 2).flip(dim)], dim)
    a, b, c, d, e = weight.unbind(dim)
    along, padding, stride = (3, (2, 2, 0, 0), (2, 1)) if dim == 2 else (2, (0, 0, 2, 2), (1, 2))
    seen = pad(ends.repeat_interleave(2, dim=along), padding, "reflect")
    first, last = F.conv2d(seen, torch.stack([b + c + d, a + e], dim), bias, stride=stride).chunk(2, dim)
    return first, last


class Decoder(nn.Module):
    """G: s [N, C, h, w], f [N, code] -> image [N, 3, d h, d w], d = `upsampling`, 2 or 4.

    Published: C = 128, code = 2048 channels x 4 stripes, d = 4.

    f can be k times as long, [k N, code]: then the N structures are painted in the first N appearances, the next N, ...

    Residual block k is styled by the k-th equal part of f, in the order in which f is flattened (channel-major), as
    published, or old weights would not load.
    """

    def __init__(
        self,
        channels: int,
        code: int,
        mlp_width: int = 512,
        residual_blocks: int = 4,
        *,
        upsampling: int = 4,
        dropout: float = 0.0,
        non_local: bool = False,
    ) -> None:
        super().__init__()
        if code % residual_blocks:
            raise ValueError(f"{residual_blocks} residual blocks cannot share an appearance code of {code} equally")
        part = code // residual_blocks
        self.scales = nn.ModuleList(StyleMLP(part, mlp_width, channels) for _ in range(residual_blocks))
        self.shifts = nn.ModuleList(StyleMLP(part, mlp_width, channels) for _ in range(residual_blocks))
        self.dropout = nn.Dropout(dropout)
        self.residual = nn.ModuleList(StyledBlock(channels, non_local=non_local) for _ in range(residual_blocks))
        narrower = [channels, channels // 2, channels // 4][: 1 + upsampling // 2]
        self.upsample = nn.Sequential(*(UpsampleConv(wide, narrow) for wide, narrow in pairwise(narrower)))
        thin = narrower[-1]
        self.paint = nn.Sequential(Conv(thin, thin, 3), Conv(thin, thin, 3), Conv(thin, 3, 1, rectify=False))

    def forward(self, s: Tensor, f: Tensor) -> Tensor:
        x = self.dropout(s.repeat(len(f) // len(s), 1, 1, 1)) if self.dropout.p else s
        parts = f.chunk(len(self.residual), dim=1)
        for block, scale, shift, part in zip(self.residual, self.scales, self.shifts, parts, strict=True):
            x = block(x, scale(part), shift(part))
        return full_precision(self.paint(self.upsample(x)))
