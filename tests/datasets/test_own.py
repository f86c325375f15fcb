"""One's own photos as they really lie on disks, by the command line: nothing lost without a word, nobody merged."""

from __future__ import annotations

import json
import os
import re
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from command import Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dgnet.config import Data
from dgnet.datasets import patterns, tables
from dgnet.datasets.read import detect, elsewhere, of_config, read_dataset
from dgnet.datasets.records import hold_out
from dgnet.errors import UserError
from dgnet.images.decode import decode


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def photo(path: Path, seed: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(str(path).encode()) if seed is None else seed)
    small = Image.fromarray(rng.integers(256, size=(8, 4, 3), dtype=np.uint8))
    small.resize((32, 64), Image.Resampling.BICUBIC).save(path)
    return path


def shop(root: Path, *people: str, each: int = 3) -> Path:
    for person in people:
        for number in range(each):
            photo(root / person / f"IMG_{number:03d}.png")
    return root


def table(tmp_path: Path, *rows: str, head: str = "path,identity,camera,split", encoding: str = "utf-8") -> Path:
    """people.csv, whose photos are there."""
    for row in rows:
        if name := row.replace(";", ",").split(",")[0].strip('" '):
            photo(tmp_path / name)
    file = tmp_path / "people.csv"
    file.write_bytes("\n".join([head, *rows, ""]).encode(encoding))
    return file


# The way through


def test_a_folder_of_people_is_checked_and_read_without_a_word_of_layout(run: Run, tmp_path: Path) -> None:
    shop(tmp_path / "shopA", *(f"person {k}" for k in range(8)), each=7)
    code, out, _ = run("data", "check", "shopA")
    assert code == 0
    assert "clean (56 images" in out
    data = of_config(Data(root="shopA", holdout=0.25), "train")
    assert (len(data.train.people), len(data.query.people), len(data.gallery.people)) == (6, 2, 2)
    assert set(data.train.people).isdisjoint(data.query.people)


def test_the_only_folder_inside_is_read(tmp_path: Path) -> None:
    shop(tmp_path / "mine" / "shopA", "anna", "ben")
    assert read_dataset(tmp_path / "mine").root == tmp_path / "mine" / "shopA"


def test_no_query_images_names_the_way_out(run: Run, tmp_path: Path) -> None:
    shop(tmp_path / "shopA", "anna", "ben")
    with pytest.raises(UserError, match=r"has no query images; data.holdout=0.25 \(evaluate: --holdout 0.25\)"):
        read_dataset(tmp_path / "shopA", need=("query", "gallery"))


def test_joined_folders_need_no_layout(tmp_path: Path) -> None:
    roots = [shop(tmp_path / name, "anna", "ben") for name in ("one", "two", "set=3")]
    for entry in (str(roots[1]), f"auto={roots[1]}", f"folders={roots[1]}", f"pattern:{{identity}}/*={roots[1]}"):
        both = of_config(Data(root=str(roots[0]), join=(entry, str(roots[2]))), "train")
        assert (len(both.train.people), set(both.train.columns["source"])) == (6, {"one", "two", "set=3"})


NOBODY = (
    ("data", "check", "~nosuchuser/x"),
    ("data", "check", "mine", "--cache", "~nosuchuser/x"),
    ("data", "check", "mine", "--json=~nosuchuser/x"),
    ("data", "synthesize", "~nosuchuser/x", "--identities", "3", "--test-identities", "1"),
    ("train", "teacher", "~nosuchuser/x", "data.root=mine", "--config", "tiny"),
    ("train", "teacher", "run", "data.root=~nosuchuser/x", "--config", "tiny"),
    ("train", "teacher", "run", "data.root=mine", "data.join=[~nosuchuser/x]", "--config", "tiny"),
    ("train", "teacher", "run", "data.root=mine", "data.cache=~nosuchuser/x", "--config", "tiny"),
    ("train", "joint", "run", "data.root=mine", "--teacher", "~nosuchuser/x", "--config", "tiny"),
    ("demo", "~nosuchuser/x"),
    ("evaluate", "~nosuchuser/x"),
    ("generate", "folder", "~nosuchuser/x", "out", "--images", "mine"),
    ("weights", "import", "~nosuchuser/x", "--out", "out"),
)


