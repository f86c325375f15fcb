"""The four networks: shapes at any size, backbones, heads, and the names that weight files rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet import config as configuration
from dgnet.errors import UserError
from dgnet.models.appearance import AppearanceEncoder, Heads
from dgnet.models.backbones.resnet import DEPTHS, IBN, ResNet
from dgnet.models.decoder import Decoder
from dgnet.models.dgnet import DGNet
from dgnet.models.discriminator import Critic, Discriminator
from dgnet.models.layers import BatchNorm2d
from dgnet.models.perceptual import Perceptual
from dgnet.models.structure import StructureEncoder
from dgnet.models.teacher import Baseline, Teacher, build_baseline

KEYS = json.loads((Path(__file__).parents[1] / "golden" / "keys.json").read_text())
SIZES = [(32, 16), (16, 16), (52, 28), (20, 36)]


def shapes(net: nn.Module) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in net.state_dict().items()}


# Sizes


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("non_local", [False, True], ids=["local", "non_local"])
@pytest.mark.parametrize("times", [2, 4])
def test_structure_and_decoder_at_any_size(size: tuple[int, int], non_local: bool, times: int) -> None:
    height, width = size
    structure = StructureEncoder(2, 1, downsampling=times, non_local=non_local)
    decoder = Decoder(structure.channels, 12, 8, residual_blocks=3, upsampling=times, non_local=non_local)
    s = structure(torch.randn(2, 1, height, width))
    assert s.shape == (2, 16, height // times, width // times)
    assert decoder(s, torch.randn(2, 12)).shape == (2, 3, height, width)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_discriminators_at_any_size(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    scores = Discriminator(width=4, scales=3, residual_blocks=1)(x)
    expected, (height, width) = [], size
    for _ in range(3):
        quarter = (-(-height // 4), -(-width // 4))  # two strides of 2 with reflection, rounded up
        expected.append((2, 1, *quarter))
        height, width = -(-height // 2), -(-width // 2)
    assert [tuple(score.shape) for score in scores] == expected
    assert [tuple(score.shape) for score in Critic(size, width=4)(x)] == [(2,)]


def test_published_sizes() -> None:
    config = configuration.load("market1501")
    with torch.device("meta"):
        net = DGNet(config, 751).eval()
        x = torch.empty(1, 3, 256, 128)
        codes = net.encode(x)
        assert codes.structure.shape == (1, 128, 64, 32)
        assert codes.appearance.shape == (1, 2048 * 4)
        assert net.decode(*codes).shape == x.shape
        assert [tuple(score.shape[2:]) for score in net.discriminator(x)] == [(64, 32), (32, 16), (16, 8)]
        assert [tuple(logits.shape) for logits in net.appearance(x).logits] == [(1, 751), (1, 751)]
        assert net.embed(x).shape == (1, 1024)
        assert [tuple(layer.weight.shape) for layer in net.decoder.scales[3].layers] == [
            (512, 2048), (512, 512), (256, 512),
        ]  # fmt: skip
        critic = Critic((256, 128), 32).layers
        widths = [layer.weight.shape[0] for layer in critic if isinstance(layer, nn.Conv2d)]
        assert widths == [32, 64, 128, 256, 512, 512, 1]
        assert critic[-1].kernel_size == (4, 2)


def test_scales_of_the_discriminator_halve_without_counting_padding() -> None:
    net = Discriminator(width=2, scales=2, residual_blocks=1)
    net.scales[0] = net.scales[1] = nn.Identity()
    x = torch.ones(1, 3, 6, 4)
    assert torch.equal(net(x)[1], torch.ones(1, 3, 3, 2))


# Backbones


@pytest.mark.parametrize("ibn", ["", "_ibn_a"])
@pytest.mark.parametrize("name", DEPTHS)
def test_backbones(name: str, ibn: str) -> None:
    net = ResNet(name + ibn, width=4).eval()
    channels = 128 if name in ("resnet50", "resnet101") else 32
    assert net.channels == channels
    assert net(torch.randn(2, 3, 52, 28)).shape == (2, channels, 4, 2)
    norms = {path: module for path, module in net.named_modules() if isinstance(module, IBN)}
    wanted = sum(DEPTHS[name][1][:3]) if ibn else 0  # the first norm of every block, but for the last stage
    assert len(norms) == wanted
    assert all(path.endswith("bn1") and not path.startswith("layer4") for path in norms)


@pytest.mark.parametrize(("last_stride", "size"), [(1, (16, 8)), (2, (8, 4))])
def test_the_last_stage_keeps_or_halves_the_map(last_stride: int, size: tuple[int, int]) -> None:
    assert ResNet("resnet18", last_stride=last_stride, width=2)(torch.randn(1, 3, 256, 128)).shape[2:] == size


def test_resnet50_has_the_names_of_torchvision() -> None:
    with torch.device("meta"):
        ours = shapes(ResNet("resnet50"))
    theirs = {key.removeprefix("model."): shape for key, shape in KEYS["id"].items() if key.startswith("model.")}
    assert ours == {key: shape for key, shape in theirs.items() if not key.startswith("fc.")}


def test_ibn_normalises_half_by_instance() -> None:
    layer = IBN(6)
    assert isinstance(layer.BN, BatchNorm2d)
    x = torch.randn(4, 6, 5, 3) * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1)
    y = layer(x)
    torch.testing.assert_close(y[:, :3], F.instance_norm(x[:, :3]))
    torch.testing.assert_close(y[:, 3:], F.batch_norm(x[:, 3:], None, None, training=True))


# E_a and the teacher


def encoder(heads: Heads, stripes: int = 4) -> AppearanceEncoder:
    return AppearanceEncoder(7, "resnet18", backbone_width=1, heads=heads, head_width=5, stripes=stripes).eval()


@pytest.mark.parametrize(("heads", "count"), [("two", 2), ("one", 1), ("pcb", 4)])
def test_heads(heads: Heads, count: int) -> None:
    torch.manual_seed(0)
    net, x = encoder(heads), torch.randn(3, 3, 64, 32)
    code, logits, pooled = net(x)
    assert torch.equal(pooled, code.view(3, 8, 4).amax(2))
    assert code.shape == (3, 8 * 4)
    assert [tuple(head.shape) for head in logits] == [(3, 7)] * count
    feature = net.embed(x)
    assert feature.shape == (3, 5 * count)
    torch.testing.assert_close(feature.unflatten(1, (count, 5)).norm(dim=2), torch.ones(3, count))


def test_the_code_is_the_maximum_per_stripe_flattened_channel_major() -> None:
    net = encoder("two", stripes=2)
    net.backbone = nn.Identity()
    features = torch.tensor(
        [[[1.0, 2.0], [3.0, 0.0], [5.0, 4.0], [0.0, 6.0]], [[9.0, 8.0], [7.0, 6.0], [1.0, 0.0], [2.0, 3.0]]]
    )
    code, pooled = net.pool(features[None])
    assert code.tolist() == [[3.0, 6.0, 9.0, 3.0]]
    assert [part.tolist() for part in pooled] == [[[6.0, 9.0]]] * 2  # the heads see the global maximum


def test_stripes_need_not_divide_the_map() -> None:
    net = encoder("two")
    net.backbone = nn.Identity()
    features = torch.arange(6.0).view(1, 1, 6, 1).repeat(1, 8, 1, 1)  # rows 0-1, 1-2, 3-4, 4-5
    code, pooled = net.pool(features)
    assert code.view(8, 4)[0].tolist() == [1.0, 2.0, 4.0, 5.0]
    assert pooled[0][0, 0] == 5.0


def test_pcb_heads_see_the_average_of_their_stripe() -> None:
    net = encoder("pcb", stripes=2)
    net.backbone = nn.Identity()
    features = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    code, pooled = net.pool(features)
    assert code.tolist() == [[3.0, 7.0]]
    assert [part.tolist() for part in pooled] == [[[2.0]], [[6.0]]]


def test_enlarged_images_double_the_map() -> None:
    plain = AppearanceEncoder(3, "resnet18", backbone_width=1)
    enlarged = AppearanceEncoder(3, "resnet18", backbone_width=1, enlarge=True)
    enlarged.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 16)
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(enlarged.eval()(x).code, plain.eval()(doubled).code)


@pytest.mark.parametrize(("height", "enlarged"), [(128, True), (132, False)])
def test_enlarging_is_automatic_up_to_128_rows(height: int, enlarged: bool) -> None:
    config = configuration.load("tiny", [f"data.height={height}", "model.appearance.enlarge=auto"])
    assert DGNet(config, 3).appearance.enlarge is enlarged


def test_teachers_are_averaged_over_image_and_mirror_image() -> None:
    config = configuration.load("tiny")
    baselines = [build_baseline(config, 4).eval() for _ in range(2)]
    x = torch.randn(3, 3, 32, 16)
    votes = [b(view).softmax(1) for b in baselines for view in (x, x.flip(3))]
    teacher = Teacher(baselines, batch_statistics=False).train()
    torch.testing.assert_close(teacher(x), sum(votes, torch.zeros(3, 4)) / 4)
    assert not teacher(x).requires_grad


def test_a_teacher_with_batch_statistics_takes_image_and_mirror_image_as_separate_batches() -> None:
    baseline: Baseline = build_baseline(configuration.load("tiny"), 4)
    teacher, x = Teacher([baseline]), torch.randn(3, 3, 32, 16)
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    found = teacher(x)
    assert all(torch.equal(tensor, before[key]) for key, tensor in teacher.state_dict().items())
    with torch.no_grad():
        baseline.train().head.dropout.eval()
        wanted = (baseline(x).softmax(1) + baseline(x.flip(3)).softmax(1)) / 2
    torch.testing.assert_close(found, wanted)


# The decoder


def test_each_block_is_styled_by_its_own_part_of_the_code() -> None:
    decoder, s = Decoder(8, 12, 4, residual_blocks=3), torch.randn(1, 8, 4, 4)
    code = torch.randn(1, 12)
    seen: list[Tensor] = []
    for mlp in (*decoder.scales, *decoder.shifts):
        mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    decoder(s, code)
    wanted = [part for part in code.split(4, dim=1) for _ in range(2)]  # scales, then shifts, block by block
    assert all(torch.equal(a, b) for a, b in zip(seen, wanted, strict=True))


def test_adain_scales_and_shifts_the_normalised_map() -> None:
    decoder = Decoder(4, 6, 3, residual_blocks=1)
    block, x = decoder.residual[0], torch.randn(2, 4, 5, 3)
    scale, shift = torch.randn(2, 2, 4), torch.randn(2, 2, 4)

    def adain(conv: nn.Module, x: Tensor, which: int) -> Tensor:
        plain = F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), conv.weight)
        return F.instance_norm(plain) * scale[:, which, :, None, None] + shift[:, which, :, None, None]

    hidden = F.leaky_relu(adain(block.first, x, 0), 0.2)
    torch.testing.assert_close(block(x, scale, shift), x + adain(block.second, hidden, 1))


def test_a_code_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.decoder\.residual_blocks = 3: must divide .* 256 values"):
        DGNet(configuration.load("tiny", ["model.decoder.residual_blocks=3"]), 5)


# VGG


def test_perceptual_is_vgg16_up_to_relu5_3() -> None:
    with torch.device("meta"):
        net = Perceptual()
        assert net(torch.empty(1, 3, 64, 32)).shape == (1, 512, 4, 2)
    assert {key: shape[0] for key, shape in shapes(net).items() if key.endswith("weight")} == {
        f"features.{n}.weight": width
        for n, width in zip(
            [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28], [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6, strict=True
        )
    }
    assert not any(p.requires_grad for p in net.parameters())
