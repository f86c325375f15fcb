"""The best of a gallery of any size, read block by block: the order is that of float64, whatever the block.

A block is one fast matrix product, which only says who cannot be among the best; those who may be are compared by
`FeatureScores.exact`. Source of the bound: see `FeatureScores.slack`.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from dgnet.retrieval.scores import FeatureScores, exact_products, order_within

BLOCK = 4096  # entries at once: 16 MB at 1 024 dimensions
LONGEST = 1.001  # a feature of unit length, kept in float16


class Rows(Protocol):
    """A tensor [G, D] of unit rows, or what gives its rows as float32 when asked for a slice, or for places [n]."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Tensor: ...


@torch.no_grad()
def best(query: Tensor, gallery: Rows, count: int, *, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """The `count` entries most alike to each query (dot product), ties by lower place: the score's exact float64 order.

    Args:
        query: float32 [Q, D], rows of unit length.
        gallery: G entries, of which one block is in memory at a time.
        count: how many; fewer come where the gallery is smaller.

    Returns:
        scores, float64 [Q, K], and places in the gallery, int64 [Q, K], with K = min(count, G).
    """
    count = min(count, len(gallery))
    slack = torch.linalg.vector_norm(query, dim=1) * LONGEST * torch.finfo(torch.float32).eps
    slack = (slack * (math.sqrt(query.shape[1]) + 4))[:, None]
    leading = torch.full((len(query), count), -torch.inf)
    may: list[tuple[Tensor, Tensor, Tensor]] = []  # query, place and score of those that were near the best so far
    with exact_products():
        for first in range(0, len(gallery) if count else 0, block):
            tile = query @ gallery[first : first + block].T
            near_query, near = (tile >= leading[:, -1:] - 2 * slack).nonzero(as_tuple=True)
            may.append((near_query, near + first, tile[near_query, near]))
            top = tile.topk(min(count, tile.shape[1]), dim=1).values
            leading = torch.cat([leading, top], dim=1).topk(count, dim=1).values
    if not may:
        return torch.empty(len(query), 0, dtype=torch.float64), torch.empty(len(query), 0, dtype=torch.long)
    of, place, about = (torch.cat(parts) for parts in zip(*may, strict=True))
    still = about >= (leading[:, -1:] - 2 * slack)[of, 0]
    of, place = of[still], place[still]
    score = torch.cat(
        [
            FeatureScores(query, gallery[p], "cosine").exact(q, torch.arange(len(p)))
            for q, p in zip(torch.split(of, block), torch.split(place, block), strict=True)
        ]
    )
    order = order_within(of, score)  # stable, and places rise within a query
    first_of = torch.searchsorted(of[order], torch.arange(len(query)))
    chosen = order[first_of[:, None] + torch.arange(count)]
    return score[chosen], place[chosen]
