"""From an image file to pixels, upright, in RGB; and from any size to the one that the networks see."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from dgnet.errors import UserError
from dgnet.pixels import Pixels


def decode(path: Path) -> Pixels:
    """Read an image file: uint8 [H, W, 3], RGB, upright.

    Raises:
        UserError: the file is missing, truncated, not an image, or has more than 8 bits per channel.
    """
    try:
        data = path.read_bytes()
        if data.startswith(b"\xff\xd8") and b"Exif" not in data[:64]:  # a JPEG without an orientation to heed
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False))
        with Image.open(io.BytesIO(data)) as image:
            return upright(image, str(path))
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: truncated or not an image ({error})") from error


def upright(image: Image.Image, name: str) -> Pixels:
    """An opened image as uint8 [H, W, 3], RGB, turned as its Exif says.

    Raises UserError, which calls it `name`, where it has more than 8 bits per channel.
    """
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{name}: {image.mode} pixels of more than 8 bits; save it as 8-bit RGB or gray")
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """Scale uint8 [H, W, 3] to [height, width, 3], bicubic with antialiasing."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
