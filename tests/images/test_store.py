from __future__ import annotations

import errno
import io
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dgnet import console
from dgnet.errors import UserError
from dgnet.images import store as images
from dgnet.images.decode import decode
from dgnet.images.store import ImageStore


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "notice", lines.append)
    monkeypatch.setattr(console, "warn", lines.append)
    return lines


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Twelve smooth JPEG files of 20 x 10 pixels in a folder of their own."""
    chance = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = [folder / f"{number}.jpg" for number in range(12)]
    for path in paths:
        Image.fromarray(chance.integers(0, 256, (5, 3, 3), dtype=np.uint8)).resize((10, 20)).save(path, quality=95)
    return paths


def by_pillow(path: Path, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def no_decoding(path: Path) -> None:
    raise AssertionError(f"{path} decoded again")


def cached(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir() if path.name != ".lock")


# the store


@pytest.mark.parametrize("how", ["cache", "memory", "on demand"])
def test_store_gives_scaled_images_by_index(photos: list[Path], tmp_path: Path, how: str) -> None:
    cache = tmp_path / "cache" if how == "cache" else None
    store = ImageStore(photos, 16, 8, cache, on_demand=how == "on demand")
    got = store[np.array([7, 0, 7])]
    assert len(store) == 12
    assert store.kept.tolist() == list(range(12))
    assert got.shape == (3, 16, 8, 3)
    assert got.dtype == torch.uint8
    for image, number in zip(got, (7, 0, 7), strict=True):
        np.testing.assert_array_equal(image.numpy(), by_pillow(photos[number], (8, 16)))
    got.zero_()  # a copy: the store keeps its images
    assert store[np.array([7])].any()


def test_the_cache_is_read_not_built_twice(
    photos: list[Path], tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ImageStore(photos, 16, 8, tmp_path / "cache")
    assert told[0].startswith("decoding 12 images once into")
    assert told[0].endswith("(1 MB)")
    monkeypatch.setattr(images, "decode", no_decoding)
    second = ImageStore(photos, 16, 8, tmp_path / "cache")
    assert torch.equal(first[range(12)], second[range(12)])
    assert len(told) == 1
    assert cached(tmp_path / "cache") == [".images"]


def test_what_changes_the_pixels_changes_the_cache(photos: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    ImageStore(photos, 16, 8, cache)
    ImageStore(photos[:-1], 16, 8, cache)
    ImageStore(photos[::-1], 16, 8, cache)
    ImageStore(photos, 8, 16, cache)
    assert len(cached(cache)) == 4
    Image.new("RGB", (10, 20), (255, 0, 0)).save(photos[3])
    os.utime(photos[3], (1, 1))
    store = ImageStore(photos, 16, 8, cache)
    assert len(cached(cache)) == 5
    assert store[[3]].float().mean(dim=(0, 1, 2)).tolist() == pytest.approx([254, 0, 0], abs=2)


def test_a_damaged_cache_is_built_anew(photos: list[Path], tmp_path: Path) -> None:
    whole = ImageStore(photos, 16, 8, tmp_path / "cache")[range(12)]
    (file,) = (tmp_path / "cache").glob("*.images")
    file.write_bytes(file.read_bytes()[:-100])
    assert torch.equal(ImageStore(photos, 16, 8, tmp_path / "cache")[range(12)], whole)


@pytest.mark.parametrize("how", ["cache", "memory", "on demand"])
def test_unreadable_images(photos: list[Path], tmp_path: Path, told: list[str], how: str) -> None:
    truncate(photos[2])
    photos[9].write_bytes(b"")
    options = {"cache": tmp_path / "cache" if how == "cache" else None, "on_demand": how == "on demand"}

    if how == "on demand":
        with pytest.raises(UserError, match=r"2\.jpg"):
            ImageStore(photos, 16, 8, **options)[[1, 2]]
    else:
        with pytest.raises(UserError, match=r"2\.jpg: truncated"):
            ImageStore(photos, 16, 8, **options)
    if how == "cache":
        assert cached(tmp_path / "cache") == []

    for _ in range(2):  # built, then read
        told.clear()
        store = ImageStore(photos, 16, 8, on_unreadable="skip", **options)
        assert store.kept.tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 10, 11]
        assert len(store) == 10
        np.testing.assert_array_equal(store[[2]][0].numpy(), by_pillow(photos[3], (8, 16)))
        assert told[-1] == f"left out 2 of 12 images, which cannot be read: {photos[2]}, {photos[9]}"

    if how == "cache":
        with pytest.raises(UserError, match=r"2\.jpg: truncated"):
            ImageStore(photos, 16, 8, **options)


def test_nothing_to_load(photos: list[Path]) -> None:
    with pytest.raises(UserError, match="list of files is empty"):
        ImageStore([], 16, 8)
    for path in photos:
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 12 images can be read; the first is .*0\.jpg"):
        ImageStore(photos, 16, 8, on_unreadable="skip")


# when things go wrong


def test_a_full_disk_is_foreseen(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(images, "decode", no_decoding)
    with pytest.raises(UserError, match=r"cache: cannot keep the image cache of 1 MB there \(not enough free space\)"):
        ImageStore(photos, 16, 8, tmp_path / "cache")
    assert cached(tmp_path / "cache") == []


def test_a_disk_that_fills_leaves_nothing_behind(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses the third write."""

    class Filling(io.FileIO):
        room = 2

        def writelines(self, lines: object, /) -> None:
            for line in lines:  # type: ignore[attr-defined]
                if not self.room:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.room -= 1
                self.write(line)

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: Filling(self, "w") if mode == "wb" else opened(self, mode))
    with pytest.raises(UserError, match=r"cannot keep the image cache .*\(No space left on device\); free some space"):
        ImageStore(photos, 16, 8, tmp_path / "cache")
    assert cached(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written_is_still_read(photos: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "cache"
    file.write_text("in the way")
    with pytest.raises(UserError, match="cannot keep the image cache"):
        ImageStore(photos, 16, 8, file)
    file.unlink()
    ImageStore(photos, 16, 8, file)
    (file / ".lock").unlink()
    (file / ".lock").mkdir()  # can be opened by nobody, root included
    assert len(ImageStore(photos, 16, 8, file)) == 12


fork = multiprocessing.get_context("fork")


def test_two_processes_build_one_cache(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = fork.Value("i", 0)
    start = fork.Barrier(3)
    sums = fork.Queue()

    def slowly(path: Path) -> images.Pixels:
        with decoded.get_lock():
            decoded.value += 1
        time.sleep(0.02)
        return decode(path)

    def build() -> None:
        start.wait()
        store = ImageStore(photos, 16, 8, tmp_path / "cache")
        sums.put(int(store[range(12)].long().sum()))

    monkeypatch.setattr(images, "decode", slowly)
    workers = [fork.Process(target=build) for _ in range(3)]
    for worker in workers:
        worker.start()
    results = [sums.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert len(set(results)) == 1
    assert decoded.value == 12
    assert cached(tmp_path / "cache") == [".images"]


def test_a_killed_builder_is_cleaned_up_after(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(images, "_CHUNK", 4)

    def build() -> None:
        calls = iter(range(12))

        def stuck(path: Path) -> images.Pixels:
            if next(calls) >= 8:
                time.sleep(60)
            return decode(path)

        monkeypatch.setattr(images, "decode", stuck)
        ImageStore(photos, 16, 8, cache)

    builder = fork.Process(target=build)
    builder.start()
    deadline = time.monotonic() + 20
    while not (cache.is_dir() and cached(cache)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert cached(cache) == [".part"]
    store = ImageStore(photos, 16, 8, cache)
    np.testing.assert_array_equal(store[[11]][0].numpy(), by_pillow(photos[11], (8, 16)))
    assert cached(cache) == [".images"]
