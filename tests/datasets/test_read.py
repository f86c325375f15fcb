"""Each reader on a small tree in the set's exact layout, and on the ways in which such trees are broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trees import plant

from dgnet.datasets import read as readers
from dgnet.datasets.official import OFFICIAL, missing
from dgnet.datasets.read import detect, read_dataset
from dgnet.datasets.records import Dataset, Split
from dgnet.errors import UserError

Tree = Callable[..., Path]


def seen(split: Split | None) -> list[tuple[str, int, int]]:
    assert split is not None
    return [
        (path.name, person, camera)
        for path, person, camera in zip(split.paths, split.identities.tolist(), split.cameras.tolist(), strict=True)
    ]


def people(split: Split) -> list[int]:
    return split.identities.tolist()


MARKET = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000551_01.jpg",
    "bounding_box_train/0007_c3s3_077419_03.jpg",
    "bounding_box_train/0007_c6s3_077419_03.jpg",
    "bounding_box_train/Thumbs.db",
    "query/0001_c1s1_001051_00.jpg",
    "query/0001_c2s1_000301_00.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
    "bounding_box_test/0000_c2s1_000151_01.jpg",
    "bounding_box_test/0001_c1s1_001051_03.jpg",
    "bounding_box_test/0001_c3s1_001051_03.jpg",
)


@pytest.fixture
def market(tmp_path: Path) -> Path:
    return plant(tmp_path / "people", *MARKET)


def test_market1501(market: Path) -> None:
    dataset = read_dataset(market)
    assert dataset.name == "market1501"
    assert dataset.root == market
    assert people(dataset.train) == [2, 2, 7, 7]
    assert dataset.train.cameras.tolist() == [1, 2, 3, 6]
    assert seen(dataset.gallery) == [
        ("-1_c1s1_000401_03.jpg", -1, 1),
        ("0000_c2s1_000151_01.jpg", 0, 2),
        ("0001_c1s1_001051_03.jpg", 1, 1),
        ("0001_c3s1_001051_03.jpg", 1, 3),
    ]
    assert dataset.multi_query is None


def test_market1501_multi_query_holds_the_queries_people_in_their_cameras(market: Path) -> None:
    plant(
        market / "gt_bbox",
        "0001_c1s1_001051_00.jpg",
        "0001_c1s1_002301_00.jpg",
        "0001_c3s1_002301_00.jpg",
        "0002_c1s1_000451_00.jpg",
    )
    assert [name for name, _, _ in seen(read_dataset(market).multi_query)] == [
        "0001_c1s1_001051_00.jpg",
        "0001_c1s1_002301_00.jpg",
    ]


@pytest.mark.parametrize("folder", ["distractors_500k", "images", "distractors_500k/images", "../distractors_500k"])
def test_market1501_with_distractors(market: Path, folder: str) -> None:
    plant(market / folder, "0000_c1s1_000001_00.jpg", "12345.jpg", "Thumbs.db")
    dataset = read_dataset(market, "market1501:500k")
    assert dataset.name == "market1501-500k"
    assert people(dataset.gallery) == [-1, 0, 1, 1, 0, 0]
    assert len(read_dataset(market).gallery) == 4


def test_market1501_without_the_distractors_asked_for(market: Path) -> None:
    with pytest.raises(UserError, match="no folder distractors_500k"):
        read_dataset(market, "market1501:500k")


def test_identities_counted_from_0_are_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(tmp_path, "bounding_box_train/0000_c1_1.jpg", "bounding_box_train/0001_c1_2.jpg")
    plant(tmp_path, "query/0000_c2_1.jpg", "bounding_box_test/0000_c1_1.jpg", "bounding_box_test/-1_c1_1.jpg")
    dataset = read_dataset(tmp_path)
    assert people(dataset.train) == [1, 2]
    assert people(dataset.query) == [1]
    assert people(dataset.gallery) == [-1, 1]
    assert "count from 0" in capsys.readouterr().err


def test_dukemtmc(tmp_path: Path) -> None:
    plant(tmp_path, "bounding_box_train/0001_c2_f0046182.jpg", "bounding_box_train/0005_c8_f0046182.jpg")
    plant(tmp_path, "query/0005_c2_f0046985.jpg", "bounding_box_test/0005_c5_f0051801.jpg")
    for layout in ("dukemtmc", "occluded-duke"):
        dataset = read_dataset(tmp_path, layout)
        assert dataset.name == layout
        assert seen(dataset.train) == [("0001_c2_f0046182.jpg", 1, 2), ("0005_c8_f0046182.jpg", 5, 8)]
        assert seen(dataset.gallery) == [("0005_c5_f0051801.jpg", 5, 5)]


MSMT_LISTS = {
    "list_train.txt": [("train", "0000/0000_000_01_0303morning_0015_0.jpg", 0)],
    "list_val.txt": [("train", "0001/0001_000_14_0303noon_0015_0.jpg", 1)],
    "list_query.txt": [("test", "0000/0000_002_12_0113noon_1139_0.jpg", 0)],
    "list_gallery.txt": [
        ("test", "0000/0000_000_15_0303morning_1149_0_ex.jpg", 0),
        ("test", "0007/0007_001_02_0113noon_9_1.jpg", 7),
    ],
}


def msmt17(root: Path, prefix: str = "", suffix: str = "") -> Path:
    for listing, rows in MSMT_LISTS.items():
        for half, name, _ in rows:
            plant(root, f"{prefix}{half}{suffix}/{name}")
        (root / listing).write_text("".join(f"{name} {person}\n" for _, name, person in rows))
    return root


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("mask_", "_v2")])
def test_msmt17(tmp_path: Path, prefix: str, suffix: str) -> None:
    root = msmt17(tmp_path, prefix, suffix)
    # "train" alone has one person in this tree, which is not enough to train on
    dataset = read_dataset(root, "msmt17")
    assert seen(dataset.train) == [
        ("0000_000_01_0303morning_0015_0.jpg", 1, 1),
        ("0001_000_14_0303noon_0015_0.jpg", 2, 14),
    ]
    assert people(dataset.query) == [10_001]
    assert people(dataset.gallery) == [10_001, 10_008]
    assert dataset.gallery.cameras.tolist() == [15, 2]
    alone = read_dataset(root, "msmt17:train", need=["query"])
    assert (alone.name, len(alone.train)) == ("msmt17-train", 1)


def test_msmt17_list_naming_absent_files(tmp_path: Path) -> None:
    root = msmt17(tmp_path)
    with (root / "list_gallery.txt").open("a") as listing:
        listing.write("0009/0009_001_02_0113noon_9_1.jpg 9\n")
    with pytest.raises(
        UserError, match=r"list_gallery.txt names 1 of 3 images that are not in .*test, the first 0009/0009"
    ):
        read_dataset(root, "msmt17")
    assert len(read_dataset(root, "msmt17", need=["train"]).train) == 2


def test_msmt17_with_a_broken_line(tmp_path: Path) -> None:
    root = msmt17(tmp_path)
    (root / "list_query.txt").write_text("\n0000/0000.jpg\n")
    with pytest.raises(UserError, match=r"list_query.txt, line 2: '0000/0000.jpg' is not like '0000/0000_000_01"):
        read_dataset(root, "msmt17")
    (root / "list_query.txt").write_text("\n")
    with pytest.raises(UserError, match=r"list_query.txt is empty"):
        read_dataset(root, "msmt17")


def test_msmt17_without_a_list_or_a_folder(tmp_path: Path) -> None:
    root = msmt17(tmp_path)
    (root / "list_val.txt").unlink()
    with pytest.raises(UserError, match=r"msmt17, train: .* has no 'list_val.txt'"):
        read_dataset(root, "msmt17")
    (root / "test").rename(root / "tests")
    with pytest.raises(UserError, match=r"msmt17-train, query: .* has no 'test'"):
        read_dataset(root, "msmt17:train", need=["query"])


def cuhk03_folders(root: Path, kind: str) -> Path:
    plant(root / kind, "bounding_box_train/0001_c1_1.png", "bounding_box_train/0002_c2_7.png")
    return plant(root / kind, "query/0003_c1_2.png", "bounding_box_test/0003_c2_9.png").parent


def test_cuhk03_np_folders(tmp_path: Path) -> None:
    cuhk03_folders(tmp_path, "labeled")
    dataset = read_dataset(tmp_path, "cuhk03-np")
    assert dataset.name == "cuhk03-np-labelled"
    assert seen(dataset.train) == [("0001_c1_1.png", 1, 1), ("0002_c2_7.png", 2, 2)]
    with pytest.raises(UserError, match="neither a folder detected with"):
        read_dataset(tmp_path, "cuhk03-np:detected")
    cuhk03_folders(tmp_path, "detected")
    assert read_dataset(tmp_path, "cuhk03-np").root == tmp_path / "detected"
    assert read_dataset(tmp_path, "cuhk03-np:labelled").root == tmp_path / "labeled"


def cuhk03_mat(root: Path, kind: str) -> Path:
    scipy_io = pytest.importorskip("scipy.io")
    names = ["1_001_1_01.png", "1_001_2_06.png", "1_002_1_01.png", "5_049_2_10.png", "5_049_1_02.png"]
    plant(root / f"images_{kind}", *names)
    column = lambda values, kind: np.array(values, kind)[:, None]  # noqa: E731
    filelist = np.empty((len(names), 1), object)
    filelist[:, 0] = names
    scipy_io.savemat(
        root / f"cuhk03_new_protocol_config_{kind}.mat",
        {
            "filelist": filelist,
            "labels": column([1, 1, 2, 1467, 1467], np.uint16),
            "camId": column([1, 2, 1, 2, 1], np.uint8),
            "train_idx": column([1, 2, 3], np.uint16),
            "query_idx": column([4], np.uint16),
            "gallery_idx": column([5], np.uint16),
        },
    )
    return root


def test_cuhk03_np_mat_split(tmp_path: Path) -> None:
    dataset = read_dataset(cuhk03_mat(tmp_path, "labeled"), "cuhk03-np:labelled")
    assert dataset.name == "cuhk03-np-labelled"
    assert seen(dataset.train) == [("1_001_1_01.png", 1, 1), ("1_001_2_06.png", 1, 2), ("1_002_1_01.png", 2, 1)]
    assert seen(dataset.query) == [("5_049_2_10.png", 1467, 2)]
    assert seen(dataset.gallery) == [("5_049_1_02.png", 1467, 1)]


def test_cuhk03_np_mat_split_without_its_images(tmp_path: Path) -> None:
    root = cuhk03_mat(tmp_path, "detected")
    (root / "images_detected/1_002_1_01.png").unlink()
    with pytest.raises(UserError, match="names 1 of 3 images that are not in"):
        read_dataset(root, "cuhk03-np")
    (root / "images_detected").rename(root / "elsewhere")
    with pytest.raises(UserError, match=r"no folder images_detected .* still inside cuhk-03.mat"):
        read_dataset(root, "cuhk03-np")
    (root / "cuhk03_new_protocol_config_detected.mat").write_bytes(b"nothing of the kind, though long enough" * 9)
    with pytest.raises(UserError, match="is no split of CUHK03's new protocol"):
        read_dataset(root, "cuhk03-np")


def test_viper(tmp_path: Path) -> None:
    plant(tmp_path / "cam_a", *(f"{person:03}_45.bmp" for person in range(6)))
    plant(tmp_path / "cam_b", *(f"{person:03}_90.bmp" for person in range(6)))
    dataset = read_dataset(tmp_path, "viper")
    assert len(dataset.train.people) == len(dataset.query.people) == 3
    assert sorted([*dataset.train.people, *dataset.query.people]) == [1, 2, 3, 4, 5, 6]
    assert dataset.query.people.tolist() == dataset.gallery.people.tolist()
    assert set(dataset.query.cameras.tolist()) == {1}
    assert set(dataset.gallery.cameras.tolist()) == {2}
    draws = {tuple(read_dataset(tmp_path, f"viper:{draw}").train.people) for draw in range(10)}
    assert len(draws) > 3
    assert tuple(dataset.train.people) in draws


def test_cuhk01(tmp_path: Path) -> None:
    plant(tmp_path / "campus", *(f"{person:04}{shot:03}.png" for person in range(1, 6) for shot in range(1, 5)))
    dataset = read_dataset(tmp_path, "cuhk01:3")
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (8, 6, 6)
    assert {
        (path.name[4:7], camera) for path, camera in zip(dataset.train.paths, dataset.train.cameras, strict=True)
    } == {
        ("001", 1),
        ("002", 1),
        ("003", 2),
        ("004", 2),
    }


def test_veri776(tmp_path: Path) -> None:
    plant(tmp_path, "image_train/0001_c001_00016450_0.jpg", "image_train/0003_c020_00016450_0.jpg")
    plant(tmp_path, "image_query/0002_c002_00030600_0.jpg", "image_test/0002_c003_00030600_0.jpg", "name_query.txt")
    dataset = read_dataset(tmp_path, "veri776")
    assert seen(dataset.train) == [("0001_c001_00016450_0.jpg", 1, 1), ("0003_c020_00016450_0.jpg", 3, 20)]
    assert (people(dataset.query), people(dataset.gallery)) == ([2], [2])


def vehicleid(root: Path) -> Path:
    (root / "train_test_split").mkdir()
    train, test = [(1, 0), (2, 0), (3, 5)], [(11, 7), (12, 7), (13, 7), (14, 8), (15, 8)]
    for name, rows in (("train_list", train), ("test_list_800", test), ("test_list_1600", test)):
        (root / f"train_test_split/{name}.txt").write_text("".join(f"{image:07} {car}\n" for image, car in rows))
    return plant(root, *(f"image/{image:07}.jpg" for image, _ in train + test))


def test_vehicleid(tmp_path: Path) -> None:
    root = vehicleid(tmp_path)
    dataset = read_dataset(root, "vehicleid")
    assert seen(dataset.train) == [("0000001.jpg", 1, -1), ("0000002.jpg", 1, -1), ("0000003.jpg", 6, -1)]
    assert sorted(people(dataset.gallery)) == [8, 9]
    assert sorted(people(dataset.query)) == [8, 8, 9]
    assert {*dataset.query.paths}.isdisjoint(dataset.gallery.paths)
    draws = {tuple(read_dataset(root, f"vehicleid:1600/{draw}").gallery.paths) for draw in range(10)}
    assert len(draws) > 2
    with pytest.raises(UserError, match=r"has no 'train_test_split/test_list_2400.txt'"):
        read_dataset(root, "vehicleid:2400")
    with pytest.raises(UserError, match="no option 'large'"):
        read_dataset(root, "vehicleid:large")


def test_occluded_reid_has_no_training_images(tmp_path: Path) -> None:
    plant(tmp_path, "occluded_body_images/001/001_01.tif", "occluded_body_images/002/002_01.tif")
    plant(tmp_path, "whole_body_images/001/001_01.tif")
    dataset = read_dataset(tmp_path, "occluded-reid")
    assert seen(dataset.query) == [("001_01.tif", 1, -1), ("002_01.tif", 2, -1)]
    assert list(dataset.splits) == ["query", "gallery"]
    with pytest.raises(UserError, match=r"occluded-reid at .* has no train images"):
        read_dataset(tmp_path, "occluded-reid", need=["train"])


# ------------------------------------------------------------------------------------------------------- own data


def test_a_folder_per_identity(tmp_path: Path) -> None:
    plant(tmp_path, "bob/1.jpg", "bob/2.PNG", "alice/x.jpeg", "alice/notes.txt", ".cache/1.jpg", "carol/.DS_Store")
    dataset = read_dataset(tmp_path, "folders")
    assert seen(dataset.train) == [("x.jpeg", 1, -1), ("1.jpg", 2, -1), ("2.PNG", 2, -1)]
    assert dataset.train.columns["identity"].tolist() == ["alice", "bob", "bob"]
    assert (len(dataset.query), dataset.name) == (0, tmp_path.name)


def test_folders_of_the_published_copy(tmp_path: Path) -> None:
    plant(tmp_path, "train_all/0002/0002_c1s1_1_1.jpg", "train_all/0007/0007_c12s1_1_1.jpg", "train/0002/a_c1.jpg")
    plant(tmp_path, "query/0001/0001_c1s1_1_0.jpg", "gallery/0001/0001_c2s1_1_0.jpg")
    plant(tmp_path, "gallery/-1/-1_c1s1_1_0.jpg", "gallery/0000/0000_c3s1_1_0.jpg")
    dataset = read_dataset(tmp_path, "folders")
    assert seen(dataset.train) == [("0002_c1s1_1_1.jpg", 2, 1), ("0007_c12s1_1_1.jpg", 7, 12)]
    assert people(dataset.gallery) == [-1, 0, 1]


def test_folders_numbered_from_0(tmp_path: Path) -> None:
    plant(tmp_path, "0/a.jpg", "1/b.jpg", "2/c.jpg")
    assert people(read_dataset(tmp_path, "folders").train) == [1, 2, 3]


def test_a_test_folder_is_divided_into_query_and_gallery(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/c/1.jpg", "test/c/2.jpg", "test/c/3.jpg", "test/d/1.jpg")
    dataset = read_dataset(tmp_path, "folders")
    assert [path.name for path in dataset.query.paths] == ["1.jpg"]
    assert dataset.query.columns["identity"].tolist() == ["c"]
    assert dataset.gallery.columns["identity"].tolist() == ["c", "c", "d"]


def test_folders_that_are_none(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg")
    with pytest.raises(UserError, match=r"no folders with images, one per identity .*use the layout pattern"):
        read_dataset(tmp_path, "folders")


def test_query_without_gallery(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "query/c/1.jpg")
    with pytest.raises(UserError, match="has query images, but none for gallery"):
        read_dataset(tmp_path, "folders")


def test_pattern(tmp_path: Path) -> None:
    plant(tmp_path, "anna_k1_0001.jpg", "anna_k12_0002.jpg", "ben-b_k2_0001.jpg", "readme.txt")
    dataset = read_dataset(tmp_path, "pattern:{identity}_k{camera}_{shot}.jpg")
    assert seen(dataset.train) == [
        ("anna_k12_0002.jpg", 1, 12),
        ("anna_k1_0001.jpg", 1, 1),
        ("ben-b_k2_0001.jpg", 2, 2),
    ]
    assert dataset.train.columns["shot"].tolist() == ["0002", "0001", "0001"]
    assert read_dataset(tmp_path, "pattern:{identity}_*").train.cameras.tolist() == [-1, -1, -1]


def test_pattern_with_named_cameras_and_splits(tmp_path: Path) -> None:
    plant(
        tmp_path,
        *(
            f"{split}.7{n}.{place}.jpg"
            for split in ("train", "query", "gallery")
            for n, place in ((1, "door"), (2, "hall"))
        ),
    )
    dataset = read_dataset(tmp_path, "pattern:{split}.{identity}.{camera}.jpg")
    assert people(dataset.query) == [71, 72]
    assert dataset.gallery.cameras.tolist() == [1, 2]
    assert dataset.gallery.columns["camera"].tolist() == ["door", "hall"]


def test_pattern_that_does_not_fit(tmp_path: Path) -> None:
    plant(tmp_path, "a_1.jpg", "b_2.jpg", "c.jpg")
    with pytest.raises(UserError, match=r"c.jpg is not named like \{identity\}_\* \(1 of 3 in that folder\)"):
        read_dataset(tmp_path, "pattern:{identity}_*")
    for pattern, message in (
        ("", "needs"),
        ("{camera}_*", "needs"),
        ("{identity}_{identity}", "twice"),
        ("{identity}_{1}", "is no word"),
    ):
        with pytest.raises(UserError, match=message):
            read_dataset(tmp_path, f"pattern:{pattern}")


TABLE = """path;identity;camera;split;colour
a/1.jpg;anna;;train;red
a/2.jpg;ben;2;train;
b/1.jpg;carl;1;query;blue
b/2.jpg;carl;2;gallery;blue
b/3.jpg;junk;2;gallery;
b/4.jpg;distractor;2;gallery;
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    plant(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg", "b/4.jpg")
    file = tmp_path / "people.csv"
    file.write_text(TABLE, encoding="utf-8-sig")
    return file


def test_csv(table: Path) -> None:
    for place, layout in ((table, "table"), (table.parent, "table"), (table.parent, "table:people.csv")):
        dataset = read_dataset(place, layout)
        assert seen(dataset.train) == [("1.jpg", 1, -1), ("2.jpg", 2, 2)]
        assert dataset.train.columns["colour"].tolist() == ["red", ""]
        assert people(dataset.gallery) == [3, -1, 0]
    assert dataset.name == "people"


def test_parquet(table: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"path": ["a/1.jpg", "a/2.jpg"], "identity": [7, 9], "camera": [1.0, None], "age": [31, 40]}
    file = table.with_suffix(".parquet")
    parquet.write_table(pyarrow.table(rows), file)
    dataset = read_dataset(file, "table")
    assert seen(dataset.train) == [("1.jpg", 7, 1), ("2.jpg", 9, -1)]
    assert dataset.train.columns["age"].tolist() == ["31", "40"]
    file.write_bytes(b"not this")
    with pytest.raises(UserError, match="no readable Parquet file"):
        read_dataset(file, "table")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("path;", "file_path;", "has no column 'path'; .*is 'file_path' the one"),
        ("identity;", "who;", "has no column 'identity'; its columns are path, who, camera"),
        (";query;", ";probe;", "row 3: unknown split 'probe': one of train, query"),
        ("a/2.jpg;ben", "a/2.jpg;", "row 2: path or identity is empty"),
        ("a/2.jpg", "a/9.jpg", "names 1 files of 6 that do not exist, the first .*a/9.jpg"),
        ("ben;2;train;", "ben;2", "line 3: expected 5 fields"),
    ],
)
def test_broken_tables(table: Path, before: str, after: str, message: str) -> None:
    table.write_text(TABLE.replace(before, after))
    with pytest.raises(UserError, match=message):
        read_dataset(table, "table")


