"""What every backbone offers, and the one list of them. A new family is a file beside this one and its lines below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn

from dgnet.config import BackboneName
from dgnet.models.backbones.resnet import DEPTHS, ResNet


class Backbone(Protocol):
    """x [N, 3, H, W], normalised -> map [N, channels, H / stride, W / stride]."""

    channels: int
    stride: int

    @property
    def stages(self) -> Sequence[nn.Module]:
        """The parts that follow each other, first to last: what learning rates by depth and frozen starts go by."""

    def __call__(self, x: Tensor) -> Tensor: ...


Family = ResNet
"""Any of the classes that meet `Backbone`, for type checkers: `ResNet | MobileNet` once there is a second."""


def _resnet(name: str) -> Callable[[int, int], Family]:
    return lambda width, last_stride: ResNet(name, last_stride=last_stride, width=width)


BACKBONES: dict[str, Callable[[int, int], Family]] = {
    **{name: _resnet(name) for name in DEPTHS},
    **{f"{name}_ibn_a": _resnet(f"{name}_ibn_a") for name in DEPTHS},
}
"""By name: a function of the width and the last stage's stride."""


def build(name: BackboneName, *, width: int = 64, last_stride: int = 1) -> Family:
    """A backbone with random weights, which meets `Backbone`."""
    return BACKBONES[name](width, last_stride)
