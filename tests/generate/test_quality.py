"""Image measures by hand, against a literal window loop, and what they must do at the ends of their scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dgnet.errors import UserError
from dgnet.generate.quality import colour_transfer, diversity, psnr, ssim


def images(count=2, height=16, width=13, seed=0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def literal_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """One channel, window by window, weighted moments as in the paper (equations 14 to 16)."""
    place = np.arange(11) - 5
    weight = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    values = []
    for top in range(first.shape[0] - 10):
        for left in range(first.shape[1] - 10):
            x, y = first[top : top + 11, left : left + 11], second[top : top + 11, left : left + 11]
            mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
            var_x, var_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
            cov = (weight * (x - mean_x) * (y - mean_y)).sum()
            luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
            values.append(luminance * (2 * cov + 9e-4) / (var_x + var_y + 9e-4))
    return float(np.mean(values))


def test_psnr_by_hand():
    black = torch.zeros(3, 3, 4, 5)
    shades = torch.stack([black[0] + 0.1, black[0] + 1, black[0]])
    assert psnr(shades, black).tolist() == [pytest.approx(20), pytest.approx(0), math.inf]


def test_ssim_equals_the_literal_windows():
    first, second = images(seed=1), images(seed=2)
    second[1] = 0.7 * first[1] + 0.3 * second[1]
    expected = [np.mean([literal_ssim(a.numpy(), b.numpy()) for a, b in zip(*pair)]) for pair in zip(first, second)]  # noqa: B905
    assert ssim(first, second).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_ssim_is_as_exact_under_an_autocast(dtype):
    first = images(seed=1)
    second = (0.99 * first + 0.01 * images(seed=2)).to(dtype)
    first = first.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ssim(first, second)
    assert found.tolist() == ssim(first.double(), second.double()).tolist()


def test_ssim_at_its_ends():
    one = images()
    assert ssim(one, one).tolist() == pytest.approx([1, 1])
    assert ssim(one, 1 - one).max() < 0
    # Two flat grays: only the luminance term is left, (2 * 0.2 * 0.6 + C1) / (0.04 + 0.36 + C1).
    dark, light = torch.full_like(one, 0.2), torch.full_like(one, 0.6)
    assert ssim(dark, light).tolist() == pytest.approx([(0.24 + 1e-4) / (0.4 + 1e-4)] * 2)
    assert torch.allclose(ssim(one, dark), ssim(dark, one))


def test_each_image_counts_alone():
    first, second = images(4, seed=3), images(4, seed=4)
    for measure in (psnr, ssim):
        alone = torch.cat([measure(first[i : i + 1], second[i : i + 1]) for i in range(4)])
        assert torch.allclose(measure(first, second), alone, atol=1e-12)


def test_colour_transfer_takes_mean_and_deviation():
    source, target = 0.4 + 0.2 * images(seed=5), 0.3 + 0.1 * images(seed=6)
    made = colour_transfer(source, target)
    assert torch.allclose(made.mean((2, 3)), target.mean((2, 3)))
    assert torch.allclose(made.std((2, 3)), target.std((2, 3)))
    assert torch.allclose(colour_transfer(target, target), target)
    flat = colour_transfer(torch.full_like(source, 0.5), target)  # no deviation to stretch
    assert torch.allclose(flat, target.mean((2, 3), keepdim=True).expand_as(flat))
    assert colour_transfer(images(seed=7), 3 * target).max() <= 1


def test_diversity_compares_only_within_groups():
    different = images(6, seed=8)
    same = different[[0, 0, 0, 1, 1, 1]]
    groups = torch.tensor([5, 5, 5, 9, 9, 9])
    assert diversity(same, groups, pairs=50) == pytest.approx(1)
    assert diversity(different, groups, pairs=50) < 0.3
    every = [
        float(ssim(different[a][None], different[b][None])) for a, b in [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]
    ]
    assert diversity(different, groups, pairs=4000) == pytest.approx(np.mean(every), abs=0.005)
    assert diversity(different, groups, pairs=9, seed=1) == diversity(different, groups, pairs=9, seed=1)


def test_bad_images():
    with pytest.raises(UserError, match="at least 11 x 11"):
        ssim(images(height=10), images(height=10))
    with pytest.raises(UserError, match="shapes"):
        psnr(images(2), images(3))
    with pytest.raises(UserError, match="two images of one group"):
        diversity(images(2), torch.tensor([1, 2]))
