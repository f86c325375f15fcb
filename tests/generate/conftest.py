"""People and an untrained DG-Net in a file, for the commands that paint and score."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dgnet import config
from dgnet.drawn.dataset import synthesize
from dgnet.models.dgnet import DGNet
from dgnet.weights.files import save_model


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=6, test_identities=2, cameras=2, images_per_camera=2, height=32, width=16)
    return folder


@pytest.fixture(scope="module")
def net() -> DGNet:
    torch.manual_seed(0)
    return DGNet(config.load("tiny"), 4).eval()


@pytest.fixture(scope="module")
def weights(net: DGNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    save_model(path, net, config.load("tiny"), "joint", [])
    return path
