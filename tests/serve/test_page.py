"""What the page answers: right things to right questions, and one line to everything else."""

from __future__ import annotations

import base64
import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dgnet
from dgnet.errors import UserError
from dgnet.gallery.detections import of_detections
from dgnet.gallery.enrol import enrol
from dgnet.gallery.entries import of_images
from dgnet.images.decode import decode
from dgnet.retrieval.decision import Threshold
from dgnet.serve.app import create, listening, searched_in, serve
from dgnet.serve.searched import Folder

testclient = pytest.importorskip("fastapi.testclient", reason="the page needs dgnet[serve], its tests httpx")
LOCAL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def page(model: dgnet.Model, people: Path) -> Iterator[Any]:
    app = create(model, searched_in(model, images=[people / "bounding_box_test"]))
    with testclient.TestClient(app, base_url=LOCAL) as client:
        yield client


def shows(uri: str, picture: Any) -> bool:
    """Whether a picture is that one, but for the rounding of another batch."""
    assert uri.startswith("data:image/png;base64,")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), np.int64)
    return bool(np.abs(shown - np.asarray(picture, np.int64)).max() <= 1)


def sent(**photos: Path | bytes) -> dict[str, tuple[str, bytes]]:
    return {
        name: (photo.name, photo.read_bytes()) if isinstance(photo, Path) else (f"{name}.jpg", photo)
        for name, photo in photos.items()
    }


# What it does


def test_two_photos_are_swapped_both_ways_compared_and_explained(
    page: Any, model: dgnet.Model, photos: list[Path]
) -> None:
    a, b = photos[0], photos[-1]
    answer = page.post("/api/pair", files=sent(a=a, b=b)).json()
    for uri, picture in zip(answer["swaps"], model.swap([a, b], [b, a]), strict=True):
        assert shows(uri, picture)
    for uri, photo in zip(answer["photos"], (a, b), strict=True):
        assert shows(uri, decode(photo))
    assert answer["score"] == pytest.approx(float(model.embed(a)[0] @ model.embed(b)[0]), abs=1e-5)
    for uri, picture in zip(answer["shares"], model.explain(a, b).pictures()[0], strict=True):
        assert shows(uri, picture)


@pytest.mark.parametrize("of", ["appearance", "structure"])
def test_an_interpolation_goes_from_one_to_the_other(
    page: Any, model: dgnet.Model, photos: list[Path], of: Any
) -> None:
    a, b = photos[0], photos[-1]
    shown = page.post("/api/interpolation", files=sent(a=a, b=b), data={"of": of}).json()["pictures"]
    for uri, picture in zip(shown, model.interpolate(a, b, of, steps=13)[0], strict=True):
        assert shows(uri, picture)


def test_a_search_ranks_as_the_model_does(page: Any, model: dgnet.Model, photos: list[Path], people: Path) -> None:
    answer = page.post("/api/search", files=sent(query=photos[0]), data={"top": "5"}).json()
    right = model.search(photos[0], people / "bounding_box_test", top=5)
    assert [match["name"] for match in answer["matches"]] == [Path(match.name).name for match in right]
    assert [match["score"] for match in answer["matches"]] == pytest.approx([match.score for match in right])
    assert shows(answer["matches"][0]["picture"], decode(Path(right[0].name)))
    assert answer["of"] == len(list((people / "bounding_box_test").glob("*.jpg")))


def test_a_match_says_where_it_comes_from_and_can_be_used_further(
    page: Any, model: dgnet.Model, photos: list[Path], people: Path
) -> None:
    match = page.post("/api/search", files=sent(query=photos[0])).json()["matches"][3]
    path = people / "bounding_box_test" / match["name"]
    answer = page.post("/api/explanation", files=sent(query=photos[0]), data={"number": str(match["number"])}).json()
    assert answer["score"] == pytest.approx(match["score"], abs=1e-5)
    for uri, picture in zip(answer["shares"], model.explain(photos[0], path).pictures()[0], strict=True):
        assert shows(uri, picture)
    whole = page.get(f"/api/photo/{match['number']}")
    assert whole.headers["content-type"] == "image/png"
    assert (np.asarray(Image.open(io.BytesIO(whole.content))) == decode(path)).all()


