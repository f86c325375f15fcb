"""OSNet x0.25 to x1.0 with torchreid's key names, so that the weights published for it fit, ImageNet's and re-ID's.

Zhou et al., "Omni-scale feature learning for person re-identification", ICCV 2019.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.models.layers import BatchNorm2d

MULTIPLES = {"osnet_x0_25": 0.25, "osnet_x0_5": 0.5, "osnet_x0_75": 0.75, "osnet_x1_0": 1.0}
"""By name: what the published channels are multiplied by."""

CHANNELS = (64, 256, 384, 512)
"""After the first convolution and after each stage of two blocks."""


def unit(channels_in: int, channels: int, kernel: int = 1, stride: int = 1, *, rectify: bool = True) -> nn.Sequential:
    """Convolution, batch norm and, with `rectify`, ReLU."""
    layers = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False), bn=BatchNorm2d(channels)
    )
    return nn.Sequential(layers | ({"relu": nn.ReLU(inplace=True)} if rectify else {}))


def light(channels: int) -> nn.Sequential:
    """1x1, then depthwise 3x3: one step up in scale."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, channels, 1, bias=False),
            conv2=nn.Conv2d(channels, channels, 3, 1, 1, bias=False, groups=channels),
            bn=BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
        )
    )


class Gate(nn.Module):
    """x times a weight per channel in (0, 1), which x's average decides: shared by the streams of a block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 16)
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))
        return x * self.fc2(hidden).sigmoid()  # type: ignore[no-any-return]


class OmniScale(nn.Module):
    """A residual block of four streams, which see 3, 5, 7 and 9 pixels and are summed as the gate decides."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 4)
        self.conv1 = unit(channels_in, narrow)
        self.conv2a = light(narrow)
        self.conv2b = nn.Sequential(*(light(narrow) for _ in range(2)))
        self.conv2c = nn.Sequential(*(light(narrow) for _ in range(3)))
        self.conv2d = nn.Sequential(*(light(narrow) for _ in range(4)))
        self.gate = Gate(narrow)
        self.conv3 = unit(narrow, channels, rectify=False)
        self.downsample = nn.Identity() if channels_in == channels else unit(channels_in, channels, rectify=False)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(x)
        streams = self.conv2a, self.conv2b, self.conv2c, self.conv2d
        summed = sum(self.gate(stream(narrow)) for stream in streams)
        return F.relu(self.conv3(summed) + self.downsample(x), inplace=True)


class OSNet(nn.Module):
    """x [N, 3, H, W] -> map [N, channels, H / stride, W / stride], without pooling, feature layer and classifier.

    `name` is a key of `MULTIPLES`. The published network ends at stride 16: `last_stride` 1. With 2 the last stage sees
    the map at half the size, averaged. `width` 64 is the standard one; another scales all channels by width / 64.
    """

    def __init__(self, name: str = "osnet_x1_0", *, last_stride: int = 1, width: int = 64) -> None:
        super().__init__()
        self.name, self.width, self.last_stride, self.stride = name, width, last_stride, 16 * last_stride
        stem, *wanted = (max(1, round(channels * MULTIPLES[name] * width / 64)) for channels in CHANNELS)
        self.channels = wanted[-1]
        self.conv1 = unit(3, stem, 7, 2)
        self.conv2 = self._stage(stem, wanted[0], halve=True)
        self.conv3 = self._stage(wanted[0], wanted[1], halve=True)
        self.conv4 = self._stage(wanted[1], wanted[2], halve=False)
        self.conv5 = unit(wanted[2], wanted[2])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> list[nn.Module]:
        return [self.conv1, self.conv2, self.conv3, self.conv4, self.conv5]

    @staticmethod
    def _stage(channels_in: int, channels: int, *, halve: bool) -> nn.Sequential:
        blocks = nn.Sequential(OmniScale(channels_in, channels), OmniScale(channels, channels))
        if halve:
            blocks.append(nn.Sequential(unit(channels, channels), nn.AvgPool2d(2)))
        return blocks

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3(self.conv2(F.max_pool2d(self.conv1(x), 3, 2, 1)))
        if self.last_stride == 2:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        return self.conv5(self.conv4(x))  # type: ignore[no-any-return]
