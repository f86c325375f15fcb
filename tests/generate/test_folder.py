"""`dgnet generate folder` where photos are damaged or go, and weights are no numbers: the line, and what is on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Run, Said
from PIL import Image

from dgnet import config as configuration
from dgnet.model import load
from dgnet.models.dgnet import DGNet
from dgnet.retrieval.decision import Threshold
from dgnet.weights.files import save_model

TINY = configuration.load("tiny")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    save_model(path, DGNet(TINY, 3).eval(), TINY, "joint", [])
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 photos, more than a batch."""
    chance = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        Image.fromarray(chance.integers(256, size=(24, 12, 3), dtype=np.uint8)).save(folder / f"p{number:02d}.png")
    return folder


@pytest.fixture
def generate(weights: Path, photos: Path, tmp_path: Path, run: Run) -> Run:
    def call(*words: object, model: Path = weights) -> Said:
        return run("generate", "folder", model, tmp_path / "out", "--images", photos, "--device", "cpu", *words)

    return call


def provenance(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "provenance.json").read_text())
    return found


def pictures(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.glob("*.png")}


def cut(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-200])


def test_a_damaged_photo_is_told_before_the_first_picture(generate: Run, photos: Path, tmp_path: Path) -> None:
    cut(photos / "p37.png")
    said = generate()
    assert said.code == 2
    assert said.err.startswith(f"error: {photos / 'p37.png'}: truncated or not an image")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    (photos / "p37.png").unlink()
    assert generate()[::2] == (0, "")
    assert len(pictures(tmp_path / "out")) == 39


def test_damaged_photos_are_passed_over_if_asked_and_the_provenance_says_so(
    generate, photos: Path, tmp_path: Path
) -> None:
    cut(photos / "p03.png")
    (photos / "p37.png").write_text("no picture")
    said = generate("--on-unreadable", "skip")
    assert said.code == 0
    assert f"left out 2 of 40 images, which cannot be read: {photos / 'p03.png'}, {photos / 'p37.png'}" in said.err
    note = provenance(tmp_path / "out")
    assert note["left_out"] == [str(photos / "p03.png"), str(photos / "p37.png")]
    assert set(note["images"]) == set(pictures(tmp_path / "out"))
    assert len(note["images"]) == 38
    before = pictures(tmp_path / "out")
    assert generate("--on-unreadable", "skip").code == 0
    assert (pictures(tmp_path / "out"), provenance(tmp_path / "out")) == (before, note)


def test_a_whole_set_says_nothing_of_photos_left_out(generate: Run, tmp_path: Path) -> None:
    assert generate()[::2] == (0, "")
    assert list(provenance(tmp_path / "out")) == ["dgnet", "weights", "seed", "height", "width", "images"]


def test_a_begun_folder_is_continued_without_the_photos_that_have_gone(
    generate: Run, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert generate().code == 0
    whole, plan = pictures(out), provenance(out)["images"]
    gone = Path(plan["p20.png"]["structure"]).name  # not painted yet; nor is what has its structure
    lost = {file for file, source in plan.items() if source["structure"] == str(photos / gone)}
    painted = next(file for file in plan if file not in {gone, "p39.png", *lost})  # whose photo goes, too
    absent = {gone, "p39.png", *lost}
    for file in absent:
        (out / file).unlink()
    (photos / gone).unlink()
    (photos / painted).unlink()

    assert generate().code == 0

    note = provenance(out)
    assert set(note["images"]) == set(pictures(out)) == set(whole) - {gone}
    assert note["left_out"] == [str(photos / gone)]
    assert note["images"][painted] == plan[painted]
    for file, source in note["images"].items():
        if file in lost:
            assert source["structure"] in {str(photo) for photo in photos.iterdir()} - {source["appearance"]}
        else:
            assert source == plan[file]
        if file not in absent:
            assert pictures(out)[file] == whole[file]
    again = pictures(out)
    assert generate().code == 0
    assert (pictures(out), provenance(out)) == (again, note)


def test_a_begun_folder_goes_on_after_the_model_has_got_a_threshold(
    generate: Run, weights: Path, tmp_path: Path
) -> None:
    assert generate().code == 0
    whole = pictures(tmp_path / "out")
    (tmp_path / "out" / "p39.png").unlink()
    model = load(weights)
    model.threshold = Threshold(0.7, 0.6, 0.8, 1e-3, 0.9, model.fingerprint, "people", 10, 100)
    model.save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() != weights.read_bytes()
    assert generate(model=tmp_path / "model.safetensors")[::2] == (0, "")
    assert pictures(tmp_path / "out") == whole

    with torch.no_grad():
        next(model._generator("paint").decoder.parameters()).add_(0.01)  # which the fingerprint of features passes over
    model.threshold = None
    model.save(tmp_path / "other.safetensors")
    said = generate(model=tmp_path / "other.safetensors")
    assert said.code == 2
    assert "not begun with these images, weights and seed" in said.err


@pytest.mark.parametrize("text", ["", "[]", "{", '{"images": 3}', '{"images": {"a": 1}}', "\udcff"])
def test_a_folder_with_a_damaged_provenance_is_refused_untouched(generate: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    note = tmp_path / "out" / "provenance.json"
    note.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = note.read_bytes()
    said = generate()
    assert said.code == 2
    assert said.err == (
        f"error: {tmp_path / 'out'}: not empty, and not begun with these images, weights and seed; give a new folder\n"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["provenance.json"]
    assert note.read_bytes() == before


def test_more_photos_than_a_folder_was_begun_with_are_refused(generate: Run, photos: Path, tmp_path: Path) -> None:
    assert generate().code == 0
    before = pictures(tmp_path / "out")
    Image.new("RGB", (8, 8)).save(photos / "new.png")
    assert "not begun with these images" in generate().err
    assert pictures(tmp_path / "out") == before


@pytest.mark.parametrize("tensor", ["decoder.paint.2.bias", "structure.stem.0.weight"])
def test_weights_that_are_no_numbers_paint_nothing(generate: Run, weights: Path, tmp_path: Path, tensor: str) -> None:
    net = DGNet(TINY, 3).eval()
    net.state_dict()[tensor].view(-1)[0] = torch.nan
    save_model(tmp_path / "nan" / "model.safetensors", net, TINY, "joint", [])
    said = generate(model=tmp_path / "nan")
    assert said.code == 2
    assert said.err.startswith(f"error: {tmp_path / 'nan' / 'model.safetensors'}: NaN or infinity in {tensor}; ")
    assert not (tmp_path / "out").exists()


def test_weights_that_make_pictures_of_no_numbers_paint_nothing(generate: Run, tmp_path: Path) -> None:
    net = DGNet(TINY, 3).eval()
    for tensor in net.decoder.state_dict().values():
        tensor.fill_(1e38)
    save_model(tmp_path / "huge" / "model.safetensors", net, TINY, "joint", [])
    said = generate(model=tmp_path / "huge")
    assert said.code == 2
    assert "error: picture 0 (counted from 0) came out as NaN or infinity" in said.err
    assert pictures(tmp_path / "out") == {}
