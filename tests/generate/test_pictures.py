"""What `dgnet generate` writes for the eye: larger, with names, apart, one by one; and the two ways between codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import code_of
from PIL import Image

import dgnet
from dgnet.errors import UserError
from dgnet.generate import edit
from dgnet.generate.edit import between
from dgnet.images import sheets
from dgnet.models.dgnet import DGNet


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    chance = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("anna", "carl", "dora")]
    for path in paths:
        Image.fromarray(chance.integers(256, size=(32, 16, 3), dtype=np.uint8)).save(path)
    return paths


def test_the_arc_keeps_what_the_line_shortens() -> None:
    start, end = torch.tensor([3.0, 0]), torch.tensor([0, 3.0])
    line, arc = between(start, end, 5), between(start, end, 5, "spherical")
    assert torch.allclose(arc.norm(dim=1), torch.full((5,), 3.0))
    assert line[2].norm() < 2.2
    for path in (line, arc):
        assert torch.allclose(path[0], start, atol=1e-6)
        assert torch.allclose(path[-1], end, atol=1e-6)
    angles = torch.atan2(arc[:, 1], arc[:, 0])
    assert torch.allclose(angles.diff(), torch.full((4,), torch.pi / 8), atol=1e-5)
    longer = between(start, 3 * end, 3, "spherical")
    assert longer[1].norm() == pytest.approx(6)
    assert torch.equal(between(start, 2 * start, 3, "spherical"), between(start, 2 * start, 3))
    with pytest.raises(UserError, match="'linear' or 'spherical' would be right"):
        between(start, end, 3, "round")  # type: ignore[arg-type]


def test_an_arc_between_structures_keeps_its_shape() -> None:
    start, end = torch.randn(2, 4, 8, 4, generator=torch.Generator().manual_seed(0))
    arc = between(start, end, 3, "spherical")
    assert arc.shape == (3, 4, 8, 4)
    assert torch.allclose(arc[-1], end, atol=1e-5)


def test_pictures_are_enlarged_set_apart_and_labelled(
    weights: Path, photos: list[Path], tmp_path: Path, capsys: Any
) -> None:
    made = ("generate", "grid", weights, tmp_path / "grid.png", "--structures", *photos[:2], "--appearances", photos[2])
    device = ("--device", "cpu")
    assert code_of(*made, *device) == 0
    plain = Image.open(tmp_path / "grid.png").size
    assert code_of(*made, *device, "--scale", 4, "--border", 2) == 0
    width, height = Image.open(tmp_path / "grid.png").size
    assert (width, height) == (3 * 64 + 4 * 8 + 8, 2 * 128 + 4 * 8)
    assert code_of(*made, *device, "--labels", "--scale", 4, "--border", 2) == 0
    labelled = np.asarray(Image.open(tmp_path / "grid.png"))
    assert labelled.shape[0] == height + 18
    assert labelled.shape[1] > width
    band = labelled[:18, labelled.shape[1] - width :]
    columns = [band[:, start : start + 64] for start in (64 + 32, 2 * 64 + 40)]
    assert all((column < 128).any() for column in columns)  # letters above both columns
    assert (labelled[:, : labelled.shape[1] - width] < 128).any()  # and before the row
    assert (labelled[18:, labelled.shape[1] - width :][:100, :60] == 255).all()  # the corner stays empty
    assert plain[0] < width
    assert code_of(*made, *device, "--scale", 0) == 2
    assert "scale is 0: 1 to" in capsys.readouterr().err


def test_without_an_ending_each_picture_is_a_file(weights: Path, photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "single"
    given = ("--structures", *photos[:2], "--appearances", *photos, "--scale", 2, "--device", "cpu")
    assert code_of("generate", "grid", weights, out, *given) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        f"{kept}_in_{worn}.png" for kept in ("anna", "carl") for worn in ("anna", "carl", "dora")
    ]
    assert Image.open(out / "anna_in_carl.png").size == (32, 64)


def test_strips_along_the_arc(weights: Path, photos: list[Path], tmp_path: Path) -> None:
    ends = ("--start", photos[0], "--end", photos[1], "--of", "appearance", "--steps", 3, "--device", "cpu")
    for path in ("linear", "spherical"):
        assert code_of("generate", "interpolate", weights, tmp_path / f"{path}.png", *ends, "--path", path) == 0
    line, arc = (np.asarray(Image.open(tmp_path / f"{path}.png")).astype(int) for path in ("linear", "spherical"))
    assert np.abs(line[:, :16] - arc[:, :16]).max() <= 1  # the same beginning
    model = dgnet.load(weights, "cpu")
    assert isinstance(model.net, DGNet)
    ends_of = edit.appearance_codes(model.net, edit.read(photos[:2], 32, 16))
    middle = between(ends_of[:1], ends_of[1:], 3, "spherical")[1]
    with torch.inference_mode():
        wanted = edit.paint(model.net, edit.structure_codes(model.net, edit.read(photos[:1], 32, 16)), middle)
    assert any(np.abs(arc[:, x : x + 16] - wanted[0].numpy()).max() <= 1 for x in range(arc.shape[1] - 15))
    assert (
        code_of("generate", "interpolate", weights, tmp_path / "arc.gif", *ends, "--path", "spherical", "--scale", 4)
        == 0
    )
    assert Image.open(tmp_path / "arc.gif").size == (64, 128)


def test_a_word_that_is_too_long_loses_its_beginning() -> None:
    sheet = np.full((20, 30, 3), 255, np.uint8)
    made = sheets.labelled(sheet, ["0002_c1s1_000451_03"], [], [0], [])
    assert made.shape == (38, 36, 3)
    assert (made[:18] < 128).any()
