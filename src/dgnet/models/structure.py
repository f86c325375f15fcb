"""E_s, the structure encoder: a gray or edge image -> the structure code s (pose, body shape, background, viewpoint).

Zheng et al., "Joint Discriminative and Generative Learning for Person Re-identification", CVPR 2019, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dgnet.models.layers import Conv, ResidualBlock


class DilatedPyramid(nn.Module):
    """Four parallel views of the same map, at dilations 1, 3, 6 and 9, fused by a 1x1 convolution (ASPP).

    [N, C, h, w] -> [N, 2 C, h, w]. No activation at the branches' ends nor after the fusion.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.point = Conv(channels, half, 1, norm="instance", rectify=False)
        self.dilated = nn.ModuleList(
            nn.Sequential(
                Conv(channels, half, 1, norm="instance"),
                Conv(half, half, 3, dilation=dilation, norm="instance", rectify=False),
            )
            for dilation in (3, 6, 9)
        )
        self.fuse = Conv(2 * channels, 2 * channels, 1, norm="instance", rectify=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([self.point(x), *(branch(x) for branch in self.dilated)], dim=1))  # type: ignore[no-any-return]


class StructureEncoder(nn.Module):
    """E_s: [N, 1, H, W] -> s [N, 8 width, H/d, W/d], d = `downsampling`, 2 or 4.

    Published: width 16 and d = 4, so s = 128 x 64 x 32 for 256 x 128.
    """

    def __init__(
        self, width: int = 16, residual_blocks: int = 4, *, downsampling: int = 4, non_local: bool = False
    ) -> None:
        super().__init__()
        self.channels = 8 * width
        self.stem = nn.Sequential(
            Conv(1, width, 3, stride=2, norm="instance"),
            Conv(width, 2 * width, 3, norm="instance"),
            Conv(2 * width, 2 * width, 3, norm="instance"),
            Conv(2 * width, 4 * width, 3, stride=downsampling // 2, norm="instance"),
        )
        self.residual = nn.Sequential(
            *(ResidualBlock(4 * width, "instance", non_local=non_local) for _ in range(residual_blocks))
        )
        self.pyramid = DilatedPyramid(4 * width)

    def forward(self, gray: Tensor) -> Tensor:
        return self.pyramid(self.residual(self.stem(gray)))  # type: ignore[no-any-return]
