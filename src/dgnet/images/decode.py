"""From an image file to pixels, upright, in RGB; and from any size to the one that the networks see."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from dgnet.errors import UserError
from dgnet.files import content
from dgnet.pixels import Pixels

MOST_PIXELS = 100_000_000
"""Of one image: 300 MB when decoded. A larger one is refused before that."""

_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1  # markers of a JPEG, ITU-T T.81, table B.1
_ORIENTATION, _SHORT = 0x0112, 3  # a tag and a type of Exif
_EXIF_HEADER = b"Exif\0\0"
_BITS_PER_SAMPLE, _INTERPRETATION, _WHITE_IS_ZERO = 258, 262, 0  # two tags of TIFF, and a value of the second
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_KEPT_AS_32 = ("PNG", "PPM")  # whose 16 bits older Pillows open as mode I
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what undoes each orientation but 1, which is upright


def decode(path: Path) -> Pixels:
    """Read an image file: uint8 [H, W, 3], RGB, upright; what is transparent is laid over white.

    Raises:
        UserError: the file is missing, truncated, not an image, too large, or has values that are no 8 or 16 bits.
    """
    try:
        data = content(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # a null byte in the name
        raise UserError(f"{str(path)!r}: not the name of a file ({error})") from error
    return decode_bytes(data, str(path))


def decode_bytes(data: bytes, name: str) -> Pixels:
    """What `decode` does, with the content of a file that errors call `name`."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data, name)
        return _other(data, name)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(_too_large(name)) from error
    except Exception as error:  # a damaged file makes Pillow's readers stumble over anything: KeyError, struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "of no kind that is known" if data else "the file is empty"
        raise UserError(f"{name}: truncated or not an image ({reason})") from error


def upright(image: Image.Image, name: str) -> Pixels:
    """An opened image as uint8 [H, W, 3], RGB, turned as its Exif says; what is transparent is laid over white.

    Raises UserError, which calls it `name`, where it is too large or its values are no 8 or 16 bits.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in _KEPT_AS_32):
        raise UserError(
            f"{name}: {image.mode} pixels, of 32 bits, whose range nothing tells; save it as 8-bit RGB or gray"
        )
    if image.width * image.height > MOST_PIXELS:
        raise UserError(_too_large(name))
    image.load()  # some formats tell what is transparent, and how to turn it, behind the pixels
    orientation = _orientation_of(image)
    if image.mode.startswith("I"):
        return turned(_of_16_bits(image), orientation)
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return turned(np.asarray(image.convert("RGB")), orientation)


def jpeg_header(data: bytes, name: str) -> tuple[int, int, int]:
    """Height and width of a JPEG as it is to be shown, and its orientation, 1 to 8.

    Raises UserError, which calls it `name`, where it is too large; ValueError where it is no JPEG.
    """
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    if height * width > MOST_PIXELS:
        raise UserError(_too_large(name))
    orientation = _jpeg_orientation(data)
    return (width, height, orientation) if orientation >= 5 else (height, width, orientation)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """[H, W, 3] as a photo of this orientation is to be shown."""
    turn = _TRANSPOSED.get(orientation)
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """Scale uint8 [H, W, 3] to [height, width, 3], bicubic with antialiasing."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _jpeg(data: bytes, name: str) -> Pixels:
    _, _, orientation = jpeg_header(data, name)
    return turned(np.asarray(simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)), orientation)


def _other(data: bytes, name: str) -> Pixels:
    """A picture of any kind but JPEG."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return upright(image, name)
    except UserError:
        raise
    except Exception:
        if (plain := _pixels_alone(data)) == data:
            raise
    with Image.open(io.BytesIO(plain)) as image:  # damaged is what nobody needs: a colour profile, a comment
        return upright(image, name)


def _pixels_alone(data: bytes) -> bytes:
    """A PNG without the chunks that say nothing of its pixels, such as a colour profile; any other data as they are."""
    if not data.startswith(_PNG):
        return data
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        chunk = data[at:end]
        whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
        if chunk[4:8] in _PNG_PIXELS or (whole and chunk[4:8] == b"eXIf"):
            kept.append(chunk)
        at = end
    return b"".join(kept)


def _of_16_bits(image: Image.Image) -> Pixels:
    """A gray picture of up to 16 bits as uint8 [H, W, 3], scaled by the depth that its file gives; clear is white."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    depth = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    gray = np.clip(np.rint(values / (2**depth - 1) * 255), 0, 255).astype(np.uint8)
    if tags.get(_INTERPRETATION) == _WHITE_IS_ZERO:
        gray = 255 - gray
    gray[values == image.info.get("transparency", -1)] = 255
    return np.repeat(gray[:, :, None], 3, axis=2)


def _jpeg_orientation(data: bytes) -> int:
    """How a JPEG is to be turned: 1 to 8, as Exif numbers it; 1 (upright) where nothing readable says so.

    Exif lies in one of the segments before the picture, wherever an editor has put it.
    """
    if _EXIF_HEADER not in data:  # most crops: quicker than to walk
        return 1
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # any number of these may stand before a marker
            at += 1
            continue
        if marker in (_SOS, _EOI):
            break
        if marker == 0x01 or 0xD0 <= marker <= _SOI:  # stands alone
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4])
        if marker == _APP1 and data.startswith(_EXIF_HEADER, at + 4):
            return _exif_orientation(data[at + 4 : at + 2 + length])
        at += 2 + length
    return 1


def _exif_orientation(block: bytes) -> int:
    """The orientation that a block of Exif gives, 1 to 8; 1 where it gives none. What else is damaged does not matter.

    Source: CIPA DC-008 (Exif 2.32), sections 4.5 and 4.6: a TIFF header, then 12 bytes for each tag.
    """
    tiff = block.removeprefix(_EXIF_HEADER)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 9), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
        if (tag, kind) == (_ORIENTATION, _SHORT):
            return value if 1 <= value <= 8 else 1
    return 1


def _orientation_of(image: Image.Image) -> int:
    block = image.info.get("exif")
    if isinstance(block, bytes):
        return _exif_orientation(block)
    tags = getattr(image, "tag_v2", {})  # of a TIFF, which is what Exif is made of
    found = tags.get(_ORIENTATION, 1)
    return found if isinstance(found, int) else 1


def _too_large(name: str) -> str:
    return f"{name}: more than {MOST_PIXELS // 1_000_000} million pixels; save it smaller"
