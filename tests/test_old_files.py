"""What dgnet 0.1.0 wrote: all but checkpoints is read and means what it meant; these say why they are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Refused
from PIL import Image

import dgnet
from dgnet import config
from dgnet.drawn.dataset import synthesize
from dgnet.evaluate.results import load_all

OLD = Path(__file__).parent / "files-0.1.0"
GAVE = {kind: torch.tensor(rows) for kind, rows in json.loads((OLD / "features.json").read_text()).items()}
PHOTOS = [OLD / "anna.png", OLD / "carl.png"]

each_kind = pytest.mark.parametrize("kind", ["joint", "teacher"])


@each_kind
def test_a_configuration_is_read_as_it_was(kind: str) -> None:
    read = config.load(str(OLD / kind / "config.yaml"))
    assert (read.data.layout, read.data.height, read.train.half_batch) == ("market1501", 32, 4)
    assert (read.model.appearance.backbone, read.model.appearance.backbone_width) == ("resnet10", 1)
    assert config.from_dict(config.to_dict(read), "again") == read


@each_kind
def test_weights_give_the_features_that_they_gave(kind: str) -> None:
    model = dgnet.load(OLD / kind, device="cpu")
    assert model.loaded.version == "0.1.0"
    assert len(model.identities) == 3
    assert torch.allclose(model.embed(PHOTOS, parts=True), GAVE[kind], atol=1e-5)


def test_a_generator_paints_what_it_painted() -> None:
    (picture,) = dgnet.load(OLD / "joint", device="cpu").swap(*PHOTOS)
    with Image.open(OLD / "swap.png") as painted:
        assert np.abs(np.asarray(picture, np.int16) - np.asarray(painted, np.int16)).max() <= 1


def test_an_evaluation_is_read() -> None:
    file = OLD / "joint" / "evaluation.json"
    first, *_ = load_all(file)
    assert first.figures() == json.loads(file.read_text())["figures"]
    assert first.mAP_standard == pytest.approx(0.0766, abs=1e-4)


@each_kind
def test_a_checkpoint_is_refused_in_one_line_that_says_what_to_do(kind: str, tmp_path: Path, refused: Refused) -> None:
    synthesize(
        tmp_path / "people", identities=6, test_identities=3, cameras=2, images_per_camera=2, height=32, width=16
    )
    shutil.copytree(OLD, tmp_path / "old")
    run = tmp_path / "old" / kind
    teacher = () if kind == "teacher" else ("--teacher", tmp_path / "old" / "teacher" / "teacher.safetensors")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ("train", kind, run, f"data.root={tmp_path / 'people'}", "--device", "cpu", "--resume", *teacher)
    line = refused(*words)
    assert ".safetensors: written by dgnet 0.1.0, whose step and random numbers are not those of dgnet" in line
    assert line.endswith("finish the run with that version, or start a new run folder")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
