"""Drawn people, and a small untrained model that tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from acquainted import acquainted

import dgnet
from dgnet import config as configuration
from dgnet.drawn.dataset import synthesize
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.weights.files import save_model

HEIGHT, WIDTH = 32, 16


@pytest.fixture(scope="package")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=8, test_identities=5, cameras=3, images_per_camera=3, height=HEIGHT, width=WIDTH)
    return folder


@pytest.fixture(scope="package")
def weights(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model.safetensors`, `teacher.safetensors` and `stripes.safetensors` (PCB heads)."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    for name in ("model", "teacher", "stripes"):
        heads = "pcb" if name == "stripes" else "two"
        config = configuration.load("tiny", [f"data.root={people}", f"model.appearance.heads={heads}"])
        net = build_baseline(config, 3) if name == "teacher" else DGNet(config, 3)
        kind = "teacher" if name == "teacher" else "joint"
        known = acquainted(net, people, HEIGHT, WIDTH)
        save_model(folder / f"{name}.safetensors", known, config, kind, [1, 2, 3])  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="package")
def model(weights: Path) -> dgnet.Model:
    return dgnet.load(weights / "model.safetensors", device="cpu")


@pytest.fixture(scope="package")
def photos(people: Path) -> list[Path]:
    return sorted((people / "bounding_box_test").glob("*.jpg"))[:40]
