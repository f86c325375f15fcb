"""Places for synthetic pedestrians to walk in, and things to walk behind."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dgnet.drawn.canvas import Array, Canvas, colour

_WALL_AND_FLOOR = {
    "street": ("c4bdb0", "8d8f94"),
    "park": ("c3dcea", "93ab6c"),
    "wall": ("b5866a", "a39d94"),
    "hall": ("dcd8cc", "b3aea4"),
    "shop": ("d3c6b4", "968b82"),
    "square": ("d3dade", "bfb199"),
}


@lru_cache(maxsize=256)
def backdrop(scene: str, seed: int, number: int, height: int, width: int) -> Array:
    """A simple place, [3, H, W] in 0..1: floor, wall or sky, and a few shapes. `seed` is the camera's, `number` tells
    its backdrops apart. Cached: copy before painting."""
    walls, floor = (colour(code) for code in _WALL_AND_FLOOR[scene])
    camera, here = np.random.default_rng(seed), np.random.default_rng([seed, number])
    horizon = camera.uniform(0.6, 0.72)
    walls = walls * camera.uniform(0.9, 1.05)
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    below = np.clip((rows - horizon) * height + 0.5, 0, 1)
    upper, lower = walls * (1.06 - 0.16 * rows), floor * (0.84 + 0.5 * (rows - horizon))
    canvas = Canvas((upper + below * (lower - upper) + np.zeros((3, height, width))).astype(np.float32))

    def box(x: float, y: float, half_width: float, half_height: float, paint: Array) -> None:
        canvas.box(x * width, y * height, half_width * width, half_height * height, 0.012 * height, paint)

    shift = here.uniform(-0.5, 0.5)
    if scene == "street":
        for column in (-1, 0, 1, 2):
            for row in (0.13, 0.42):
                box(shift + 0.62 * column, row, 0.15, 0.09, colour("8fa3b0"))
        box(0.5, horizon, 1.0, 0.014, colour("b5b2aa"))
    elif scene == "park":
        box(0.5, horizon - 0.03, 1.0, 0.045, colour("7f9d66"))
        for column in (0, 1):
            x, tone = shift + 0.3 + 0.85 * column, here.uniform(0.85, 1.1)
            canvas.limb(
                [(x * width, 0.3 * height), (x * width, horizon * height)],
                [0.035 * width, 0.05 * width],
                colour("8a7358"),
            )
            for dx, y, radius in ((-0.14, 0.27, 0.2), (0.15, 0.25, 0.2), (0.0, 0.15, 0.24)):
                centre = ((x + dx) * width, y * height)
                canvas.limb([centre, centre], [radius * width] * 2, colour("7fa565") * tone)
    elif scene == "wall":
        for row in range(8):
            box(0.5, horizon * (row + 0.5) / 8, 1.0, 0.004, walls * 0.86)
            for column in (-1, 0, 1, 2):
                x = shift + 0.55 * column + 0.275 * (row % 2)
                box(x, horizon * (row + 1.0) / 8, 0.008, 0.5 * horizon / 8, walls * 0.86)
    elif scene == "hall":
        for column in (-1, 0, 1):
            box(shift + 0.5 + 0.8 * column, 0.25, 0.11, horizon, walls * 0.88)
        box(0.5, horizon, 1.0, 0.012, colour("8b857b"))
    elif scene == "shop":
        box(shift + 0.5, 0.4, 0.42, 0.2, colour("a9c0c8"))
        box(shift + 1.25, horizon - 0.2, 0.2, 0.22, colour("8a6f5c"))
        for stripe in range(-6, 14):
            awning = colour("e8e2d6") if stripe % 2 else colour("b9705f")
            box(shift + 0.14 * stripe, 0.1, 0.07, 0.07, awning)
    else:
        for _ in range(4):
            top = here.uniform(0.15, 0.45)
            box(here.uniform(0, 1), 0.5 * (top + horizon), here.uniform(0.12, 0.2), 0.5 * (horizon - top), walls * 0.9)
        for row in (0.08, 0.2):
            box(0.5, horizon + row, 1.0, 0.004, floor * 0.8)
        box(0.5, horizon, 1.0, 0.008, floor * 0.85)
    return canvas.image


def occlude(canvas: Canvas, kind: str, x: float) -> None:
    """Something between camera and person; x in image widths from the centre."""
    h, w = canvas.height, canvas.width
    x = (0.5 + x) * w
    if kind == "post":
        canvas.box(x, 0.5 * h, 0.055 * w, 0.6 * h, 0.05 * w, colour("7b8085"))
    elif kind == "bin":
        canvas.box(x, 0.95 * h, 0.2 * w, 0.17 * h, 0.03 * h, colour("4f6b5c"))
        canvas.box(x, 0.79 * h, 0.22 * w, 0.02 * h, 0.015 * h, colour("3b5246"))
    elif kind == "hedge":
        for column in (-0.05, 0.3, 0.7, 1.05):
            canvas.limb([(column * w, h), (column * w, h)], [0.26 * w] * 2, colour("5d7d47"))
