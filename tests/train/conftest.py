"""Whom whole trainings are tested on."""

from __future__ import annotations

import pytest

from dgnet.datasets.read import read_dataset
from dgnet.datasets.records import Dataset
from dgnet.drawn.dataset import synthesize


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six people to train on, two cameras, two photos by each."""
    folder = tmp_path_factory.mktemp("people") / "people"
    synthesize(
        folder,
        identities=8,
        test_identities=2,
        cameras=2,
        images_per_camera=2,
        distractors=0,
        junk=0,
        height=32,
        width=16,
    )
    return read_dataset(folder)