def test_photos_are_found_by_their_name(page: Any, people: Path) -> None:
    name = sorted((people / "bounding_box_test").glob("*.jpg"))[5].name
    assert [photo["name"] for photo in page.get("/api/named", params={"text": name[:-4].upper()}).json()["photos"]] == [
        name
    ]
    assert len(page.get("/api/named", params={"text": "jpg"}).json()["photos"]) == 6
    assert page.get("/api/named", params={"text": " "}).json()["photos"] == []


def test_a_model_with_a_threshold_decides(runs: Path, photos: list[Path], people: Path) -> None:
    model = dgnet.load(runs / "joint", device="cpu")
    searched = Folder(model, [people / "bounding_box_test"])
    scores = [match.score for match in model.search(photos[0], people / "bounding_box_test", top=9)]
    model.threshold = Threshold(
        scores[5], scores[7], scores[3], 1e-3, 0.9, model.fingerprint, "people", genuine_pairs=9, impostor_pairs=9
    )
    with testclient.TestClient(create(model, searched), base_url=LOCAL) as page:
        assert page.get("/api/about").json()["threshold"].endswith("0.001 false accepts on people")
        matches = page.post("/api/search", files=sent(query=photos[0]), data={"top": "9"}).json()["matches"]
        assert [match["same"] for match in matches] == ["yes"] * 4 + ["unsure"] * 4 + ["no"]
        answer = page.post("/api/pair", files=sent(a=photos[0], b=photos[0])).json()
        assert (answer["same"], round(answer["score"], 3)) == ("yes", 1.0)


def test_a_teacher_compares_and_says_that_it_cannot_paint(runs: Path, photos: list[Path]) -> None:
    with testclient.TestClient(create(dgnet.load(runs / "teacher", device="cpu")), base_url=LOCAL) as page:
        assert page.get("/api/about").json()["generates"] is False
        answer = page.post("/api/pair", files=sent(a=photos[0], b=photos[1]))
        assert "swaps" not in answer.json()
        refused = page.post("/api/interpolation", files=sent(a=photos[0], b=photos[1]), data={"of": "structure"})
        assert refused.status_code == 422
        assert "holds a teacher" in refused.json()["error"]
        refused = page.post("/api/search", files=sent(query=photos[0]))
        assert refused.json()["error"].startswith("nothing to search: start the page with --gallery")


def test_the_model_that_comes_with_dgnet_says_that_it_knows_drawn_people_only(page: Any) -> None:
    assert page.get("/api/about").json()["notice"] == ""
    with testclient.TestClient(create(dgnet.load("drawn", "cpu")), base_url=LOCAL) as drawn:
        assert drawn.get("/api/about").json()["notice"].startswith("drawn: knows drawn people only")
    assert 'id="notice"' in page.get("/").text


def test_unreadable_photos_of_a_folder_are_told_and_left_out(
    model: dgnet.Model, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole.jpg").write_bytes(photos[0].read_bytes())
    (tmp_path / "half.jpg").write_bytes(photos[0].read_bytes()[:200])
    assert [Path(name).name for name, _ in Folder(model, [tmp_path]).pieces()] == ["whole.jpg"]
    assert "left out 1 of 2 images" in capsys.readouterr().err


def test_a_gallery_is_searched_with_its_boxes_and_its_additions(
    model: dgnet.Model, photos: list[Path], people: Path, tmp_path: Path
) -> None:
    gallery = model.gallery(tmp_path / "gallery")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"image,x1,y1,x2,y2,camera\n{photos[0]},2,4,14,28,3\n{photos[1]},0,0,16,32,4\n")
    enrol(gallery, model, of_detections(boxes))
    with testclient.TestClient(create(model, searched_in(model, tmp_path / "gallery")), base_url=LOCAL) as page:
        assert page.get("/api/about").json()["photos"] == 2
        cut = decode(photos[0])[4:28, 2:14]
        file = io.BytesIO()
        Image.fromarray(cut).save(file, "PNG")
        first, second = page.post("/api/search", files=sent(query=file.getvalue())).json()["matches"]
        assert (first["name"], second["name"]) == (photos[0].name, photos[1].name)
        assert first["score"] == pytest.approx(1, abs=1e-4)
        assert shows(first["picture"], Image.fromarray(cut).resize((16, 32), Image.Resampling.BICUBIC))
        enrol(gallery, model, of_images([photos[2]]))
        assert page.get("/api/about").json()["photos"] == 3
        (named,) = page.get("/api/named", params={"text": photos[2].name}).json()["photos"]
        whole = page.get(f"/api/photo/{named['number']}").content
        assert (np.asarray(Image.open(io.BytesIO(whole))) == decode(photos[2])).all()


