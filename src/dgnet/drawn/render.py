"""A procedural pedestrian: an image is a pure function of who walks there and of how a camera sees it."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dgnet.drawn.backdrop import backdrop, occlude
from dgnet.drawn.canvas import Canvas, blur
from dgnet.drawn.factors import Appearance, Camera, Structure
from dgnet.drawn.walker import Figure

__all__ = ["VERSION", "Appearance", "Camera", "Structure", "expose", "jpeg", "render"]

VERSION = 1
"""Raised whenever the same factors give other pixels."""


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
    canvas = Canvas(backdrop(camera.scene, camera.seed, structure.backdrop, height, width).copy())
    Figure(appearance, structure, canvas).paint()
    occlude(canvas, structure.occluder, structure.occluder_x)
    gain = np.array(camera.cast, np.float32).reshape(3, 1, 1) * camera.light * (1 - camera.haze)
    image = blur(canvas.image * gain + 0.55 * camera.haze, camera.blur * height / 128)
    if camera.noise:
        image = image + camera.noise * np.random.default_rng(structure.seed).standard_normal(image.shape, np.float32)
    return np.ascontiguousarray(np.clip(255 * image + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0))
