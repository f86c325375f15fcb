"""The model that comes with dgnet: small, of drawn people, and what its card and docs/results.md say it is."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dgnet
from dgnet import config as configuration
from dgnet.datasets.read import read_dataset
from dgnet.drawn.dataset import synthesize
from dgnet.evaluate.protocol import Reading
from dgnet.generate.quality import swap_quality
from dgnet.models.dgnet import DGNet

ROOT = Path(__file__).parents[1]
FILES = ROOT / "tests" / "files-drawn"
MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def model() -> dgnet.Model:
    return dgnet.load("drawn", "cpu")


def test_it_is_small_and_whole(model: dgnet.Model) -> None:
    file = resources.files("dgnet") / "shipped" / "drawn.safetensors"
    with resources.as_file(file) as path:
        assert path.stat().st_size <= MOST_BYTES
    assert model.generates
    assert model.size == (128, 64)
    assert isinstance(model.net, DGNet)
    assert model.net.typical is not None
    assert model.threshold is not None


def test_it_is_told_what_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    dgnet.load("drawn", "cpu")
    assert "drawn: knows drawn people only" in " ".join(capsys.readouterr().err.split())


def test_it_is_what_its_preset_trains(model: dgnet.Model) -> None:
    preset, own = configuration.load("drawn"), model.config
    assert (own.model, own.loss, own.teacher.backbone) == (preset.model, preset.loss, preset.teacher.backbone)
    assert own.train.iterations == preset.train.iterations


def test_a_swap_is_the_same_picture_on_every_machine(model: dgnet.Model) -> None:
    made = model.swap(FILES / "anna.png", FILES / "carl.png", as_tensor=True)[0].numpy().astype(int)
    kept = np.asarray(Image.open(FILES / "anna_as_carl.png").convert("RGB")).astype(int)
    assert np.abs(made - kept).max() <= 1


def test_centralised_on_none_is_plain(model: dgnet.Model) -> None:
    photo = FILES / "anna.png"
    assert torch.equal(model.embed(photo), model.embed(photo, centralise=0))
    assert model.embed(photo, centralise=8).shape == (1, model.dimensions)


@pytest.mark.slow
def test_its_figures_are_those_that_are_told(model: dgnet.Model, tmp_path: Path) -> None:
    told = json.loads((FILES / "figures.json").read_text())
    size = {"identities": 102, "test_identities": 100, "cameras": 6, "images_per_camera": 2}
    factors = synthesize(tmp_path / "fresh", **size, seed=99)
    ranking = model.evaluate(tmp_path / "fresh", reading=Reading())[0].figures()
    assert ranking == pytest.approx(told["ranking"], abs=0.005)
    swaps, _ = swap_quality(model.net, read_dataset(tmp_path / "fresh").query, factors)  # type: ignore[arg-type]
    for method, figures in told["swaps"].items():
        assert swaps[method]["PSNR"] == pytest.approx(figures["PSNR"], abs=0.05), method
        assert swaps[method]["SSIM"] == pytest.approx(figures["SSIM"], abs=0.003), method
    page = (ROOT / "docs" / "results.md").read_text()
    for figure in (f"{100 * ranking['rank1']:.1f}", f"{swaps['DG-Net swap']['PSNR']:.2f}"):
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", page), figure
