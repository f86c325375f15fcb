"""What makes photos harder: by hand, with a probability, each image on its own, and the same from the same seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dgnet.config import Augmentation
from dgnet.images.disturb import LUMA, colour_jitter, disturbance, local_grayscale, random_patch
from dgnet.images.transforms import denormalise, random_erasing, renormalise

CHANGES = [colour_jitter, local_grayscale, random_patch]
Change = Callable[..., Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int = 200, height: int = 16, width: int = 8) -> Tensor:
    return renormalise(0.2 + 0.6 * torch.rand(count, 3, height, width, generator=seeded(7)))


def touched(x: Tensor, out: Tensor) -> Tensor:
    """Which images are changed, bool [N]."""
    return (out - x).abs().amax((1, 2, 3)) > 1e-6


@pytest.mark.parametrize("change", CHANGES)
def test_a_share_of_the_images_is_changed_and_the_input_is_not(change: Change) -> None:
    x = photos()
    before = x.clone()
    assert torch.equal(change(x, seeded(), 0.0), x)
    assert 60 < touched(x, change(x, seeded(), 0.5)).sum() < 140
    assert touched(x, change(x, seeded(), 1.0)).float().mean() > 0.9  # a patch may have less than half a pixel
    assert torch.equal(x, before)


@pytest.mark.parametrize("change", CHANGES)
def test_the_seed_decides(change: Change) -> None:
    x = photos(8)
    assert torch.equal(change(x, seeded(1), 0.5), change(x, seeded(1), 0.5))
    assert not torch.equal(change(x, seeded(1), 1.0), change(x, seeded(2), 1.0))


def test_jitter_stays_near_the_photo_and_within_the_colours_there_are() -> None:
    x = photos()
    out = colour_jitter(x, seeded(), 1.0)
    assert 0 < (denormalise(out) - denormalise(x)).abs().max() < 0.5
    white = renormalise(torch.ones(4, 3, 2, 2))
    assert colour_jitter(white, seeded(), 1.0).max() <= white.max() + 1e-5


def test_without_saturation_colours_are_gray_and_brightness_is_a_factor() -> None:
    """Strength 0 leaves a photo as it is; of a uniform gray one, only brightness is seen."""
    x = photos(4)
    torch.testing.assert_close(colour_jitter(x, seeded(), 1.0, strength=0), x)
    gray = renormalise(torch.full((500, 3, 2, 2), 0.5))
    factors = denormalise(colour_jitter(gray, seeded(), 1.0))[:, 0, 0, 0] / 0.5
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2


def test_jitter_is_brightness_then_contrast_then_saturation() -> None:
    """Worked out pixel by pixel, from the factors that the same generator gives."""
    pixels = torch.tensor([[[[0.30, 0.50]], [[0.40, 0.45]], [[0.55, 0.35]]]]).repeat(20, 1, 1, 1)  # [20, 3, 1, 2]
    made = denormalise(colour_jitter(renormalise(pixels), seeded(), 1.0))
    generator = seeded()
    torch.rand(20, generator=generator)
    factors = 1 + 0.2 * (2 * torch.rand(3, 20, generator=generator) - 1)
    for n in range(20):
        brightness, contrast, saturation = factors[:, n].tolist()
        bright = pixels[n, :, 0] * brightness  # [3, 2]; nothing here leaves [0, 1]
        gray = [sum(LUMA[c] * float(bright[c, p]) for c in range(3)) for p in range(2)]
        mean = sum(gray) / 2
        apart = mean + contrast * (bright - mean)
        gray = [sum(LUMA[c] * float(apart[c, p]) for c in range(3)) for p in range(2)]
        for p in range(2):
            torch.testing.assert_close(made[n, :, 0, p], gray[p] + saturation * (apart[:, p] - gray[p]))


def test_a_gray_rectangle_is_the_gray_of_its_pixels() -> None:
    x = photos(50)
    pixels = denormalise(x)
    out = denormalise(local_grayscale(x, seeded(), 1.0))
    changed = (out - pixels).abs().amax(1) > 1e-6  # [N, H, W]
    gray = sum(weight * pixels[:, channel] for channel, weight in enumerate(LUMA))
    for channel in range(3):
        torch.testing.assert_close(out[:, channel][changed], gray[changed])
    for inside in changed:  # one rectangle each
        rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
        assert inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert 0.01 < inside.float().mean() < 0.5


def test_a_patch_is_a_piece_of_another_photo_of_the_batch_unscaled() -> None:
    """Every pixel tells its photo, its row and its column."""
    count, height, width = 12, 10, 6
    x = torch.stack(
        torch.meshgrid(torch.arange(count), torch.arange(height), torch.arange(width), indexing="ij"), 1
    ).float()
    pasted = 0
    for seed in range(20):
        out = random_patch(x, seeded(seed), 1.0)
        for own, (photo, seen) in enumerate(zip(x, out, strict=True)):
            inside = seen[0] != own
            assert torch.equal(seen[:, ~inside], photo[:, ~inside])
            if inside.any():
                pasted += 1
                source = seen[:, inside]
                assert len(source[0].unique()) == 1
                for axis in (1, 2):  # moved as a whole
                    assert len((source[axis] - photo[axis][inside]).unique()) == 1
    assert 200 < pasted <= 12 * 20


def test_a_single_photo_has_nobody_to_take_a_patch_from() -> None:
    x = photos(1)
    assert torch.equal(random_patch(x, seeded(), 1.0), x)


def test_all_together_and_none() -> None:
    assert disturbance(0.0, Augmentation(), seeded()) is None
    x = photos(8)
    only_erasing = disturbance(0.5, Augmentation(), seeded(3))
    assert only_erasing is not None
    assert torch.equal(only_erasing(x), random_erasing(x, seeded(3), 0.5))
    every = disturbance(1.0, Augmentation(1.0, 1.0, 1.0), seeded(3))
    assert every is not None
    chance = seeded(3)
    by_hand = random_patch(local_grayscale(colour_jitter(x, chance, 1.0), chance, 1.0), chance, 1.0)
    assert torch.equal(every(x), random_erasing(by_hand, chance, 1.0))
