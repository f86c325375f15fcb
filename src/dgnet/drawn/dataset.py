"""A synthetic re-identification data set in Market-1501 layout, with every factor known.

Identities share small palettes, so that no one attribute tells who it is; cameras differ in light, colour cast and
backdrop. Because the renderer knows appearance and structure, every swap of clothes has a ground truth: `swap_truth`.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from dgnet import console
from dgnet.drawn.factors import Appearance, Camera, Scene, Structure
from dgnet.drawn.render import VERSION, jpeg, render
from dgnet.errors import UserError
from dgnet.files import occupied, replacing_folder

__all__ = [
    "Appearance",
    "Camera",
    "Factors",
    "Sighting",
    "Structure",
    "load_factors",
    "render",
    "swap_truth",
    "synthesize",
]

FACTORS = "factors.json"
_RANGES = {
    "identities": (2, 9999),
    "test_identities": (1, 9998),
    "cameras": (2, 99),
    "images_per_camera": (1, 99),
    "distractors": (0, 9999),
    "junk": (0, 9999),
    "multi_query": (0, 99),
    "outfits": (1, 99),
    "seed": (0, 2**63 - 1),
    "height": (16, 2048),
    "width": (8, 1024),
}


@dataclass(frozen=True)
class Sighting:
    """One image: who is in it (a key of `Factors.people`) and everything else about it."""

    person: str
    structure: Structure


@dataclass(frozen=True)
class Factors:
    """What a synthetic data set was made from; `factors.json` holds it."""

    renderer: int
    """Version of the renderer."""
    recipe: dict[str, int]
    """The arguments of `synthesize`."""
    digest: str
    """SHA-256 over the names and bytes of all images, in the order of `images`."""
    people: dict[str, Appearance]
    """Appearance by identity as in the file names ("0002"), in a second outfit by "0002-outfit-2" and so on; those of
    distractors by "distractor-1" and so on."""
    images: dict[str, Sighting]
    """By path below the data set's folder, such as "query/0002_c1s1_000451_00.jpg"."""

    def sighting(self, path: Path | str) -> Sighting:
        """Of an image's path, absolute or below the data set's folder. Raises UserError if it is not in the set."""
        key = "/".join(Path(path).parts[-2:])
        if key not in self.images:
            raise UserError(f"{path}: {FACTORS} has no image {key}; give one of the data set's own images")
        return self.images[key]

    def structure(self, path: Path | str) -> Structure:
        return self.sighting(path).structure

    def appearance(self, path: Path | str) -> Appearance:
        return self.people[self.sighting(path).person]


_FACTORS, _APPEARANCE, _STRUCTURE = TypeAdapter(Factors), TypeAdapter(Appearance), TypeAdapter(Structure)


def swap_truth(factors: Factors, structure_of: Path | str, appearance_of: Path | str) -> NDArray[np.uint8]:
    """The person of one image in the pose, place and camera of another, [H, W, 3] RGB at the data set's size.

    Camera, noise and JPEG compression are those of `structure_of`, so with the same image twice it is that image.
    """
    height, width = factors.recipe["height"], factors.recipe["width"]
    return render(factors.appearance(appearance_of), factors.structure(structure_of), height, width)


def load_factors(folder: Path | str) -> Factors:
    """The factors of a synthesised data set. Raises UserError if the folder is not one or its file is damaged."""
    path = Path(folder) / FACTORS
    try:
        return _FACTORS.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there; make a data set with `dgnet data synthesize`") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "file"
        raise UserError(f"{path}: {place}: {first['msg']}; make the data set again") from error


