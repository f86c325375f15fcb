"""Losses that compare photos: beside the identity losses, they bring a person's photos together and part others'.

None of them is of DG-Net's paper; each has a weight of 0 until it is given one (docs/recipes.md). They serve a baseline
and the identity side of joint training alike: features [N, C] or logits [N, K], labels [N] -> one value per image, [N].
Where a photo of the same person and one of another are needed, an image without both in its batch has the value 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dgnet.config import Metric
from dgnet.device import full_precision


def terms(
    metric: Metric,
    weights: Mapping[str, float],
    y: Tensor,
    *,
    pooled: Tensor,
    logits: Tensor,
    scale: float = 1.0,
    centres: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Every term of this file that has a weight, by its name, in float32 at least.

    Args:
        metric: margins and scales.
        weights: of terms, by name; those without one are not computed.
        y: labels [N].
        pooled: the pooled maps [N, C], before any neck.
        logits: of the head that recognises, [N, K].
        scale: that of the logits, which are cosines where arcface or cosface has a weight.
        centres: of `centre`, (pooled, y) -> each image's centre [N, C].

    Examples:
        >>> feature, y = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]]), torch.tensor([0, 0, 1])
        >>> terms(Metric(), {"triplet": 1}, y, pooled=feature, logits=feature)
        {'triplet': tensor([1.3000, 2.3000, 0.0000])}
    """
    with torch.autocast(y.device.type, enabled=False):  # distances lose too much in half precision
        pooled, logits = full_precision(pooled), full_precision(logits)
        known: dict[str, Callable[[], Tensor]] = {
            "triplet": lambda: batch_hard(pooled, y, metric.triplet_margin),
            "soft_triplet": lambda: soft_margin(pooled, y),
            "circle": lambda: circle(pooled, y, metric.circle_margin, metric.circle_scale),
            "arcface": lambda: smoothed(arcface(logits, y, metric.arcface_margin, scale), y),
            "cosface": lambda: smoothed(cosface(logits, y, metric.cosface_margin, scale), y),
        }
        if centres is not None:
            known["centre"] = lambda: centre(pooled, centres(pooled, y))
        return {name: term() for name, term in known.items() if weights.get(name)}


