"""Search in blocks: the order of float64, whatever the block, with ties by place."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from dgnet.retrieval.exact import best
from dgnet.retrieval.scores import unit


def by_hand(query: torch.Tensor, gallery: torch.Tensor, count: int) -> list[list[int]]:
    """Places by the exact sum of exact products, which fractions give."""
    found = []
    for q in query.tolist():
        scores = [sum(Fraction(a) * Fraction(b) for a, b in zip(q, g, strict=True)) for g in gallery.tolist()]
        found.append(sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:count])
    return found


def near_ties(count: int, dimensions: int, seed: int) -> torch.Tensor:
    """Features of which many are equal, and others differ in their last bits."""
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(5, dimensions))
    many = few[rng.integers(5, size=count)] + 1e-7 * rng.normal(size=(count, dimensions)) * rng.integers(
        2, size=(count, 1)
    )
    return unit(torch.from_numpy(many).float(), 1)


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
def test_the_order_is_that_of_exact_sums_with_ties_by_place(block: int) -> None:
    gallery = near_ties(300, 16, 0)
    query = torch.cat([gallery[[3, 200]], near_ties(3, 16, 1)])
    score, place = best(query, gallery, 40, block=block)
    for mine, wanted, q in zip(place.tolist(), by_hand(query, gallery, 40), query.double(), strict=True):
        exact = gallery.double() @ q
        assert len(set(mine)) == 40
        # Sums that differ by less than a float64's rounding are one to any float64 order; equal rows must go by place.
        assert torch.allclose(exact[mine], exact[wanted], rtol=0, atol=1e-15)
        for before, after in pairwise(mine):
            assert not torch.equal(gallery[before], gallery[after]) or before < after
    assert score.dtype == torch.float64
    assert bool((score.diff(dim=1) <= 0).all())


def test_the_block_decides_nothing() -> None:
    gallery, query = near_ties(500, 33, 2), near_ties(20, 33, 3)
    wanted = best(query, gallery, 500, block=500)
    for block in (1, 3, 128, 499):
        found = best(query, gallery, 500, block=block)
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])


def test_equal_entries_come_in_their_order() -> None:
    one = unit(torch.randn(1, 8, generator=torch.Generator().manual_seed(0)), 1)
    _, place = best(one, one.expand(100, -1), 30, block=9)
    assert place.tolist() == [list(range(30))]


def test_fewer_come_from_a_small_gallery_and_none_from_an_empty_one() -> None:
    gallery = near_ties(3, 8, 4)
    assert best(gallery, gallery, 10)[1].shape == (3, 3)
    assert best(gallery, gallery[:0], 10)[1].shape == (3, 0)
