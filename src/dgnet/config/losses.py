"""The weights of the terms, of a joint training and of a baseline."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from dgnet.config.values import STRICT, Fraction, Positive, Rate, TeacherStyle, Weight


@dataclass(frozen=True, config=STRICT)
class WarmUp:
    """A weight that is 0 until iteration `start` + 2, and from then on grows by `per_iteration` until it is full."""

    start: Annotated[int, Field(ge=0)] = 30_000
    """The weight rises first in iteration `start` + 2, and `start` + 3 is the first that learns from it: the published
    counter is one less than ours and has to pass `start`, and a rise comes after the terms are evaluated."""
    per_iteration: Rate = 0.0005
    """Growth per iteration."""


@dataclass(frozen=True, config=STRICT)
class Metric:
    """Margins and scales of the terms that compare photos (docs/recipes.md)."""

    triplet_margin: Weight = 0.3
    """By how much the photo of another person has to be farther away than that of the same."""
    circle_margin: Fraction = 0.25
    """How far cosines may stay from 1 and from 0."""
    circle_scale: Rate = 64.0
    """Of the exponents."""
    arcface_margin: Annotated[float, Field(ge=0, lt=1.57)] = 0.3
    """In radians."""
    cosface_margin: Fraction = 0.35
    """Of the cosine."""
    centre_rate: Fraction = 0.5
    """How far a centre moves towards its person's photos in a batch."""


METRICS = ("triplet", "soft_triplet", "circle", "arcface", "cosface", "centre")
"""The terms beyond the paper that teach to tell people apart: weights of `Loss` and of `BaselineLoss`."""


@dataclass(frozen=True, config=STRICT)
class Loss:
    """The weights of the terms (docs/method.md, "From equation to code"). A term whose weight is 0 teaches nobody."""

    image: Weight = 5.0
    """L_x: an image from its own two codes."""
    same_identity: Weight = 5.0
    """L_xp: an image from its structure and another photo's appearance of the same person."""
    structure_code: Weight = 1.0
    """L_s: the structure code of a generated image; warmed up."""
    appearance_code: Weight = 1.0
    """L_f: the appearance code of a generated image; warmed up."""
    cycle: Weight = 2.0
    """L_cyc: an image regenerated from two generated images; warmed up."""
    identity: Weight = 1.0
    """L_id: cross-entropy of the real image."""
    positive_identity: Weight = 1.0
    """L_pid: cross-entropy of the positive."""
    generated_identity: Weight = 0.5
    """L_rid: the generated image must be recognised as whom it wears."""
    adversarial: Weight = 1.0
    """L_adv, and the weight of the discriminator's own loss: at 0 it learns nothing, and weight decay shrinks it."""
    teacher: Weight = 2.0
    """Of the primary and fine-grained terms together; warmed up on its own."""
    primary: Weight = 1.0
    """L_prim inside the teacher term (T_w)."""
    fine_grained: Weight = 0.2
    """L_fine inside the teacher term; times the teacher weight before an iteration's rise, also the fine-grained head's
    share in L_id. While that is 0, the head's gradients are zeros, and weight decay shrinks it, as published."""
    perceptual: Weight = 0.0
    """L_vgg: off by default; needs `perceptual_weights`."""
    perceptual_weights: str = ""
    """VGG-16 weights for L_vgg: a local file or a URL (`...#sha256=...`)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every photo's identity label that is spread over all people; it and all down to `metric` are not
    of the paper."""
    triplet: Weight = 0.0
    """Batch-hard triplet loss on the pooled map: farthest photo of the same person, nearest of another."""
    soft_triplet: Weight = 0.0
    """The same with a soft margin."""
    circle: Weight = 0.0
    """Circle loss on the pooled map."""
    arcface: Weight = 0.0
    """Cross-entropy with a margin of angle for the person's own class; needs a `cosine` classifier."""
    cosface: Weight = 0.0
    """Cross-entropy with a margin of cosine; needs a `cosine` classifier."""
    centre: Weight = 0.0
    """Half the squared distance of the pooled map to the centre of its person."""
    metric: Metric = Metric()
    """Of these terms."""
    r1: Weight = 0.01
    """Gradient penalty of the discriminator on real images."""
    r1_every: Positive = 1
    """Iterations from one gradient penalty to the next, which counts that many times (lazy R1; 1: as published)."""
    warm_up: WarmUp = WarmUp()
    """Of structure_code, appearance_code and cycle."""
    teacher_warm_up: WarmUp = WarmUp()
    """Of teacher."""
    teacher_style: TeacherStyle = "soft"
    """Labels of generated images: the teacher's prediction; its arg-max; the appearance label; uniform (LSRO); or the
    prediction restricted to the appearance and structure labels (published styles 0 to 4)."""
    tune_encoder: Fraction = 0.5
    """Probability that L_s tunes the encoder (image fixed) rather than the image (encoder fixed) in an iteration."""


@dataclass(frozen=True, config=STRICT)
class BaselineLoss:
    """The weights of a baseline's terms; those but the first are explained at `loss`."""

    identity: Weight = 1.0
    """Cross-entropy."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """See `loss.label_smoothing`."""
    triplet: Weight = 0.0
    """See `loss.triplet`."""
    soft_triplet: Weight = 0.0
    """See `loss.soft_triplet`."""
    circle: Weight = 0.0
    """See `loss.circle`."""
    arcface: Weight = 0.0
    """See `loss.arcface`."""
    cosface: Weight = 0.0
    """See `loss.cosface`."""
    centre: Weight = 0.0
    """See `loss.centre`."""
    metric: Metric = Metric()
    """See `loss.metric`."""
