"""Strips that move: there and back, all or nothing, and what is said where MP4 cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import code_of
from PIL import Image, ImageSequence

from dgnet.errors import UserError
from dgnet.images import animation
from dgnet.pixels import Pixels


def strip(*values: int, height: int = 32, width: int = 16) -> Pixels:
    """Plain pictures [K, H, W, 3] of these values."""
    return np.stack([np.full((height, width, 3), value, np.uint8) for value in values])


def test_a_gif_goes_there_and_back_for_ever(tmp_path: Path) -> None:
    animation.animate(tmp_path / "a.gif", np.stack([strip(0, 60, 120, 180), strip(9, 69, 129, 189)]))
    with Image.open(tmp_path / "a.gif") as image:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 60, 120, 180, 120, 60]
    assert [int(frame[0, -1, 0]) for frame in frames] == [9, 69, 129, 189, 129, 69]


def test_an_mp4_holds_the_same_pictures_and_ends_where_it_began(tmp_path: Path) -> None:
    film = tmp_path / "a.MP4"
    animation.animate(film, strip(30, 90, 150, 210, height=33, width=15)[None], scale=2)
    assert [file.name for file in tmp_path.iterdir()] == ["a.MP4"]
    ffmpeg = animation._ffmpeg(film)
    raw = subprocess.run(
        [ffmpeg, "-loglevel", "error", "-i", str(film), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        check=True,
        capture_output=True,
    ).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 66, 30, 3).astype(int)
    assert np.abs(frames.mean((1, 2, 3)) - [30, 90, 150, 210, 150, 90, 30]).max() < 4


def test_an_mp4_of_odd_sides_is_padded_with_white(tmp_path: Path) -> None:
    film = tmp_path / "a.mp4"
    animation.animate(film, strip(0, 0, height=31, width=17)[None])
    command = [
        animation._ffmpeg(film),
        "-loglevel",
        "error",
        "-i",
        str(film),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "gray",
        "-",
    ]
    frames = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.uint8)
    assert frames.reshape(-1, 32, 18)[0, :31, :16].max() < 20
    assert frames.reshape(-1, 32, 18)[0, 31].min() > 200


def test_without_a_writer_the_remedy_is_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"a.mp4: MP4 is written by ffmpeg.*: pip install 'dgnet\[video\]'"):
        animation.animate(tmp_path / "a.mp4", strip(1, 2)[None])
    ends = ("--start", "nobody.jpg", "--end", "nobody.jpg", "--of", "structure")
    assert code_of("generate", "interpolate", "no-such-model", tmp_path / "a.mp4", *ends) == 2
    assert "pip install 'dgnet[video]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "ffmpeg"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no such codec >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:/bin:/usr/bin")
    with pytest.raises(UserError, match=r"ffmpeg cannot write it \(no such codec\); a .gif needs no ffmpeg"):
        animation.animate(tmp_path / "a.mp4", strip(1, 2)[None])
    assert [file.name for file in tmp_path.iterdir()] == ["bin"]


@pytest.mark.parametrize("name", ["a.png", "a.webm", "a"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"animations are written as .gif or .mp4"):
        animation.animate(tmp_path / name, strip(1, 2)[None])
