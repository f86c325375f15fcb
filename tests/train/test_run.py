"""Whole trainings, teacher and joint, on a few drawn people: what they leave behind, and how they stop and go on."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from safetensors.torch import load_file

from dgnet import cli, config
from dgnet.datasets.read import read_dataset
from dgnet.datasets.records import Dataset
from dgnet.device import device_named
from dgnet.errors import UserError
from dgnet.models.dgnet import DGNet
from dgnet.train import checkpoint, logs
from dgnet.train.baseline import train_baseline
from dgnet.train.chance import seed_of
from dgnet.train.joint import train_joint
from dgnet.train.loop import Loop
from dgnet.train.step import JointStep
from dgnet.weights import files

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(people: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = train_baseline(config.load("tiny"), people, tmp_path_factory.mktemp("teacher") / "run", CPU)
    assert file is not None
    return file


def joint(
    people: Dataset, run: Path, teachers: Sequence[Path], overrides: Sequence[str] = (), *, resume: bool = False
) -> Path | None:
    chosen = config.load(run / "config.yaml" if resume else "tiny", overrides)
    return train_joint(chosen, people, run, teachers, CPU, resume=resume)


def dying_at(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training end with an `InterruptedError` in iteration `wanted`."""
    step = JointStep.__call__

    def dies(self: JointStep, x: torch.Tensor, x_pos: torch.Tensor, y: torch.Tensor, iteration: int) -> Any:
        if iteration == wanted:
            raise InterruptedError
        return step(self, x, x_pos, y, iteration)

    monkeypatch.setattr(JointStep, "__call__", dies)


def last(run: Path) -> checkpoint.Tree:
    return checkpoint.load_newest(run / "checkpoints")[1]


def lines(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in logs.read(run / "log.jsonl")]


def assert_same_run(a: Path, b: Path, weights_file: str) -> None:
    """Bit for bit: the log without its times, the last checkpoint with its optimisers, the weights for use."""
    assert lines(a) == lines(b)
    newest = [checkpoint.in_folder(run / "checkpoints")[0] for run in (a, b)]
    assert newest[0].name == newest[1].name
    assert newest[0].read_bytes() == newest[1].read_bytes()
    assert (a / weights_file).read_bytes() == (b / weights_file).read_bytes()


