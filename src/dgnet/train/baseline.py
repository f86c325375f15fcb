"""The teacher's own training: a re-ID baseline with cross-entropy on real images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from dgnet import console
from dgnet.config import Config
from dgnet.datasets.records import Dataset
from dgnet.images.transforms import random_erasing
from dgnet.losses import joint as losses
from dgnet.models.teacher import build_baseline
from dgnet.train import distributed
from dgnet.train.batches import Augment, OneStream, Share, Single, shuffled
from dgnet.train.chance import seed_of
from dgnet.train.logs import OnLine
from dgnet.train.loop import Line, Loop
from dgnet.train.optim import teacher_optimizers
from dgnet.train.run import begin
from dgnet.train.schedule import decay

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
    erase = partial(random_erasing, generator=chance, probability=teacher.erasing) if teacher.erasing else None

    stream = OneStream(
        photos.images,
        photos.classes.numpy(),
        shuffled(len(photos.classes), teacher.batch),
        seed_of(run.seed, "photos", 0),  # one order for all processes
        Augment(data.flip, data.pad),
        run.device,
        prefetch=int(run.device.type == "cuda"),  # on a CPU the step itself needs every core
        share=Share(distributed.rank(), distributed.count()),
    )
    per_epoch = max(1, stream.batches_per_epoch // distributed.count())
    say_if_short(len(photos.classes), per_epoch, teacher.epochs)

    def iterate(batch: Single, iteration: int) -> Line:
        epoch = (iteration - 1) // per_epoch
        optimizers.set_rates(decay(teacher.milestones, 0.1, epoch))
        chance.manual_seed(seed_of(run.seed, "images", iteration, distributed.rank()))
        with optimizers.autocast():
            logits = net(erase(batch.x) if erase else batch.x)
        loss = losses.identity(logits, batch.y).mean()
        optimizers.descend(loss, "teacher", iteration=iteration, terms={"cross-entropy": loss})
        optimizers.finish()
        accuracy = (logits.argmax(1) == batch.y).float().mean()
        return {"epoch": epoch + 1, "total": loss, "accuracy": accuracy}

    plan = run.plan(teacher.epochs * per_epoch, checkpoint_every=per_epoch, log_every=max(1, per_epoch // 10))
    return run.carry_out(Loop(plan, net, optimizers, stream, iterate, on_line))


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
