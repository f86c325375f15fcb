"""A procedural pedestrian: an image is a pure function of who walks there and of how a camera sees it.

The body is a small skeleton in three dimensions (x to the person's left, y up, z ahead; unit = body height) of tapered
limbs and two elliptic cylinders (torso, skirt). It is turned by the viewpoint, projected, and painted from back to
front, straight at the wanted size, with soft edges one pixel wide. What is drawn on the torso lives on its surface:
a jacket is open in front only, straps run over the shoulders, a backpack hides behind the body seen from the front.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

VERSION = 1
"""Raised whenever the same factors give other pixels."""

Array = NDArray[Any]
Point = tuple[float, float, float]

UpperColour = Literal["white", "black", "grey", "red", "orange", "yellow", "green", "sky", "navy", "purple"]
LowerColour = Literal["black", "grey", "navy", "denim", "beige", "brown", "olive", "maroon"]
ShoeColour = Literal["white", "black", "brown", "red"]
BagColour = Literal["black", "brown", "red", "green", "yellow"]
Skin = Literal["porcelain", "light", "tan", "bronze", "umber"]
Hair = Literal["black", "brown", "blond", "ginger", "grey"]
Pattern = Literal["plain", "stripes", "block", "jacket", "raglan"]
Scene = Literal["street", "park", "wall", "hall", "shop", "square"]

_HEX = {
    "white": "ecebe6", "black": "2a2a30", "grey": "8e9298", "red": "c8323a", "orange": "e5812b", "yellow": "efc93d",
    "green": "3c9a5a", "sky": "62aee0", "navy": "27386b", "purple": "8450a5", "denim": "4a6fa5", "beige": "cdb891",
    "brown": "7b5236", "olive": "6b7042", "maroon": "7a2a3c", "porcelain": "f6d7c3", "light": "e9b995", "tan": "cf9568",
    "bronze": "a06a43", "umber": "6b4430", "blond": "d9b565", "ginger": "b5592a",
}  # fmt: skip


def _colour(code: str) -> Array:
    return np.array([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32).reshape(3, 1, 1)


COLOURS = {name: _colour(code) for name, code in _HEX.items()}
_HAIR = {**COLOURS, "black": _colour("1f1a1a"), "brown": _colour("543522"), "grey": _colour("a9a7a4")}
_SCENES = {
    "street": ("b9c3cc", "85878b"),
    "park": ("bcd6e6", "8fa56a"),
    "wall": ("b98a6c", "9b958c"),
    "hall": ("d8d4c8", "a8a39a"),
    "shop": ("c9b7a2", "8c8078"),
    "square": ("cfd3d4", "b7a98f"),
}
_BUILD = {"slim": 0.88, "average": 1.0, "broad": 1.16}


@dataclass(frozen=True)
class Appearance:
    """Who it is: everything that a person carries from camera to camera."""

    skin: Skin = "light"
    hair: Hair = "brown"
    hair_style: Literal["short", "long", "bun", "curly"] = "short"
    upper: UpperColour = "red"
    pattern: Pattern = "plain"
    second: UpperColour = "white"
    """Second colour of the upper garment: of the stripes, the chest block, the shirt below the jacket, the sleeves."""
    sleeves: Literal["long", "short"] = "long"
    lower_kind: Literal["trousers", "shorts", "skirt"] = "trousers"
    lower: LowerColour = "denim"
    shoes: ShoeColour = "white"
    bag: Literal["none", "backpack", "shoulder"] = "none"
    bag_colour: BagColour = "black"
    build: Literal["slim", "average", "broad"] = "average"


@dataclass(frozen=True)
class Camera:
    """One camera: where it hangs and how it records. Lengths are in pixels of an image 128 high."""

    scene: Scene = "wall"
    seed: int = 0
    """Draws the scene's details."""
    light: Annotated[float, Field(gt=0)] = 1.0
    """Gain of all channels."""
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gain of red, green and blue."""
    haze: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Loss of contrast: share of a flat gray."""
    sun: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """Side that the light comes from: -1 left, 1 right."""
    tilt: float = 10.0
    """Degrees that the camera looks down."""
    blur: Annotated[float, Field(ge=0, le=8)] = 0.0
    """Standard deviation of the optical blur."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the sensor noise, of 1 = white."""
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    """JPEG quality."""


