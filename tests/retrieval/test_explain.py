"""Where a match comes from: shares that add up to the likeness, on maps whose shares are known, for every network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dgnet
from dgnet import config as configuration
from dgnet.errors import UserError
from dgnet.images.heat import AGAINST, FOR, overlay
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline, build_baseline
from dgnet.retrieval.explain import explain
from dgnet.weights.files import Loaded

TINY = configuration.load("tiny")
SIZE = (TINY.data.height, TINY.data.width)


def photos(count: int, seed: int = 0) -> Tensor:
    coarse = np.random.default_rng(seed).integers(256, size=(count, SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
    return torch.from_numpy(coarse.repeat(8, axis=1).repeat(8, axis=2))


def untrained(kind: str, *changes: str) -> dgnet.Model:
    """A model with random weights, whose norms are not the identity."""
    config = configuration.load("tiny", changes)
    torch.manual_seed(0)
    net: Any = build_baseline(config, 3) if kind == "teacher" else DGNet(config, 3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            for values in (module.running_mean, module.weight.data, module.bias.data):
                values.copy_(torch.rand(len(values)) + 0.1)
    return dgnet.Model(Loaded(net.eval(), config, [], "0", ""))


EVERY = [
    ("teacher", "teacher.last_stride=1"),
    ("joint",),
    ("joint", "evaluate.alphas=[0]"),
    ("joint", "evaluate.alphas=[-1]"),
    ("joint", "evaluate.alphas=[0.3]"),
    ("joint", "model.appearance.heads=one"),
    ("joint", "model.appearance.heads=pcb"),
]


@pytest.mark.parametrize("how", EVERY, ids=" ".join)
def test_shares_and_rest_are_the_likeness_that_embed_gives(how: tuple[str, ...]) -> None:
    model = untrained(*how)
    a, b = photos(3), photos(3, 1)
    found = model.explain(a, b)
    assert torch.allclose(found.score, (model.embed(a) * model.embed(b)).sum(1), atol=1e-5)
    assert (found.score < 0.9999).all()
    assert torch.allclose(model.embed(a).norm(dim=1), torch.ones(3))
    for number, shares in enumerate((found.first, found.second)):
        assert shares.ndim == 3
        assert shares.shape[1] > 1
        assert (shares.flatten(1).std(1) > 0).all()
        assert torch.allclose(shares.sum((1, 2)) + found.rest[:, number], found.score, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet18_ibn_a", "efficientnet_lite0", "osnet_x0_25", "dinov2_small"])
def test_every_family_of_backbones_can_be_explained(backbone: str) -> None:
    if backbone.startswith("dinov2"):
        pytest.importorskip("transformers", reason="ViTs need dgnet[vit]")
    size = ("data.height=64", "data.width=32")
    model = untrained("teacher", f"teacher.backbone={backbone}", "teacher.backbone_width=8", *size)
    a, b = photos(2), photos(2, 1)
    found = model.explain(a, b)
    assert torch.allclose(found.score, (model.embed(a) * model.embed(b)).sum(1), atol=1e-5)
    assert (found.first.flatten(1).std(1) > 0).all()


@pytest.mark.parametrize("how", EVERY[:2], ids=" ".join)
def test_without_biases_nothing_is_left_over(how: tuple[str, ...]) -> None:
    """So the shares are not merely defined to add up."""
    model = untrained(*how)
    for module in model.net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.zero_()
            module.bias.data.zero_()
    found = model.explain(photos(3), photos(3, 1))
    assert found.rest.abs().max() < 1e-5
    assert found.score.abs().max() > 0.01


class Pixels(nn.Module):
    """A backbone that hands on what it sees, at a quarter of the size."""

    channels, stride, stages = 3, 4, ()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 4)


def colours() -> Baseline:
    """A network whose feature is the mean colour."""
    net = Baseline(2, "resnet18", backbone_width=8, head_width=3)
    net.backbone, net.head.reduce = Pixels(), nn.Linear(3, 3, bias=False)  # type: ignore[assignment]
    net.head.reduce.weight.data.copy_(torch.eye(3))
    nn.init.ones_(net.head.norm.weight)
    return net.eval()


def test_shares_of_a_linear_network_are_those_worked_out_by_hand() -> None:
    net = colours()
    a, b = photos(1), photos(1, 1)
    found = explain(net, a, b, None)

    def worked_out(of: Tensor, other: Tensor) -> Tensor:
        """The map's mean is the feature, so a place gives its own value, over the number of places and both lengths."""
        normalised = (of.float() / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
        map_ = nn.functional.avg_pool2d(normalised.permute(0, 3, 1, 2), 4)[0]
        feature = map_.mean((1, 2))
        return (map_ * other[:, None, None]).sum(0) / feature.norm() / map_[0].numel()

    fa, fb = (unit / unit.norm() for unit in (mean_of(a), mean_of(b)))
    assert torch.allclose(found.first[0], worked_out(a, fb), atol=1e-5)
    assert torch.allclose(found.second[0], worked_out(b, fa), atol=1e-5)


def mean_of(photo: Tensor) -> Tensor:
    normalised = (photo.float() / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    return normalised.mean((0, 1, 2))


def test_what_is_shared_is_what_is_found() -> None:
    """Two photos with one bright patch each, in different places, in a network that sees colours alone."""
    net = colours()
    a, b = (torch.full((1, *SIZE, 3), 115, dtype=torch.uint8) for _ in range(2))
    a[:, 4:8, 8:12], b[:, 20:24, 0:4] = 255, 255
    found = explain(net, a, b, None)
    assert divmod(int(found.first[0].argmax()), SIZE[1] // 4) == (1, 2)
    assert divmod(int(found.second[0].argmax()), SIZE[1] // 4) == (5, 0)


def test_pairs_do_not_depend_on_their_company() -> None:
    model = untrained("joint")
    a, b = photos(5), photos(5, 1)
    alone = model.explain(a[3:4], b[3:4])
    together = explain(model.net, a, b, model.config.evaluate.alphas[0], batch=2)
    assert torch.allclose(together.first[3], alone.first[0], atol=1e-5)
    assert torch.allclose(together.score[3], alone.score[0], atol=1e-5)


def test_one_against_many_and_what_does_not_go_together() -> None:
    model = untrained("joint")
    assert model.explain(photos(1), photos(3)).first.shape[0] == 3
    with pytest.raises(UserError, match=r"explain: 2 first and 3 second; as many of each, or one"):
        model.explain(photos(2), photos(3))
    with pytest.raises(UserError, match=r"b: no photos are given"):
        model.explain(photos(2), [])


def test_the_network_is_left_as_it_was() -> None:
    model = untrained("joint")
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.net.parameters()]
    feature = model.embed(photos(2))
    model.explain(photos(2), photos(2, 1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.net.state_dict().items())
    assert [parameter.requires_grad for parameter in model.net.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.net.parameters())
    assert torch.equal(model.embed(photos(2)), feature)


def test_shares_are_painted_where_they_are(tmp_path: Path) -> None:
    shares = torch.zeros(1, 4, 2)
    shares[0, 0, 0], shares[0, 3, 1] = 1.0, -0.5
    painted = overlay(torch.full((1, *SIZE, 3), 100, dtype=torch.uint8), shares)[0].float()
    speaks, against, nothing = painted[0, 0], painted[-1, -1], painted[SIZE[0] // 2, 0]
    assert torch.allclose(speaks, 0.2 * 100 + 0.8 * torch.tensor(FOR), atol=1)
    assert torch.allclose(against, 0.6 * 100 + 0.4 * torch.tensor(AGAINST), atol=1)
    assert torch.equal(nothing, torch.full((3,), 100.0))
    assert overlay(torch.zeros(2, *SIZE, 3, dtype=torch.uint8), torch.zeros(2, 4, 2)).max() == 0


def test_explanations_become_pictures(tmp_path: Path) -> None:
    first, second = untrained("joint").explain(photos(1), photos(1, 1)).pictures()[0]
    assert first.size == second.size == (SIZE[1], SIZE[0])
    first.save(tmp_path / "first.png")
