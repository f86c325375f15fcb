"""`check` on small trees with one known fault each."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dgnet.datasets import scan as scanning
from dgnet.datasets.check import CheckReport, check
from dgnet.datasets.read import read_dataset
from dgnet.errors import UserError


def picture(seed: int, height: int = 128, width: int = 64) -> np.ndarray:
    """A picture that is like no other: blocks of random colour."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray, quality: int = 95) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        path.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality))
    else:
        Image.fromarray(pixels).save(path)
    return path


NAMES = (
    "bounding_box_train/0002_c1s1_000001_01.jpg",
    "bounding_box_train/0002_c2s1_000002_01.jpg",
    "bounding_box_train/0002_c3s1_000003_01.jpg",
    "bounding_box_train/0007_c1s1_000004_01.jpg",
    "bounding_box_train/0007_c2s1_000005_01.jpg",
    "query/0001_c1s1_000006_00.jpg",
    "query/0003_c2s1_000007_00.jpg",
    "bounding_box_test/0001_c1s1_000008_01.jpg",
    "bounding_box_test/0001_c2s1_000009_01.jpg",
    "bounding_box_test/0003_c1s1_000010_01.jpg",
    "bounding_box_test/0000_c1s1_000011_01.jpg",
    "bounding_box_test/-1_c1s1_000012_01.jpg",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "people"
    for seed, name in enumerate(NAMES):
        save(root / name, picture(seed))
    return root


def found(root: Path, layout: str = "market1501") -> dict[str, tuple[str, list[str]]]:
    """Every finding but those that any tree has, by kind: its first word (a count) and examples."""
    report = check(read_dataset(root, layout, need=[]))
    return {finding.kind: (finding.text.split()[0], finding.examples) for finding in report.findings}


def test_a_clean_tree(tree: Path) -> None:
    report = check(read_dataset(tree))
    assert report.findings == []
    assert (report.exit_code, report.usable, report.layout) == (0, True, "market1501")
    train, gallery = report.splits["train"], report.splits["gallery"]
    assert (train.images, train.identities, train.junk, train.distractors) == (5, 2, 0, 0)
    assert (gallery.images, gallery.identities, gallery.junk, gallery.distractors) == (5, 2, 1, 1)
    assert train.cameras == {1: 2, 2: 2, 3: 1}
    assert train.images_per_identity == {1: 0, 2: 2, 4: 0, 8: 0, 16: 0, 32: 0, 64: 0}
    assert gallery.images_per_identity == {1: 1, 2: 1, 4: 0, 8: 0, 16: 0, 32: 0, 64: 0}


def test_images_per_identity_at_the_bins_edges(tmp_path: Path) -> None:
    for person, images in {"a": 1, "b": 3, "c": 4, "d": 7, "e": 8, "f": 64, "g": 70}.items():
        for number in range(images):
            (tmp_path / person).mkdir(exist_ok=True)
            (tmp_path / person / f"{number}.jpg").touch()
    report = check(read_dataset(tmp_path, "folders"))
    assert report.splits["train"].images_per_identity == {1: 1, 2: 1, 4: 2, 8: 1, 16: 0, 32: 0, 64: 2}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("truncated", lambda whole: whole[: len(whole) // 2]),
        ("truncated", lambda whole: whole[:-2]),
        ("truncated", lambda whole: b""),
        ("unreadable", lambda whole: b"<html>not found</html>"),
        ("unreadable", lambda whole: whole[:2] + b"\0" * 50 + whole[-2:]),
    ],
)
def test_damaged_files_are_named(tree: Path, kind: str, content) -> None:
    broken = tree / NAMES[3]
    broken.write_bytes(content(broken.read_bytes()))
    assert found(tree) == {kind: ("1", [NAMES[3]])}
    assert check(read_dataset(tree)).exit_code == 1


def test_a_truncated_png(tree: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(picture(99)).save(whole, "PNG")
    (tree / "query/0001_c3s1_000001_00.png").write_bytes(whole.getvalue()[:3000])
    assert found(tree) == {"truncated": ("1", ["query/0001_c3s1_000001_00.png"])}


def test_tiny_gray_and_flat_images(tree: Path) -> None:
    save(tree / NAMES[0], picture(50, 31, 40))
    save(tree / NAMES[1], picture(51, 40, 15))
    save(tree / NAMES[2], picture(52, 32, 16))
    save(tree / NAMES[3], np.repeat(picture(53).mean(2, keepdims=True).astype(np.uint8), 3, 2))
    save(tree / NAMES[4], np.full((64, 32, 3), (200, 60, 10), np.uint8))
    assert found(tree) == {
        "tiny": ("2", [NAMES[0], NAMES[1]]),
        "grayscale": ("1", [NAMES[3]]),
        "flat": ("1", [NAMES[4]]),
    }


def test_the_same_file_twice(tree: Path) -> None:
    (tree / NAMES[1]).write_bytes((tree / NAMES[0]).read_bytes())
    assert found(tree) == {"duplicate": ("1", [f"{NAMES[0]} = {NAMES[1]}"])}
    assert check(read_dataset(tree)).exit_code == 0
    (tree / NAMES[3]).write_bytes((tree / NAMES[2]).read_bytes())
    assert found(tree)["contradiction"] == ("1", [f"{NAMES[2]} = {NAMES[3]}"])


@pytest.mark.parametrize("place", [5, 8, 10, 11])
def test_leakage_survives_scaling_recompression_and_brightness(tree: Path, place: int) -> None:
    for pixels in (
        picture(2),
        np.asarray(Image.fromarray(picture(2)).resize((32, 64))),
        np.clip(picture(2) * 0.8 + 20, 0, 255).astype(np.uint8),
    ):
        save(tree / NAMES[place], pixels, quality=60)
        assert found(tree) == {"leakage": ("1", [f"{NAMES[2]} = {NAMES[place]}"])}
    assert check(read_dataset(tree)).exit_code == 1


def test_a_query_may_look_like_what_its_ranking_leaves_out(tree: Path) -> None:
    save(tree / NAMES[7], picture(5), quality=70)  # same identity, same camera
    save(tree / NAMES[11], picture(6), quality=70)  # junk
    assert found(tree) == {}
    save(tree / NAMES[8], picture(5), quality=75)  # same identity, another camera
    assert found(tree) == {"leakage": ("1", [f"{NAMES[5]} = {NAMES[8]}"])}


def test_without_cameras_nothing_is_left_out_of_a_ranking(tmp_path: Path) -> None:
    for place, name in enumerate(("train/a/1", "train/a/2", "train/b/3", "train/b/4", "query/c/5", "gallery/c/6")):
        save(tmp_path / f"{name}.jpg", picture(place))
    assert set(found(tmp_path, "folders")) == {"no cameras"}
    save(tmp_path / "gallery/c/7.jpg", picture(4), quality=70)
    assert found(tmp_path, "folders")["leakage"] == ("1", ["query/c/5.jpg = gallery/c/7.jpg"])


def test_odd_identities(tree: Path) -> None:
    save(tree / "bounding_box_train/0001_c1s1_000020_01.jpg", picture(20))
    save(tree / "bounding_box_train/0008_c4s1_000021_01.jpg", picture(21))
    save(tree / "bounding_box_train/0008_c4s1_000022_01.jpg", picture(22))
    save(tree / "query/0004_c1s1_000023_00.jpg", picture(23))
    save(tree / "query/0003_c1s1_000024_00.jpg", picture(24))
    assert found(tree) == {
        "identities in train and test": ("1", ["identity 1"]),
        "no answer": ("2", ["identity 3", "identity 4"]),
        "single image": ("1", ["identity 1"]),
        "single camera": ("2", ["identity 1", "identity 8"]),
    }


def test_a_split_without_a_readable_image_is_unusable(tree: Path) -> None:
    for path in (tree / "query").iterdir():
        path.write_bytes(b"")
    report = check(read_dataset(tree))
    assert (report.usable, report.exit_code) == (False, 2)


def test_multiple_queries_are_no_duplicates_of_the_queries(tree: Path) -> None:
    for name in NAMES[5:7]:
        save(tree / "gt_bbox" / Path(name).name, picture(NAMES.index(name)))
    assert "multi_query" in check(read_dataset(tree)).splits
    assert found(tree) == {}


def test_a_second_check_reads_changed_files_only(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "run" / "cache"
    first = check(read_dataset(tree), cache=cache)
    looked: list[str] = []
    look = scanning.look
    monkeypatch.setattr(scanning, "look", lambda path: looked.append(path.name) or look(path))
    again = check(read_dataset(tree), cache=cache)
    assert looked == []
    assert again.findings == first.findings
    (tree / NAMES[3]).write_bytes(b"broken")
    save(tree / "query/0001_c4s1_000030_00.jpg", picture(30))
    changed = check(read_dataset(tree), cache=cache)
    assert sorted(looked) == ["0001_c4s1_000030_00.jpg", Path(NAMES[3]).name]
    assert [finding.kind for finding in changed.findings] == ["unreadable"]
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


def test_an_interrupted_check_goes_on(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_CHUNK", 1)
    look = scanning.look
    looked: list[str] = []

    def stop(path: Path) -> tuple[object, ...]:
        if path.name == Path(NAMES[5]).name:
            raise KeyboardInterrupt
        return look(path)

    monkeypatch.setattr(scanning, "look", stop)
    with pytest.raises(KeyboardInterrupt):
        check(read_dataset(tree), cache=tmp_path / "cache", workers=1)
    monkeypatch.setattr(scanning, "look", lambda path: looked.append(path.name) or look(path))
    assert check(read_dataset(tree), cache=tmp_path / "cache").findings == []
    assert len(looked) == len(NAMES) - 5


def test_a_spoilt_cache_is_made_anew(tree: Path, tmp_path: Path) -> None:
    check(read_dataset(tree), cache=tmp_path / "cache")
    (store,) = (tmp_path / "cache").iterdir()
    store.write_bytes(store.read_bytes()[:100])
    assert check(read_dataset(tree), cache=tmp_path / "cache").findings == []


def test_the_cache_stays_out_of_the_data(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lies inside the data set"):
        check(read_dataset(tree), cache=tree / "cache")
    before = sorted(tree.rglob("*"))
    check(read_dataset(tree), cache=tmp_path / "cache")
    assert sorted(tree.rglob("*")) == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="no folder can be made there for the cache"):
        check(read_dataset(tree), cache=tmp_path / "file" / "cache")


def test_json_and_tables(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / NAMES[3]).write_bytes(b"")
    report: CheckReport = check(read_dataset(tree))
    made = json.loads(report.to_json())
    assert made["exit_code"] == 1
    assert made["splits"]["gallery"]["junk"] == 1
    assert made["findings"][0]["examples"] == [NAMES[3]]
    report.show()
    shown = capsys.readouterr().out
    assert f"problem: 1 files are truncated: {NAMES[3]}" in shown
    assert "64 and more" in shown
    assert "problems found (12 images" in shown


def test_an_incomplete_public_set_is_a_problem(tree: Path) -> None:
    tree = tree.rename(tree.with_name("Market-1501-v15.09.15"))
    (finding, *_) = check(read_dataset(tree)).findings
    assert finding.kind == "incomplete"
    assert finding.text.startswith("market1501, train: 5 images where the published set has 12936 (12931 missing)")
