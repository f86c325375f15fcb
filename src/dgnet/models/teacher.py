"""T, the teacher: re-ID networks trained beforehand on real images only; frozen, they label generated images softly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.config import BackboneName, Config, Pool
from dgnet.device import full_precision
from dgnet.models.backbones import protocol
from dgnet.models.heads import PUBLISHED, Centres, Head, Pooling, Shape
from dgnet.models.layers import frozen, group_statistics


class Baseline(nn.Module):
    """Backbone, global pool, one head: x [N, 3, H, W] -> identity logits [N, K]."""

    def __init__(
        self,
        classes: int,
        backbone: BackboneName = "resnet50",
        *,
        backbone_width: int = 64,
        last_stride: int = 2,
        head_width: int = 512,
        dropout: float = 0.5,
        pool: Pool = "average",
        shape: Shape = PUBLISHED,
        centre_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.backbone = protocol.build(backbone, width=backbone_width, last_stride=last_stride)
        channels = self.backbone.channels
        self.head = Head(channels, classes, head_width, dropout, shape)
        self.pooling = Pooling(pool)
        self.centres = None if centre_rate is None else Centres(classes, channels, centre_rate)

    def pool(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, C]: what metric losses compare."""
        return self.pooling(self.backbone(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(x))  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> list[Tensor]:
        """The feature of one view [N, head_width], of any length; a list, as E_a has one per head."""
        return [self.head.feature(self.pool(x))]

    def embed(self, x: Tensor) -> Tensor:
        """The re-ID feature of one view, L2-normalised [N, head_width]."""
        return F.normalize(self.features(x)[0], dim=1)


def build_baseline(config: Config, classes: int) -> Baseline:
    """One teacher network, from `config.teacher`."""
    teacher = config.teacher
    return Baseline(
        classes,
        teacher.backbone,
        backbone_width=teacher.backbone_width,
        last_stride=teacher.last_stride,
        head_width=teacher.head_width,
        dropout=teacher.dropout,
        pool=teacher.pool,
        shape=Shape(teacher.neck, teacher.feature, teacher.classifier, teacher.cosine_scale),
        centre_rate=teacher.loss.metric.centre_rate if teacher.loss.centre else None,
    )


class Teacher(nn.Module):
    """One or several baselines, averaged, whose weights never change.

    With `batch_statistics` (published: on) their batch norms use the statistics of the batch at hand, or of every
    `group` of consecutive images in it; `synchronised`, of all processes together.
    """

    group: int | None = None
    synchronised = False

    def __init__(self, baselines: Sequence[Baseline], *, batch_statistics: bool = True) -> None:
        super().__init__()
        self.baselines = nn.ModuleList(baselines).requires_grad_(False)
        self.batch_statistics = batch_statistics

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Soft labels [N, K] of sum 1: softmax, averaged over the image and its mirror image and over the teachers."""
        views = torch.cat([x, x.flip(3)])
        # An image and its mirror image stay in groups of their own.
        group_statistics(self, self.group or len(x), synchronised=self.synchronised)
        with frozen(self, batch_statistics=self.batch_statistics):
            votes = [full_precision(baseline(views)).softmax(1) for baseline in self.baselines]
        return torch.stack([vote for both in votes for vote in both.chunk(2)]).mean(0)
