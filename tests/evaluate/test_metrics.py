"""Curves, intervals and verification, by hand and against direct computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dgnet.errors import UserError
from dgnet.evaluate.metrics import Ranks, bootstrap, precision_recall
from dgnet.evaluate.pairs import SameIdentity
from dgnet.evaluate.verification import verify
from dgnet.retrieval.feature_sets import Features
from dgnet.retrieval.scores import MatrixScores


def ranks(*queries) -> Ranks:
    return Ranks(np.array([rank for query in queries for rank in query], np.int64), np.cumsum([0, *map(len, queries)]))


def labels(identities, cameras=None) -> Features:
    count = len(identities)
    return Features(torch.zeros(count, 1), np.array(identities), np.full(count, -1) if cameras is None else cameras)


def test_precision_recall_by_hand():
    curve = precision_recall(ranks([1, 4], [], [2]))
    assert curve[[0, 1, 50]].tolist() == [1.5, 1.5, 1.5]  # 1 + 1/2
    assert curve[[51, 100]].tolist() == [1.0, 1.0]  # 2/4 + 1/2
    # Interpolated: precision 1/3, 2/4, 3/5 rises, so its best is at the end everywhere.
    assert np.allclose(precision_recall(ranks([3, 4, 5])), 3 / 5)


def test_intervals_have_the_width_of_the_binomial():
    generator = np.random.default_rng(1)
    hits = (generator.random(2000) < 0.3).astype(np.float64)
    low, high = bootstrap({"rank1": hits}, draws=2000, seed=0)["rank1"]
    assert low < hits.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 2000), rel=0.1)


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        low, high = bootstrap({"x": generator.exponential(size=100)}, draws=300, seed=trial)["x"]
        covered += low <= 1 <= high
    assert 176 <= covered <= 199


def test_intervals_are_repeatable_paired_and_exact_for_constants():
    values = np.random.default_rng(3).random(50)
    drawn = bootstrap({"a": values, "b": values, "c": np.full(50, 0.25)}, draws=100, seed=5)
    assert drawn["a"] == pytest.approx(drawn["b"])
    assert drawn["a"] == pytest.approx(bootstrap({"a": values}, draws=100, seed=5)["a"])
    assert drawn["c"] == pytest.approx((0.25, 0.25))


def test_pairs_of_one_identity():
    query, gallery = labels([2, -1, 1], np.array([1, 1, -1])), labels([1, 2, -1, 2, 1], np.array([1, 1, 1, -1, 2]))
    pairs = SameIdentity.of(query, gallery)
    assert list(zip(pairs.query.tolist(), pairs.entry.tolist(), strict=True)) == [(0, 1), (0, 3), (2, 0), (2, 4)]
    assert pairs.excluded.tolist() == [True, False, False, False]


def test_verification_by_hand():
    query, gallery = labels([1, 2]), labels([1, 2, 3])
    matrix = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.7, 0.2]])  # genuine 0.9, 0.7; impostors 0.8, 0.5, 0.2, 0.1
    made = verify(MatrixScores(matrix), query, gallery, at=(0.0, 0.24, 0.25, 1.0))
    assert made.tpr_at == {0.0: 0.5, 0.24: 0.5, 0.25: 1.0, 1.0: 1.0}
    assert (made.genuine_pairs, made.impostor_pairs) == (2, 4)


def test_verification_against_sorting_all_pairs():
    generator = np.random.default_rng(4)
    identities = generator.integers(0, 20, 60), generator.integers(0, 20, 700)
    cameras = generator.integers(0, 3, 60), generator.integers(0, 3, 700)
    same = identities[0][:, None] == identities[1]
    left_out = same & (cameras[0][:, None] == cameras[1])
    matrix = generator.standard_normal((60, 700)) + 2 * same
    made = verify(
        MatrixScores(torch.from_numpy(matrix)),
        labels(identities[0], cameras[0]),
        labels(identities[1], cameras[1]),
        at=(1e-2, 1e-3, 1e-4),
        block=17,
    )
    genuine, impostors = matrix[same & ~left_out], np.sort(matrix[~same])[::-1]
    for rate, share in made.tpr_at.items():
        assert share == (genuine > impostors[int(rate * len(impostors))]).mean()
    assert (np.diff(made.curve_tpr) >= 0).all()
    assert made.curve_tpr[-1] == 1


def test_verification_needs_both_kinds_of_pairs():
    with pytest.raises(UserError, match="only one kind"):
        verify(MatrixScores(torch.zeros(1, 2)), labels([1]), labels([1, 1]))