@dataclass(frozen=True)
class Structure:
    """Everything in an image but the person's appearance: pose, viewpoint, place and camera."""

    phase: float = 0.0
    """Place in the walking cycle; one cycle (two steps) is 1."""
    view: float = 0.0
    """Degrees: 0 walks towards the camera, 90 to the right of the image, 180 away, 270 to the left."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    x: float = 0.0
    y: float = 0.0
    """Shift of the person in the box, in image widths and heights; right and down."""
    camera: Camera = Camera()
    backdrop: int = 0
    """Which of the camera's backdrops."""
    occluder: Literal["none", "post", "bin", "hedge"] = "none"
    occluder_x: float = 0.0
    """Place of the occluder, in image widths from the centre."""
    seed: int = 0
    """Draws the sensor noise."""


def render(appearance: Appearance, structure: Structure, height: int = 128, width: int = 64) -> NDArray[np.uint8]:
    """The recorded image, [height, width, 3] RGB: exactly what decoding the file written by `jpeg` gives."""
    image: NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg(appearance, structure, height, width), "RGB")
    return image


def jpeg(appearance: Appearance, structure: Structure, height: int = 128, width: int = 64) -> bytes:
    """The image as a JPEG file of the camera's quality, colour at full resolution."""
    picture = expose(appearance, structure, height, width)
    code: bytes = simplejpeg.encode_jpeg(picture, structure.camera.quality, "RGB", "444")
    return code


def expose(appearance: Appearance, structure: Structure, height: int = 128, width: int = 64) -> NDArray[np.uint8]:
    """The image before compression, [height, width, 3] RGB."""
    camera = structure.camera
    canvas = _Canvas(_backdrop(camera.scene, camera.seed, structure.backdrop, height, width).copy(), camera.sun)
    _Walker(appearance, structure, canvas).paint()
    _occlude(structure, canvas)
    image = canvas.image
    gain = np.array(camera.cast, np.float32).reshape(3, 1, 1) * camera.light * (1 - camera.haze)
    image = _blur(image * gain + 0.55 * camera.haze, camera.blur * height / 128)
    if camera.noise:
        noise = np.random.default_rng(structure.seed).standard_normal(image.shape, np.float32)
        image += camera.noise * noise
    image *= 255
    image += 0.5
    return np.ascontiguousarray(np.clip(image, 0, 255, out=image).astype(np.uint8).transpose(1, 2, 0))


def _blur(image: Array, sigma: float) -> Array:
    """Separable Gaussian blur of [3, H, W] with edge replication."""
    if sigma < 0.2:
        return image
    reach = math.ceil(2.5 * sigma)
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)]
    taps = [tap / sum(taps) for tap in taps]
    for axis in (1, 2):
        size = image.shape[axis]
        margin = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(image, margin, mode="edge")
        cut = [padded[:, k : k + size] if axis == 1 else padded[:, :, k : k + size] for k in range(2 * reach + 1)]
        image = taps[0] * cut[0]
        for tap, part in zip(taps[1:], cut[1:], strict=True):
            image += tap * part
    return image


