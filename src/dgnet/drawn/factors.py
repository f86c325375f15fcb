"""What an image of a synthetic pedestrian is made from: an appearance and a structure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

UpperColour = Literal["white", "black", "grey", "red", "orange", "yellow", "green", "sky", "navy", "purple"]
LowerColour = Literal["black", "grey", "navy", "denim", "beige", "brown", "olive", "maroon"]
ShoeColour = Literal["white", "black", "brown", "red"]
BagColour = Literal["black", "brown", "red", "green", "yellow"]
Skin = Literal["porcelain", "light", "tan", "bronze", "umber"]
Hair = Literal["black", "brown", "blond", "ginger", "grey"]
Pattern = Literal["plain", "stripes", "block", "jacket", "raglan"]
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Scene = Literal["street", "park", "wall", "hall", "shop", "square"]


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class Camera:
    """One camera: where it hangs and how it records. Lengths are in pixels of an image 128 high."""

    scene: Scene = "wall"
    seed: Annotated[int, Field(ge=0)] = 0
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


@dataclass(frozen=True, config=_STRICT)
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
    backdrop: Annotated[int, Field(ge=0)] = 0
    """Which of the camera's backdrops."""
    occluder: Literal["none", "post", "bin", "hedge"] = "none"
    occluder_x: float = 0.0
    """Place of the occluder, in image widths from the centre."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the sensor noise."""
