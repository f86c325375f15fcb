from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dgnet.images.transforms import (
    _move_at_once,
    _move_one_by_one,
    augment,
    denormalise,
    normalise,
    random_erasing,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, height: int = 14, width: int = 9) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=seeded(99))


def test_normalise_by_hand() -> None:
    image = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 1, 1, 3)
    x = normalise(image)
    expected = [-0.485 / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert x.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_normalise_shape_memory_and_inverse() -> None:
    images = pictures(4)
    x = normalise(images)
    assert x.shape == (4, 3, 14, 9)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((denormalise(x) * 255).round().permute(0, 2, 3, 1).to(torch.uint8), images)


def test_denormalise_stays_within_the_colours_there_are() -> None:
    x = denormalise(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2))
    assert x[..., 0].eq(0).all()
    assert x[..., 1].eq(1).all()


def test_crop_by_hand() -> None:
    """All 9 places of a crop with a border of 1, of the picture 1 2 3 / 4 5 6."""
    image = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.uint8)
    by_hand = [
        [[1, 1, 2], [1, 1, 2]],
        [[1, 2, 3], [1, 2, 3]],
        [[2, 3, 3], [2, 3, 3]],
        [[1, 1, 2], [4, 4, 5]],
        [[1, 2, 3], [4, 5, 6]],
        [[2, 3, 3], [5, 6, 6]],
        [[4, 4, 5], [4, 4, 5]],
        [[4, 5, 6], [4, 5, 6]],
        [[5, 6, 6], [5, 6, 6]],
    ]
    batch = image[None, :, :, None].expand(2700, -1, -1, 3)
    out = augment(batch, seeded(), flip=0, pad=1)
    assert torch.equal(out[..., 0], out[..., 2])
    seen, times = out[..., 0].flatten(1).unique(dim=0, return_counts=True)
    assert sorted(seen.tolist()) == sorted([row[0] + row[1] for row in by_hand])
    assert times.min() > 220  # 300 expected each
    assert times.max() < 380


@pytest.mark.parametrize("pad", [0, 1, 5, 20])
def test_augment_equals_padding_and_cropping_one_by_one(pad: int) -> None:
    images = pictures(24)
    out = augment(images, seeded(5), flip=0.5, pad=pad).numpy()
    places = set()
    for image, got in zip(images.numpy(), out, strict=True):
        found = None
        for flipped in (False, True):
            padded = np.pad(image[:, ::-1] if flipped else image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
            for top in range(2 * pad + 1):
                for left in range(2 * pad + 1):
                    if np.array_equal(padded[top : top + 14, left : left + 9], got):
                        found = (flipped, top, left)
        assert found is not None
        places.add(found)
    assert len(places) > 15 or pad < 5


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 12), st.integers(0, 2**32))
def test_both_ways_of_moving_images_are_one(height: int, width: int, pad: int, seed: int) -> None:
    images = pictures(6, height, width)
    mirrored = torch.rand(6, generator=seeded(seed)) < 0.5
    down = torch.randint(-pad, pad + 1, (6,), generator=seeded(seed)).clamp(1 - height, height - 1)
    right = torch.randint(-pad, pad + 1, (6,), generator=seeded(seed + 1)).clamp(1 - width, width - 1)
    one, other = (move(images, mirrored, down, right) for move in (_move_at_once, _move_one_by_one))
    assert torch.equal(one, other)


def test_flip_alone() -> None:
    images = pictures(6)
    assert torch.equal(augment(images, seeded(), flip=1, pad=0), images.flip(2))
    assert torch.equal(augment(images, seeded(), flip=0, pad=0), images)
    many = images[:1].expand(2000, -1, -1, -1)
    unflipped = (augment(many, seeded(), flip=0.3, pad=0) == many).flatten(1).all(dim=1)
    assert unflipped.float().mean() == pytest.approx(0.7, abs=0.04)


def test_augment_is_decided_by_the_seed_alone() -> None:
    images = pictures(8)
    before = images.clone()
    torch.manual_seed(1)
    first = augment(images, seeded(7))
    torch.manual_seed(2)
    assert torch.equal(first, augment(images, seeded(7)))
    assert not torch.equal(first, augment(images, seeded(8)))
    assert torch.equal(images, before)


