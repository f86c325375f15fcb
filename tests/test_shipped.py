"""The model that comes with dgnet: small, of drawn people, and what its card and docs/results.md say it is."""

from __future__ import annotations

import json
from dataclasses import replace
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
    here = replace(own.data, root=preset.data.root, layout=preset.data.layout)
    assert replace(own, data=here) == preset


def test_a_swap_is_the_same_picture_on_every_machine(model: dgnet.Model) -> None:
    made = model.swap(FILES / "anna.png", FILES / "carl.png", as_tensor=True)[0].numpy().astype(int)
    kept = np.asarray(Image.open(FILES / "anna_as_carl.png").convert("RGB")).astype(int)
    assert np.abs(made - kept).max() <= 1


def test_centralised_on_none_is_plain(model: dgnet.Model) -> None:
    photo = FILES / "anna.png"
    assert torch.equal(model.embed(photo), model.embed(photo, centralise=0))
    assert model.embed(photo, centralise=8).shape == (1, model.dimensions)


def test_card_and_pages_tell_its_figures() -> None:
    told = json.loads((FILES / "figures.json").read_text())
    ranking, swaps = told["ranking"], told["swaps"]
    card = (resources.files("dgnet") / "shipped" / "drawn.safetensors.md").read_text()
    for key, word in (
        ("rank1", "rank-1"),
        ("rank5", "rank-5"),
        ("rank10", "rank-10"),
        ("mAP_standard", "mAP (standard)"),
    ):
        assert f"| {word} | {100 * ranking[key]:.2f} |" in card
    for method, row in swaps.items():
        assert f"| {method} | {row['PSNR']:.2f} | {row['SSIM']:.3f} |" in card
    ours, copy = swaps["DG-Net swap"], swaps["copy of the structure image"]
    readme, page = ((ROOT / name).read_text() for name in ("README.md", "docs/results.md"))
    assert f"{100 * ranking['rank1']:.1f} % of 600 queries" in readme
    assert f"mAP {100 * ranking['mAP_standard']:.1f}" in readme
    assert f"{ours['PSNR']:.2f} dB and SSIM {ours['SSIM']:.3f}" in readme
    assert f"{copy['PSNR']:.2f} dB and {copy['SSIM']:.3f}" in readme
    ranked = " | ".join(f"{100 * ranking[key]:.1f}" for key in ("rank1", "rank5", "mAP_standard"))
    assert f"| `drawn`, alpha 0.5 | {ranked} |" in page
    for name, row in (("`drawn`", ours), ("copy of the structure image", copy)):
        assert f"| {name} | {row['PSNR']:.2f} | {row['SSIM']:.3f} |" in page


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