@pytest.mark.parametrize("command", NOBODY, ids=lambda command: " ".join(command[:2]))
def test_a_home_folder_of_nobody_is_one_line_and_leaves_nothing(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    shop(tmp_path / "mine", "anna", "ben", each=5)
    code, _, err = run(*command)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ~nosuchuser/x")
    assert "no home folder of that user is known" in last
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_home_folder_is_found_behind_an_equals_sign(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shop(tmp_path / "home" / "mine", "anna", "ben")
    assert run("data", "check", "~/mine", "--json=~/found.json")[0] == 0
    assert (tmp_path / "home" / "found.json").is_file()


# Holding out


def test_who_is_held_out_depends_on_people_and_seed_alone(tmp_path: Path) -> None:
    whole = read_dataset(shop(tmp_path / "shopA", *"abcdefghijkl"))
    some = [hold_out(whole, 0.25, seed) for seed in (0, 0, 1)]
    assert some[0].query.paths == some[1].query.paths
    assert some[0].query.paths != some[2].query.paths
    one = some[0]
    assert sorted([*one.train.paths, *one.query.paths, *one.gallery.paths]) == sorted(whole.train.paths)
    assert len(one.query) == 3  # without cameras, one query each
    assert set(one.query.people) == set(one.gallery.people)


def test_with_cameras_each_is_asked_for_once_by_each_camera(tmp_path: Path) -> None:
    for person in "abcd":
        for camera in (1, 2):
            for number in range(2):
                photo(tmp_path / "mine" / person / f"{number}_c{camera}.png")
    held = hold_out(read_dataset(tmp_path / "mine"), 0.5)
    assert len(held.query) == len(held.gallery) == 4
    assert {tuple(pair) for pair in zip(held.query.identities, held.query.cameras, strict=True)} == {
        (person, camera) for person in held.query.people for camera in (1, 2)
    }


@pytest.mark.parametrize(("people", "share"), [("abc", 0.25), ("abc", 0.5), ("ab", 0.5), ("abcdefgh", 0.9)])
def test_too_few_to_hold_out(tmp_path: Path, people: str, share: float) -> None:
    with pytest.raises(UserError, match=rf"data.holdout = {share}: that is \d of {len(people)} people; hold out at"):
        hold_out(read_dataset(shop(tmp_path / "mine", *people)), share)


def test_only_who_can_be_found_again_is_held_out(tmp_path: Path) -> None:
    shop(tmp_path / "mine", "a", "b", "c", "d", each=1)
    shop(tmp_path / "mine", "e", "f", "g")
    held = hold_out(read_dataset(tmp_path / "mine"), 0.3)
    assert set(held.query.columns["identity"]) < {"e", "f", "g"}
    with pytest.raises(UserError, match="that is 4 of 7 people, but only 3 have two images; hold out less"):
        hold_out(read_dataset(tmp_path / "mine"), 0.6)


def test_where_there_are_cameras_two_of_them_must_have_seen_who_is_held_out(tmp_path: Path) -> None:
    for person, cameras in {"a": (1, 1), "b": (1, 2), "c": (2, 1), "d": (2, 2), "e": (1, 1)}.items():
        for number, camera in enumerate(cameras):
            photo(tmp_path / "mine" / person / f"{number}_c{camera}.png")
    data = read_dataset(tmp_path / "mine")
    held = hold_out(data, 0.4)
    assert set(held.query.columns["identity"]) == {"b", "c"}
    assert len(held.query) == len(held.gallery) == 2
    with pytest.raises(UserError, match="only 2 have two images of different cameras"):
        hold_out(data, 0.6)


def test_check_shows_who_would_be_held_out(run: Run, tmp_path: Path) -> None:
    shop(tmp_path / "mine", *"abcdefgh")
    code, _, err = run("data", "check", "mine", "--holdout", 0.25, "--json", "found.json")
    assert code == 0
    held = [str(word) for word in of_config(Data(root="mine", holdout=0.25), "train").query.columns["identity"]]
    assert f"held out as query and gallery: {', '.join(held)}" in " ".join(err.split())
    splits = json.loads((tmp_path / "found.json").read_text())["splits"]
    assert {name: split["identities"] for name, split in splits.items()} == {"train": 6, "query": 2, "gallery": 2}
    for share in (2, -1, "nan", 0.01):
        assert run("data", "check", "mine", "--holdout", share)[0] == 2


def test_who_is_held_out_elsewhere_is_who_was_held_out_in_training() -> None:
    trained = Data(root="mine", layout="folders", holdout=0.25, holdout_seed=7)
    assert elsewhere(trained, None) == trained
    moved = elsewhere(trained, "moved", "auto", 0.25)
    assert (moved.root, moved.holdout, moved.holdout_seed) == ("moved", 0.25, 7)
    assert elsewhere(trained, "another").holdout == 0
    with pytest.raises(UserError, match="a share of the people"):
        elsewhere(trained, None, holdout=1)


def test_a_set_with_a_test_of_its_own_holds_nobody_out(tmp_path: Path) -> None:
    for split in ("train", "query", "gallery"):
        shop(tmp_path / "mine" / split, "anna", "ben")
    with pytest.raises(UserError, match="has query or gallery images of its own"):
        of_config(Data(root=str(tmp_path / "mine"), holdout=0.5), "train")


# Two readings


@pytest.mark.parametrize("rival", ["query", "gallery"])
def test_a_test_beside_query_or_gallery_is_asked_about(run: Run, tmp_path: Path, rival: str) -> None:
    for split in ("train", "test", rival):
        shop(tmp_path / "mine" / split, "anna", "ben")
    code, _, err = run("data", "check", "mine")
    assert code == 2
    assert f"has test images beside {rival} images: if test is the gallery, call it gallery" in err
    file = table(tmp_path, "a.png,anna,1,train", "b.png,ben,1,train", f"c.png,anna,2,{rival}", "d.png,ben,2,test")
    code, _, err = run("data", "check", file)
    assert code == 2
    assert f"beside {rival} images" in err


@pytest.mark.parametrize("spellings", [("2", "2.0", "02"), ("2", "+2", "002."), ("7", "07", "7"), ("2", "２", "٢")])
def test_a_number_is_compared_as_a_number(run: Run, tmp_path: Path, spellings: tuple[str, ...]) -> None:
    rows = [f"{k}.png,{word},{camera},train" for k, (word, camera) in enumerate(zip(spellings, "123", strict=True))]
    file = table(tmp_path, *rows, "x.png,5,01,train", "y.png,5,2.0,train")
    data = read_dataset(file, need=())
    assert len(data.train.people) == 2
    assert data.train.cameras.tolist() == [1, 2, 3, 1, 2]
    assert "taken as one" in " ".join(data.notes)
    code, out, _ = run("data", "check", file)
    assert code == 1
    assert "taken as one" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "same"),
    [(("1e3", "1000"), True), (("1.50", "1.5"), True), (("1,0", "1.0"), False), (("1e3", "7"), False)],
)
def test_two_words_that_are_one_number_are_asked_about(
    run: Run, tmp_path: Path, words: tuple[str, str], same: bool
) -> None:
    rows = [f'{k}.png,"{word}",{k % 2},train' for k, word in enumerate((*words, "9", "8"))]
    code, _, err = run("data", "check", table(tmp_path, *rows))
    assert (f"identity '{words[0]}' and identity '{words[1]}' are one number" in err) == same
    assert (code == 2) == same


