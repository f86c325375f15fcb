"""A walking figure, drawn from its skeleton.

The body is a small skeleton in three dimensions (x to the person's left, y up, z ahead; unit = body height) of tapered
limbs and two elliptic cylinders, torso and skirt. It is turned by the viewpoint, projected, and painted from back to
front. What is drawn on torso and head lives on their surface: a jacket is open in front only, the straps of a backpack
run over the chest and the backpack hides behind it, a face turns away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dgnet.drawn.canvas import Array, Canvas, Window, colour, ramp, rim
from dgnet.drawn.factors import Appearance, Structure

Point = tuple[float, float, float]

_HEX = {
    "white": "ecebe6", "black": "2a2a30", "grey": "8e9298", "red": "c8323a", "orange": "e5812b", "yellow": "efc93d",
    "green": "3c9a5a", "sky": "62aee0", "navy": "27386b", "purple": "8450a5", "denim": "4a6fa5", "beige": "cdb891",
    "brown": "7b5236", "olive": "6b7042", "maroon": "7a2a3c", "porcelain": "f6d7c3", "light": "e9b995", "tan": "cf9568",
    "bronze": "a06a43", "umber": "6b4430", "blond": "d9b565", "ginger": "b5592a",
}  # fmt: skip
COLOURS = {name: colour(code) for name, code in _HEX.items()}
_HAIR = COLOURS | {"black": colour("1f1a1a"), "brown": colour("543522"), "grey": colour("a9a7a4")}
_INK, _LIPS = colour("2b1d1a"), colour("a8443f")
_BUILD = {"slim": 0.88, "average": 1.0, "broad": 1.16}


class Surface(NamedTuple):
    """An elliptic cylinder on the canvas, per pixel of its window."""

    window: Window
    distance: Array
    """To the outline, in pixels."""
    side: Array
    """-1 at the left edge, 1 at the right."""
    longitude: Array
    """Around the body, in radians: 0 at the front, positive to the person's left."""
    height: Array
    """0 at the top, 1 at the bottom."""


