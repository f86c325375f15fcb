"""Joint training of the re-ID network and the generator: everything around `step.JointStep` that is DG-Net's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from dgnet import console
from dgnet.config import Appearance, Config, TeacherTraining, Train
from dgnet.datasets.records import Dataset
from dgnet.errors import UserError
from dgnet.images.disturb import disturbance
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen
from dgnet.models.perceptual import Perceptual
from dgnet.models.teacher import Baseline, Teacher
from dgnet.train import distributed
from dgnet.train.accumulate import AccumulatedStep
from dgnet.train.batches import Augment, Batch, Share, TwoStreams
from dgnet.train.chance import seed_of
from dgnet.train.logs import OnLine
from dgnet.train.loop import Line, Loop
from dgnet.train.optim import joint_optimizers
from dgnet.train.photos import kept_for, order
from dgnet.train.run import begin, placed
from dgnet.train.schedule import loss_weights, scaled_rates
from dgnet.train.step import JointStep
from dgnet.weights import files
from dgnet.weights.pretrained import perceptual_weights


def train_joint(
    config: Config,
    dataset: Dataset,
    folder: Path,
    teachers: Sequence[Path],
    device: torch.device,
    *,
    resume: bool = False,
    on_line: OnLine | None = None,
) -> Path | None:
    """Train DG-Net in `folder`; returns the file of the finished weights, or None if it was interrupted.

    `teachers` are files of `dgnet train teacher`, by default those of `config.train.teachers`; without any, the primary
    term is left out and must have no weight. Raises `UserError` for whatever in the configuration, the data or the
    files doesn't fit together; then nothing is written.
    `on_line` is given every line of the log (`dgnet.train.logs.OnLine`).
    """
    if teachers:
        config = replace(config, train=replace(config.train, teachers=tuple(map(str, teachers))))
    require_sense(config)
    baselines = [files.load_teacher(file) for file in config.train.teachers]
    run = begin("joint", config, dataset, folder, device, resume=resume)
    train, data, appearance, photos = run.config.train, run.config.data, run.config.model.appearance, run.photos
    for baseline, name in zip(baselines, train.teachers, strict=True):
        _require_same_people(baseline, name, photos.identities)
    if appearance.weights == "teacher":
        require_fitting(appearance, baselines[0].config.teacher)

    net = run.network(DGNet, train.teachers[0] if appearance.weights == "teacher" else appearance.weights)
    teacher = None
    if baselines:
        networks = [baseline.net for baseline in baselines]
        teacher = placed(Teacher(networks, batch_statistics=appearance.train_bn), run.device)
    perceptual = None
    if config.loss.perceptual:
        perceptual = Perceptual().to(run.device)
        perceptual_weights(perceptual, config.loss.perceptual_weights)

    batches = distributed.count() * train.accumulate  # in an iteration
    scaled = scaled_rates(train, batches)
    optimizers = joint_optimizers(net, scaled, run.device)
    chance, coins = torch.Generator(), torch.Generator()
    disturb = disturbance(data.erasing, data.augment, chance)

    def seed(iteration: int, part: int) -> None:
        place = part * distributed.count() + distributed.rank()
        torch.manual_seed(seed_of(run.seed, "layers", iteration, place))
        chance.manual_seed(seed_of(run.seed, "images", iteration, place))

    kind = JointStep if train.accumulate == 1 else partial(AccumulatedStep, seed=seed)
    step = kind(net, teacher, run.config, optimizers, chance, disturb, perceptual, coins=coins)

    def iterate(batch: Batch, iteration: int) -> Line:
        seed(iteration, 0)
        coins.manual_seed(seed_of(run.seed, "coin", iteration))  # the same in every process: all tune the same network
        with frozen(net.backbone) if iteration <= train.backbone_frozen else nullcontext():
            outcome = step(batch.x, batch.x_pos, batch.y, iteration)
        if not appearance.train_bn or net.appearance.centres:  # what every iteration reads is averaged in each
            distributed.average_statistics(net)
        return outcome._asdict()

    stream = TwoStreams(
        kept_for(run.device, photos.images, data.on_device),
        photos.classes.numpy(),
        train.half_batch,
        seed_of(run.seed, "photos", 0),  # one order for all processes
        Augment(data.flip, data.pad),
        run.device,
        order(run.config, photos),
        prefetch=int(run.device.type == "cuda"),  # on a CPU the step itself needs every core
        share=Share(distributed.rank(), distributed.count()),
        parts=train.accumulate,
    )
    if batches > 1 or train.scale_rates != "none":
        console.notice(_size_of_an_iteration(scaled))
    inputs = {"teachers": [baseline.hash[:12] for baseline in baselines], "processes": batches}
    advice = {"processes": "processes times train.accumulate has to stay the same; continue with as many"}
    if appearance.synchronised or not appearance.train_bn or net.appearance.centres:
        # Then a process more is not a part less: what iterations read, or the batch norms' groups, would differ.
        inputs["train.accumulate"] = train.accumulate
        advice = {}
    plan = run.plan(train.iterations, train.checkpoint_every, train.log_every, inputs, advice)
    return run.carry_out(Loop(plan, net, optimizers, stream, iterate, on_line))


def _size_of_an_iteration(scaled: Train) -> str:
    """How many images an iteration has, and the learning rates, in words."""
    processes, parts = distributed.count(), scaled.accumulate
    batch = processes * parts * scaled.half_batch
    made = ("1 process" if processes == 1 else f"{processes} processes") + (f" x {parts} parts" if parts > 1 else "")
    rates = f"{scaled.learning_rate:g}, {scaled.backbone_learning_rate:g}, {scaled.head_learning_rate:g}"
    scale = scaled.scale_rates
    told = f"as configured ({rates}), not scaled" if scale == "none" else f"scaled ({scale}) ({rates})"
    return f"{made}: {batch} + {batch} images in an iteration, learning rates {told}"


def require_fitting(appearance: Appearance, teacher: TeacherTraining) -> None:
    """Raises `UserError` where E_a, which is to start from a teacher's weights, has another backbone."""
    ours, theirs = ((part.backbone, part.backbone_width) for part in (appearance, teacher))
    if ours != theirs:
        raise UserError(
            f"model.appearance.weights = teacher: E_a's {ours[0]} of width {ours[1]} cannot start from a teacher's "
            f"{theirs[0]} of width {theirs[1]}; retrain the teacher with teacher.backbone={ours[0]} "
            f"teacher.backbone_width={ours[1]}, or start E_a from other weights"
        )


