"""Yes, no or unsure: a threshold that is found on a data set, kept with its model, and refused with another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import dgnet
from dgnet.errors import UserError
from dgnet.evaluate.results import load_results
from dgnet.weights.files import save_model

FAR = ("--far", "0.05")


@pytest.fixture
def mine(weights: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(weights, tmp_path / "mine.safetensors"))


def test_a_threshold_is_kept_with_the_model_and_every_search_decides_by_it(
    mine: Path, people: Path, photos: list[Path], tmp_path: Path, run: Callable[..., Any]
) -> None:
    said = run("calibrate", mine, "--data", people, *FAR)
    assert said.code == 0
    assert said.out.startswith("threshold ")
    assert said.out.endswith(f"written: {mine}\n")
    model = dgnet.load(mine)
    threshold = model.threshold
    assert threshold is not None
    assert (threshold.far, threshold.model) == (0.05, model.fingerprint)
    scores = [model.same(photos[0], photo) for photo in photos[::3]]
    assert scores[0].answer == "yes"
    assert {same.answer for same in scores} > {"yes"}
    for same in scores:
        assert same.answer == threshold.decide(same.score)
    assert run("same", mine, photos[0], photos[0]).out.startswith("yes: score 1.000, threshold ")

    searched = run("search", mine, photos[0], photos[0].parent, "--top", 30, "--json", tmp_path / "m.json")
    assert "same person" in searched.out.splitlines()[0]
    assert searched.out.splitlines()[1].split()[2] == "yes"
    assert f"threshold {threshold.value:.3f}, for 0.05 false accepts on {people.name}" in searched.out
    read = json.loads((tmp_path / "m.json").read_text())
    assert read["threshold"] == threshold.to_dict()
    assert [m["same"] for m in read["matches"]] == [threshold.decide(m["score"]) for m in read["matches"]]

    run("gallery", "build", mine, photos[0].parent, "--out", tmp_path / "g")
    searched = run("gallery", "search", tmp_path / "g", photos[0])
    assert searched.out.splitlines()[1].split()[2] == "yes"


def test_calibrating_changes_no_gallery(
    mine: Path, people: Path, photos: list[Path], tmp_path: Path, run: Callable[..., Any]
) -> None:
    run("gallery", "build", mine, photos[0].parent, "--out", tmp_path / "g")
    assert "no decision, since the model has no threshold" in run("gallery", "search", tmp_path / "g", photos[0]).out
    run("calibrate", mine, "--data", people, *FAR)
    assert "same person" in run("gallery", "search", tmp_path / "g", photos[0]).out


def test_another_file_may_be_written_and_the_model_is_as_it_was(
    mine: Path, people: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    before = mine.read_bytes()
    assert run("calibrate", mine, "--data", people, *FAR, "--out", tmp_path / "out.safetensors").code == 0
    assert mine.read_bytes() == before
    with safe_open(mine, "pt") as old, safe_open(tmp_path / "out.safetensors", "pt") as new:
        assert set(old.keys()) == set(new.keys())
        assert all(torch.equal(old.get_tensor(key), new.get_tensor(key)) for key in old.keys())  # noqa: SIM118
    assert dgnet.load(mine).threshold is None
    assert dgnet.load(mine).fingerprint == dgnet.load(tmp_path / "out.safetensors").fingerprint


def test_a_threshold_of_another_model_is_refused(
    mine: Path, other_weights: Path, people: Path, photos: list[Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    model, other = dgnet.load(mine), dgnet.load(other_weights)
    threshold = model.calibrate(people, far=0.05)
    with pytest.raises(UserError, match=r"calibrated .* with another model or other weights"):
        other.threshold = threshold
    assert other.threshold is None
    file = tmp_path / "forged.safetensors"
    save_model(file, other.net, other.config, "joint", [], threshold.to_dict())
    forged = dgnet.load(file)
    for ask in (
        lambda: forged.same(photos[0], photos[1]),
        lambda: forged.search(photos[0], photos[0].parent),
        lambda: forged.threshold,
    ):
        with pytest.raises(UserError, match="dgnet calibrate MODEL --data FOLDER"):
            ask()
    assert "with another model or other weights" in refused("same", file, photos[0], photos[1])
    assert forged.embed(photos[0]).shape == (1, forged.dimensions)
    forged.calibrate(people, far=0.05)
    assert forged.same(photos[0], photos[0]).answer == "yes"


def test_a_model_that_has_changed_is_saved_without_its_threshold(
    mine: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = dgnet.load(mine)
    model.calibrate(people, far=0.05)
    assert dgnet.load(model.save(tmp_path / "same.safetensors")).threshold == model.threshold
    with torch.no_grad():
        next(iter(model.net.appearance.parameters())).mul_(1.5)
    capsys.readouterr()
    changed = dgnet.load(model.save(tmp_path / "changed.safetensors"))
    assert changed.threshold is None
    assert "written without a threshold" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", [[], {"value": 0.5}])
def test_a_damaged_threshold_is_one_line(mine: Path, tmp_path: Path, threshold: Any) -> None:
    model = dgnet.load(mine)
    file = tmp_path / "damaged.safetensors"
    from dgnet.weights import files

    about = files.save

    def save(tensors: Any, metadata: dict[str, str]) -> bytes:
        return about(tensors, {"dgnet": json.dumps(json.loads(metadata["dgnet"]) | {"threshold": threshold})})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "save", save)
        model.save(file)
    with pytest.raises(UserError, match=r"damaged\.safetensors: its (description|threshold)"):
        dgnet.load(file)


def test_evaluation_says_what_the_threshold_is_worth(
    mine: Path, people: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    said = run("evaluate", mine, "--data", people, "--verification")
    assert "open set" not in said.out
    model = dgnet.load(mine)
    found = model.calibrate(people, far=0.05)
    model.save(mine)
    said = run("evaluate", mine, "--data", people, "--verification", "--json", tmp_path / "r.json")
    assert "open set: strangers accepted" in said.out
    assert found.data == people.name
    assert f"for 0.05 false accepts on {people.name}" in said.out
    results = load_results(tmp_path / "r.json")
    judged = results.decisions
    assert judged is not None
    assert judged.false_accepts <= 0.05
    assert judged.true_accepts == pytest.approx(found.tar)
    assert judged.strangers > 0
    assert judged.residents > 0
    assert results.to_json() == load_results(tmp_path / "r.json").to_json()
    assert "open set" not in run("evaluate", mine, "--data", people).out


def test_what_cannot_be_calibrated_is_told(
    mine: Path, people: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pairs of different people at least" in refused("calibrate", mine, "--data", people, "--far", "1e-7")
    assert "a false-accept rate between 0 and 1" in refused("calibrate", mine, "--data", people, "--far", "3")
    assert "does not exist" in refused("calibrate", mine, "--data", tmp_path / "gone")
    assert "--out FILE.safetensors says where" in refused("calibrate", "hub:anna/people", "--data", people)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn").mkdir()  # which is not the model of that name
    assert "--out FILE.safetensors says where" in refused("calibrate", "drawn", "--data", people)
    assert dgnet.load(mine).threshold is None


def test_a_threshold_is_a_value_that_is_compared_and_changed_by_copies(mine: Path, people: Path) -> None:
    model = dgnet.load(mine)
    found = model.calibrate(people, far=0.05)
    model.threshold = replace(found, low=found.value, high=found.value)
    assert model.threshold == replace(found, low=found.value, high=found.value)
    model.threshold = None
    assert model.threshold is None
