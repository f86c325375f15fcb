"""Clothes reliance: by hand, of models that see colour or shape alone on drawn people, and through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import code_of
from torch import Tensor

from dgnet import config
from dgnet.datasets.read import read_dataset
from dgnet.drawn.dataset import load_factors, swap_truth, synthesize
from dgnet.errors import UserError
from dgnet.evaluate.results import load_results
from dgnet.generate import edit
from dgnet.generate.clothes import Dressed, reliance, reliance_of
from dgnet.models.dgnet import DGNet
from dgnet.weights.files import save_model


def test_by_hand() -> None:
    """Two images lose 0.5 and 0.1 of their likeness with the clothes; another person has 0.2 and 0.6 of it."""

    def at(*cosines: float) -> Tensor:
        return torch.tensor([[c, (1 - c * c) ** 0.5] for c in cosines], dtype=torch.float64)

    found = reliance(at(1, 1), at(0.5, 0.9), at(0.2, 0.6))
    assert found.mean == pytest.approx(0.6 / 1.2)
    assert found.images.tolist() == pytest.approx([0.5 / 0.6, 0.1 / 0.6])
    assert found.likeness == {"in_other_clothes": pytest.approx(0.7), "another_person": pytest.approx(0.4)}
    assert found.interval[0] <= found.mean <= found.interval[1]


def test_features_that_tell_nobody_apart_are_refused() -> None:
    same = torch.ones(3, 4)
    with pytest.raises(UserError, match="the same for all people"):
        reliance(same, same, same)
    with pytest.raises(UserError, match=r"three times \[N, D\]"):
        reliance(same, same[:2], same)


def colour(pictures: Tensor) -> Tensor:
    """What someone sees who knows nothing but the colours of clothes: the mean of chest and legs."""
    x = pictures.float() / 255 - 0.5
    height, width = x.shape[1:3]
    middle = x[:, :, 3 * width // 8 : 5 * width // 8]
    chest, legs = middle[:, height // 4 : height // 2], middle[:, height // 2 : 3 * height // 4]
    return torch.cat([chest.mean((1, 2)), legs.mean((1, 2))], 1)


def shape(pictures: Tensor) -> Tensor:
    """What someone sees who is blind to colour: where something begins, as edges of any strength, coarsely."""
    gray = pictures.float().mean(3)
    down, across = gray.diff(dim=1)[:, :, 1:].abs(), gray.diff(dim=2)[:, 1:].abs()
    edges = ((down + across) > 24).float()[:, None]
    return torch.nn.functional.avg_pool2d(edges, 4).flatten(1)


def test_the_score_ranks_who_sees_colour_above_who_sees_shape(tmp_path: Path) -> None:
    """Drawn people, whose swaps are perfect: a colour-only model relies on clothes, a shape-only one hardly."""
    synthesize(tmp_path / "people", identities=14, test_identities=12, cameras=3, images_per_camera=2)
    query, factors = read_dataset(tmp_path / "people").query, load_factors(tmp_path / "people")
    rng = np.random.default_rng(0)
    i = np.arange(len(query))
    j = np.array([rng.choice(np.flatnonzero(query.identities != query.identities[k])) for k in i])
    own, other = (edit.read([query.paths[k] for k in places], 128, 64) for places in (i, j))
    drawn = [swap_truth(factors, query.paths[a], query.paths[b]) for a, b in zip(i, j, strict=True)]
    names = [str(query.paths[k]) for k in i]
    pictures = Dressed(own, torch.from_numpy(np.stack(drawn)), other, names, names)
    by_colour, by_shape = reliance_of(colour, pictures), reliance_of(shape, pictures)
    assert by_colour.interval[0] > by_shape.interval[1], (by_colour.figures(), by_shape.figures())
    assert by_colour.mean > 0.6
    assert by_shape.mean < 0.5


# The command


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=6, test_identities=3, cameras=2, images_per_camera=2, height=32, width=16)
    return folder


@pytest.fixture(scope="module")
def weights(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    torch.manual_seed(0)
    tiny = config.load("tiny", [f"data.root={people}"])
    save_model(path, DGNet(tiny, 4).eval(), tiny, "joint", [])
    return path


def test_a_model_and_features_of_any_toolkit_give_the_same(
    weights: Path, people: Path, tmp_path: Path, capsys: Any
) -> None:
    written, told, theirs = tmp_path / "dressed", tmp_path / "told.json", tmp_path / "theirs.json"
    given = ("evaluate", weights, "--clothes-reliance", weights, "--device", "cpu")
    assert code_of(*given, "--reliance-images", written, "--json", told) == 0
    said = capsys.readouterr().out
    assert "rank-1" in said
    assert "clothes reliance over 6 images" in said
    ours = load_results(told).provenance["clothes_reliance"]
    assert ours["images"] == 6

    assert code_of("embed", weights, written, "--out", tmp_path / "features.npz", "--device", "cpu") == 0
    features = ("evaluate", "--features", tmp_path / "features.npz", "--clothes-reliance", written, "--json", theirs)
    assert code_of(*features) == 0
    found = json.loads(theirs.read_text())
    assert found["clothes_reliance"] == pytest.approx(ours["clothes_reliance"], abs=1e-4)
    assert len(found["per_image"]) == 6

    identity = {path.name: path.name[:4] for path in (people / "query").glob("*.jpg")}
    for row in csv.DictReader((written / "clothes.csv").open()):
        assert identity[Path(row["photo"]).name] != identity[Path(row["clothes"]).name]
    (written / "swapped" / "0009.png").write_bytes((written / "swapped" / "0001.png").read_bytes())
    capsys.readouterr()
    assert code_of(*features) == 2
    assert "no features of 1 pictures" in capsys.readouterr().err


def test_without_a_model_the_pictures_are_written(weights: Path, tmp_path: Path, capsys: Any) -> None:
    given = ("evaluate", "--clothes-reliance", weights, "--device", "cpu")
    assert code_of(*given, "--reliance-images", tmp_path / "dressed") == 0
    assert len(list((tmp_path / "dressed").rglob("*.png"))) == 18
    assert code_of(*given, "--reliance-images", tmp_path / "dressed") == 2
    assert "not empty; give a new folder" in capsys.readouterr().err
    assert code_of(*given) == 2
    assert "give one, or --reliance-images FOLDER" in capsys.readouterr().err
    assert code_of("evaluate", weights, "--reliance-images", tmp_path / "x", "--device", "cpu") == 2
    assert "goes with --clothes-reliance GENERATOR" in capsys.readouterr().err
