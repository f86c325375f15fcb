"""A baseline's own training, on real images only: a teacher is one, a strong re-ID network another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from dgnet import console
from dgnet.config import Config, TeacherTraining
from dgnet.datasets.records import Dataset
from dgnet.images.disturb import disturbance
from dgnet.losses import metric
from dgnet.models.layers import frozen
from dgnet.models.teacher import Baseline, build_baseline
from dgnet.train import distributed
from dgnet.train.batches import Augment, OneStream, Share, Single, shuffled
from dgnet.train.chance import seed_of
from dgnet.train.logs import OnLine
from dgnet.train.loop import Line, Loop
from dgnet.train.optim import teacher_optimizers
from dgnet.train.photos import kept_for, order
from dgnet.train.run import begin
from dgnet.train.schedule import metric_weights, rate

_SHORT_EPOCH, _SHORT_TRAINING = 50, 300  # steps: epochs are counted as if a set were large


def train_baseline(
    config: Config,
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    *,
    resume: bool = False,
    on_line: OnLine | None = None,
) -> Path | None:
    """Train one baseline, such as a teacher; returns the file of its weights, or None if it was interrupted.

    Raises `UserError` for whatever in the configuration, the data or the files doesn't fit together; then nothing is
    written. `on_line` is given every line of the log (`dgnet.train.logs.OnLine`).
    """
    run = begin("teacher", config, dataset, folder, device, resume=resume)
    teacher, data, photos = run.config.teacher, run.config.data, run.photos
    net = run.network(build_baseline, teacher.weights)
    optimizers = teacher_optimizers(net, teacher, run.device)
    chance = torch.Generator()
    disturb = disturbance(teacher.erasing, teacher.augment, chance)

    stream = OneStream(
        kept_for(run.device, photos.images, data.on_device),
        photos.classes.numpy(),
        order(run.config, photos, "teacher") or shuffled(len(photos.classes), teacher.batch),
        seed_of(run.seed, "photos", 0),  # one order for all processes
        Augment(data.flip, data.pad),
        run.device,
        prefetch=int(run.device.type == "cuda"),  # on a CPU the step itself needs every core
        share=Share(distributed.rank(), distributed.count()),
    )
    per_epoch = max(1, len(photos.classes) // teacher.batch // distributed.count())
    say_if_short(len(photos.classes), per_epoch, teacher.epochs)
    weights = {"identity": teacher.loss.identity, **metric_weights(teacher.loss)}

    def iterate(batch: Single, iteration: int) -> Line:
        epoch, way = (iteration - 1) // per_epoch, (iteration - 1) / per_epoch
        optimizers.set_rates(rate(teacher, 0.1, way, teacher.epochs))
        chance.manual_seed(seed_of(run.seed, "images", iteration, distributed.rank()))
        with optimizers.autocast():
            with frozen(net.backbone) if epoch < teacher.backbone_frozen else nullcontext():
                pooled = net.pool(disturb(batch.x) if disturb else batch.x)
            logits = net.head(pooled)
        term = terms(teacher, net, weights, pooled, logits, batch.y)
        total = torch.stack([weights[name] * value for name, value in term.items()]).sum()
        optimizers.descend(total, "teacher", iteration=iteration, terms=term)
        optimizers.finish()
        if net.centres:  # every iteration reads them, not only the end
            distributed.average_statistics(net)
        accuracy = (logits.argmax(1) == batch.y).float().mean()
        parts = {"terms": term, "weights": weights} if len(term) > 1 else {}
        return {"epoch": epoch + 1, "total": total, "accuracy": accuracy, **parts}

    plan = run.plan(teacher.epochs * per_epoch, checkpoint_every=per_epoch, log_every=max(1, per_epoch // 10))
    return run.carry_out(Loop(plan, net, optimizers, stream, iterate, on_line))


def terms(
    teacher: TeacherTraining, net: Baseline, weights: Mapping[str, float], pooled: Tensor, logits: Tensor, y: Tensor
) -> dict[str, Tensor]:
    """The terms that have a weight, each its mean over the batch."""
    loss = teacher.loss
    term = {"identity": metric.smoothed(logits, y, loss.label_smoothing)} if weights["identity"] else {}
    scale, centres = teacher.cosine_scale, net.centres
    term |= metric.terms(loss.metric, weights, y, pooled=pooled, logits=logits, scale=scale, centres=centres)
    return {name: value.mean() for name, value in term.items()}


def say_if_short(photos: int, per_epoch: int, epochs: int) -> None:
    """Epochs of few photos are few steps: eight of them may be eight."""
    if per_epoch >= _SHORT_EPOCH:
        return
    steps = f"an epoch of {photos} photos is {per_epoch} steps: teacher.epochs = {epochs} makes {epochs * per_epoch}"
    if epochs * per_epoch >= _SHORT_TRAINING:
        console.notice(steps)
    else:
        console.warn(
            f"{steps}, and a teacher takes some hundreds; more epochs, with teacher.milestones to match, or a smaller "
            "teacher.batch"
        )
