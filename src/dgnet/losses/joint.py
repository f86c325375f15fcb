"""The losses of DG-Net, one pure function per equation (Zheng et al., CVPR 2019, section 3; reference, section 4).

Every function returns one value per image, [N]. The published objective is the *sum over its two half-batches of a
mean*; `both_halves` is the one place where values per image become that sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dgnet.config import GAN, TeacherStyle


def both_halves(per_image: Tensor) -> Tensor:
    """mean over half a + mean over half b = 2 * mean over the whole batch. [2B] -> scalar"""
    return 2 * per_image.mean()


def l1(u: Tensor, v: Tensor) -> Tensor:
    """|u - v|: the mean absolute difference of images or codes, [N, ...] -> [N] (equations 1, 2, 4 and 5)."""
    return (u - v).abs().flatten(1).mean(1)


def identity(logits: Tensor, y: Tensor) -> Tensor:
    """-log p(y | x), the cross-entropy of identity logits [N, K] with labels [N] -> [N] (equations 3, 6 and 9)."""
    return F.cross_entropy(logits, y, reduction="none")


def primary(logits: Tensor, soft_labels: Tensor) -> Tensor:
    """KL(q || p) = sum_k q_k (log q_k - log p_k), q the teacher's labels, p = softmax(logits), [N, K] -> [N] (eq. 8)"""
    return F.kl_div(logits.log_softmax(1), soft_labels, reduction="none").sum(1)


def teacher_labels(style: TeacherStyle, prediction: Tensor, y_appearance: Tensor, y_structure: Tensor) -> Tensor:
    """Labels of generated images [N, K], rows of sum 1.

    `soft`: the teacher's prediction [N, K]; `hard`: its arg-max; `appearance`: the label [N] of the image whose clothes
    are worn; `uniform`: 1/K (LSRO, Zheng et al., ICCV 2017); `two_labels`: the prediction restricted to the labels of
    appearance and structure, renormalised.
    """
    classes = prediction.shape[1]
    appearance = F.one_hot(y_appearance, classes).to(prediction.dtype)
    match style:
        case "soft":
            return prediction
        case "hard":
            return F.one_hot(prediction.argmax(1), classes).to(prediction.dtype)
        case "appearance":
            return appearance
        case "uniform":
            return torch.full_like(prediction, 1 / classes)
        case "two_labels":
            allowed = appearance.maximum(F.one_hot(y_structure, classes).to(prediction.dtype))
            return F.normalize(prediction * allowed, p=1, dim=1)


def discriminator(kind: GAN, fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """What D minimises, without the gradient penalty: scores per scale [N, ...] of fake and real images -> [N].

    lsgan: sum over scales of mean(fake^2) + mean((real - 1)^2) (Mao et al., ICCV 2017)
    nsgan: the same with BCE(sigmoid(fake), 0) and BCE(sigmoid(real), 1)
    wgan:  fake - real + 0.001 * B * (fake^2 + real^2), B images in a half: the published sum over a half-batch.
    """
    pairs = zip(fake, real, strict=True)
    match kind:
        case "lsgan":
            return _sum(_mean(f.square()) + _mean((r - 1).square()) for f, r in pairs)
        case "nsgan":
            return _sum(_mean(F.softplus(f)) + _mean(F.softplus(-r)) for f, r in pairs)
        case "wgan":
            return _sum(f - r + _drift(f) + _drift(r) for f, r in pairs)


def adversarial(kind: GAN, fake: Sequence[Tensor]) -> Tensor:
    """L_adv, what the generator minimises: scores per scale [N, ...] of generated images -> [N] (equation 7).

    lsgan: sum over scales of 2 mean((fake - 1)^2);  nsgan: of mean BCE(sigmoid(fake), 1);
    wgan: -fake + 0.001 * B * fake^2, B images in a half.
    """
    match kind:
        case "lsgan":
            return _sum(2 * _mean((f - 1).square()) for f in fake)
        case "nsgan":
            return _sum(_mean(F.softplus(-f)) for f in fake)
        case "wgan":
            return _sum(_drift(f) - f for f in fake)


def r1(kind: GAN, real: Sequence[Tensor], x: Tensor) -> Tensor:
    """Gradient penalty: sum over scales of |d sum(score) / dx|^2 per image, [N] (Mescheder et al., ICML 2018).

    `real` are the scores of the real images `x` [N, 3, H, W], which must require a gradient. For nsgan the gradient is
    that of sigmoid(score).
    """
    penalty = x.new_zeros(len(x))
    for score in real:
        judged = score.sigmoid() if kind == "nsgan" else score
        (gradient,) = torch.autograd.grad(judged.sum(), x, create_graph=True)
        penalty = penalty + gradient.square().flatten(1).sum(1)
    return penalty


def perceptual(u: Tensor, v: Tensor) -> Tensor:
    """Mean squared difference of instance-normalised feature maps, [N, C, h, w] -> [N] (L_vgg)."""
    return _mean((F.instance_norm(u) - F.instance_norm(v)).square())


def _drift(score: Tensor) -> Tensor:
    """0.001 * (sum over a half-batch of score^2), written per image so that the mean over the half gives that sum."""
    return 0.001 * (len(score) / 2) * score.square()


def _mean(t: Tensor) -> Tensor:
    """Mean over everything but the batch, [N, ...] -> [N]."""
    return t.flatten(1).mean(1)


def _sum(per_scale: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(per_scale)).sum(0)
