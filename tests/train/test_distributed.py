"""Training in two processes, as `torchrun` starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import processes
import pytest
import torch

from dgnet import cli, config
from dgnet.datasets.read import read_dataset
from dgnet.drawn.dataset import synthesize
from dgnet.errors import UserError
from dgnet.train import checkpoint, distributed, logs
from dgnet.train.baseline import train_baseline

Arguments = list[str]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Arguments:
    """Data, teacher and configuration, as arguments of the command line."""
    folder = tmp_path_factory.mktemp("two")
    synthesize(
        folder / "people", identities=6, test_identities=2, cameras=2, images_per_camera=3, distractors=0, junk=0,
        height=32, width=16,
    )  # fmt: skip
    people = read_dataset(folder / "people")
    teacher = train_baseline(config.load("tiny"), people, folder / "teacher", torch.device("cpu"))
    return [
        f"data.root={people.root}",
        "train.iterations=4",
        "--config",
        "tiny",
        "--device",
        "cpu",
        "--teacher",
        str(teacher),
    ]


def start_two(
    runs: Sequence[Path], arguments: Arguments, folder: Path, *, same_draws: bool = False, target: Any = processes.rank
) -> list[tuple[Any, Path, Path]]:
    """Two processes, each with its `run` (the same one, as a rule): process, its output, what it has trained."""
    started = []
    for number, (run, environment) in enumerate(zip(runs, processes.places(2), strict=True)):
        output, state = folder / f"output-{number}.txt", folder / f"state-{number}.safetensors"
        given = ["train", "joint", str(run), *arguments]
        started.append((processes.start(target, given, output, environment, state, same_draws), output, state))
    return started


def two_processes(runs: Sequence[Path], arguments: Arguments, folder: Path, *, same_draws: bool = False) -> list[Any]:
    """What both have trained in the end."""
    started = start_two(runs, arguments, folder, same_draws=same_draws)
    for process, output, _ in started:
        process.join(processes.PATIENCE)
        assert process.exitcode == 0, output.read_text()
    return [checkpoint.load(state) for _, _, state in started]


def assert_same_state(a: Any, b: Any, exactly: bool = True) -> None:
    assert a["iteration"] == b["iteration"]
    for name, weight in a["module"].items():
        torch.testing.assert_close(weight, b["module"][name], **({"rtol": 0, "atol": 0} if exactly else {}), msg=name)
    for name in ("generator", "discriminator", "identity"):
        states = a["optimizers"][name]["state"], b["optimizers"][name]["state"]
        assert list(states[0]) == list(states[1])
        for key, values in states[0].items():
            for part, value in values.items():
                torch.testing.assert_close(
                    value,
                    states[1][key][part],
                    **({"rtol": 0, "atol": 0} if exactly else {}),
                    msg=f"{name} {key} {part}",
                )


def test_two_that_see_the_same_equal_one(given: Arguments, tmp_path: Path) -> None:
    """A mean of twice the same is the same, to the last bit: gradients, statistics, and what has no gradient."""
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "joint", str(tmp_path / "alone"), *given])
    assert left.value.code == 0
    alone = checkpoint.load_newest(tmp_path / "alone" / "checkpoints")[1]
    states = two_processes([tmp_path / "a", tmp_path / "b"], given, tmp_path, same_draws=True)
    for state in states:
        assert_same_state(alone, state)
    assert [line["total"] for line in logs.read(tmp_path / "a" / "log.jsonl")] == [
        line["total"] for line in logs.read(tmp_path / "alone" / "log.jsonl")
    ]


@pytest.mark.slow
def test_two_that_see_different_photos_stay_equal_and_resume(
    given: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    first, second = two_processes([whole, whole], given, tmp_path)
    assert_same_state(first, second)
    assert first["stream"] == second["stream"]  # the same order, of which each takes its share
    said = (tmp_path / "output-0.txt").read_text()
    assert said.splitlines()[-1] == f"written: {whole / 'model.safetensors'}"
    assert "2 processes: 8 + 8 images in an iteration, learning rates as configured" in said
    assert (tmp_path / "output-1.txt").read_text() == ""  # only the first talks

    shorter = [word.replace("iterations=4", "iterations=2") for word in given]
    two_processes([broken, broken], shorter, tmp_path)
    resumed = two_processes([broken, broken], ["train.iterations=4", "--device", "cpu", "--resume"], tmp_path)
    assert_same_state(resumed[0], resumed[1])
    assert_same_state(first, resumed[0], exactly=False)

    with pytest.raises(SystemExit) as left:  # one process would draw other photos
        cli.main(["train", "joint", str(broken), "train.iterations=6", "--device", "cpu", "--resume"])
    assert left.value.code == 2
    assert "trained with processes = 2, not 1" in capsys.readouterr().err

    # ... but for one that takes two parts, which are the photos of two processes
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "joint", str(broken), "train.iterations=6", "train.accumulate=2", "--device", "cpu",
                  "--resume"])  # fmt: skip
    assert left.value.code == 0
    assert "going on after iteration 4 of 6" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_see_what_one_sees_in_two_parts(given: Arguments, tmp_path: Path) -> None:
    """Photos, augmentation, erased rectangles, dropout: all but the order of sums."""
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "joint", str(tmp_path / "parts"), *given, "train.accumulate=2"])
    assert left.value.code == 0
    two_processes([tmp_path / "two"] * 2, given, tmp_path)
    parts, two = (logs.read(tmp_path / name / "log.jsonl") for name in ("parts", "two"))
    assert [line["iteration"] for line in parts] == [1, 2, 3, 4]
    for a, b in zip(parts, two, strict=True):
        assert a["total"] == pytest.approx(b["total"], rel=2e-3)
    assert parts[0]["terms"] == pytest.approx(two[0]["terms"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "override", ["model.appearance.train_bn=false", "loss.centre=0.001", "model.appearance.synchronised=true"]
)
def test_where_running_values_are_read_processes_and_parts_are_not_exchanged(
    given: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str
) -> None:
    run = tmp_path / "run"
    two_processes([run, run], [*given, override], tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main(
            ["train", "joint", str(run), "train.iterations=6", "train.accumulate=2", "--device", "cpu", "--resume"]
        )
    assert left.value.code == 2
    assert "trained with train.accumulate = 1, not 2" in capsys.readouterr().err


def test_started_by_halves_it_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"WORLD_SIZE is set, but .*; start several processes with torchrun"):
        distributed.start(torch.device("cpu"))


@pytest.mark.parametrize("synchronised", [False, True])
def test_one_process_with_a_batch_of_8_equals_two_with_4(tmp_path: Path, synchronised: bool) -> None:
    """Batch norms take groups of four in both, or the eight of both; [a1 a2; b1 b2] is [a1; b1] and [a2; b2]."""
    files = [tmp_path / f"{name}.pt" for name in ("alone", "first", "second")]
    environments = [{"WORLD_SIZE": "1"}, *processes.places(2)]
    started = [
        processes.start(processes.three_steps, environment, file, synchronised)
        for environment, file in zip(environments, files, strict=True)
    ]
    for process in started:
        process.join(processes.PATIENCE)
        assert process.exitcode == 0
    alone, first, second = (torch.load(file) for file in files)
    moved = 0
    for name, weight in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-8, atol=1e-9, msg=name)
        moved += not torch.equal(weight, alone["before"][name])
    assert moved > 100
    for name, values in alone["statistics"].items():
        if synchronised:
            torch.testing.assert_close(first["statistics"][name], values, rtol=1e-8, atol=1e-9, msg=name)
            torch.testing.assert_close(second["statistics"][name], values, rtol=1e-8, atol=1e-9, msg=name)
    assert not torch.equal(first["erased"], second["erased"])  # each process erases for itself
    assert first["tuned"] == second["tuned"] == alone["tuned"]  # and all tune the same network


def test_a_signal_to_one_process_stops_all_of_them_after_the_same_iteration(given: Arguments, tmp_path: Path) -> None:
    run, endless = tmp_path / "run", [word.replace("iterations=4", "iterations=100000") for word in given]
    started = start_two([run, run], endless, tmp_path)
    wait_for_line(run, started, 1)
    os.kill(started[1][0].pid, signal.SIGTERM)  # the one that neither talks nor saves
    for process, output, _ in started:
        process.join(processes.PATIENCE)
        assert process.exitcode == 130, output.read_text()
    first, second = (checkpoint.load(state) for _, _, state in started)
    assert_same_state(first, second)
    assert checkpoint.load_newest(run / "checkpoints")[1]["iteration"] == first["iteration"] > 0
    assert f"stopped after iteration {first['iteration']}; go on with: torchrun" in started[0][1].read_text()


def wait_for_line(run: Path, started: list[tuple[Any, Path, Path]], wanted: int) -> None:
    deadline = time.monotonic() + processes.PATIENCE
    while len(logs.read(run / "log.jsonl")) < wanted:
        assert time.monotonic() < deadline
        assert all(process.is_alive() for process, _, _ in started)
        time.sleep(0.05)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_a_line_and_what_was_saved_goes_on(
    given: Arguments, tmp_path: Path, killed: int
) -> None:
    run, endless = tmp_path / "run", [word.replace("iterations=4", "iterations=100000") for word in given]
    started = start_two([run, run], [*endless, "train.checkpoint_every=2"], tmp_path)
    wait_for_line(run, started, 5)
    os.kill(started[killed][0].pid, signal.SIGKILL)
    for process, _, _ in started:
        process.join(processes.PATIENCE)
    assert [process.exitcode for process, _, _ in started] == ([-9, 2] if killed == 0 else [2, -9])
    if killed == 1:  # the one that talks is left
        said = " ".join(started[0][1].read_text().split())
        assert "error: another process is lost" in said
        assert "what was saved last stands: the same command with --resume auto goes on from there" in said
    done = checkpoint.load_newest(run / "checkpoints")[1]["iteration"]
    assert done >= 2
    goal = f"train.iterations={done + 2}"
    resumed = two_processes([run, run], [goal, "--device", "cpu", "--resume", "auto"], tmp_path)
    assert [state["iteration"] for state in resumed] == [done + 2] * 2


def test_a_full_disk_ends_both_with_a_line_and_what_was_saved_stands(given: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    longer = [word.replace("iterations=4", "iterations=100000") for word in given]
    started = start_two(
        [run, run], [*longer, "train.checkpoint_every=2"], tmp_path, target=processes.rank_on_a_full_disk
    )
    for process, output, _ in started:
        process.join(processes.PATIENCE)
        assert process.exitcode == 2, output.read_text()
    assert "cannot be written (No space left on device); free some space" in " ".join(started[0][1].read_text().split())
    assert checkpoint.load_newest(run / "checkpoints")[1]["iteration"] == 2


@pytest.mark.slow
def test_torchrun_starts_again_what_lost_a_process_and_it_goes_on(given: Arguments, tmp_path: Path) -> None:
    """One process is killed in iteration 3; the same command, with --resume auto, continues after iteration 2."""
    run = tmp_path / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--max-restarts=1",
        "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "-m", "dying", "train", "joint", str(run), *given,
        "train.checkpoint_every=2", "--resume", "auto",
    ]  # fmt: skip
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * processes.PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "going on after iteration 2 of 4" in said
    assert f"written: {run / 'model.safetensors'}" in said
    assert [line["iteration"] for line in logs.read(run / "log.jsonl")] == [1, 2, 3, 4]
    assert (run / "model.safetensors").exists()