def test_every_image_is_augmented_on_its_own() -> None:
    images = pictures(8)
    changed = images.clone()
    changed[3] = 0
    one, other = augment(images, seeded(7)), augment(changed, seeded(7))
    assert other[3].eq(0).all()
    assert torch.equal(one[[0, 1, 2, 4, 5, 6, 7]], other[[0, 1, 2, 4, 5, 6, 7]])


def erased(count: int = 3000, **options: object) -> Tensor:
    """Which pixels of ones of 64 x 32 were erased: bool [count, 64, 32]."""
    x = torch.ones(count, 3, 64, 32)
    out = random_erasing(x, seeded(3), **options)  # type: ignore[arg-type]
    assert x.eq(1).all()
    assert torch.equal(out, out[:, :1].expand(-1, 3, -1, -1))
    return out[:, 0] == 0


def test_erasing_leaves_one_rectangle_of_zeros() -> None:
    for hole in erased(300, probability=1):
        rows, columns = hole.any(dim=1), hole.any(dim=0)
        assert torch.equal(hole, rows[:, None] & columns[None, :])
        for side in (rows, columns):
            places = side.nonzero()
            assert len(places)
            assert places.max() - places.min() + 1 == len(places)


def test_erasing_by_the_numbers() -> None:
    holes = erased()
    share = holes.flatten(1).float().mean(dim=1)
    assert (share > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    hit = holes[share > 0]
    tall, wide = hit.any(dim=2).sum(dim=1).float(), hit.any(dim=1).sum(dim=1).float()
    # Rounding to whole pixels moves a side by half a pixel at most.
    assert ((tall + 0.5) * (wide + 0.5) >= 0.02 * 64 * 32).all()
    assert ((tall - 0.5) * (wide - 0.5) <= 0.4 * 64 * 32).all()
    assert ((tall + 0.5) / (wide - 0.5) >= 0.3).all()
    assert ((tall - 0.5) / (wide + 0.5) <= 3.33).all()
    assert tall.max() < 64
    assert wide.max() < 32

    # A plain loop over the definition gives the same mean area and height.
    chance = np.random.default_rng(0)
    areas, heights = [], []
    while len(areas) < 3000:
        pixels, ratio = chance.uniform(0.02, 0.4) * 64 * 32, chance.uniform(0.3, 3.33)
        height, width = round((pixels * ratio) ** 0.5), round((pixels / ratio) ** 0.5)
        if height < 64 and width < 32:
            areas.append(height * width)
            heights.append(height)
    assert (tall * wide).mean().item() == pytest.approx(np.mean(areas), rel=0.06)
    assert tall.mean().item() == pytest.approx(np.mean(heights), rel=0.05)


def test_erased_places_are_uniform() -> None:
    holes = erased(4000, probability=1, area=(0.02, 0.02), aspect=(1.0, 1.0))  # 6 x 6
    top = holes.any(dim=2).int().argmax(dim=1)
    left = holes.any(dim=1).int().argmax(dim=1)
    assert (int(top.min()), int(top.max())) == (0, 64 - 6)
    assert (int(left.min()), int(left.max())) == (0, 32 - 6)
    assert top.float().mean().item() == pytest.approx(29, abs=1)
    assert left.float().mean().item() == pytest.approx(13, abs=0.6)


def test_what_does_not_fit_is_not_erased() -> None:
    assert not erased(50, probability=1, area=(0.9, 1.0), aspect=(1.0, 1.0)).any()
    assert not erased(50, probability=0).any()


def test_erasing_is_decided_by_the_seed_and_keeps_the_rest() -> None:
    x = normalise(pictures(16, 32, 16))
    one = random_erasing(x, seeded(1))
    assert torch.equal(one, random_erasing(x, seeded(1)))
    assert not torch.equal(one, random_erasing(x, seeded(2)))
    assert torch.equal(torch.where(one == 0, x, one), x)
    assert one.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_seed_gives_the_same_pictures_on_a_gpu() -> None:
    images = pictures(16)
    assert torch.equal(augment(images.cuda(), seeded(4)).cpu(), augment(images, seeded(4)))
    x = normalise(images)
    assert torch.equal(random_erasing(x.cuda(), seeded(4)).cpu(), random_erasing(x, seeded(4)))
