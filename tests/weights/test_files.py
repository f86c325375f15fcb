from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dgnet import config as configuration
from dgnet.config import Config
from dgnet.errors import UserError
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.weights import files

TINY = configuration.load("tiny")


def joint(config: Config = TINY, classes: int = 5) -> DGNet:
    torch.manual_seed(classes)
    net = DGNet(config, classes).eval()
    net.appearance.backbone.bn1.running_mean.normal_()
    return net


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object], **about: Any) -> None:
    """Alter the tensors of one of our files, and entries of its description."""
    tensors, metadata = files._read_safetensors(path)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, path, {"dgnet": json.dumps(json.loads(metadata["dgnet"]) | about)})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    files.save_model(path, joint(), TINY, "joint", [2, 7, 11, 30, 1500])
    return path


def test_what_is_saved_is_what_is_loaded(model: Path) -> None:
    net, loaded = joint(), files.load_joint(model)
    assert loaded.config == TINY
    assert loaded.identities == [2, 7, 11, 30, 1500]
    assert loaded.version == files.__version__
    assert loaded.hash == hashlib.sha256(model.read_bytes()).hexdigest() == files.file_hash(model)
    assert not loaded.net.training
    state = loaded.net.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in net.state_dict().items())
    assert [p.requires_grad for p in loaded.net.parameters()] == [p.requires_grad for p in net.parameters()]
    x = torch.randn(2, 3, 32, 16)
    assert torch.equal(loaded.net.decode(*loaded.net.encode(x)), net.decode(*net.encode(x)))
    assert list(model.parent.iterdir()) == [model]


def test_a_teacher_is_loaded_as_a_teacher(tmp_path: Path) -> None:
    path, net = tmp_path / "new" / "teacher.safetensors", build_baseline(TINY, 3).eval()
    files.save_model(path, net, TINY, "teacher", [])
    loaded = files.load_teacher(path)
    assert loaded.identities == []
    x = torch.randn(2, 3, 32, 16)
    assert torch.equal(loaded.net(x), net(x))
    with pytest.raises(UserError, match=r"holds a teacher.*a DG-Net \(model.safetensors\) is needed"):
        files.load_joint(path)


def test_loading_draws_no_random_numbers_and_training_on_leaves_the_file_alone(model: Path) -> None:
    before, state = files.file_hash(model), torch.get_rng_state()
    net = files.load_joint(model).net
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert files.file_hash(model) == before