@pytest.mark.parametrize("seen_as_anna", ["anna\u200b", "\ufeffanna", "an\u00adna", "anna\u200e"])
def test_letters_that_nobody_sees_make_no_other_person(run: Run, tmp_path: Path, seen_as_anna: str) -> None:
    file = table(tmp_path, "a.png,anna,1,train", f"b.png,{seen_as_anna},2,train", "c.png,ben,1,train")
    assert len(read_dataset(file).train.people) == 2
    code, out, _ = run("data", "check", file)
    assert code == 1
    assert seen_as_anna not in out
    assert seen_as_anna.encode("unicode_escape").decode() in out
    shop(tmp_path / "shop", "anna", seen_as_anna)
    code, _, err = run("data", "check", "shop")
    assert code == 2
    assert "one identity or two?" in err


def test_a_pipe_among_photos_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    shop(tmp_path / "shop", "anna", "ben")
    os.mkfifo(tmp_path / "shop" / "anna" / "pipe.png")
    os.mkfifo(tmp_path / "shop" / "anna" / "pipe")
    code, out, _ = run("data", "check", "shop")
    assert code == 1
    assert "1 files are no readable images: anna/pipe.png" in " ".join(out.split())
    with pytest.raises(UserError, match=r"pipe\.png: cannot be read \(a pipe or a device, no file\)"):
        decode(tmp_path / "shop" / "anna" / "pipe.png")


