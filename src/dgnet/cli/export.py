"""`dgnet export`: a model as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from dgnet.cli.common import Weights, written


def export(
    weights: Weights,
    to: Literal["onnx", "torch"] = "onnx",
    out: Path | None = None,
    part: Literal["embedding", "appearance", "structure", "generator"] = "embedding",
    tracker: Annotated[Literal["ultralytics", "boxmot", "deepsort"] | None, tyro.conf.arg(name="for")] = None,
    normalise: bool = False,
    size: tuple[int, int] | None = None,
    flip: bool = True,
    half: bool = False,
    int8: bool = False,
    calibrate: tuple[Path, ...] = (),
    check: tuple[Path, ...] = (),
) -> int:
    """Write a model as ONNX or as a program of torch.export, after comparing the file with the model on photos.

    The batch is free. What the file was checked with, and the rank-1 and mAP that it reaches itself, are printed and
    stand in a model card beside it.

    Args:
        weights: a run folder, model.safetensors or teacher.safetensors
        to: onnx (.onnx) or torch (.pt2)
        out: file to write; by default named after the model, in the current folder
        part: the embedding, or what generates: appearance and structure encoder, generator
        tracker: an embedding as this tracker feeds it: ultralytics, boxmot or deepsort (docs/export.md)
        normalise: pictures are RGB in [0, 1], not normalised with ImageNet's mean and deviation before
        size: rows and columns of the pictures that go in, where they are not the model's; they are scaled inside
        flip: whether the embedding sees the mirror image, too
        half: weights and computing in float16; inputs and outputs stay float32
        int8: convolutions in 8 bits; needs --calibrate
        calibrate: photos, or folders of photos, such as the file will see
        check: photos, folders of photos or a data set to compare on; by default the data that the model was trained on
    """
    from dgnet.model import load

    report = load(weights, "cpu").export(
        out, to=to, part=part, tracker=tracker, normalise=normalise, size=size, flip=flip, half=half, int8=int8,
        calibrate=calibrate, check=check,
    )  # fmt: skip
    report.show()
    written(report.path)
    return 0 if report.card is None else written(report.card)
