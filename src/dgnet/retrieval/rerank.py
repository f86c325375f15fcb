"""A better ranking from the gallery itself, without labels: k-reciprocal re-ranking."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgnet.errors import UserError
from dgnet.retrieval.prepared import Prepared
from dgnet.retrieval.scores import FeatureScores, nearest, one_thread, over_blocks, rows, weigh

ELEMENTS = 2**22  # compared at once


@dataclass(frozen=True)
class ReRanking:
    """Settings of k-reciprocal re-ranking; the defaults are those of the paper for Market-1501."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3  # lambda: the share of the original distance

    def __post_init__(self) -> None:
        if not (self.k1 >= 1 and self.k2 >= 1 and 0 <= self.weight <= 1):
            raise UserError(f"{self}: k1 and k2 of at least 1 and a weight between 0 and 1 would be right")


@torch.no_grad()
def rerank(prepared: Prepared, settings: ReRanking) -> Tensor:
    """k-reciprocal distances of prepared features, float32 `[Q, G]` (Zhong et al., CVPR 2017); lower is more alike.

    All images, queries first, form one set of N. d(i, j) is the squared distance, divided by the largest of row i.
    N(i, k) are the k + 1 nearest, i itself first, ties by lower index; R(i, k) those j of them with i in N(j, k).
    R*(i) is R(i, k1) together with each R(j, k1 / 2), j in R(i, k1), that lies in R(i, k1) by more than two thirds
    (more, not at least: so the published figures were made). V[i, j] = exp(-d(i, j)) on R*(i), scaled to sum 1,
    then averaged over the k2 nearest of i. The result is (1 - weight) Jaccard(V_i, V_j) + weight d(i, j), with
    Jaccard = 1 - m / (2 - m), m = sum min(V_i, V_j).
    """
    alpha, block = prepared.how.alpha, prepared.block
    both = torch.cat([weigh(part.tensor(), alpha, 0.5) for part in (prepared.query, prepared.gallery)])
    scores = FeatureScores(both, both, "euclidean")
    queries, total = len(prepared.query), len(both)
    if settings.k1 + 1 > total:
        raise UserError(f"re-ranking with k1 {settings.k1} needs more than {settings.k1} images: there are {total}")
    neighbours, farthest, original = _all_neighbours(scores, queries, max(settings.k1 + 1, settings.k2), block)
    row, column = _expanded_sets(neighbours, settings.k1)
    with one_thread():
        weight = torch.exp(scores.exact(row, column) / farthest[row])
    weight /= torch.zeros_like(farthest).index_add_(0, row, weight)[row]
    row, column, weight = _averaged(row, column, weight, neighbours[:, : settings.k2])

    # Jaccard distances through the inverted file: for each image, the gallery entries whose set contains it.
    by_column = column.argsort(stable=True)
    by_column = by_column[row[by_column] >= queries]
    each = torch.arange(total + 1, device=row.device)
    first, column_first = torch.searchsorted(row, each), torch.searchsorted(column[by_column], each)
    column_count = column_first.diff()
    for query in range(queries):
        own = slice(int(first[query]), int(first[query + 1]))
        count = column_count[column[own]]
        other = by_column[_ranges(column_first[column[own]], count)]
        shared = torch.minimum(weight[own].repeat_interleave(count), weight[other])
        common = torch.bincount(row[other] - queries, weights=shared, minlength=total - queries)
        original[query] *= settings.weight
        original[query] += ((1 - settings.weight) * (1 - common / (2 - common))).to(original)
    return original


