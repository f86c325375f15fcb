"""What every backbone offers, and the one list of them. A new family is a file beside this one and its lines below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def _resnet(name: str) -> Callable[[int, int], Family]:
    return lambda width, last_stride: ResNet(name, last_stride=last_stride, width=width)


def _efficientnet_lite(name: str) -> Callable[[int, int], Family]:
    return lambda width, last_stride: EfficientNetLite(name, last_stride=last_stride, width=width)


def _osnet(name: str) -> Callable[[int, int], Family]:
    return lambda width, last_stride: OSNet(name, last_stride=last_stride, width=width)


def _vit(name: str) -> Callable[[int, int], Family]:
    return lambda width, last_stride: published(name, last_stride=last_stride, width=width)


BACKBONES: dict[str, Callable[[int, int], Family]] = {
    **{name: _resnet(name) for name in DEPTHS},
    **{f"{name}_ibn_a": _resnet(f"{name}_ibn_a") for name in DEPTHS},
    **{name: _efficientnet_lite(name) for name in EFFICIENTNETS},
    **{name: _osnet(name) for name in OSNETS},
    **{name: _vit(name) for name in SIZES},
}
"""By name: a function of the width and the last stage's stride."""


def build(name: BackboneName, *, width: int = 64, last_stride: int = 1) -> Family:
    """A backbone with random weights, which meets `Backbone`.

    Raises `UserError` where it needs a library that is not installed, or cannot have that width or stride.
    """
    if name.startswith("timm:"):
        return FromTimm(name.removeprefix("timm:"), width=width, last_stride=last_stride)
    return BACKBONES[name](width, last_stride)
