"""The smaller public sets on tiny copies, sets that look alike, and lists and .mat files in any state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from trees import plant

from dgnet.cli.app import main
from dgnet.datasets.read import detect, read_dataset
from dgnet.datasets.records import Dataset, concatenate
from dgnet.errors import UserError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# --------------------------------------------------------------------------------------------------- tiny copies


def prid2011(root: Path) -> Path:
    a = [f"single_shot/cam_a/person_{person:04}.png" for person in (1, 2, 3, 4, 201, 202)]
    return plant(root, *a, *(name.replace("cam_a", "cam_b") for name in a), "multi_shot/cam_a/person_0001/0001.png")


def grid(root: Path) -> Path:
    plant(root, *(f"probe/{person:04}_1_2500{person}_1_2_3_4.jpeg" for person in range(1, 5)))
    plant(root, *(f"gallery/{person:04}_5_2600{person}_1_2_3_4.jpeg" for person in (0, 1, 2, 3, 4)))
    partitions = np.empty((1, 10), object)
    record = np.dtype([("a", object), ("b", object), ("people", object)])
    for place in range(10):
        people = [1, 2] if place % 2 == 0 else [3, 4]
        partitions[0, place] = np.array([[(0, 0, np.array([people]))]], record)
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": partitions, "features": np.zeros(3)})
    return root


def partial_reid(root: Path) -> Path:
    kinds = ("partial", "occluded", "whole")
    return plant(root, *(f"{kind}_body_images/00{person}_001.jpg" for kind in kinds for person in (1, 2)))


def ag_reid(root: Path) -> Path:
    names = [f"bounding_box_train/P000{person}T04041A0C{camera}F31.jpg" for person in (1, 2) for camera in (0, 3)]
    names += [f"{part}_c{camera}/P0000T02140A0C{camera}F{frame}.jpg"
              for part, frame in (("query_all", 91), ("bounding_box_test_all", 31)) for camera in (0, 3)]  # fmt: skip
    return plant(root, *names)


def ltcc(root: Path) -> Path:
    plant(root, "train/000_1_c9_015833.png", "train/000_2_c3_015834.png", "train/007_1_c1_000001.png")
    plant(root, "query/001_1_c5_1.png", "test/001_2_c6_2.png", "test/001_1_c7_2.png")
    write(root / "info" / "cloth-change_id_train.txt", "0\n")
    return root


def prcc(root: Path) -> Path:
    plant(root, *(f"rgb/train/00{person}/{camera}_cropped_rgb001.jpg" for person in (1, 2) for camera in "ABC"))
    return plant(root, *(f"rgb/test/{camera}/005/cropped_rgb{number}.jpg" for camera in "ABC" for number in "12"))


def deepchange(root: Path) -> Path:
    for split, lines in {
        "train-set": ("P1_C1_1_01.jpg,11", "P1_C2_2_01.jpg,12", "P2_C2_1_01.jpg,13"),
        "test-set-query": ("P5_C3_1_01.jpg,21",),
        "test-set-gallery": ("P5_C3_1_07.jpg,22", "P5_C3_1_08.jpg,21"),
    }.items():
        plant(root / split, *(line.partition(",")[0] for line in lines))
        write(root / f"{split}-bbox.txt", "\n".join(lines) + "\n")
    return root


def sysu_mm01(root: Path) -> Path:
    for name, people in {"train": "1,2", "val": "3", "test": "4,5"}.items():
        write(root / "exp" / f"{name}_id.txt", people + "\n")
    plant(root, *(f"cam{camera}/000{person}/000{number}.jpg"
                  for camera in range(1, 7) for person in range(1, 6) for number in (1, 2)))  # fmt: skip
    return root


def regdb(root: Path) -> Path:
    for half, people in {"train": (4, 9), "test": (2, 7)}.items():
        for modality, letter in {"visible": "v", "thermal": "t"}.items():
            names = [f"{modality.title()}/{person}/male_back_{letter}_0267{n}_{person}.bmp"
                     for person in people for n in (1, 2)]  # fmt: skip
            plant(root, *names)
            for trial in (1, 10):
                rows = [f"{name} {place // 2}" for place, name in enumerate(names)]
                write(root / "idx" / f"{half}_{modality}_{trial}.txt", "\n".join(rows))
    return root


COPIES: dict[str, Callable[[Path], Path]] = {
    "prid2011": prid2011, "grid": grid, "partial-reid": partial_reid, "ag-reid": ag_reid, "ltcc": ltcc, "prcc": prcc,
    "deepchange": deepchange, "sysu-mm01": sysu_mm01, "regdb": regdb,
}  # fmt: skip


@pytest.mark.parametrize("layout", COPIES)
def test_each_set_is_found_and_none_of_its_splits_is_missing(layout: str, tmp_path: Path) -> None:
    root = COPIES[layout](tmp_path / "copy")
    assert detect(root) == layout
    assert detect(tmp_path) == layout
    dataset = read_dataset(tmp_path)
    assert (dataset.absent, dataset.notes) == ({}, ())
    assert list(dataset.splits) == ["train", "query", "gallery"][layout == "partial-reid" :]


def look(dataset: Dataset) -> dict[str, list[tuple[int, int]]]:
    return {
        name: list(zip(split.identities.tolist(), split.cameras.tolist(), strict=True))
        for name, split in dataset.splits.items()
    }


def test_prid2011_has_200_people_in_both_views_and_the_others_in_the_gallery(tmp_path: Path) -> None:
    seen = look(read_dataset(prid2011(tmp_path)))
    trained = {person for person, _ in seen["train"]}
    assert len(trained) == 2
    assert trained < {1, 2, 3, 4}
    assert {person for person, _ in seen["query"]} == {1, 2, 3, 4} - trained
    assert sorted(person for person, _ in seen["gallery"]) == [*sorted({1, 2, 3, 4} - trained), 201, 202]
    draws = [frozenset(read_dataset(tmp_path, f"prid2011:{draw}").train.people.tolist()) for draw in range(10)]
    assert len(set(draws)) > 2


def test_grid_follows_the_partitions_of_its_authors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid(tmp_path)
    assert look(read_dataset(tmp_path, "grid:4")) == {
        "train": [(1, 1), (2, 1), (1, 5), (2, 5)], "query": [(3, 1), (4, 1)], "gallery": [(0, 5), (3, 5), (4, 5)]
    }  # fmt: skip
    assert read_dataset(tmp_path, "grid:5").train.people.tolist() == [3, 4]
    (tmp_path / "features_and_partitions.mat").unlink()
    assert len(read_dataset(tmp_path, "grid").train) == 4
    assert "the half to train on is drawn" in capsys.readouterr().err


def test_partial_reid_asks_with_cut_or_uncut_images(tmp_path: Path) -> None:
    partial_reid(tmp_path)
    for option in ("partial", "occluded"):
        dataset = read_dataset(tmp_path, f"partial-reid:{option}")
        assert {path.parent.name for path in dataset.query.paths} == {f"{option}_body_images"}
        assert look(dataset)["gallery"] == [(1, -1), (2, -1)]


def test_ag_reid_asks_from_the_air_or_from_the_ground(tmp_path: Path) -> None:
    ag_reid(tmp_path)
    training = [(2, 0), (2, 3), (3, 0), (3, 3)]
    assert look(read_dataset(tmp_path)) == {"train": training, "query": [(1, 0)], "gallery": [(1, 3)]}
    assert look(read_dataset(tmp_path, "ag-reid:ground")) == {"train": training, "query": [(1, 3)], "gallery": [(1, 0)]}


def test_ag_reid_names_in_folders_of_market1501(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{folder}/P0001T04041A0C0F31.jpg" for folder in ("bounding_box_train", "query")))
    plant(tmp_path, "bounding_box_test/P0001T04041A0C3F31.jpg")
    assert look(read_dataset(tmp_path, need=["query"]))["gallery"] == [(1, 3)]


def test_ltcc_has_clothes_and_people_from_0(tmp_path: Path) -> None:
    dataset = read_dataset(ltcc(tmp_path))
    assert look(dataset) == {"train": [(1, 9), (1, 3), (8, 1)], "query": [(2, 5)], "gallery": [(2, 7), (2, 6)]}
    assert dataset.train.columns["clothes"].tolist() == ["1", "2", "1"]


def test_prcc_changes_clothes_under_camera_c(tmp_path: Path) -> None:
    dataset = read_dataset(prcc(tmp_path))
    assert look(dataset) == {
        "train": [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)],
        "query": [(5, 3), (5, 3)],
        "gallery": [(5, 1), (5, 1)],
    }
    assert dataset.train.columns["clothes"].tolist() == ["1", "1", "2"] * 2
    assert look(read_dataset(tmp_path, "prcc:same"))["query"] == [(5, 2), (5, 2)]
    galleries = {read_dataset(tmp_path, f"prcc:change/{draw}").gallery.paths[0].name for draw in range(10)}
    assert galleries == {"cropped_rgb1.jpg", "cropped_rgb2.jpg"}


def test_deepchange_leaves_out_the_tracklet_and_not_the_camera(tmp_path: Path) -> None:
    dataset = read_dataset(deepchange(tmp_path))
    assert look(dataset) == {"train": [(1, 1), (1, 2), (2, 2)], "query": [(5, 3)], "gallery": [(5, 3), (5, 3)]}
    assert dataset.query.left_out_by.tolist() == [21]
    assert dataset.gallery.left_out_by.tolist() == [22, 21]
    assert dataset.train.columns["clothes"].tolist() == ["1", "2", "1"]


def test_sysu_mm01_asks_in_infrared_for_one_visible_image_of_each_camera(tmp_path: Path) -> None:
    dataset = read_dataset(sysu_mm01(tmp_path))
    assert len(dataset.train) == 3 * 6 * 2
    assert set(dataset.query.cameras.tolist()) == {3, 6}
    assert look(dataset)["gallery"] == [(person, camera) for camera in (1, 2, 4, 5) for person in (4, 5)]
    assert set(dataset.query.columns["modality"]) == {"infrared"}
    assert set(dataset.gallery.columns["modality"]) == {"visible"}
    assert set(dataset.query.left_out_by.tolist()) == {2, 6}  # camera 3 stands where camera 2 does
    assert look(read_dataset(tmp_path, "sysu-mm01:indoor"))["gallery"] == [(4, 1), (5, 1), (4, 2), (5, 2)]
    draws = {tuple(read_dataset(tmp_path, f"sysu-mm01:all/{draw}").gallery.paths) for draw in range(10)}
    assert len(draws) > 5


def test_regdb_asks_in_both_directions_and_keeps_training_and_test_apart(tmp_path: Path) -> None:
    dataset = read_dataset(regdb(tmp_path))
    assert look(dataset) == {
        "train": [(1, 1), (1, 1), (2, 1), (2, 1), (1, 2), (1, 2), (2, 2), (2, 2)],
        "query": [(10001, 1), (10001, 1), (10002, 1), (10002, 1)],
        "gallery": [(10001, 2), (10001, 2), (10002, 2), (10002, 2)],
    }
    assert dataset.train.columns["modality"].tolist() == ["visible"] * 4 + ["thermal"] * 4
    assert look(read_dataset(tmp_path, "regdb:thermal/10"))["query"] == look(dataset)["gallery"]
    with pytest.raises(UserError, match=r"has no 'idx/train_visible_2.txt'"):
        read_dataset(tmp_path, "regdb:2")


def test_places_go_with_their_images(tmp_path: Path) -> None:
    dataset = read_dataset(deepchange(tmp_path))
    assert dataset.gallery.subset([1]).left_out_by.tolist() == [21]
    assert concatenate([dataset.query, dataset.gallery]).left_out_by.tolist() == [21, 22, 21]


# ------------------------------------------------------------------------------------------------ sets that look alike

DUKE = (
    "bounding_box_train/0001_c2_f0046182.jpg",
    "query/0005_c2_f0046985.jpg",
    "bounding_box_test/0005_c5_f0051801.jpg",
)


def test_only_the_sets_own_folder_says_that_it_is_occluded(tmp_path: Path) -> None:
    assert detect(plant(tmp_path / "occluded-exp" / "DukeMTMC-reID", *DUKE)) == "dukemtmc"
    assert detect(tmp_path / "occluded-exp") == "dukemtmc"
    assert detect(plant(tmp_path / "x" / "Occluded_Duke", *DUKE)) == "occluded-duke"


def test_a_complete_duke_is_one_whatever_its_name(tmp_path: Path) -> None:
    plant(tmp_path / "occluded", *DUKE)
    plant(tmp_path / "occluded", *(f"bounding_box_train/0002_c1_f{number:07}.jpg" for number in range(16521)))
    assert detect(tmp_path / "occluded") == "dukemtmc"


def test_prid_is_not_taken_for_viper(tmp_path: Path) -> None:
    assert detect(prid2011(tmp_path) / "single_shot") == "prid2011"
    assert detect(plant(tmp_path / "v", "cam_a/000_45.bmp", "cam_b/000_90.bmp")) == "viper"
    assert len(read_dataset(tmp_path / "single_shot").train) == 4


@pytest.mark.parametrize("name", ["probe", "rgb", "visible", "cam1", "train"])
def test_own_folders_of_common_names_are_no_public_set(name: str, tmp_path: Path) -> None:
    assert detect(plant(tmp_path, f"{name}/anna/1.jpg", f"{name}/carl/1.jpg")) == "folders"


# ---------------------------------------------------------------------------------------- what a user sees of a check

MARKET = (
    "bounding_box_train/0002_C1S1_000451_03.jpg", "bounding_box_train/0007_c6s3_077419_03.jpg",
    "query/0001_c1s1_001051_00.jpg", "bounding_box_test/0001_c3s1_001051_03.jpg",
)  # fmt: skip


def checked(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(root), "--cache", str(tmp_path / "cache")])
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    seen = capsys.readouterr()
    assert "Traceback" not in seen.out + seen.err
    assert isinstance(end.value.code, int)
    return end.value.code, seen.out + seen.err


@pytest.fixture
def market(tmp_path: Path) -> Path:
    from PIL import Image

    root = tmp_path / "people"
    for place, name in enumerate(MARKET):
        plant(root, name)
        pixels = np.random.default_rng(place).integers(0, 256, (64, 32, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def test_upper_case_cameras_are_cameras(market: Path) -> None:
    assert read_dataset(market).train.cameras.tolist() == [1, 6]


@pytest.mark.parametrize("folder", ["bounding_box_train", "query", "bounding_box_test"])
def test_a_split_with_a_strange_name_is_a_problem_and_says_which(
    folder: str, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(market, f"{folder}/IMG_20240101.jpg")
    code, said = checked(market, tmp_path, capsys)
    assert code == 1
    assert f"{folder}/IMG_20240101.jpg is not named like 0002_c1s1_000451_03.jpg" in said


def test_an_empty_folder_is_a_problem(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (market / "query").iterdir():
        path.unlink()
    code, said = checked(market, tmp_path, capsys)
    assert code == 1
    assert f"{market / 'query'} holds no images" in said


def test_a_set_of_which_nothing_can_be_read_is_unusable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(plant(tmp_path / "x", "bounding_box_train/a.jpg", "query/b.jpg"), tmp_path, capsys)
    assert code == 2
    assert said.count("is not named like") == 2
    assert "has no 'bounding_box_test'" in said


def test_images_below_a_split_are_told(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(market, "query/more/0002_c1s1_000451_03.jpg")
    code, said = checked(market, tmp_path, capsys)
    assert code == 1
    assert f"1 images in folders inside those of the splits are not used, the first {market}/query/more" in said


@pytest.mark.parametrize(
    "odd", ["gt_bbox/nothing.txt", "gt_bbox/IMG_1.jpg", "gt_bbox", "gt_bbox/0009_c1s1_000001_00.jpg"]
)
def test_an_odd_gt_bbox_stops_nothing(
    odd: str, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(market, odd)
    assert len(read_dataset(market, need=["train"]).train) == 2
    assert len(read_dataset(market).gallery) == 1
    code, said = checked(market, tmp_path, capsys)
    assert code == 1
    assert "no multiple queries" in said


def test_training_needs_no_other_split(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(market, "query/IMG_1.jpg")
    (market / "bounding_box_test" / "0001_c3s1_001051_03.jpg").unlink()
    assert len(read_dataset(market, "market1501:500k", need=["train"]).train) == 2


def test_two_spellings_of_a_folder(market: Path) -> None:
    (market / "query").rename(market / "Query")
    plant(market, "QUERY/0001_c1s1_001051_00.jpg")
    with pytest.raises(UserError, match="has QUERY and Query: which of them is 'query'"):
        read_dataset(market)


# ------------------------------------------------------------------------------------------------------- lists, .mat


def test_names_that_stand_twice_in_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing = deepchange(tmp_path / "d") / "train-set-bbox.txt"
    listing.write_text(listing.read_text() + "P1_C1_1_01.jpg,11\n")
    assert len(read_dataset(tmp_path / "d").train) == 3
    assert "names 1 images twice, which count once, the first P1_C1_1_01.jpg" in capsys.readouterr().err
    assert "problem: " + str(listing) in checked(tmp_path / "d", tmp_path, capsys)[1]
    regdb(tmp_path / "r")
    listing = tmp_path / "r" / "idx" / "train_visible_1.txt"
    listing.write_text(listing.read_text() + "\nVisible/4/male_back_v_02671_4.bmp 1\n")
    with pytest.raises(UserError, match=r"names Visible/4/male_back_v_02671_4.bmp under two identities"):
        read_dataset(tmp_path / "r")


def test_images_of_msmt17_that_are_in_no_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(
        tmp_path, "train/0000/0000_000_01_a_0.jpg", "train/0001/0001_000_02_a_0.jpg", "train/0001/0001_001_02_a_0.jpg"
    )
    plant(tmp_path, "test/0000/0000_000_01_a_0.jpg", "test/0000/0000_001_02_a_0.jpg")
    for name, line in {
        "train": "0000/0000_000_01_a_0.jpg 0", "val": "0001/0001_000_02_a_0.jpg 1",
        "query": "0000/0000_000_01_a_0.jpg 0", "gallery": "0000/0000_001_02_a_0.jpg 0",
    }.items():  # fmt: skip
        write(tmp_path / f"list_{name}.txt", f"{line}\n{line}\n")
    dataset = read_dataset(tmp_path)
    assert [len(split) for split in dataset.splits.values()] == [2, 1, 1]
    assert "1 images are in no list and not used" in capsys.readouterr().err
    assert len(dataset.notes) == 5  # a line twice in each of four lists, and that image


def test_a_list_that_is_a_folder(tmp_path: Path) -> None:
    listing = deepchange(tmp_path) / "train-set-bbox.txt"
    listing.unlink()
    listing.mkdir()
    with pytest.raises(UserError, match=r"train-set-bbox\.txt is a folder; a text file"):
        read_dataset(tmp_path)


def cuhk03(root: Path) -> Path:
    names = [f"1_00{person}_{camera}_0{camera}.png" for person in (1, 2) for camera in (1, 2)]
    plant(root / "images_detected", *names)
    files = np.array(names, object).reshape(-1, 1)
    savemat(root / "cuhk03_new_protocol_config_detected.mat", {
        "filelist": files, "labels": [1, 1, 2, 2], "camId": [1, 2, 1, 2],
        "train_idx": [1, 2], "query_idx": [3], "gallery_idx": [4],
    })  # fmt: skip
    return root


def test_the_mat_split_of_cuhk03(tmp_path: Path) -> None:
    seen = look(read_dataset(cuhk03(tmp_path), "cuhk03-np", need=[]))
    assert seen == {"train": [(1, 1), (1, 2)], "query": [(2, 1)], "gallery": [(2, 2)]}


DAMAGED = {
    "cuhk03-np": (cuhk03, "cuhk03_new_protocol_config_detected.mat"),
    "grid": (grid, "features_and_partitions.mat"),
    "deepchange": (deepchange, "train-set-bbox.txt"),
    "regdb": (regdb, "idx/train_visible_1.txt"),
    "sysu-mm01": (sysu_mm01, "exp/train_id.txt"),
}


def cut(data: bytes, at: int) -> bytes:
    return data[: at % len(data)]


def changed(data: bytes, at: int, by: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([(data[at] + by) % 256]) + data[at + 1 :]


def recoded(data: bytes, encoding: str) -> bytes:
    return data.decode("latin-1").encode(encoding)


damage = st.one_of(
    st.builds(lambda at: partial(cut, at=at), st.integers(0, 10**6)),
    st.builds(lambda at, by: partial(changed, at=at, by=by), st.integers(0, 10**6), st.integers(1, 255)),
    st.builds(lambda encoding: partial(recoded, encoding=encoding), st.sampled_from(["utf-16", "utf-8", "utf-32"])),
    st.builds(lambda data: lambda _: data, st.binary(max_size=300)),
)


@pytest.mark.parametrize("layout", DAMAGED)
def test_damaged_lists_and_mat_files_are_read_or_told_in_one_line(
    layout: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    build, name = DAMAGED[layout]
    root = build(tmp_path_factory.mktemp("damaged"))
    whole = (root / name).read_bytes()
    told: list[str] = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(damage)
    def read(spoil: Callable[[bytes], bytes]) -> None:
        (root / name).write_bytes(spoil(whole))
        try:
            dataset = read_dataset(root, layout, need=[])
        except UserError as error:
            told.append(str(error))
            return
        told.extend(dataset.absent.values())
        assert all(path.is_file() for path in dataset.paths)

    read()
    assert any(str(root / name) in sentence for sentence in told)
    assert all(str(root) in sentence and "\n" not in sentence for sentence in told)
