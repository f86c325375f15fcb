"""The networks that a file of weights may hold: how each is recognised, and other people's names in ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dgnet.models.backbones.efficientnet_lite import EfficientNetLite
from dgnet.models.backbones.from_timm import FromTimm
from dgnet.models.backbones.osnet import OSNet
from dgnet.models.backbones.protocol import Family as Network
from dgnet.models.backbones.resnet import ResNet
from dgnet.models.backbones.vit import ViT
from dgnet.weights.foreign import network

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Family:
    """Networks whose files look alike."""

    what: str
    landmarks: tuple[str, ...]
    """Names of tensors that no other family has, each in one way of naming."""
    body: re.Pattern[str]
    """The names of what is used; a classifier and the like are passed over."""
    renamed: Callable[[Any, Tensors], Tensors] = lambda net, tensors: tensors
    """From the names in a file to those of a network of ours."""


def _wheel_names(net: EfficientNetLite, tensors: Tensors) -> dict[str, Tensor]:
    """The PyPI wheels number the blocks through all stages, and the norms of a block from 0; timm's names stay."""
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


_SPELLINGS = (  # of files on the Hugging Face Hub, in those of transformers 5
    (re.compile(r"\.attention\.attention\.query\."), ".attention.q_proj."),
    (re.compile(r"\.attention\.attention\.key\."), ".attention.k_proj."),
    (re.compile(r"\.attention\.attention\.value\."), ".attention.v_proj."),
    (re.compile(r"\.attention\.output\.dense\."), ".attention.o_proj."),
    (re.compile(r"^layer\."), "model.layer."),
)


def _transformer_names(net: ViT, tensors: Tensors) -> dict[str, Tensor]:
    named = {}
    for key, tensor in tensors.items():
        for theirs, ours in _SPELLINGS:
            key = theirs.sub(ours, key)
        named[f"model.{key}"] = tensor
    return named


def _below_model(net: Network, tensors: Tensors) -> dict[str, Tensor]:
    return {f"model.{key}": tensor for key, tensor in tensors.items()}


RESNET = Family("ResNet", ("layer1.0.conv1.weight",), re.compile(r"(conv1|bn1|layer[1-4])\..+"))
EFFICIENTNET_LITE = Family(
    "EfficientNet-lite",
    ("blocks.0.0.conv_dw.weight", "_blocks.0._depthwise_conv.weight"),
    re.compile(r"(conv_stem|bn1|blocks|conv_head|bn2|_conv_stem|_bn0|_blocks|_conv_head|_bn1)\..+"),
    _wheel_names,
)
OSNET = Family("OSNet", ("conv2.0.conv2a.conv1.weight",), re.compile(r"conv[1-5]\..+"))
DINOV2 = Family(
    "DINOv2",
    ("embeddings.patch_embeddings.projection.weight",),
    re.compile(r"(embeddings|encoder|layernorm)\..+"),
    _transformer_names,
)
DINOV3 = Family(
    "DINOv3",
    ("embeddings.patch_embeddings.weight",),
    re.compile(r"(embeddings|layer|model|norm)\..+"),
    _transformer_names,
)
CLIP = Family(
    "CLIP",
    ("embeddings.patch_embedding.weight",),
    re.compile(r"(embeddings\.(?!position_ids)|pre_layrnorm\.|encoder\.|post_layernorm\.).+"),
    _transformer_names,
)
VGG = Family("VGG-16", ("features.0.weight",), re.compile(r"features\..+"))

FAMILIES = (RESNET, EFFICIENTNET_LITE, OSNET, DINOV2, DINOV3, CLIP, VGG)
OF_CLASS = {ResNet: RESNET, EfficientNetLite: EFFICIENTNET_LITE, OSNet: OSNET}
OF_KIND = {"dinov2": DINOV2, "dinov3_vit": DINOV3, "clip_vision_model": CLIP}


def of(backbone: Network) -> Family:
    """The family that weights of this backbone are of."""
    if isinstance(backbone, ViT):
        return OF_KIND[backbone.kind]
    if isinstance(backbone, FromTimm):
        own = [key.removeprefix("model.") for key in backbone.state_dict()]
        landmark = max((key for key in own if key.endswith(".weight")), key=len)  # no other name ends with the longest
        body = re.compile("|".join(map(re.escape, own)))
        return Family(backbone.name, (landmark,), body, _below_model)
    return OF_CLASS[type(backbone)]


def body_of(net: Any, family: Family, tensors: Tensors, path: Path) -> dict[str, Tensor]:
    """The tensors of `net`'s body in a file, under our names; empty where it holds no network of this family."""
    for landmark in family.landmarks:
        found = network(tensors, landmark, path)
        if landmark in found:
            body = {key: tensor for key, tensor in found.items() if family.body.fullmatch(key)}
            return dict(family.renamed(net, body))
    return {}


def named(tensors: Tensors) -> str:
    """The family whose landmark is among the tensors, in words; empty where there is none that dgnet knows."""
    for family in FAMILIES:
        if any(f".{key}".endswith(f".{landmark}") for key in tensors for landmark in family.landmarks):
            return family.what
    return ""
