"""How long, in which batches and with which optimisers: a joint training, and a baseline."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dgnet.config.data import Augmentation
from dgnet.config.losses import BaselineLoss
from dgnet.config.values import (
    STRICT,
    BackboneName,
    Classifier,
    Feature,
    Fraction,
    Neck,
    Pool,
    Positive,
    Precision,
    Rate,
    Sampling,
    Schedule,
    Weight,
)


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
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
