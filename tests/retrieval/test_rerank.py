"""Re-ranking against a literal reading of the method, query expansion by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgnet.errors import UserError
from dgnet.evaluate.evaluation import evaluate
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.prepared import Comparison, prepare
from dgnet.retrieval.rerank import ReRanking, rerank


def clustered(queries, gallery, dimensions=8, people=6, seed=0, noise=0.7) -> FeatureSet:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((people, dimensions))

    def part(count):
        identities = generator.integers(people, size=count)
        values = centres[identities] + noise * generator.standard_normal((count, dimensions))
        return Features(values.astype(np.float32), identities, np.full(count, -1))

    return FeatureSet(part(queries), part(gallery))


def literal(query, gallery, k1, k2, weight):
    """Zhong et al. 2017, section 3, image by image with Python sets (float64)."""
    images = np.concatenate([query, gallery]).astype(np.float64)
    total = len(images)
    distance = ((images[:, None] - images[None]) ** 2).sum(2)
    distance /= distance.max(axis=1, keepdims=True)
    ranked = [sorted(range(total), key=lambda j, i=i: (j != i, distance[i, j], j)) for i in range(total)]

    def neighbours(i, k):  # N(i, k), the image itself included
        return set(ranked[i][: k + 1])

    def reciprocal(i, k):  # R(i, k)
        return {j for j in neighbours(i, k) if i in neighbours(j, k)}

    vectors = np.zeros((total, total))
    for i in range(total):
        members = reciprocal(i, k1)
        expanded = set(members)
        for j in members:
            theirs = reciprocal(j, round(k1 / 2))
            if 3 * len(members & theirs) > 2 * len(theirs):
                expanded |= theirs
        for j in expanded:
            vectors[i, j] = math.exp(-distance[i, j])
        vectors[i] /= vectors[i].sum()
    vectors = np.array([np.mean([vectors[j] for j in ranked[i][:k2]], axis=0) for i in range(total)])

    made = np.zeros((len(query), len(gallery)))
    for i in range(len(query)):
        for g in range(len(gallery)):
            j = len(query) + g
            jaccard = 1 - np.minimum(vectors[i], vectors[j]).sum() / np.maximum(vectors[i], vectors[j]).sum()
            made[i, g] = (1 - weight) * jaccard + weight * distance[i, j]
    return made


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 8), st.integers(12, 50), st.integers(1, 10), st.integers(1, 8), st.floats(0, 1), st.integers(0, 999)
)
def test_equals_the_literal_method(queries, gallery, k1, k2, weight, seed):
    feature_set = clustered(queries, gallery, seed=seed)
    prepared = prepare(feature_set, Comparison(None, "euclidean"), block=7)
    made = rerank(prepared, ReRanking(k1, k2, weight))
    expected = literal(feature_set.query.features, feature_set.gallery.features, k1, k2, weight)
    assert np.abs(made.numpy() - expected).max() < 1e-6


def test_default_settings_on_a_larger_set_of_unit_halves():
    feature_set = prepare(clustered(20, 150, people=12), Comparison(0.5))
    weigh = np.repeat([1.0, math.sqrt(0.5)], 4).astype(np.float32)
    expected = literal(
        feature_set.query.tensor().numpy() * weigh, feature_set.gallery.tensor().numpy() * weigh, 20, 6, 0.3
    )
    made = rerank(feature_set, ReRanking())
    assert np.abs(made.numpy() - expected).max() < 1e-6


def test_every_image_comes_first_among_its_own_neighbours_even_with_duplicates():
    feature_set = clustered(6, 30)
    gallery = feature_set.gallery
    twins = Features(
        np.concatenate([feature_set.query.features, gallery.features[:24]]), gallery.identities, gallery.cameras
    )
    feature_set = FeatureSet(feature_set.query, twins)
    expected = literal(feature_set.query.features, twins.features, 5, 3, 0.3)
    made = rerank(prepare(feature_set, Comparison(None, "euclidean")), ReRanking(5, 3))
    assert np.abs(made.numpy() - expected).max() < 1e-6


def test_identical_images_do_no_harm():
    same = Features(np.ones((30, 4), np.float32), np.arange(30), np.full(30, -1))
    made = rerank(prepare(FeatureSet(same, same), Comparison(None)), ReRanking())
    assert torch.isfinite(made).all()


def test_blocks_do_not_matter():
    at_once, one_by_one = (
        rerank(prepare(clustered(9, 90), Comparison(None), block=block), ReRanking()) for block in (None, 1)
    )
    assert torch.allclose(at_once, one_by_one, atol=1e-6)


def test_it_helps_where_people_form_clusters():
    feature_set = clustered(60, 400, dimensions=16, people=20, noise=0.9)
    plain = evaluate(feature_set, alpha=None, draws=0)
    better = evaluate(feature_set, alpha=None, reranking=ReRanking(), draws=0)
    assert better.mAP_standard > plain.mAP_standard + 0.05
    assert better.protocol["reranking"] == {"k1": 20, "k2": 6, "weight": 0.3}


def test_settings_that_cannot_be():
    for settings_ in ({"k1": 0}, {"k2": 0}, {"weight": 1.5}):
        with pytest.raises(UserError, match="would be right"):
            ReRanking(**settings_)
    with pytest.raises(UserError, match="k1 20 needs more than 20 images: there are 6"):
        rerank(prepare(clustered(2, 4), Comparison(None)), ReRanking())


def test_query_expansion_by_hand():
    query = Features(np.array([[1.0, 0.0]], np.float32), np.array([1]), np.array([1]))
    gallery = Features(
        np.array([[0.6, 0.8], [0.8, 0.6], [-1, 0]], np.float32), np.array([1, 2, 3]), np.array([2, 2, 2])
    )
    prepared = prepare(FeatureSet(query, gallery), Comparison(None))
    one = prepared.expanded(1).query.tensor()
    assert one.tolist() == [pytest.approx([1.8 / math.sqrt(3.6), 0.6 / math.sqrt(3.6)])]
    two = replace(prepared, how=Comparison(None, "euclidean")).expanded(2).query.tensor()
    assert two.tolist() == [pytest.approx([2.4 / 3, 1.4 / 3])]
    assert prepared.query.tensor().tolist() == [[1.0, 0.0]]
