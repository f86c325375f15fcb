"""What many fields of a configuration are: numbers with bounds, and words to choose from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from dgnet.errors import nearest

STRICT = ConfigDict(extra="forbid", strict=False, use_attribute_docstrings=True, allow_inf_nan=False)

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
BACKBONES = (
    "resnet10", "resnet18", "resnet34", "resnet50", "resnet101",
    "resnet10_ibn_a", "resnet18_ibn_a", "resnet34_ibn_a", "resnet50_ibn_a", "resnet101_ibn_a",
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2",
    "osnet_x0_25", "osnet_x0_5", "osnet_x0_75", "osnet_x1_0",
    "dinov2_small", "dinov2_base", "dinov2_large", "dinov3_small", "dinov3_base", "dinov3_large",
    "clip_base_32", "clip_base_16", "clip_large_14",
)  # fmt: skip
Heads = Literal["two", "one", "pcb"]
GAN = Literal["lsgan", "nsgan", "wgan"]
Pool = Literal["max", "average", "gem"]
Neck = Literal["linear", "bnneck"]
Feature = Literal["after", "before"]
Classifier = Literal["linear", "cosine"]
Schedule = Literal["milestones", "cosine"]
Sampling = Literal["shuffled", "identity_balanced", "camera_balanced"]
TeacherStyle = Literal["soft", "hard", "appearance", "uniform", "two_labels"]
Precision = Literal["float32", "bfloat16", "float16"]


def _backbone(name: str) -> str:
    if name in BACKBONES or name.removeprefix("timm:") not in ("", name):
        return name
    near = nearest(name, BACKBONES)
    raise ValueError(f"did you mean {near}?" if near else f"input should be {', '.join(BACKBONES)} or timm:NAME")


BackboneName = Annotated[str, AfterValidator(_backbone)]


def yes_or_no(value: object) -> object:
    """YAML reads a bare yes or no as true or false."""
    return ("yes" if value else "no") if isinstance(value, bool) else value
