"""Thresholds: the score that a chosen share of the pairs of different people exceed, and what it is worth elsewhere."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from dgnet.errors import UserError
from dgnet.evaluate import calibrate as module
from dgnet.evaluate import decisions
from dgnet.evaluate.calibrate import calibrate
from dgnet.evaluate.decisions import judge
from dgnet.retrieval import decision
from dgnet.retrieval.decision import Threshold, from_dict
from dgnet.retrieval.feature_sets import Features, FeatureSet


def people(count: int, photos: int, seed: int, noise: float = 0.6, distractors: int = 5) -> FeatureSet:
    """People whose photos lie around a direction of their own; half are queries, each with a camera of its own."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(count, 1, 12))
    each = (centre + noise * rng.normal(size=(count, photos, 12))).reshape(-1, 12)
    each = np.concatenate([each, rng.normal(size=(distractors, 12))]).astype(np.float32)
    each /= np.linalg.norm(each, axis=1, keepdims=True)
    identities = np.concatenate([np.repeat(np.arange(1, count + 1), photos), np.zeros(distractors, np.int64)])
    cameras = np.concatenate([np.tile(np.arange(photos), count) % 3, np.zeros(distractors, np.int64)])
    query = np.concatenate([np.tile(np.arange(photos) % 2 == 0, count), np.zeros(distractors, bool)])
    part = Features(each, identities, cameras)
    return FeatureSet(part.subset(query), part.subset(~query))


