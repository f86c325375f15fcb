from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dgnet import cli, console, device
from dgnet.datasets.scan import scan
from dgnet.errors import UserError
from dgnet.images import caches
from dgnet.images import store as images
from dgnet.images.store import ImageStore


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "notice", lines.append)
    return lines


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = [folder / f"{number}.bmp" for number in range(3)]  # of equal size, whatever they show
    for number, path in enumerate(paths):
        Image.new("RGB", (4, 8), (number, 0, 0)).save(path)
    return paths


def repaint(path: Path) -> None:
    """Another picture in a file of the same size and date."""
    before = path.stat()
    Image.new("RGB", (4, 8), (200, 0, 0)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no time of the last change of state")
def test_another_content_of_equal_size_and_date_is_seen(photos: list[Path], tmp_path: Path) -> None:
    assert ImageStore(photos, 8, 4, tmp_path / "cache")[[1]].max() == 1
    repaint(photos[1])
    assert ImageStore(photos, 8, 4, tmp_path / "cache")[[1]].max() == 200


def test_names_that_are_not_utf8(photos: list[Path], tmp_path: Path) -> None:
    odd = photos[0].rename(photos[0].with_name("a\udcff.bmp"))
    for _ in range(2):
        assert len(ImageStore([odd, *photos[1:]], 8, 4, tmp_path / "cache")) == 3
    (cache,) = caches.listed(tmp_path / "cache")
    assert cache.current


def test_a_cache_at_home(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ImageStore(photos, 8, 4, Path("~/cache"))
    assert len(caches.listed(tmp_path / "cache")) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no time of the last change of state")
def test_a_check_sees_it_too(photos: list[Path], tmp_path: Path) -> None:
    before = scan(photos, tmp_path, tmp_path / "looks")
    repaint(photos[1])
    after = scan(photos, tmp_path, tmp_path / "looks")
    assert (before["digest"] == after["digest"]).all(axis=1).tolist() == [True, False, True]


def test_a_folder_says_what_its_caches_are_of(photos: list[Path], tmp_path: Path, told: list[str]) -> None:
    folder = tmp_path / "cache"
    ImageStore(photos, 8, 4, folder)
    ImageStore(photos[:2], 16, 8, folder)
    large, small = caches.listed(folder)
    assert (large.images, small.images) == (2, 3)
    assert {large.place, small.place} == {str(tmp_path / "photos")}
    assert large.current
    assert small.current
    assert large.size == large.file.stat().st_size

    photos[2].unlink()
    large, small = caches.listed(folder)
    assert large.current
    assert not small.current
    told.clear()
    ImageStore(photos[:1], 8, 4, folder)
    assert told[-1] == (
        f"{folder}: 1 caches (1 MB) of photos that have changed since; dgnet data cache {folder} --clear deletes them"
    )


def command(*words: str, code: int, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["data", "cache", *words])
    assert stopped.value.code == code
    said = capsys.readouterr()
    return said.out, said.err


def test_what_is_out_of_date_is_told_and_deleted(
    photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    ImageStore(photos, 8, 4, folder)
    photos[2].unlink()
    ImageStore(photos[:2], 8, 4, folder)
    (folder / "0123.images").write_bytes(b"of a version that did not say what it is of")
    (folder / "notes.txt").write_text("not ours")
    capsys.readouterr()

    out, _ = command(str(folder), code=0, capsys=capsys)
    assert (out.count("out of date"), out.count("current")) == (3, 1)
    assert "2 out of date (1 MB); --clear deletes them" in out
    assert len(list(folder.glob("*.images"))) == 3

    out, _ = command(str(folder), "--clear", code=0, capsys=capsys)
    assert out.count("deleted") == 2
    (kept,) = caches.listed(folder)
    assert kept.images == 2

    command(str(folder), "--clear", "--every", code=0, capsys=capsys)
    assert caches.listed(folder) == []
    assert (folder / "notes.txt").exists()


def test_words_that_cannot_be_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = command(str(tmp_path / "away"), code=2, capsys=capsys)
    assert err == f"error: {tmp_path}/away: no such folder; data.cache of a configuration names it\n"
    _, err = command(str(tmp_path), "--every", code=2, capsys=capsys)
    assert err == "error: --every: goes with --clear only\n"


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 64, b"[1]" + (3).to_bytes(8), b"{}" + (2).to_bytes(8)])
def test_a_file_that_says_nothing_is_out_of_date(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.images").write_bytes(content)
    (cache,) = caches.listed(tmp_path)
    assert (cache.images, cache.current, cache.size) == (0, False, len(content))


# Memory


@pytest.mark.parametrize(
    ("processes", "free", "expected"),
    [
        (1, 10_000, "decoding 3 images into memory (1 MB)"),
        (4, 10_000, "decoding 3 images into memory (1 MB in each of 4 processes)"),
        (
            1,
            400,
            "decoding 3 images into memory (1 MB), of 1 MB that are free; on disk: "
            "data.cache=FOLDER (evaluate: --cache FOLDER)",
        ),
        (1, None, "decoding 3 images into memory (1 MB)"),
    ],
)
def test_the_memory_that_photos_take_is_told(
    photos: list[Path],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    free: int | None,
    expected: str,
) -> None:
    monkeypatch.setattr(images, "available_memory", lambda: free)  # the three take 288 bytes
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    ImageStore(photos, 8, 4)
    assert told == [expected]


@pytest.mark.parametrize(("processes", "free"), [(1, 287), (4, 1151)])
def test_more_than_there_is_is_refused_before_it_is_taken(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch, processes: int, free: int
) -> None:
    monkeypatch.setattr(images, "available_memory", lambda: free)
    monkeypatch.setattr(images, "decode", None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    with pytest.raises(
        UserError, match=r"^3 images of 8 x 4 take 1 MB of memory.*: data\.cache=FOLDER \(evaluate: --cache FOLDER\)$"
    ):
        ImageStore(photos, 8, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="known on Linux only")
def test_the_memory_that_is_free_is_some_of_the_machine_s() -> None:
    free = device.available_memory()
    assert free is not None
    assert 1e6 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# Other systems


def test_every_module_imports_without_what_only_unix_has() -> None:
    """As on Windows: `fcntl` and its like are not there, nor forks, users and most signals."""
    script = """
import importlib, json, pkgutil, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "posix_ipc", "syslog"):
    sys.modules[name] = None
import os, signal, torch  # which has its own ways on other systems
for module, absent in (
    (os, "fork getuid geteuid getgid uname killpg setsid sched_getaffinity O_DIRECTORY O_NOFOLLOW mkfifo"),
    (signal, "SIGHUP SIGKILL SIGALRM SIGUSR1 SIGQUIT SIGPIPE alarm pthread_kill pthread_sigmask"),
):
    for name in absent.split():
        delattr(module, name)
import dgnet
names = [found.name for found in pkgutil.walk_packages(dgnet.__path__, "dgnet.") if found.name != "dgnet.__main__"]
for name in names:
    importlib.import_module(name)
print(json.dumps(names))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"dgnet.images.store", "dgnet.train.loop", "dgnet.cli.app"} <= set(json.loads(done.stdout))


def test_pixels_stand_first_and_as_they_are(photos: list[Path], tmp_path: Path) -> None:
    ImageStore(photos, 8, 4, tmp_path)
    (file,) = tmp_path.glob("*.images")
    whole = np.fromfile(file, np.uint8)
    assert whole[: 3 * 96].reshape(3, 8, 4, 3)[:, 0, 0].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert whole[288:291].tolist() == [0, 0, 0]
