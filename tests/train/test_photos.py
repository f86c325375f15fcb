"""What both trainings begin with: several folders joined, and the order in which a half-batch takes the photos."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from dgnet import config
from dgnet.datasets.read import of_config
from dgnet.drawn.dataset import synthesize
from dgnet.errors import UserError
from dgnet.images.store import ImageStore
from dgnet.train.photos import Photos, order, training_photos

CLASSES, CAMERAS = [0, 0, 0, 1, 1, 1, 2, 2, 2], [1, 2, 2, 1, 2, 2, 1, 2, 2]


def photos(cameras: list[int] = CAMERAS) -> Photos:
    return Photos(cast(ImageStore, None), torch.tensor(CLASSES), np.array(cameras), [3, 5, 8], "")


def half_batches(*overrides: str, of: Photos | None = None) -> list[list[int]]:
    made = order(config.load("tiny", overrides), of or photos())
    assert made is not None
    drawn: list[list[int]] = made(torch.Generator().manual_seed(0)).tolist()
    return drawn


def test_by_default_the_order_is_the_published_one() -> None:
    assert order(config.load("tiny"), photos()) is None


def test_identity_balanced_halves_hold_p_people_with_k_photos_each() -> None:
    halves = half_batches("train.sampling=identity_balanced", "train.half_batch=6", "train.photos_per_identity=3")
    for half in halves:
        people = [CLASSES[photo] for photo in half]
        assert sorted(people.count(person) for person in set(people)) == [3, 3]
    with pytest.raises(UserError, match=r"train.half_batch = 4: not a multiple of train.photos_per_identity = 3"):
        half_batches("train.sampling=identity_balanced", "train.photos_per_identity=3")


def test_camera_balanced_halves_hold_as_many_photos_of_each_camera() -> None:
    for half in half_batches("train.sampling=camera_balanced", "train.half_batch=4"):
        assert [CAMERAS[photo] for photo in half].count(1) == 2
    with pytest.raises(UserError, match="camera_balanced: the cameras of the training images are not known"):
        half_batches("train.sampling=camera_balanced", of=photos([-1] * 9))


def test_joined_folders_keep_their_people_apart(tmp_path: Path) -> None:
    few = {"identities": 4, "test_identities": 1, "cameras": 2, "images_per_camera": 1, "height": 32, "width": 16}
    for seed, name in enumerate("ab"):
        synthesize(tmp_path / name, **few, seed=seed)
    chosen = config.load("tiny", [f"data.root={tmp_path / 'a'}", f"data.join=[market1501={tmp_path / 'b'}]"])
    joined = training_photos(chosen, of_config(chosen.data, "train"))
    assert len(joined.identities) == 6
    assert len(joined.classes) == 12
    tested = of_config(chosen.data, "query", "gallery")
    assert len(tested.query) == 2  # the first set's own
    without = config.load("tiny", [f"data.root={tmp_path / 'a'}", f"data.join=[{tmp_path / 'b'}]"])
    assert of_config(without.data, "train").train.paths == of_config(chosen.data, "train").train.paths
