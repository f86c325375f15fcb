"""Contact sheets, animations and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dgnet.errors import UserError
from dgnet.files import replacing
from dgnet.images import sheets
from dgnet.pixels import Pixels


def plain(*levels: int, height: int = 4, width: int = 3) -> Pixels:
    """Pictures of one gray level each: [len(levels), height, width, 3]."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), height, width, 3)).copy()


def test_a_sheet_puts_every_picture_in_its_place() -> None:
    cells = plain(10, 20, 30, 40, 50, 60).reshape(2, 3, 4, 3, 3)

    made = sheets.sheet(cells, top=plain(1, 2, 3), left=plain(7, 8), gutter=1)

    assert made.shape == (8 + 4 + 1 + 4, 7 + 3 + 1 + 3 + 1 + 3, 3)  # margin of a picture and four gutters
    rows, columns = [0, 8, 13], [0, 7, 11, 15]
    assert [[int(made[y, x, 0]) for x in columns] for y in rows] == [[255, 1, 2, 3], [7, 10, 20, 30], [8, 40, 50, 60]]
    assert (made[12] == 255).all()
    assert (made[:, 10] == 255).all()
    assert (made[4:8] == 255).all()


def test_a_sheet_without_margins() -> None:
    assert sheets.sheet(plain(10, 20).reshape(1, 2, 4, 3, 3), gutter=2).shape == (4, 8, 3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_pictures_come_back_from_their_files(name: str, tmp_path: Path) -> None:
    sheets.save(tmp_path / "new" / name, plain(200)[0])
    assert np.abs(np.asarray(Image.open(tmp_path / "new" / name)).astype(int) - 200).max() <= 1
    assert [file.name for file in (tmp_path / "new").iterdir()] == [name]


def test_a_suffix_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.txt: pictures are written as \.png or \.jpg"):
        sheets.save(tmp_path / "a.txt", plain(1)[0])


def test_what_fails_half_way_leaves_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    sheets.save(tmp_path / "a.png", plain(1)[0])
    before = (tmp_path / "a.png").read_bytes()

    def fail_half_way() -> None:
        with replacing(tmp_path / "a.png") as part:
            part.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_a_sheet_may_be_several_times_as_large() -> None:
    cells = plain(10, 20, 30, 40).reshape(2, 2, 4, 3, 3)
    small, large = (sheets.sheet(cells, plain(1, 2), plain(7, 8), gutter=1, scale=scale) for scale in (1, 4))
    assert large.shape == (4 * small.shape[0], 4 * small.shape[1], 3)
    np.testing.assert_array_equal(large[::4, ::4], small)
    for scale in (0, -1, 17):
        with pytest.raises(UserError, match=f"scale is {scale}: 1 to 16 would be right"):
            sheets.sheet(cells, scale=scale)
