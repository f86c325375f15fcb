"""A whole run, and what of it makes no sense together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator
from pydantic.dataclasses import dataclass

from dgnet.config.data import Data
from dgnet.config.losses import METRICS, BaselineLoss, Loss
from dgnet.config.networks import Appearance, Model
from dgnet.config.training import TeacherTraining, Train
from dgnet.config.values import STRICT, Positive


def _alphas(values: tuple[float, ...]) -> tuple[float, ...]:
    """What a feature's halves can be weighed by."""
    if not values or not all(0 <= value <= 1e6 or value == -1 for value in values):
        raise ValueError("input should be one or more of 0 to 1e6, or -1 (the fine-grained half alone)")
    return values


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
class Config:
    """A whole run."""

    data: Data = Data()
    """The photos."""
    model: Model = Model()
    """The networks of DG-Net."""
    loss: Loss = Loss()
    """What DG-Net learns from."""
    train: Train = Train()
    """The joint training."""
    teacher: TeacherTraining = TeacherTraining()
    """A baseline and its training."""
    evaluate: Evaluate = Evaluate()
    """The test."""

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
