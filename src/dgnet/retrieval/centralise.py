"""Centralisation: a photo's feature drawn to the centre of its person by pictures of it in typical poses.

Yuan et al., "From Poses to Identity: Training-Free Person Re-Identification via Feature Centralization" (Pose2ID),
CVPR 2025, paint a photo's person in a few standard poses and average the features. Here DG-Net's own generator paints:
the photo's appearance on structures that are typical of the training photos. Every photo is seen alone.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.errors import UserError
from dgnet.images.store import Images
from dgnet.images.transforms import normalise
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen
from dgnet.models.teacher import Baseline
from dgnet.retrieval.features import parts_of
from dgnet.retrieval.scores import unit

SAMPLE = 1000  # photos among which typical ones are sought
_PLACES = (8, 4)  # to which a structure code is averaged where structures are compared


class Centralised(nn.Module):
    """A DG-Net whose `embed` adds to a photo's feature those of its appearance on `count` typical structures.

    The heads' parts of the sum have length 1 each, as those of `DGNet.embed`. Raises `UserError` where the network
    knows fewer typical structures.
    """

    def __init__(self, net: DGNet, count: int) -> None:
        super().__init__()
        known = 0 if net.typical is None else len(net.typical)
        if not 1 <= count <= known:
            has = f"the model has {known} typical structures" if known else "the model has no typical structures"
            raise UserError(f"centralise = {count}: {has}; model.add_structures(photos, {max(count, 1)}) adds them")
        self.net = net
        with frozen(net), torch.inference_mode():
            self.structures = net.structure(typical(net)[:count])

    def embed(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W], normalised -> [N, D]."""
        code, pooled = self.net.appearance.pool(x)
        worn = code.repeat_interleave(len(self.structures), 0)  # [N K, code]
        # The K structures in the first photo's clothes, then all of them in the next one's, ...
        painted = self.net.decode(self.structures, worn)
        around = self.net.embed(painted).view(len(x), len(self.structures), -1).sum(1)
        return unit(self.net.appearance.side_by_side(pooled) + around, parts_of(self.net))


def centralised(net: DGNet | Baseline, count: int) -> DGNet | Baseline | Centralised:
    """The network itself for a count of 0. Raises `UserError` for a network without a generator."""
    if not count:
        return net
    if not isinstance(net, DGNet):
        raise UserError(f"centralise = {count}: this network has no generator to paint with; a DG-Net is needed")
    return Centralised(net, count)


def typical(net: DGNet) -> Tensor:
    """What E_s sees of the typical structures, where the network is: [K, 1, H, W]."""
    assert net.typical is not None
    return net.typical.to(next(net.parameters()))


def typical_structures(net: DGNet, images: Images, count: int = 8, *, batch: int = 64, seed: int = 0) -> Tensor:
    """Medoids of the photos' structures: what E_s sees of `count` photos, [count, 1, H, W] in half precision.

    Structure codes are averaged to 8 x 4 places and compared by Euclidean distance; of at most 1000 photos, drawn by
    `seed`. A medoid is a real photo, unlike a mean, of which G would make a ghost. Images: uint8 [N, H, W, 3].

    Raises:
        UserError: fewer photos than `count`.
    """
    if not 1 <= count <= len(images):
        raise UserError(f"{count} typical structures of {len(images)} photos: 1 to {len(images)} would be right")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:SAMPLE])
    device = next(net.parameters()).device
    seen, codes = [], []
    with frozen(net), torch.inference_mode():
        for indices in np.array_split(chosen, -(-len(chosen) // batch)):
            outline = net.structure_of(normalise(images[indices].to(device)))
            codes.append(F.adaptive_avg_pool2d(net.structure(outline), _PLACES).flatten(1))
            seen.append(outline.half().cpu())
    return torch.cat(seen)[medoids(torch.cat(codes).cpu(), count)].clone()


def medoids(points: Tensor, count: int, rounds: int = 50) -> Tensor:
    """`count` of the points [N, D], each in the middle of those that are nearest to it: their indices, ascending.

    Alternating k-medoids (Park and Jun, 2009), from the most central point and those that are farthest from the chosen.

    Examples:
        >>> medoids(torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [13.0]]), 2).tolist()
        [1, 4]
    """
    distance = torch.cdist(points.double(), points.double())
    chosen = distance.sum(0).argmin()[None]
    while len(chosen) < count:
        chosen = torch.cat([chosen, distance[chosen].amin(0).index_fill(0, chosen, -1).argmax()[None]])
    for _ in range(rounds):
        nearest = distance[chosen].argmin(0)
        nearest[chosen] = torch.arange(count)  # equal points would leave a group without its own medoid
        groups = [(nearest == group).nonzero().flatten() for group in range(count)]
        moved = torch.stack([members[distance[members][:, members].sum(0).argmin()] for members in groups])
        if torch.equal(moved, chosen):
            break
        chosen = moved
    return chosen.sort().values
