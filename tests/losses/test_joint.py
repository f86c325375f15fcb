"""Every loss against numbers worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgnet.config import GAN
from dgnet.losses import joint as losses


def values(t: Tensor) -> list[float]:
    """Values per image, which every loss must return."""
    assert t.dim() == 1
    return t.tolist()


def approx(*expected: float) -> object:
    return pytest.approx(list(expected), rel=1e-6, abs=1e-7)


def test_both_halves_is_the_sum_of_two_means() -> None:
    assert float(losses.both_halves(torch.tensor([1.0, 2.0, 3.0, 6.0]))) == 1.5 + 4.5


def test_l1() -> None:
    u = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    v = torch.tensor([[[0.0, 4.0]], [[3.0, 0.0]]])
    assert values(losses.l1(u, v)) == [1.5, 2.0]


def test_identity() -> None:
    logits = torch.tensor([[0.0, log(3)], [0.0, log(3)]])  # p = 1/4, 3/4
    assert values(losses.identity(logits, torch.tensor([0, 1]))) == approx(log(4), log(4 / 3))


def test_primary() -> None:
    logits = torch.tensor([[0.0, log(3)]] * 3)  # p = 1/4, 3/4
    q = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    assert values(losses.primary(logits, q)) == approx(0.5 * log(2) + 0.5 * log(2 / 3), log(4), 0.0)


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("soft", [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]),
        ("hard", [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
        ("appearance", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        ("uniform", [[1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3]]),
        ("two_labels", [[1 / 3, 2 / 3, 0.0], [0.0, 1.0, 0.0]]),
    ],
)
def test_teacher_labels(style: losses.TeacherStyle, expected: list[list[float]]) -> None:
    prediction = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    labels = losses.teacher_labels(style, prediction, torch.tensor([0, 1]), torch.tensor([1, 1]))
    torch.testing.assert_close(labels, torch.tensor(expected))


# Two images at two scales: scores [2, 1, 1, 2] and [2, 1, 1, 1].
FAKE = [torch.tensor([[[[1.0, 3.0]]], [[[0.0, 2.0]]]]), torch.tensor([[[[2.0]]], [[[1.0]]]])]
REAL = [torch.tensor([[[[1.0, 1.0]]], [[[3.0, 0.0]]]]), torch.tensor([[[[0.0]]], [[[1.0]]]])]


def test_lsgan() -> None:
    # fake^2: 5 and 2, then 4 and 1; (real - 1)^2: 0 and 5/2, then 1 and 0
    assert values(losses.discriminator("lsgan", FAKE, REAL)) == [5 + 0 + 4 + 1, 2 + 2.5 + 1 + 0]
    # 2 (fake - 1)^2: 4 and 2, then 2 and 0
    assert values(losses.adversarial("lsgan", FAKE)) == [4 + 2, 2 + 0]


def test_nsgan() -> None:
    fake, real = [torch.tensor([[0.0], [log(3)]])], [torch.tensor([[log(3)], [0.0]])]  # sigmoid(ln 3) = 3/4
    assert values(losses.discriminator("nsgan", fake, real)) == approx(log(2) + log(4 / 3), log(4) + log(2))
    assert values(losses.adversarial("nsgan", fake)) == approx(log(2), log(4 / 3))


def test_wgan_sums_its_drift_over_a_half() -> None:
    fake, real = torch.tensor([1.0, 2.0, 3.0, 5.0]), torch.tensor([0.0, 1.0, 2.0, 2.0])
    judged = losses.discriminator("wgan", [fake], [real])
    # half a: mean fake - mean real + 0.001 (sum fake^2 + sum real^2), and half b
    half_a, half_b = 1.5 - 0.5 + 0.001 * (5 + 1), 4 - 2 + 0.001 * (34 + 8)
    assert [float(half.mean()) for half in judged.chunk(2)] == approx(half_a, half_b)
    assert float(losses.both_halves(judged)) == pytest.approx(half_a + half_b)
    deceived = losses.adversarial("wgan", [fake])
    assert [float(half.mean()) for half in deceived.chunk(2)] == approx(-1.5 + 0.005, -4 + 0.034)


@pytest.mark.parametrize(("kind", "expected"), [("lsgan", [16 + 27, 16 + 27]), ("nsgan", [1 + 27 / 16, 1 + 27 / 16])])
def test_r1_adds_the_scales(kind: GAN, expected: list[float]) -> None:
    x = torch.zeros(2, 3, 2, 2, requires_grad=True)
    # First scale: the map 2 x[:, 0], slope 2 at 4 pixels, 4 * 2^2 = 16. Second: one score of slope 3/2, 12 * 2.25 = 27.
    # Of sigmoid(score), at score 0, the slope is a quarter of that.
    scores = [2 * x[:, :1], 1.5 * x.sum((1, 2, 3))]
    assert values(losses.r1(kind, scores, x)) == approx(*expected)


def test_r1_is_of_each_image_and_can_be_learnt_from() -> None:
    x = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).repeat(1, 3, 1, 1).requires_grad_()
    weight = torch.tensor(3.0, requires_grad=True)
    penalty = losses.r1("lsgan", [weight * x.square() / 2], x)  # slope weight * x at 3 values
    assert values(penalty) == [27.0, 108.0]
    penalty.sum().backward()
    assert weight.grad is not None
    assert float(weight.grad) == 2 * 3 * (3 + 12)


def test_perceptual_compares_normalised_maps() -> None:
    u = torch.tensor([[[[1.0, 3.0]]], [[[1.0, 3.0]]]])  # normalised: -1, 1
    v = torch.tensor([[[[30.0, 10.0]]], [[[12.0, 22.0]]]])  # normalised: 1, -1; and u scaled and shifted
    assert values(losses.perceptual(u, v)) == pytest.approx([4.0, 0.0], abs=1e-4)


@given(st.lists(st.floats(-8, 8), min_size=3, max_size=6), st.integers(0, 2), st.integers(0, 2))
def test_labels_are_distributions_and_kl_is_not_negative(logits: list[float], mine: int, theirs: int) -> None:
    drawn = torch.tensor([logits], dtype=torch.float64)
    for style in ("soft", "hard", "appearance", "uniform", "two_labels"):
        labels = losses.teacher_labels(style, drawn.softmax(1), torch.tensor([mine]), torch.tensor([theirs]))
        assert values(labels.sum(1)) == approx(1.0)
        assert float(losses.primary(drawn.flip(1), labels)) > -1e-9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_comes_in_half_precision_is_compared_in_float32(dtype: torch.dtype) -> None:
    """Under autocast, codes and logits are in half precision: their small differences must not be rounded, too."""
    torch.manual_seed(0)
    u = torch.randn(4, 30).to(dtype)
    v = (u.float() + 1e-3 * torch.randn(4, 30)).to(dtype)
    y, q = torch.tensor([0, 1, 2, 3]), torch.rand(4, 30).softmax(1)
    x = torch.randn(4, 3, 2, 2, requires_grad=True)
    compared: list[Callable[[Callable[[Tensor], Tensor]], Tensor]] = [
        lambda of: losses.l1(of(u), of(v)),
        lambda of: losses.identity(of(u), y),
        lambda of: losses.primary(of(u), q),
        lambda of: losses.teacher_labels("two_labels", of(q.to(dtype)), y, y.flip(0)),
        lambda of: losses.discriminator("lsgan", [of(u)], [of(v)]),
        lambda of: losses.discriminator("nsgan", [of(u)], [of(v)]),
        lambda of: losses.discriminator("wgan", [of(u[:, 0])], [of(v[:, 0])]),
        lambda of: losses.adversarial("lsgan", [of(u)]),
        lambda of: losses.adversarial("nsgan", [of(u)]),
        lambda of: losses.adversarial("wgan", [of(u[:, 0])]),
        lambda of: losses.perceptual(of(u.view(4, 5, 2, 3)), of(v.view(4, 5, 2, 3))),
        lambda of: losses.r1("nsgan", [of((x * x).to(dtype).sum((1, 2, 3)))], x),
    ]
    for loss in compared:
        in_half, in_full = loss(lambda t: t), loss(lambda t: t.float())
        assert in_half.dtype == torch.float32
        assert torch.equal(in_half, in_full)
