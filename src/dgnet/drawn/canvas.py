"""Drawing in numpy: soft-edged shapes on a float image, straight at the wanted size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Window = tuple[slice, slice]


def colour(code: str) -> Array:
    """Six hexadecimal digits as [3, 1, 1] in 0..1."""
    return np.array([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32).reshape(3, 1, 1)


def ramp(value: Array, pixels: float) -> Array:
    """0 where value is negative, 1 where positive, one pixel of transition; `pixels` = pixels per unit of value."""
    share: Array = np.clip(value * pixels + 0.5, 0, 1)
    return share


def rim(distance: Array, radius: float) -> Array:
    """Brightness of something round: 1 inside, darker towards the outline, where the distance is 0."""
    shade: Array = 1 - np.clip(0.22 + 0.4 * distance / radius, 0, 0.22)
    return shade


def blur(image: Array, sigma: float) -> Array:
    """Separable Gaussian blur of [C, H, W] with edge replication; sigma in pixels, nothing below 0.2."""
    if sigma < 0.2:
        return image
    reach = math.ceil(2.5 * sigma)
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)]
    for axis in (1, 2):
        padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="edge")
        image = np.zeros_like(image)
        for k, tap in enumerate(taps):
            image += tap / sum(taps) * padded[(slice(None),) * axis + (slice(k, k + image.shape[axis]),)]
    return image


class Canvas:
    """An image [3, H, W] in 0..1 to paint on. Places and lengths are in pixels, pixel centres at half-integers."""

    def __init__(self, image: Array) -> None:
        self.image = image
        self.height, self.width = int(image.shape[1]), int(image.shape[2])
        self.rows = np.arange(self.height, dtype=np.float32)[:, None] + np.float32(0.5)
        self.columns = np.arange(self.width, dtype=np.float32)[None] + np.float32(0.5)

    def window(self, left: float, right: float, top: float, bottom: float) -> Window:
        """The rows and columns that a shape within these bounds can touch; empty if it lies outside."""
        rows = slice(max(0, math.floor(top) - 1), max(0, math.ceil(bottom) + 1))
        return rows, slice(max(0, math.floor(left) - 1), max(0, math.ceil(right) + 1))

    def fill(self, window: Window, distance: Array, paint: Array, shade: Array | float = 1.0) -> None:
        """Paint where the distance to the outline is negative, with soft edges one pixel wide."""
        region = self.image[:, window[0], window[1]]
        region += np.clip(0.5 - distance, 0, 1) * (paint * shade - region)

    def limb(self, points: Sequence[tuple[float, float]], radii: Sequence[float], paint: Array) -> None:
        """A chain of tapered capsules, rounded by a darker rim. One point twice is a disc."""
        reach = max(radii)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        window = self.window(min(xs) - reach, max(xs) + reach, min(ys) - reach, max(ys) + reach)
        rows, columns = self.rows[window[0]], self.columns[:, window[1]]
        distance: Array | float = math.inf
        for (ax, ay), (bx, by), ra, rb in zip(points, points[1:], radii, radii[1:], strict=False):
            ux, uy = bx - ax, by - ay
            dx, dy = columns - ax, rows - ay
            along = np.clip((dx * ux + dy * uy) / max(ux * ux + uy * uy, 1e-6), 0, 1)
            dx = dx - along * ux
            dy = dy - along * uy
            distance = np.minimum(distance, np.sqrt(dx * dx + dy * dy) - (ra + along * (rb - ra)))
        self.fill(window, np.asarray(distance), paint, rim(np.asarray(distance), reach))

    def box(self, x: float, y: float, half_width: float, half_height: float, corner: float, paint: Array) -> None:
        """A rectangle around a centre, with round corners and a darker rim as wide as they are."""
        window = self.window(x - half_width, x + half_width, y - half_height, y + half_height)
        dx = np.maximum(np.abs(self.columns[:, window[1]] - x) - (half_width - corner), 0)
        dy = np.maximum(np.abs(self.rows[window[0]] - y) - (half_height - corner), 0)
        distance = np.sqrt(dx * dx + dy * dy) - corner
        self.fill(window, distance, paint, rim(distance, corner))
