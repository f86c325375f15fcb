"""Drawn people as a test for any person generator: two photos go in, and the right answer is known.

Each pair asks for the person of one photo in the pose, place and camera of another. In each sixth of the pairs the two
photos differ in one thing above all, so that a score can be told per factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

import numpy as np

from dgnet.drawn.dataset import draw_cameras, draw_people, draw_walk
from dgnet.drawn.factors import Appearance, Camera
from dgnet.drawn.render import render
from dgnet.pixels import Pixels

FACTORS = {
    "colour": "the same cut in other colours",
    "garment": "the same colours in another cut: pattern, sleeves, trousers or skirt",
    "bag": "the same person with another bag, or none",
    "pose": "another person, in the same camera and place, who walks otherwise",
    "camera": "another person in the same pose, seen by another camera",
    "all": "another person, pose and camera",
}
DECOYS = 5
"""Wrong answers to each pair: the structure photo's own person first, then others, in the very same structure."""

_CHANGES = {
    "colour": ("upper", "second", "lower", "shoes", "bag_colour"),
    "garment": ("pattern", "sleeves", "lower_kind"),
    "bag": ("bag", "bag_colour"),
}
_VISIBLE = 2e-4  # mean squared difference of two drawings, of 1 = white: 37 dB


@dataclass(frozen=True)
class Pair:
    """Two photos, the right answer and wrong ones, each [H, W, 3]."""

    factor: str
    structure: Pixels
    """The photo whose pose, place and camera are to be kept."""
    appearance: Pixels
    """The photo of the person who is to be painted there."""
    truth: Pixels
    decoys: list[Pixels]


def pairs(count: int, seed: int, height: int, width: int) -> Iterator[Pair]:
    """`count` pairs, the factors taking turns; decided by the seed. Every wrong answer can be told from the truth."""
    rng = np.random.default_rng([seed, 4])
    people = draw_people(rng, 60)
    cameras = draw_cameras(rng, 4)
    names = list(FACTORS)
    for number in range(count):
        factor = names[number % len(names)]
        while (made := _pair(factor, rng, people, cameras, height, width)) is None:
            pass
        yield made


def _pair(
    factor: str, rng: np.random.Generator, people: list[Appearance], cameras: list[Camera], height: int, width: int
) -> Pair | None:
    """One pair; None where chance drew one whose answer cannot be told from a wrong one, such as a hidden bag."""
    first, second, *more = (people[k] for k in rng.permutation(len(people))[: DECOYS + 1].tolist())
    here, there = (cameras[k] for k in rng.permutation(len(cameras))[:2].tolist())
    kept = replace(draw_walk(rng, here, float(rng.uniform(0, 360))), occluder="none")
    other = draw_walk(rng, there, float(rng.uniform(0, 360)))
    if factor in _CHANGES:
        second = _changed(first, _CHANGES[factor], rng)
        more = [_changed(first, _CHANGES[factor], rng) for _ in more]
    elif factor == "pose":
        other = replace(other, camera=here, backdrop=kept.backdrop)
    elif factor == "camera":
        other = replace(kept, camera=there, seed=other.seed)
    truth, structure = render(second, kept, height, width), render(first, kept, height, width)
    if not _different(structure, truth):
        return None
    wrong = [structure, *(render(who, kept, height, width) for who in more)]
    wrong = [picture for picture in wrong if _different(picture, truth)]
    wrong += wrong[-1:] * (DECOYS - len(wrong))
    return Pair(factor, structure, render(second, other, height, width), truth, wrong)


def _changed(who: Appearance, fields: tuple[str, ...], rng: np.random.Generator) -> Appearance:
    """Someone with other values in some of these fields."""
    hints: dict[str, Any] = get_type_hints(Appearance)
    drawn = {name: str(rng.choice(get_args(hints[name]))) for name in fields}
    changed = replace(who, **drawn)  # type: ignore[arg-type]  # of literals
    if changed == who or changed.upper == changed.second:
        return _changed(who, fields, rng)
    return changed


def _different(one: Pixels, other: Pixels) -> bool:
    return bool(((one.astype(np.float32) - other.astype(np.float32)) ** 2).mean() > _VISIBLE * 255**2)