CASES = {
    "as published": [],
    "edges, dropout in G, gradient as in the paper": [
        "model.structure.input=edge", "model.decoder.dropout=0.2", "model.appearance.gradient=paper",
    ],
    "bfloat16, whole-batch statistics": ["train.precision=bfloat16", "model.appearance.batch_norm=whole_batch"],
    "float16, with its loss scale": ["train.precision=float16"],
}  # fmt: skip


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_a_run_that_died_equals_the_uninterrupted_one(
    people: Dataset, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    """It dies in iteration 4; its checkpoint is of 2. Dropout and erasing are on, the learning rate falls at 5."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    joint(people, whole, [teacher], overrides)
    dying_at(4, monkeypatch)
    with pytest.raises(InterruptedError):
        joint(people, broken, [teacher], overrides)
    monkeypatch.undo()
    assert last(broken)["iteration"] == 2
    assert [line["iteration"] for line in lines(broken)] == [1, 2, 3]  # the last is beyond the checkpoint: it must go
    assert not (broken / "model.safetensors").exists()
    assert joint(people, broken, [], resume=True) == broken / "model.safetensors"
    assert_same_run(whole, broken, "model.safetensors")


def test_photos_in_the_memory_of_the_device_change_no_number(people: Dataset, teacher: Path, tmp_path: Path) -> None:
    joint(people, tmp_path / "plain", [teacher])
    joint(people, tmp_path / "there", [teacher], ["data.on_device=true", "train.iterations=4"])
    joint(people, tmp_path / "there", [], ["data.on_device=auto", "train.iterations=6"], resume=True)  # it may change
    assert lines(tmp_path / "plain") == lines(tmp_path / "there")
    a, b = (last(tmp_path / name)["module"] for name in ("plain", "there"))
    assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_a_run_whose_plan_grew_equals_one_planned_so_from_the_start(
    people: Dataset, teacher: Path, tmp_path: Path
) -> None:
    joint(people, tmp_path / "whole", [teacher])
    joint(people, tmp_path / "grown", [teacher], ["train.iterations=3"])
    joint(people, tmp_path / "grown", [], ["train.iterations=6"], resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "grown", "model.safetensors")


def test_a_resumed_teacher_equals_the_uninterrupted_one(people: Dataset, tmp_path: Path) -> None:
    chosen = config.load("tiny", ["teacher.erasing=0.5", "teacher.epochs=3", "teacher.milestones=[2]"])
    shorter = config.load("tiny", ["teacher.erasing=0.5", "teacher.epochs=1", "teacher.milestones=[2]"])
    train_baseline(chosen, people, tmp_path / "whole", CPU)
    train_baseline(shorter, people, tmp_path / "broken", CPU)
    train_baseline(chosen, people, tmp_path / "broken", CPU, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken", "teacher.safetensors")
    assert [(line["iteration"], line["epoch"]) for line in lines(tmp_path / "broken")] == [
        (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 3), (8, 3), (9, 3),
    ]  # fmt: skip
    rates = [group["lr"] for group in last(tmp_path / "broken")["optimizers"]["teacher"]["param_groups"]]
    assert rates == pytest.approx([0.05 * 0.1 * 0.1, 0.05 * 0.1])


def test_weights_of_losses_and_learning_rates_keep_their_place_when_resumed(
    people: Dataset, teacher: Path, tmp_path: Path
) -> None:
    """tiny: both warm-ups give 0 up to iteration 2, then 0.5 more in each; the learning rates fall to a tenth at 5."""
    run = tmp_path / "run"
    joint(people, run, [teacher], ["train.iterations=2"])
    joint(people, run, [], ["train.iterations=4"], resume=True)

    def rates() -> list[float]:
        return [group["lr"] for optimizer in ("generator", "discriminator", "identity")
                for group in last(run)["optimizers"][optimizer]["param_groups"]]  # fmt: skip

    assert rates() == pytest.approx([1e-4, 1e-4, 0.002, 0.02])
    joint(people, run, [], ["train.iterations=6"], resume=True)
    assert rates() == pytest.approx([1e-5, 1e-5, 2e-4, 2e-3])

    written = lines(run)
    assert [line["iteration"] for line in written] == [1, 2, 3, 4, 5, 6]
    weight = {name: [line["weights"][name] for line in written] for name in written[0]["weights"]}
    assert weight["image"] == [5] * 6
    assert weight["structure_code"] == [0, 0, 0.5, 1, 1, 1]
    assert weight["cycle"] == [0, 0, 0.5, 1, 1.5, 2]
    assert weight["primary"] == [0, 0, 0.5, 1, 1.5, 2]
    assert weight["fine_grained"] == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4])
    assert weight["fine_identity"] == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])
    for term in (
        "structure_code",
        "appearance_code",
        "cycle",
        "primary",
        "fine_grained",
    ):  # in 3 counted, not evaluated
        assert [term in line["terms"] for line in written] == [False, False, False, True, True, True]
    for term in ("image", "identity", "fine_identity", "generated_identity"):
        assert all(term in line["terms"] for line in written)
    for line in written:  # what is plotted is what was minimised
        total = sum(line["weights"][name] * term for name, term in line["terms"].items())
        assert line["total"] == pytest.approx(total, rel=1e-4)


def test_a_run_that_died_before_its_first_checkpoint_starts_from_the_weights_it_was_given(
    people: Dataset, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["model.appearance.weights=teacher", "train.iterations=1"]
    dying_at(1, monkeypatch)
    with pytest.raises(InterruptedError):
        joint(people, tmp_path / "broken", [teacher], overrides)
    monkeypatch.undo()
    joint(people, tmp_path / "broken", [], resume=True)
    joint(people, tmp_path / "whole", [teacher], overrides)
    assert_same_run(tmp_path / "whole", tmp_path / "broken", "model.safetensors")


def test_a_damaged_newest_checkpoint_costs_only_its_own_iterations(
    people: Dataset, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    joint(people, whole, [teacher])
    joint(people, broken, [teacher], ["train.iterations=4"])
    newest = checkpoint.in_folder(broken / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    joint(people, broken, [], ["train.iterations=6"], resume=True)
    said = capsys.readouterr().err
    assert f"{newest}: not a whole checkpoint" in said
    assert "going on after iteration 2 of 6" in said
    assert_same_run(whole, broken, "model.safetensors")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_in_half_precision_every_network_learns(people: Dataset, tmp_path: Path, precision: str) -> None:
    """Without weight decay, a weight that moved has had a gradient. With erasing, and without what is learnt from
    generated images, E_a learns only in a pass that follows one without gradients: a cast of its weights that was kept
    from that one would leave it without any."""
    run = tmp_path / "run"
    joint(
        people,
        run,
        [],
        [f"train.precision={precision}", "train.weight_decay=0", "train.iterations=2", "loss.teacher=0"],
    )
    torch.manual_seed(seed_of(seed_of(0, "joint"), "weights"))
    before = DGNet(config.load("tiny"), 6).state_dict()
    after = load_file(run / "model.safetensors")
    learning = [name for name in before if name.endswith("weight") and before[name].ndim > 1 and "heads.1" not in name]
    assert {name.split(".")[0] for name in learning} == {"structure", "appearance", "decoder", "discriminator"}
    assert [name for name in learning if torch.equal(before[name], after[name])] == []
    assert {after[name].dtype for name in before if before[name].is_floating_point()} == {torch.float32}


def test_several_teachers_are_averaged(people: Dataset, teacher: Path, tmp_path: Path) -> None:
    other = train_baseline(config.load("tiny", ["teacher.seed=1"]), people, tmp_path / "other", CPU)
    assert other is not None
    shortly = ["train.iterations=3", "loss.teacher_warm_up.start=0"]
    joint(people, tmp_path / "two", [teacher, other], shortly)
    joint(people, tmp_path / "twice", [teacher, teacher], shortly)
    joint(people, tmp_path / "one", [teacher], shortly)
    primary = {run: lines(tmp_path / run)[-1]["terms"]["primary"] for run in ("one", "two", "twice")}
    assert primary["twice"] == pytest.approx(primary["one"], rel=1e-5)
    assert primary["two"] != pytest.approx(primary["one"], rel=1e-3)
    assert config.load(tmp_path / "two" / "config.yaml").train.teachers == (str(teacher), str(other))


def test_a_moved_teacher_may_be_named_again_another_one_may_not(people: Dataset, teacher: Path, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved.safetensors"
    joint(people, run, [teacher], ["train.iterations=1"])
    shutil.copy(teacher, moved)
    joint(people, run, [moved], ["train.iterations=2"], resume=True)
    other = train_baseline(config.load("tiny", ["teacher.seed=1"]), people, tmp_path / "other", CPU)
    assert other is not None
    before = (run / "config.yaml").read_text()
    with pytest.raises(UserError, match="trained with teachers = "):
        joint(people, run, [other], ["train.iterations=3"], resume=True)
    assert (run / "config.yaml").read_text() == before


def test_what_changes_nothing_that_is_computed_may_differ_when_resumed(
    people: Dataset, teacher: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(people.root, moved)
    run = tmp_path / "run"
    joint(people, run, [teacher], ["train.iterations=2"])
    free = [f"data.cache={tmp_path / 'cache'}", "train.checkpoint_every=1", "train.keep=1", "train.log_every=2",
            "train.iterations=4", "teacher.epochs=9", "evaluate.batch=3"]  # fmt: skip
    chosen = config.load(run / "config.yaml", free)
    train_joint(chosen, read_dataset(moved), run, [], CPU, resume=True)
    assert [path.stem for path in checkpoint.in_folder(run / "checkpoints")] == ["00000004"]
    assert [line["iteration"] for line in lines(run)] == [1, 2, 4]
    assert config.load(run / "config.yaml").data.root == str(moved)


@pytest.mark.parametrize(
    "override", ["loss.image=3", "train.half_batch=2", "model.structure.width=3", "data.erasing=0", "train.seed=1"]
)
def test_another_configuration_is_refused_by_its_key(
    people: Dataset, teacher: Path, tmp_path: Path, override: str
) -> None:
    run, key = tmp_path / "run", override.split("=")[0]
    joint(people, run, [teacher], ["train.iterations=1"])
    before = (run / "config.yaml").read_text()
    with pytest.raises(UserError, match=rf"run: was started with {key} = .*, not "):
        joint(people, run, [], [override], resume=True)
    assert (run / "config.yaml").read_text() == before
    # Even if config.yaml was edited by hand: the checkpoint knows better.
    (run / "config.yaml").write_text(config.to_yaml(config.load(run / "config.yaml", [override])))
    with pytest.raises(UserError, match=rf"00000001\.safetensors: trained with {key} = .*, not "):
        joint(people, run, [], resume=True)


@pytest.mark.parametrize("training", ["joint", "teacher"])
def test_a_plan_shorter_than_what_is_done_is_refused_and_nothing_written(
    people: Dataset, teacher: Path, tmp_path: Path, training: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    length = {"joint": "train.iterations", "teacher": "teacher.epochs"}[training]
    afresh = ["--config", "tiny", *(["--teacher", str(teacher)] if training == "joint" else [])]
    for asked, code in ((f"{length}=2", 0), (f"{length}=1", 2), (f"{length}=2", 0), (f"{length}=3", 0)):
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        options = ["--device", "cpu", *(["--resume"] if before else afresh)]
        with pytest.raises(SystemExit) as left:
            cli.main(["train", training, str(run), f"data.root={people.root}", asked, *options])
        said = capsys.readouterr().err
        assert left.value.code == code, said
        if code:
            assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
            refusal = (
                rf"error: .*\.safetensors: \d iterations are done, and {length} asks for \d; raise {length}, or .*"
            )
            assert re.fullmatch(refusal, said.splitlines()[-1])


WEIGHTS = ("image", "same_identity", "structure_code", "appearance_code", "cycle", "identity", "positive_identity",
           "generated_identity", "adversarial", "teacher")  # fmt: skip
IDLE = [f"loss.{name}=0" for name in WEIGHTS]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "no term that teaches a network has a weight in any of the 6 iterations"),
        (["loss.r1=1"], "no term that teaches a network has a weight"),
        (
            ["loss.appearance_code=1"],
            "no term that teaches a network has a weight",
        ),  # its gradient is cut, as published
        (["loss.cycle=1", "loss.warm_up.start=4"], "no term that teaches a network has a weight"),
        (["loss.teacher=1", "model.appearance.heads=pcb"], "no term that teaches a network has a weight"),
        (["loss.teacher=1", "loss.primary=0", "model.appearance.heads=one"], "no term that teaches a network"),
        (["loss.identity=1", "train.half_batch=1"], r"train\.half_batch = 1: batch norm has no statistics of a single"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused_before_anything_is_written(
    people: Dataset, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        joint(people, tmp_path / "run", [], [*IDLE, *overrides])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize(
    "overrides",
    [["loss.identity=1"], ["loss.positive_identity=1"], ["loss.image=1"], ["loss.adversarial=1"], ["loss.cycle=1"],
     ["loss.appearance_code=1", "model.appearance.gradient=paper"],
     ["loss.image=1", "train.half_batch=1", "model.appearance.batch_norm=whole_batch"]],
    ids=" ".join,
)  # fmt: skip
def test_any_single_term_is_a_training(people: Dataset, tmp_path: Path, overrides: list[str], precision: str) -> None:
    file = joint(
        people, tmp_path / "run", [], [*IDLE, "train.iterations=4", f"train.precision={precision}", *overrides]
    )
    assert file is not None
    assert all(tensor.isfinite().all() for tensor in load_file(file).values())


def test_a_checkpoint_of_other_numbers_is_refused(people: Dataset, teacher: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    joint(people, run, [teacher], ["train.iterations=1"])
    path, state = checkpoint.load_newest(run / "checkpoints")
    del state["numbers"]  # as of 0.1.0
    checkpoint.save(path, state | {"version": "0.1.0"})
    with pytest.raises(UserError, match=r"written by dgnet 0\.1\.0, whose step and random numbers are not those of"):
        joint(people, run, [], ["train.iterations=2"], resume=True)


def test_another_training_set_is_refused(people: Dataset, teacher: Path, tmp_path: Path) -> None:
    run, fewer = tmp_path / "run", tmp_path / "fewer"
    joint(people, run, [teacher], ["train.iterations=1"])
    shutil.copytree(people.root, fewer)
    next((fewer / "bounding_box_train").glob("*.jpg")).unlink()
    chosen = config.load(run / "config.yaml", ["train.iterations=2"])
    with pytest.raises(UserError, match=r"trained with training images = 24 of 6 people .*, not 23 of 6 people"):
        train_joint(chosen, read_dataset(fewer), run, [], CPU, resume=True)


@pytest.mark.parametrize("late", [0, 1])
def test_nan_in_a_loss_names_the_term_and_saves_the_evidence(
    people: Dataset, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """Also where losses are read one iteration late, as on a GPU."""
    run = tmp_path / "run"
    joint(people, run, [teacher], ["train.iterations=2"])
    train = Loop.run

    def reading_late(self: Loop[Any]) -> bool:
        self.late = late
        return train(self)

    monkeypatch.setattr(Loop, "run", reading_late)
    seen = []
    step = JointStep.__call__

    def poisoned(self: JointStep, x: torch.Tensor, x_pos: torch.Tensor, y: torch.Tensor, iteration: int) -> Any:
        seen.append(x.clone())
        if iteration == 4:
            self.net.appearance.heads[1].classify.weight.data[0, 0] = torch.nan  # the fine-grained head
        return step(self, x, x_pos, y, iteration)

    monkeypatch.setattr(JointStep, "__call__", poisoned)
    with pytest.raises(UserError) as caught:
        joint(people, run, [], ["train.iterations=7", "train.checkpoint_every=3", "train.log_every=3"], resume=True)
    assert len(seen) == 2 + late
    message = str(caught.value)
    assert message.startswith("iteration 4: fine_identity is nan, fine_grained is nan; ")
    assert "\n" not in message

    (file,) = run.glob("nonfinite-*.safetensors")
    assert str(file) in message
    evidence = checkpoint.load(file)
    assert evidence["iteration"] == 3
    assert torch.equal(evidence["batch"]["x"], seen[1])
    assert sorted(evidence["batch"]) == ["index", "positive_index", "x", "x_pos", "y"]
    assert evidence["module"]["appearance.heads.1.classify.weight"].isnan().sum() == 1
    assert last(run)["iteration"] == 3
    assert not any(t.isnan().any() for t in last(run)["module"].values())
    assert lines(run)[-1]["iteration"] == 3


def test_a_learning_rate_that_explodes_is_told_with_exit_code_2(
    people: Dataset, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "joint", str(tmp_path / "run"), f"data.root={people.root}", "train.learning_rate=1e30",
             "--config", "tiny", "--device", "cpu", "--teacher", str(teacher)]  # fmt: skip
    with pytest.raises(SystemExit) as left:
        cli.main(given)
    assert left.value.code == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: iteration 1: adversarial is nan; the batch and the weights are in .*nonfinite", last_line)


def test_an_identity_with_one_image_is_its_own_positive_told_once(
    people: Dataset, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(people.root, alone)
    first, *others = sorted((alone / "bounding_box_train").glob("*.jpg"))
    for other in others:
        if other.name[:4] == first.name[:4]:
            other.unlink()
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "joint", str(tmp_path / "run"), f"data.root={alone}", "train.iterations=2",
                  "--config", "tiny", "--device", "cpu", "--teacher", str(teacher)])  # fmt: skip
    assert left.value.code == 0
    assert capsys.readouterr().err.count("its own positive") == 1


def test_the_log_survives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    log = logs.Log(tmp_path, 0)
    for iteration in (1, 2, 3):
        log.write({"iteration": iteration, "terms": {"image": 0.5}})
    with log.path.open("a") as file:
        file.write('{"iteration": 4, "terms": {"image": 0.5}')
    assert [line["iteration"] for line in logs.read(log.path)] == [1, 2, 3]
    logs.Log(tmp_path, 2).write({"iteration": 3, "terms": {"image": 0.25}})
    assert [json.loads(line)["terms"]["image"] for line in log.path.read_text().splitlines()] == [0.5, 0.5, 0.25]
    log.path.write_text('{"iteration": 1}\nnonsense\n')
    with pytest.raises(UserError, match=r"log\.jsonl, line 2: not JSON"):
        logs.read(log.path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"iteration": "x"}', "iteration is 'x', not a whole number"),
        ("{}", "iteration is None, not a whole number"),
        ('{"iteration": 1, "total": null}', "total holds None, not a number"),
        ('{"iteration": 1, "terms": 5}', "terms is 5, not a group of numbers"),
        ('{"iteration": 1, "weights": {"image": "x"}}', "weights holds 'x', not a number"),
        ("[1]", "'[1]' is no line of a log"),
    ],
)
def test_a_line_that_is_none_is_told(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"iteration": 0, "total": NaN, "of a later version": []}\n' + line + "\n")
    with pytest.raises(UserError) as told:
        logs.read(tmp_path / "log.jsonl")
    assert f"line 2: {says}" in str(told.value)


class Board:
    """In the place of TensorBoard's writer, whose calls it has: keeps what is plotted."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.plotted: list[tuple[str, float, int]] = []
        self.shown = 0
        BOARDS.append(self)

    def add_scalar(self, name: str, number: float, iteration: int) -> None:
        self.plotted.append((name, number, iteration))

    def flush(self) -> None:
        self.shown = len(self.plotted)


BOARDS: list[Board] = []


def test_tensorboard_is_given_every_number_of_the_log(
    people: Dataset, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Board  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    BOARDS.clear()
    run = tmp_path / "run"
    joint(people, run, [teacher], ["train.iterations=2", "train.tensorboard=true", "train.log_every=1"])
    (board,) = BOARDS
    assert (Path(board.folder), board.purge_step) == (run / "tensorboard", 1)
    written = list(logs.read(run / "log.jsonl"))
    assert len(written) == 2
    assert board.plotted == [(name, n, line["iteration"]) for line in written for name, n in logs.numbers(line).items()]
    assert board.shown == len(board.plotted)
    assert {"total", "terms/image"} <= {name for name, _, _ in board.plotted}


def test_without_tensorboard_a_run_that_wants_it_writes_nothing(
    people: Dataset, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"train\.tensorboard is on.*pip install dgnet\[log\]"):
        joint(people, run, [teacher], ["train.iterations=2", "train.tensorboard=true"])
    assert not (run / "log.jsonl").exists()


def test_tensorboard_shows_the_same_numbers(people: Dataset, teacher: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    joint(people, run, [teacher], ["train.iterations=2", "train.tensorboard=true"])
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    for name, of in (("total", lambda line: line["total"]), ("terms/image", lambda line: line["terms"]["image"])):
        assert [event.value for event in events.Scalars(name)] == pytest.approx([of(line) for line in lines(run)])


@pytest.mark.parametrize("name", ["cuda:99", "mps", "meta", "gpu", "cuda"])
def test_a_device_that_is_not_there(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=rf"--device {name}: not available here; use auto, cpu"):
        device_named(name)


@pytest.mark.slow
def test_stopped_by_a_signal_the_printed_command_goes_on(people: Dataset, teacher: Path, tmp_path: Path) -> None:
    """SIGINT stops one process, the command that it prints starts the next, SIGTERM stops that."""
    run, output = tmp_path / "a run", tmp_path / "output.txt"
    arguments = ["train", "joint", str(run), f"data.root={people.root}", "train.iterations=100000",
                 "--config", "tiny", "--device", "cpu", "--teacher", str(teacher)]  # fmt: skip
    done = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = processes.start(processes.command, arguments, output, {})
        deadline = time.monotonic() + processes.PATIENCE
        while len(logs.read(run / "log.jsonl")) < done + 2 and time.monotonic() < deadline and process.is_alive():
            time.sleep(0.05)
        processes.os.kill(process.pid, number)
        process.join(processes.PATIENCE)
        said = output.read_text()
        assert process.exitcode == 130, said
        assert "stopping after this iteration" in said
        found = re.search(r"stopped after iteration (\d+); go on with: dgnet (.*)$", said, re.MULTILINE)
        assert found, said
        assert int(found[1]) >= done + 2
        done, arguments = int(found[1]), shlex.split(found[2])
        assert last(run)["iteration"] == done
        assert lines(run)[-1]["iteration"] == done
        assert not (run / "model.safetensors").exists()
    assert arguments[:4] == ["train", "joint", str(run), "--resume"]
    with pytest.raises(SystemExit) as left:
        cli.main([*arguments[:3], f"train.iterations={done + 1}", *arguments[3:]])
    assert left.value.code == 0
    assert files.load_joint(run / "model.safetensors").config.train.iterations == done + 1
