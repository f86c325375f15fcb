"""Strips of pictures that move: GIF, or MP4 where a program that writes it is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dgnet.errors import UserError
from dgnet.files import replacing
from dgnet.images.sheets import sheet
from dgnet.pixels import Pixels

MILLISECONDS = 90  # that a picture is seen


def animate(path: Path, strips: Pixels, milliseconds: int = MILLISECONDS, scale: int = 1) -> None:
    """Write interpolations [N, K, H, W, 3] that run there and back, the N of them side by side, all or nothing.

    A .gif does so for ever; an .mp4 (H.264, where the writer has it) once, as long as its player does not repeat it.

    Raises:
        UserError: another ending; an .mp4 without a program that writes it, or one that fails.
    """
    write = writer_of(path)
    there = [sheet(strips[None, :, k], scale=scale) for k in range(strips.shape[1])]
    with replacing(path) as part:
        write(part, [*there, *there[-2:0:-1]], milliseconds)


def writer_of(path: Path) -> Callable[[Path, Sequence[Pixels], int], None]:
    """What writes an animation of this ending. Raises as `animate`, before anything is painted."""
    ending = path.suffix.lower()
    if ending not in WRITERS:
        raise UserError(f"{path}: animations are written as {' or '.join(WRITERS)}")
    if ending == ".mp4":
        _ffmpeg(path)
    return WRITERS[ending]


def _gif(path: Path, frames: Sequence[Pixels], milliseconds: int) -> None:
    first, *others = map(Image.fromarray, frames)
    first.save(path, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def _mp4(path: Path, frames: Sequence[Pixels], milliseconds: int) -> None:
    even = [np.pad(frame, [(0, side % 2) for side in frame.shape[:2]] + [(0, 0)], constant_values=255)
            for frame in [*frames, frames[0]]]  # as most players want it  # fmt: skip
    height, width = even[0].shape[:2]
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-framerate", f"1000/{milliseconds}"]
    wanted = ["-an", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path)]
    command = [_ffmpeg(path), "-loglevel", "error", "-y", *given, "-i", "-", *wanted]
    done = subprocess.run(command, input=b"".join(frame.tobytes() for frame in even), capture_output=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())[:200] or f"exit code {done.returncode}"
        raise UserError(f"{path}: ffmpeg cannot write it ({reason}); a .gif needs no ffmpeg")


def _ffmpeg(path: Path) -> str:
    """The ffmpeg of this machine, or that of the extra `video`. Raises UserError where there is neither."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:  # RuntimeError: the package has no program for this machine
        raise UserError(
            f"{path}: MP4 is written by ffmpeg, which is not here: pip install 'dgnet[video]', or name a .gif"
        ) from error


WRITERS = {".gif": _gif, ".mp4": _mp4}