def pairs(both: FeatureSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [Q, G], and which pairs are genuine and impostors."""
    query, gallery = both.query, both.gallery
    score = query.tensor().double().numpy() @ gallery.tensor().double().numpy().T
    same = query.identities[:, None] == gallery.identities[None]
    return score, same & (query.cameras[:, None] != gallery.cameras[None]), ~same


def made(value: float, low: float | None = None, high: float | None = None) -> Threshold:
    return Threshold(value, value if low is None else low, value if high is None else high, 0.01, 0.9, "m", "d", 1, 1)


@pytest.mark.parametrize("far", [0.3, 0.05, 0.01])
def test_a_share_far_of_the_pairs_of_different_people_lies_above_the_threshold(far: float) -> None:
    both = people(12, 6, 0)
    score, genuine, impostors = pairs(both)
    found = calibrate(both, far, data="people", model="m")
    above = int((score[impostors] >= found.value).sum())
    assert above <= far * impostors.sum()
    assert (
        int((score[impostors] >= found.value - 1e-5).sum()) > far * impostors.sum() or above + 1 > far * impostors.sum()
    )
    assert found.tar == pytest.approx((score[genuine] >= found.value).mean(), abs=1e-12)
    assert (found.genuine_pairs, found.impostor_pairs) == (genuine.sum(), impostors.sum())
    assert (found.far, found.data, found.model) == (far, "people", "m")
    assert found.low <= found.value <= found.high


def test_the_interval_is_that_of_drawing_people_again() -> None:
    both, far = people(15, 6, 1), 0.05
    score, _, impostors = pairs(both)
    found = calibrate(both, far, draws=400, seed=3)
    owners = np.unique(both.query.identities)
    weight = np.random.default_rng(3).multinomial(15, np.full(15, 1 / 15), size=400)
    thresholds = []
    for draw in weight:
        rows = np.concatenate(
            [np.flatnonzero(both.query.identities == p) for p, n in zip(owners, draw, strict=True) for _ in range(n)]
        )
        scores = np.sort(np.concatenate([score[row][impostors[row]] for row in rows]))[::-1]
        thresholds.append(scores[int(far * len(scores))])  # the first that must not be accepted
    low, high = np.quantile(thresholds, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)
    assert found.high - found.low > 0.02


def test_more_people_narrow_the_interval_and_the_seed_decides_it() -> None:
    few, many = (calibrate(people(count, 4, 2), 0.05) for count in (8, 80))
    assert many.high - many.low < few.high - few.low
    assert calibrate(people(8, 4, 2), 0.05) == few


def test_a_threshold_holds_its_rate_on_other_people_of_the_same_kind() -> None:
    found = calibrate(people(60, 6, 5), 0.02)
    judged = judge(people(60, 6, 6), found)
    assert judged.false_accepts == pytest.approx(0.02, abs=0.01)
    assert judged.true_accepts == pytest.approx(found.tar, abs=0.05)


@pytest.mark.parametrize("far", [0, 1, -0.1, 2, float("nan")])
def test_a_rate_that_is_none_is_told(far: float) -> None:
    with pytest.raises(UserError, match=r"a false-accept rate between 0 and 1, such as 0.001, is needed"):
        calibrate(people(5, 4, 0), far)


def test_a_rate_that_is_too_small_for_the_set_is_told_with_one_that_is_not() -> None:
    both = people(5, 4, 0)
    count = int(pairs(both)[2].sum())
    with pytest.raises(
        UserError, match=rf"needs 1,000,000 pairs of .* shop has {count}; take --far 0\.0\d+ or more"
    ) as told:
        calibrate(both, 1e-6, data="shop")
    smallest = float(str(told.value).split("--far ")[1].split()[0])
    assert calibrate(both, smallest).far == smallest


def test_pairs_of_one_kind_alone_are_told() -> None:
    one = Features(np.eye(2), np.array([1, 1]), np.array([1, 2]))
    with pytest.raises(UserError, match="a pair of one person and a pair of two"):
        calibrate(FeatureSet(one, one), 0.1)


# What it is worth


def test_pairs_and_an_open_set_are_judged_as_by_hand() -> None:
    both = people(20, 6, 7, noise=0.9)
    score, genuine, impostors = pairs(both)
    threshold = made(0.55, 0.5, 0.6)
    found = judge(both, threshold, seed=4)
    assert found.false_accepts == pytest.approx((score[impostors] >= 0.55).mean(), abs=1e-12)
    assert found.true_accepts == pytest.approx((score[genuine] >= 0.55).mean(), abs=1e-12)
    assert found.unsure == pytest.approx(((score[genuine] >= 0.5) & (score[genuine] < 0.6)).mean(), abs=1e-12)

    absent = np.random.default_rng(4).permutation(np.arange(1, 21))[:10]
    kept = ~np.isin(both.gallery.identities, absent)
    counted = {"found": 0, "mistaken": 0, "strangers accepted": 0, "residents": 0, "strangers": 0}
    for row, (person, camera) in enumerate(zip(both.query.identities, both.query.cameras, strict=True)):
        own_camera = (both.gallery.identities == person) & (both.gallery.cameras == camera)
        may = np.flatnonzero(kept & ~own_camera)
        first = may[np.argmax(score[row][may])]
        resident = bool((both.gallery.identities[may] == person).any())
        counted["residents" if resident else "strangers"] += 1
        if score[row][first] >= 0.55:
            right = both.gallery.identities[first] == person
            counted["strangers accepted" if not resident else "found" if right else "mistaken"] += 1
    assert (found.residents, found.strangers) == (counted["residents"], counted["strangers"])
    assert found.found == pytest.approx(counted["found"] / counted["residents"])
    assert found.mistaken == pytest.approx(counted["mistaken"] / counted["residents"])
    assert found.taken_for_residents == pytest.approx(counted["strangers accepted"] / counted["strangers"])
    assert 0 < counted["strangers accepted"] < counted["strangers"]


def test_a_threshold_is_read_as_it_was_kept_and_nothing_else_is() -> None:
    kept = made(0.5, 0.4, 0.6).to_dict()
    assert from_dict(kept) == made(0.5, 0.4, 0.6)
    for wrong in (None, [], {}, kept | {"more": 1}, kept | {"value": "0.5"}, kept | {"low": 0.55}, kept | {"far": 0.0},
                  kept | {"high": float("nan")}, kept | {"genuine_pairs": 1.0}):  # fmt: skip
        with pytest.raises(UserError, match="threshold"):
            from_dict(wrong)


@pytest.mark.parametrize("documented", [module, decisions, decision], ids=["calibrate", "decisions", "decision"])
def test_its_examples_hold(documented: object) -> None:
    failed, tried = doctest.testmod(documented)  # type: ignore[arg-type]
    assert tried
    assert not failed