def test_one_file_under_two_names_is_asked_about(run: Run, tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,anna,1,train", "b.png,ben,1,train", "./a.png,ben,1,query")
    code, _, err = run("data", "check", file)
    assert code == 2
    assert "row 3" in err
    assert "a.png shows 'ben' by camera '1', but 'anna' by camera '1' in row 1: which is right?" in err
    same = table(tmp_path, "a.png,2,1,train", "b.png,3,1,train", "a.png,02,1.0,train")
    assert len(read_dataset(same).train) == 3


def test_names_that_differ_in_case_alone_are_told(run: Run, tmp_path: Path) -> None:
    shop(tmp_path / "mine" / "train", "Anna", "ben")
    shop(tmp_path / "mine" / "query", "anna")
    shop(tmp_path / "mine" / "gallery", "anna")
    code, out, _ = run("data", "check", "mine")
    assert code == 1
    assert "lower case alone differ, taken as more than one identity: 'Anna' and 'anna'" in " ".join(out.split())


def test_a_file_name_with_two_cameras_is_asked_about(run: Run, tmp_path: Path) -> None:
    for person in ("anna", "ben"):
        photo(tmp_path / "mine" / person / "1_c1_c2.png")
    code, _, err = run("data", "check", "mine")
    assert code == 2
    assert "1_c1_c2.png: its name says camera 1 and camera 2: which one?" in err


def test_two_folders_for_one_split_are_asked_about(run: Run, tmp_path: Path) -> None:
    for split in ("Train", "TRAIN"):
        shop(tmp_path / "mine" / split, "anna", "ben")
    code, _, err = run("data", "check", "mine")
    assert code == 2
    assert "holds TRAIN and Train: which is for train?" in err


def test_two_folders_that_are_one_number_are_asked_about(run: Run, tmp_path: Path) -> None:
    shop(tmp_path / "mine", "2", "02", "3")
    code, _, err = run("data", "check", "mine")
    assert code == 2
    assert "the folders '02' and '2' of train: one identity or two?" in err


def test_composed_and_decomposed_letters_are_one_person(tmp_path: Path) -> None:
    name = "Zoë"
    shop(tmp_path / "mine" / "train", unicodedata.normalize("NFC", name), "ben")
    shop(tmp_path / "mine" / "query", unicodedata.normalize("NFD", name))
    shop(tmp_path / "mine" / "gallery", unicodedata.normalize("NFD", name), "ben")
    data = read_dataset(tmp_path / "mine")
    assert set(data.query.people) < set(data.train.people)
    with pytest.raises(UserError, match="one identity or two"):
        read_dataset(shop(tmp_path / "two", unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))


def test_a_pattern_that_fits_in_two_ways_shows_both(run: Run, tmp_path: Path) -> None:
    for name in ("anna_clara_c1_01", "ben_c2_01"):
        photo(tmp_path / "flat" / f"{name}.png")
    code, _, err = run("data", "check", "flat", "--layout", "pattern:{identity}_c{camera}_*.png")
    assert code == 2
    assert "identity 'anna', camera 'lara' or identity 'anna_clara', camera '1'" in err
    data = read_dataset(tmp_path / "flat", "pattern:{identity}_c{camera:d}_*.png")
    assert data.train.columns["identity"].tolist() == ["anna_clara", "ben"]


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("{identity}_c{camera}_*.jpg", "0002_c1s1_000451_03.jpg", [{"identity": "0002", "camera": "1s1"}]),
        ("{identity}_*.jpg", "anna_01_02.JPG", [{"identity": "anna"}]),
        ("{camera}/{identity}/*", "north/anna/x.y.png", [{"camera": "north", "identity": "anna"}]),
        ("{identity}/cam{camera}_*", "anna/Cam3_0.png", [{"identity": "anna", "camera": "3"}]),
        ("{identity}_c{camera}", "a_c1", [{"identity": "a", "camera": "1"}]),
        ("{identity}_{camera}_*", "a_b_c", [{"identity": "a", "camera": "b"}]),
        (
            "{identity}{camera:d}",
            "anna12",
            [{"identity": "anna", "camera": "12"}, {"identity": "anna1", "camera": "2"}],
        ),
        ("{identity}_c{camera}_*.jpg", "nobody.jpg", []),
        ("{identity}", "a/b", []),
    ],
)
def test_readings_of_a_pattern(pattern: str, path: str, found: list[dict[str, str]]) -> None:
    assert patterns.parse(pattern).readings(path) == found


