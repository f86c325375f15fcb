from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dgnet.errors import UserError
from dgnet.images import decode as room
from dgnet.images.decode import decode, decode_bytes


def test_jpeg_equals_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8)).resize((10, 20)).save(path)
    np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 6), (255, 255, 255)).convert(mode).save(path)
    assert decode(path).shape == (6, 4, 3)
    assert decode(path).dtype == np.uint8
    assert (decode(path) == 255).all()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_print_jpegs(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16, 16), (90, 90, 90)).convert(mode).save(path)
    assert abs(decode(path).astype(int) - 90).max() <= 2


def test_a_photo_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    lying = Image.new("RGB", (40, 16))
    lying.paste((255, 0, 0), (0, 0, 20, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    lying.save(path, exif=exif, quality=95)
    upright = decode(path)
    assert upright.shape == (40, 16, 3)
    assert upright[5, 8, 0] > 200
    assert upright[35, 8, 0] < 50


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.effect_noise((64, 64), 90).convert("RGB").save(path)
    whole = path.read_bytes()
    for length in (0, 3, 30, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=rf"cut\.{suffix}: truncated or not an image"):
            decode(path)


def test_what_is_no_picture_is_told_in_words(tmp_path: Path) -> None:
    for content, why in ((b"", "the file is empty"), (b"text", "of no kind that is known")):
        with pytest.raises(UserError, match=rf"a\.jpg: truncated or not an image \({why}\)"):
            decode_bytes(content, "a.jpg")


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "thumbs.jpg").write_text("not an image")
    with pytest.raises(UserError, match=r"thumbs\.jpg: truncated or not an image"):
        decode(tmp_path / "thumbs.jpg")
    with pytest.raises(UserError, match=r"away\.jpg: no such image file"):
        decode(tmp_path / "away.jpg")
    for kind in (np.int32, np.float32):
        Image.fromarray(np.full((4, 4), 40000, dtype=kind)).save(tmp_path / "deep.tif")
        with pytest.raises(UserError, match=r"deep\.tif: [IF] pixels, of 32 bits, whose range nothing tells"):
            decode(tmp_path / "deep.tif")


GRAY = np.array([[0, 128, 257], [40_000, 65_407, 65_535]], np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_gray_of_16_bits_is_scaled_by_its_depth(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(GRAY).save(path)
    expected = [[0, 0, 1], [156, 255, 255]]  # a 257th, to the nearest: 0.498, 1, 155.6, 254.502
    assert decode(path).tolist() == [[[value] * 3 for value in row] for row in expected]


def test_gray_of_12_bits_and_white_as_zero(tmp_path: Path) -> None:
    Image.fromarray(GRAY // 16).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert decode(tmp_path / "a.tif")[:, :, 0].tolist() == [[255, 255, 255], [245, 239, 239]]
    image = Image.fromarray(GRAY // 16)
    image.tag_v2 = {258: (12,)}  # type: ignore[attr-defined]
    assert room.upright(image, "a")[:, :, 0].tolist() == [[0, 0, 1], [156, 255, 255]]


def test_a_gray_of_16_bits_that_counts_as_transparent_is_white(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png", transparency=40_000)
    assert decode(tmp_path / "a.png")[:, :, 0].tolist() == [[0, 0, 1], [255, 255, 255]]


# What stands beside the pixels


def with_chunk(data: bytes, name: bytes, content: bytes, crc: int | None = None) -> bytes:
    """A PNG with one more chunk before its pixels."""
    checked = zlib.crc32(name + content) if crc is None else crc
    return data[:33] + struct.pack(">I", len(content)) + name + content + struct.pack(">I", checked) + data[33:]


@pytest.mark.parametrize("crc", [None, 7])
@pytest.mark.parametrize(
    ("name", "content"),
    [(b"iCCP", b"sRGB\0\0" + zlib.compress(b"\0" * 80_000_000)), (b"iCCP", b"no profile"), (b"tEXt", b"a\0b"),
     (b"gAMA", b"\1"), (b"eXIf", b"MM")],
)  # fmt: skip
def test_a_png_is_fine_whatever_its_colour_profile_or_its_comments_are(
    name: bytes, content: bytes, crc: int | None
) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8))
    noise.save(file, "PNG", exif=exif)
    plain = file.getvalue()
    np.testing.assert_array_equal(decode_bytes(with_chunk(plain, name, content, crc), "a"), decode_bytes(plain, "a"))
    cut = with_chunk(plain, name, content, crc)[:-30]
    with pytest.raises(UserError, match="truncated or not an image"):
        decode_bytes(cut, "a")


# Which way up


def half_red() -> Image.Image:
    """16 wide, 40 high, red above."""
    image = Image.new("RGB", (16, 40))
    image.paste((255, 0, 0), (0, 0, 16, 20))
    return image


def saved(image: Image.Image, kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    out = io.BytesIO()
    image.save(out, kind, exif=exif, quality=95)
    return out.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_turns_a_photo_of_any_kind_as_pillow_would(kind: str, orientation: int) -> None:
    data = saved(half_red(), kind, orientation)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(decode_bytes(data, "a"), np.asarray(expected))


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content


@pytest.mark.parametrize(
    "before",
    [
        segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(5000)),
        segment(0xFE, b"a comment that speaks of Exif") * 3,
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(300)),
        b"\xff\xff\xff" + segment(0xEC, b"Ducky"),
    ],
    ids=["profile", "comments", "xmp", "fill bytes"],
)
def test_exif_is_found_behind_other_segments(before: bytes) -> None:
    data = saved(half_red(), "JPEG", 6)
    data = data[:2] + before + data[2:]
    assert b"maker" not in data[: len(before)]
    assert decode_bytes(data, "a").shape == (16, 40, 3)


def test_exif_in_a_comment_is_none() -> None:
    data = saved(half_red(), "JPEG", 6).replace(b"\xff\xe1", b"\xff\xfe", 1)
    assert decode_bytes(data, "a").shape == (40, 16, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_fine_whatever_its_exif_block_is(kind: str) -> None:
    """Cut anywhere, or with a byte changed anywhere: the picture is there, and lies as it is or as it was said to."""
    whole = half_red()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    block = exif.tobytes()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    shapes = set()
    for place in range(6 if kind == "JPEG" else 0, len(block)):
        for damaged in (block[:place], block[:place] + bytes([block[place] ^ 0xFF]) + block[place + 1 :]):
            out = io.BytesIO()
            whole.save(out, kind, exif=damaged, **options)
            shapes.add(decode_bytes(out.getvalue(), "a").shape)
    assert shapes == {(40, 16, 3), (16, 40, 3)}


def test_an_orientation_that_there_is_not_is_none() -> None:
    for orientation in (0, 9, 65535):
        assert decode_bytes(saved(half_red(), "JPEG", orientation), "a").shape == (40, 16, 3)


# Other kinds of pictures


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (200, 200, 200, 255))
    image.paste((10, 10, 10, 0), (0, 0, 2, 2))
    image.convert("RGBA").quantize(4).save(tmp_path / "a.png") if mode == "P" else image.convert(mode).save(
        tmp_path / "a.png"
    )
    got = decode(tmp_path / "a.png")
    assert (got[:, :2] == 255).all()
    assert (got[:, 2:] == 200).all()


def test_a_colour_that_counts_as_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (10, 20, 30)).save(tmp_path / "a.png", transparency=(10, 20, 30))
    assert (decode(tmp_path / "a.png") == 255).all()


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").tolist() == [[[127, 127, 127]]]


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def test_a_picture_too_large_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = bytearray(saved(half_red(), "JPEG", 1))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", 20_000, 20_000)
    monkeypatch.setattr(room.simplejpeg, "decode_jpeg", None)  # cannot be called
    for data in (bytes(jpeg), png_header(20_000, 20_000)):
        with pytest.raises(UserError, match=r"^big: more than 100 million pixels; save it smaller$"):
            decode_bytes(data, "big")


@pytest.mark.parametrize(
    "name", ["with blanks.jpg", "[red]a[bold].jpg", ":smile:.jpg", "照片.jpg", "ф.jpg", "a\udcff.jpg"]
)
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    half_red().save(path)
    assert decode(path).shape == (40, 16, 3)
    path.write_bytes(b"")
    with pytest.raises(UserError) as told:
        decode(path)
    assert str(told.value).startswith(f"{path}: truncated or not an image (")


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        decode(tmp_path)
    with pytest.raises(UserError, match="not the name of a file"):
        decode(tmp_path / "a\0.jpg")


# Damage


KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "ICO", "TGA"]


def sample(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, kind)
    return out.getvalue()


SAMPLES = {kind: sample(kind) for kind in KINDS}


@settings(deadline=None, max_examples=300)
@given(kind=st.sampled_from(KINDS), cut=st.integers(0, 2000), changes=st.lists(st.tuples(st.integers(0), st.binary())))
def test_a_damaged_file_gives_pixels_or_one_line(kind: str, cut: int, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(SAMPLES[kind])
    for place, content in changes:
        data[place % len(data) : place % len(data) + len(content)] = content
    if cut < len(data):
        data = data[:cut]
    try:
        got, told = decode_bytes(bytes(data), "odd"), "odd: "
    except UserError as error:
        got, told = np.zeros((1, 1, 3), np.uint8), str(error)
    assert told.startswith("odd: ")
    assert "\n" not in told
    assert got.dtype == np.uint8
    assert got.ndim == 3
    assert got.shape[2] == 3


@settings(deadline=None, max_examples=200)
@given(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\x40Exif\0\0", b"\x89PNG"]),
)
def test_anything_at_all_is_refused_in_one_line(data: bytes, start: bytes) -> None:
    with pytest.raises(UserError, match=r"^odd: [^\n]*$"):
        decode_bytes(start + data, "odd")
