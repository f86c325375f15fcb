"""ResNet backbones with torchvision's key names, which are also timm's, so that any of their ImageNet weights fit.

He et al., "Deep residual learning for image recognition", CVPR 2016. The IBN-a variants give half of the channels of
every block's first norm to an instance norm (Pan et al., "Two at once", ECCV 2018), which helps across cameras.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.models.layers import BatchNorm2d


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.parts = [channels // 2, channels - channels // 2]
        self.IN = nn.InstanceNorm2d(self.parts[0], affine=True)
        self.BN = BatchNorm2d(self.parts[1])

    def forward(self, x: Tensor) -> Tensor:
        instance, batch = torch.split(x, self.parts, dim=1)
        return torch.cat([self.IN(instance.contiguous()), self.BN(batch.contiguous())], dim=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int, *, ibn: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, 1, bias=False)
        self.bn1 = IBN(width) if ibn else BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _shortcut(channels_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(hidden)) + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (ResNet-50 and -101); the stride is in the 3x3."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int, *, ibn: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = IBN(width) if ibn else BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = BatchNorm2d(4 * width)
        self.downsample = _shortcut(channels_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(x)), inplace=True)
        hidden = F.relu(self.bn2(self.conv2(hidden)), inplace=True)
        return F.relu(self.bn3(self.conv3(hidden)) + self.downsample(x), inplace=True)


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), BatchNorm2d(channels_out))


DEPTHS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet10": (BasicBlock, (1, 1, 1, 1)),
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """x [N, 3, H, W] -> map [N, channels, H / stride, W / stride], without pooling and classifier.

    `name` is a key of `DEPTHS`, with `_ibn_a` behind it for IBN-a. `last_stride` 1 keeps the last stage at stride 16,
    as E_a does; torchvision's own is 2 (stride 32), as in the teacher. `width` 64 is the standard one.
    """

    def __init__(self, name: str = "resnet50", *, last_stride: int = 1, width: int = 64) -> None:
        super().__init__()
        self.name, self.width = name, width
        ibn = name.endswith("_ibn_a")
        block, depths = DEPTHS[name.removesuffix("_ibn_a")]
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.channels = width
        stages = [
            self._stage(block, width * 2**number, depth, stride, ibn=ibn and number < 3)
            for number, (depth, stride) in enumerate(zip(depths, (1, 2, 2, last_stride), strict=True))
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.stride = 16 * last_stride
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> list[nn.Module]:
        return [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]

    def _stage(
        self, block: type[BasicBlock] | type[Bottleneck], width: int, depth: int, stride: int, *, ibn: bool
    ) -> nn.Sequential:
        blocks = []
        for number in range(depth):
            blocks.append(block(self.channels, width, stride if number == 0 else 1, ibn=ibn))
            self.channels = width * block.expansion
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return]
