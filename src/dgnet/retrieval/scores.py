"""Scores of queries against a gallery in tiles, and the exact score of any single pair.

A tile is one fast matrix product. Its rounding depends on its size, the device and the number of threads, so it never
decides an order by itself: entries closer than its rounding error are compared by `exact`, which is float64 with a
fixed order of additions. Every ranking is therefore the same on any device and with any block size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from dgnet.errors import UserError

Metric = Literal["cosine", "euclidean"]
T = TypeVar("T")
BLOCK_QUERIES, BLOCK_ELEMENTS = 384, 2**25
TILE_ENTRIES = {"cpu": 512}  # a tile that stays in a core's cache; elsewhere the whole gallery
PAIR_ELEMENTS = {"cpu": 2**16}  # float64 products at once: what a core's cache holds; elsewhere 16 million
UNIT_TOLERANCE = 1e-5


class Scores(Protocol):
    """What a ranking needs to know. Higher is more alike; queries are rows `[Q]`, gallery entries columns `[G]`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Queries, gallery entries."""

    @property
    def device(self) -> torch.device:
        """Where tiles are computed."""

    @property
    def bound(self) -> float:
        """No score is larger in magnitude."""

    def tile(self, start: int, stop: int, first: int, last: int, *, double: bool = False) -> Tensor:
        """Scores of these queries and entries `[stop - start, last - first]`, in float64 if asked; yours to change."""

    def slack(self, start: int, stop: int, *, double: bool = False) -> Tensor:
        """How far a tile's scores may be from the exact ones, per query: float64 `[stop - start]`."""

    def exact(self, queries: Tensor, entries: Tensor) -> Tensor:
        """Exact scores of pairs: indices `[P]` and `[P]` to float64 `[P]`."""

    def columns(self, entries: Tensor) -> Scores:
        """The same with these gallery entries only."""


def over_blocks(scores: Scores, size: int | None, work: Callable[[int, int], T]) -> list[T]:
    """What `work(start, stop)` makes of each block of `size` queries, in order; by default 384 or fewer.

    On a CPU the blocks, not the operations inside them, are shared out among torch's threads. Whatever training has
    set, no gradients, no autocast and no TF32 or bfloat16 products; it is set back before this returns.
    """
    queries, entries = scores.shape
    if size is not None and size < 1:
        raise UserError(f"block is {size}: a number of queries of at least 1 is needed")
    workers = torch.get_num_threads() if scores.device.type == "cpu" else 1
    most = max(1, min(BLOCK_QUERIES, BLOCK_ELEMENTS // entries))
    step = size or math.ceil(queries / (workers * math.ceil(queries / (workers * most))))  # alike for every worker

    def one(start: int) -> T:
        with torch.no_grad(), torch.autocast(scores.device.type, enabled=False):
            return work(start, min(start + step, queries))

    with exact_products(), one_thread(), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(0, queries, step)))


@contextmanager
def exact_products() -> Iterator[None]:
    """Matrix products of float32 in float32, whichever of torch's two ways of asking for less was used before."""
    backends: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for each operation: where there are many small ones, or several threads of Python already."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tiles(scores: Scores) -> Iterator[tuple[int, int]]:
    """First and last of pieces of the gallery whose scores are best computed, and used, at once."""
    entries, step = scores.shape[1], TILE_ENTRIES.get(scores.device.type, scores.shape[1])
    for first in range(0, entries, step):
        yield first, min(first + step, entries)


def other_tiles(
    scores: Scores, start: int, stop: int, query: Tensor, entry: Tensor, *, double: bool = False
) -> Iterator[tuple[int, Tensor]]:
    """Each tile of these queries with its first entry; the scores of given pairs (query from start, entry) are -inf."""
    by_entry = entry.argsort()
    query, entry = query[by_entry], entry[by_entry]
    edges = list(tiles(scores))
    ends = torch.searchsorted(entry, torch.tensor(edges, device=entry.device)).tolist()
    for (first, last), end in zip(edges, ends, strict=True):
        tile = scores.tile(start, stop, first, last, double=double)
        tile[query[slice(*end)], entry[slice(*end)] - first] = -torch.inf
        yield first, tile


