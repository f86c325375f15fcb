"""Whatever a user holds for a photo, as the pixels that a network sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dgnet.errors import UserError
from dgnet.files import expanded
from dgnet.images.decode import decode, resize, upright
from dgnet.images.store import Indices
from dgnet.pixels import Pixels

Photo = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file's path; a PIL image; an array [H, W, 3], or a tensor [3, H, W]: uint8, or floats in [0, 1].

Gray ones may have one channel, or be [H, W]; a tensor of bytes may be [H, W, 3], too. Colours are RGB: a frame of
OpenCV is BGR, so give `frame[..., ::-1]`.
"""


class Photos:
    """Photos of any kind and size as `Images` of one size: each is read, and scaled (bicubic), when it is asked for.

    Args:
        given: one photo, or several: a list, or whatever else gives one after the other (`folder.glob("*.jpg")`), or an
            array or a tensor with a fourth dimension in front.
        height, width: size of what comes out.

    Raises:
        UserError: what is given is no photo, which names its place in the list.
    """

    def __init__(self, given: Photo | Iterable[Photo], height: int, width: int) -> None:
        self.photos = _listed(given)
        self.height, self.width = height, width

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, indices: Indices) -> Tensor:
        """uint8 [n, height, width, 3] of the photos at int64 [n]."""
        if not len(indices):
            return torch.empty(0, self.height, self.width, 3, dtype=torch.uint8)
        return torch.from_numpy(np.stack([self._at(int(place)) for place in indices]))

    def all(self) -> Tensor:
        """uint8 [N, height, width, 3]."""
        return self[np.arange(len(self))]

    def _at(self, place: int) -> Pixels:
        return resize(pixels(self.photos[place], f"image {place} (counted from 0)"), self.height, self.width)


def pixels(photo: Photo, name: str = "image") -> Pixels:
    """uint8 [H, W, 3], RGB, upright, at the photo's own size; `name` is what errors call a photo that has no path.

    Raises:
        UserError: a file that is no image, an array of another shape or type, floats outside [0, 1].
    """
    if isinstance(photo, str | Path):
        return decode(expanded(photo))
    if isinstance(photo, Image.Image):
        return upright(photo, name)
    if isinstance(photo, Tensor):
        array = _array_of(photo, name)
    elif isinstance(photo, np.ndarray):
        array = photo
    else:
        raise UserError(f"{name}: of type {type(photo).__name__}; a path, a PIL image, an array or a tensor is needed")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UserError(f"{name}: an array of shape {list(array.shape)}; RGB as [H, W, 3] would be right")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{name}: values of type {array.dtype}; uint8, or floats in [0, 1], would be right")
    if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
        raise UserError(
            f"{name}: floats from {array.min():g} to {array.max():g}; they must lie in [0, 1]: divide by 255, or undo "
            "the normalisation"
        )
    return (array.astype(np.float64) * 255).round().astype(np.uint8)


def crop(frame: Pixels, boxes: Any) -> list[Pixels]:
    """The parts of a frame [H, W, 3] in boxes [n, 4], x1, y1, x2, y2 in pixels; what lies outside is cut off.

    Raises:
        UserError: boxes of another shape or not finite, or boxes that hold no pixel of the frame, with their numbers.
    """
    corners = _corners(boxes)
    if corners.size == 0:
        return []
    height, width = frame.shape[:2]
    whole = np.concatenate([np.floor(corners[:, :2]), np.ceil(corners[:, 2:])], axis=1)
    x1, y1, x2, y2 = np.clip(whole, 0, [width, height, width, height]).astype(np.int64).T
    if (empty := np.flatnonzero((x2 <= x1) | (y2 <= y1))).size:
        named = ", ".join(f"{place} [{', '.join(f'{x:g}' for x in corners[place])}]" for place in empty[:8])
        more = f" and {empty.size - 8} more" if empty.size > 8 else ""
        raise UserError(f"boxes without a pixel of the frame of {width} x {height} (counted from 0): {named}{more}")
    return [frame[t:b, le:r] for le, t, r, b in zip(x1, y1, x2, y2, strict=True)]


def _listed(given: Photo | Iterable[Photo]) -> Sequence[Any]:
    """One photo or several as several."""
    if isinstance(given, np.ndarray | Tensor):
        paths = isinstance(given, np.ndarray) and given.dtype.kind in "OU" and given.ndim == 1
        return given if given.ndim == 4 or paths else [given]  # type: ignore[return-value]
    if isinstance(given, str | bytes | Path | Image.Image | Mapping) or not isinstance(given, Iterable):
        return [given]
    return given if isinstance(given, Sequence) else list(given)


def _array_of(photo: Tensor, name: str) -> NDArray[Any]:
    """A tensor [3, H, W], or a gray [1, H, W] or [H, W], as an array with its channels last."""
    floats = photo.is_floating_point()
    try:
        array: NDArray[Any] = photo.detach().cpu().to(torch.float32 if floats else photo.dtype).numpy()
    except (RuntimeError, TypeError) as error:  # sparse, or on the device "meta"
        raise UserError(f"{name}: a tensor without plain values ({error})") from error
    if array.ndim == 3 and (array.shape[0] == 3 or (array.shape[0] == 1 and array.shape[2] != 3)):
        return array.transpose(1, 2, 0)
    if floats and array.ndim != 2:
        raise UserError(f"{name}: a float tensor of shape {list(photo.shape)}; [3, H, W] would be right")
    return array


def _corners(boxes: Any) -> NDArray[np.float64]:
    """Boxes as float64 [n, 4]. Raises UserError for what is nothing of the kind."""
    if isinstance(boxes, Tensor):
        boxes = boxes.detach().cpu().double()
    elif isinstance(boxes, Iterable) and not isinstance(boxes, Sequence) and not hasattr(boxes, "__array__"):
        boxes = list(boxes)
    try:
        corners = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"boxes: [n, 4], x1, y1, x2, y2 in pixels, would be right ({error})") from error
    if corners.size and (corners.ndim != 2 or corners.shape[1] != 4 or not np.isfinite(corners).all()):
        raise UserError(f"boxes: shape {list(corners.shape)}; finite [n, 4], x1, y1, x2, y2 in pixels, would be right")
    return corners
