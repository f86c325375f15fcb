"""Drawn pairs as a benchmark of any generator: the truth is perfect, copies are not, each factor changes one thing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import code_of
from PIL import Image

from dgnet import config
from dgnet.drawn import pairs as drawn_pairs
from dgnet.drawn.dataset import draw_people
from dgnet.drawn.pairs import FACTORS, Pair, pairs
from dgnet.generate.fidelity import Benchmark, fidelity, write_benchmark
from dgnet.models.dgnet import DGNet
from dgnet.weights.files import save_model


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return write_benchmark(tmp_path_factory.mktemp("data") / "pairs", count=12, height=64, width=32)


def test_the_truth_is_perfect_and_the_structure_photo_is_nobody(benchmark: Benchmark) -> None:
    found = fidelity(benchmark, benchmark.folder / "truth")
    assert set(found.factors) == {*FACTORS, "all pairs"}
    for row in found.factors.values():
        assert (row["PSNR"], row["SSIM"], row["identity"]) == (math.inf, pytest.approx(1), 1)
    copied = fidelity(benchmark, benchmark.folder / "structure")
    assert all(row["identity"] == 0 and row["PSNR"] < 37 for row in copied.factors.values())
    assert copied.factors["all pairs"] == copied.baselines["copy of the structure photo"]


def visible(pair: Pair) -> float:
    """The share of places where the truth is visibly not the structure photo."""
    return float((np.abs(pair.truth.astype(int) - pair.structure) > 20).any(2).mean())


def test_each_factor_changes_what_it_says() -> None:
    """The truth has the structure photo's place; the appearance photo has it where the camera is the same."""
    made = {pair.factor: pair for pair in pairs(len(FACTORS), 3, 64, 32)}
    assert list(made) == list(FACTORS)
    changed = {name: visible(pair) for name, pair in made.items()}
    assert all(0 < share < 0.7 for share in changed.values())
    for name in ("colour", "garment", "bag"):
        assert changed[name] < changed["all"]
    border = np.s_[:4]  # the background on top, where nobody is

    def apart(name: str) -> float:
        pair = made[name]
        return float(np.abs(pair.appearance[border].astype(float) - pair.structure[border]).mean())

    assert apart("pose") < apart("camera")


FIELDS = {
    "colour": {"upper", "second", "lower", "shoes", "bag_colour"},
    "garment": {"pattern", "sleeves", "lower_kind"},
    "bag": {"bag", "bag_colour"},
}


@pytest.mark.parametrize("factor", FIELDS)
def test_a_factor_of_a_person_changes_that_and_nothing_else(factor: str) -> None:
    chance, changed = np.random.default_rng(0), set()
    for first in draw_people(chance, 60):
        other = drawn_pairs._changed(first, drawn_pairs._CHANGES[factor], chance)
        fields = {name for name, value in vars(first).items() if value != getattr(other, name)}
        assert fields
        changed |= fields
    assert changed == FIELDS[factor]


def test_the_same_seed_gives_the_same_folder(benchmark: Benchmark, tmp_path: Path) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    again = write_benchmark(tmp_path / "again", count=12, height=64, width=32)
    assert contents(again.folder) == contents(benchmark.folder)
    write_benchmark(tmp_path / "other", count=12, height=64, width=32, seed=1)
    assert contents(tmp_path / "other") != contents(benchmark.folder)


def test_pictures_of_another_format_and_size_are_read_back(benchmark: Benchmark, tmp_path: Path, capsys: Any) -> None:
    for file in (benchmark.folder / "truth").glob("*.png"):
        Image.open(file).resize((64, 128), Image.Resampling.BICUBIC).save(tmp_path / f"{file.stem}.jpg", quality=95)
    assert code_of("score", "--truth", benchmark.folder, tmp_path, "--json", tmp_path / "told.json") == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["factors"]["all pairs"]["identity"] == 1
    assert 25 < told["factors"]["all pairs"]["PSNR"] < math.inf
    (tmp_path / "0007.jpg").unlink()
    assert code_of("score", "--truth", benchmark.folder, tmp_path) == 2
    assert "1 of 12 pictures are missing, the first 0007.png (or .jpg)" in capsys.readouterr().err


def test_a_model_of_ours_is_measured_in_one_line(benchmark: Benchmark, tmp_path: Path, capsys: Any) -> None:
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", DGNet(config.load("tiny"), 4).eval(), config.load("tiny"), "joint", [])
    ours = ["score", "--truth", benchmark.folder, tmp_path / "ours", "--device", "cpu"]
    model = tmp_path / "model.safetensors"
    assert code_of(*ours, "--generator", model, "--teacher", model) == 0
    said = capsys.readouterr().out
    assert "teacher" in said
    assert len(list((tmp_path / "ours").glob("*.png"))) == 12
    assert code_of(*ours) == 0
    shutil.rmtree(tmp_path / "ours")
    assert code_of(*ours) == 2
