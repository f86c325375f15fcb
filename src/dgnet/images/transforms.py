"""Image transforms as batched tensor operations; all chance comes from an explicit generator.

The random numbers are drawn where the generator lives (usually on the CPU) and the pictures are changed where they
are, so a seed gives the same pictures on every device. Default values: Zheng et al., CVPR 2019, section 4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD


def normalise(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] with ImageNet mean 0 and deviation 1, in channels_last memory."""
    # Written on whole rows: broadcasting over an inner dimension of three is eight times slower on a CPU.
    mean, std = (of_channels.flatten().repeat(images.shape[2]) for of_channels in _statistics(images.device))
    rows = images.reshape(-1, len(mean)).float()  # [N H, W 3]
    return torch.addcmul(-mean / std, rows, 1 / (255 * std), out=rows).view(images.shape).permute(0, 3, 1, 2)


def denormalise(x: Tensor) -> Tensor:
    """The inverse of `normalise`: float [N, 3, H, W] -> float [N, 3, H, W] within [0, 1]."""
    mean, std = _statistics(x.device)
    return (x * std.to(x.dtype) + mean.to(x.dtype)).clamp(0, 1)


def renormalise(pixels: Tensor) -> Tensor:
    """The inverse of `denormalise`: float [N, 3, H, W] within [0, 1] -> normalised."""
    mean, std = _statistics(pixels.device)
    return (pixels - mean.to(pixels.dtype)) / std.to(pixels.dtype)


def augment(images: Tensor, generator: torch.Generator, flip: float = 0.5, pad: int = 10) -> Tensor:
    """Flip at random, enlarge the border by repeating it, and crop back at random; each image on its own.

    Args:
        images: uint8 [N, H, W, 3]; left as they are.
        generator: the source of chance.
        flip: probability of a horizontal flip.
        pad: pixels of border on every side; the crop's corner is uniform over the (2 pad + 1)^2 places.
    """
    count, height, width, _ = images.shape
    mirrored = torch.rand(count, generator=generator, device=generator.device) < flip
    down, right = torch.randint(-pad, pad + 1, (2, count), generator=generator, device=generator.device)
    down, right = down.clamp(1 - height, height - 1), right.clamp(1 - width, width - 1)  # beyond: the same picture
    move = _move_one_by_one if images.device.type == "cpu" else _move_at_once
    return move(images, mirrored, down, right)


def random_erasing(
    x: Tensor,
    generator: torch.Generator,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 3.33),
    attempts: int = 100,
) -> Tensor:
    """A copy of x in which some images have one rectangle set to 0 (Zhong et al., "Random Erasing", AAAI 2020).

    Each attempt draws a share of the image's area and a ratio height / width, both uniform; the first rectangle
    smaller than the image in both directions is taken and placed uniformly. Where none fits, the image stays whole.

    Args:
        x: float [N, C, H, W], normalised, so that 0 is the mean colour; not changed.
        probability: of an image being erased at all.
    """
    return x.clone().masked_fill_(rectangles(x, generator, probability, area, aspect, attempts).mask, 0)


class Rectangles(NamedTuple):
    """One rectangle per image: where it begins and its sides in pixels, [N, 1] each, where the generator lives."""

    top: Tensor
    left: Tensor
    tall: Tensor
    wide: Tensor
    mask: Tensor
    """What lies inside, bool [N, 1, H, W], where the images are; nothing of images that have no rectangle."""


def rectangles(
    x: Tensor,
    generator: torch.Generator,
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
    attempts: int = 100,
) -> Rectangles:
    """Rectangles as in random erasing, for images x [N, C, H, W]; of the others, only the mask is of use."""
    count, _, height, width = x.shape

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        drawn = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
        return low + (high - low) * drawn

    chosen = uniform(count) < probability
    pixels = uniform(count, attempts, low=area[0], high=area[1]) * (height * width)
    ratio = uniform(count, attempts, low=aspect[0], high=aspect[1])
    tall, wide = (pixels * ratio).sqrt().round(), (pixels / ratio).sqrt().round()  # [N, attempts]
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(dim=1, keepdim=True)
    tall, wide = tall.gather(1, first), wide.gather(1, first)  # [N, 1]
    top = (uniform(count, 1) * (height - tall + 1)).floor()
    left = (uniform(count, 1) * (width - wide + 1)).floor()

    row = torch.arange(height, device=generator.device)
    column = torch.arange(width, device=generator.device)
    in_rows = (row >= top) & (row < top + tall) & (chosen & fits.any(dim=1))[:, None]  # [N, H]
    in_columns = (column >= left) & (column < left + wide)  # [N, W]
    sides = torch.cat([in_rows, in_columns], dim=1)  # one copy, which a GPU takes without being waited for
    sides = (sides.pin_memory() if x.is_cuda and not sides.is_cuda else sides).to(x.device, non_blocking=True)
    in_rows, in_columns = sides[:, :height], sides[:, height:]
    return Rectangles(top, left, tall, wide, (in_rows[:, :, None] & in_columns[:, None, :])[:, None])


def _move_at_once(images: Tensor, mirrored: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Mirror some images, then show each from (down, right) on, its border repeated: one gather for all."""
    count, height, width, channels = images.shape
    device = images.device
    mirrored, down, right = (drawn.to(device, non_blocking=True)[:, None] for drawn in (mirrored, down, right))
    row = (torch.arange(height, device=device) + down).clamp(0, height - 1)  # [N, H]
    column = (torch.arange(width, device=device) + right).clamp(0, width - 1)  # [N, W]
    column = torch.where(mirrored, width - 1 - column, column)

    row = row + height * torch.arange(count, device=device)[:, None]
    rows = images.reshape(count * height, width * channels).index_select(0, row.flatten())
    offset = (column[:, :, None] * channels + torch.arange(channels, device=device)).view(count, 1, -1)  # [N, 1, W 3]
    return rows.view(count, height, -1).gather(2, offset.expand(-1, height, -1)).view(images.shape)


def _move_one_by_one(images: Tensor, mirrored: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """The same as `_move_at_once`, by slices: twice as fast on a CPU."""
    height, width = images.shape[1:3]
    moved = torch.empty_like(images)
    moves = zip(images, moved, mirrored.tolist(), down.tolist(), right.tolist(), strict=True)
    for source, target, flipped, y, x in moves:
        if flipped:
            source = source.flip(1)
        top, bottom = max(0, -y), height - max(0, y)  # where the target shows the source itself
        start, end = max(0, -x), width - max(0, x)
        target[top:bottom, start:end] = source[top + y : bottom + y, start + x : end + x]
        target[top:bottom, :start] = target[top:bottom, start : start + 1]
        target[top:bottom, end:] = target[top:bottom, end - 1 : end]
        target[:top] = target[top]
        target[bottom:] = target[bottom - 1]
    return moved


@lru_cache(maxsize=8)
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)
    return mean, std
