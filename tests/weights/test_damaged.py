"""Damaged files of weights, whatever the damage: they are read, or one line says what is wrong; nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from dgnet import cli
from dgnet import config as configuration
from dgnet.errors import UserError
from dgnet.models.backbones.resnet import ResNet
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.weights import files, pretrained, published

TINY = configuration.load("tiny")
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pickled(tree: object, *, new: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(tree, out, _use_new_zipfile_serialization=new)
    return out.getvalue()


def backbone() -> ResNet:
    return ResNet("resnet10", width=2)


def damaged(content: bytes, interesting: int) -> st.SearchStrategy[bytes]:
    """`content` cut, or with some bytes changed, most of them among the first and the last `interesting` ones."""
    size = len(content)
    at = st.one_of(st.integers(0, interesting - 1), st.integers(size - interesting, size - 1), st.integers(0, size - 1))
    changes = st.lists(st.tuples(at.map(lambda place: min(max(place, 0), size - 1)), st.integers(0, 255)), max_size=6)

    def change(changed: list[tuple[int, int]]) -> bytes:
        made = bytearray(content)
        for place, byte in changed:
            made[place] = byte
        return bytes(made)

    return st.one_of(changes.map(change), st.integers(0, size - 1).map(lambda end: content[:end]))


def told(read: Callable[[], object]) -> str | None:
    """What the error says of a file that cannot be used; None where it can."""
    try:
        read()
    except UserError as error:
        said = str(error)
    else:
        return None
    assert said.isprintable(), repr(said)
    return said


def joint_file(folder: Path) -> bytes:
    files.save_model(folder / "whole.safetensors", DGNet(TINY, 3), TINY, "joint", [1, 2, 3])
    return (folder / "whole.safetensors").read_bytes()


@MANY
@given(st.data())
def test_a_damaged_model(tmp_path: Path, data: st.DataObject) -> None:
    if not (tmp_path / "whole.safetensors").exists():
        joint_file(tmp_path)
    whole = (tmp_path / "whole.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(data.draw(damaged(whole, 8 + int.from_bytes(whole[:8], "little"))))
    said = told(lambda: files.load_any(path))
    assert said is None or said.startswith(str(path))


THEIRS = {
    "zip.pth": pickled({"state_dict": backbone().state_dict()}),
    "old.pt": pickled(backbone().state_dict(), new=False),
    "plain.safetensors": save(backbone().state_dict()),
}


@pytest.mark.parametrize("name", THEIRS)
@MANY
@given(st.data())
def test_a_damaged_backbone(tmp_path: Path, name: str, data: st.DataObject) -> None:
    (tmp_path / name).write_bytes(data.draw(damaged(THEIRS[name], 4000)))
    net = backbone()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    said = told(lambda: pretrained.pretrained(net, str(tmp_path / name)))
    if said is not None:
        assert said.startswith(str(tmp_path / name))
        assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())


SHAPES = st.lists(st.integers(0, 9), max_size=5)


@MANY
@given(st.data())
def test_published_checkpoints_with_odd_tensors(tmp_path: Path, data: st.DataObject) -> None:
    run, net = tmp_path / "run", DGNet(TINY, 3)
    run.mkdir(exist_ok=True)
    for file in published.JOINT:
        own = {key: t for key, t in net.state_dict().items() if key.startswith(published.PARTS[file])}
        state = published.to_published(file, own)
        for key in data.draw(st.lists(st.sampled_from(sorted(state)), max_size=3)):
            shape = data.draw(st.one_of(st.none(), SHAPES))
            if shape is None:
                state.pop(key, None)
            else:
                state[key] = torch.ones(shape)
        torch.save({"a": state}, run / f"{file}_00000001.pt")
    said = told(lambda: published.import_published(run, tmp_path / "out"))
    assert (said is None) == (tmp_path / "out" / "model.safetensors").exists()
    (tmp_path / "out" / "model.safetensors").unlink(missing_ok=True)


@MANY
@given(st.binary(max_size=60) | st.text(alphabet="{}[]:,-&*!|>\"' \nabgen: 0123456789.", max_size=60).map(str.encode))
def test_a_damaged_description_of_a_published_run(tmp_path: Path, described: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(described)
    said = told(lambda: published.published_config.settings(path))
    assert said is None or said.startswith(str(path))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nothing.safetensors", lambda folder: b"", "damaged, or not a safetensors file"),
        ("cut.safetensors", lambda folder: joint_file(folder)[:-999], "damaged, or not a safetensors file"),
        ("text.safetensors", lambda folder: b"<html>404</html>", "damaged, or not a safetensors file"),
        (
            "theirs.safetensors",
            lambda folder: THEIRS["plain.safetensors"],
            "not written by dgnet; published checkpoints",
        ),
        ("resnet.pth", lambda folder: THEIRS["zip.pth"], "a file of torch.save, not of dgnet"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "swap", "folder"])
def test_every_command_says_it_in_one_line_and_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
    content: Callable[[Path], bytes],
    says: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content(tmp_path / "elsewhere"))
    out, photos = tmp_path / "out" / "it.png", tmp_path / "photos"
    photos.mkdir()
    words = {
        "evaluate": ["evaluate", path, "--data", photos, "--json", out],
        "swap": ["generate", "swap", path, out, "--images", photos / "a.png", photos / "b.png"],
        "folder": ["generate", "folder", path, out.parent, "--images", photos],
    }[command]
    with pytest.raises(SystemExit) as left:
        cli.main([str(word) for word in words])
    said = capsys.readouterr()
    assert (left.value.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {path}: {says}")
    assert said.err.count("\n") == 1
    assert not out.parent.exists()


def test_a_teacher_trained_from_damaged_weights_is_not_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dgnet.drawn.dataset import synthesize

    synthesize(tmp_path / "people", identities=4, test_identities=2, images_per_camera=2, height=32, width=16)
    net = build_baseline(TINY, 3)
    torch.save({f"base.{key}": t * torch.nan for key, t in net.backbone.state_dict().items()}, tmp_path / "nan.pth")
    words = [
        "train",
        "teacher",
        tmp_path / "run",
        "--config",
        "tiny",
        "--device",
        "cpu",
        f"data.root={tmp_path / 'people'}",
    ]
    with pytest.raises(SystemExit) as left:
        cli.main([str(word) for word in [*words, f"teacher.weights={tmp_path / 'nan.pth'}"]])
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert f"error: {tmp_path / 'nan.pth'}: NaN or infinity in conv1.weight, " in said.splitlines()[-1]
    assert not list((tmp_path / "run").glob("**/*.safetensors"))