def test_a_pattern_of_many_stars_does_not_take_forever() -> None:
    assert patterns.parse("*a*a*a*a*a*a{identity}*a*a*a*b").readings("a" * 250) == []


def test_the_split_may_stand_in_the_pattern(tmp_path: Path) -> None:
    for split in ("train", "query", "gallery"):
        for name in ("anna_1", "ben_1"):
            photo(tmp_path / "deep" / split / f"{name}.png")
            photo(tmp_path / "flat" / f"{split}-{name}.png")
    for folder, pattern in (("deep", "{split}/{identity}_*"), ("flat", "{split}-{identity}_*")):
        splits = read_dataset(tmp_path / folder, f"pattern:{pattern}").splits
        assert {name: len(split) for name, split in splits.items()} == {"train": 2, "query": 2, "gallery": 2}


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*.jpg", "needs a pattern with {identity}"),
        ("{identity}_{identity}", "stands twice"),
        ("{identity", "a brace is left open"),
        ("{identity}_{the camera}", "is no word"),
        ("{identity:x}", "only {identity:d}, digits"),
    ],
)
def test_patterns_that_are_none(pattern: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        patterns.parse(pattern)
    assert says in str(refused.value)


def test_cameras_as_folders(tmp_path: Path) -> None:
    for camera in ("north", "south"):
        shop(tmp_path / "mine" / camera, "anna", "ben")
    data = read_dataset(tmp_path / "mine", "pattern:{camera}/{identity}/*")
    assert (len(data.train), len(data.train.people), set(data.train.cameras)) == (12, 2, {1, 2})
    assert set(data.train.columns["camera"]) == {"north", "south"}
    with pytest.raises(UserError, match=r"use pattern:\{camera\}/\{identity\}/\*"):
        read_dataset(tmp_path / "mine", "folders")


# Nothing lost without a word


def test_upper_case_cameras_are_seen_and_missing_ones_told(run: Run, tmp_path: Path) -> None:
    for person in ("anna", "ben"):
        for name in ("1_c6", "2_C6", "3_C7"):
            photo(tmp_path / "mine" / person / f"{name}.png")
    assert set(read_dataset(tmp_path / "mine").train.cameras) == {6, 7}
    photo(tmp_path / "mine" / "ben" / "4.png")
    code, out, _ = run("data", "check", "mine")
    assert code == 1
    assert "cameras are not used: 1 of 7 file names do not say theirs" in " ".join(out.split())


@pytest.mark.parametrize("name", ["1", "1.JPG_large", "1.jpg.part", "1.heiq"])
def test_a_picture_is_known_by_its_first_bytes_where_its_ending_says_nothing(
    run: Run, tmp_path: Path, name: str
) -> None:
    shop(tmp_path / "mine", "anna", "ben")
    photo(tmp_path / "mine" / "ben" / "x.png").rename(tmp_path / "mine" / "ben" / name)
    (tmp_path / "mine" / "ben" / "Thumbs.db").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "mine" / "notes").write_text("not a picture")
    code, out, _ = run("data", "check", "mine")
    assert code == 1
    assert "1 pictures of a kind that is not read" in " ".join(out.split())


def test_the_copy_that_the_published_code_needs_is_read_without_complaint(tmp_path: Path) -> None:
    for split in ("train_all", "train", "val", "query", "gallery"):
        for person in ("0002", "0007") if "a" in split[:3] else ("0001", "0003"):
            for name in ("1_c1", "2_c2"):
                photo(tmp_path / "market" / "pytorch" / split / person / f"{name}.png")
    data = read_dataset(tmp_path / "market")
    assert data.notes == ()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 4, "query": 4, "gallery": 4}


@pytest.mark.parametrize("ending", [".heic", ".gif", ".HEIF"])
def test_pictures_of_a_kind_that_is_not_read_are_told(run: Run, tmp_path: Path, ending: str) -> None:
    shop(tmp_path / "mine", "anna", "ben")
    (tmp_path / "mine" / "carl").mkdir()
    (tmp_path / "mine" / "carl" / f"1{ending}").write_bytes(b"x")
    code, out, _ = run("data", "check", "mine")
    assert code == 1
    assert "1 pictures of a kind that is not read" in " ".join(out.split())
    assert "hold no images directly and are left out" in " ".join(out.split())


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".webp", ".avif"])
def test_more_endings_are_read(tmp_path: Path, ending: str) -> None:
    shop(tmp_path / "mine", "anna", "ben")
    image = Image.open(tmp_path / "mine" / "anna" / "IMG_000.png").convert("RGB")
    path = tmp_path / "mine" / "carl" / f"1{ending}"
    path.parent.mkdir()
    image.save(path, format={".jfif": "JPEG", ".jpe": "JPEG"}.get(ending))
    assert len(read_dataset(tmp_path / "mine").train.people) == 3