class _Canvas:
    """An image [3, H, W] to paint on, in pixels; pixel centres at half-integers."""

    def __init__(self, image: Array, sun: float = 0.0) -> None:
        self.image = image
        self.height, self.width = image.shape[1:]
        self.sun = sun
        self.rows = np.arange(self.height, dtype=np.float32)[:, None] + np.float32(0.5)
        self.columns = np.arange(self.width, dtype=np.float32)[None] + np.float32(0.5)

    def window(self, left: float, right: float, top: float, bottom: float) -> tuple[slice, slice]:
        rows = slice(max(0, math.floor(top) - 1), max(0, min(self.height, math.ceil(bottom) + 1)))
        columns = slice(max(0, math.floor(left) - 1), max(0, min(self.width, math.ceil(right) + 1)))
        return rows, columns

    def fill(self, window: tuple[slice, slice], distance: Array, colour: Array, shade: Array | float = 1.0) -> None:
        """Paint where the distance to the outline is negative, with soft edges one pixel wide."""
        cover = np.clip(0.5 - distance, 0, 1)
        region = self.image[:, window[0], window[1]]
        region += cover * (colour * shade - region)

    def limb(self, points: list[tuple[float, float]], radii: list[float], colour: Array) -> None:
        """A chain of tapered capsules, rounded by a darker rim."""
        reach = max(radii)
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        window = self.window(min(xs) - reach, max(xs) + reach, min(ys) - reach, max(ys) + reach)
        rows, columns = self.rows[window[0]], self.columns[:, window[1]]
        distance: Array | None = None
        for (ax, ay), (bx, by), ra, rb in zip(points, points[1:], radii, radii[1:], strict=False):
            ux, uy = bx - ax, by - ay
            dx, dy = columns - ax, rows - ay
            along = np.clip((dx * ux + dy * uy) / max(ux * ux + uy * uy, 1e-6), 0, 1)
            dx = dx - along * ux
            dy = dy - along * uy
            part = np.sqrt(dx * dx + dy * dy) - (ra + along * (rb - ra))
            distance = part if distance is None else np.minimum(distance, part)
        assert distance is not None
        self.fill(window, distance, colour, _rim(distance, reach))

    def box(self, x: float, y: float, half_width: float, half_height: float, corner: float, colour: Array) -> None:
        """A rectangle with round corners."""
        window = self.window(x - half_width, x + half_width, y - half_height, y + half_height)
        dx = np.maximum(np.abs(self.columns[:, window[1]] - x) - (half_width - corner), 0)
        dy = np.maximum(np.abs(self.rows[window[0]] - y) - (half_height - corner), 0)
        distance = np.sqrt(dx * dx + dy * dy) - corner
        self.fill(window, distance, colour, _rim(distance, corner))


def _rim(distance: Array, radius: float) -> Array:
    rim: Array = 1 - np.clip(0.22 + 0.4 * distance / radius, 0, 0.22)
    return rim


def _ramp(value: Array, pixels: float) -> Array:
    """0 where value is negative, 1 where positive, one pixel of transition; `pixels` = pixels per unit of value."""
    ramp: Array = np.clip(value * pixels + 0.5, 0, 1)
    return ramp


