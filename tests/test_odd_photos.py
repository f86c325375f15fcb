"""Photos as people have them, through the command line: the exit code, the one line, and what is left on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import Run
from PIL import Image

from dgnet import device
from dgnet.images import decode, store

LAYOUT = "pattern:{camera}/{identity}/*"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Four people, seen by two cameras: RGB, palette, CMYK, transparent; one of them lies on its side."""
    chance = np.random.default_rng(0)
    for camera in ("in", "out door"):
        for person in ("anna", "[red]bob[bold]", ":smile:", "照片"):
            folder = tmp_path / "shop" / camera / person
            folder.mkdir(parents=True)
            small = Image.fromarray(chance.integers(0, 256, (9, 5, 3), dtype=np.uint8))
            photo = small.resize((32, 64), Image.Resampling.BICUBIC)
            exif = Image.Exif()
            exif[0x0112] = 6
            photo.transpose(Image.Transpose.ROTATE_90).save(folder / "a b.jpg", exif=exif)
            photo.rotate(1).quantize(64).save(folder / "[b].png")
            photo.rotate(2).convert("CMYK").save(folder / "print.jpg")
            photo.rotate(3).convert("RGBA").save(folder / "clear.png")
    return tmp_path / "shop"


def test_all_of_them_are_clean(shop: Path, tmp_path: Path, run: Run) -> None:
    code, out, err = run("data", "check", shop, "--layout", LAYOUT, "--cache", tmp_path / "looks")
    assert (code, err) == (0, "")
    assert "clean (32 images" in out


def deep(path: Path) -> None:
    Image.fromarray(np.full((64, 32), 40_000, np.int32)).save(path, "TIFF")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def large(path: Path) -> None:
    """Larger than the limit that the test sets."""
    Image.new("1", (1000, 1001)).save(path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (deep, "I pixels, of 32 bits, whose range nothing tells; save it as 8-bit RGB or gray"),
        (cut, "truncated or not an image"),
        (large, "more than 1 million pixels; save it smaller"),
    ],
)
def test_one_that_cannot_be_used_is_named_and_nothing_is_begun(
    spoil: Callable[[Path], None],
    told: str,
    shop: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode, "MOST_PIXELS", 1_000_000)
    odd = shop / "in" / ":smile:" / "[b].png"
    spoil(odd)
    code, out, _ = run(
        "data", "check", shop, "--layout", LAYOUT, "--cache", tmp_path / "looks", "--json", tmp_path / "found.json",
    )  # fmt: skip
    assert code == 1
    assert str(odd.relative_to(shop)) in out
    assert str(odd.relative_to(shop)) in json.dumps(json.loads((tmp_path / "found.json").read_text()))

    teacher = (
        "train", "teacher", tmp_path / "run", "--config", "tiny", f"data.root={shop}", f"data.layout={LAYOUT}",
        f"data.cache={tmp_path / 'cache'}", "teacher.epochs=1", "--device", "cpu",
    )  # fmt: skip
    code, _, err = run(*teacher)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert f"{odd}: " in line
    assert told in line
    assert "on_unreadable=skip" in line
    assert not (tmp_path / "run").exists()
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != ".lock"] == []

    code, out, err = run(*teacher, "data.on_unreadable=skip")
    assert code == 0
    assert f"left out 1 of 32 images, which cannot be read: {odd}" in err
    assert (tmp_path / "run" / "teacher.safetensors").is_file()


def test_more_photos_than_memory(shop: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.available_memory is device.available_memory
    monkeypatch.setattr(store, "available_memory", lambda: 1000)
    code, _, err = run(
        "train", "teacher", tmp_path / "run", "--config", "tiny", f"data.root={shop}", f"data.layout={LAYOUT}",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 2
    assert err.splitlines()[-1].endswith("are free; keep them on disk: data.cache=FOLDER (evaluate: --cache FOLDER)")
    assert not (tmp_path / "run").exists()