def test_folders_that_are_not_read_are_told(run: Run, tmp_path: Path) -> None:
    for split in ("train", "query", "gallery", "val"):
        shop(tmp_path / "mine" / split, "anna", "ben")
    photo(tmp_path / "mine" / "train" / "loose.png")
    photo(tmp_path / "mine" / "train" / "anna" / "more" / "deep.png")
    code, out, _ = run("data", "check", "mine")
    said = " ".join(out.split())
    assert code == 1
    assert "val in " in said
    assert "not read, beside train, query, gallery" in said
    assert "2 images below " in said


@pytest.mark.parametrize("what", ["photo", "person", "root"])
def test_a_name_that_is_not_utf8_is_told_at_once(run: Run, tmp_path: Path, what: str) -> None:
    shop(tmp_path / "mine", "anna", "ben")
    odd = b"mine/ben/\xff.png" if what == "photo" else b"b\xff" if what == "root" else b"mine/\xff"
    os.rename({"photo": "mine/ben/IMG_000.png", "person": "mine/ben", "root": "mine"}[what], odd)  # noqa: PTH104
    root = os.fsdecode(odd) if what == "root" else "mine"
    for command in (("data", "check", root), ("train", "teacher", "runs/t", f"data.root={root}", "--config", "tiny")):
        code, _, err = run(*command)
        assert code == 2
        assert r"\xff" in err
        assert "its name is not UTF-8" in err
    assert not (tmp_path / "runs").exists()


def test_names_stay_the_users_words(run: Run, tmp_path: Path) -> None:
    shop(tmp_path / "mine", "anna", "ben")
    shop(tmp_path / "mine", "carl", each=1)
    code, out, _ = run("data", "check", "mine", "--json", "found.json")
    assert code == 0
    assert "carl" in out
    assert "identity 3" not in out
    assert "carl" in json.dumps(json.loads((tmp_path / "found.json").read_text()))


# Tables


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_that_are_read(tmp_path: Path, encoding: str) -> None:
    file = table(tmp_path, "a.png,Zoë,1,train", "b.png,ben,1,train", encoding=encoding)
    assert read_dataset(file).train.columns["identity"].tolist() == ["Zoë", "ben"]


@pytest.mark.parametrize(("encoding", "name"), [("gbk", "王芳"), ("latin-1", "Zoë"), ("cp1252", "François")])
def test_encodings_that_are_not_say_which_were_tried(run: Run, tmp_path: Path, encoding: str, name: str) -> None:
    file = table(tmp_path, "a.png,ben,1,train", f"b.png,{name},1,train", encoding=encoding)
    code, _, err = run("data", "check", file)
    assert code == 2
    assert f"{file}, line 3: byte 0x" in err
    assert "UTF-8, and UTF-16 with its mark, were tried" in err


