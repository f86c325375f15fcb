"""What trackers feed a file, and how they find out; read from their loaders in November 2026 (docs/export.md).

None of them is imported here: two are under the AGPL, and the contract is a few numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dgnet.errors import UserError

Tracker = Literal["ultralytics", "boxmot", "deepsort"]


@dataclass(frozen=True)
class Contract:
    """How one tracker feeds crops of people to a file."""

    height: int | None
    """Of its crops; None: those of the model's own size. `width` likewise."""
    width: int | None
    normalise: bool
    """It feeds RGB in [0, 1]; otherwise with ImageNet's mean 0 and deviation 1."""


CONTRACTS: dict[Tracker, Contract] = {
    # Takes the height of the file's input for the side of a square, to which crops are stretched.
    "ultralytics": Contract(256, 256, normalise=True),
    # 256 x 128, unless the file's name says something else; see `require_boxmot_name`.
    "boxmot": Contract(256, 128, normalise=False),
    # Takes features, not a file: what makes them is up to its user, here `Exported.embed_boxes`.
    "deepsort": Contract(None, None, normalise=True),
}

BOXMOT_NAME = "osnet_x0_25"  # the smallest of the networks that it builds, and then does not use, for an .onnx file
_BOXMOT_KNOWN = ("osnet", "resnet50", "resnet101", "mobilenetv2", "mlfn")
_BOXMOT_OTHERWISE = ("clip", "lmbn", "hacnn", "vehicleid", "veri")  # words that make it feed another size or scale


def default_name(stem: str, tracker: Tracker | None) -> str:
    """What an exported file is called that nobody named."""
    return f"{BOXMOT_NAME}_{stem}" if tracker == "boxmot" else stem


def require_boxmot_name(path: Path) -> None:
    """Raises UserError for a name by which BoxMOT would take the file for what it is not."""
    name = path.name.lower()
    right = f"{BOXMOT_NAME}_{path.stem}{path.suffix}"
    if not any(known in name for known in _BOXMOT_KNOWN):
        raise UserError(f"{path}: BoxMOT tells a network by its file's name, and knows none in this; {right} is right")
    if wrong := [word for word in _BOXMOT_OTHERWISE if word in name]:
        raise UserError(f"{path}: BoxMOT feeds files with {wrong[0]!r} in their name otherwise; leave it out")


def properties(tracker: Tracker | None, height: int, width: int) -> dict[str, str]:
    """What a tracker looks for in the properties of an ONNX file.

    Ultralytics reads all of these as soon as a file has any property, and fails where one is missing.
    """
    if tracker != "ultralytics":
        return {}
    return {
        "task": "classify",
        "stride": "32",
        "batch": "1",
        "channels": "3",
        "imgsz": str([height, width]),
        "names": "{0: 'person'}",
        "args": "{'dynamic': True}",
    }