class _Walker:
    """One person on one canvas."""

    def __init__(self, appearance: Appearance, structure: Structure, canvas: _Canvas) -> None:
        self.who, self.canvas = appearance, canvas
        yaw, tilt = math.radians(structure.view), math.radians(structure.camera.tilt)
        self.yaw, self.cos, self.sin = yaw, math.cos(yaw), math.sin(yaw)
        self.drop, self.rise = math.sin(tilt), math.cos(tilt)
        self.unit: float = 0.93 * structure.scale * min(canvas.height, 2 * canvas.width)
        self.x = (0.5 + structure.x) * canvas.width
        self.ground = (0.955 + structure.y) * canvas.height
        self.build = _BUILD[appearance.build]
        self.cycle = 2 * math.pi * structure.phase
        self.pelvis = 0.0

    def project(self, point: Point) -> tuple[float, float]:
        x, y, z = point
        depth = z * self.cos - x * self.sin
        across = x * self.cos + z * self.sin
        return self.x + across * self.unit, self.ground - (y * self.rise - depth * self.drop) * self.unit

    def depth(self, point: Point) -> float:
        return point[2] * self.cos - point[0] * self.sin

    def span(self, across: float, deep: float) -> float:
        """Half-width, in pixels, of an upright elliptic cylinder seen from here."""
        return math.hypot(across * self.cos, deep * self.sin) * self.unit

    def limb(self, points: list[Point], radii: list[float], colour: Array) -> None:
        self.canvas.limb([self.project(p) for p in points], [r * self.unit for r in radii], colour)

    def paint(self) -> None:
        legs = [self._leg(side) for side in (-1.0, 1.0)]
        self.pelvis = 0.032 - min(min(p[1] for p in leg[2:]) for leg in legs)
        legs = [[(x, y + self.pelvis, z) for x, y, z in leg] for leg in legs]
        arms = [self._arm(side) for side in (-1.0, 1.0)]
        self._shadow()
        self._backside(front=False)
        for arm in arms:
            if self.depth(arm[1]) < -0.01:
                self._paint_arm(arm)
        for leg in sorted(legs, key=lambda leg: self.depth(leg[0]) + 0.3 * self.depth(leg[2])):
            self._paint_leg(leg)
        self._neck()
        if self.who.lower_kind == "skirt":
            self._skirt(legs)
        self._torso()
        self._shoulder_bag(front=True)
        self._head()
        self._backside(front=True)
        for arm in arms:
            if self.depth(arm[1]) >= -0.01:
                self._paint_arm(arm)

    def _leg(self, side: float) -> list[Point]:
        """Hip, knee, ankle, heel and toe, relative to the height of the pelvis."""
        cycle = self.cycle + (0.0 if side > 0 else math.pi)
        hip = 0.46 * math.sin(cycle)
        shin = hip - 0.08 - 0.85 * max(0.0, math.cos(cycle + 0.45)) ** 1.5
        foot = 0.75 * min(0.0, shin + 0.15)
        x = 0.052 * side * self.build
        knee = (x, -0.225 * math.cos(hip), 0.225 * math.sin(hip))
        ankle = (x, knee[1] - 0.215 * math.cos(shin), knee[2] + 0.215 * math.sin(shin))
        toe = (x * 1.25, ankle[1] + 0.095 * math.sin(foot), ankle[2] + 0.095 * math.cos(foot))
        heel = (x, ankle[1] - 0.022 * math.sin(foot), ankle[2] - 0.022 * math.cos(foot))
        return [(x, 0.0, 0.0), knee, ankle, heel, toe]

    def _arm(self, side: float) -> list[Point]:
        """Shoulder, elbow, wrist."""
        swing = -0.5 * math.sin(self.cycle + (0.0 if side > 0 else math.pi))
        bend = swing + 0.22 + 0.3 * max(0.0, swing)
        x, y = side * 0.128 * self.build, self.pelvis + 0.298
        elbow = (x + side * 0.03, y - 0.15 * math.cos(swing), 0.15 * math.sin(swing) - 0.005)
        wrist = (elbow[0] + side * 0.004, elbow[1] - 0.14 * math.cos(bend), elbow[2] + 0.14 * math.sin(bend))
        return [(x, y, -0.005), elbow, wrist]

    def _shadow(self) -> None:
        canvas, unit = self.canvas, self.unit
        x, y = self.x + 0.04 * unit * canvas.sun, self.ground - 0.01 * unit
        window = canvas.window(x - 0.3 * unit, x + 0.3 * unit, y - 0.08 * unit, y + 0.08 * unit)
        dx, dy = (canvas.columns[:, window[1]] - x) / (0.26 * unit), (canvas.rows[window[0]] - y) / (0.06 * unit)
        canvas.image[:, window[0], window[1]] *= 1 - 0.38 * np.clip(1 - dx * dx - dy * dy, 0, 1)

    def _paint_leg(self, leg: list[Point]) -> None:
        who, b = self.who, math.sqrt(self.build)
        hip, knee, ankle, heel, toe = leg
        skin, cloth = COLOURS[who.skin], COLOURS[who.lower]
        if who.lower_kind == "trousers":
            self.limb([heel, toe], [0.031, 0.027], COLOURS[who.shoes])
            self.limb([hip, knee, ankle], [0.064 * b, 0.05 * b, 0.036 * b], cloth)
        else:
            self.limb([hip, knee, ankle], [0.055 * b, 0.036 * b, 0.024 * b], skin)
            self.limb([heel, toe], [0.031, 0.027], COLOURS[who.shoes])
        if who.lower_kind == "shorts":
            end = (knee[0], hip[1] + 0.86 * (knee[1] - hip[1]), hip[2] + 0.86 * (knee[2] - hip[2]))
            self.limb([hip, end], [0.066 * b, 0.058 * b], cloth)

    def _paint_arm(self, arm: list[Point]) -> None:
        who, b = self.who, math.sqrt(self.build)
        shoulder, elbow, wrist = arm
        skin = COLOURS[who.skin]
        sleeve = COLOURS[who.second if who.pattern in ("raglan", "block") else who.upper]
        hand = tuple(w + 0.17 * (w - e) for w, e in zip(wrist, elbow, strict=True))
        self.limb([wrist, (hand[0], hand[1], hand[2])], [0.022, 0.025], skin)
        if who.sleeves == "long":
            self.limb([shoulder, elbow, wrist], [0.045 * b, 0.036 * b, 0.029 * b], sleeve)
        else:
            self.limb([shoulder, elbow, wrist], [0.036 * b, 0.028 * b, 0.021 * b], skin)
            x, y, z = (s + 0.72 * (e - s) for s, e in zip(shoulder, elbow, strict=True))
            self.limb([shoulder, (x, y, z)], [0.047 * b, 0.045 * b], sleeve)

    def _neck(self) -> None:
        y = self.pelvis + 0.31
        self.limb([(0, y, 0), (0, y + 0.075, 0.005)], [0.036, 0.031], COLOURS[self.who.skin] * np.float32(0.9))

    def _cylinder(
        self, top: Point, bottom: Point, heights: list[float], across: list[float], deep: list[float]
    ) -> tuple[tuple[slice, slice], Array, Array, Array, Array]:
        """An elliptic cylinder: window, distance to its outline, side -1..1 across it, longitude, height 0 (top)..1."""
        (x0, y0), (x1, y1) = self.project(top), self.project(bottom)
        widths = [self.span(a, d) for a, d in zip(across, deep, strict=True)]
        reach = max(widths)
        window = self.canvas.window(min(x0, x1) - reach, max(x0, x1) + reach, y0, y1)
        rows, columns = self.canvas.rows[window[0]], self.canvas.columns[:, window[1]]
        v = ((rows - y0) / (y1 - y0)).astype(np.float32)
        width = np.interp(v, heights, widths).astype(np.float32)
        dx = columns - (x0 + v * (x1 - x0))
        distance = np.maximum(np.abs(dx) - width, np.maximum(y0 - rows, rows - y1))
        side = np.clip(dx / width, -1, 1)
        longitude = np.arcsin(side) - np.float32(self.yaw)
        return window, distance, side, longitude, v

    def _torso(self) -> None:
        who, b, p = self.who, self.build, self.pelvis
        across = [0.04, 0.09 * b, 0.128 * b, 0.118 * b, 0.1 * b, 0.106 * b, 0.108 * b]
        deep = [0.04, 0.06, 0.074 * b, 0.08 * b, 0.072 * b, 0.078 * b, 0.08 * b]
        window, distance, side, longitude, v = self._cylinder(
            (0, p + 0.345, 0.0), (0, p - 0.012, 0.0), [0, 0.07, 0.15, 0.35, 0.65, 0.9, 1], across, deep
        )
        pixels = 0.357 * self.unit
        ahead, left = np.cos(longitude), np.sin(longitude)
        colour = COLOURS[who.upper]
        if who.pattern == "stripes":
            wave = _ramp(np.sin(2 * np.pi * (4 * v - 0.1)), pixels / (8 * np.pi))
            colour = colour + wave * (COLOURS[who.second] - colour)
        elif who.pattern == "block":
            colour = colour + _ramp(0.42 - v, pixels) * (COLOURS[who.second] - colour)
        elif who.pattern == "jacket":
            gap = 0.16 + 0.25 * v
            opening = _ramp(gap - np.abs(left), 0.1 * self.unit) * (ahead > 0)
            colour = colour + opening * (COLOURS[who.second] - colour)
        if who.bag == "backpack":
            strap = _ramp(0.13 - np.abs(np.abs(left) - 0.58), 0.1 * self.unit) * (ahead > 0) * (v < 0.62)
            colour = colour + strap * (COLOURS[who.bag_colour] - colour)
        elif who.bag == "shoulder":
            strap = _ramp(0.12 - np.abs(left - (1.5 * v - 0.7)), 0.1 * self.unit)
            colour = colour + strap * (COLOURS[who.bag_colour] - colour)
        shade = _rim(distance, 0.1 * self.unit) * (1 + 0.09 * self.canvas.sun * side)
        self.canvas.fill(window, distance, colour, shade)

    def _skirt(self, legs: list[list[Point]]) -> None:
        b, p = self.build, self.pelvis
        stride = 0.5 * max(abs(leg[1][2]) for leg in legs)
        window, distance, side, _, _ = self._cylinder(
            (0, p + 0.03, 0.0), (0, p - 0.205, 0.0), [0, 0.2, 1],
            [0.1 * b, 0.108 * b, 0.145 * b], [0.074 * b, 0.08 * b, 0.085 * b + stride],
        )  # fmt: skip
        shade = _rim(distance, 0.1 * self.unit) * (1 + 0.09 * self.canvas.sun * side)
        self.canvas.fill(window, distance, COLOURS[self.who.lower], shade)

    def _head(self) -> None:
        who, unit = self.who, self.unit
        canvas = self.canvas
        x, y = self.project((0, self.pelvis + 0.435, 0.012))
        rx, ry = 0.066 * unit, 0.079 * unit
        window = canvas.window(x - 1.4 * rx, x + 1.4 * rx, y - 1.5 * ry, y + 1.3 * ry)
        nx = (canvas.columns[:, window[1]] - x) / rx
        ny = (y - canvas.rows[window[0]]) / ry
        skin = COLOURS[who.skin]

        if abs(self.sin) > 0.4 and self.cos > -0.8:
            nose = self.project((0, self.pelvis + 0.425, 0.012 + 0.07))
            canvas.limb([nose, nose], [0.014 * unit] * 2, skin)
        square = nx * nx + ny * ny
        radius = np.sqrt(square)
        nz = np.sqrt(np.maximum(1 - square, 0))
        ahead = nx * self.sin + nz * self.cos
        left = nx * self.cos - nz * self.sin
        eyes = (np.abs(left) - 0.4) ** 2 + (0.6 * (ny - 0.02)) ** 2
        mouth = (0.45 * left) ** 2 + (ny + 0.5) ** 2
        features = np.minimum(eyes, mouth + 0.006)
        dark = _ramp(0.15 - np.sqrt(features), rx) * (ahead > 0.1)
        face = skin * (1 - 0.72 * dark)
        distance = (radius - 1) * rx
        canvas.fill(window, distance, face, _rim(distance, rx) * (1 + 0.08 * canvas.sun * nx))

        volume = 1.3 if who.hair_style == "curly" else 1.1
        qx, qy = nx / volume, (ny - 0.06) / volume
        square = qx * qx + qy * qy
        qz = np.sqrt(np.maximum(1 - square, 0))
        line = qy - 0.62 * (qx * self.sin + qz * self.cos) - (0.0 if who.hair_style == "curly" else 0.02)
        distance = np.maximum((np.sqrt(square) - 1) * rx * volume, -line * rx)
        canvas.fill(window, distance, _HAIR[who.hair], 1 + 0.12 * qy)

    def _backside(self, front: bool) -> None:
        """What hangs at the back: before the body if it is turned away from the camera, else behind it."""
        if (self.cos < 0) != front:
            if not front:
                self._shoulder_bag(front=False)
            return
        who, p = self.who, self.pelvis
        if who.bag == "backpack":
            x, y = self.project((0, p + 0.185, -0.105))
            colour = COLOURS[who.bag_colour]
            w, h = self.span(0.094, 0.062), 0.118 * self.unit
            self.canvas.box(x, y, w, h, 0.04 * self.unit, colour)
            x, y = self.project((0, p + 0.13, -0.15))
            self.canvas.box(
                x, y, self.span(0.066, 0.025), 0.042 * self.unit, 0.02 * self.unit, colour * np.float32(0.8)
            )
        if who.hair_style == "long":
            self.limb([(0, p + 0.43, -0.02), (0, p + 0.28, -0.06)], [0.07, 0.062], _HAIR[who.hair])
        elif who.hair_style == "bun":
            self.limb([(0, p + 0.52, -0.045)] * 2, [0.034] * 2, _HAIR[who.hair])

    def _shoulder_bag(self, front: bool) -> None:
        if self.who.bag != "shoulder":
            return
        place = (0.145 * self.build, self.pelvis - 0.01, 0.02)
        if (self.depth(place) >= 0) == front:
            x, y = self.project(place)
            self.canvas.box(
                x, y, self.span(0.036, 0.075), 0.058 * self.unit, 0.02 * self.unit, COLOURS[self.who.bag_colour]
            )