def test_the_same_weights_make_the_same_file_however_they_lie_in_memory(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "same.safetensors"
    files.save_model(path, joint().to(memory_format=torch.channels_last), TINY, "joint", [2, 7, 11, 30, 1500])
    assert files.file_hash(path) == files.file_hash(model)


def test_others_may_read_the_file_if_they_may_read_files_here(model: Path) -> None:
    ordinary = model.with_name("ordinary")
    ordinary.touch()
    assert model.stat().st_mode == ordinary.stat().st_mode


STEM, HEAD = "structure.stem.0.weight", "appearance.heads.1.classify.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop(STEM), f"1 tensor does not fit: {STEM} is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 tensor does not fit: extra is unknown"),
        (lambda t: t.update({HEAD: torch.zeros(4, 16)}), rf"{HEAD} is \[4, 16\], not \[5, 16\]"),
        (lambda t: [t.pop(key) for key in list(t)[:20]], r"20 tensors do not fit: (\S+ is missing; ){8}and 12 more$"),
        (
            lambda t: t.update({HEAD.replace("1", "0", 1): torch.zeros(6, 16)}),
            "6 classes apart, but names 5 identities",
        ),
    ],
)
def test_what_does_not_fit_is_named(model: Path, change: Callable[[dict[str, Tensor]], object], says: str) -> None:
    rewrite(model, change)
    with pytest.raises(UserError, match=f"^{model}: .*{says}"):
        files.load_joint(model)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"format": 2, "version": "9.9"}, r"written by dgnet 9\.9, a newer one than this .*update dgnet"),
        ({"kind": "cat"}, "description by dgnet is damaged"),
        ({"identities": 5}, "description by dgnet is damaged"),
        ({"identities": "12345"}, "identities: '12345', not of type list"),
        ({"identities": [1, 2, 3, 4, float("inf")]}, "identities that are not whole numbers of 64 bits"),
        ({"identities": [1, 2, 3, 4, 10**30]}, "identities that are not whole numbers of 64 bits"),
        ({"identities": [1.5, 2, 3, 4, 5]}, "identities that are not whole numbers"),
        ({"format": float("inf")}, "format: inf, not of type int"),
        ({"format": True}, "format: True, not of type int"),
        ({"version": [1]}, r"version: \[1\], not of type str"),
        ({"config": None}, "config: None, not of type dict"),
        (
            {"config": {"model": {"decoder": {"mlp_width": 10**12}}}},
            "cannot be built: Storage size calculation overflowed",
        ),
        ({"config": {"model": {"decoder": {"mlp_width": 10**30}}}}, "cannot be built: "),
        (
            {"config": {"model": {"decoder": {"residual_blocks": 3}}}},
            "cannot be built: model.decoder.residual_blocks = 3",
        ),
        ({"config": {"evaluate": {"alphas": []}}}, r"evaluate.alphas = \[\]: input should be one or more of"),
        ({"config": {"evaluate": {"alphas": [-0.3]}}}, r"evaluate.alphas = \[-0.3\]: input should be"),
        ({"config": {"train": {"iteration": 3}}}, "unknown key train.iteration; did you mean train.iterations"),
    ],
)
def test_a_description_that_cannot_be_used(model: Path, about: dict[str, Any], says: str) -> None:
    rewrite(model, lambda tensors: None, **about)
    with pytest.raises(UserError, match=f"^{model}: .*{says}"):
        files.load_joint(model)


def test_safetensors_of_somebody_else(tmp_path: Path) -> None:
    save_file(joint().state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match=r"not written by dgnet; .*dgnet weights import"):
        files.load_joint(tmp_path / "plain.safetensors")


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_float32(model: Path, precision: torch.dtype) -> None:
    before = files.load_joint(model).net.state_dict()
    rewrite(model, lambda t: [t.update({key: v.to(precision)}) for key, v in list(t.items()) if v.is_floating_point()])
    state = files.load_joint(model).net.state_dict()
    assert all(
        torch.equal(state[key], t.to(precision).to(t.dtype)) for key, t in before.items() if t.is_floating_point()
    )
    assert {t.dtype for t in state.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.update({STEM: t[STEM].to(torch.int8)}), rf"{STEM} is of int8, not of floating point$"),
        (lambda t: t.update({STEM: t[STEM].bool()}), rf"{STEM} is of bool, not of floating point$"),
        (lambda t: t.update({STEM: t[STEM].double() * 1e300}), rf"NaN or infinity in {STEM}; train again"),
        (lambda t: t[HEAD].view(-1)[3:4].fill_(torch.nan), rf"NaN or infinity in {HEAD}; train again"),
        (
            lambda t: [v.fill_(torch.nan) for v in t.values() if v.is_floating_point()],
            r"NaN or infinity in (\S+, ){7}\S+ and \d+ more; train",
        ),
        (lambda t: t.update({HEAD.replace("1", "0", 1): torch.tensor(1.0)}), r"classify.weight is \[\], not \[5, 16\]"),
        (lambda t: t.clear(), r"\d+ tensors do not fit"),
    ],
)
def test_tensors_that_are_no_weights_are_named(
    model: Path, change: Callable[[dict[str, Tensor]], object], says: str
) -> None:
    rewrite(model, change)
    with pytest.raises(UserError, match=f"^{model}: .*{says}"):
        files.load_any(model)


