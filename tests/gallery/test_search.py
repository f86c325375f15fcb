"""Embed, search, same: without anything prepared."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import dgnet
from dgnet.errors import UserError

NAMES = ("a b.jpg", "[c] (d).jpg", "照片 Ärger.jpg", "--e.jpg", "100%.jpg")


@pytest.fixture
def album(photos: list[Path], tmp_path: Path) -> Path:
    """Photos of odd kinds under odd names, at several depths."""
    folder = tmp_path / "al[b]um"
    (folder / "in ner" / "深").mkdir(parents=True)
    for photo, name in zip(photos, NAMES, strict=False):
        shutil.copy(photo, folder / name)
    picture = Image.open(photos[5]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "in ner" / "turned.jpg", exif=exif, quality=95)
    picture.convert("CMYK").save(folder / "in ner" / "print.jpg", quality=95)
    picture.convert("RGBA").save(folder / "in ner" / "深" / "clear.png")
    Image.new("RGB", (1, 1), "red").save(folder / "in ner" / "深" / "dot.png")
    (folder / "notes.txt").write_text("no photo")
    (folder / "Thumbs.db").write_bytes(b"no photo")
    (folder / ".hidden.jpg").write_bytes(b"no photo")
    return folder


def read(file: Path) -> tuple[list[str], np.ndarray[Any, Any]]:
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return arrays["names"].tolist(), arrays["features"]
    if file.suffix == ".parquet":
        table = parquet.read_table(file)
        return table["name"].to_pylist(), np.array(table["feature"].to_pylist(), np.float32)
    with file.open(encoding="utf-8", newline="") as text:
        head, *rows = csv.reader(text)
    assert head[:3] == ["name", "f0", "f1"]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)


@pytest.mark.parametrize("ending", ["npz", "parquet", "csv"])
def test_features_stand_beside_the_names_of_their_photos(
    ending: str,
    weights: Path,
    model: dgnet.Model,
    album: Path,
    photos: list[Path],
    tmp_path: Path,
    run: Callable[..., Any],
) -> None:
    out = tmp_path / f"features.{ending}"
    said = run("embed", weights, album, photos[7], "--out", out)
    assert (said.code, said.err) == (0, "")
    assert said.out == f"10 images, {model.dimensions} dimensions\nwritten: {out}\n"
    names, features = read(out)
    assert sorted(names) == sorted(
        str(path) for path in [*(p for p in album.rglob("*.*g") if p.name[0] != "."), photos[7]]
    )
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    torch.testing.assert_close(torch.from_numpy(features), model.embed(names), rtol=0, atol=1e-5)
    assert [f"{row @ row:.3f}" for row in features] == ["1.000"] * 10


def test_a_file_given_twice_is_one(weights: Path, photos: list[Path], tmp_path: Path, run: Callable[..., Any]) -> None:
    run("embed", weights, photos[0], photos[0].parent, photos[0], "--out", tmp_path / "f.npz")
    names, _ = read(tmp_path / "f.npz")
    assert len(names) == len(set(names)) == len(list(photos[0].parent.glob("*.jpg")))


def test_what_cannot_be_embedded_is_one_line_and_leaves_nothing(
    weights: Path, album: Path, tmp_path: Path, refused: Callable[..., str], run: Callable[..., Any]
) -> None:
    out = tmp_path / "f.npz"
    assert refused("embed", weights, album, "--out", tmp_path / "f.txt") == (
        f"{tmp_path / 'f.txt'}: features are written as .npz, .parquet, .csv"
    )
    assert refused("embed", weights, tmp_path / "gone", "--out", out).endswith("gone: no such file or folder")
    (tmp_path / "none").mkdir()
    assert "no images anywhere in this folder" in refused("embed", weights, tmp_path / "none", "--out", out)
    assert refused("embed", weights, "--out", out) == "embed: give photos, or folders of photos"
    bad = album / "broken.jpg"
    bad.write_bytes(b"\xff\xd8 no photo")
    Image.new("1", (20000, 20000)).save(album / "huge.png")
    assert f"{bad}: truncated or not an image" in refused("embed", weights, album, "--out", out)
    assert not out.exists()
    said = run("embed", weights, album, "--out", out, "--on-unreadable", "skip")
    assert said.code == 0
    assert "left out 2 of 11 images, which cannot be read" in said.err
    assert f"{bad}: " in said.err
    assert f"{album / 'huge.png'}: more than 100 million pixels; save it smaller" in said.err
    assert len(read(out)[0]) == 9


def test_a_photo_is_found_first_in_its_own_folder(
    weights: Path, model: dgnet.Model, album: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    for name in NAMES:
        first, second = model.search(album / name, album, top=2)
        assert (first.place, Path(first.name).name) == (1, name)
        assert abs(first.score - 1) < 1e-5
        assert second.score < first.score
    said = run(
        "search",
        weights,
        album / NAMES[1],
        album,
        "--top",
        3,
        "--json",
        tmp_path / "m.json",
        "--sheet",
        tmp_path / "s.png",
    )
    assert said.code == 0
    head, first, *_ = said.out.splitlines()
    assert head.split() == ["place", "score", "name"]
    assert first.split(maxsplit=2) == ["1", "1.000", str(album / NAMES[1])]
    assert "dgnet calibrate" in said.out
    written = json.loads((tmp_path / "m.json").read_text())
    assert [match["place"] for match in written["matches"]] == [1, 2, 3]
    assert written["matches"][0]["name"] == str(album / NAMES[1])
    height, width = model.size
    assert Image.open(tmp_path / "s.png").size == (10 * (width + 4) - 4, 2 * (height + 4) - 4)


def test_a_search_ranks_as_the_dot_product_does(model: dgnet.Model, photos: list[Path], people: Path) -> None:
    folder = people / "bounding_box_test"
    names = sorted(folder.glob("*.jpg"))
    alike = model.embed(photos[:1]).double() @ model.embed(names).double().T
    found = model.search(photos[0], folder, top=len(names))
    wanted = [str(names[place]) for place in alike[0].argsort(descending=True, stable=True)]
    assert [match.name for match in found] == wanted


def test_several_photos_of_one_person_ask_as_their_mean(model: dgnet.Model, photos: list[Path], people: Path) -> None:
    found = model.search(photos[:3], people / "query", top=1)[0]
    mean = model.embed(photos[:3]).mean(0)
    assert found.score == pytest.approx(float(model.embed(found.name)[0] @ (mean / mean.norm())), abs=1e-5)


def test_searches_that_cannot_be_are_told(model: dgnet.Model, photos: list[Path], people: Path) -> None:
    with pytest.raises(UserError, match="query: no photos are given"):
        model.search([], people)
    with pytest.raises(UserError, match="top is 0: 1 or more would be right"):
        model.search(photos[0], people, top=0)


def test_the_same_photo_is_alike_and_a_model_without_a_threshold_says_how_to_find_one(
    weights: Path, model: dgnet.Model, photos: list[Path], run: Callable[..., Any]
) -> None:
    told = model.same(photos[0], photos[0])
    assert told.answer is None
    assert told.score == pytest.approx(1, abs=1e-5)
    said = run("same", weights, photos[0], photos[0])
    assert said.code == 0
    assert said.out.startswith("score 1.000; no decision, since the model has no threshold: dgnet calibrate MODEL")
