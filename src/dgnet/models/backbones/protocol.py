"""What every backbone offers, and the one list of them. A new family is a file beside this one and its lines below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from dgnet.config import BackboneName
from dgnet.models.backbones.efficientnet_lite import MULTIPLES as EFFICIENTNETS
from dgnet.models.backbones.efficientnet_lite import EfficientNetLite
from dgnet.models.backbones.from_timm import FromTimm
from dgnet.models.backbones.osnet import MULTIPLES as OSNETS
from dgnet.models.backbones.osnet import OSNet
from dgnet.models.backbones.resnet import DEPTHS, ResNet
from dgnet.models.backbones.vit import SIZES, ViT, published


class Backbone(Protocol):
    """x [N, 3, H, W] -> map [N, channels, H / stride, W / stride].

    x is normalised with ImageNet's mean and deviation, as all pictures in dgnet are, generated ones too. A backbone
    whose published weights know another scaling converts x itself (`scaling.Rescale`): that is no matter of the data.
    """

    name: str
    """As in the configuration."""
    width: int
    """64 is the published one; another scales all channels by width / 64, and fits no published weights."""
    channels: int
    stride: int

    @property
    def stages(self) -> Sequence[nn.Module]:
        """The parts that follow each other, first to last: what learning rates by depth and frozen starts go by."""

    def __call__(self, x: Tensor) -> Tensor: ...


Family = ResNet | EfficientNetLite | OSNet | ViT | FromTimm
"""Any of the classes that meet `Backbone`, for type checkers."""


class Maker(Protocol):
    """What builds a backbone of that name, with random weights."""

    def __call__(self, name: str, *, last_stride: int, width: int) -> Family: ...


BACKBONES: dict[str, Maker] = {
    **dict.fromkeys(DEPTHS, ResNet),
    **dict.fromkeys((f"{name}_ibn_a" for name in DEPTHS), ResNet),
    **dict.fromkeys(EFFICIENTNETS, EfficientNetLite),
    **dict.fromkeys(OSNETS, OSNet),
    **dict.fromkeys(SIZES, published),
}
"""By name; those of timm are in no list."""


def build(name: BackboneName, *, width: int = 64, last_stride: int = 1) -> Family:
    """A backbone with random weights, which meets `Backbone`.

    Raises `UserError` where it needs a library that is not installed, or cannot have that width or stride.
    """
    if name.startswith("timm:"):
        return FromTimm(name.removeprefix("timm:"), width=width, last_stride=last_stride)
    return BACKBONES[name](name, width=width, last_stride=last_stride)
