"""Pictures from a trained generator: grids, swaps, interpolations, and whole folders of generated people.

Photos and pictures are uint8 [N, H, W, 3] tensors on the CPU, at the size that the network was trained on; the network
stays where it is and in the modes it is in. The same weights, photos and seed give the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dgnet.errors import UserError
from dgnet.images.decode import decode, resize
from dgnet.images.transforms import denormalise, normalise
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen

BATCH = 32
Course = Literal["linear", "spherical"]
"""How codes are mixed: see `between`."""


def read(paths: Sequence[Path], height: int, width: int) -> Tensor:
    """Image files of any size as photos uint8 [N, height, width, 3]. Raises UserError naming a file that is none."""
    return torch.from_numpy(np.stack([resize(decode(Path(path)), height, width) for path in paths]))


def grid(net: DGNet, structures: Tensor, appearances: Tensor, batch: int = BATCH) -> Tensor:
    """Everyone in everyone's clothes: [S, H, W, 3] and [A, H, W, 3] -> [A, S, H, W, 3].

    Row j wears appearance j, column i has structure i.
    """
    s, f = structure_codes(net, structures, batch), appearance_codes(net, appearances, batch)
    return torch.stack([paint(net, s, worn.expand(len(s), -1), batch) for worn in f])


def swap(net: DGNet, a: Tensor, b: Tensor, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Pairs exchange their clothes: a [N, H, W, 3] in those of b [N, H, W, 3], and b in those of a."""
    s, f = structure_codes(net, torch.cat([a, b]), batch), appearance_codes(net, torch.cat([b, a]), batch)
    pictures = paint(net, s, f, batch)
    return pictures[: len(a)], pictures[len(a) :]


def interpolate_appearance(
    net: DGNet,
    structures: Tensor,
    start: Tensor,
    end: Tensor,
    steps: int = 11,
    batch: int = BATCH,
    path: Course = "linear",
) -> Tensor:
    """From the clothes of `start` to those of `end` at one structure: each [N, H, W, 3] -> [N, steps, H, W, 3].

    The codes are mixed along `path`: a straight line, or the arc between their directions, their lengths mixed
    linearly. The first and the last step are `start` and `end` themselves.
    """
    _require_ends(steps)
    s = structure_codes(net, structures, batch)
    first, last = appearance_codes(net, start, batch), appearance_codes(net, end, batch)
    return torch.stack([
        paint(net, still.expand(steps, -1, -1, -1), between(one, other, steps, path), batch)
        for still, one, other in zip(s, first, last, strict=True)
    ])  # fmt: skip


def interpolate_structure(
    net: DGNet,
    appearances: Tensor,
    start: Tensor,
    end: Tensor,
    steps: int = 11,
    batch: int = BATCH,
    path: Course = "linear",
) -> Tensor:
    """From the pose of `start` to that of `end` in one appearance: each [N, H, W, 3] -> [N, steps, H, W, 3]."""
    _require_ends(steps)
    f = appearance_codes(net, appearances, batch)
    first, last = structure_codes(net, start, batch), structure_codes(net, end, batch)
    return torch.stack([
        paint(net, between(one, other, steps, path), worn.expand(steps, -1), batch)
        for worn, one, other in zip(f, first, last, strict=True)
    ])  # fmt: skip


def structure_codes(net: DGNet, photos: Tensor, batch: int = BATCH) -> Tensor:
    """s of photos [N, H, W, 3]: [N, C, H / d, W / d], where the network is. Edges have no noise in use."""
    with frozen(net), torch.inference_mode():
        parts = (normalise(part.to(_device(net))) for part in torch.split(photos, batch))
        return torch.cat([net.structure(net.structure_of(x)) for x in parts])


def appearance_codes(net: DGNet, photos: Tensor, batch: int = BATCH) -> Tensor:
    """f of photos [N, H, W, 3]: [N, code], where the network is."""
    with frozen(net), torch.inference_mode():
        parts = (normalise(part.to(_device(net))) for part in torch.split(photos, batch))
        return torch.cat([net.appearance.pool(x)[0] for x in parts])


def paint(net: DGNet, structure: Tensor, appearance: Tensor, batch: int = BATCH) -> Tensor:
    """Pictures of codes [N, C, H / d, W / d] and [N, code]: uint8 [N, H, W, 3] on the CPU.

    Raises:
        UserError: a picture that is not a number everywhere, which no file of bytes could tell from a black one.
    """
    if not len(structure):
        return torch.empty(0, *(net.downsampling * side for side in structure.shape[2:]), 3, dtype=torch.uint8)
    drawn: list[Tensor] = []
    with frozen(net), torch.inference_mode():
        for s, f in zip(torch.split(structure, batch), torch.split(appearance, batch), strict=True):
            x = net.decode(s, f)
            if bad := (~torch.isfinite(x).flatten(1).all(1)).nonzero().flatten().tolist():
                raise UserError(
                    f"picture {len(drawn) * batch + bad[0]} (counted from 0) came out as NaN or infinity: the weights, "
                    "or the codes that it is painted from, are damaged"
                )
            drawn.append((denormalise(x) * 255).round().byte().permute(0, 2, 3, 1).cpu())
    return torch.cat(drawn).contiguous()


def between(start: Tensor, end: Tensor, steps: int, path: Course = "linear") -> Tensor:
    """From one code [...] to another in `steps` steps [steps, ...], ends included.

    `spherical` turns the direction at constant speed (Shoemake, SIGGRAPH 1985) and mixes the lengths linearly; codes of
    one direction are mixed linearly.

    Raises:
        UserError: another path.

    Examples:
        >>> halfway = between(torch.tensor([1.0, 0]), torch.tensor([0, 1.0]), 3, "spherical")[1]
        >>> [round(value, 4) for value in halfway.tolist()]
        [0.7071, 0.7071]
    """
    if path not in ("linear", "spherical"):
        raise UserError(f"path = {path!r}: 'linear' or 'spherical' would be right")
    along = _along(steps, start)
    if path == "linear":
        return torch.lerp(start, end, along)
    lengths = [code.flatten().norm().clamp_min(1e-12) for code in (start, end)]
    first, last = start / lengths[0], end / lengths[1]
    angle = (first * last).sum().clamp(-1, 1).arccos()
    if float(angle.sin()) < 1e-4:
        return torch.lerp(start, end, along)
    turned: Tensor = (((1 - along) * angle).sin() * first + (along * angle).sin() * last) / angle.sin()
    return turned * torch.lerp(lengths[0], lengths[1], along)


def _require_ends(steps: int) -> None:
    if not isinstance(steps, int) or steps < 2:
        raise UserError(f"{steps} steps of interpolation: at least 2, the two ends, would be right")


def _along(steps: int, code: Tensor) -> Tensor:
    """0 to 1 in `steps` steps, in the shape that mixes codes like `code`."""
    return torch.linspace(0, 1, steps, device=code.device).view(-1, *[1] * code.ndim)


def _device(net: DGNet) -> torch.device:
    return next(net.parameters()).device
