"""Every backbone: the shapes of its map, its stages, statistics per half-batch, and its place as E_a and as teacher."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dgnet.config import BACKBONES, load
from dgnet.errors import UserError
from dgnet.images.transforms import normalise
from dgnet.models.backbones import protocol
from dgnet.models.backbones.efficientnet_lite import EfficientNetLite, SameConv
from dgnet.models.backbones.osnet import OSNet
from dgnet.models.backbones.scaling import Rescale
from dgnet.models.backbones.vit import ViT, published
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import group_statistics
from dgnet.models.teacher import Teacher, build_baseline

NAMES = sorted(protocol.BACKBONES)
ONE_OF_EACH = ["efficientnet_lite0", "osnet_x0_25", "dinov2_small", "dinov3_small", "clip_base_32"]


def small(name: str, last_stride: int = 1) -> protocol.Family:
    torch.manual_seed(0)
    return protocol.build(name, width=8, last_stride=last_stride)  # type: ignore[arg-type]


def test_the_configuration_knows_the_names_that_there_are() -> None:
    assert set(BACKBONES) == set(NAMES)
    with pytest.raises(UserError, match=r"'osnet_x1': did you mean osnet_x1_0\?$"):
        load("tiny", ["teacher.backbone=osnet_x1"])
    with pytest.raises(UserError, match=r"teacher.backbone = 'timm:': .* or timm:NAME"):
        load("tiny", ["teacher.backbone=timm:"])
    with pytest.raises(UserError, match=r"'x': input should be resnet10, .*, clip_large_14 or timm:NAME$"):
        load("tiny", ["teacher.backbone=x"])


@pytest.mark.parametrize("last_stride", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_the_map_has_the_channels_and_the_stride_that_the_backbone_says(name: str, last_stride: int) -> None:
    net = small(name, last_stride).eval()
    assert (net.name, net.width) == (name, 8)
    assert net.stride == {14: 14, 32: 32}.get(getattr(net, "patch", 16), 16) * last_stride
    assert net(torch.randn(2, 3, 4 * net.stride, 2 * net.stride)).shape == (2, net.channels, 4, 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_stage(name: str) -> None:
    net = small(name)
    in_stages = [id(parameter) for stage in net.stages for parameter in stage.parameters()]
    assert sorted(in_stages) == sorted(map(id, net.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_every_norm_takes_the_statistics_of_half_batches(name: str) -> None:
    x = torch.randn(4, 3, 64, 32) * torch.tensor([1.0, 1.0, 3.0, 3.0]).view(4, 1, 1, 1)
    net, alone = small(name).train(), small(name).train()
    group_statistics(net, 2)
    halves = torch.cat([alone(x[:2]), alone(x[2:])])
    torch.testing.assert_close(net(x), halves, rtol=1e-4, atol=1e-4)
    for (key, one), other in zip(net.named_buffers(), alone.buffers(), strict=True):
        if "running" in key:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_backbone_serves_as_appearance_encoder_and_as_teacher(name: str) -> None:
    chosen = [
        f"{part}.{key}" for part in ("model.appearance", "teacher") for key in (f"backbone={name}", "backbone_width=8")
    ]
    config = load("tiny", chosen)
    net, teacher = DGNet(config, 3), build_baseline(config, 3)
    x = torch.randn(4, 3, config.data.height, config.data.width)
    assert net.decode(*net.encode(x)).shape == x.shape
    labels = Teacher([teacher])(x)
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
    sum(logits.sum() for logits in net.appearance(x).logits).backward()  # type: ignore[union-attr]
    learning = {key: p for key, p in net.appearance.backbone.named_parameters() if p.requires_grad}
    assert not [key for key, parameter in learning.items() if parameter.grad is None]


# Input


def test_pixels_reach_a_backbone_of_another_scaling_from_minus_one_to_one() -> None:
    pixels = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    converted = Rescale(mean=(0.5,) * 3, std=(0.5,) * 3)(normalise(pixels))
    torch.testing.assert_close(converted, (pixels.permute(0, 3, 1, 2).float() - 127.5) / 127.5)


def test_the_scaling_is_no_weight() -> None:
    assert not [key for key in EfficientNetLite(width=8).state_dict() if "rescale" in key]


# Transformers


def small_transformer(kind: str, image: int, patch: int, **options: Any) -> ViT:
    import transformers

    shape = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 20}
    config = getattr(transformers, kind)(image_size=image, patch_size=patch, **shape, **options)
    torch.manual_seed(0)
    return ViT(config).eval()


CONFIGURATIONS = ["Dinov2Config", "DINOv3ViTConfig", "CLIPVisionConfig"]


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_transformer_gives_its_patches_as_a_map(kind: str) -> None:
    net = small_transformer(kind, 32, 8)
    x = torch.randn(2, 3, 32, 32)
    tokens = net.model(net.rescale(x)).last_hidden_state[:, -16:]  # [2, 16, 12], row by row
    if kind == "CLIPVisionConfig":
        tokens = net.model.post_layernorm(tokens)
    torch.testing.assert_close(net(x)[:, :, 1, 2], tokens[:, 6])
    assert net(x).shape == (2, 12, 4, 4)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
@pytest.mark.parametrize(("size", "patches"), [((64, 24), (8, 3)), ((67, 20), (8, 2)), ((5, 5), (1, 1))])
def test_a_transformer_takes_any_size_in_whole_patches(
    kind: str, size: tuple[int, int], patches: tuple[int, int]
) -> None:
    assert small_transformer(kind, 32, 8)(torch.randn(1, 3, *size)).shape == (1, 12, *patches)


def test_position_embeddings_are_interpolated_not_repeated() -> None:
    net = small_transformer("Dinov2Config", 32, 8)
    given = net.model.embeddings.position_embeddings.detach()[:, 1:].mT.unflatten(2, (4, 4))
    wanted = F.interpolate(given, (8, 4), mode="bicubic", align_corners=False).flatten(2).mT
    made = net.model.embeddings.interpolate_pos_encoding(torch.zeros(1, 33, 12), 64, 32)[:, 1:]
    torch.testing.assert_close(made, wanted)


def test_the_blocks_of_a_transformer_are_its_stages() -> None:
    net = published("clip_base_16", width=4)
    assert len(net.stages) == 1 + 12 + 1
    assert net.stages[1] is net.model.encoder.layers[0]


def test_a_transformer_without_the_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"^backbone dinov2_small: needs transformers .*pip install 'dgnet\[vit\]'$"):
        protocol.build("dinov2_small")


def test_a_width_that_rotary_positions_cannot_have_is_refused() -> None:
    with pytest.raises(UserError, match="backbone_width = 6: of dinov3_small, it must be a multiple of 4"):
        protocol.build("dinov3_small", width=6)


def test_transformers_are_imported_only_where_asked_for() -> None:
    code = "import dgnet.cli, dgnet.train.joint, sys; sys.exit('transformers' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# OSNet


def test_an_osnet_has_the_names_of_torchreid() -> None:
    with torch.device("meta"):
        shapes = {key: list(tensor.shape) for key, tensor in OSNet("osnet_x0_25").state_dict().items()}
    for key, shape in {
        "conv1.conv.weight": [16, 3, 7, 7],
        "conv1.bn.running_mean": [16],
        "conv2.0.conv2a.conv2.weight": [16, 1, 3, 3],
        "conv2.0.conv2d.3.bn.weight": [16],
        "conv2.0.gate.fc1.bias": [1],
        "conv2.0.downsample.conv.weight": [64, 16, 1, 1],
        "conv2.2.0.conv.weight": [64, 64, 1, 1],
        "conv4.1.conv3.bn.bias": [128],
        "conv5.conv.weight": [128, 128, 1, 1],
    }.items():
        assert shapes[key] == shape


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("osnet_x0_25", 134792), ("osnet_x0_5", 497426), ("osnet_x0_75", 1087610), ("osnet_x1_0", 1905828)],
)
def test_an_osnet_has_the_published_number_of_weights(name: str, parameters: int) -> None:
    """Those of torchreid 0.2.5 without its feature layer and classifier; its maps were found equal bit by bit."""
    with torch.device("meta"):
        assert sum(p.numel() for p in OSNet(name).parameters()) == parameters


# EfficientNet-lite


@pytest.mark.parametrize(
    ("size", "stride", "before", "after"), [(8, 1, 1, 1), (8, 2, 0, 1), (9, 2, 1, 1), (7, 2, 1, 1)]
)
def test_padding_is_that_of_tensorflow(size: int, stride: int, before: int, after: int) -> None:
    layer, x = SameConv(2, 2, 3, stride), torch.randn(1, 2, size, size)
    padded = F.pad(x, (before, after, before, after))
    torch.testing.assert_close(layer(x), F.conv2d(padded, layer.weight, stride=stride))
    assert layer(x).shape[2] == -(-size // stride)


@pytest.mark.parametrize(("name", "parameters"), [("lite0", 3371008), ("lite1", 4135680), ("lite2", 4811072)])
def test_an_efficientnet_has_the_published_number_of_weights(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in EfficientNetLite(f"efficientnet_{name}").parameters()) == parameters


def test_an_efficientnet_has_the_names_of_timm() -> None:
    with torch.device("meta"):
        shapes = {key: list(tensor.shape) for key, tensor in EfficientNetLite().state_dict().items()}
    assert len(shapes) == 294
    for key, shape in {
        "conv_stem.weight": [32, 3, 3, 3],
        "bn1.running_var": [32],
        "blocks.0.0.conv_dw.weight": [32, 1, 3, 3],
        "blocks.0.0.conv_pw.weight": [16, 32, 1, 1],
        "blocks.0.0.bn2.bias": [16],
        "blocks.2.1.conv_pw.weight": [240, 40, 1, 1],
        "blocks.2.1.conv_dw.weight": [240, 1, 5, 5],
        "blocks.2.1.bn3.weight": [40],
        "blocks.6.0.conv_pwl.weight": [320, 1152, 1, 1],
        "conv_head.weight": [1280, 320, 1, 1],
        "bn2.num_batches_tracked": [],
    }.items():
        assert shapes[key] == shape
