"""From images to the features that a gallery is searched by (docs/method.md, "Test protocol")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dgnet import console
from dgnet.errors import UserError
from dgnet.images.store import Images, ImageStore
from dgnet.images.transforms import normalise
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen
from dgnet.retrieval.scores import unit


def parts_of(net: nn.Module) -> int:
    """Of how many parts of length 1 a network's feature consists: the heads of a `DGNet`, else 1."""
    return len(net.appearance.heads) if isinstance(net, DGNet) else 1


def extract(
    net: nn.Module,
    images: Images,
    batch: int = 64,
    device: torch.device | str | None = None,
    flip: bool = True,
    parts: int | None = None,
) -> Tensor:
    """Features of all images, float32 [N, D] on the CPU, in the order of `images`.

    `net.embed` gives the feature of one view, every head's part of it with length 1. A feature is the sum over the
    image and its mirror image, every part again with length 1. Dropout and batch statistics are off; the network is
    left in the modes that it was in.

    Args:
        net: a `DGNet`, a teacher's `Baseline`, or anything else whose `embed` maps [n, 3, H, W] to [n, D].
        images: uint8 [N, H, W, 3] at the size that the network was trained on, or an `ImageStore`.
        batch: images per forward pass; it does not change the features.
        device: where the network is; by default where its weights are.
        flip: whether the mirror image is seen too.
        parts: into how many parts of equal width a feature is cut; by default `parts_of(net)`.

    Raises:
        UserError: a feature with NaN or infinity, naming its image.
    """
    embed: Any = net.embed
    if device is None:
        device = next((weight.device for weight in net.parameters()), torch.device("cpu"))
    if parts is None:
        parts = parts_of(net)

    done = []
    at_once = len(images) <= batch
    with frozen(net), torch.inference_mode(), console.progress(speed_unit="images", quiet=at_once) as bar:
        task = bar.add_task("features", total=len(images), note="")
        for indices in torch.split(torch.arange(len(images)), batch):
            x = normalise(images[indices.numpy()].to(device))
            feature = embed(x) + embed(x.flip(3)) if flip else embed(x)
            done.append(unit(feature.float(), parts).cpu())
            bar.advance(task, len(indices))
    made = torch.cat(done)
    for row in torch.isfinite(made).all(1).logical_not().nonzero().flatten().tolist():
        name = images.paths[images.kept[row]] if isinstance(images, ImageStore) else f"image {row} (counted from 0)"
        raise UserError(f"{name}: the network's feature of it holds NaN or infinity; are its weights sound?")
    return made
