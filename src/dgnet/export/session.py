"""An exported file in use: what it says of itself, and its outputs for batches of any size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from dgnet.errors import UserError
from dgnet.export.graph import TORCH_ENTRY, require, silent
from dgnet.images.inputs import Photo, Photos, crop, pixels
from dgnet.images.transforms import denormalise, normalise
from dgnet.retrieval.features import extract

ENTRY = "dgnet"  # the property of an ONNX file that holds what dgnet says of it
FORMAT = 1


@dataclass(frozen=True)
class About:
    """What an exported file says of itself."""

    part: str
    inputs: list[str]
    output: str
    height: int
    """Of the pictures that it is fed, or that a generator paints; `width` likewise."""
    width: int
    normalise: bool
    """Pictures are RGB in [0, 1]; otherwise they have ImageNet's mean 0 and deviation 1."""
    flip: bool
    precision: str
    """float32, float16 or int8; inputs and outputs are float32."""
    tracker: str
    """The tracker that it was made for, or nothing."""
    model: str
    """Fingerprint of the model: its features are those of a gallery or a threshold with the same."""
    weights: str
    """SHA-256 of the file of weights that it was made of."""
    version: str
    calibration: list[str] = field(default_factory=list)
    """The images by which the ranges of int8 were found."""
    format: int = FORMAT


class Exported(nn.Module):
    """An exported file, opened with ONNX Runtime (`.onnx`) or PyTorch (`.pt2`), on the CPU.

    Attributes:
        about: what the file says of itself.

    Raises:
        UserError: no such file, none that dgnet exported, or a package that is missing.

    Examples:
        >>> from dgnet.export.session import Exported
        >>> exported = Exported("anna.onnx")
        >>> exported.embed_photos(["anna.jpg", "carl.jpg"]).shape[0]
        2
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: no such file")
        with self.path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        if zipped:
            self._call, said = _opened_torch(self.path)
        else:
            self._call, said = _opened_onnx(self.path)
        self.about = _about(self.path, said)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The file's output for its inputs, as they are, float32."""
        return torch.from_numpy(self._call([np.ascontiguousarray(given.numpy(), np.float32) for given in inputs]))

    def embed(self, x: Tensor) -> Tensor:
        """Features [N, D] of normalised images [N, 3, H, W]: an extractor for every evaluation of dgnet."""
        return self.forward(denormalise(x) if self.about.normalise else x)

    def embed_photos(self, images: Any, batch: int = 64) -> Tensor:
        """Features of photos in any form, float32 [N, D], rows of length 1: `Model.embed` with the file."""
        self._require_embedding()
        photos = Photos(images, self.about.height, self.about.width)
        if not len(photos):
            return self.forward(torch.zeros(1, 3, self.about.height, self.about.width))[:0]
        return extract(self, photos, batch, flip=False)

    def embed_boxes(self, frame: Photo, boxes: Any) -> Tensor:
        """Features of the people in one frame (RGB): boxes [n, 4], x1, y1, x2, y2 in pixels -> float32 [n, D]."""
        return self.embed_photos(crop(pixels(frame, "frame"), boxes))

    def _require_embedding(self) -> None:
        if self.about.part != "embedding":
            raise UserError(f"{self.path}: holds the part {self.about.part!r}; one of 'embedding' is needed")


def as_fed(photos: Tensor, scaled: bool) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W]: RGB in [0, 1] if `scaled`, otherwise normalised."""
    x = photos.permute(0, 3, 1, 2).float() / 255 if scaled else normalise(photos)
    return x.contiguous()


Call = Callable[[list[np.ndarray[Any, Any]]], Any]


def _opened_onnx(path: Path) -> tuple[Call, str | None]:
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if torch.get_num_threads() == 1:  # otherwise as many as there are cores
        options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a damaged file, any of onnxruntime's own
        raise UserError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0][:200]})") from error
    names = [given.name for given in session.get_inputs()]

    def call(arrays: list[np.ndarray[Any, Any]]) -> Any:
        return session.run(None, dict(zip(names, arrays, strict=True)))[0]

    return call, session.get_modelmeta().custom_metadata_map.get(ENTRY)


def _opened_torch(path: Path) -> tuple[Call, str | None]:
    said = {TORCH_ENTRY: ""}
    try:
        with path.open("rb") as file, silent():
            module = torch.export.load(file, extra_files=said).module()
    except Exception as error:  # of a damaged file, any
        raise UserError(f"{path}: not a readable program of torch.export ({str(error)[:200]})") from error

    def call(arrays: list[np.ndarray[Any, Any]]) -> Any:
        with torch.inference_mode():
            return module(*map(torch.from_numpy, arrays)).numpy()

    return call, said[TORCH_ENTRY]


def _about(path: Path, said: str | None) -> About:
    """What dgnet wrote. Raises UserError where that is nothing, or damaged."""
    if not said:
        raise UserError(f"{path}: not exported by dgnet")
    try:
        read = json.loads(said)
        if read["format"] > FORMAT:
            raise UserError(f"{path}: exported by a newer dgnet ({read['version']}): update dgnet")
        about = About(**read)
        for name, kind in get_type_hints(About).items():
            if not isinstance(getattr(about, name), get_origin(kind) or kind):
                raise TypeError(f"{name} is {getattr(about, name)!r}")
        return about
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: its description by dgnet is damaged ({error})") from error
