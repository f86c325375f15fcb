"""Seeds: the same for the same purpose, others for all others."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgnet.train.chance import generator, seed_of

PARTS = st.lists(st.integers(0, 2**64) | st.text(max_size=4), min_size=1, max_size=4)


@given(a=PARTS, b=PARTS)
def test_other_parts_another_seed(a: list[int | str], b: list[int | str]) -> None:
    assert (seed_of(*a) == seed_of(*b)) == (a == b)
    assert 0 <= seed_of(*a) < 2**63


@pytest.mark.parametrize(
    "pair", list(combinations([(0,), (0, 0), (0, 1), (1, 0), (0, 0, 0), ("0",), (0, "0"), ("", 0)], 2))
)
def test_a_seed_is_of_all_its_parts_and_their_order(pair: tuple[tuple[int | str, ...], ...]) -> None:
    """The first process is number 0: what it draws in an iteration is not what all draw in it."""
    assert seed_of(*pair[0]) != seed_of(*pair[1])


def test_a_seed_stays_what_it_was() -> None:
    assert seed_of(0, "joint") == 8632456606932902400
    assert torch.equal(torch.rand(3, generator=generator(1, "x")), torch.rand(3, generator=generator(1, "x")))