def _occlude(structure: Structure, canvas: _Canvas) -> None:
    """Something between the camera and the person."""
    h, w = canvas.height, canvas.width
    x = (0.5 + structure.occluder_x) * w
    if structure.occluder == "post":
        canvas.box(x, 0.5 * h, 0.055 * w, 0.6 * h, 0.05 * w, _colour("6f7478"))
    elif structure.occluder == "bin":
        canvas.box(x, 0.95 * h, 0.2 * w, 0.17 * h, 0.03 * h, _colour("3f5a4c"))
        canvas.box(x, 0.79 * h, 0.22 * w, 0.02 * h, 0.015 * h, _colour("2f4338"))
    elif structure.occluder == "hedge":
        canvas.box(0.5 * w, 1.03 * h, 0.7 * w, 0.16 * h, 0.03 * h, _colour("4c6b3a"))


@lru_cache(maxsize=256)
def _backdrop(scene: str, seed: int, number: int, height: int, width: int) -> Array:
    """A simple place, [3, H, W]: ground, wall or sky, and a few shapes. Cached: copy before painting."""
    wall, floor = _SCENES[scene]
    rng = np.random.default_rng([seed, number, list(_SCENES).index(scene)])
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    horizon = 0.6 + 0.12 * rng.random()
    upper = _colour(wall) * (1.08 - 0.22 * rows)
    lower = _colour(floor) * (0.82 + 0.3 * (rows - horizon))
    share = np.clip((rows - horizon) * height + 0.5, 0, 1)
    image = np.broadcast_to(upper + share * (lower - upper), (3, height, width)).astype(np.float32)
    canvas = _Canvas(image.copy())
    h, w = height, width
    for k in range(int(rng.integers(2, 5))):
        x, tone = rng.uniform(0, w), np.float32(rng.uniform(0.75, 1.15))
        if scene == "park":
            canvas.limb([(x, horizon * h), (x, 0.35 * h)], [0.04 * w, 0.03 * w], _colour("6d5a45"))
            canvas.limb([(x, 0.22 * h), (x + 1, 0.3 * h)], [0.22 * w, 0.18 * w], _colour("6f9457") * tone)
        elif scene == "wall":
            y = horizon * h * (0.2 + 0.25 * k)
            canvas.box(0.5 * w, y, w, 0.006 * h, 0.001 * h, _colour("8f6a52"))
        else:
            half = rng.uniform(0.08, 0.2) * w
            canvas.box(
                x, rng.uniform(0.2, 0.5) * h, half, rng.uniform(0.08, 0.2) * h, 0.02 * w, _colour(wall) * tone * 0.85
            )
    return canvas.image