def _all_neighbours(
    scores: FeatureScores, queries: int, depth: int, block: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbours `[N, depth]`, largest squared distance `[N]`, distances from query to gallery over it `[Q, G]`."""
    total = scores.shape[0]
    neighbours = torch.empty(total, depth, dtype=torch.long, device=scores.device)
    farthest = torch.empty(total, dtype=torch.float64, device=scores.device)
    original = torch.empty(queries, total - queries, device=scores.device)

    def fill(start: int, stop: int) -> None:
        found = rows(scores, start, stop)
        neighbours[start:stop] = nearest(scores, depth, start, found)
        farthest[start:stop] = (-found.amin(1).double()).clamp_min_(torch.finfo(torch.float32).tiny)
        inside = slice(start, min(stop, queries))
        if start < queries:
            ratio = -found[: inside.stop - start, queries:] / farthest[inside, None].to(found)
            original[inside] = ratio.clamp_(0, 1).to(original)

    over_blocks(scores, block, fill)
    itself = torch.arange(total, device=scores.device)[:, None]
    neighbours[:, -1:] = torch.where((neighbours == itself).any(1, keepdim=True), neighbours[:, -1:], itself)
    return neighbours.gather(1, (neighbours != itself).int().argsort(dim=1, stable=True)), farthest, original


def _reciprocal(neighbours: Tensor) -> Tensor:
    """For neighbours `[N, K]`: which of them have i among their own, bool `[N, K]`."""
    every = torch.arange(len(neighbours), device=neighbours.device)
    parts = torch.split(every, _rows_at_once(neighbours.shape[1] ** 2))
    return torch.cat([(neighbours[neighbours[i]] == i[:, None, None]).any(2) for i in parts])


def _expanded_sets(neighbours: Tensor, k1: int) -> tuple[Tensor, Tensor]:
    """R* of every image as pairs (image `[P]`, member `[P]`), in rising order."""
    near, near_half = neighbours[:, : k1 + 1], neighbours[:, : round(k1 / 2) + 1]
    mutual, mutual_half = _reciprocal(near), _reciprocal(near_half)
    found = []  # below, -1 and -2 stand in lists of fixed length for what is not a member
    step = _rows_at_once(near.shape[1] ** 2 * near_half.shape[1])
    for image in torch.split(torch.arange(len(near), device=near.device), step):
        own = near[image].masked_fill(~mutual[image], -1)  # [n, k1 + 1]
        theirs = near_half[near[image]].masked_fill(~mutual_half[near[image]], -2)  # [n, k1 + 1, k1 / 2 + 1]
        shared = (theirs[..., None] == own[:, None, None, :]).any(3).sum(2)
        joins = (own != -1) & (3 * shared > 2 * (theirs != -2).sum(2))
        members = torch.cat([own, theirs.masked_fill(~joins[..., None], -1).flatten(1)], dim=1).sort(dim=1).values
        fresh = (members >= 0) & (members.diff(dim=1, prepend=members.new_full((len(members), 1), -1)) != 0)
        found.append((image.repeat_interleave(fresh.sum(1)), members[fresh]))
    images, every_member = (torch.cat(parts) for parts in zip(*found, strict=True))
    return images, every_member


def _averaged(row: Tensor, column: Tensor, weight: Tensor, nearest_few: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sparse rows V, each replaced by the mean over the rows of its nearest few `[N, k2]`; in rising order."""
    total, k2 = nearest_few.shape
    first = torch.searchsorted(row, torch.arange(total + 1, device=row.device))
    keys, sums = [], []
    for image in torch.split(torch.arange(total, device=row.device), 2048):
        source = nearest_few[image].flatten()
        count = first[source + 1] - first[source]
        term = _ranges(first[source], count)
        key = image.repeat_interleave(k2).repeat_interleave(count) * total + column[term]
        key, place = torch.unique(key, return_inverse=True)
        keys.append(key)
        sums.append(torch.zeros(len(key), dtype=weight.dtype, device=row.device).index_add_(0, place, weight[term]))
    key = torch.cat(keys)
    return key // total, key % total, torch.cat(sums) / k2


def _ranges(first: Tensor, count: Tensor) -> Tensor:
    """first[0], first[0] + 1, ... (count[0] numbers), first[1], ..."""
    before = count.cumsum(0) - count
    return torch.arange(int(count.sum()), device=count.device) + (first - before).repeat_interleave(count)


def _rows_at_once(elements_per_row: int) -> int:
    return max(1, ELEMENTS // elements_per_row)
