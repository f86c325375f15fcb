"""What makes photos harder to recognise, for the identity losses alone: other light, lost colours, patches, holes.

Each takes normalised images [N, 3, H, W] and a generator, and returns others; every image on its own, with a
probability. The network that paints people sees none of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dgnet.config import Augmentation
from dgnet.images.transforms import denormalise, random_erasing, rectangles, renormalise

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in gray (ITU-R BT.601)


def disturbance(
    erasing: float, augmentation: Augmentation, generator: torch.Generator
) -> Callable[[Tensor], Tensor] | None:
    """All that has a probability, one after the other; None where nothing has."""
    chosen: list[tuple[Callable[[Tensor, torch.Generator, float], Tensor], float]] = [
        (colour_jitter, augmentation.colour_jitter),
        (local_grayscale, augmentation.local_grayscale),
        (random_patch, augmentation.random_patch),
        (random_erasing, erasing),
    ]
    chosen = [(change, probability) for change, probability in chosen if probability]

    def disturb(x: Tensor) -> Tensor:
        for change, probability in chosen:
            x = change(x, generator, probability)
        return x

    return disturb if chosen else None


def colour_jitter(x: Tensor, generator: torch.Generator, probability: float = 0.5, strength: float = 0.2) -> Tensor:
    """Brightness, contrast and saturation of some images, each times its own factor in [1 - strength, 1 + strength].

    Contrast is the distance to the image's mean gray, saturation that to each pixel's gray. x, normalised, is not
    changed.
    """
    changed = torch.rand(len(x), generator=generator, device=generator.device) < probability
    factors = 1 + strength * (2 * torch.rand(3, len(x), generator=generator, device=generator.device) - 1)
    changed, factors = (drawn.to(x.device, non_blocking=True) for drawn in (changed, factors))
    brightness, contrast, saturation = factors.to(x.dtype).view(3, -1, 1, 1, 1)
    pixels = (denormalise(x) * brightness).clamp(0, 1)
    gray = _gray(pixels).mean((2, 3), keepdim=True)
    pixels = (gray + contrast * (pixels - gray)).clamp(0, 1)
    gray = _gray(pixels)
    pixels = (gray + saturation * (pixels - gray)).clamp(0, 1)
    return torch.where(changed.view(-1, 1, 1, 1), renormalise(pixels), x)


def local_grayscale(
    x: Tensor,
    generator: torch.Generator,
    probability: float = 0.4,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 3.33),
) -> Tensor:
    """A copy of x, normalised, in which some images have one rectangle in gray.

    Gong et al., "An effective data augmentation for person re-identification", 2021. Rectangles as in random erasing.
    """
    inside = rectangles(x, generator, probability, area, aspect).mask
    return torch.where(inside, renormalise(_gray(denormalise(x)).expand_as(x)), x)


def random_patch(
    x: Tensor,
    generator: torch.Generator,
    probability: float = 0.5,
    area: tuple[float, float] = (0.01, 0.5),
    aspect: tuple[float, float] = (0.1, 10.0),
) -> Tensor:
    """A copy of x in which some images have one rectangle covered by one of equal size from another image of the batch.

    As Zhou et al., "Learning generalisable omni-scale representations", TPAMI 2021, but for the pool, which is the
    batch: an iteration then depends on nothing but its seed. x of a single image is returned as it is.
    """
    count, _, height, width = x.shape
    if count == 1:
        return x
    drawn = rectangles(x, generator, probability, area, aspect)
    step, down, right = torch.rand(3, count, 1, generator=generator, device=generator.device, dtype=torch.float64)
    other = (torch.arange(count, device=generator.device)[:, None] + 1 + (step * (count - 1)).floor().long()) % count
    top = (down * (height - drawn.tall + 1)).floor()  # [N, 1], of the patch in the other image
    left = (right * (width - drawn.wide + 1)).floor()
    row = (torch.arange(height, device=generator.device) - drawn.top + top).long().clamp(0, height - 1)  # [N, H]
    column = (torch.arange(width, device=generator.device) - drawn.left + left).long().clamp(0, width - 1)  # [N, W]
    other, row, column = (index.to(x.device, non_blocking=True) for index in (other, row, column))
    patch = x[other[:, :, None], :, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)  # [N, 3, H, W]
    return torch.where(drawn.mask, patch, x)


def _gray(pixels: Tensor) -> Tensor:
    """[N, 3, H, W] in [0, 1] -> [N, 1, H, W]"""
    return (pixels * pixels.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
