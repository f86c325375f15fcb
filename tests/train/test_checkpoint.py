from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dgnet.config import Config
from dgnet.errors import UserError
from dgnet.train import checkpoint
from dgnet.weights.files import save_model


def same(a: object, b: object) -> bool:
    """Equal to the last bit, tuples and lists being the same."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (
            a.dtype == b.dtype and a.shape == b.shape and a.numpy(force=True).tobytes() == b.numpy(force=True).tobytes()
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    batch = torch.randn(4, 3)
    tree = {
        "plain": {"int": 3, "float": 0.1, "none": None, "yes": True, "text": "ü", "empty": {}, "nothing": []},
        "state": {0: {"step": torch.tensor(7.0)}, 11: {"step": torch.tensor(8.0)}},
        "halves": [*batch.chunk(2)],
        "dtypes": [torch.tensor([1, -2]), torch.tensor([True, False]), torch.zeros(0), torch.tensor(float("nan"))],
        "strided": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "a/b": torch.ones(1),
        "a": {"b": torch.zeros(1), 1: torch.ones(2), "1": torch.zeros(2)},
        "betas": (0.5, 0.999),
    }
    checkpoint.save(tmp_path / "x.safetensors", tree)
    back = checkpoint.load(tmp_path / "x.safetensors")
    assert same(tree, back)
    assert back["betas"] == [0.5, 0.999]
    checkpoint.save(tmp_path / "again.safetensors", back)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "x.safetensors").read_bytes()


LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
)


@settings(max_examples=40, deadline=None)
@given(tree=st.dictionaries(st.text(max_size=3), TREES, max_size=3))
def test_any_plain_tree_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.safetensors"
    checkpoint.save(path, tree)
    assert same(tree, checkpoint.load(path))


def test_the_file_is_a_header_in_json_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"weights": torch.arange(3.0), "words": ["a", 1]})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert len(data) == 8 + length + 3 * 4
    assert json.loads(header.pop("__metadata__")["tree"])
    assert [(t["dtype"], t["shape"]) for t in header.values()] == [("F32", [3])]


def write(folder: Path, *numbers: int) -> None:
    for number in numbers:
        checkpoint.save(checkpoint.of_iteration(folder, number), {"number": number, "t": torch.full((50,), number)})


def test_the_newest_has_the_highest_iteration(tmp_path: Path) -> None:
    assert checkpoint.in_folder(tmp_path / "missing") == []
    write(tmp_path, 900, 99_999_999, 20, 100_000_000)
    (tmp_path / "notes.safetensors").touch()
    assert [int(path.stem) for path in checkpoint.in_folder(tmp_path)] == [100_000_000, 99_999_999, 900, 20]
    path, tree = checkpoint.load_newest(tmp_path)
    assert path.stem == "100000000"
    assert tree["number"] == 100_000_000


def test_prune_keeps_the_newest_and_removes_what_dead_writers_left(tmp_path: Path) -> None:
    write(tmp_path, 10, 20, 30)
    (tmp_path / ".00000030.safetensors.99.part").touch()
    (tmp_path / "notes.txt").touch()
    checkpoint.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000020.safetensors", "00000030.safetensors", "notes.txt",
    ]  # fmt: skip


@pytest.mark.parametrize("bytes_left", [0, 7, 100, -1])
def test_a_damaged_newest_one_is_passed_over_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bytes_left: int
) -> None:
    write(tmp_path, 1, 2, 3)
    newest = checkpoint.of_iteration(tmp_path, 3)
    newest.write_bytes(newest.read_bytes()[:bytes_left])
    path, tree = checkpoint.load_newest(tmp_path)
    assert (path.name, tree["number"]) == ("00000002.safetensors", 2)
    warning = capsys.readouterr().err
    assert str(newest) in warning
    assert len(warning.splitlines()) == 1
    with pytest.raises(UserError, match=r"00000003\.safetensors: not a whole checkpoint"):
        checkpoint.load(newest)


def test_no_whole_one_is_an_error(tmp_path: Path) -> None:
    for number in (1, 2):
        checkpoint.of_iteration(tmp_path, number).write_bytes(b"x" * 20)
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        checkpoint.load_newest(tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.safetensors: no such checkpoint"):
        checkpoint.load(tmp_path / "x.safetensors")
    save_model(tmp_path / "model.safetensors", torch.nn.Linear(1, 1), Config(), "joint", [])
    with pytest.raises(UserError, match="not a whole checkpoint of dgnet"):
        checkpoint.load(tmp_path / "model.safetensors")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint.of_iteration(tmp_path, 1)
    write(tmp_path, 1)
    before = path.read_bytes()
    write_bytes = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write_bytes(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"00000001\.safetensors: cannot be written .*No space left") as caught:
        checkpoint.save(path, {"number": 2})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_killed_at_any_moment_the_newest_one_is_whole(tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(12):
        reading, writing = multiprocessing.get_context("forkserver").Pipe(duplex=False)
        writer = processes.start(processes.save_without_end, tmp_path, 50_000, writing)
        assert reading.poll(processes.PATIENCE)
        done = reading.recv()
        time.sleep(chance.uniform(0, 0.03))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        writing.close()
        while reading.poll():
            try:
                done = reading.recv()
            except EOFError:
                break
        path, tree = checkpoint.load_newest(tmp_path)
        assert path == checkpoint.in_folder(tmp_path)[0]  # the very newest: none was passed over
        assert tree["number"] in (done, done + 1)  # the next may have been in place, and not yet reported
        assert all(bool((part == tree["number"]).all()) for part in tree["parts"])
        for old in checkpoint.in_folder(tmp_path):
            old.unlink()
    checkpoint.prune(tmp_path, keep=2)
    assert list(tmp_path.iterdir()) == []


def test_a_saver_takes_what_stands_now_and_writes_it_meanwhile(tmp_path: Path) -> None:
    said: list[int] = []
    weights = torch.zeros(3)
    with checkpoint.Saver(tmp_path, keep=2) as saver:
        for iteration in (1, 2, 3):
            weights += 1
            saver.save(iteration, {"weights": weights}, partial(said.append, iteration))
            weights += 100  # training goes on
            weights -= 100
    assert said == [1, 2, 3]
    assert [path.stem for path in checkpoint.in_folder(tmp_path)] == ["00000003", "00000002"]
    for path in checkpoint.in_folder(tmp_path):
        assert checkpoint.load(path)["weights"].tolist() == [float(path.stem)] * 3


def test_a_saver_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full_disk_is_free = checkpoint._write, threading.Event()

    def slow(*what: Any) -> None:
        assert full_disk_is_free.wait(30)
        write(*what)

    monkeypatch.setattr(checkpoint, "_write", slow)
    with checkpoint.Saver(tmp_path, keep=1) as saver:
        saver.save(1, {"number": 1}, lambda: None)  # returns, or waits for what comes only after it
        assert checkpoint.in_folder(tmp_path) == []
        full_disk_is_free.set()
    assert [path.stem for path in checkpoint.in_folder(tmp_path)] == ["00000001"]


def test_a_saver_that_cannot_write_tells_and_keeps_what_was_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = checkpoint.Saver(tmp_path, keep=1)
    saver.save(1, {"number": 1}, lambda: None)
    saver.wait()

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    saver.save(2, {"number": 2}, lambda: pytest.fail("nothing was saved"))
    with pytest.raises(UserError, match=r"00000002\.safetensors: cannot be written .*No space left"), saver:
        pass
    saver.look()  # told once
    assert checkpoint.load_newest(tmp_path)[1] == {"number": 1}
