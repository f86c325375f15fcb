"""Which gallery entries are right answers to a query, and which count as neither right nor wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet.labels import JUNK, UNKNOWN_CAMERA, UNKNOWN_CLOTHES
from dgnet.retrieval.feature_sets import Features, Ids


@dataclass(frozen=True)
class SameIdentity:
    """All pairs of a query and a gallery entry of its identity, by query and then by entry. Junk queries have none."""

    query: Ids  # [P], rising
    entry: Ids  # [P]
    excluded: NDArray[np.bool_]  # [P] of the same known camera, or clothes that do not count: neither right nor wrong

    @classmethod
    def of(cls, query: Features, gallery: Features) -> SameIdentity:
        """Find them through one sort of the gallery's identities."""
        order = np.argsort(gallery.identities, kind="stable")
        known = gallery.identities[order]
        first = np.searchsorted(known, query.identities, side="left")
        count = np.searchsorted(known, query.identities, side="right") - first
        count[query.identities == JUNK] = 0
        owner = np.repeat(np.arange(len(query)), count)
        entry = order[np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + first[owner]]
        camera = query.cameras[owner]
        excluded = (camera != UNKNOWN_CAMERA) & (camera == gallery.cameras[entry])
        if query.clothes is not None and gallery.clothes is not None:
            worn = query.clothes[owner]
            excluded |= (worn != UNKNOWN_CLOTHES) & (worn == gallery.clothes[entry])
        return cls(owner, entry, excluded)

    def within(
        self, start: int, stop: int, device: torch.device
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Correct and excluded pairs of queries start to stop; queries counted from start."""
        inside = slice(*np.searchsorted(self.query, [start, stop]))
        query, entry = self.query[inside] - start, self.entry[inside]
        correct, excluded = (
            (torch.from_numpy(query[mask]).to(device), torch.from_numpy(entry[mask]).to(device))
            for mask in (~self.excluded[inside], self.excluded[inside])
        )
        return correct, excluded
