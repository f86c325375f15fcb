"""The four networks of DG-Net together, built from the configuration."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dgnet.config import Config
from dgnet.errors import UserError
from dgnet.models.appearance import AppearanceEncoder
from dgnet.models.backbones.protocol import Family
from dgnet.models.decoder import Decoder
from dgnet.models.discriminator import Critic, Discriminator
from dgnet.models.heads import Shape
from dgnet.models.structure import StructureEncoder
from dgnet.models.structure_input import edge, gray


class Codes(NamedTuple):
    """What is known of a batch of images."""

    structure: Tensor  # s [N, C, H/d, W/d], d = model.structure.downsampling, published 4
    appearance: Tensor  # f [N, code]


class DGNet(nn.Module):
    """E_s, E_a, G and D. For training see `dgnet.train.step`; for use: `encode`, `decode`, `embed`."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        model, size = config.model, (config.data.height, config.data.width)
        self.classes = classes
        self.structure_input = model.structure.input
        self.downsampling = model.structure.downsampling
        self.typical: Tensor | None = None
        """What E_s sees of some typical photos [K, 1, H, W], by which features are centralised; no part of training."""
        self.structure = StructureEncoder(
            model.structure.width,
            model.structure.residual_blocks,
            downsampling=model.structure.downsampling,
            non_local=model.structure.non_local,
        )
        self.appearance = AppearanceEncoder(
            classes,
            model.appearance.backbone,
            backbone_width=model.appearance.backbone_width,
            last_stride=model.appearance.last_stride,
            heads=model.appearance.heads,
            head_width=model.appearance.head_width,
            dropout=model.appearance.dropout,
            pool=model.appearance.pool,
            shape=Shape(
                model.appearance.neck,
                model.appearance.feature,
                model.appearance.classifier,
                model.appearance.cosine_scale,
            ),
            centre_rate=config.loss.metric.centre_rate if config.loss.centre else None,
            stripes=model.appearance.stripes,
            enlarge={"auto": size[0] <= 128, "yes": True, "no": False}[model.appearance.enlarge],
        )
        if self.appearance.code_size % model.decoder.residual_blocks:
            raise UserError(
                f"model.decoder.residual_blocks = {model.decoder.residual_blocks}: must divide the appearance code's "
                f"{self.appearance.code_size} values (backbone channels x stripes)"
            )
        self.decoder = Decoder(
            self.structure.channels,
            self.appearance.code_size,
            model.decoder.mlp_width,
            model.decoder.residual_blocks,
            upsampling=model.structure.downsampling,
            dropout=model.decoder.dropout,
            non_local=model.decoder.non_local,
        )
        self.discriminator: Discriminator | Critic
        if model.discriminator.kind == "wgan":
            self.discriminator = Critic(size, model.discriminator.width)
        else:
            self.discriminator = Discriminator(
                model.discriminator.width,
                model.discriminator.scales,
                model.discriminator.residual_blocks,
                non_local=model.discriminator.non_local,
            )

    @property
    def backbone(self) -> Family:
        """That of E_a: what weights of elsewhere are for."""
        return self.appearance.backbone

    def structure_of(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What E_s sees of normalised images: [N, 3, H, W] -> [N, 1, H, W].

        `generator` draws the noise on edges, as in training; None: there is none.
        """
        return gray(x) if self.structure_input == "gray" else edge(x, generator)

    def encode(self, x: Tensor) -> Codes:
        """Both codes of normalised images [N, 3, H, W]."""
        return Codes(self.structure(self.structure_of(x)), self.appearance.pool(x)[0])

    def decode(self, structure: Tensor, appearance: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] with the structures [N, C, H/d, W/d] in the appearances [N, code]."""
        return self.decoder(structure, appearance)  # type: ignore[no-any-return]

    def embed(self, x: Tensor) -> Tensor:
        """The re-ID feature of one view of normalised images; see `AppearanceEncoder.embed`."""
        return self.appearance.embed(x)
