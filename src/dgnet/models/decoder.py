"""G, the decoder: (structure code s, appearance code f) -> image.

The structure code is the canvas; the appearance code sets the scale and shift of every normalised channel in the
residual blocks (AdaIN; Huang and Belongie, ICCV 2017). Zheng et al., CVPR 2019, section 3.1.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.models.layers import SLOPE, Conv, NonLocal, full_precision, kaiming


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
        x = self.nonloc(x)
        scale, shift = scale[..., None, None], shift[..., None, None]  # [N, 2, C, 1, 1]
        hidden = F.leaky_relu(self.first(x) * scale[:, 0] + shift[:, 0], SLOPE)
        change: Tensor = self.second(hidden)
        return x + change * scale[:, 1] + shift[:, 1]


class Decoder(nn.Module):
    """G: s [N, C, h, w], f [N, code] -> image [N, 3, 4 h, 4 w] (published: C = 128, code = 2048 channels x 4 stripes).

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
        half, quarter = channels // 2, channels // 4
        self.upsample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            Conv(channels, half, 5, norm="layer"),
            nn.Upsample(scale_factor=2, mode="nearest"),
            Conv(half, quarter, 5, norm="layer"),
        )
        self.paint = nn.Sequential(
            Conv(quarter, quarter, 3), Conv(quarter, quarter, 3), Conv(quarter, 3, 1, rectify=False)
        )

    def forward(self, s: Tensor, f: Tensor) -> Tensor:
        x = self.dropout(s)
        parts = f.chunk(len(self.residual), dim=1)
        for block, scale, shift, part in zip(self.residual, self.scales, self.shifts, parts, strict=True):
            x = block(x, scale(part), shift(part))
        return full_precision(self.paint(self.upsample(x)))
