"""Results on paper: JSON and back, tables, several runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from dgnet import console
from dgnet.errors import UserError
from dgnet.evaluate.compare import compare, names_of
from dgnet.evaluate.evaluation import evaluate
from dgnet.evaluate.results import load_all, load_results, save_all
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


def side_by_side(runs, names=()):
    return "\n".join(map(shown, compare(runs, names)))


def test_runs_side_by_side(feature_set):
    runs = [evaluate(feature_set, alpha=alpha, name=f"alpha {alpha}") for alpha in (0.5, 0)]
    text = side_by_side(runs)
    for part in ("alpha 0.5", "mAP (standard)", "95 %"):
        assert part in text
    change = 100 * (runs[1].mAP_standard - runs[0].mAP_standard)
    assert f"{change:+.2f} [" in text
    other = evaluate(feature_set, divisor="valid")
    assert "+" not in side_by_side([runs[0], other])
    assert "valid" in side_by_side([runs[0], other])
    with pytest.raises(UserError, match="at least two"):
        compare(runs[:1])


def test_a_run_differs_from_itself_by_nothing(feature_set):
    run = evaluate(feature_set)
    assert "+0.00 [+0.00, +0.00]" in side_by_side([run, run])


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


def test_seeds_are_taken_together(feature_set):
    runs = [evaluate(feature_set, alpha=alpha) for alpha in (0.5, 0.4, 0.0, 0.1)]
    text = side_by_side(runs, ["joint-seed0", "joint-seed1", "alone-0", "alone-1"])
    assert "joint (2)" in text
    assert "alone (2)" in text
    means = [np.mean([run.mAP_standard for run in runs[k : k + 2]]) for k in (0, 2)]
    assert f"{100 * means[0]:.2f} ± " in text
    assert f"{100 * (means[1] - means[0]):+.2f} [" in text
    with pytest.raises(UserError, match="--names: 1 given for 4 evaluations"):
        compare(runs, ["one"])


def test_twelve_runs_fit_eighty_columns(feature_set):
    run = evaluate(feature_set)
    with console.stdout.capture() as captured:
        console.stdout.size = (80, 25)
        for table in compare([run] * 12, [f"market-joint-{k}" for k in range(12)]):
            console.stdout.print(table, soft_wrap=False)
    assert max(map(len, captured.get().splitlines())) <= 80


def test_names_are_those_of_the_runs_folders():
    assert names_of([Path("runs/a/e.json"), Path("runs/b/e.json")]) == ["a", "b"]
    assert names_of([Path("runs/a/e.json"), Path("runs/a/f.json")]) == ["e", "f"]
    assert names_of([Path("x/a/e.json"), Path("y/a/e.json"), Path("y/b/e.json")]) == ["x/a", "y/a", "y/b"]
    assert names_of([Path("x/a/e.json"), Path("x/a/e.json"), Path("y/b/f.json")]) == ["a/e (1)", "a/e (2)", "b/f"]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["seed0", "seed1"], ["seeds (2)"]),
        (["joint/seed0", "joint/seed1", "alone/seed0", "alone/seed1"], ["joint (2)", "alone (2)"]),
        (["joint_s1", "joint_s2"], ["joint (2)"]),
        (["market1501", "market1601"], []),
        (["resnet50", "resnet101"], []),
        (["alpha 0.5", "alpha 0.6"], []),
    ],
)
def test_what_counts_as_seeds_of_one(feature_set, names, groups):
    run = evaluate(feature_set)
    text = side_by_side([run] * len(names), names)
    assert ("seeds together" in text) == bool(groups)
    assert all(group in text for group in groups)


def test_every_alpha_is_kept(feature_set, tmp_path):
    runs = [evaluate(feature_set, alpha=alpha, name=f"alpha {alpha}") for alpha in (0.5, 0, -1)]
    save_all(runs, tmp_path / "all.json")
    assert [run.name for run in load_all(tmp_path / "all.json")] == ["alpha 0.5", "alpha 0", "alpha -1"]
    assert load_results(tmp_path / "all.json").figures() == runs[0].figures()
    assert json.loads((tmp_path / "all.json").read_text())["figures"] == runs[0].figures()
    runs[0].save(tmp_path / "one.json")
    assert len(load_all(tmp_path / "one.json")) == 1


def test_any_value_of_the_wrong_kind_is_one_line(feature_set, tmp_path):
    run = evaluate(feature_set, verification=True, camera_pairs=True, draws=9)
    written, path = json.loads(run.to_json()), tmp_path / "run.json"
    places = [(key,) for key in written] + [
        ("ap_standard", 0), ("first_hit", 0), ("ranks", 0), ("intervals", "rank1"), ("figures", "rank1"),
        ("provenance", "labels"), ("verification", "tpr_at"), ("verification", "curve_tpr"), ("camera_pairs", 0),
    ]  # fmt: skip
    read_ones = 0
    for *above, last in places:
        for value in (None, True, -1, 2, 0.5, float("nan"), 1e300, 10**30, "", "1", [], [[1]], {}, {"a": "1"}):
            changed = json.loads(json.dumps(written))
            inside = changed[above[0]] if above else changed
            inside[last] = value
            path.write_text(json.dumps(changed))
            try:
                read = load_results(path)
            except UserError as error:
                said = str(error)
            else:
                read_ones += 1
                said = str(path)
                shown(read.table())
                shown(read.camera_table())
                assert side_by_side([run, read])
                assert read.figures() == run.figures()
            assert said.startswith(str(path))
            assert "\n" not in said
    assert read_ones  # another name, say, is no damage


JSON: list[bytes] = []  # of one evaluation, made once


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), st.floats(0, 1))
def test_a_damaged_file_is_read_or_refused_in_one_line(feature_set, tmp_path, changes, cut):
    if not JSON:
        JSON.append((evaluate(feature_set, verification=True, draws=9).to_json() + "\n").encode())
    data = bytearray(JSON[0])
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    path = tmp_path / "damaged.json"
    path.write_bytes(bytes(data[: int(cut * len(data))] if cut < 0.5 else data))
    try:
        read = load_results(path)
        read.table()
    except UserError as error:
        said = str(error)
    else:
        said = str(path)
    assert said.startswith(str(path))
    assert "\n" not in said
