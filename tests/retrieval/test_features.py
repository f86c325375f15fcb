"""Features: hand-worked sums over mirror images, and nothing that depends on the batch or is left behind."""

from __future__ import annotations

import io
import math

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from dgnet import console
from dgnet.config import load
from dgnet.images.sheets import save
from dgnet.images.store import ImageStore
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.retrieval.features import extract

torch.set_num_threads(1)
CONFIG = load("tiny")


class LeftPixel(nn.Module):
    """Two parts of width 2: (is the left pixel bright?, 1), of length 1, and (0, 1)."""

    def embed(self, x: Tensor) -> Tensor:
        left = (x[:, 0, 0, 0] > 0).float()
        one = torch.ones_like(left)
        first = torch.stack([left, one], 1)
        return torch.cat([first / first.norm(dim=1, keepdim=True), torch.stack([0 * left, one], 1)], 1)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (7, 32, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> DGNet:
    torch.manual_seed(0)
    return DGNet(CONFIG, 5)


def test_image_and_mirror_image_are_summed_and_every_part_gets_length_one() -> None:
    photos = torch.tensor([[[[255] * 3, [0] * 3]], [[[0] * 3, [0] * 3]]], dtype=torch.uint8)  # [2, 1, 2, 3]

    feature = extract(LeftPixel(), photos, parts=2)

    # The first photo: at 45 degrees, its mirror image at 90: the sum points to 67.5.
    angle = math.radians(67.5)
    expected = [[math.cos(angle), math.sin(angle), 0, 1], [0, 1, 0, 1]]
    assert torch.allclose(feature, torch.tensor(expected), atol=1e-6)


def test_without_mirror_image_the_view_itself_is_the_feature() -> None:
    photos = torch.tensor([[[[255] * 3, [0] * 3]]], dtype=torch.uint8)

    feature = extract(LeftPixel(), photos, flip=False, parts=2)

    assert torch.allclose(feature, torch.tensor([[0.5**0.5, 0.5**0.5, 0, 1]]))


def test_parts_are_the_heads(net: DGNet, images: Tensor) -> None:
    two = extract(net, images)
    one = extract(build_baseline(CONFIG, 5), images)

    assert two.shape == (7, 2 * 16)
    assert torch.allclose(two.view(7, 2, 16).norm(dim=2), torch.ones(7, 2))
    assert one.shape == (7, 16)
    assert torch.allclose(one.norm(dim=1), torch.ones(7))


def test_a_bar_is_drawn_for_several_batches_only(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch, drawn in ((7, False), (3, True)):
        terminal = Console(file=io.StringIO(), force_terminal=True)
        monkeypatch.setattr(console, "stderr", terminal)
        extract(LeftPixel(), images, batch, parts=2)
        assert ("features" in terminal.file.getvalue()) == drawn  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_does_not_matter(net: DGNet, images: Tensor, batch: int) -> None:
    assert torch.allclose(extract(net, images, batch), extract(net, images, 7), atol=1e-5)


def test_a_mirrored_photo_has_the_same_feature(net: DGNet, images: Tensor) -> None:
    assert torch.allclose(extract(net, images.flip(2)), extract(net, images), atol=1e-5)


def test_modes_gradients_and_running_statistics_are_left_as_found(net: DGNet, images: Tensor) -> None:
    net.train()
    net.decoder.eval()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}

    feature = extract(net, images)

    assert net.appearance.heads.training
    assert not net.decoder.training
    assert all(weight.requires_grad for weight in net.parameters())
    assert not feature.requires_grad
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


def test_photos_from_files(net: DGNet, images: Tensor, tmp_path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images.numpy(), strict=True):
        save(path, image)

    assert torch.equal(extract(net, ImageStore(paths, 32, 16), 4), extract(net, images, 4))
