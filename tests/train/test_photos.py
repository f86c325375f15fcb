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
from dgnet.images import transforms
from dgnet.images.store import ImageStore
from dgnet.train.batches import TwoStreams
from dgnet.train.photos import Photos, kept_for, order, training_photos

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


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    synthesize(
        tmp_path / "people", identities=4, test_identities=1, cameras=2, images_per_camera=2, height=32, width=16
    )
    return ImageStore(sorted((tmp_path / "people" / "bounding_box_train").glob("*.jpg")), 32, 16)


def test_photos_on_the_device_give_the_batches_of_the_host(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Augmented as on a GPU, where all are moved at once."""
    assert len(store) == 12
    resident = kept_for(torch.device("cpu"), store, "yes")
    assert resident is not store
    assert "training photos go to the memory of cpu: 1 MB of" in capsys.readouterr().err
    labels = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    here, there = (TwoStreams(images, labels, 3, seed=4) for images in (store, resident))
    plain = [next(here) for _ in range(5)]
    monkeypatch.setattr(transforms, "_move_one_by_one", transforms._move_at_once)
    for ours in plain:
        theirs = next(there)
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.x_pos, theirs.x_pos)
    assert not torch.equal(plain[0].x, transforms.normalise(store[plain[0].index]))  # they were augmented


def test_photos_go_to_a_gpu_only_where_they_fit(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu, size = torch.device("cuda:0"), 12 * 32 * 16 * 3
    for how, device in (("no", gpu), ("auto", torch.device("cpu"))):
        assert kept_for(device, store, how) is store  # type: ignore[arg-type]
    assert not [line for line in capsys.readouterr().err.splitlines() if line.startswith("training photos")]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * size - 1, 10**9))
    assert kept_for(gpu, store, "auto") is store
    assert "more than a quarter, so every batch is sent there" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (size - 1, 10**9))
    with pytest.raises(UserError, match=r"data.on_device = yes: 12 photos take 1 MB of 1 MB that are free on cuda:0"):
        kept_for(gpu, store, "yes")