class Figure:
    """One person on one canvas; `paint` draws it. Lengths are in body heights, `unit` pixels each."""

    def __init__(self, appearance: Appearance, structure: Structure, canvas: Canvas) -> None:
        self.who, self.canvas, self.sun = appearance, canvas, structure.camera.sun
        self.yaw, tilt = math.radians(structure.view), math.radians(structure.camera.tilt)
        self.cos, self.sin = math.cos(self.yaw), math.sin(self.yaw)
        self.drop, self.rise = math.sin(tilt), math.cos(tilt)
        self.unit = 0.93 * structure.scale * min(canvas.height, 2 * canvas.width)
        self.x, self.ground = (0.5 + structure.x) * canvas.width, (0.955 + structure.y) * canvas.height
        self.broad = _BUILD[appearance.build]
        self.thick = math.sqrt(self.broad)

        cycle = 2 * math.pi * structure.phase
        legs = [self._leg(-1, cycle + math.pi), self._leg(1, cycle)]
        self.pelvis = 0.032 - min(point[1] for leg in legs for point in leg[2:])
        self.legs = [[(x, y + self.pelvis, z) for x, y, z in leg] for leg in legs]
        self.arms = [self._arm(-1, cycle), self._arm(1, cycle + math.pi)]

    def _leg(self, side: int, cycle: float) -> list[Point]:
        """Hip, knee, ankle, heel and toe, from the height of the pelvis. The knee bends while the leg swings ahead."""
        hip = 0.4 * math.sin(cycle)
        shin = hip - 0.08 - 0.8 * max(0.0, math.cos(cycle + 0.45)) ** 1.5
        foot = 0.75 * min(0.0, shin + 0.15)
        x = 0.052 * side * self.broad
        knee = (x, -0.225 * math.cos(hip), 0.225 * math.sin(hip))
        ankle = (x, knee[1] - 0.215 * math.cos(shin), knee[2] + 0.215 * math.sin(shin))
        heel = (x, ankle[1] - 0.022 * math.sin(foot), ankle[2] - 0.022 * math.cos(foot))
        toe = (1.25 * x, ankle[1] + 0.09 * math.sin(foot), ankle[2] + 0.09 * math.cos(foot))
        return [(x, 0.0, 0.0), knee, ankle, heel, toe]

    def _arm(self, side: int, cycle: float) -> list[Point]:
        """Shoulder, elbow, wrist and hand. Arms swing against the legs."""
        swing = 0.5 * math.sin(cycle)
        bend = swing + 0.22 + 0.3 * max(0.0, swing)
        x, y = 0.115 * side * self.broad, self.pelvis + 0.276
        elbow = (x + 0.04 * side, y - 0.145 * math.cos(swing), 0.145 * math.sin(swing) - 0.005)
        down, ahead = -math.cos(bend), math.sin(bend)
        wrist, hand = ((elbow[0], elbow[1] + reach * down, elbow[2] + reach * ahead) for reach in (0.13, 0.158))
        return [(x, y, -0.005), elbow, wrist, hand]

    def paint(self) -> None:
        """Draw the whole figure, far things first."""
        away = self.cos < 0
        self._shadow()
        if not away:
            self._backpack()
            self._bun()
            self._long_hair()
        self._shoulder_bag(near=False)
        for arm in self.arms:
            if self._depth(arm[1]) < -0.01:
                self._paint_arm(*arm)
        for leg in sorted(self.legs, key=lambda leg: self._depth(leg[0]) + 0.3 * self._depth(leg[2])):
            self._paint_leg(*leg)
        if self.who.lower_kind == "skirt":
            self._skirt()
        self._neck()
        self._torso()
        self._shoulder_bag(near=True)
        self._face()
        if away:
            self._backpack()
            self._long_hair()
        self._hair()
        if away:
            self._bun()
        for arm in self.arms:
            if self._depth(arm[1]) >= -0.01:
                self._paint_arm(*arm)

    def _project(self, point: Point) -> tuple[float, float]:
        x, y, z = point
        across = x * self.cos + z * self.sin
        return self.x + across * self.unit, self.ground - (y * self.rise - self._depth(point) * self.drop) * self.unit

    def _depth(self, point: Point) -> float:
        """Towards the camera, from the middle of the body."""
        return point[2] * self.cos - point[0] * self.sin

    def _span(self, across: float, deep: float) -> float:
        """Half-width, in pixels, of something elliptic with these half-axes."""
        return math.hypot(across * self.cos, deep * self.sin) * self.unit

    def _limb(self, points: list[Point], radii: list[float], paint: Array) -> None:
        self.canvas.limb([self._project(point) for point in points], [radius * self.unit for radius in radii], paint)

    def _box(self, centre: Point, across: float, deep: float, high: float, corner: float, paint: Array) -> None:
        x, y = self._project(centre)
        self.canvas.box(x, y, self._span(across, deep), high * self.unit, corner * self.unit, paint)

    def _shadow(self) -> None:
        canvas, unit = self.canvas, self.unit
        x, y = self.x - 0.05 * unit * self.sun, self.ground - 0.01 * unit
        rows, columns = canvas.window(x - 0.26 * unit, x + 0.26 * unit, y - 0.06 * unit, y + 0.06 * unit)
        dx, dy = (canvas.columns[:, columns] - x) / (0.26 * unit), (canvas.rows[rows] - y) / (0.06 * unit)
        canvas.image[:, rows, columns] *= 1 - 0.38 * np.clip(1 - dx * dx - dy * dy, 0, 1)

    def _paint_leg(self, hip: Point, knee: Point, ankle: Point, heel: Point, toe: Point) -> None:
        who, t = self.who, self.thick
        if who.lower_kind != "trousers":
            self._limb([hip, knee, ankle], [0.055 * t, 0.036 * t, 0.024 * t], COLOURS[who.skin])
        self._limb([heel, toe], [0.031, 0.027], COLOURS[who.shoes])
        if who.lower_kind == "trousers":
            self._limb([hip, knee, ankle], [0.064 * t, 0.05 * t, 0.036 * t], COLOURS[who.lower])
        elif who.lower_kind == "shorts":
            self._limb([hip, _between(hip, knee, 0.86)], [0.066 * t, 0.058 * t], COLOURS[who.lower])

    def _paint_arm(self, shoulder: Point, elbow: Point, wrist: Point, hand: Point) -> None:
        who, t = self.who, self.thick
        skin, sleeve = COLOURS[who.skin], COLOURS[who.second if who.pattern in ("raglan", "block") else who.upper]
        if who.sleeves == "long":
            self._limb([wrist, hand], [0.022, 0.024], skin)
            self._limb([shoulder, elbow, wrist], [0.043 * t, 0.036 * t, 0.029 * t], sleeve)
        else:
            self._limb([shoulder, elbow, wrist, hand], [0.034 * t, 0.028 * t, 0.02 * t, 0.024], skin)
            self._limb([shoulder, _between(shoulder, elbow, 0.75)], [0.044 * t, 0.043 * t], sleeve)

    def _neck(self) -> None:
        y = self.pelvis + 0.3
        self._limb([(0, y, 0), (0, y + 0.09, 0.006)], [0.038, 0.03], 0.88 * COLOURS[self.who.skin])

    def _cylinder(self, top: float, bottom: float, profile: list[tuple[float, float, float]]) -> Surface:
        """Between two heights above the pelvis; the profile has height (0 top, 1 bottom) and the two half-axes."""
        (x, y0), (_, y1) = self._project((0, self.pelvis + top, 0)), self._project((0, self.pelvis + bottom, 0))
        widths = [self._span(across, deep) for _, across, deep in profile]
        window = self.canvas.window(x - max(widths), x + max(widths), y0, y1)
        rows, columns = self.canvas.rows[window[0]], self.canvas.columns[:, window[1]]
        height = (rows - y0) / (y1 - y0)
        width = np.interp(height, [at for at, _, _ in profile], widths).astype(np.float32)
        distance = np.maximum(np.abs(columns - x) - width, np.maximum(y0 - rows, rows - y1))
        side = np.clip((columns - x) / width, -1, 1)
        return Surface(window, distance, side, np.arcsin(side) - self.yaw, height)

    def _dress(self, cloth: Surface, paint: Array) -> None:
        shade = rim(cloth.distance, 0.1 * self.unit) * (1 + 0.09 * self.sun * cloth.side)
        self.canvas.fill(cloth.window, cloth.distance, paint, shade)

    def _torso(self) -> None:
        who, b = self.who, self.broad
        cloth = self._cylinder(
            0.335, -0.012,
            [(0, 0.042, 0.042), (0.05, 0.078 * b, 0.056), (0.1, 0.102 * b, 0.066 * b), (0.17, 0.119 * b, 0.074 * b),
             (0.4, 0.112 * b, 0.08 * b), (0.65, 0.099 * b, 0.072 * b), (1, 0.106 * b, 0.08 * b)],
        )  # fmt: skip
        ahead, left, height = np.cos(cloth.longitude), np.sin(cloth.longitude), cloth.height
        high, wide = 0.347 * self.unit, 0.1 * self.unit
        paint, second = COLOURS[who.upper], COLOURS[who.second]
        if who.pattern == "stripes":
            paint = _mix(paint, second, ramp(np.sin(2 * np.pi * (4 * height - 0.1)), high / (8 * np.pi)))
        elif who.pattern == "block":
            paint = _mix(paint, second, ramp(0.42 - height, high))
        elif who.pattern == "jacket":
            paint = _mix(paint, second, ramp(0.16 + 0.25 * height - np.abs(left), wide) * (ahead > 0))
        if who.bag == "backpack":
            strap = ramp(0.14 - np.abs(np.abs(left) - 0.58), wide) * ramp(0.6 - height, high) * (ahead > 0)
            paint = _mix(paint, COLOURS[who.bag_colour], strap)
        elif who.bag == "shoulder":
            paint = _mix(paint, COLOURS[who.bag_colour], ramp(0.12 - np.abs(left - (1.5 * height - 0.7)), wide))
        self._dress(cloth, paint)

    def _skirt(self) -> None:
        b, stride = self.broad, max(abs(knee[2]) for _, knee, *_ in self.legs)
        profile = [(0, 0.1 * b, 0.074 * b), (0.2, 0.108 * b, 0.08 * b), (1, 0.145 * b, 0.085 * b + 0.5 * stride)]
        self._dress(self._cylinder(0.03, -0.205, profile), COLOURS[self.who.lower])

    def _head(self, volume: float) -> tuple[Window, Array, Array, Array, Array, Array]:
        """An ellipsoid: window, distance to its outline, and where its surface looks: right, up (on the image), ahead
        and left (of the person)."""
        x, y = self._project((0, self.pelvis + 0.438, 0.012))
        across, high = 0.069 * volume * self.unit, 0.081 * volume * self.unit
        window = self.canvas.window(x - across, x + across, y - high, y + high)
        right = (self.canvas.columns[:, window[1]] - x) / across
        up = (y - self.canvas.rows[window[0]]) / high
        square = right * right + up * up
        near = np.sqrt(np.maximum(1 - square, 0))
        ahead, left = right * self.sin + near * self.cos, right * self.cos - near * self.sin
        return window, (np.sqrt(square) - 1) * across, right, up, ahead, left

    def _face(self) -> None:
        skin = COLOURS[self.who.skin]
        if self.cos > -0.7:
            nose = (0.0, self.pelvis + 0.428, 0.083)
            self._limb([nose, nose], [0.015, 0.015], skin)
        window, distance, right, up, ahead, left = self._head(1.0)
        pixels, seen = 0.069 * self.unit, ahead > 0.15
        eyes = np.hypot(np.abs(left) - 0.38, 0.7 * (up - 0.04))
        mouth = np.hypot(0.45 * left, up + 0.5 - 0.25 * left * left)
        paint = _mix(skin, _INK, 0.9 * ramp(0.13 - eyes, pixels) * seen)
        paint = _mix(paint, _LIPS, 0.75 * ramp(0.09 - mouth, pixels) * seen)
        self.canvas.fill(window, distance, paint, rim(distance, pixels) * (1 + 0.08 * self.sun * right))

    def _hair(self) -> None:
        """The cap of hair, down to a line that rises from the neck over the ears to the forehead."""
        curly = self.who.hair_style == "curly"
        window, distance, _, up, ahead, _ = self._head(1.3 if curly else 1.1)
        line = up + 0.3 - 0.92 * ahead if curly else up - 0.02 - 0.62 * ahead
        distance = np.maximum(distance, -line * (0.069 * self.unit))
        self.canvas.fill(window, distance, _HAIR[self.who.hair], 1 + 0.12 * up)

    def _long_hair(self) -> None:
        if self.who.hair_style == "long":
            y = self.pelvis + 0.3
            self._limb([(0, y + 0.14, -0.025), (0, y, -0.055)], [0.074, 0.066], _HAIR[self.who.hair])

    def _bun(self) -> None:
        if self.who.hair_style == "bun":
            bun = (0.0, self.pelvis + 0.52, -0.04)
            self._limb([bun, bun], [0.036, 0.036], _HAIR[self.who.hair])

    def _backpack(self) -> None:
        if self.who.bag == "backpack":
            paint, y = COLOURS[self.who.bag_colour], self.pelvis + 0.18
            self._box((0, y, -0.105), 0.094, 0.062, 0.118, 0.04, paint)
            self._box((0, y - 0.055, -0.15), 0.066, 0.025, 0.042, 0.02, 0.8 * paint)

    def _shoulder_bag(self, near: bool) -> None:
        """At the left hip, before or behind the body."""
        place = (0.145 * self.broad, self.pelvis - 0.01, 0.02)
        if self.who.bag == "shoulder" and (self._depth(place) >= 0) == near:
            self._box(place, 0.036, 0.075, 0.058, 0.02, COLOURS[self.who.bag_colour])


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2])


def _mix(paint: Array, other: Array, share: Array) -> Array:
    mixed: Array = paint + share * (other - paint)
    return mixed
