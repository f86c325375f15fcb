"""Where a match comes from: what every place of two photos contributes to their likeness.

A. Stylianou, R. Souvenir and R. Pless, Visualizing Deep Similarity Networks, WACV 2019, for any backbone that gives a
map, any pooling, and heads that are linear in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dgnet.images.heat import overlay
from dgnet.images.transforms import normalise
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen
from dgnet.models.teacher import Baseline
from dgnet.retrieval.scores import weigh

BATCH = 32


@dataclass(frozen=True)
class Explanation:
    """N pairs of photos with the share of each place in their likeness.

    The shares of one photo sum up to `score` less its own rest, which belongs to no place: what the biases of the
    network contribute. A share below 0 speaks against the match.
    """

    score: Tensor
    """Likeness [N], as the dot product of what `Model.embed` gives."""
    first: Tensor
    """Shares of the places of the first photos, [N, h, w]: the cells of the backbone's map."""
    second: Tensor
    """Of the second photos, likewise."""
    photos: tuple[Tensor, Tensor]
    """Both, as the network saw them: uint8 [N, H, W, 3]."""

    @property
    def rest(self) -> Tensor:
        """What belongs to no place of the first and of the second photo, [N, 2]."""
        return torch.stack([self.score - shares.sum((1, 2)) for shares in (self.first, self.second)], dim=1)

    def painted(self) -> tuple[Tensor, Tensor]:
        """Both photos, gray, with what speaks for the match in orange and against it in blue: uint8 [N, H, W, 3]."""
        both = zip(self.photos, (self.first, self.second), strict=True)
        first, second = (overlay(photos, shares) for photos, shares in both)
        return first, second

    def pictures(self) -> list[tuple[Image.Image, Image.Image]]:
        """What `painted` gives, as pairs of PIL images."""
        first, second = self.painted()
        return [(Image.fromarray(a.numpy()), Image.fromarray(b.numpy())) for a, b in zip(first, second, strict=True)]


def explain(
    net: DGNet | Baseline, first: Tensor, second: Tensor, alpha: float | None, batch: int = BATCH
) -> Explanation:
    """Why the photos `first` and `second`, uint8 [N, H, W, 3] at the network's size, are alike as they are, in pairs.

    The likeness is a sum over features; a feature is a linear function of the pooled map but for its length, which is
    taken as given; and every pooled value comes from known places of the map. So the gradient of the likeness with
    respect to the map, times the map, is what each place contributes. Image and mirror image count together.

    Args:
        net: in the modes in which it is left.
        alpha: weight of the second half, as in `dgnet.retrieval.prepared.Comparison`; None for features without halves.
        batch: pairs at once.
    """
    parts = [
        _explained(net, normalise(torch.cat([a, b]).to(_device(net))), alpha)
        for a, b in zip(torch.split(first, batch), torch.split(second, batch), strict=True)
    ]
    score, of_first, of_second = (torch.cat(each) for each in zip(*parts, strict=True))
    return Explanation(score, of_first, of_second, (first, second))


def _explained(net: DGNet | Baseline, x: Tensor, alpha: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """x [2N, 3, H, W], first photos then second -> scores [N] and both shares [N, h, w], on the CPU."""
    encoder: Any = net.appearance if isinstance(net, DGNet) else net
    with frozen(net), torch.enable_grad(), _maps(encoder.backbone) as maps:
        views = [encoder.features(view) for view in (x, x.flip(3))]
        upright, mirrored = (torch.cat([_of_given_length(part) for part in parts], dim=1) for parts in views)
        whole = _of_given_length(upright + mirrored, len(views[0]))
        feature = _of_given_length(weigh(whole, alpha, 0.5))
        other = feature.detach().roll(len(x) // 2, 0)
        score = (feature * other).sum(1)
        gradients = torch.autograd.grad(score.sum(), maps)
    as_seen, turned = ((gradient * m.detach()).sum(1) for gradient, m in zip(gradients, maps, strict=True))
    of_first, of_second = (as_seen + turned.flip(2)).cpu().chunk(2)
    return score.detach()[: len(x) // 2].cpu(), of_first, of_second


def _of_given_length(features: Tensor, parts: int = 1) -> Tensor:
    """Features [N, D] with every part brought to length 1; to the gradient, the length is a constant."""
    split = features.reshape(len(features), parts, -1)
    length = torch.linalg.vector_norm(split.detach(), dim=2, keepdim=True).clamp_min(1e-12)
    return torch.flatten(split / length, 1)


@contextmanager
def _maps(backbone: Any) -> Iterator[list[Tensor]]:
    """The maps that the backbone gives while this lasts, each a leaf that gradients reach."""
    seen: list[Tensor] = []

    def keep(module: object, given: object, made: Tensor) -> Tensor:
        seen.append(made.detach().requires_grad_())
        return seen[-1]

    hook = backbone.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


def _device(net: DGNet | Baseline) -> torch.device:
    return next(net.parameters()).device
