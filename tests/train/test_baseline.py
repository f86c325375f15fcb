"""A baseline's training by recipe: losses, heads, batches, rates, averaged weights; every preset, for two steps."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dgnet import cli, config
from dgnet.config import Config, Train
from dgnet.datasets.records import Dataset
from dgnet.errors import UserError
from dgnet.models.layers import BatchNorm2d
from dgnet.models.teacher import build_baseline
from dgnet.train import checkpoint, logs
from dgnet.train.averaging import RunningMean
from dgnet.train.baseline import train_baseline
from dgnet.train.joint import train_joint
from dgnet.train.optim import Optimizers, by_depth, teacher_optimizers
from dgnet.train.schedule import rate
from dgnet.train.step import JointStep
from dgnet.weights import files

CPU = torch.device("cpu")
PAIRS = ["teacher.sampling=identity_balanced", "teacher.photos_per_identity=2", "teacher.batch=4"]


def trained(people: Dataset, folder: Path, *overrides: str) -> files.Loaded:
    file = train_baseline(config.load("tiny", overrides), people, folder, CPU)
    assert file is not None
    return files.load_teacher(file)


def dying_after(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the training that comes end with an `InterruptedError` in iteration `wanted`, its weights moved already."""
    finish, iterations = Optimizers.finish, itertools.count(1)

    def dies(self: Optimizers) -> None:
        finish(self)
        if next(iterations) == wanted:
            raise InterruptedError

    monkeypatch.setattr(Optimizers, "finish", dies)


# The recipe


def test_every_term_stands_in_the_log_and_their_weighed_sum_is_the_total(people: Dataset, tmp_path: Path) -> None:
    weights = {"triplet": 1.0, "soft_triplet": 0.5, "circle": 0.1, "arcface": 0.3, "cosface": 0.2, "centre": 0.01}
    trained(
        people,
        tmp_path / "run",
        *PAIRS,
        "teacher.classifier=cosine",
        "teacher.loss.label_smoothing=0.1",
        *(f"teacher.loss.{name}={weight}" for name, weight in weights.items()),
    )
    for line in logs.read(tmp_path / "run" / "log.jsonl"):
        assert line["weights"] == {"identity": 1.0, **weights}
        assert line["terms"].keys() == line["weights"].keys()
        total = sum(line["weights"][name] * term for name, term in line["terms"].items())
        assert line["total"] == pytest.approx(total, rel=1e-4)
        assert all(term > 0 for name, term in line["terms"].items() if name != "triplet")


def test_a_baseline_without_cross_entropy_learns_by_what_it_has(people: Dataset, tmp_path: Path) -> None:
    trained(people, tmp_path / "run", *PAIRS, "teacher.loss.identity=0", "teacher.loss.soft_triplet=1",
            "teacher.loss.circle=0.1")  # fmt: skip
    (line, *_) = logs.read(tmp_path / "run" / "log.jsonl")
    assert line["terms"].keys() == {"soft_triplet", "circle"}


RECIPES = {
    "bnneck, average": ["teacher.neck=bnneck", "teacher.dropout=0"],
    "bnneck, before, gem": ["teacher.neck=bnneck", "teacher.feature=before", "teacher.pool=gem"],
    "centres": ["teacher.loss.centre=0.01"],
    "adam, cosine, warm-up, by depth, mean": [
        "teacher.optimizer=adam", "teacher.learning_rate=0.001", "teacher.schedule=cosine", "teacher.milestones=[]",
        "teacher.rate_warm_up=1", "teacher.layer_decay=0.5", "teacher.ema=0.9",
    ],
    "disturbed": [
        "teacher.erasing=0.5", "teacher.augment.colour_jitter=0.5", "teacher.augment.local_grayscale=0.5",
        "teacher.augment.random_patch=0.5",
    ],
    "pairs": ["teacher.loss.circle=0.1", *PAIRS],
}  # fmt: skip


