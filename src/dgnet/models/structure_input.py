"""What the structure encoder sees: the picture without its colours, as gray or as edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD

_TAN_22 = 13573  # tan(22.5 degrees) * 2^15: the border between horizontal and diagonal gradients


def gray(x: Tensor) -> Tensor:
    """Mean over the three normalised channels: [N, 3, H, W] -> [N, 1, H, W]."""
    return x.mean(dim=1, keepdim=True)


def edge(x: Tensor, generator: torch.Generator | None, low: int = 10, high: int = 200, noise: float = 0.1) -> Tensor:
    """Canny edges at +0.5 on a ground of -0.5, plus Gaussian noise: normalised [N, 3, H, W] -> [N, 1, H, W].

    Without a generator there is no noise: as a trained network is used. No gradient flows through it.
    """
    edges = canny(_gray_bytes(x.detach()), low, high)[:, None].to(x.dtype) - 0.5
    if generator is None:
        return edges
    drawn = torch.randn(edges.shape, generator=generator, device=generator.device).to(edges)
    return edges + noise * drawn


def canny(image: Tensor, low: int, high: int) -> Tensor:
    """Edges of 8-bit gray pictures after Canny (1986), in the variant of OpenCV.

    Sobel 3 x 3 with repeated border, |dx| + |dy| as strength, thinning across the edge in four directions, and every
    chain of pixels stronger than `low` that touches one stronger than `high`.

    Args:
        image: integer [N, H, W], 0 to 255.

    Returns:
        bool [N, H, W].
    """
    padded = F.pad(image[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0].int()
    smooth_down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]  # [N, H, W + 2]
    smooth_right = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]  # [N, H + 2, W]
    dx = smooth_down[:, :, 2:] - smooth_down[:, :, :-2]
    dy = smooth_right[:, 2:] - smooth_right[:, :-2]
    strength = dx.abs() + dy.abs()

    around = F.pad(strength, (1, 1, 1, 1))
    height, width = strength.shape[1:]

    def neighbour(down: int, right: int) -> Tensor:
        return around[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    across, along = dx.abs() * _TAN_22, dy.abs() << 15
    horizontal = along < across
    vertical = along > across + (dx.abs() << 16)
    falling = (dx ^ dy) >= 0  # the gradient points from top left to bottom right, or back
    peak = torch.where(
        horizontal,
        (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1)),
        torch.where(
            vertical,
            (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0)),
            torch.where(
                falling,
                (strength > neighbour(-1, -1)) & (strength > neighbour(1, 1)),
                (strength > neighbour(-1, 1)) & (strength > neighbour(1, -1)),
            ),
        ),
    )
    weak = peak & (strength > low)
    edges = weak & (strength > high)
    while True:
        grown = weak & (F.max_pool2d(edges[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0)
        if torch.equal(grown, edges):
            return edges
        edges = grown


def _gray_bytes(x: Tensor) -> Tensor:
    """Normalised [N, 3, H, W] -> the 8-bit luma (Rec. 601) of the 8-bit picture, int [N, H, W]."""
    mean, std = x.new_tensor(IMAGENET_MEAN).view(3, 1, 1), x.new_tensor(IMAGENET_STD).view(3, 1, 1)
    rgb = ((x * std + mean).clamp(0, 1) * 255).round().int()
    red, green, blue = rgb.unbind(dim=1)
    return (red * 9798 + green * 19235 + blue * 3735 + (1 << 14)) >> 15
