"""The training photos of a run, and the order in which batches take them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dgnet.config import Config
from dgnet.datasets.records import UNKNOWN_CAMERA, Dataset, Ints, labels
from dgnet.errors import UserError
from dgnet.images.store import ImageStore
from dgnet.train.batches import Order, camera_balanced, identity_balanced


@dataclass(frozen=True)
class Photos:
    """The training photos of a run."""

    images: ImageStore
    classes: Tensor  # [N], 0 to K - 1
    cameras: Ints  # [N], -1 where unknown
    identities: list[int]  # [K], the data set's own numbers
    summary: str
    """In words and as a hash of names and identities: two sets with the same summary train the same."""


def training_photos(config: Config, dataset: Dataset) -> Photos:
    """Decode (or map from the cache) the training images, and number the identities from 0.

    Raises `UserError` if there are no training images or fewer than two identities.
    """
    dataset.require("train")
    data = config.data
    cache = Path(data.cache) if data.cache else None
    people = dataset.train.subset(dataset.train.identities > 0)
    store = ImageStore(people.paths, data.height, data.width, cache, data.on_unreadable)
    people = people.subset(store.kept)
    classes, identities = labels(people.identities)
    if len(identities) < 2:
        raise UserError(f"{dataset.root}: training images of {len(identities)} identity; training needs two or more")
    digest = hashlib.sha256()
    for path, identity in zip(people.paths, people.identities, strict=True):
        digest.update(f"{path.name} {identity}\n".encode())
    summary = f"{len(people)} of {len(identities)} people ({digest.hexdigest()[:8]})"
    return Photos(store, torch.from_numpy(classes), people.cameras, identities, summary)


def order(config: Config, photos: Photos, kind: Literal["joint", "teacher"] = "joint") -> Order | None:
    """How a half-batch, or a baseline's batch, takes the photos; None is the published order.

    Raises `UserError` if it cannot be had.
    """
    teacher = kind == "teacher"
    own, batch = (config.teacher, config.teacher.batch) if teacher else (config.train, config.train.half_batch)
    if own.sampling == "shuffled":
        return None
    if own.sampling == "identity_balanced":
        return identity_balanced(photos.classes.numpy(), batch // own.photos_per_identity, own.photos_per_identity)
    if (photos.cameras == UNKNOWN_CAMERA).any():
        section = "teacher" if teacher else "train"
        raise UserError(f"{section}.sampling = camera_balanced: the cameras of the training images are not known")
    return camera_balanced(photos.cameras, batch)
