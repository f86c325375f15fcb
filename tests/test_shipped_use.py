"""Every command on the model that comes with dgnet: what a newcomer types first, on people drawn a moment before."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command import code_of
from PIL import Image

import dgnet
from dgnet.drawn.dataset import synthesize


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `people`, a name that the model's own training data had, too."""
    folder = tmp_path_factory.mktemp("here")
    synthesize(folder / "people", identities=6, test_identities=4, cameras=2, images_per_camera=2, seed=41)
    return folder


@pytest.fixture(autouse=True)
def inside(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


@pytest.fixture(scope="module")
def query(here: Path) -> list[str]:
    return [str(path.relative_to(here)) for path in sorted((here / "people" / "query").glob("*.jpg"))]


def test_search_same_and_embed(query: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = Path(query[0]).name[:4]
    assert code_of("search", "drawn", query[0], "people/bounding_box_test", "--json", tmp_path / "found.json",
                   "--sheet", tmp_path / "found.png", "--top", 3) == 0  # fmt: skip
    found = json.loads((tmp_path / "found.json").read_text())
    assert Path(found["matches"][0]["name"]).name[:4] == wanted
    assert found["matches"][0]["same"] in ("yes", "no", "unsure")
    assert Image.open(tmp_path / "found.png").width > 10 * 64
    capsys.readouterr()
    assert code_of("same", "drawn", query[0], query[0]) == 0
    assert capsys.readouterr().out.startswith("yes: score 1.000")
    assert code_of("embed", "drawn", "people/query", "--out", tmp_path / "f.npz") == 0
    with np.load(tmp_path / "f.npz") as held:
        assert np.allclose(np.linalg.norm(held["features"], axis=1), 1, atol=1e-5)
        assert len(held["names"]) == len(query)
    assert code_of("search", "drawn", query[0], "people", "--sheet", tmp_path / "found.bmp") == 2
    assert "pictures are written as .png or .jpg" in capsys.readouterr().err


def test_a_gallery(query: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("gallery", "build", "drawn", "--data", "people", "--out", tmp_path / "g") == 0
    assert code_of("gallery", "search", tmp_path / "g", query[0], "--camera", 2, "--json", tmp_path / "m.json") == 0
    found = json.loads((tmp_path / "m.json").read_text())
    assert {match["about"]["camera"] for match in found["matches"]} == {"2"}
    assert found["gallery"] == str(tmp_path / "g")
    assert found["lost"] == []
    assert code_of("gallery", "add", tmp_path / "g", "people/query") == 0
    assert code_of("gallery", "remove", tmp_path / "g", query[0]) == 0
    assert code_of("gallery", "compact", tmp_path / "g") == 0
    capsys.readouterr()
    assert code_of("gallery", "info", tmp_path / "g") == 0
    assert "model: drawn" in capsys.readouterr().out


def test_pictures_a_film_and_a_data_set(query: list[str], tmp_path: Path) -> None:
    a, b = query[0], query[-1]
    assert code_of("generate", "swap", "drawn", tmp_path / "swap.png", "--scale", 2, "--images", a, b) == 0
    assert Image.open(tmp_path / "swap.png").size == (2 * (4 * 64 + 3 * 2), 2 * 128)
    ends = ("--start", a, "--end", b, "--of", "appearance", "--steps", 3)
    for name in ("strip.png", "walk.gif"):
        assert code_of("generate", "interpolate", "drawn", tmp_path / name, *ends) == 0
        assert (tmp_path / name).stat().st_size > 1000
    assert code_of("generate", "grid", "drawn", tmp_path / "cells", "--structures", a, b, "--appearances", b) == 0
    assert len(list((tmp_path / "cells").glob("*.png"))) == 2
    assert code_of("generate", "dataset", "drawn", tmp_path / "made", "--data", "people", "--per-identity", 2) == 0
    with (tmp_path / "made" / "provenance.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 2 * 2
    assert code_of("score", "people", tmp_path / "made", "--teacher", "drawn", "--json", tmp_path / "s.json") == 0
    scored = json.loads((tmp_path / "s.json").read_text())
    assert "FD-lite2" in scored["figures"]
    assert not any("FID" in name for name in scored["figures"])


def test_an_export_is_the_model_and_its_card_knows_its_people_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript", reason="needs dgnet[export]")
    assert code_of("export", "drawn", "--out", tmp_path / "drawn.onnx", "--check", "people") == 0
    assert "drawn.onnx and the model, on people" in capsys.readouterr().out
    card = (tmp_path / "drawn.onnx.md").read_text()
    assert "Trained on 240 people." in card
    assert "Licence of the data: drawn by dgnet: it shows nobody" in card
    assert "Market-1501 is given out" not in card
    for batch in (1, 7, 32):
        assert f"\n| {batch} | " in card
    assert "| mAP | " in card


def test_a_folder_that_is_called_as_its_data_were_is_not_taken_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("export", "drawn", "--out", tmp_path / "drawn.onnx") == 2
    assert "--check: say on which photos" in capsys.readouterr().err
    assert code_of("generate", "dataset", "drawn", tmp_path / "made") == 2
    assert "say where the data set is, as --data FOLDER" in capsys.readouterr().err
    assert code_of("evaluate", "drawn", "--data", "people", "--neighbours", 2, "--verification") == 0
    told = capsys.readouterr()
    assert "were trained on" not in told.err
    assert told.err.count("layout market1501") == 1  # the data are read, and embedded, once
    assert told.out.count("centralised over plain features: mAP") == 3


def test_the_fingerprint_is_that_of_the_weights_as_they_are(query: list[str]) -> None:
    model = dgnet.load("drawn", "cpu")
    before = model.fingerprint
    assert model.fingerprint == before
    weights = next(model.net.appearance.parameters())
    weights.detach().mul_(2)
    assert model.fingerprint != before
    with pytest.raises(dgnet.UserError, match=r"was calibrated .* with another model or other weights"):
        model.same(query[0], query[0])
    weights.detach().div_(2)
    assert model.fingerprint == before
    weights.data.add_(0.01)  # which no counter of torch's sees
    assert model.fingerprint != before
    assert model.card().threshold is None
