"""Inception-v3 as the Fréchet inception distance knows it: its pooled features, of weights that others have published.

Szegedy et al., CVPR 2016; the variant of TensorFlow's 2015 file, whose average pools do not count the padding and whose
last block pools by the maximum. Key names are those of torchvision and of the `pt_inception-2015-12-05` file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299
"""Height and width of what it sees."""
CHANNELS = 2048

_average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
_halving = partial(F.max_pool2d, kernel_size=3, stride=2)

Shape = int | tuple[int, int]


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, into: int, out: int, kernel: Shape, stride: int = 1, padding: Shape = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _across(into: int, out: int, length: int = 7) -> Conv:
    return Conv(into, out, (1, length), padding=(0, length // 2))


def _down(into: int, out: int, length: int = 7) -> Conv:
    return Conv(into, out, (length, 1), padding=(length // 2, 0))


class Block(nn.Module):
    """Branches side by side; each is a list of the names of its convolutions, one after the other."""

    branches: Sequence[Sequence[str]]

    def along(self, x: Tensor, names: Sequence[str]) -> Tensor:
        for name in names:
            x = self.get_submodule(name)(x)
        return x

    def beside(self, x: Tensor, *others: Tensor) -> Tensor:
        return torch.cat([*(self.along(x, names) for names in self.branches), *others], 1)


class A(Block):
    """35 x 35: 1x1, 5x5, two 3x3, pool."""

    branches = (["branch1x1"], ["branch5x5_1", "branch5x5_2"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"])

    def __init__(self, into: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(into, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(into, 48, 1), Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(into, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(into, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.beside(x, self.branch_pool(_average(x)))


class B(Block):
    """35 x 35 to 17 x 17."""

    branches = (["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"])

    def __init__(self, into: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(into, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(into, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.beside(x, _halving(x))


class C(Block):
    """17 x 17: 7x7 in two steps, and twice so, pool."""

    branches = (["branch1x1"], [f"branch7x7_{n}" for n in (1, 2, 3)], [f"branch7x7dbl_{n}" for n in (1, 2, 3, 4, 5)])

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = (
            Conv(768, width, 1), _across(width, width), _down(width, 192),
        )  # fmt: skip
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Conv(768, width, 1), _down(width, width)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _across(width, width), _down(width, width)
        self.branch7x7dbl_5 = _across(width, 192)
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.beside(x, self.branch_pool(_average(x)))


class D(Block):
    """17 x 17 to 8 x 8."""

    branches = (["branch3x3_1", "branch3x3_2"], [f"branch7x7x3_{n}" for n in (1, 2, 3, 4)])

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(768, 192, 1), Conv(192, 320, 3, 2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(768, 192, 1), _across(192, 192)
        self.branch7x7x3_3, self.branch7x7x3_4 = _down(192, 192), Conv(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.beside(x, _halving(x))


class E(Block):
    """8 x 8: 3x3 spread over both directions, and after another 3x3, pool (`maximum`: in the last block)."""

    branches = (["branch1x1"],)

    def __init__(self, into: int, *, maximum: bool) -> None:
        super().__init__()
        self.pool = _maximum if maximum else _average
        self.branch1x1 = Conv(into, 320, 1)
        self.branch3x3_1, self.branch3x3_2a, self.branch3x3_2b = (
            Conv(into, 384, 1), _across(384, 384, 3), _down(384, 384, 3),
        )  # fmt: skip
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(into, 448, 1), Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _across(384, 384, 3), _down(384, 384, 3)
        self.branch_pool = Conv(into, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once, twice = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        spread = (self.branch3x3_2a(once), self.branch3x3_2b(once))
        spread_twice = (self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice))
        return self.beside(x, *spread, *spread_twice, self.branch_pool(self.pool(x)))


class Inception(nn.Module):
    """Images uint8 [N, 299, 299, 3] -> features [N, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Conv(3, 32, 3, 2), Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80, 1), Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = A(192, 32), A(256, 64), A(288, 64)
        self.Mixed_6a, self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            B(288),
            C(128),
            C(160),
            C(160),
            C(192),
        )
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = D(), E(1280, maximum=False), E(2048, maximum=True)

    def forward(self, images: Tensor) -> Tensor:
        x = (images.permute(0, 3, 1, 2).float() - 128) / 128
        x = _halving(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = _halving(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = self.get_submodule(f"Mixed_{name}")(x)
        return x.mean((2, 3))