@pytest.mark.parametrize("overrides", RECIPES.values(), ids=RECIPES)
def test_a_run_by_recipe_is_continued_bit_for_bit_and_its_weights_load(
    people: Dataset, tmp_path: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = config.load("tiny", overrides)
    whole = train_baseline(chosen, people, tmp_path / "whole", CPU)
    dying_after(24 // chosen.teacher.batch + 1, monkeypatch)  # once the first epoch is saved
    with pytest.raises(InterruptedError):
        train_baseline(chosen, people, tmp_path / "broken", CPU)
    monkeypatch.undo()
    again = train_baseline(chosen, people, tmp_path / "broken", CPU, resume=True)
    assert whole is not None
    assert again is not None
    assert whole.read_bytes() == again.read_bytes()
    loaded = files.load_teacher(whole)
    assert loaded.net.embed(torch.randn(2, 3, 32, 16)).norm(dim=1).tolist() == pytest.approx([1, 1])


def test_a_frozen_backbone_stays_as_it_is_and_then_learns(people: Dataset, tmp_path: Path) -> None:
    first = tmp_path / "start"
    trained(people, first, "teacher.epochs=1", "teacher.milestones=[]")
    start = load_file(first / "teacher.safetensors")
    for frozen, epochs, kept in ((1, 1, True), (1, 2, False)):
        after = trained(
            people,
            tmp_path / f"{frozen}-{epochs}",
            f"teacher.weights={first / 'teacher.safetensors'}",
            f"teacher.backbone_frozen={frozen}",
            f"teacher.epochs={epochs}",
        ).net.state_dict()
        body = [key for key in start if key.startswith("backbone.") and not key.endswith("num_batches_tracked")]
        assert {torch.equal(after[key], start[key]) for key in body} == {kept}  # running statistics, too
        assert not torch.equal(after["head.classify.weight"], start["head.classify.weight"])


@pytest.mark.parametrize(
    "override",
    ["teacher.loss.label_smoothing=0.2", "teacher.erasing=1", "teacher.augment.colour_jitter=1",
     "teacher.augment.local_grayscale=1", "teacher.augment.random_patch=1"],
)  # fmt: skip
def test_each_part_of_the_recipe_reaches_the_first_iteration(people: Dataset, tmp_path: Path, override: str) -> None:
    first = []
    for name, more in (("without", []), ("with", [override]), ("again", [override])):
        trained(people, tmp_path / name, "teacher.epochs=1", "teacher.milestones=[]", *more)
        first.append(logs.read(tmp_path / name / "log.jsonl")[0]["total"])
    assert first[1] == first[2] != first[0]


def test_batches_have_pairs_and_an_epoch_is_as_many_photos_as_there_are(people: Dataset, tmp_path: Path) -> None:
    trained(people, tmp_path / "run", *PAIRS, "teacher.epochs=1")
    assert len(logs.read(tmp_path / "run" / "log.jsonl")) == 24 // 4


def test_the_running_mean_is_what_is_saved_and_stands_in_the_checkpoint(people: Dataset, tmp_path: Path) -> None:
    loaded = trained(people, tmp_path / "run", "teacher.ema=0.5", "teacher.epochs=3")
    state = checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]
    saved = loaded.net.state_dict()
    assert all(torch.equal(saved[key], tensor) for key, tensor in state["mean"].items())
    assert not torch.equal(state["mean"]["head.classify.weight"], state["module"]["head.classify.weight"])


def test_a_running_mean_by_hand() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, 1.0)
    mean = RunningMean(net, 0.5)
    values = []
    for iteration, weight in enumerate((2.0, 4.0, 8.0), 1):
        torch.nn.init.constant_(net.weight, weight)
        mean.follow(net, iteration)
        values.append(mean.net.weight.item())
    first = 1 * 2 / 11 + 2 * 9 / 11  # d = min(0.5, (1 + t) / (10 + t)) = 2/11, 3/12, 4/13
    second = first * 3 / 12 + 4 * 9 / 12
    assert values == pytest.approx([first, second, second * 4 / 13 + 8 * 9 / 13])
    assert not any(p.requires_grad for p in mean.net.parameters())


