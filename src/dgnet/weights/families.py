"""The networks that a file of weights may hold: how each is recognised, and other people's names in ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dgnet.models.backbones.efficientnet_lite import EfficientNetLite
from dgnet.weights.foreign import network

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Family:
    """Networks whose files look alike."""

    what: str
    landmark: str
    """The name of a tensor that no other family has."""
    body: re.Pattern[str]
    """The names of what is used; a classifier and the like are passed over."""
    elsewhere: tuple[tuple[str, Callable[[Any, Tensors], dict[str, Tensor]]], ...] = ()
    """For files with other names: their landmark, and what gives the tensors the names of a network of ours."""


def _wheel_names(net: EfficientNetLite, tensors: Tensors) -> dict[str, Tensor]:
    """From the names of the PyPI wheels, which number the blocks through all stages and the norms of a block from 0."""
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    ours = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    places = [(stage, block) for stage, blocks in enumerate(net.blocks) for block in range(len(blocks))]  # type: ignore[arg-type]
    for number, (stage, block) in enumerate(places):
        layers = first if stage == 0 else inverted
        ours |= {f"_blocks.{number}.{theirs}": f"blocks.{stage}.{block}.{name}" for theirs, name in layers.items()}
    split = ((key.rpartition("."), tensor) for key, tensor in tensors.items())
    return {f"{ours.get(layer, layer)}.{kind}": tensor for (layer, _, kind), tensor in split}


RESNET = Family("ResNet", "layer1.0.conv1.weight", re.compile(r"(conv1|bn1|layer[1-4])\..+"))
EFFICIENTNET_LITE = Family(
    "EfficientNet-lite",
    "blocks.0.0.conv_dw.weight",
    re.compile(r"(conv_stem|bn1|blocks|_blocks|conv_head|bn2)\..+"),
    (("_blocks.0._depthwise_conv.weight", _wheel_names),),
)
VGG = Family("VGG-16", "features.0.weight", re.compile(r"features\..+"))

FAMILIES = (RESNET, EFFICIENTNET_LITE, VGG)


def body_of(net: Any, family: Family, tensors: Tensors, path: Path) -> dict[str, Tensor]:
    """The tensors of `net`'s body in a file, under our names; empty where it holds no network of this family."""
    found = network(tensors, family.landmark, path)
    if family.landmark not in found:
        for landmark, translate in family.elsewhere:
            theirs = network(tensors, landmark, path)
            if landmark in theirs:
                found = translate(net, theirs)
                break
        else:
            return {}
    return {key: tensor for key, tensor in found.items() if family.body.fullmatch(key)}


def named(tensors: Tensors) -> str:
    """The family whose landmark is among the tensors, in words; empty where there is none that dgnet knows."""
    for family in FAMILIES:
        landmarks = (family.landmark, *(landmark for landmark, _ in family.elsewhere))
        if any(f".{key}".endswith(f".{landmark}") for key in tensors for landmark in landmarks):
            return family.what
    return ""
