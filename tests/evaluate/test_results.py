"""Results on paper: JSON and back, tables, several runs side by side."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from dgnet.errors import UserError
from dgnet.evaluate.ranking import evaluate
from dgnet.evaluate.results import compare, load_results
from dgnet.retrieval.feature_sets import Features, FeatureSet


@pytest.fixture(scope="module")
def feature_set() -> FeatureSet:
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((10, 8))

    def part(count):
        identities = generator.integers(-1, 10, count)
        values = centres[identities] + generator.standard_normal((count, 8))
        return Features(values.astype(np.float32), identities, generator.integers(1, 4, count))

    return FeatureSet(part(40), part(200))


def shown(table) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table)
    return " ".join(console.export_text().split())


def test_json_and_back(feature_set, tmp_path):
    first = evaluate(
        feature_set,
        verification=True,
        camera_pairs=True,
        name="a run",
        ranks=(1, 20),
        provenance={"weights": "abc", "data": {"name": "x"}},
    )
    first.save(tmp_path / "new" / "run.json")
    again = load_results(tmp_path / "new" / "run.json")
    assert again.to_json() == first.to_json()
    assert again.figures() == first.figures()
    assert np.array_equal(again.cmc, first.cmc)
    assert again.verification.tpr_at == first.verification.tpr_at
    assert again.camera_pairs == first.camera_pairs
    written = json.loads(first.to_json())
    assert written["figures"]["mAP_trapezoid"] == first.mAP_trapezoid
    assert set(written["provenance"]) == {"labels", "versions", "weights", "data"}
    assert {"alpha", "metric", "multi_query", "expand", "reranking", "same camera"} < set(written["protocol"])
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["run.json"]


def test_figures_are_the_means_of_their_queries(feature_set):
    for divisor in ("all", "valid"):
        results = evaluate(feature_set, divisor=divisor)
        for key, (low, high) in results.intervals.items():
            assert low < results.figures()[key] < high
        assert results.cmc[9] == results.rank[10] == results.figures()["rank10"]


def test_every_table_names_both_maps_and_the_divisor(feature_set):
    results = evaluate(feature_set, verification=True, camera_pairs=True)
    text = shown(results.table())
    for part in (
        "mAP (standard)",
        "mAP (trapezoid)",
        "divisor all queries",
        "same camera left out",
        "TPR at FPR 0.0001",
    ):
        assert part in text
    assert f"{100 * results.mAP_standard:.2f}" in text
    assert f"{results.valid_queries} / 40" in text
    grid = shown(results.camera_table())
    pair = results.camera_pairs[0]
    assert f"{100 * pair.rank1:.1f}/{100 * pair.mAP_standard:.1f}" in grid


def test_runs_side_by_side(feature_set):
    runs = [evaluate(feature_set, alpha=alpha, name=f"alpha {alpha}") for alpha in (0.5, 0)]
    text = shown(compare(runs))
    for part in ("alpha 0.5", "mAP (standard)", "mAP (trapezoid)", "against the first"):
        assert part in text
    change = 100 * (runs[1].mAP_standard - runs[0].mAP_standard)
    assert f"{change:+.2f} [" in text
    other = evaluate(feature_set, divisor="valid")
    assert "against the first" not in shown(compare([runs[0], other]))
    assert "valid" in shown(compare([runs[0], other]))
    with pytest.raises(UserError, match="at least two"):
        compare(runs[:1])


def test_a_run_differs_from_itself_by_nothing(feature_set):
    run = evaluate(feature_set)
    assert "+0.00 [+0.00, +0.00]" in shown(compare([run, run]))


def test_a_file_that_is_no_evaluation(tmp_path):
    path = tmp_path / "run.json"
    with pytest.raises(UserError, match="no such file"):
        load_results(path)
    for content in ("", "[]", "{}", '{"format": 1}'):
        path.write_text(content)
        with pytest.raises(UserError, match="not the JSON of an evaluation"):
            load_results(path)
    path.write_text('{"format": 99}')
    with pytest.raises(UserError, match="another format"):
        load_results(path)