def synthesize(
    folder: Path | str,
    *,
    identities: int = 90,
    test_identities: int = 30,
    cameras: int = 4,
    images_per_camera: int = 6,
    distractors: int = 60,
    junk: int = 30,
    multi_query: int = 2,
    outfits: int = 1,
    seed: int = 0,
    height: int = 128,
    width: int = 64,
) -> Factors:
    """Write a data set in Market-1501 layout, wholly determined by its arguments, and return its factors.

    Of `identities` people, `test_identities` are for the test and the rest for training. Each camera sees each of them
    `images_per_camera` times; test people once more for the query, and `multi_query` times more for gt_bbox beside it.
    The gallery also has `distractors` (identity 0: strangers, false detections) and `junk` (identity -1: bad boxes).
    With several `outfits`, the gallery shows test people in other clothes than the queries, and training people wear
    theirs in turn; skin, hair and build stay. The people, the cameras and the walks are those of one outfit.

    The folder appears whole or not at all. One that holds this very data set is reused; any other that is not empty is
    refused with a UserError, as are numbers out of range.
    """
    recipe = {
        "identities": identities, "test_identities": test_identities, "cameras": cameras,
        "images_per_camera": images_per_camera, "distractors": distractors, "junk": junk, "multi_query": multi_query,
        "outfits": outfits, "seed": seed, "height": height, "width": width,
    }  # fmt: skip
    for key, value in recipe.items():
        low, high = _RANGES[key]
        if not low <= value <= high:
            raise UserError(f"{key} = {value}: must be from {low} to {high}")
    if test_identities >= identities:
        raise UserError(f"test_identities = {test_identities}: must be less than identities = {identities}")

    target = Path(folder)
    if occupied(target):
        return _reuse(target, recipe)
    people, images = _plan(recipe)
    try:
        with ExitStack() as folders:
            try:
                part = folders.enter_context(replacing_folder(target))
            except OSError as error:
                reason = f"cannot be made: {error.strerror}; give a folder that can be written"
                raise UserError(f"{target}: {reason}") from error
            for name in {name.split("/")[0] for name in images}:
                (part / name).mkdir()
            digest = hashlib.sha256()
            with console.progress(speed_unit="images") as bar:
                task = bar.add_task("people", total=len(images), note="")
                for name, seen in images.items():
                    code = jpeg(people[seen.person], seen.structure, height, width)
                    (part / name).write_bytes(code)
                    digest.update(name.encode() + code)
                    bar.advance(task)
            factors = Factors(VERSION, recipe, digest.hexdigest(), people, images)
            (part / FACTORS).write_bytes(_FACTORS.dump_json(factors))
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}; nothing is left of it") from error
    return factors


def _reuse(target: Path, recipe: dict[str, int]) -> Factors:
    """The factors of the data set in target if it is the very one, to the byte; else UserError."""
    refusal = UserError(f"{target}: is not empty and not this data set; give a new folder, or remove this one")
    digest = hashlib.sha256()
    try:
        factors = load_factors(target)
        for name in factors.images:
            digest.update(name.encode() + (target / name).read_bytes())
    except (UserError, OSError) as error:
        raise refusal from error
    there = {path.relative_to(target).as_posix() for path in target.glob("*/*.jpg")}
    before = {"outfits": 1} | factors.recipe  # it may be older than these
    found = (factors.renderer, before, factors.digest, set(factors.images))
    for key, value in recipe.items():
        if (drawn := before.get(key)) != value:
            raise UserError(
                f"{target}: is not empty and not this data set, but one drawn with {key} = {drawn}, not {value}; "
                "give a new folder, or remove this one"
            )
    if found != (VERSION, recipe, digest.hexdigest(), there):
        raise refusal
    return factors


def _plan(recipe: dict[str, int]) -> tuple[dict[str, Appearance], dict[str, Sighting]]:
    """Who is seen where: all people, and all images by name."""
    seed, total = recipe["seed"], recipe["identities"]
    rng = np.random.default_rng([seed, 0])
    crowd = draw_people(rng, total)
    numbers = (rng.permutation(total) + 1).tolist()
    test = set(numbers[: recipe["test_identities"]])
    people = {f"{k:04d}": who for k, who in sorted(zip(numbers, crowd, strict=True), key=lambda pair: pair[0])}
    views = draw_cameras(np.random.default_rng([seed, 1]), recipe["cameras"])
    images: dict[str, Sighting] = {}

    for k in range(1, total + 1):
        person, rng = f"{k:04d}", np.random.default_rng([seed, 2, k])
        others = draw_people(np.random.default_rng([seed, 4, k]), recipe["outfits"] - 1)
        outfits = [person, *(f"{person}-outfit-{n}" for n in range(2, recipe["outfits"] + 1))]
        people |= {name: _dressed_as(people[person], other) for name, other in zip(outfits[1:], others, strict=True)}
        worn = cycle(outfits if k not in test else outfits[1:] or outfits)  # by those who are not asked for
        for c, camera in enumerate(views, 1):
            direction, frame = rng.uniform(0, 360), int(rng.integers(100, 90_000))
            places = ["bounding_box_test" if k in test else "bounding_box_train"] * recipe["images_per_camera"]
            if k in test:
                places += ["query"] + ["gt_bbox"] * recipe["multi_query"]
            for place in places:
                frame += int(rng.integers(5, 40))
                box = 1 if place.startswith("bounding") else 0
                name = f"{person}_c{c}s1_{frame:06d}_{box:02d}.jpg"
                images[f"{place}/{name}"] = Sighting(next(worn) if box else person, draw_walk(rng, camera, direction))
                if place == "query" and recipe["multi_query"]:
                    images[f"gt_bbox/{name}"] = images[f"query/{name}"]

    rng = np.random.default_rng([seed, 3])
    strangers = draw_people(rng, recipe["distractors"])
    for n in range(1, recipe["distractors"] + 1):
        c = int(rng.integers(len(views)))
        person = f"distractor-{n}"
        people[person] = strangers[n - 1]
        seen = Sighting(person, _misplaced(rng, views[c], empty=rng.random() < 0.3))
        images[f"bounding_box_test/0000_c{c + 1}s1_{n:06d}_01.jpg"] = seen
    for n in range(1, recipe["junk"] + 1):
        c = int(rng.integers(len(views)))
        seen = Sighting(f"{rng.choice(sorted(test)):04d}", _misplaced(rng, views[c], empty=False))
        images[f"bounding_box_test/-1_c{c + 1}s1_{n:06d}_01.jpg"] = seen
    return people, images