# Rates


def test_rates_rise_evenly_and_fall_as_a_cosine() -> None:
    plan = Train(schedule="cosine", milestones=(), rate_warm_up=10)
    assert [rate(plan, 0.1, at, 110) for at in (0, 5, 10)] == pytest.approx([0.01, 0.505, 1.0])
    assert [rate(plan, 0.1, at, 110) for at in (60, 110)] == pytest.approx([0.5, 0.0], abs=1e-12)
    assert rate(plan, 0.1, 35, 110) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_rates_rise_and_fall_at_milestones() -> None:
    plan = Train(milestones=(20, 30), rate_warm_up=4)
    assert [rate(plan, 0.1, at, 40) for at in (0, 2, 4, 19, 20, 30)] == pytest.approx([0.01, 0.505, 1, 1, 0.1, 0.01])


def test_earlier_stages_learn_at_a_share_of_the_next_ones_rate() -> None:
    net = build_baseline(config.load("tiny"), 3)
    groups = by_depth(net.backbone, 0.8, 0.5)
    assert [group["lr"] for group in groups] == pytest.approx([0.8, 0.4, 0.2, 0.1, 0.05])
    assert [id(p) for p in groups[0]["params"]] == [id(p) for p in net.backbone.layer4.parameters()]
    everything = [id(p) for group in groups for p in group["params"]]
    assert sorted(everything) == sorted(id(p) for p in net.backbone.parameters())


def test_every_parameter_is_learnt_by_one_group(tmp_path: Path) -> None:
    chosen = config.load("tiny", ["teacher.pool=gem", "teacher.layer_decay=0.7"])
    net = build_baseline(chosen, 3)
    optimizer = teacher_optimizers(net, chosen.teacher, CPU).by_name["teacher"]
    learnt = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(learnt) == sorted(id(p) for p in net.parameters())


# What does not go together


WRONG = {
    "teacher.loss.triplet=1": "teacher.loss.triplet is on: shuffled batches lack other photos of the same person; set "
    "teacher.sampling=identity_balanced",
    "teacher.loss.circle=1 teacher.sampling=camera_balanced": "teacher.loss.circle is on: camera_balanced batches",
    "teacher.loss.triplet=1 teacher.sampling=identity_balanced teacher.photos_per_identity=1": "of 8 photos, 1 of",
    "teacher.loss.triplet=1 teacher.sampling=identity_balanced teacher.photos_per_identity=8": "of 8 photos, 8 of",
    "teacher.sampling=identity_balanced teacher.photos_per_identity=3": "teacher.batch = 8: not a multiple of "
    "teacher.photos_per_identity = 3",
    "teacher.schedule=cosine": "teacher.schedule = cosine: falls without teacher.milestones = [1]; leave them out",
    "train.schedule=cosine": "train.schedule = cosine: falls without train.milestones = [5]",
    "teacher.loss.arcface=1": "teacher.loss.arcface is on: it needs teacher.classifier=cosine",
    "loss.cosface=1": "loss.cosface is on: it needs model.appearance.classifier=cosine",
    "teacher.backbone_frozen=1": "teacher.backbone_frozen = 1: teacher.weights = scratch",
    "train.backbone_frozen=1": "train.backbone_frozen = 1: model.appearance.weights = scratch",
    "teacher.loss.identity=0": "teacher.loss: no term has a weight",
    "model.appearance.neck=bnneck model.appearance.feature=before": "feature = before: the same for both heads",
    "model.appearance.heads=pcb model.appearance.pool=gem": "model.appearance.pool = gem: heads=pcb pools its stripes",
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "line"), WRONG.items(), ids=WRONG)
def test_what_does_not_go_together_is_told_in_one_line(overrides: str, line: str) -> None:
    with pytest.raises(UserError) as told:
        config.load("tiny", overrides.split())
    assert line in str(told.value)
    assert "\n" not in str(told.value)