def require_sense(config: Config) -> None:
    """Raises `UserError` for a half-batch without statistics, for weights that would teach nobody anything, and for a
    teacher that is needed and not named."""
    appearance, iterations = config.model.appearance, config.train.iterations
    if config.train.half_batch == 1 and appearance.batch_norm == "half_batch":
        raise UserError(
            "train.half_batch = 1: batch norm has no statistics of a single image; take train.half_batch=2 or more, "
            "or model.appearance.batch_norm=whole_batch"
        )
    without = {"two": [], "one": ["fine_grained"], "pcb": ["fine_grained", "primary"]}
    idle = without[appearance.heads] + (["appearance_code"] if appearance.gradient == "published" else [])
    evaluated = loss_weights(config.loss, iterations - 1)  # as in the step, of the last iteration
    if not any(weight for name, weight in evaluated.items() if name not in idle):
        raise UserError(
            f"loss: no term that teaches a network has a weight in any of the {iterations} iterations, so nothing "
            "would be learnt; give one a weight (loss.identity=1, say), or warm-ups an earlier start"
        )
    if not config.train.teachers:
        if appearance.weights == "teacher":
            raise UserError("model.appearance.weights = teacher: give --teacher FILE (a study's row: teacher)")
        if config.loss.teacher and config.loss.primary and appearance.heads != "pcb":
            raise UserError(
                "loss.teacher is on: give --teacher FILE (see `dgnet train teacher`; a study's row: teacher) or set "
                "loss.teacher=0"
            )


def _require_same_people(teacher: files.Loaded[Baseline], name: str, identities: list[int]) -> None:
    classes = teacher.net.head.classify.out_features
    if classes != len(identities):
        raise UserError(
            f"{name}: a teacher of {classes} identities; the training set has {len(identities)}: "
            "train the teacher on the same set"
        )
    if teacher.identities and teacher.identities != identities:
        raise UserError(f"{name}: a teacher of other identities than the training set's: train it on the same set")
