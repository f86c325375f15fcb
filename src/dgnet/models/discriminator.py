"""D, the judges of realism: patch discriminators at several scales, or one critic that scores the whole image."""

from __future__ import annotations

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.device import full_precision
from dgnet.models.layers import SLOPE, Conv, ResidualBlock


class Discriminator(nn.Module):
    """D: x [N, 3, H, W] -> one map of scores per scale, [N, 1, H/4, W/4], [N, 1, H/8, W/8], ... (`lsgan`, `nsgan`)."""

    def __init__(self, width: int = 32, scales: int = 3, residual_blocks: int = 4, *, non_local: bool = False) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(
                Conv(3, width, 1),
                Conv(width, width, 3),
                Conv(width, width, 3, stride=2),
                Conv(width, width, 3),
                Conv(width, 2 * width, 3, stride=2),
                *(ResidualBlock(2 * width, None, non_local=non_local) for _ in range(residual_blocks)),
                Conv(2 * width, 1, 1, rectify=False),
            )
            for _ in range(scales)
        )
        gaussian(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        scores = []
        for number, scale in enumerate(self.scales):
            if number:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            scores.append(full_precision(scale(x)))
        return scores


class Critic(nn.Module):
    """The one-score critic of `wgan`: x [N, 3, H, W] -> [[N]], a list of one to be called like `Discriminator`.

    4x4 stride-2 convolutions halve the image, six times as published or until its shorter side is 2, the channels
    doubling up to 512; one convolution over what is left gives the score.
    """

    def __init__(self, size: tuple[int, int], width: int = 32) -> None:
        super().__init__()
        halvings = min(6, int(math.log2(min(size))) - 1)
        channels = [3, *(min(width * 2**number, 512) for number in range(halvings))]
        layers: list[nn.Module] = []
        for channels_in, channels_out in pairwise(channels):
            layers += [
                nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, padding_mode="reflect"),
                nn.LeakyReLU(SLOPE),
            ]
        rest = (size[0] >> halvings, size[1] >> halvings)
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, rest))
        gaussian(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [full_precision(self.layers(x)).flatten()]


def gaussian(net: nn.Module) -> None:
    """Normal(0, 0.02) weights and zero biases."""
    for name, parameter in net.named_parameters():
        if name.endswith("gamma"):
            continue
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0.0, 0.02)
        else:
            nn.init.zeros_(parameter)
