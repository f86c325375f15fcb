"""From the backbone's map to identities: pooling, necks, classifiers, centres. E_a and the baselines share them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.config import Classifier, Feature, Neck, Pool
from dgnet.device import full_precision
from dgnet.models.layers import BatchNorm1d


class Shape(NamedTuple):
    """What a head is made of."""

    neck: Neck = "linear"
    """`linear`: Linear -> BatchNorm1d, [N, C] -> [N, width]; `bnneck`: BatchNorm1d alone, whose shift stays 0,
    [N, C] -> [N, C] (Luo et al., "Bag of tricks", CVPRW 2019)."""
    feature: Feature = "after"
    """A gallery is searched by what comes after that norm, or before."""
    classifier: Classifier = "linear"
    """A linear layer (without bias behind a `bnneck`), or `scale` times the cosine of feature and class."""
    scale: float = 30.0


PUBLISHED = Shape()


class Head(nn.Module):
    """Neck, dropout, classifier: a pooled map [N, C] to identity logits [N, K]."""

    def __init__(self, channels: int, classes: int, width: int, dropout: float, shape: Shape = PUBLISHED) -> None:
        super().__init__()
        linear, cosine = shape.neck == "linear", shape.classifier == "cosine"
        self.width = width = width if linear else channels  # of the feature
        self.before, self.scale = shape.feature == "before", shape.scale if cosine else None
        self.reduce = nn.Linear(channels, width) if linear else nn.Identity()
        self.norm = BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(width, classes, bias=linear and not cosine)
        if isinstance(self.reduce, nn.Linear):
            nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out")
            nn.init.zeros_(self.reduce.bias)
            nn.init.normal_(self.norm.weight, 1.0, 0.02)
        else:
            self.norm.bias.requires_grad_(False)
        nn.init.normal_(self.classify.weight, std=0.001)
        if self.classify.bias is not None:
            nn.init.zeros_(self.classify.bias)

    def feature(self, pooled: Tensor) -> Tensor:
        """The feature that a gallery is searched by, [N, C] -> [N, width], or [N, C] of a `bnneck`."""
        reduced = self.reduce(pooled)
        return reduced if self.before else self.norm(reduced)  # type: ignore[no-any-return]

    def forward(self, pooled: Tensor) -> Tensor:
        read = self.dropout(self.norm(self.reduce(pooled)))
        if self.scale is None:
            return self.classify(read)  # type: ignore[no-any-return]
        return self.scale * F.linear(F.normalize(read), F.normalize(self.classify.weight))


class Pooling(nn.Module):
    """Maps [N, C, h, w] -> [N, C]: their maximum, their average, or `gem`, the generalised mean (mean x^p)^(1/p).

    Its exponent p starts at 3 and is learned; what is not positive counts as 1e-6 (Radenović et al., "Fine-tuning CNN
    image retrieval", TPAMI 2019).
    """

    def __init__(self, kind: Pool) -> None:
        super().__init__()
        self.kind = kind
        if kind == "gem":
            self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:
        match self.kind:
            case "max":
                return features.amax((2, 3))
            case "average":
                return features.mean((2, 3))
            case "gem":
                powers = full_precision(features).clamp(min=1e-6) ** self.exponent
                return (powers.mean((2, 3)) ** (1 / self.exponent)).to(features.dtype)


class Centres(nn.Module):
    """The centre of every person's pooled maps, of the centre loss; while training, it follows them.

    A centre c moves by rate * sum_i (x_i - c) / (1 + n), over the n photos of its person in the batch (Wen et al., ECCV
    2016, equation 4): as the running statistics of a batch norm do, not by a gradient.
    """

    at: Tensor

    def __init__(self, classes: int, channels: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("at", torch.zeros(classes, channels))

    def forward(self, pooled: Tensor, y: Tensor) -> Tensor:
        """The centres [N, C] of the people y [N], as they are before they move."""
        before = self.at[y]
        if self.training:
            apart = (pooled.detach() - before).to(self.at.dtype)
            photos = torch.bincount(y, minlength=len(self.at))[y, None]  # n, of each photo's person
            self.at.index_add_(0, y, self.rate * apart / (1 + photos))
        return before