def test_the_length_of_a_run_whose_rates_fall_towards_its_end_cannot_change(people: Dataset, tmp_path: Path) -> None:
    cosine = ["teacher.schedule=cosine", "teacher.milestones=[]"]
    trained(people, tmp_path / "run", *cosine)
    with pytest.raises(UserError, match=r"was started with teacher.epochs = 2, not 3; it cannot change midway"):
        train_baseline(config.load("tiny", [*cosine, "teacher.epochs=3"]), people, tmp_path / "run", CPU, resume=True)


def test_another_backbone_than_the_teachers_asks_for_a_new_teacher(people: Dataset, tmp_path: Path) -> None:
    trained(people, tmp_path / "teacher")
    chosen = config.load("tiny", ["model.appearance.weights=teacher", "model.appearance.backbone=resnet10"])
    with pytest.raises(UserError) as told:
        train_joint(chosen, people, tmp_path / "joint", [tmp_path / "teacher" / "teacher.safetensors"], CPU)
    assert str(told.value) == (
        "model.appearance.weights = teacher: E_a's resnet10 of width 8 cannot start from a teacher's resnet18 of width "
        "8; retrain the teacher with teacher.backbone=resnet10 teacher.backbone_width=8, or start E_a from other "
        "weights"
    )
    assert not (tmp_path / "joint").exists()


def test_the_demo_says_so_before_it_draws_anybody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", str(tmp_path / "demo"), "model.appearance.backbone=resnet18"])
    assert end.value.code == 2
    assert "retrain the teacher with teacher.backbone=resnet18" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "demo").exists()


# Presets and the command


SMALL = [  # what a preset's networks and batches are shrunk to; its terms, heads, rates and augmentation stay
    "data.height=32", "data.width=16", "train.iterations=2", "train.half_batch=4", "train.checkpoint_every=2",
    "model.structure.width=2", "model.structure.residual_blocks=1", "model.decoder.mlp_width=8",
    "model.discriminator.width=4", "model.discriminator.residual_blocks=1", "model.appearance.backbone_width=8",
    "teacher.backbone_width=8", "teacher.epochs=1", "teacher.batch=8", "teacher.weights=scratch",
    "teacher.backbone_frozen=0",
]  # fmt: skip


@pytest.mark.parametrize("preset", config.presets())
def test_every_preset_trains_two_steps(preset: str, people: Dataset, tmp_path: Path) -> None:
    chosen = config.load(preset, SMALL)
    if chosen.model.appearance.weights != "teacher":
        chosen = config.load(preset, [*SMALL, "model.appearance.weights=scratch"])
    teacher = train_baseline(chosen, people, tmp_path / "teacher", CPU)
    assert teacher is not None
    assert all(math.isfinite(line["total"]) for line in logs.read(tmp_path / "teacher" / "log.jsonl"))
    if preset in ("baseline", "small"):  # no generator
        return
    model = train_joint(chosen, people, tmp_path / "joint", [teacher], CPU)
    assert model is not None
    net = files.load_joint(model).net
    assert torch.isfinite(net.embed(torch.randn(2, 3, 32, 16))).all()


def test_the_command_trains_the_preset_baseline_unless_told_otherwise(people: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "baseline", str(run), f"data.root={people.root}", *SMALL])
    assert end.value.code == 0
    loaded = files.load_teacher(run / "teacher.safetensors")
    assert loaded.config.teacher.neck == "bnneck"
    assert loaded.config.teacher.loss.triplet == 1
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "baseline", str(run), "--resume"])
    assert end.value.code == 0
    assert any(isinstance(module, BatchNorm2d) for module in loaded.net.modules())


