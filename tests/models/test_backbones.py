"""Every backbone: the shapes of its map, its stages, statistics per half-batch, and its place as E_a and as teacher."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dgnet.config import load
from dgnet.images.transforms import normalise
from dgnet.models.backbones import protocol
from dgnet.models.backbones.efficientnet_lite import EfficientNetLite, SameConv
from dgnet.models.backbones.scaling import Rescale
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import group_statistics
from dgnet.models.teacher import Teacher, build_baseline

NAMES = sorted(protocol.BACKBONES)


def small(name: str, last_stride: int = 1) -> protocol.Family:
    torch.manual_seed(0)
    return protocol.build(name, width=8, last_stride=last_stride)  # type: ignore[arg-type]


@pytest.mark.parametrize("last_stride", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_the_map_has_the_channels_and_the_stride_that_the_backbone_says(name: str, last_stride: int) -> None:
    net = small(name, last_stride).eval()
    assert (net.name, net.width) == (name, 8)
    assert net(torch.randn(2, 3, 64, 32)).shape == (2, net.channels, 64 // net.stride, 32 // net.stride)
    assert net.stride == 16 * last_stride


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


@pytest.mark.parametrize("name", ["efficientnet_lite0"])
def test_a_backbone_serves_as_appearance_encoder_and_as_teacher(name: str) -> None:
    config = load("tiny", [f"{part}.backbone={name}" for part in ("model.appearance", "teacher")])
    net, teacher = DGNet(config, 3), build_baseline(config, 3)
    x = torch.randn(4, 3, config.data.height, config.data.width)
    assert net.decode(*net.encode(x)).shape == x.shape
    labels = Teacher([teacher])(x)
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
    sum(logits.sum() for logits in net.appearance(x).logits).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in net.appearance.backbone.parameters())


# Input


def test_pixels_reach_a_backbone_of_another_scaling_from_minus_one_to_one() -> None:
    pixels = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    converted = Rescale(mean=(0.5,) * 3, std=(0.5,) * 3)(normalise(pixels))
    torch.testing.assert_close(converted, (pixels.permute(0, 3, 1, 2).float() - 127.5) / 127.5)


def test_the_scaling_is_no_weight() -> None:
    assert not [key for key in EfficientNetLite(width=8).state_dict() if "rescale" in key]


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
