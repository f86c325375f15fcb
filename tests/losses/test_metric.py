"""The metric losses: worked by hand, equal to another library's values, and finite where an image lacks company.

The docstrings hold a worked number each (tests/test_examples.py). `THEIRS` are values of pytorch-metric-learning 2.9.0,
for the features, labels and classes below, in float64, averaged over the images.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dgnet.config import METRICS, Metric
from dgnet.losses import metric
from dgnet.losses.joint import identity
from dgnet.models.heads import Centres

FEATURES = 2 * torch.sin(0.7 * torch.arange(24, dtype=torch.float64)).view(6, 4)
CLASSES = torch.cos(1.3 * torch.arange(12, dtype=torch.float64)).view(4, 3)
Y = torch.tensor([0, 0, 0, 1, 1, 2])  # the last is alone: no triplet, and 0 in the circle loss
LOGITS = 30 * F.normalize(FEATURES) @ F.normalize(CLASSES, dim=0)


def arcface(logits: Tensor, y: Tensor, margin: float) -> Tensor:
    return identity(metric.arcface(logits, y, margin, 30), y)


def cosface(logits: Tensor, y: Tensor, margin: float) -> Tensor:
    return identity(metric.cosface(logits, y, margin, 30), y)


THEIRS = {
    "TripletMarginLoss(0.3) of the BatchHardMiner's triplets": (
        metric.batch_hard(FEATURES, Y, 0.3)[:5], 3.426295714029809,
    ),
    "the same, smooth": (metric.soft_margin(FEATURES, Y)[:5], 3.1756965353922646),
    "CircleLoss(0.25, 64)": (metric.circle(FEATURES, Y, 0.25, 64), 216.66177540402825),
    "CircleLoss(0.4, 8)": (metric.circle(FEATURES, Y, 0.4, 8), 26.23975954532811),
    "ArcFaceLoss(17.19 degrees, 30)": (arcface(LOGITS, Y, 0.3), 10.682437377259115),
    "CosFaceLoss(0.35, 30)": (cosface(LOGITS, Y, 0.35), 12.33857952572056),
}  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), THEIRS.values(), ids=THEIRS)
def test_another_library_finds_the_same(ours: Tensor, theirs: float) -> None:
    assert ours.mean().item() == pytest.approx(theirs, rel=1e-9)


def test_the_hardest_pair_counts_by_hand() -> None:
    """On a line: person 0 at 0, 1, 4; person 1 at 6 and 11."""
    feature, y = torch.tensor([[0.0], [1.0], [4.0], [6.0], [11.0]]), torch.tensor([0, 0, 0, 1, 1])
    gaps = [4 - 6, 3 - 5, 4 - 2, 5 - 2, 5 - 7]  # farthest of the same person, less nearest of another
    assert metric.batch_hard(feature, y, 2.5).tolist() == pytest.approx([max(0, 2.5 + gap) for gap in gaps])
    softly = [0.126928, 0.126928, 2.126928, 3.048587, 0.126928]  # log(1 + e^gap)
    assert metric.soft_margin(feature, y).tolist() == pytest.approx(softly, abs=1e-5)


def test_equal_photos_of_different_people_have_the_margin() -> None:
    same = torch.zeros(4, 3, requires_grad=True)
    loss = metric.batch_hard(same, torch.tensor([0, 0, 1, 1]), 0.3)
    assert loss.tolist() == pytest.approx([0.3] * 4)
    loss.sum().backward()
    assert same.grad is not None
    assert torch.isfinite(same.grad).all()


def test_a_circle_pulls_most_at_what_is_far_from_its_optimum() -> None:
    feature = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    easy, hard = metric.circle(feature, torch.tensor([0, 1, 0]), scale=4)[:2].tolist()
    # a: positive 0, negative 0.6. 4 (0.85 * 0.35) + 4 (1.25 * 0.75) = 4.94; b: alone.
    assert easy == pytest.approx(4.94 + 0.00713, abs=1e-4)
    assert hard == 0


TAKES = {
    "batch-hard": partial(metric.batch_hard, margin=100),  # more than any distance here
    "soft margin": metric.soft_margin,
    "circle": metric.circle,
}


@pytest.mark.parametrize("y", [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 1, 2]], ids=["no positive", "no negative", "some"])
@pytest.mark.parametrize("loss", TAKES.values(), ids=TAKES)
def test_an_image_without_both_counts_nothing(loss: Callable[[Tensor, Tensor], Tensor], y: list[int]) -> None:
    feature = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    values = loss(feature, torch.tensor(y))
    whole = [y.count(one) > 1 and len(set(y)) > 1 for one in y]
    assert [value > 0 for value in values.tolist()] == whole
    values.sum().backward()
    assert feature.grad is not None
    assert torch.isfinite(feature.grad).all()
    assert bool(feature.grad.any()) == any(whole)


@pytest.mark.parametrize("at", [1.0, -1.0, 0.0])
def test_arcface_is_finite_at_every_angle(at: float) -> None:
    logits = torch.tensor([[30 * at, 0.0]], requires_grad=True)
    arcface(logits, torch.tensor([0]), 0.5).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("face", [metric.arcface, metric.cosface])
def test_a_margin_lowers_the_own_class_alone_and_never_turns_the_order(face: Callable[..., Tensor]) -> None:
    cosines = torch.linspace(-1, 1, 201)
    logits = torch.stack([30 * cosines, torch.full_like(cosines, 3.0)], 1)
    harder = face(logits, torch.zeros(201, dtype=torch.long), scale=30)
    assert torch.equal(harder[:, 1], logits[:, 1])
    assert (harder[:, 0] < logits[:, 0] + 1e-4).all()
    assert (harder[:, 0].diff() > 0).all()


def test_without_a_margin_a_face_is_its_logits() -> None:
    torch.testing.assert_close(metric.arcface(LOGITS, Y, 0, 30), LOGITS)
    torch.testing.assert_close(metric.cosface(LOGITS, Y, 0, 30), LOGITS)


def test_labels_that_are_not_smoothed_are_the_identity_loss() -> None:
    assert torch.equal(metric.smoothed(LOGITS, Y), identity(LOGITS, Y))
    spread = metric.smoothed(LOGITS, Y, 0.3)
    by_hand = 0.7 * identity(LOGITS, Y) - 0.1 * LOGITS.log_softmax(1).sum(1)
    torch.testing.assert_close(spread, by_hand)


def test_centres_move_to_their_people() -> None:
    """Wen et al., equation 4: by rate * sum (x - c) / (1 + n), of those in the batch; the distance is that before."""
    centres = Centres(3, 2, rate=0.5)
    feature, y = torch.tensor([[4.0, 0.0], [0.0, 4.0], [1.0, 1.0]]), torch.tensor([0, 0, 2])
    assert metric.centre(feature, centres(feature, y)).tolist() == [8, 8, 1]
    torch.testing.assert_close(centres.at, torch.tensor([[2 / 3, 2 / 3], [0, 0], [0.25, 0.25]]))
    centres.eval()
    assert centres(feature, y)[2].tolist() == [0.25, 0.25]
    assert centres.at[2].tolist() == [0.25, 0.25]


def test_terms_are_those_with_a_weight_in_float32() -> None:
    centres = Centres(3, 4, rate=0.5)
    pooled = FEATURES.bfloat16()
    given = {"y": Y, "pooled": pooled, "logits": LOGITS.bfloat16(), "scale": 30.0, "centres": centres}
    every = metric.terms(Metric(), dict.fromkeys(METRICS, 0.1), **given)
    assert tuple(every) == METRICS
    assert all(term.shape == (6,) and term.dtype == torch.float32 for term in every.values())
    assert torch.equal(every["triplet"], metric.batch_hard(pooled.float(), Y, 0.3))
    assert tuple(metric.terms(Metric(), {**dict.fromkeys(METRICS, 0.0), "circle": 1}, **given)) == ("circle",)