def smoothed(logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """-sum_k q_k log p_k with q = (1 - smoothing) at y, plus smoothing / K everywhere: [N, K], [N] -> [N].

    Label smoothing (Szegedy et al., "Rethinking the Inception architecture", CVPR 2016); 0: the cross-entropy.

    Examples:
        >>> p = torch.tensor([[0.75, 0.25]])
        >>> smoothed(p.log(), torch.tensor([0]), 0.2)  # -(0.9 log 0.75 + 0.1 log 0.25)
        tensor([0.3975])
    """
    return F.cross_entropy(full_precision(logits), y, reduction="none", label_smoothing=smoothing)


def batch_hard(feature: Tensor, y: Tensor, margin: float = 0.3) -> Tensor:
    """max(0, margin + max_p |f - f_p| - min_n |f - f_n|): farthest photo of the person, nearest of another.

    The batch-hard triplet loss (Hermans et al., "In defense of the triplet loss", 2017), of Euclidean distances.

    Examples:
        Two photos of person 0, one of person 1: |a - b| = 5, |a - c| = 4, |b - c| = 3. The third is alone.

        >>> feature, y = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]]), torch.tensor([0, 0, 1])
        >>> batch_hard(feature, y, margin=0.3)  # 0.3 + 5 - 4, 0.3 + 5 - 3
        tensor([1.3000, 2.3000, 0.0000])
    """
    gap, whole = _hardest(feature, y)
    return torch.where(whole, (margin + gap).relu(), 0.0)


def soft_margin(feature: Tensor, y: Tensor) -> Tensor:
    """log(1 + exp(max_p |f - f_p| - min_n |f - f_n|)): the same without a margin, which never ends (as `batch_hard`).

    Examples:
        >>> feature, y = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]]), torch.tensor([0, 0, 1])
        >>> soft_margin(feature, y)  # log(1 + e^(5 - 4)), log(1 + e^(5 - 3))
        tensor([1.3133, 2.1269, 0.0000])
    """
    gap, whole = _hardest(feature, y)
    return torch.where(whole, F.softplus(gap), 0.0)


def circle(feature: Tensor, y: Tensor, margin: float = 0.25, scale: float = 64.0) -> Tensor:
    """log(1 + sum_n exp(s a_n (c_n - m)) sum_p exp(-s a_p (c_p - 1 + m))), c cosines to all others, m margin, s scale.

    a_n = max(0, c_n + m) and a_p = max(0, 1 + m - c_p) count as constants: what is far from its optimum pulls more
    (Sun et al., "Circle loss", CVPR 2020, equation 6).

    Examples:
        >>> feature, y = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1])
        >>> circle(feature, y, scale=4)  # a: c_p = 0.6, c_n = 0: log(1 + e^(4 (0.25 (0 - 0.25) - 0.65 (0.6 - 0.75))))
        tensor([0.7656, 2.7650, 0.0000])
    """
    cosine = F.normalize(feature) @ F.normalize(feature).mT
    same, other, whole = _pairs(y)
    pull_n, pull_p = (cosine + margin).relu().detach(), (1 + margin - cosine).relu().detach()
    negative = (scale * pull_n * (cosine - margin)).masked_fill(~other, -torch.inf).logsumexp(1)
    positive = (-scale * pull_p * (cosine - 1 + margin)).masked_fill(~same, -torch.inf).logsumexp(1)
    return torch.where(whole, F.softplus(torch.where(whole, negative + positive, 0.0)), 0.0)


def arcface(logits: Tensor, y: Tensor, margin: float = 0.3, scale: float = 30.0) -> Tensor:
    """scale * cos(theta_y + margin) in place of scale * cos(theta_y), the angle to the person's own class: [N, K].

    An angle beyond pi - margin is lowered evenly, by margin * sin(margin), so that a larger one never gains (Deng et
    al., "ArcFace", CVPR 2019). To be followed by the cross-entropy.

    Examples:
        An angle of 60 degrees with a margin of 30 is one of 90.

        >>> logits = 4 * torch.tensor([[0.5, 0.0], [-1.0, 0.0]])
        >>> arcface(logits, torch.tensor([0, 0]), margin=torch.pi / 6, scale=4).round(decimals=4).abs()
        tensor([[0.0000, 0.0000],
                [5.0472, 0.0000]])
    """
    cosine = (logits.gather(1, y[:, None]) / scale).clamp(-1 + 1e-6, 1 - 1e-6)  # where the angle has a slope
    angle = cosine.acos()
    harder = torch.where(angle <= math.pi - margin, (angle + margin).cos(), cosine - margin * math.sin(margin))
    return logits.scatter(1, y[:, None], scale * harder)


def cosface(logits: Tensor, y: Tensor, margin: float = 0.35, scale: float = 30.0) -> Tensor:
    """scale * (cos(theta_y) - margin) in place of scale * cos(theta_y): [N, K] (Wang et al., "CosFace", CVPR 2018).

    To be followed by the cross-entropy.

    Examples:
        >>> cosface(4 * torch.tensor([[0.5, 0.0]]), torch.tensor([0]), margin=0.35, scale=4)  # 4 (0.5 - 0.35)
        tensor([[0.6000, 0.0000]])
    """
    return logits - scale * margin * F.one_hot(y, logits.shape[1]).to(logits.dtype)


def centre(feature: Tensor, centres: Tensor) -> Tensor:
    """1/2 |f - c_y|^2, the distance to the centre of one's class: [N, C], [N, C] -> [N].

    The centre loss (Wen et al., "A discriminative feature learning approach", ECCV 2016); how centres move:
    `dgnet.models.heads.Centres`.

    Examples:
        >>> centre(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0]]))  # 25 / 2
        tensor([12.5000])
    """
    return (feature - centres).square().sum(1) / 2


def _hardest(feature: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Farthest positive less nearest negative [N], and whether an image has both [N]; the gap is 0 where it has not."""
    distance = torch.cdist(feature, feature, compute_mode="donot_use_mm_for_euclid_dist")  # the other one is inexact
    same, other, whole = _pairs(y)
    farthest = distance.masked_fill(~same, -torch.inf).amax(1)
    nearest = distance.masked_fill(~other, torch.inf).amin(1)
    return torch.where(whole, farthest, 0.0) - torch.where(whole, nearest, 0.0), whole


def _pairs(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Who is another photo of the same person, and who is somebody else, [N, N]; and who has both, [N]."""
    equal = y[:, None] == y
    same = equal & ~torch.eye(len(y), dtype=torch.bool, device=y.device)
    return same, ~equal, same.any(1) & (~equal).any(1)
