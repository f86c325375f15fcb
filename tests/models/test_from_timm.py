"""Networks of timm, by a stand-in with timm's interface: timm itself needs torchvision, which not every machine has."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dgnet.errors import UserError
from dgnet.models.backbones import protocol
from dgnet.models.backbones.from_timm import FromTimm, NormAct
from dgnet.models.layers import BatchNorm2d, group_statistics
from dgnet.weights import pretrained


class BatchNormAct2d(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]


class Convolutional(nn.Module):
    pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}  # noqa: RUF012

    def __init__(self, output_stride: int = 32) -> None:
        super().__init__()
        self.num_features, self.feature_info = 6, [{"reduction": 4}, {"reduction": output_stride}]
        self.stem = nn.Conv2d(3, 4, 4, 4, bias=False)
        self.bn1 = BatchNormAct2d(4)
        self.blocks = nn.Sequential(nn.Conv2d(4, 6, 4, output_stride // 4), nn.BatchNorm2d(6))

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(self.bn1(self.stem(x)))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "fixed_input_size": True}  # noqa: RUF012

    def __init__(self, dynamic_img_size: bool = False, dynamic_img_pad: bool = False) -> None:
        assert dynamic_img_size is dynamic_img_pad is True
        super().__init__()
        self.num_features, self.feature_info = 5, [{"reduction": 16}]
        self.cls_token = nn.Parameter(torch.randn(1, 1, 5))
        self.patch_embed = nn.Conv2d(3, 5, 16, 16)

    def forward_features(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x).flatten(2).mT
        return torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1)


class WithoutOptions(Convolutional):
    def __init__(self) -> None:
        super().__init__()


class Fixed(WithoutOptions):
    pretrained_cfg = Convolutional.pretrained_cfg | {"fixed_input_size": True}


NETWORKS = {"conv": Convolutional, "vit": Transformer, "fixed": Fixed, "plain": WithoutOptions}


@pytest.fixture(autouse=True)
def _timm(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, pretrained: bool = False, **options: Any) -> Any:
        assert (options.pop("num_classes"), options.pop("global_pool")) == (0, "")
        if pretrained and name == "vit":
            raise RuntimeError("no network\nno luck")
        torch.manual_seed(int(pretrained))
        return NETWORKS[name](**options)

    stand_in = SimpleNamespace(
        create_model=create_model, is_model=NETWORKS.__contains__, list_models=lambda: [*NETWORKS]
    )
    monkeypatch.setitem(sys.modules, "timm", stand_in)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "last_stride", "stride"), [("conv", 1, 16), ("conv", 2, 32), ("vit", 1, 16), ("vit", 2, 32)]
)
def test_the_map_and_its_stride(name: str, last_stride: int, stride: int) -> None:
    net = protocol.build(f"timm:{name}", last_stride=last_stride)
    assert (net.name, net.stride) == (f"timm:{name}", stride)
    assert net(torch.randn(2, 3, 128, 64)).shape == (2, net.channels, 128 // stride, 64 // stride)
    in_stages = [id(parameter) for stage in net.stages for parameter in stage.parameters()]
    assert sorted(in_stages) == sorted(map(id, net.parameters()))


def test_tokens_become_a_map_row_by_row() -> None:
    net, x = FromTimm("vit"), torch.randn(1, 3, 48, 32)
    torch.testing.assert_close(net(x), net.model.patch_embed(net.rescale(x)))


def test_its_batch_norms_take_half_batches_and_keep_their_names() -> None:
    net, alone = FromTimm("conv").train(), FromTimm("conv").train()
    assert isinstance(net.model.bn1, NormAct)
    assert isinstance(net.model.blocks[1], BatchNorm2d)
    assert [key.removeprefix("model.") for key in net.state_dict()] == list(Convolutional(16).state_dict())
    group_statistics(net, 2)
    x = torch.randn(4, 3, 32, 32) * torch.tensor([1.0, 1.0, 5.0, 5.0]).view(4, 1, 1, 1)
    torch.testing.assert_close(net(x), torch.cat([alone(x[:2]), alone(x[2:])]))


def test_imagenet_is_what_timm_fetches() -> None:
    net = FromTimm("conv")
    pretrained.pretrained(net, "imagenet")
    torch.manual_seed(1)
    assert torch.equal(net.model.stem.weight, Convolutional().stem.weight)
    with pytest.raises(UserError, match=r"^backbone timm:vit: its weights cannot be fetched \(no network\)$"):
        pretrained.pretrained(FromTimm("vit"), "imagenet")


def test_a_file_with_timms_names_loads_without_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = Convolutional(16).state_dict()
    save_file(theirs | {"fc.weight": torch.zeros(2, 6)}, tmp_path / "it.safetensors")
    net = FromTimm("conv")
    pretrained.pretrained(net, str(tmp_path / "it.safetensors"))
    assert all(torch.equal(tensor, net.state_dict()[f"model.{key}"]) for key, tensor in theirs.items())
    save_file({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="holds no timm:conv, but weights of the family ResNet"):
        pretrained.pretrained(net, str(tmp_path / "other.safetensors"))


def test_what_cannot_be_built_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, says in {
        "convv": r"timm:convv: no network of timm; did you mean timm:conv\?",
        "plain": "timm:plain: cannot end at stride 16; take last_stride=2",
        "fixed": "timm:fixed: takes pictures of its own size only",
    }.items():
        with pytest.raises(UserError, match=says):
            FromTimm(name)
    assert FromTimm("plain", last_stride=2).stride == 32
    with pytest.raises(UserError, match="backbone_width = 32: timm:conv has its width in the name"):
        FromTimm("conv", width=32)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"backbone timm:conv: needs timm .*pip install 'dgnet\[timm\]'$"):
        FromTimm("conv")
