"""People, a model with random weights that tells photos apart, and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from acquainted import acquainted

import dgnet
from dgnet import config as configuration
from dgnet.drawn.dataset import synthesize
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.weights.files import Kind, save_model

TINY = configuration.load("tiny")
SIZE = (TINY.data.height, TINY.data.width)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=6, test_identities=3, images_per_camera=2, height=SIZE[0], width=SIZE[1])
    return folder


@pytest.fixture(scope="session")
def photos(people: Path) -> list[Path]:
    return sorted((people / "query").glob("*.jpg"))


@pytest.fixture(scope="session")
def runs(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `joint` and `teacher` as training leaves them."""
    folder = tmp_path_factory.mktemp("runs")
    kinds: tuple[tuple[Kind, str, Any], ...] = (
        ("joint", "model", DGNet(TINY, 3)),
        ("teacher", "teacher", build_baseline(TINY, 3)),
    )
    for kind, file, net in kinds:
        save_model(folder / kind / f"{file}.safetensors", acquainted(net, people, *SIZE), TINY, kind, [1, 2, 3])
    return folder


@pytest.fixture(scope="session")
def model(runs: Path) -> dgnet.Model:
    return dgnet.load(runs / "joint", device="cpu")
