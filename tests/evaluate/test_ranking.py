"""Rankings: worked by hand, against a literal loop, in blocks, with near ties, and against the published numbers."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgnet.errors import UserError
from dgnet.evaluate import ranking
from dgnet.evaluate.evaluation import evaluate, evaluate_alphas
from dgnet.evaluate.ranking import rank_correct, retrieve
from dgnet.retrieval.feature_sets import Features, FeatureSet, load_features
from dgnet.retrieval.prepared import Comparison, prepare
from dgnet.retrieval.scores import MatrixScores

GOLDEN = Path(os.environ.get("DGNET_GOLDEN") or Path(__file__).parents[1] / "golden") / "ranking.npz"


def features(values, identities, cameras=None) -> Features:
    values = np.asarray(values, np.float32)
    values = values[:, None] if values.ndim == 1 else values
    cameras = np.full(len(values), -1) if cameras is None else cameras
    return Features(values, np.asarray(identities), np.asarray(cameras))


def on_a_line(gallery, identities, cameras=None, *, query_identity=1, query_camera=-1, **options):
    """One query at 0, the gallery at these places of a line, ranked by distance."""
    query = features([0.0], [query_identity], [query_camera])
    feature_set = FeatureSet(query, features(gallery, identities, cameras))
    return evaluate(feature_set, alpha=None, metric="euclidean", **{"draws": 0} | options)


def literal(query, gallery, metric):
    """Rank the whole gallery as the definitions say, pairs scored exactly: one list of ranks per query."""
    every = []
    for q, identity, camera in zip(query.features, query.identities, query.cameras, strict=True):
        scored = []
        for index, g in enumerate(gallery.features):
            same_camera = camera != -1 and camera == gallery.cameras[index]
            if gallery.identities[index] == -1 or (identity == gallery.identities[index] and same_camera):
                continue
            pairs = zip(q.tolist(), g.tolist(), strict=True)
            value = math.fsum(a * b if metric == "cosine" else -((a - b) ** 2) for a, b in pairs)
            scored.append((-value, index))
        order = [index for _, index in sorted(scored)]
        every.append([rank for rank, index in enumerate(order, 1) if gallery.identities[index] == identity != -1])
    return every


def literal_figures(every, counted):
    """rank-1, standard mAP, trapezoid mAP, mINP from lists of ranks, in plain Python."""
    rank1 = standard = trapezoid = inp = 0.0
    for ranks in every:
        if not ranks:
            continue
        rank1 += ranks[0] == 1
        inp += len(ranks) / ranks[-1]
        for hit, rank in enumerate(ranks, 1):
            before = 1.0 if rank == 1 else (hit - 1) / (rank - 1)
            standard += hit / rank / len(ranks)
            trapezoid += (before + hit / rank) / 2 / len(ranks)
    return [total / counted for total in (rank1, standard, trapezoid, inp)]


def test_worked_by_hand():
    results = on_a_line([3.0, 1.0, 4.0, 2.0], [2, 1, 1, 3], ranks=(1, 3, 4))
    # By distance: identities 1, 3, 2, 1. Correct at ranks 1 and 4.
    assert results.first_hit.tolist() == [1]
    assert results.mAP_standard == pytest.approx((1 + 2 / 4) / 2)
    assert results.mAP_trapezoid == pytest.approx((1 + (1 / 3 + 2 / 4) / 2) / 2)
    assert results.mINP == pytest.approx(2 / 4)
    assert results.rank == {1: 1, 3: 1, 4: 1}
    assert results.cmc.tolist() == [1, 1, 1, 1]


def test_first_answer_late():
    results = on_a_line([1.0, 2.0, 3.0], [2, 3, 1], ranks=(1, 2, 3))
    assert results.rank == {1: 0, 2: 0, 3: 1}
    assert results.mAP_standard == pytest.approx(1 / 3)
    assert results.mAP_trapezoid == pytest.approx((0 + 1 / 3) / 2)


@pytest.mark.parametrize(("identities", "first"), [([1, 2, 2], 1), ([2, 1, 2], 2), ([2, 2, 1], 3)])
def test_ties_go_to_the_lower_index(identities, first):
    assert on_a_line([1.0, -1.0, 1.0], identities).first_hit.tolist() == [first]


def test_junk_is_left_out_and_distractors_are_wrong():
    results = on_a_line([1.0, 2.0, 3.0, 4.0], [-1, 0, -1, 1])
    assert results.first_hit.tolist() == [2]
    assert results.gallery == 4


def test_same_camera_is_left_out_only_for_the_same_person_and_where_known():
    places, identities = [1.0, 2.0, 3.0, 4.0], [1, 2, 2, 1]
    assert on_a_line(places, identities, [5, 5, 6, 6], query_camera=5).first_hit.tolist() == [3]
    assert on_a_line(places, identities, [5, 5, 6, 6], query_camera=-1).first_hit.tolist() == [1]
    assert on_a_line(places, identities, [-1, 5, 6, 6], query_camera=5).first_hit.tolist() == [1]
    assert on_a_line(places, identities, [-1, -1, -1, -1], query_camera=-1).first_hit.tolist() == [1]


def test_what_is_done_about_cameras_is_said():
    known = on_a_line([1.0, 2.0], [1, 1], [1, 2], query_camera=3).protocol["same camera"]
    unknown = on_a_line([1.0, 2.0], [1, 1]).protocol["same camera"]
    partly = on_a_line([1.0, 2.0], [1, 1], [1, -1], query_camera=3).protocol["same camera"]
    assert (known, unknown) == ("left out", "kept (cameras unknown)")
    assert partly == "left out where known (1 images without a camera)"


def test_a_query_without_answer_counts_zero_or_not_at_all():
    feature_set = FeatureSet(features([0.0, 0.0], [1, 9]), features([1.0, 2.0], [2, 1]))
    options = {"alpha": None, "metric": "euclidean", "ranks": (1, 2)}
    every, valid = (evaluate(feature_set, divisor=divisor, **options) for divisor in ("all", "valid"))
    assert (every.queries, every.valid_queries, valid.valid_queries) == (2, 1, 1)
    assert (every.rank, valid.rank) == ({1: 0, 2: 0.5}, {1: 0, 2: 1})
    assert (every.mAP_standard, valid.mAP_standard) == (0.25, 0.5)
    assert (every.mINP, valid.mINP) == (0.25, 0.5)
    assert every.precision_recall[50] == 0.25
    assert valid.precision_recall[50] == 0.5
    assert valid.cmc.tolist() == [0, 1]


def test_no_query_with_an_answer(capsys):
    assert on_a_line([1.0], [2]).mAP_standard == 0
    assert "no query has a correct answer" in capsys.readouterr().err
    with pytest.raises(UserError, match="no query has a correct answer"):
        on_a_line([1.0], [2], divisor="valid")


def test_junk_queries_have_no_answer():
    assert on_a_line([1.0, 2.0], [-1, 2], query_identity=-1).valid_queries == 0


@st.composite
def labelled(draw):
    """Small sets full of ties: coordinates are small integers, identities include junk and distractors."""
    dimensions = draw(st.integers(1, 4))

    def part(most):
        count = draw(st.integers(1, most))
        rows = st.lists(st.integers(-2, 2), min_size=dimensions, max_size=dimensions)
        values = draw(st.lists(rows, min_size=count, max_size=count))
        identities = draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count))
        cameras = draw(st.lists(st.sampled_from([-1, 1, 2]), min_size=count, max_size=count))
        return features(values, identities, cameras)

    return FeatureSet(part(6), part(30))


@settings(max_examples=150, deadline=None)
@given(labelled(), st.integers(1, 7), st.sampled_from([np.float16, np.float32, np.float64]))
def test_equals_a_literal_loop(feature_set, block, dtype):
    if (feature_set.gallery.identities == -1).all():
        return
    parts = [
        Features(part.features.astype(dtype), part.identities, part.cameras)
        for part in (feature_set.query, feature_set.gallery)
    ]
    every = literal(*parts, "euclidean")
    results = evaluate(FeatureSet(*parts), alpha=None, metric="euclidean", block=block, draws=0)
    assert results.first_hit.tolist() == [ranks[0] if ranks else 0 for ranks in every]
    figures = [results.rank[1], results.mAP_standard, results.mAP_trapezoid, results.mINP]
    assert figures == pytest.approx(literal_figures(every, len(every)), abs=1e-12)


def close_together(spread, seed=0, *, queries=7, gallery=400, dimensions=96) -> FeatureSet:
    """Features of nearly one direction, with exact duplicates: the closer, the more hangs on the last bits."""
    generator = np.random.default_rng(seed)
    centre = generator.standard_normal(dimensions)

    def part(count):
        values = (centre + spread * generator.standard_normal((count, dimensions))).astype(np.float32)
        values[count // 2 :] = values[: count - count // 2]
        return features(values, generator.integers(-1, 12, count), generator.integers(1, 4, count))

    return FeatureSet(part(queries), part(gallery))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6, 0.0])
def test_near_ties_are_ordered_exactly_and_alike_in_any_block(metric, spread):
    prepared = prepare(close_together(spread), Comparison(None, metric))
    expected = literal(prepared.query, prepared.gallery, metric)
    scores = prepared.scores()
    for block in (1, 3, None):
        ranks = rank_correct(scores, prepared.query, prepared.gallery, block=block)
        assert [ranks.of(query).tolist() for query in range(len(ranks))] == expected


def test_a_product_alone_would_not_do():
    """The premise of exact scores: rows of one matrix product do order equal entries by chance."""
    prepared = prepare(close_together(1e-6), Comparison(None, "cosine"))
    rows = prepared.query.tensor() @ prepared.gallery.tensor().T
    scores = MatrixScores(rows)
    ranks = rank_correct(scores, prepared.query, prepared.gallery)
    assert [ranks.of(query).tolist() for query in range(len(ranks))] != literal(
        prepared.query, prepared.gallery, "cosine"
    )


def test_slack_bounds_the_rounding_of_a_block():
    for metric in ("cosine", "euclidean"):
        scores = prepare(close_together(1.0), Comparison(None, metric)).scores()
        queries, entries = scores.shape
        where = torch.arange(queries).repeat_interleave(entries), torch.arange(entries).repeat(queries)
        exact = scores.exact(*where).view(queries, entries)
        for double in (False, True):
            error = (scores.tile(0, queries, 0, entries, double=double) - exact).abs().amax(1)
            assert (error <= scores.slack(0, queries, double=double)).all()
            assert error.max() > 0


def test_precision_settings_and_autocast_do_not_matter():
    feature_set = close_together(1e-4)
    expected = evaluate(feature_set, draws=0).ap_standard
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = evaluate(feature_set, draws=0).ap_standard
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert np.array_equal(expected, made)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_gpu_equals_cpu(metric):
    for spread in (1.0, 1e-6):
        cpu, gpu = (evaluate(close_together(spread), metric=metric, device=device) for device in ("cpu", "cuda"))
        assert np.array_equal(cpu.first_hit, gpu.first_hit)
        assert np.array_equal(cpu.ap_standard, gpu.ap_standard)


def test_alpha_weighs_the_second_half():
    query = features([[1.0, 0.0, 1.0, 0.0]], [1])
    # Entry 0 is right by the first half, entry 1 by the second; entry 2 is half right by both.
    gallery = features([[1, 0, 0, 1], [0, 1, 1, 0], [0.8, 0.6, 0.6, 0.8]], [2, 1, 3])
    feature_set = FeatureSet(query, gallery)
    # Scores 1, alpha, 0.8 + 0.6 alpha.
    place = {alpha: evaluate(feature_set, alpha=alpha, draws=0).first_hit[0] for alpha in (0, 0.5, 2.1, -1)}
    assert place == {0: 3, 0.5: 3, 2.1: 1, -1: 1}
    distances = {alpha: evaluate(feature_set, alpha=alpha, metric="euclidean", draws=0).first_hit[0] for alpha in place}
    assert distances == place  # for halves of unit length the two agree
    sweep = evaluate_alphas(feature_set, [0, 2.1], name="m", draws=0)
    assert [(run.name, run.rank[1]) for run in sweep] == [("m, alpha 0", 0), ("m, alpha 2.1", 1)]


def test_cosine_ignores_length_and_keeps_unit_lengths_untouched():
    feature_set = close_together(1.0)
    scaled = FeatureSet(*(Features(p.features * 7, p.identities, p.cameras) for _, p in feature_set.parts()))
    assert np.allclose(evaluate(feature_set).ap_standard, evaluate(scaled).ap_standard)
    unit = prepare(feature_set, Comparison(None))
    assert prepare(unit.features, Comparison(None)).gallery.tensor().data_ptr() == unit.gallery.tensor().data_ptr()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.5}, "alpha is -0.5"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"metric": "manhattan"}, "metric is 'manhattan'"),
        ({"divisor": "some"}, "divisor is 'some'"),
        ({"ranks": (0, 1)}, "ranks are"),
        ({"block": 0}, "block is 0"),
        ({"multi_query": "mean"}, "needs multi_query features"),
        ({"expand": 10_000}, "query expansion by 10000"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        evaluate(close_together(1.0), **options)


def test_halves_of_an_odd_feature():
    with pytest.raises(UserError, match="1 dimensions"):
        evaluate(FeatureSet(features([0.0], [1]), features([0.0], [1])), alpha=0.5)


def test_a_gallery_of_junk():
    with pytest.raises(UserError, match="every gallery entry is junk"):
        on_a_line([1.0], [-1])


def test_multi_query_pools_by_identity_and_camera():
    query = features([[1, 0], [1, 0]], [1, 1], [1, 2])
    several = features([[1, 0], [0.6, 0.8], [0, 1]], [1, 1, 1], [1, 1, 2])
    gallery = features([[0.96, 0.28], [0.8, 0.6], [0, 1]], [2, 1, 3], [3, 3, 3])
    feature_set = FeatureSet(query, gallery, several)
    alone = evaluate(feature_set, alpha=None, draws=0)
    mean = evaluate(feature_set, alpha=None, multi_query="mean", draws=0)
    largest = evaluate(feature_set, alpha=None, multi_query="max", draws=0)
    # Alone both are [1, 0]. Mean: [0.8, 0.4] and [0, 1]; max: [1, 0.8] and [0, 1].
    assert alone.first_hit.tolist() == [2, 2]
    assert mean.first_hit.tolist() == [1, 2] or mean.first_hit.tolist() == [2, 2]
    assert mean.first_hit[0] == (1 if 0.8 * 0.8 + 0.4 * 0.6 > 0.8 * 0.96 + 0.4 * 0.28 else 2)
    assert largest.first_hit.tolist() == [1, 2]
    lacking = FeatureSet(query, gallery, several.subset(np.array([0, 1])))
    with pytest.raises(UserError, match=r"query 1 \(identity 1, camera 2\) has no image in multi_query"):
        evaluate(lacking, alpha=None, multi_query="mean")


def test_camera_pairs_equal_evaluations_of_the_parts():
    feature_set = close_together(1.0, queries=40)
    for pair in evaluate(feature_set, camera_pairs=True).camera_pairs:
        part = FeatureSet(
            feature_set.query.subset(feature_set.query.cameras == pair.query_camera),
            feature_set.gallery.subset(feature_set.gallery.cameras == pair.gallery_camera),
        )
        alone = evaluate(part, divisor="valid")
        assert (alone.valid_queries, alone.rank[1]) == (pair.queries, pair.rank1)
        assert alone.mAP_standard == pytest.approx(pair.mAP_standard)
        assert pair.query_camera != pair.gallery_camera


def test_retrieved_places_are_those_of_the_evaluation():
    feature_set = close_together(1e-6, queries=9)
    results = evaluate(feature_set)
    indices, correct = retrieve(feature_set, np.arange(9), 400)
    for query in range(9):
        hits = np.flatnonzero(correct[query]) + 1
        assert (hits[0] if len(hits) else 0) == results.first_hit[query]
        kept = indices[query][indices[query] >= 0]
        assert len(set(kept.tolist())) == len(kept) < 400  # junk and same-camera entries are missing
        assert (feature_set.gallery.identities[kept] != -1).all()


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden numbers here")
@pytest.mark.parametrize("alpha", ["0", "0.5", "-1"])
def test_published_numbers(alpha):
    expected = np.load(GOLDEN)
    results = evaluate(load_features(GOLDEN), alpha=float(alpha))
    assert np.abs(results.cmc - expected[f"alpha_{alpha}/cmc"]).max() < 1e-9
    assert np.abs(results.ap_trapezoid - expected[f"alpha_{alpha}/trapezoid_ap"]).max() < 1e-9
    assert np.abs(results.ap_standard - expected[f"alpha_{alpha}/standard_ap"]).max() < 1e-9
    assert results.mAP_trapezoid == pytest.approx(float(expected[f"alpha_{alpha}/trapezoid_mAP"]), abs=1e-9)
    assert results.mAP_standard == pytest.approx(float(expected[f"alpha_{alpha}/standard_mAP"]), abs=1e-9)
    assert results.valid_queries == int(expected[f"alpha_{alpha}/valid_queries"])
    valid = evaluate(load_features(GOLDEN), alpha=float(alpha), divisor="valid")
    assert valid.mAP_standard == pytest.approx(float(expected[f"alpha_{alpha}/standard_mAP_valid_queries"]), abs=1e-9)


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden numbers here")
def test_published_multi_query_numbers():
    expected = np.load(GOLDEN)["multi/rank1_5_10_trapezoid_mAP"]
    results = evaluate(load_features(GOLDEN), alpha=0.5, multi_query="mean", ranks=(1, 5, 10))
    assert [*results.rank.values(), results.mAP_trapezoid] == pytest.approx(expected.tolist(), abs=5.1e-5)


def test_many_near_ties_take_the_precise_product(monkeypatch):
    asked = []
    original = ranking._rank_block
    monkeypatch.setattr(ranking, "_rank_block", lambda *a, **o: (asked.append(o), original(*a, **o))[1])
    evaluate(close_together(1e-6), draws=0)
    assert {"double": True} in asked