def test_no_table_or_several(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"name the CSV or Parquet file, as in table:people.csv \(there: none\)"):
        read_dataset(tmp_path / "a", "table")
    (tmp_path / "more.csv").write_text(TABLE)
    with pytest.raises(UserError, match=r"there: more.csv, people.csv"):
        read_dataset(tmp_path, "table")
    table.write_text("path,identity\n")
    with pytest.raises(UserError, match="has no rows"):
        read_dataset(table, "table")


# ---------------------------------------------------------------------------------------------------- broken trees


def test_the_data_folder_itself(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data folder .*nowhere does not exist"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"does not look like Market-1501: none of .* it is empty"):
        read_dataset(tmp_path, "market1501")
    with pytest.raises(UserError, match=r"cannot be told: name it .*; it is empty$"):
        read_dataset(tmp_path)
    plant(tmp_path, "file.txt")
    with pytest.raises(UserError, match="is a file; a data folder, or a table"):
        read_dataset(tmp_path / "file.txt")
    with pytest.raises(UserError, match=r"it holds file.txt$"):
        read_dataset(tmp_path)


def test_nested_once_too_deep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inner = plant(tmp_path / "data" / "people" / "people", *MARKET)
    assert read_dataset(tmp_path / "data").root == inner
    assert f"reading {inner}, found inside {tmp_path / 'data'}" in capsys.readouterr().err.replace("\n", "")


def test_two_copies_below_the_folder(tmp_path: Path) -> None:
    plant(tmp_path / "one", *MARKET)
    plant(tmp_path / "two", *MARKET)
    with pytest.raises(UserError, match=r"holds Market-1501 2 times \(one, two\)"):
        read_dataset(tmp_path)


def test_one_folder_too_far_in(market: Path) -> None:
    with pytest.raises(UserError, match=f"is a folder inside Market-1501: give {market} instead"):
        read_dataset(market / "bounding_box_train")


def test_wrong_case_is_read_and_told(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (market / "bounding_box_train").rename(market / "Bounding_Box_Train")
    (market / "query").rename(market / "Query")
    dataset = read_dataset(market)
    assert (len(dataset.train), len(dataset.query)) == (4, 2)
    assert "reading Query as query" in capsys.readouterr().err


def test_missing_query_folder(market: Path) -> None:
    for path in (market / "query").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"market1501, query: .*query holds no images"):
        read_dataset(market)
    (market / "query").rmdir()
    with pytest.raises(UserError, match=f"^market1501, query: {market} has no 'query'$"):
        read_dataset(market)
    assert len(read_dataset(market, need=["train"]).train) == 4


def test_empty_train_folder(market: Path) -> None:
    for path in (market / "bounding_box_train").glob("*.jpg"):
        path.unlink()
    with pytest.raises(UserError, match=r"market1501, train: .*bounding_box_train holds no images \(.jpg"):
        read_dataset(market)
    plant(market, "bounding_box_train/deeper/0002_c1s1_1_1.jpg")
    with pytest.raises(UserError, match=r"one level deeper, in .*deeper"):
        read_dataset(market)


def test_wrong_file_names(market: Path) -> None:
    plant(market, "bounding_box_train/IMG_2031.jpg")
    with pytest.raises(
        UserError, match=r"IMG_2031.jpg is not named like 0002_c1s1_000451_03.jpg \(1 of 5 in that folder\)"
    ):
        read_dataset(market)


def test_clutter_is_passed_over(market: Path) -> None:
    plant(market, "query/Thumbs.db", "query/.DS_Store", "query/._0001_c1s1_001051_00.jpg", "query/list.txt")
    plant(market, "__MACOSX/people/query/._0001.jpg")
    assert len(read_dataset(market).query) == 2


def test_a_single_identity(tmp_path: Path) -> None:
    plant(tmp_path, "anna/1.jpg", "anna/2.jpg")
    with pytest.raises(UserError, match="training images of 1 identity: two or more are needed"):
        read_dataset(tmp_path, "folders")


def test_identities_with_one_image_are_no_error(tmp_path: Path) -> None:
    plant(tmp_path / "lone", "anna/1.jpg", "ben/1.jpg", "ben/2.jpg")
    assert people(read_dataset(tmp_path / "lone", "folders").train) == [1, 2, 2]


def test_junk_is_not_trained_on(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(market, "bounding_box_train/-1_c1s1_1_1.jpg")
    assert people(read_dataset(market).train) == [2, 2, 7, 7]
    assert "1 training images are junk" in capsys.readouterr().err


def test_unknown_layouts_and_options(market: Path) -> None:
    with pytest.raises(UserError, match="unknown layout 'market-1501': did you mean 'market1501'"):
        read_dataset(market, "market-1501")
    with pytest.raises(UserError, match="layout market1501 has no option '500': did you mean '500k'"):
        read_dataset(market, "market1501:500")
    with pytest.raises(UserError, match="layout viper has no option '11'"):
        read_dataset(market, "viper:11")


def test_files_are_left_as_they_are(market: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in market.rglob("*"))
    read_dataset(market)
    assert sorted((path, path.stat().st_mtime_ns) for path in market.rglob("*")) == before


# ------------------------------------------------------------------------------------------------------- detection


def test_detect(tmp_path: Path, market: Path) -> None:
    duke = ("bounding_box_train/0001_c2_f0046182.jpg", "query/0001_c2_f0046182.jpg")
    assert detect(market) == "market1501"
    assert detect(market.parent) == "market1501"
    assert detect(plant(tmp_path / "Duke", *duke)) == "dukemtmc"
    assert detect(plant(tmp_path / "Occluded_Duke", *duke)) == "occluded-duke"
    (tmp_path / "msmt").mkdir()
    assert detect(msmt17(tmp_path / "msmt")) == "msmt17"
    cuhk03_folders(tmp_path / "cuhk", "labeled")
    assert detect(tmp_path / "cuhk") == "cuhk03-np"
    assert detect(tmp_path / "cuhk" / "labeled") == "cuhk03-np:labelled"
    assert read_dataset(tmp_path / "cuhk" / "labeled", "auto").name == "cuhk03-np-labelled"
    assert detect(plant(tmp_path / "v", "cam_a/000_45.bmp", "cam_b/000_90.bmp")) == "viper"
    assert detect(plant(tmp_path / "c", "campus/0001001.png")) == "cuhk01"
    assert detect(plant(tmp_path / "w", "image_train/0001_c001_1_0.jpg", "image_query/x.jpg")) == "veri776"
    (tmp_path / "vid").mkdir()
    assert detect(vehicleid(tmp_path / "vid")) == "vehicleid"
    assert detect(plant(tmp_path / "o", "whole_body_images/001/001_01.tif")) == "occluded-reid"
    assert detect(plant(tmp_path / "own", "anna/1.jpg")) == "folders"
    assert detect(plant(tmp_path / "own2", "train/anna/1.jpg")) == "folders"
    assert detect(plant(tmp_path / "own3", "people.csv", "images/1.jpg")) == "table"
    assert detect(tmp_path / "own3" / "people.csv") == "table"
    with pytest.raises(UserError, match="fits more than one layout: choose cuhk01 or market1501"):
        detect(plant(market, "campus/0001001.png"))
    with pytest.raises(UserError, match=r"cannot be told: name it \(pattern:\{identity\}"):
        detect(plant(tmp_path / "flat", "1.jpg"))
    with pytest.raises(UserError, match=r"cannot be told: name it \(one of market1501"):
        detect(plant(tmp_path / "nothing", "readme.md"))


# ------------------------------------------------------------------------------------------------ published counts


def published(name: str, **changes: int) -> Dataset:
    """As many images as published (or as `changes` says for a split), with all people and cameras."""
    splits = {}
    for split, (images, identities, cameras) in OFFICIAL[name].items():
        places = np.arange(changes.get(split, images))
        where = places % cameras + 1 if cameras else np.full(len(places), -1)
        splits[split] = Split([Path("x")] * len(places), places % (identities or 1) + 1, where)
    return Dataset(name, Path("there"), **splits)


@pytest.mark.parametrize("name", OFFICIAL)
def test_complete_copies_lack_nothing(name: str) -> None:
    assert missing(published(name)) == []


def test_what_a_copy_lacks_is_told() -> None:
    assert missing(published("market1501", train=12930)) == [
        "market1501, train: 12930 images where the published set has 12936 (6 missing)"
    ]
    assert missing(published("viper", query=317)) == [
        "viper, query: 317 images where the published set has 316 (1 too many)"
    ]
    assert missing(published("occluded-reid", gallery=150)) == [
        "occluded-reid, gallery: 150 images where the published set has 1000 (850 missing), "
        "150 identities where the published set has 200 (50 missing)"
    ]


def test_own_data_in_the_layout_of_market1501_is_not_taken_for_it(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_dataset(market)
    assert "published" not in capsys.readouterr().err
    market.rename(tmp_path / "Market-1501-v15.09.15")
    read_dataset(tmp_path / "Market-1501-v15.09.15")
    assert "market1501, train: 4 images where the published set has 12936" in capsys.readouterr().err


def test_every_layout_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    assert [layout for layout in readers.LAYOUTS if f"`{layout}" not in page] == []
