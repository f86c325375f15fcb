"""How close an image comes to another, how much images of one person differ, and how near swaps come to the truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dgnet.datasets.records import Split
from dgnet.drawn.dataset import Factors, swap_truth
from dgnet.errors import UserError
from dgnet.generate import edit
from dgnet.models.dgnet import DGNet
from dgnet.pixels import Pixels

WINDOW = 11
SIGMA = 1.5
SWAPS = 240  # pairs of held-out people over which the quality of swaps is measured


def psnr(made: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, -10 log10(mean squared error) in dB, of images `[N, 3, H, W]` in [0, 1]: `[N]`.

    An error of 0.1 everywhere gives 20 dB; equal images give infinity.
    """
    made, target = _comparable(made, target)
    return -10 * (made - target).square().mean(dim=(1, 2, 3)).log10()


def ssim(made: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of images `[N, C, H, W]` in [0, 1], per image `[N]`; 1 for equal images.

    Wang et al., IEEE TIP 2004: Gaussian window 11 x 11 of sigma 1.5, K1 0.01, K2 0.03, the mean over all places where
    the window fits and over the channels, in float64: the variances are small differences of large numbers, of which
    a graphics card's TF32 or an autocast leave little. Raises UserError for images smaller than the window.
    """
    made, target = (images.double() for images in _comparable(made, target))
    count, _, height, width = made.shape
    if min(height, width) < WINDOW:
        raise UserError(f"images are {height} x {width}: SSIM needs at least {WINDOW} x {WINDOW}")
    place = torch.arange(WINDOW, dtype=made.dtype, device=made.device) - WINDOW // 2
    kernel = torch.exp(-(place**2) / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()

    def blur(maps: Tensor) -> Tensor:  # [N, C, H, W] -> [N C, 1, H - 10, W - 10]
        flat = maps.reshape(-1, 1, height, width)
        return functional.conv2d(functional.conv2d(flat, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))

    x, y = blur(made), blur(target)
    variance_x, variance_y = blur(made * made) - x * x, blur(target * target) - y * y
    covariance = blur(made * target) - x * y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * x * y + c1) * (2 * covariance + c2) / ((x * x + y * y + c1) * (variance_x + variance_y + c2))
    return similarity.view(count, -1).mean(1)


def colour_transfer(source: Tensor, target: Tensor) -> Tensor:
    """Images `[N, 3, H, W]` given the colours of others: per channel, the source with the target's mean and deviation.

    The simplest way to dress a pose in other colours, and so what a generator has to beat; clipped to [0, 1].
    """
    source, target = _comparable(source, target)
    mean, target_mean = (images.mean(dim=(2, 3), keepdim=True) for images in (source, target))
    deviation, target_deviation = (images.std(dim=(2, 3), keepdim=True, correction=0) for images in (source, target))
    scale = target_deviation / deviation.clamp_min(1e-6)
    return ((source - mean) * scale + target_mean).clamp(0, 1)


def diversity(images: Tensor, groups: Tensor, *, pairs: int = 1000, seed: int = 0) -> float:
    """Mean SSIM of pairs of images `[N, C, H, W]` of one group (identity) `[N]`: lower is more diverse.

    `pairs` pairs of different images are drawn at random, each with the same chance. Raises UserError where no group
    has two images.
    """
    generator = torch.Generator().manual_seed(seed)
    size = torch.bincount(torch.unique(groups.cpu(), return_inverse=True)[1])
    if size.max() < 2:
        raise UserError("diversity needs two images of one group, and every group has a single image")
    drawn = torch.multinomial((size * (size - 1)).double(), pairs, replacement=True, generator=generator)
    first = (torch.rand(pairs, generator=generator) * size[drawn]).long()
    further = 1 + (torch.rand(pairs, generator=generator) * (size[drawn] - 1)).long()
    members = groups.cpu().argsort(stable=True)
    start = (size.cumsum(0) - size)[drawn]
    left, right = members[start + first], members[start + (first + further) % size[drawn]]
    batches = zip(torch.split(left, 64), torch.split(right, 64), strict=True)
    return sum(float(ssim(images[a], images[b]).double().sum()) for a, b in batches) / pairs


def swap_quality(
    net: DGNet, held_out: Split, factors: Factors, pairs: int = SWAPS, seed: int = 0
) -> tuple[dict[str, Mapping[str, float]], dict[str, Pixels]]:
    """How close G(s_i, f_j) comes to the drawing of structure i in appearance j.

    The pairs are drawn from `held_out` photos of different people. The generator is compared with photo i itself, and
    with photo i whose channels are given the mean and deviation of photo j.

    Returns:
        PSNR (dB) and SSIM by method, and some of the pictures by row.
    """
    rng = np.random.default_rng(seed)
    size = (factors.recipe["height"], factors.recipe["width"])
    i, j = rng.integers(len(held_out), size=(2, 4 * pairs))
    different = np.flatnonzero(held_out.identities[i] != held_out.identities[j])[:pairs]
    i, j = i[different], j[different]
    structure = edit.read([held_out.paths[k] for k in i], *size)
    appearance = edit.read([held_out.paths[k] for k in j], *size)
    drawn = [swap_truth(factors, held_out.paths[a], held_out.paths[b]) for a, b in zip(i, j, strict=True)]
    truth = torch.from_numpy(np.stack(drawn))

    methods = {
        "DG-Net swap": edit.swap(net, structure, appearance)[0],
        "copy of the structure image": structure,
        "per-channel colour transfer": to_bytes(colour_transfer(floats(structure), floats(appearance))),
    }
    quality: dict[str, Mapping[str, float]] = {
        name: {
            "PSNR": float(psnr(floats(pictures), floats(truth)).mean()),
            "SSIM": float(ssim(floats(pictures), floats(truth)).mean()),
        }
        for name, pictures in methods.items()
    }
    rows = {"structure": structure, "appearance": appearance, **methods, "ground truth": truth}
    return quality, {name: pictures[:10].numpy() for name, pictures in rows.items()}


def _comparable(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The same in float32 or better."""
    if first.ndim != 4 or first.shape != second.shape:
        raise UserError(f"images have shapes {list(first.shape)} and {list(second.shape)}: both must be [N, C, H, W]")
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    return first.to(dtype), second.to(dtype)


def floats(pictures: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] in [0, 1]"""
    return pictures.permute(0, 3, 1, 2).float() / 255


def to_bytes(pictures: Tensor) -> Tensor:
    return (pictures * 255).round().byte().permute(0, 2, 3, 1)
