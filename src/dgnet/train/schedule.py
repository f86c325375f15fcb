"""What changes over time, as functions of the iteration, counted from 1: nothing is remembered, so nothing is lost."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from dgnet.config import METRICS, BaselineLoss, Loss, TeacherTraining, Train, WarmUp

PUBLISHED_HALF = 8  # images in a half-batch, for which the published rates are


def rate(plan: Train | TeacherTraining, factor: float, at: float, length: float) -> float:
    """What the learning rates are multiplied by, `at` iterations or epochs on the way through `length` of them.

    They rise from a hundredth over `plan.rate_warm_up`, and fall by `factor` at milestones or as half a cosine.
    """
    risen = min(1.0, 0.01 + 0.99 * at / plan.rate_warm_up) if plan.rate_warm_up else 1.0
    if plan.schedule == "milestones":
        return risen * decay(plan.milestones, factor, at)
    gone = max(0.0, at - plan.rate_warm_up) / max(1.0, length - plan.rate_warm_up)  # share of the way down
    return risen * (1 + math.cos(math.pi * min(1.0, gone))) / 2


def scaled_rates(train: Train, batches: int) -> Train:
    """The same with the learning rates of iterations of so many batches, as `train.scale_rates` says.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017: in proportion to the batch. For Adam, many take the root.
    """
    larger = batches * train.half_batch / PUBLISHED_HALF
    factor = {"none": 1.0, "linear": larger, "sqrt": math.sqrt(larger)}[train.scale_rates]
    return replace(
        train,
        learning_rate=train.learning_rate * factor,
        backbone_learning_rate=train.backbone_learning_rate * factor,
        head_learning_rate=train.head_learning_rate * factor,
    )


def decay(milestones: Sequence[int], factor: float, at: float) -> float:
    """What the learning rates are multiplied by: `factor` for each milestone reached, from the milestone itself on."""
    return float(factor ** bisect_right(sorted(milestones), at))


def warmed_up(full: float, warm_up: WarmUp, iteration: int) -> float:
    """0 up to iteration `start` + 1, then `per_iteration` more in each, up to `full`.

    The published counter is one less than the iteration, and the first rise comes once it has passed `start`.
    """
    return min(full, max(0, iteration - warm_up.start - 1) * warm_up.per_iteration)


def loss_weights(loss: Loss, iteration: int) -> dict[str, float]:
    """The weight that every term of the generator-and-identity objective counts with in this iteration.

    Only what is written here is learnt from: the objective is sum(weight[k] * term[k]) over exactly these names.

    As published, the warm-ups rise in the middle of an iteration, after the terms are evaluated and before they are
    summed. Whether a term is evaluated is thus decided by its weight before the rise, that of the iteration before; and
    `fine_identity` counts with the teacher's weight before the rise.
    """
    before, teacher = (warmed_up(loss.teacher, loss.teacher_warm_up, at) for at in (iteration - 1, iteration))
    return {
        "image": loss.image,
        "same_identity": loss.same_identity,
        "structure_code": warmed_up(loss.structure_code, loss.warm_up, iteration),
        "appearance_code": warmed_up(loss.appearance_code, loss.warm_up, iteration),
        "cycle": warmed_up(loss.cycle, loss.warm_up, iteration),
        "identity": loss.identity,
        "fine_identity": loss.identity * before * loss.fine_grained,
        "positive_identity": loss.positive_identity,
        "generated_identity": loss.generated_identity,
        "adversarial": loss.adversarial,
        "primary": teacher * loss.primary,
        "fine_grained": teacher * loss.fine_grained,
        "perceptual": loss.perceptual,
        **metric_weights(loss),
    }


def metric_weights(loss: Loss | BaselineLoss) -> dict[str, float]:
    """The weights of the terms beyond the paper, of those that have one: the same in every iteration."""
    weights = {name: float(getattr(loss, name)) for name in METRICS}
    return {name: weight for name, weight in weights.items() if weight}