def test_a_configuration_from_before_the_recipes_loads(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("teacher: {backbone: resnet18, epochs: 3, milestones: [2]}\nloss: {cycle: 1}\n")
    chosen = config.load(file)
    assert isinstance(chosen, Config)
    assert (chosen.teacher.pool, chosen.teacher.neck, chosen.teacher.sampling) == ("average", "linear", "shuffled")


# The same in joint training


JOINT = [
    "loss.triplet=1", "loss.circle=0.1", "loss.centre=0.01", "loss.label_smoothing=0.1", "model.appearance.pool=gem",
    "model.appearance.neck=bnneck", "data.augment.colour_jitter=0.5", "data.augment.random_patch=0.5",
    "train.ema=0.9", "train.schedule=cosine", "train.milestones=[]", "train.rate_warm_up=2", "train.layer_decay=0.5",
    "train.backbone_frozen=2", "model.appearance.weights=teacher", "loss.teacher=2", "train.sampling=identity_balanced",
    "train.photos_per_identity=2",
]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "term"),
    [("data.augment.colour_jitter=1", "identity"), ("data.augment.local_grayscale=1", "identity"),
     ("data.augment.random_patch=1", "identity"), ("loss.label_smoothing=0.2", "identity")],
)  # fmt: skip
def test_each_part_of_the_recipe_reaches_the_first_joint_iteration(
    people: Dataset, tmp_path: Path, override: str, term: str
) -> None:
    first = []
    for name, more in (("without", []), ("with", [override]), ("again", [override])):
        chosen = config.load("tiny", ["loss.teacher=0", "train.iterations=1", "train.milestones=[]", *more])
        assert train_joint(chosen, people, tmp_path / name, [], CPU)
        first.append(logs.read(tmp_path / name / "log.jsonl")[0]["terms"][term])
    assert first[1] == first[2] != first[0]


def test_joint_half_batches_have_pairs_where_they_are_asked_for(
    people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen = JointStep.__call__, []

    def noted(self: JointStep, x: Tensor, x_pos: Tensor, y: Tensor, iteration: int) -> Any:
        seen.append(y.tolist())
        return step(self, x, x_pos, y, iteration)

    monkeypatch.setattr(JointStep, "__call__", noted)
    chosen = config.load(
        "tiny",
        ["loss.teacher=0", "train.iterations=3", "train.milestones=[]", "train.sampling=identity_balanced",
         "train.photos_per_identity=2"],
    )  # fmt: skip
    assert train_joint(chosen, people, tmp_path / "run", [], CPU)
    assert len(seen) == 3
    for labels in seen:
        for half in (labels[: len(labels) // 2], labels[len(labels) // 2 :]):
            assert set(Counter(half).values()) == {2}


def test_the_recipe_in_joint_training_is_continued_bit_for_bit(
    people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(people, tmp_path / "teacher")
    teachers = [tmp_path / "teacher" / "teacher.safetensors"]
    chosen = config.load("tiny", JOINT)
    whole = train_joint(chosen, people, tmp_path / "whole", teachers, CPU)
    dying_after(3, monkeypatch)
    with pytest.raises(InterruptedError):
        train_joint(chosen, people, tmp_path / "broken", teachers, CPU)
    monkeypatch.undo()

    start = load_file(teachers[0])
    state = checkpoint.load_newest(tmp_path / "broken" / "checkpoints")[1]
    body = [key for key in start if key.startswith("backbone.") and not key.endswith("num_batches_tracked")]
    assert state["iteration"] == 2
    assert all(torch.equal(state["module"][f"appearance.{key}"], start[key]) for key in body)  # it is frozen until here

    again = train_joint(chosen, people, tmp_path / "broken", teachers, CPU, resume=True)
    assert whole is not None
    assert again is not None
    assert whole.read_bytes() == again.read_bytes()
    line = logs.read(tmp_path / "whole" / "log.jsonl")[-1]
    assert {"triplet": 1.0, "circle": 0.1, "centre": 0.01}.items() <= line["weights"].items()
    assert line["total"] == pytest.approx(
        sum(line["weights"][name] * term for name, term in line["terms"].items()), rel=1e-4
    )
    saved, newest = load_file(whole), checkpoint.load_newest(tmp_path / "whole" / "checkpoints")[1]
    assert all(torch.equal(saved[key], tensor) for key, tensor in newest["mean"].items())
    assert not torch.equal(saved["appearance.backbone.conv1.weight"], start["backbone.conv1.weight"])
