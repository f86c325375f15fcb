"""EfficientNet-lite 0 to 2 with the key names of timm's `tf_efficientnet_lite*`, so that their ImageNet weights fit.

Tan and Le, "EfficientNet", ICML 2019, without squeeze-and-excitation and with ReLU6, for small machines. The weights
come from TensorFlow: its padding, its epsilon of batch norm (0.001), and pixels scaled to [-1, 1].
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.models.backbones.scaling import Rescale
from dgnet.models.layers import BatchNorm2d

EPSILON = 1e-3  # of every batch norm

MULTIPLES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
"""By name: what the stages' channels and depths are multiplied by."""

STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
"""Blocks, kernel, stride of the first, expansion, channels. The first and the last keep their number of blocks."""


class SameConv(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's SAME: H -> ceil(H / stride); where that needs an odd number of
    zeros, the odd one is below and on the right."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, *, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=False)
        nn.init.normal_(self.weight, std=(2 * groups / (channels_out * kernel**2)) ** 0.5)  # Kaiming, fan-out

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[2:])
        if down % 2 or across % 2:
            x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
            return F.conv2d(x, self.weight, None, stride, groups=self.groups)
        return F.conv2d(x, self.weight, None, stride, (down // 2, across // 2), groups=self.groups)


class Separable(nn.Module):
    """Depthwise, then 1x1: the first block."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv(channels_in, channels_in, kernel, stride, groups=channels_in)
        self.bn1 = BatchNorm2d(channels_in, eps=EPSILON)
        self.conv_pw = SameConv(channels_in, channels, 1)
        self.bn2 = BatchNorm2d(channels, eps=EPSILON)
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu6(self.bn1(self.conv_dw(x)), inplace=True)
        hidden = self.bn2(self.conv_pw(hidden))
        return hidden + x if self.shortcut else hidden  # type: ignore[no-any-return]


class Inverted(nn.Module):
    """1x1 to `expansion` times the channels, depthwise, 1x1 back: the inverted residual of MobileNetV2."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.conv_pw = SameConv(channels_in, wide, 1)
        self.bn1 = BatchNorm2d(wide, eps=EPSILON)
        self.conv_dw = SameConv(wide, wide, kernel, stride, groups=wide)
        self.bn2 = BatchNorm2d(wide, eps=EPSILON)
        self.conv_pwl = SameConv(wide, channels, 1)
        self.bn3 = BatchNorm2d(channels, eps=EPSILON)
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        hidden = F.relu6(self.bn2(self.conv_dw(hidden)), inplace=True)
        hidden = self.bn3(self.conv_pwl(hidden))
        return hidden + x if self.shortcut else hidden  # type: ignore[no-any-return]


class EfficientNetLite(nn.Module):
    """x [N, 3, H, W] -> map [N, channels, H / stride, W / stride], rounded up, without pooling and classifier.

    `name` is a key of `MULTIPLES`. `last_stride` is that of the last stage that has one: 2 is the published one
    (stride 32), 1 keeps the map at stride 16. `width` 64 is the standard one (1280 channels at the end); another scales
    all channels by width / 64.
    """

    def __init__(self, name: str = "efficientnet_lite0", *, last_stride: int = 1, width: int = 64) -> None:
        super().__init__()
        self.name, self.width, self.stride = name, width, 16 * last_stride
        wider, deeper = MULTIPLES[name]
        stem, self.channels = scaled(32, width / 64), scaled(1280, width / 64)
        self.rescale = Rescale(mean=(0.5,) * 3, std=(0.5,) * 3)
        self.conv_stem = SameConv(3, stem, 3, 2)
        self.bn1 = BatchNorm2d(stem, eps=EPSILON)
        channels, stages = stem, []
        for number, (depth, kernel, stride, expansion, published) in enumerate(STAGES):
            if 0 < number < len(STAGES) - 1:
                depth = math.ceil(depth * deeper)
            stride = last_stride if number == 5 else stride
            wanted, blocks = scaled(published, wider * width / 64), []
            for block in range(depth):
                step = stride if block == 0 else 1
                blocks.append(
                    Separable(channels, wanted, kernel, step)
                    if expansion == 1
                    else Inverted(channels, wanted, kernel, step, expansion)
                )
                channels = wanted
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = SameConv(channels, self.channels, 1)
        self.bn2 = BatchNorm2d(self.channels, eps=EPSILON)

    @property
    def stages(self) -> list[nn.Module]:
        ends = nn.ModuleList([self.conv_stem, self.bn1]), nn.ModuleList([self.conv_head, self.bn2])
        return [ends[0], *self.blocks, ends[1]]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_stem(self.rescale(x))), inplace=True)
        return F.relu6(self.bn2(self.conv_head(self.blocks(x))), inplace=True)


def scaled(channels: int, factor: float) -> int:
    """`channels` times `factor`, to the nearest multiple of 8 that is at least nine tenths of that, as published."""
    wanted = channels * factor
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8
