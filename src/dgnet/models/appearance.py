"""E_a, the appearance encoder: an image -> the appearance code f and identity logits. It *is* the re-ID network.

Zheng et al., CVPR 2019, sections 3.1 and 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.config import BackboneName, Heads, Pool
from dgnet.models.backbones import protocol
from dgnet.models.heads import PUBLISHED, Centres, Head, Pooling, Shape


class Appearance(NamedTuple):
    """What E_a says of a batch of images."""

    code: Tensor  # f [N, C * stripes], flattened channel-major: index = stripes * channel + stripe
    logits: tuple[Tensor, ...]  # per head [N, K]: (primary, fine-grained), or (one,), or one per PCB stripe
    pooled: Tensor  # the pooled map [N, C], its maximum as published: what metric losses compare


class AppearanceEncoder(nn.Module):
    """E_a: x [N, 3, H, W] -> `Appearance`.

    `heads`: `"two"`, primary (appearance) and fine-grained (structure-linked), both on the global max pool, with
    dropout 0.5 and 0.75; `"one"`; or `"pcb"`, one per horizontal stripe on its average pool (Sun et al., ECCV 2018).
    `fine_grained` says whether there is a fine-grained head, `striped` whether every head has a stripe of its own.
    `pool` is what the heads read, but for PCB's; `shape`, what they are made of. With a `centre_rate` there are
    `centres`, for the centre loss. With `enlarge` the image is seen twice as large (nearest), as published for
    generators of at most 128 rows.
    """

    def __init__(
        self,
        classes: int,
        backbone: BackboneName = "resnet50",
        *,
        backbone_width: int = 64,
        last_stride: int = 1,
        heads: Heads = "two",
        head_width: int = 512,
        dropout: tuple[float, float] = (0.5, 0.75),
        pool: Pool = "max",
        shape: Shape = PUBLISHED,
        centre_rate: float | None = None,
        stripes: int = 4,
        enlarge: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = protocol.build(backbone, width=backbone_width, last_stride=last_stride)
        self.stripes, self.enlarge = stripes, enlarge
        self.fine_grained, self.striped = heads == "two", heads == "pcb"
        channels = self.backbone.channels
        self.code_size = channels * stripes
        rates = {"two": list(dropout), "one": [dropout[0]], "pcb": [dropout[0]] * stripes}[heads]
        self.heads = nn.ModuleList(Head(channels, classes, head_width, rate, shape) for rate in rates)
        self.pooling = Pooling(pool)
        self.centres = None if centre_rate is None else Centres(classes, channels, centre_rate)

    def pool(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x [N, 3, H, W] -> the appearance code [N, C * stripes] and, per head, the pooled map [N, C] that it reads."""
        features = self.backbone(F.interpolate(x, scale_factor=2, mode="nearest") if self.enlarge else x)
        code = F.adaptive_max_pool2d(features, (self.stripes, 1)).flatten(1)
        if self.striped:
            return code, list(F.adaptive_avg_pool2d(features, (self.stripes, 1)).squeeze(3).unbind(2))
        pooled = self.highest(code) if self.pooling.kind == "max" else self.pooling(features)
        return code, [pooled] * len(self.heads)

    def highest(self, code: Tensor) -> Tensor:
        """The global max pool [N, C]: the max of the stripes' maxima, which the code holds."""
        return torch.unflatten(code, 1, (-1, self.stripes)).amax(2)

    def forward(self, x: Tensor) -> Appearance:
        code, parts = self.pool(x)
        logits = tuple(head(part) for head, part in zip(self.heads, parts, strict=True))
        return Appearance(code, logits, self.highest(code) if self.striped else parts[0])

    def features(self, x: Tensor) -> list[Tensor]:
        """Per head, its feature of one view [N, width], of any length."""
        return self.read(self.pool(x)[1])

    def read(self, pooled: list[Tensor]) -> list[Tensor]:
        """`features`, of what `pool` gave."""
        return [head.feature(part) for head, part in zip(self.heads, pooled, strict=True)]  # type: ignore[operator]

    def embed(self, x: Tensor) -> Tensor:
        """The re-ID feature of one view: every head's feature, each L2-normalised, side by side [N, heads * width]."""
        return self.side_by_side(self.pool(x)[1])

    def side_by_side(self, pooled: list[Tensor]) -> Tensor:
        """`embed`, of what `pool` gave."""
        return torch.cat([F.normalize(feature, dim=1) for feature in self.read(pooled)], dim=1)