def test_a_photo_that_has_gone_keeps_its_place_without_a_picture(
    model: dgnet.Model, photos: list[Path], tmp_path: Path
) -> None:
    for photo in photos[:2]:
        (tmp_path / photo.name).write_bytes(photo.read_bytes())
    with testclient.TestClient(create(model, Folder(model, [tmp_path])), base_url=LOCAL) as page:
        (tmp_path / photos[0].name).unlink()
        gone, there = page.post("/api/search", files=sent(query=photos[0])).json()["matches"]
        assert (gone["name"], gone["picture"]) == (photos[0].name, None)
        assert there["picture"]
        refused = page.get(f"/api/photo/{gone['number']}")
        assert refused.status_code == 422
        assert "no such image file" in refused.json()["error"]


def test_what_cannot_be_searched_is_one_line(
    model: dgnet.Model, runs: Path, photos: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"--gallery or --images, not both"):
        searched_in(model, tmp_path, [tmp_path])
    with pytest.raises(UserError, match=r"nothing: no gallery; `dgnet gallery build` makes one"):
        searched_in(model, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(UserError, match=r"no images anywhere in this folder"):
        searched_in(model, images=[tmp_path])
    enrol(model.gallery(tmp_path / "gallery"), model, of_images(photos[:1]))
    with pytest.raises(UserError, match=r"made by .*, another model than"):
        searched_in(dgnet.load(runs / "teacher", device="cpu"), tmp_path / "gallery")


# What it refuses


def png(height: int, width: int) -> bytes:
    """The head of a picture of any size, without the picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a.jpg: not a JPEG, PNG or WebP photo"),
        (b"hello", "a.jpg: not a JPEG, PNG or WebP photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a.jpg: not a JPEG, PNG or WebP photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.jpg: not a JPEG, PNG or WebP photo"),
        (b"RIFF\x00\x00\x00\x00WAVE", "a.jpg: not a JPEG, PNG or WebP photo"),
        (b"\xff\xd8\xff\xe0 broken", "a.jpg: truncated or not an image"),
        (png(8, 8), "a.jpg: truncated or not an image"),
        (png(20_000, 20_000), "a.jpg: more than 100 million pixels"),
    ],
    ids=["nothing", "text", "postscript", "svg", "sound", "broken", "empty", "huge"],
)
def test_what_is_no_photo_is_one_line(page: Any, photos: list[Path], data: bytes, said: str) -> None:
    refused = page.post("/api/pair", files=sent(a=data, b=photos[0]))
    assert refused.status_code == 422
    assert refused.json()["error"].startswith(said)
    assert "\n" not in refused.json()["error"]


def test_photos_of_every_taken_kind_and_odd_ones_are_taken(page: Any, photos: list[Path]) -> None:
    for kind, mode in (("PNG", "RGBA"), ("PNG", "L"), ("WEBP", "RGB"), ("JPEG", "CMYK"), ("PNG", "P")):
        file = io.BytesIO()
        Image.open(photos[0]).convert(mode).save(file, kind)
        assert page.post("/api/pair", files=sent(a=file.getvalue(), b=photos[0])).status_code == 200, (kind, mode)
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    assert page.post("/api/pair", files=sent(a=file.getvalue(), b=photos[0])).status_code == 200


@pytest.mark.parametrize(
    ("path", "data", "said"),
    [
        ("/api/interpolation", {"of": "hair"}, "of = 'hair': 'appearance' or 'structure' would be right"),
        ("/api/search", {"top": "0"}, "top is 0: 1 to 60 would be right"),
        ("/api/search", {"top": "many"}, "top: a whole number is needed"),
        ("/api/explanation", {"number": "999999"}, "photo 999999: not one that this page was shown"),
        ("/api/explanation", {"number": "../../etc/passwd"}, "number: a whole number is needed"),
        ("/api/explanation", {}, "number: a whole number is needed"),
    ],
)
def test_a_wrong_question_is_one_line(
    page: Any, photos: list[Path], path: str, data: dict[str, str], said: str
) -> None:
    given = ("a", "b") if path == "/api/interpolation" else ("query",)
    refused = page.post(path, files=sent(**dict.fromkeys(given, photos[0])), data=data)
    assert refused.status_code == 422
    assert refused.json()["error"].startswith(said)


def test_a_photo_that_is_missing_is_named(page: Any, photos: list[Path]) -> None:
    assert page.post("/api/pair", files=sent(a=photos[0])).json() == {"error": "b: a photo is needed"}
    assert page.post("/api/pair", data={"a": "text"}).json() == {"error": "a: a photo is needed"}
    assert (
        page.post("/api/pair", content=b"no form", headers={"content-type": "multipart/form-data"}).status_code == 400
    )
    many = [("a", photos[0].read_bytes())] * 3
    assert "Too many files" in page.post("/api/pair", files=many).json()["error"]


@pytest.mark.parametrize("number", ["-1", "1.5", "x", "99999999999", "%2e%2e%2fpasswd"])
def test_no_photo_is_given_but_those_that_were_shown(page: Any, number: str) -> None:
    assert page.get(f"/api/photo/{number}").status_code in (404, 422)


def test_too_much_is_refused_before_it_is_read(page: Any) -> None:
    refused = page.post("/api/pair", content=b"", headers={"content-length": "99999999999"})
    assert refused.status_code == 413
    assert refused.json()["error"].startswith("more than 20 MB at once")


def test_too_much_without_a_length_is_refused_while_it_comes(page: Any) -> None:
    came = 0

    def endless() -> Iterator[bytes]:
        nonlocal came
        yield b'--x\r\ncontent-disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n'
        for _ in range(40):
            came += 1
            yield bytes(1_000_000)

    refused = page.post("/api/pair", content=endless(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert refused.status_code == 413


# Whom it answers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "192.168.0.7"])
def test_other_names_for_this_machine_are_refused(page: Any, host: str) -> None:
    assert page.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8123", "[::1]:8000"])
def test_its_own_names_are_answered(page: Any, host: str) -> None:
    assert page.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999"])
def test_pages_of_other_sites_cannot_ask(page: Any, photos: list[Path], origin: str) -> None:
    files = sent(a=photos[0], b=photos[1])
    assert page.post("/api/pair", files=files, headers={"origin": origin}).status_code == 403
    assert page.post("/api/pair", files=files, headers={"origin": LOCAL}).status_code == 200


def test_the_page_asks_nobody_else(page: Any) -> None:
    for path in ("/", "/page.css", "/page.js"):
        reply = page.get(path)
        assert "http:" not in reply.text
        assert "https:" not in reply.text
        assert "//cdn" not in reply.text
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert "access-control-allow-origin" not in reply.headers
    assert page.get("/docs").status_code == page.get("/openapi.json").status_code == 404
    assert page.get("/docs").json() == {"error": "Not Found"}


def test_an_address_that_cannot_be_had_is_one_line() -> None:
    with listening("127.0.0.1", 0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"
        with pytest.raises(UserError, match=r"127.0.0.1, port \d+: cannot be listened at .*--port names another"):
            listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError, match=r"--port 70000: 0 to 65535"):
        listening("127.0.0.1", 70000)
    with pytest.raises(UserError, match=r"cannot be listened at"):
        listening("203.0.113.7", 0)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_a_package_that_is_missing_is_named_before_any_work(
    model: dgnet.Model, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"serve: needs {package}: pip install 'dgnet\[serve\]'"):
        serve(model, images=["nothing"])


def test_the_model_is_left_as_it_was(page: Any, model: dgnet.Model, photos: list[Path]) -> None:
    before = model.embed(photos)
    page.post("/api/pair", files=sent(a=photos[0], b=photos[1]))
    assert torch.equal(model.embed(photos), before)
