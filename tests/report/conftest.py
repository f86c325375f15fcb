"""Small real runs, of which both the charts and the report of a run are made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dgnet import config as configuration
from dgnet.datasets.read import read_dataset
from dgnet.drawn.dataset import synthesize
from dgnet.train.baseline import train_baseline
from dgnet.train.joint import train_joint


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `people` and a small run of each training, `teacher` and `joint`."""
    folder, device = tmp_path_factory.mktemp("runs"), torch.device("cpu")
    people = folder / "people"
    synthesize(people, identities=6, test_identities=2, images_per_camera=2, height=32, width=16)
    config, dataset = configuration.load("tiny"), read_dataset(people)
    teacher = train_baseline(config, dataset, folder / "teacher", device)
    assert teacher is not None
    assert train_joint(config, dataset, folder / "joint", [teacher], device) is not None
    return folder
