"""The parts of a network as modules that a file can hold: what is fed, of any size and scale, is made ready inside.

What was Python at training is a plain graph here: one input or two, one output, a batch of any size.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.errors import UserError
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline
from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD
from dgnet.retrieval.scores import weigh

Part = Literal["embedding", "appearance", "structure", "generator"]
PARTS: dict[Part, str] = {
    "embedding": "images to the features that a gallery is searched by, rows of length 1",
    "appearance": "images to the appearance code f, which the generator takes",
    "structure": "images to the structure code s, which the generator takes",
    "generator": "structure and appearance codes to images",
}
INPUTS: dict[Part, tuple[str, ...]] = {
    "embedding": ("images",),
    "appearance": ("images",),
    "structure": ("images",),
    "generator": ("structure", "appearance"),
}
OUTPUT: dict[Part, str] = {
    "embedding": "features",
    "appearance": "appearance",
    "structure": "structure",
    "generator": "images",
}


@dataclass(frozen=True)
class Wanted:
    """What a file is to hold, and how its pictures are given."""

    part: Part
    height: int
    width: int
    normalise: bool = False
    """Pictures are RGB in [0, 1]; otherwise they have ImageNet's mean 0 and deviation 1."""
    flip: bool = True
    """Whether an embedding sees the mirror image, too."""
    half: bool = False
    """Weights and what is computed by them in float16; inputs and outputs stay float32."""


def module_of(net: DGNet | Baseline, alpha: float | None, size: tuple[int, int], wanted: Wanted) -> nn.Module:
    """The part as a module on the CPU, in evaluation mode, with weights of its own.

    Args:
        net: the network, which is left as it is.
        alpha: what the second half of an embedding weighs; None for a feature without halves.
        size: height and width that the network sees.
        wanted: what the module is fed.

    Raises:
        UserError: a part that this network does not have, or that no graph can hold.
    """
    if wanted.part != "embedding" and not isinstance(net, DGNet):
        raise UserError(f"--part {wanted.part}: a teacher has no such part; embedding would be right")
    inlet = Inlet((wanted.height, wanted.width), size, wanted.normalise)
    dtype = torch.float16 if wanted.half else torch.float32

    def own(module: nn.Module) -> Any:
        return copy.deepcopy(module).cpu().to(dtype).requires_grad_(False)

    made: nn.Module
    if wanted.part == "embedding":
        made = Embedding(own(net.appearance if isinstance(net, DGNet) else net), inlet, alpha, wanted.flip)
    else:
        assert isinstance(net, DGNet)
        if wanted.part == "appearance":
            made = AppearanceCode(own(net.appearance), inlet)
        elif wanted.part == "structure":
            if net.structure_input != "gray":
                raise UserError("--part structure: this model sees edges, which no graph can look for")
            made = StructureCode(own(net.structure), inlet)
        else:
            made = Generator(own(net.decoder), wanted.normalise)
    return made.eval()


class Inlet(nn.Module):
    """Pictures as they are given [N, 3, H, W] -> as the network sees them [N, 3, h, w], normalised.

    Another size is scaled as Pillow does it (bicubic, over as many pixels as become one), by one matrix per side, so
    every runtime gives the same.
    """

    mean: Tensor  # [3, 1, 1], as are the next three
    std: Tensor
    black: Tensor
    white: Tensor
    rows: Tensor  # [h, H]
    columns: Tensor  # [W, w]

    def __init__(self, given: tuple[int, int], seen: tuple[int, int], normalise: bool) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        black, white = (torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
        if not normalise:
            black, white = (black - mean) / std, (white - mean) / std
        self.scales, self.normalises = given != seen, normalise
        constants = {"mean": mean, "std": std, "black": black, "white": white, "rows": scaling(given[0], seen[0]),
                     "columns": scaling(given[1], seen[1]).T.contiguous()}  # fmt: skip
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        if self.scales:
            x = torch.minimum(torch.maximum(self.rows @ (x @ self.columns), self.black), self.white)
        return (x - self.mean) / self.std if self.normalises else x


class Embedding(nn.Module):
    """images [N, 3, H, W] -> features [N, D] of length 1: those of `Model.embed`."""

    def __init__(self, net: nn.Module, inlet: Inlet, alpha: float | None, flip: bool) -> None:
        super().__init__()
        self.net, self.inlet, self.alpha, self.flip = net, inlet, alpha, flip
        self.dtype = next(net.parameters()).dtype

    def forward(self, images: Tensor) -> Tensor:
        x = self.inlet(images).to(self.dtype)
        if self.flip:
            x = torch.cat([x, x.flip(3)])
        parts = []
        for feature in self.net.features(x):  # type: ignore[operator]
            part = F.normalize(feature.float(), dim=1)
            both = part.view(-1, images.shape[0], part.shape[1])  # [views, N, width]
            parts.append(F.normalize(both.sum(0), dim=1) if self.flip else part)
        return F.normalize(weigh(torch.cat(parts, dim=1), self.alpha, 0.5), dim=1)


class AppearanceCode(nn.Module):
    """images [N, 3, H, W] -> appearance code [N, code]."""

    def __init__(self, net: nn.Module, inlet: Inlet) -> None:
        super().__init__()
        self.net, self.inlet, self.dtype = net, inlet, next(net.parameters()).dtype

    def forward(self, images: Tensor) -> Tensor:
        code: Tensor = self.net.pool(self.inlet(images).to(self.dtype))[0]  # type: ignore[operator]
        return code.float()


class StructureCode(nn.Module):
    """images [N, 3, H, W] -> structure code [N, C, H/d, W/d]."""

    def __init__(self, net: nn.Module, inlet: Inlet) -> None:
        super().__init__()
        self.net, self.inlet, self.dtype = net, inlet, next(net.parameters()).dtype

    def forward(self, images: Tensor) -> Tensor:
        gray = self.inlet(images).mean(dim=1, keepdim=True)
        return self.net(gray.to(self.dtype)).float()  # type: ignore[no-any-return]


class Generator(nn.Module):
    """structure [N, C, H/d, W/d], appearance [N, code] -> images [N, 3, H, W]: RGB in [0, 1], or normalised."""

    mean: Tensor  # [3, 1, 1]
    std: Tensor

    def __init__(self, net: nn.Module, denormalise: bool) -> None:
        super().__init__()
        self.net, self.denormalise, self.dtype = net, denormalise, next(net.parameters()).dtype
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, structure: Tensor, appearance: Tensor) -> Tensor:
        torch._check(structure.shape[0] == appearance.shape[0])  # type: ignore[no-untyped-call]
        images: Tensor = self.net(structure.to(self.dtype), appearance.to(self.dtype)).float()
        return (images * self.std + self.mean).clamp(0, 1) if self.denormalise else images


def scaling(given: int, wanted: int) -> Tensor:
    """The matrix [wanted, given] by which bicubic scaling (Keys, 1981, a = -0.5) makes `wanted` pixels of `given`."""
    ratio = given / wanted
    width = max(ratio, 1.0)  # of the kernel's unit, in given pixels
    centre = (torch.arange(wanted, dtype=torch.float64) + 0.5) * ratio
    distance = ((torch.arange(given, dtype=torch.float64) + 0.5 - centre[:, None]) / width).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    kernel = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return (kernel / kernel.sum(1, keepdim=True)).float()
