"""The losses of DG-Net, one pure function per equation (Zheng et al., CVPR 2019, section 3).

docs/method.md lists them beside the equations. Every function returns one value per image, [N]. The published objective
is the *sum over its two half-batches of a mean*; `both_halves` is the one place where values per image become that sum.
What comes in half precision is compared in float32: differences of codes, and their gradients, are too small for half.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dgnet.config import GAN, TeacherStyle
from dgnet.device import full_precision


def both_halves(per_image: Tensor) -> Tensor:
    """mean over half a + mean over half b = 2 * mean over the whole batch. [2B] -> scalar

    Examples:
        >>> both_halves(torch.tensor([1.0, 3.0, 5.0, 7.0]))  # (1 + 3) / 2 + (5 + 7) / 2
        tensor(8.)
    """
    return 2 * per_image.mean()


def l1(u: Tensor, v: Tensor) -> Tensor:
    """|u - v|: the mean absolute difference of images or codes, [N, ...] -> [N] (equations 1, 2, 4 and 5).

    Examples:
        >>> l1(torch.tensor([[1.0, 4.0], [0.0, 0.0]]), torch.tensor([[2.0, 2.0], [0.0, 0.0]]))  # (1 + 2) / 2
        tensor([1.5000, 0.0000])
    """
    return (full_precision(u) - full_precision(v)).abs().flatten(1).mean(1)


def identity(logits: Tensor, y: Tensor) -> Tensor:
    """-log p(y | x), the cross-entropy of identity logits [N, K] with labels [N] -> [N] (equations 3, 6 and 9).

    Examples:
        >>> p = torch.tensor([[0.5, 0.25, 0.25]])  # log p are logits whose softmax is p
        >>> identity(p.log(), torch.tensor([1]))  # -log 0.25
        tensor([1.3863])
    """
    return F.cross_entropy(full_precision(logits), y, reduction="none")


def primary(logits: Tensor, soft_labels: Tensor) -> Tensor:
    """KL(q || p) = sum_k q_k (log q_k - log p_k), q the teacher's labels, p = softmax(logits), [N, K] -> [N] (eq. 8)

    Examples:
        >>> p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.75, 0.25]])
        >>> primary(p.log(), q)  # 0.75 log 1.5 + 0.25 log 0.5
        tensor([0.1308])
    """
    return F.kl_div(full_precision(logits).log_softmax(1), full_precision(soft_labels), reduction="none").sum(1)


def teacher_labels(style: TeacherStyle, prediction: Tensor, y_appearance: Tensor, y_structure: Tensor) -> Tensor:
    """Labels of generated images [N, K], rows of sum 1.

    `soft`: the teacher's prediction [N, K]; `hard`: its arg-max; `appearance`: the label [N] of the image whose clothes
    are worn; `uniform`: 1/K (LSRO, Zheng et al., ICCV 2017); `two_labels`: the prediction restricted to the labels of
    appearance and structure, renormalised.

    Examples:
        Three people; the clothes are those of person 1, the pose is that of person 2.

        >>> seen, clothes, pose = torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([1]), torch.tensor([2])
        >>> teacher_labels("hard", seen, clothes, pose)
        tensor([[1., 0., 0.]])
        >>> teacher_labels("appearance", seen, clothes, pose)
        tensor([[0., 1., 0.]])
        >>> teacher_labels("two_labels", seen, clothes, pose)  # 0.3 and 0.1, to sum 1
        tensor([[0.0000, 0.7500, 0.2500]])
    """
    prediction, classes = full_precision(prediction), prediction.shape[1]
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

    Examples:
        Two images judged at one scale, so that B is 1.

        >>> fake, real = [torch.tensor([[0.0], [1.0]])], [torch.tensor([[1.0], [0.5]])]
        >>> discriminator("lsgan", fake, real)  # 0^2 + (1 - 1)^2, and 1^2 + (0.5 - 1)^2
        tensor([0.0000, 1.2500])
        >>> discriminator("nsgan", fake, real)  # log(1 + e^0) + log(1 + e^-1), and log(1 + e^1) + log(1 + e^-0.5)
        tensor([1.0064, 1.7873])
        >>> discriminator("wgan", [score.flatten() for score in fake], [score.flatten() for score in real])
        tensor([-0.9990,  0.5012])
    """
    pairs = [(full_precision(f), full_precision(r)) for f, r in zip(fake, real, strict=True)]
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

    Examples:
        >>> two_scales = [torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [1.0]])]
        >>> adversarial("lsgan", two_scales)  # 2 (0 - 1)^2 + 2 (0.5 - 1)^2, and 0 for whom D takes for real
        tensor([2.5000, 0.0000])
        >>> adversarial("nsgan", two_scales[:1])  # log(1 + e^0), log(1 + e^-1)
        tensor([0.6931, 0.3133])
        >>> adversarial("wgan", [torch.tensor([0.0, 2.0])])  # B is 1: -2 + 0.001 * 2^2
        tensor([ 0.0000, -1.9960])
    """
    fake = [full_precision(score) for score in fake]
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

    Examples:
        >>> x = torch.ones(1, 3, 1, 1, requires_grad=True)
        >>> r1("lsgan", [2 * x.flatten(1).sum(1)], x).tolist()  # the gradient is 2 at each of 3 values: 3 * 2^2
        [12.0]
    """
    penalty = x.new_zeros(len(x))
    for score in real:
        score = full_precision(score)
        judged = score.sigmoid() if kind == "nsgan" else score
        (gradient,) = torch.autograd.grad(judged.sum(), x, create_graph=True)
        penalty = penalty + gradient.square().flatten(1).sum(1)
    return penalty


def perceptual(u: Tensor, v: Tensor) -> Tensor:
    """Mean squared difference of instance-normalised feature maps, [N, C, h, w] -> [N] (L_vgg).

    Examples:
        >>> u = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
        >>> perceptual(u, 10 * u + 5).round(decimals=4)  # contrast and brightness do not count
        tensor([0.])
        >>> perceptual(u, -u).round(decimals=3)  # mean (2 n)^2, n of mean 0 and variance 1
        tensor([4.])
    """
    return _mean((F.instance_norm(full_precision(u)) - F.instance_norm(full_precision(v))).square())


def _drift(score: Tensor) -> Tensor:
    """0.001 * (sum over a half-batch of score^2), written per image so that the mean over the half gives that sum."""
    return 0.001 * (len(score) / 2) * score.square()


def _mean(t: Tensor) -> Tensor:
    """Mean over everything but the batch, [N, ...] -> [N]."""
    return t.flatten(1).mean(1)


def _sum(per_scale: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(per_scale)).sum(0)