def rows(scores: Scores, start: int, stop: int) -> Tensor:
    """Scores of queries start to stop against the whole gallery, `[stop - start, G]`."""
    return torch.cat([scores.tile(start, stop, first, last) for first, last in tiles(scores)], dim=1)


@dataclass(frozen=True)
class MatrixScores:
    """Scores that are given, `[Q, G]`: re-ranked ones, say. They are exact, so equal scores are ties."""

    matrix: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def device(self) -> torch.device:
        return self.matrix.device

    @property
    def bound(self) -> float:
        return float(max(self.matrix.max(), -self.matrix.min()))

    def tile(self, start: int, stop: int, first: int, last: int, *, double: bool = False) -> Tensor:
        dtype = torch.float64 if double else self.matrix.dtype
        return self.matrix[start:stop, first:last].to(dtype, copy=True)

    def slack(self, start: int, stop: int, *, double: bool = False) -> Tensor:
        return torch.zeros(stop - start, dtype=torch.float64, device=self.device)

    def exact(self, queries: Tensor, entries: Tensor) -> Tensor:
        return self.matrix[queries, entries].double()

    def columns(self, entries: Tensor) -> MatrixScores:
        return MatrixScores(self.matrix[:, entries])


@dataclass(frozen=True)
class FeatureScores:
    """Scores of prepared features: the dot product (`cosine`) or minus the squared distance (`euclidean`)."""

    query: Tensor  # [Q, D]
    gallery: Tensor  # [G, D]
    metric: Metric

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.query), len(self.gallery)

    @property
    def device(self) -> torch.device:
        return self.gallery.device

    @property
    def bound(self) -> float:
        return float(self._reach(0, len(self.query)).max())

    def tile(self, start: int, stop: int, first: int, last: int, *, double: bool = False) -> Tensor:
        query, gallery = self.query[start:stop], self.gallery[first:last]
        if double:
            query, gallery = query.double(), gallery.double()
        made = query @ gallery.T
        if self.metric == "euclidean":
            query_squared, gallery_squared = (squared.to(made) for squared in self._squared_lengths)
            made.mul_(2).sub_(gallery_squared[first:last]).sub_(query_squared[start:stop, None])
        return made

    def slack(self, start: int, stop: int, *, double: bool = False) -> Tensor:
        # D additions err like sqrt(D) rounding errors (Higham & Mary, SIAM J. Sci. Comput. 2019; lambda = 2).
        epsilon = torch.finfo(torch.float64 if double else self.gallery.dtype).eps
        return self._reach(start, stop) * epsilon * (math.sqrt(self.gallery.shape[1]) + 4)

    def exact(self, queries: Tensor, entries: Tensor) -> Tensor:
        made = torch.empty(len(queries), dtype=torch.float64, device=self.device)
        step = max(1, PAIR_ELEMENTS.get(self.device.type, 2**24) // self.gallery.shape[1])
        for start in range(0, len(queries), step):
            q = self.query[queries[start : start + step]].double()
            g = self.gallery[entries[start : start + step]].double()
            terms = q.mul_(g) if self.metric == "cosine" else q.sub_(g).square_().neg_()
            made[start : start + step] = _sum_in_fixed_order(terms)
        return made

    def columns(self, entries: Tensor) -> FeatureScores:
        return replace(self, gallery=self.gallery[entries])

    @cached_property
    def _squared_lengths(self) -> tuple[Tensor, Tensor]:
        """Of queries `[Q]` and of gallery entries `[G]`, in float64."""
        return _squared_length(self.query), _squared_length(self.gallery)

    @cached_property
    def _lengths(self) -> tuple[Tensor, Tensor]:
        """Of queries `[Q]`, and of the longest gallery entry, about."""
        query, gallery = (torch.linalg.vector_norm(features, dim=1) for features in (self.query, self.gallery))
        return query.double(), gallery.max().double()

    def _reach(self, start: int, stop: int) -> Tensor:
        query, longest = self._lengths[0][start:stop], self._lengths[1]
        return query * longest if self.metric == "cosine" else (query + longest) ** 2


def weigh(features: Tensor, alpha: float | None, power: float) -> Tensor:
    """The second half of features `[N, D]` times alpha ** power; alpha 0 and -1 keep one half alone, `[N, D / 2]`."""
    half = features.shape[1] // 2
    if alpha is None:
        return features
    if alpha == 0:
        return features[:, :half]
    if alpha == -1:
        return features[:, half:]
    if (weight := alpha**power) == 1:
        return features
    return torch.cat([features[:, :half], features[:, half:] * weight], dim=1)


def nearest(scores: Scores, count: int, start: int, found: Tensor) -> Tensor:
    """The `count` best gallery entries of each of the queries from start on, `[B, count]`; ties by lower index.

    `found` are their `rows` `[B, G]`; entries set to -inf there come last.
    """
    lowest = found.topk(count, dim=1).values[:, -1].double() - 2 * scores.slack(start, start + len(found))
    query, entry = (found >= lowest[:, None]).nonzero(as_tuple=True)
    exact = scores.exact(query + start, entry)
    exact[found[query, entry] == -torch.inf] = -torch.inf
    order = order_within(query, exact)
    first = torch.searchsorted(query, torch.arange(len(found), device=query.device))
    return entry[order[first[:, None] + torch.arange(count, device=query.device)]]


def order_within(query: Tensor, score: Tensor) -> Tensor:
    """Indices `[P]` that order pairs by query, then by falling score, then by their present place."""
    order = score.argsort(descending=True, stable=True)
    return order[query[order].argsort(stable=True)]


def unit(features: Tensor, parts: int) -> Tensor:
    """Features `[N, D]` whose `parts` equal parts each have unit length (a zero vector stays)."""
    split = features.reshape(len(features), parts, -1)  # [N, parts, D / parts]
    if bool(((torch.linalg.vector_norm(split, dim=2) - 1).abs() < UNIT_TOLERANCE / 2).all()):
        return features
    split = _within_range(split)
    length = _squared_length(split.flatten(0, 1)).sqrt().view(-1, parts)
    length[((length - 1).abs() < UNIT_TOLERANCE) | (length == 0)] = 1
    return features if bool((length == 1).all()) else (split / length.to(split)[:, :, None]).flatten(1)


def _within_range(split: Tensor) -> Tensor:
    """Parts `[N, parts, W]`; those whose squares could be too large or too small a number, times a power of two."""
    largest = torch.linalg.vector_norm(split, torch.inf, dim=2, keepdim=True)
    odd = (largest > 2.0**60) | (largest < 2.0**-60) & (largest > 0)
    if not bool(odd.any()):
        return split
    mantissa, exponent = torch.frexp(split)
    shift = torch.where(mantissa == 0, 0, exponent - torch.frexp(largest).exponent)
    return torch.where(odd, torch.ldexp(mantissa, shift), split)


def _squared_length(features: Tensor) -> Tensor:
    """`[N, D]` to float64 `[N]`."""
    step = max(1, PAIR_ELEMENTS.get(features.device.type, 2**24) // features.shape[1])
    with one_thread():
        parts = (part.to(torch.float64, copy=True) for part in torch.split(features, step))
        return torch.cat([_sum_in_fixed_order(part.square_()) for part in parts])


def _sum_in_fixed_order(terms: Tensor) -> Tensor:
    """Sum `[P, D]` over D by folding it in half again and again: the same bits on every device. Overwrites `terms`."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0]
