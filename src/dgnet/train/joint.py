"""Joint training of the re-ID network and the generator: everything around `step.JointStep` that is DG-Net's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from dgnet import weights
from dgnet.config import Config
from dgnet.data.batches import Augment, Batch, TwoStreams
from dgnet.data.records import Dataset
from dgnet.data.transforms import random_erasing
from dgnet.errors import UserError
from dgnet.models.dgnet import DGNet
from dgnet.models.perceptual import Perceptual
from dgnet.models.teacher import Teacher
from dgnet.train import distributed
from dgnet.train.loop import Line, Loop, Plan, seed_of
from dgnet.train.optim import joint_optimizers
from dgnet.train.setup import computed, open_run, training_photos
from dgnet.train.step import JointStep


def train_joint(
    config: Config, dataset: Dataset, run: Path, teachers: list[Path], device: torch.device, *, resume: bool = False
) -> Path | None:
    """Train DG-Net in the folder `run`; returns the file of the finished weights, or None if it was interrupted.

    `teachers` are files of `dgnet train teacher`; without any, the primary term is left out and must have no weight.
    Raises `UserError` for whatever in the configuration, the data or the files doesn't fit together.
    """
    device = distributed.start(device)
    photos = training_photos(config, dataset)
    teacher = _teacher(config, teachers, photos.identities, device)
    open_run(run, config, resume=resume)
    train, data = config.train, config.data

    torch.manual_seed(seed_of(train.seed))
    net = DGNet(config, len(photos.identities))
    if not resume:
        _initialise(net, config, teachers)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    distributed.broadcast(net)
    perceptual = None
    if config.loss.perceptual:
        perceptual = Perceptual().to(device)
        weights.perceptual_weights(perceptual, config.loss.perceptual_weights)

    optimizers = joint_optimizers(net, train, device)
    chance = torch.Generator()
    erase = partial(random_erasing, generator=chance, probability=data.erasing) if data.erasing else None
    step = JointStep(net, teacher, config, optimizers, chance, erase, perceptual)

    def iterate(batch: Batch, iteration: int) -> Line:
        chance.manual_seed(seed_of(train.seed, iteration))  # the same in every process: all tune the same network
        outcome = step(batch.x, batch.x_pos, batch.y, iteration)
        return outcome._asdict()

    stream = TwoStreams(
        photos.images,
        photos.classes.numpy(),
        train.half_batch,
        seed_of(train.seed, distributed.rank()),
        Augment(data.flip, data.pad),
        device,
        prefetch=int(device.type == "cuda"),  # on a CPU the step itself needs every core
    )
    plan = Plan(
        run=run,
        iterations=train.iterations,
        seed=train.seed,
        checkpoint_every=train.checkpoint_every,
        keep=train.keep,
        log_every=train.log_every,
        title="DG-Net",
        resume_command=f"dgnet train joint {run} --resume",
        fingerprint={**computed(config, "data", "model", "loss", "train"), "identities": photos.identities},
        tensorboard=train.tensorboard,
    )
    loop = Loop(plan, net, optimizers, stream, iterate)
    if resume:
        loop.resume()
    if not loop.run():
        return None
    file = run / "model.safetensors"
    if distributed.rank() == 0:
        weights.save_model(file, net, config, "joint", photos.identities)
    distributed.wait()
    return file


def _teacher(config: Config, files: list[Path], identities: list[int], device: torch.device) -> Teacher | None:
    wanted = config.loss.teacher and config.loss.primary and config.model.appearance.heads != "pcb"
    if not files:
        if wanted:
            raise UserError("loss.teacher is on: give --teacher FILE (see `dgnet train teacher`), or set loss.teacher=0")
        return None
    baselines = []
    for file in files:
        loaded = weights.load_teacher(file)
        if loaded.net.head.classify.out_features != len(identities):
            raise UserError(
                f"{file}: a teacher of {loaded.net.head.classify.out_features} identities; "
                f"the training set has {len(identities)}: train the teacher on the same set"
            )
        if loaded.identities and loaded.identities != identities:
            raise UserError(f"{file}: a teacher of other identities than the training set's: train it on the same set")
        baselines.append(loaded.net)
    return Teacher(baselines, batch_statistics=config.model.appearance.train_bn).to(
        device, memory_format=torch.channels_last  # type: ignore[call-overload]
    )


def _initialise(net: DGNet, config: Config, teachers: list[Path]) -> None:
    """Give E_a's backbone the weights that the configuration names."""
    source = config.model.appearance.weights
    if source == "teacher":
        if not teachers:
            raise UserError("model.appearance.weights = teacher: give --teacher FILE")
        source = str(teachers[0])
    weights.pretrained(net.appearance.backbone, source)
