"""The training photos of a run, and the order in which batches take them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dgnet import console
from dgnet.config import Config
from dgnet.datasets.records import UNKNOWN_CAMERA, Dataset, Ints, labels
from dgnet.device import available_memory
from dgnet.errors import UserError
from dgnet.images.resident import Resident, bytes_of
from dgnet.images.store import Images, ImageStore, megabytes
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


_LARGEST_SHARE = 0.25  # of a GPU's free memory: what photos may take there unasked; the training needs the rest


def kept_for(device: torch.device, images: ImageStore, on_device: Literal["auto", "yes", "no"]) -> Images:
    """The images from which batches are made, moved into the memory of `device` if they are to be there.

    Says how much they take. Raises `UserError` if they are to be there in any case and don't fit.
    """
    if on_device == "no" or (on_device == "auto" and device.type != "cuda"):
        return images
    size = bytes_of(images)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    of = f"{megabytes(size)}" + (f" of {megabytes(free)} that are free" if free is not None else "")
    if on_device == "auto" and free is not None and size > _LARGEST_SHARE * free:
        console.notice(f"training photos take {of} on {device}: more than a quarter, so every batch is sent there")
        return images
    if free is not None and size > free:
        raise UserError(
            f"data.on_device = yes: {len(images)} photos take {of} on {device}; data.on_device=no sends batches"
        )
    console.notice(f"training photos go to the memory of {device}: {of}")
    return Resident(images, device)


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