@pytest.mark.parametrize("text", ["[1]", "null", '"x"', "{", "{}", "[" * 100_000, "9" * 5000, '{"kind": []}', "NaN"])
def test_a_description_that_is_no_object_of_ours(model: Path, text: str) -> None:
    tensors, _ = files._read_safetensors(model)
    save_file({key: t.clone() for key, t in tensors.items()}, model, {"dgnet": text})
    with pytest.raises(UserError, match=f"^{model}: its description by dgnet is damaged"):
        files.load_any(model)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "folder", "missing"])
def test_files_that_are_no_safetensors(model: Path, damage: str) -> None:
    content = model.read_bytes()
    model.unlink()
    if damage == "folder":
        model.mkdir()
    elif damage != "missing":
        model.write_bytes({"truncated": content[:-1000], "text": b"not weights" * 9, "empty": b""}[damage])
    with pytest.raises(UserError, match=f"^{model}: (damaged, or not a safetensors file|no such file|a folder)"):
        files.load_joint(model)


def test_what_is_no_file_of_weights_is_told_by_what_it_is(model: Path, tmp_path: Path) -> None:
    torch.save(joint().state_dict(), tmp_path / "theirs.pth")
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name, says in (
        ("theirs.pth", "a file of torch.save, not of dgnet; .*dgnet weights import"),
        ("pipe.safetensors", "not a file; weights are read from a file on disk"),
        ("", r"a folder; give the file in it \(model.safetensors, pipe.safetensors\)"),
        ("model.safetensors/x.safetensors", "no such file"),
    ):
        with pytest.raises(UserError, match=f"^{tmp_path / name}: {says}"):
            files.load_any(tmp_path / name)
    with pytest.raises(UserError, match=r"pipe\.safetensors: not a file"):
        files.read_tensors(tmp_path / "pipe.safetensors")


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a process of its own; returns how that ended, as `os.waitpid` tells it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("moment", ["half-written", "unsynced", "unnamed"])
def test_killed_while_saving_the_old_file_stays(model: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    before = model.read_bytes()

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        die()

    owner, name, deed = {
        "half-written": (Path, "write_bytes", half),
        "unsynced": (os, "fsync", die),
        "unnamed": (Path, "replace", die),
    }[moment]
    monkeypatch.setattr(owner, name, deed)
    assert in_child(lambda: files.save_model(model, joint(), TINY, "joint", [])) == signal.SIGKILL
    monkeypatch.undo()
    assert model.read_bytes() == before
    files.save_model(model, joint(classes=3), TINY, "joint", [])
    assert files.load_joint(model).net.classes == 3


def test_a_full_disk_leaves_the_old_file_and_nothing_else(model: Path) -> None:
    before = model.read_bytes()

    def save() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(UserError, match=rf"^{model}: cannot be written .*File too large.*free some space"):
            files.save_model(model, joint(), TINY, "joint", [])

    assert in_child(save) == 0
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


def test_a_disk_that_fills_at_the_last_moment(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = model.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        files.save_model(model, joint(), TINY, "joint", [])
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


# Files of others


def test_damaged_and_empty_pytorch_files(tmp_path: Path) -> None:
    torch.save(joint().state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    path = tmp_path / "it.pth"
    for content in (whole[:-100], whole[:100], b"", b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"^{path}: damaged, or not a PyTorch file"):
            files.read_tensors(path)
    for thing in ({"epoch": 3}, [torch.zeros(2)], torch.zeros(2)):
        torch.save(thing, path)
        with pytest.raises(UserError, match=f"^{path}: holds no named tensors"):
            files.read_tensors(path)


def test_the_file_is_plain_safetensors_with_its_configuration_in_words(model: Path) -> None:
    header = model.read_bytes()
    metadata = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    described = json.loads(metadata["dgnet"])
    assert described["config"]["train"]["half_batch"] == TINY.train.half_batch
    assert described["kind"] == "joint"
    assert load_file(model).keys() == joint().state_dict().keys()
