"""From the one scaling of pictures that all of dgnet shares to the one that a backbone's published weights learnt with.

Data, G's pictures and the teacher's input are normalised with ImageNet's mean and deviation, whatever the backbone: so
G's output space never moves. A backbone that was trained otherwise converts its own input, by one affine map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD


class Rescale(nn.Module):
    """x [N, 3, H, W], (rgb - ImageNet's mean) / its deviation -> (rgb - mean) / std, of rgb values in [0, 1].

    With mean = std = 0.5 that is (p - 127.5) / 127.5 of pixels p in 0 to 255. It has no weights, so weight files know
    nothing of it.
    """

    scale: Tensor  # [3, 1, 1]
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        theirs, given = (
            torch.tensor(pair, dtype=torch.float64) for pair in ((mean, std), (IMAGENET_MEAN, IMAGENET_STD))
        )
        scale, shift = given[1] / theirs[1], (given[0] - theirs[0]) / theirs[1]
        self.register_buffer("scale", scale.float().view(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift.to(x.dtype), x, self.scale.to(x.dtype))
