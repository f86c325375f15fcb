"""Pools, necks and classifiers: by hand, and in E_a and in a baseline."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dgnet import config as configuration
from dgnet.models.appearance import AppearanceEncoder
from dgnet.models.heads import Head, Pooling, Shape
from dgnet.models.teacher import build_baseline

BNNECK = Shape(neck="bnneck")


def test_pools_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]], [[5.0, 5.0], [5.0, 5.0]]]])
    assert Pooling("max")(features).tolist() == [[3, 5]]
    assert Pooling("average")(features).tolist() == [[1.5, 5]]
    assert Pooling("gem")(features).tolist() == [[pytest.approx((36 / 4) ** (1 / 3)), pytest.approx(5)]]


@pytest.mark.parametrize(("exponent", "kind"), [(1.0, "average"), (80.0, "max")])
def test_a_generalised_mean_lies_between_average_and_maximum(exponent: float, kind: str) -> None:
    features = torch.rand(2, 3, 4, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    gem = Pooling("gem")
    torch.nn.init.constant_(gem.exponent, exponent)
    torch.testing.assert_close(gem(features), Pooling(kind)(features), rtol=0.05, atol=0)


def test_a_generalised_mean_learns_its_exponent_and_survives_half_precision_and_zeros() -> None:
    gem, features = Pooling("gem"), torch.zeros(1, 2, 2, 2, dtype=torch.float16)
    features[0, 0, 0, 0] = 60.0  # its cube is no float16
    out = gem(features)
    assert out.dtype == torch.float16
    assert out[0].tolist() == pytest.approx([60 / 4 ** (1 / 3), 0], rel=1e-2, abs=1e-5)
    out.float().sum().backward()
    assert gem.exponent.grad is not None
    assert torch.isfinite(gem.exponent.grad)


def test_a_bnneck_is_a_batch_norm_without_shift_before_a_classifier_without_bias() -> None:
    torch.manual_seed(0)
    pooled = torch.randn(6, 4)
    head = Head(4, 3, 99, 0.0, BNNECK)
    assert {name: list(p.shape) for name, p in head.named_parameters() if p.requires_grad} == {
        "norm.weight": [4],
        "classify.weight": [3, 4],
    }
    normed = F.batch_norm(pooled, None, None, training=True)
    torch.testing.assert_close(head(pooled), normed @ head.classify.weight.mT)
    head.eval()
    torch.testing.assert_close(head.feature(pooled), head.norm(pooled))
    assert torch.equal(Head(4, 3, 99, 0.0, Shape("bnneck", "before")).feature(pooled), pooled)


def test_a_cosine_classifier_says_scale_times_cosine() -> None:
    torch.manual_seed(0)
    head, pooled = Head(4, 3, 5, 0.0, Shape(classifier="cosine", scale=7.0)).eval(), torch.randn(6, 4)
    cosines = F.cosine_similarity(head.feature(pooled)[:, None], head.classify.weight[None], dim=2)
    torch.testing.assert_close(head(pooled), 7 * cosines)
    assert head.classify.bias is None


@pytest.mark.parametrize("pool", ["max", "average", "gem"])
@pytest.mark.parametrize("feature", ["after", "before"])
def test_in_a_baseline_and_in_the_appearance_encoder(pool: str, feature: str) -> None:
    recipe = [f"teacher.pool={pool}", "teacher.neck=bnneck", f"teacher.feature={feature}"]
    baseline = build_baseline(configuration.load("tiny", recipe), 3).eval()
    x = torch.randn(2, 3, 32, 16)
    pooled = baseline.pool(x)
    torch.testing.assert_close(pooled, Pooling(pool)(baseline.backbone(x)))
    wanted = pooled if feature == "before" else baseline.head.norm(pooled)
    torch.testing.assert_close(baseline.embed(x), F.normalize(wanted))

    net = AppearanceEncoder(3, "resnet18", backbone_width=4, heads="one", pool=pool, shape=Shape("bnneck", feature))
    seen = net.eval()(x)
    features = net.backbone(x)
    torch.testing.assert_close(seen.pooled, Pooling(pool)(features))
    assert torch.equal(seen.code, F.adaptive_max_pool2d(features, (4, 1)).flatten(1))  # whatever the heads read
    torch.testing.assert_close(seen.logits[0], net.heads[0](seen.pooled))


def test_the_published_heads_have_the_names_and_nothing_more() -> None:
    tiny = configuration.load("tiny")
    names = {
        key.removeprefix("head.") for key in build_baseline(tiny, 3).state_dict() if not key.startswith("backbone")
    }
    assert names == {
        "reduce.weight", "reduce.bias", "classify.weight", "classify.bias",
        "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    }  # fmt: skip