def test_empty_last_columns_and_rows_of_a_spreadsheet(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,anna,1,train,,", "b.png,ben,1,train,,", ",,,,,", head="path,identity,camera,split,,")
    assert len(read_dataset(file).train) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("camera", "identity"), "column 'identity' stands twice"),
        (("a.png,", '"a.png,'), "is a quotation mark left open"),
        (("a.png,anna,", "a.png,NaN,"), "identity 'NaN' is what programs write for an empty cell"),
        (("a.png,anna,", "a.png,-5,"), "of the negative numbers only -1"),
        (("anna,1", "anna,1,7"), "line 2: expected 4 fields"),
        (("path,", "file,"), "has no column 'path'"),
        (("camera", "IDENTITY"), "column 'identity' stands twice"),
        (("anna", "an\0na"), "line 2: a zero byte"),
        (("a.png", "a" * 300), "names 1 files of 2 that do not exist"),
        (("anna,1,train\nb.png,ben,1", '"anna,1,train\nb.png,ben",1'), "line 3: a field goes over several lines"),
        (("train", ""), "row 1: split is empty"),
        (("train", "trian"), "unknown split 'trian'"),
        (("anna", "1.23457E+11"), "row 1: identity '1.23457E+11' is how a spreadsheet shortens a long number"),
        (("a.png", "https://shop.example/a.png"), "row 1: https://shop.example/a.png is a URL"),
        (("a.png", r"C:\photos\a.png"), r"row 1: C:\photos\a.png lies on a drive of Windows"),
        (("a.png", "A.PNG"), "(there is "),
        (("a.png", "."), "(a folder: name each photo in it)"),
        (("ben", "-7"), "people.csv: identity -7: of the negative numbers"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(run: Run, tmp_path: Path, change: tuple[str, str], says: str) -> None:
    file = table(tmp_path, "a.png,anna,1,train", "b.png,ben,1,train")
    file.write_text(file.read_text().replace(*change, 1))
    code, _, err = run("data", "check", file)
    assert code == 2
    assert says in err
    assert err.strip().splitlines()[-1].startswith("error: ")


def test_a_missing_camera_is_unknown_and_a_huge_number_a_name(tmp_path: Path) -> None:
    huge = "12345678901234567890"
    file = table(tmp_path, f"a.png,{huge},1,train", "b.png,5,nan,train", f"c.png,{huge},,train")
    data = read_dataset(file)
    assert data.train.cameras.tolist() == [1, -1, -1]
    assert len(data.train.people) == 2
    assert data.train.columns["identity"].tolist() == [huge, "5", huge]


def test_columns_in_capitals_are_read_and_misspelt_ones_told(run: Run, tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,anna,1,train", "b.png,ben,1,train", head="Path,Identity,CAM_ID,SPLIT")
    assert list(read_dataset(file).splits) == ["train"]
    code, out, _ = run("data", "check", file)
    assert code == 1
    assert "has no column 'camera'; if 'CAM_ID' is meant, rename it" in " ".join(out.split())


@pytest.mark.parametrize(
    "head", ["path|identity", "\n\npath;identity", ",path,,identity", "\ufeff\ufeffpath\tident\u200bity"]
)
def test_heads_as_programs_write_them(tmp_path: Path, head: str) -> None:
    between = next(mark for mark in "|;\t," if mark in head)
    rows = [["1", "a.png", "", "anna"], ["2", "b.png", "", "ben"]]
    cells = rows if ",," in head else [[path, who] for _, path, _, who in rows]
    file = tmp_path / "people.tsv"
    file.write_text("\n".join([head, *map(between.join, cells)]))
    for name in "ab":
        photo(tmp_path / f"{name}.png")
    assert detect(file) == "table"
    data = read_dataset(file)
    assert data.train.columns["identity"].tolist() == ["anna", "ben"]
    assert set(data.train.columns) == {"identity", "camera"}


def test_a_table_of_a_spreadsheet_on_windows(tmp_path: Path) -> None:
    for name in "ab":
        photo(tmp_path / "shop" / f"{name}.png")
    rows = "sep=;\r\npath;identity\r\nshop\\a.png;anna\r\nshop\\b.png;ben\r\n"
    (tmp_path / "people.csv").write_bytes(rows.encode())
    assert [path.name for path in read_dataset(tmp_path / "people.csv").train.paths] == ["a.png", "b.png"]


def test_a_camera_that_may_be_a_missing_one_is_told(tmp_path: Path) -> None:
    data = read_dataset(table(tmp_path, "a.png,anna,NA,train", "b.png,ben,EU,train"))
    assert data.train.cameras.tolist() == [-1, 1]
    assert data.words("camera") == {1: "EU"}
    assert "camera 'NA' is taken as unknown" in " ".join(data.notes)


def test_other_columns_stay_with_their_images(tmp_path: Path) -> None:
    rows = [f"{k}.png,p{k // 2},{k % 2},train,coat{k}" for k in range(12)]
    data = read_dataset(table(tmp_path, *rows, head="path,identity,camera,split,Clothes"))
    for split in hold_out(data, 0.5).splits.values():
        assert [f"{path.stem}" for path in split.paths] == [
            word.removeprefix("coat") for word in split.columns["Clothes"]
        ]
    photo(tmp_path / "flat" / "anna_red_c1.png")
    photo(tmp_path / "flat" / "ben_blue_c2.png")
    worn = read_dataset(tmp_path / "flat", "pattern:{identity}_{clothes}_c{camera}.png")
    assert worn.train.columns["clothes"].tolist() == ["red", "blue"]


# Parquet


def parquet(tmp_path: Path, **columns: object) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as format_of

    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / name)
    made = {"path": ["a.png", "b.png", "c.png"], "identity": ["anna", "ben", "carl"], **columns}
    format_of.write_table(pyarrow.table(made), tmp_path / "people.parquet")
    return tmp_path / "people.parquet"


@pytest.mark.parametrize(
    ("identity", "people"),
    [
        ([2, 3, 2], 2),
        ([2.0, 3.0, 2.0], 2),
        (["2", "2.0", "3"], 2),
        ([b"anna", b"ben", b"carl"], 3),
        ([12345678901234567, 12345678901234568, 7], 3),
    ],
)
def test_identities_of_a_parquet_file(tmp_path: Path, identity: list[object], people: int) -> None:
    file = parquet(tmp_path, identity=identity, camera=[1.0, None, float("nan")])
    data = read_dataset(file)
    assert len(data.train.people) == people
    assert data.train.cameras.tolist() == [1, -1, -1]


@pytest.mark.parametrize(
    ("identity", "says"),
    [
        ([1.0, None, 2.0], "row 2: path or identity is empty"),
        ([1.0, float("nan"), 2.0], "row 2: path or identity is empty"),
        (["anna", "NaN", "ben"], "row 2: identity 'NaN' is what programs write"),
        ([1.2345678901234567e19, 2.0, 3.0], "its last digits are lost; write it as text"),
        ([b"anna", b"\xff", b"ben"], "can't decode byte"),
    ],
)
def test_what_is_wrong_with_a_parquet_file_is_one_line(
    run: Run, tmp_path: Path, identity: list[object], says: str
) -> None:
    file = parquet(tmp_path, identity=identity)
    code, _, err = run("data", "check", file)
    assert code == 2
    assert says in err
    assert err.strip().splitlines()[-1].startswith(f"error: {file}")


def test_a_parquet_file_that_is_cut(run: Run, tmp_path: Path) -> None:
    file = parquet(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    code, _, err = run("data", "check", file)
    assert code == 2
    assert f"error: {file}: no readable Parquet file" in err


GOOD = """path,identity,camera,split
a.png,anna,1,train
b.png,ben,2,train
c.png,"carl, the elder",1,train
d.png,Zoë,2,train
"""
WRITTEN = [GOOD.encode(code) for code in ("utf-8", "utf-16", "utf-16-le", "latin-1")] + [
    GOOD.replace(",", ";").encode()
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(WRITTEN),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    st.integers(0, 200),
)
def test_a_damaged_table_is_read_as_it_stands_or_refused_in_one_line(
    tmp_path: Path, data: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    for name in "abcd":
        if not (tmp_path / f"{name}.png").exists():
            photo(tmp_path / f"{name}.png")
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    file = tmp_path / "people.csv"
    file.write_bytes(bytes(damaged[: max(0, len(damaged) - cut)]))
    refused = ""
    try:
        read = read_dataset(file, need=())
    except UserError as error:
        refused = str(error)
    if refused:
        assert str(file) in refused
        assert "\n" not in refused
        return
    text = tables.text_of(file).replace('"', "")
    rows = [line for line in re.split(r"[\r\n]+", text)[1:] if line.strip(" ,;\t")]
    images = [
        (path.name, word.replace('"', ""))
        for split in read.splits.values()
        for path, word in zip(split.paths, split.columns["identity"].tolist(), strict=True)
    ]
    assert len(images) == len(rows)
    assert all(any(path in row and word in row for row in rows) for path, word in images)


def test_a_layout_that_cannot_be_told_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match="it holds notes"):
        detect(tmp_path)


def test_a_name_that_might_be_longer_before_a_star_is_said(tmp_path: Path, run: Run) -> None:
    for name in ("anna_clara_01.jpg", "anna_berta_01.jpg", "carl_01.jpg", "0007_x_01.jpg"):
        photo(tmp_path / "shop" / name)
    said = " ".join(run("data", "check", tmp_path / "shop", "--layout", "pattern:{identity}_*").out.split())
    assert "takes anna_berta_01.jpg for 'anna', and could take it for 'anna_berta' (2 of 4 names in" in said
    plain = read_dataset(tmp_path / "shop", "pattern:{identity}_{number:d}.*")
    assert not any("could take it" in note for note in plain.notes)
    assert len(plain.train.people) == 4
