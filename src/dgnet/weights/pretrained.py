"""The weights that a network starts from: ImageNet's, a file's, or those of a hub."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from dgnet.errors import UserError
from dgnet.files import local_file
from dgnet.models.backbones.resnet import DEPTHS, Bottleneck, ResNet
from dgnet.models.perceptual import Perceptual
from dgnet.weights.files import in_words, mismatches, read_tensors, rows, usable, with_counters
from dgnet.weights.foreign import listed, network

# Torchvision's first weights (V1), which the published method starts from, and those of IBN-Net.
_TORCHVISION = "https://download.pytorch.org/models"
_IBN_NET = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0"
IMAGENET = {
    "resnet18": f"{_TORCHVISION}/resnet18-f37072fd.pth",
    "resnet34": f"{_TORCHVISION}/resnet34-b627a593.pth",
    "resnet50": f"{_TORCHVISION}/resnet50-0676ba61.pth",
    "resnet101": f"{_TORCHVISION}/resnet101-63fe2227.pth",
    "resnet18_ibn_a": f"{_IBN_NET}/resnet18_ibn_a-2f571257.pth",
    "resnet34_ibn_a": f"{_IBN_NET}/resnet34_ibn_a-94bc1577.pth",
    "resnet50_ibn_a": f"{_IBN_NET}/resnet50_ibn_a-d9d0bb7b.pth",
    "resnet101_ibn_a": f"{_IBN_NET}/resnet101_ibn_a-59ea0ac6.pth",
    "vgg16": f"{_TORCHVISION}/vgg16-397923af.pth",
}
_RESNET = "layer1.0.conv1.weight", re.compile(r"(conv1|bn1|layer[1-4])\..+")  # its landmark; the names of its body
_VGG = "features.0.weight", re.compile(r"features\..+")
_RESNET_ADVICE = (
    "give a local file, model.appearance.weights=FILE, or start from random weights, model.appearance.weights=scratch "
    "(a teacher: teacher.weights)"
)
_VGG_ADVICE = "give a local file, loss.perceptual_weights=FILE, or leave the term out, loss.perceptual=0"


def pretrained(backbone: ResNet, source: str) -> None:
    """Give `backbone` the weights of `source`; a classifier and other parts of that file are passed over.

    `source`: `scratch` (changes nothing), `imagenet`, a local file (ours, or with torchvision's names below any prefix
    and nest), a URL with its hash (`https://...#sha256=...`) or `hub:user/name/file`. Raises `UserError`; never falls
    back on anything.
    """
    if source == "scratch":
        return
    if source == "imagenet":
        name, width = backbone_of(backbone.state_dict())
        if width != 64:
            raise UserError(f"backbone_width = {width}: ImageNet weights are for 64 alone; {_RESNET_ADVICE}")
        source = IMAGENET[name]
    _fill(backbone, source, _RESNET, "ResNet", _RESNET_ADVICE)


def perceptual_weights(net: Perceptual, source: str) -> None:
    """Give `net` the convolutions of a VGG-16; `source` as in `pretrained`, without `scratch`. Raises `UserError`."""
    _fill(net, IMAGENET["vgg16"] if source == "imagenet" else source, _VGG, "VGG-16", _VGG_ADVICE)


def backbone_of(state: Mapping[str, Tensor]) -> tuple[str, int]:
    """Name and width of the ResNet with this state dict. Raises `UserError` if it is none that dgnet knows."""
    stages = [{key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")} for stage in (1, 2, 3, 4)]
    depths = tuple(len(blocks) for blocks in stages)
    bottleneck, stem = "layer1.0.conv3.weight" in state, state.get("conv1.weight")
    for name, (block, known) in DEPTHS.items():
        if depths == known and bottleneck == (block is Bottleneck) and (width := rows(stem)):
            ibn = "_ibn_a" if "layer1.0.bn1.IN.weight" in state else ""
            return name + ibn, width
    raise UserError(f"no backbone that dgnet knows ({', '.join(DEPTHS)}): its stages have {depths} blocks")


def _fill(net: nn.Module, source: str, kind: tuple[str, re.Pattern[str]], what: str, advice: str) -> None:
    """Load into `net` the tensors of `source` whose names are those of this kind's body."""
    path, (landmark, body) = local_file(source, advice), kind
    tensors = read_tensors(path)
    found = {key: tensor for key, tensor in network(tensors, landmark, path).items() if body.fullmatch(key)}
    if landmark not in found:
        raise UserError(f"{path}: holds no {what} (no {landmark}); its tensors are {listed(tensors)}; {advice}")
    needed = net.state_dict()
    found = with_counters(needed, found)
    if wrong := mismatches(needed, found):
        raise UserError(f"{path}: not weights of this {what}: {in_words(wrong)}")
    net.load_state_dict(usable(path, found, needed))
