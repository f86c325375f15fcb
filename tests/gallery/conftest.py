"""People, and models that tell them apart, for the tests of search and gallery."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from acquainted import acquainted

import dgnet
from dgnet import config
from dgnet.drawn.dataset import synthesize
from dgnet.models.dgnet import DGNet
from dgnet.weights.files import save_model


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=8, test_identities=4, cameras=2, images_per_camera=2, height=32, width=16)
    return folder


@pytest.fixture(scope="session")
def photos(people: Path) -> list[Path]:
    return sorted((people / "bounding_box_test").glob("0*.jpg"))


def _saved(file: Path, people: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    tiny = config.load("tiny", [f"data.root={people}"])
    net = acquainted(DGNet(tiny, 4), people, tiny.data.height, tiny.data.width)
    save_model(file, net, tiny, "joint", [])
    return file


@pytest.fixture(scope="session")
def weights(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("model") / "model.safetensors", people, 0)


@pytest.fixture(scope="session")
def other_weights(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("other") / "model.safetensors", people, 1)


@pytest.fixture(scope="session")
def model(weights: Path) -> dgnet.Model:
    return dgnet.load(weights, device="cpu")