def draw_people(rng: np.random.Generator, count: int) -> list[Appearance]:
    """People drawn evenly from small palettes. Each three wear the same colours, and no two the same clothes."""
    choices = {name: get_args(hint) for name, hint in get_type_hints(Appearance).items()}
    people: dict[tuple[str, ...], Appearance] = {}
    while len(people) < count:
        drawn = {name: str(rng.choice(options)) for name, options in choices.items()}
        if len(people) % 3 == 0:
            shared = {name: drawn[name] for name in ("upper", "second", "lower", "shoes", "bag_colour")}
        drawn |= shared
        clothes = tuple(drawn[name] for name in ("upper", "second", "pattern", "sleeves", "lower_kind", "lower", "bag"))
        if drawn["second"] != drawn["upper"]:
            people.setdefault(clothes, _APPEARANCE.validate_python(drawn))
    return list(people.values())


def _dressed_as(person: Appearance, other: Appearance) -> Appearance:
    """A person in the clothes, the shoes and with the bag of another."""
    body = ("skin", "hair", "hair_style", "build")
    return replace(other, **{name: getattr(person, name) for name in body})


def draw_cameras(rng: np.random.Generator, count: int) -> list[Camera]:
    """Cameras that differ in place, light, colour cast and quality."""
    scenes = rng.permutation(get_args(Scene)).tolist()
    lights = rng.permutation(np.linspace(0.7, 1.1, count)).tolist()
    hues = 2 * np.pi * (rng.random() + np.arange(count) / count)
    made = []
    for c in range(count):
        red, green, blue = (math.exp(0.08 * math.cos(hues[c] - 2 * math.pi * k / 3)) for k in range(3))
        made.append(
            Camera(
                scene=scenes[c % len(scenes)],
                seed=int(rng.integers(2**31)),
                light=lights[c],
                cast=(red, green, blue),
                haze=float(rng.uniform(0, 0.2)),
                sun=float(rng.uniform(-1, 1)),
                tilt=float(rng.uniform(4, 16)),
                blur=float(rng.uniform(0.2, 0.7)),
                noise=float(rng.uniform(0.004, 0.014)),
                quality=int(rng.integers(82, 96)),
            )
        )
    return made


def draw_walk(rng: np.random.Generator, camera: Camera, direction: float) -> Structure:
    """A good box around someone who walks in about this direction."""
    occluder = "none" if rng.random() < 0.9 else str(rng.choice(["post", "bin", "hedge"]))
    return _STRUCTURE.validate_python(
        {
            "phase": float(rng.random()),
            "view": float((direction + rng.normal(0, 25)) % 360),
            "scale": float(rng.uniform(0.88, 1.02)),
            "x": float(rng.normal(0, 0.03)),
            "y": float(rng.uniform(-0.03, 0.015)),
            "camera": camera,
            "backdrop": int(rng.integers(3)),
            "occluder": occluder,
            "occluder_x": float(rng.choice([-1, 1]) * rng.uniform(0.2, 0.45)),
            "seed": int(rng.integers(2**31)),
        }
    )


def _misplaced(rng: np.random.Generator, camera: Camera, empty: bool) -> Structure:
    """A bad box: someone cut off, or nobody at all."""
    good = draw_walk(rng, camera, float(rng.uniform(0, 360)))
    if empty:
        return replace(good, x=4.0)
    side = float(rng.choice([-1, 1]))
    return replace(
        good, x=side * float(rng.uniform(0.3, 0.45)), y=float(rng.uniform(-0.4, 0.4)), scale=good.scale * 1.4
    )
