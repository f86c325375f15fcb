"""`dgnet generate dataset`: who wears what where, resumed and in shards, and what is read back as a data set."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import code_of
from PIL import Image

from dgnet import config
from dgnet.datasets.read import read_dataset
from dgnet.generate import edit, expansion
from dgnet.generate.score import sources_of
from dgnet.images.decode import decode
from dgnet.models.dgnet import DGNet
from dgnet.weights.files import save_model

TINY = config.load("tiny")


def generate(weights: Path, people: Path, out: Path, *more: object) -> int:
    given = ("--data", people, "--device", "cpu", "--per-identity", 5, *more)
    return code_of("generate", "dataset", weights, out, *given)


def rows(out: Path) -> list[dict[str, str]]:
    return [row for table in sorted(out.glob("provenance*.csv")) for row in csv.DictReader(table.open())]


def pictures(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (out / "bounding_box_train").glob("*.jpg")}


@pytest.mark.parametrize("wear", ["own", "others"])
def test_a_data_set_is_made_with_its_provenance(
    weights: Path, net: DGNet, people: Path, tmp_path: Path, wear: str
) -> None:
    out = tmp_path / "out"
    assert generate(weights, people, out, "--wear", wear) == 0
    source, made = read_dataset(people).train, read_dataset(out, need=("train",)).train
    assert Counter(made.identities.tolist()) == dict.fromkeys(source.people.tolist(), 5)
    identity = dict(zip(map(str, source.paths), source.identities.tolist(), strict=True))
    camera = dict(zip(map(str, source.paths), source.cameras.tolist(), strict=True))
    labels = dict(zip([path.name for path in made.paths], zip(made.identities, made.cameras, strict=True), strict=True))
    table = rows(out)
    assert len(table) == len(labels) == 20
    for row in table:
        own, other = ("appearance", "structure") if wear == "own" else ("structure", "appearance")
        assert identity[row[own]] == int(row["identity"]) != identity[row[other]]
        assert labels[Path(row["file"]).name] == (int(row["identity"]), camera[row["structure"]])
    of = {who: Counter(row[own] for row in table if row["identity"] == who) for who in {r["identity"] for r in table}}
    assert all(max(times.values()) - min(times.values()) <= 1 for times in of.values())
    first = table[0]
    structure, appearance = (edit.read([Path(first[what])], 32, 16) for what in ("structure", "appearance"))
    painted = edit.swap(net, structure, appearance)[0][0].numpy()
    assert np.abs(decode(out / first["file"]).astype(int) - painted).mean() < 4  # JPEG


def test_an_interrupted_call_is_continued_and_changes_nothing_that_is_there(
    weights: Path, people: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    assert generate(weights, people, out) == 0
    whole = pictures(out)
    gone, empty, *kept = sorted(whole)
    (out / "bounding_box_train" / gone).unlink()
    (out / "bounding_box_train" / empty).write_bytes(b"")
    (out / "bounding_box_train" / f".{gone}.7.part").write_bytes(b"half")
    dates = {name: (out / "bounding_box_train" / name).stat().st_mtime_ns for name in kept}
    capsys.readouterr()
    assert generate(weights, people, out) == 0
    assert capsys.readouterr().out.startswith("2 pictures painted\n")
    assert pictures(out) == whole
    assert {name: (out / "bounding_box_train" / name).stat().st_mtime_ns for name in kept} == dates
    assert not list((out / "bounding_box_train").glob(".*"))


def test_shards_make_the_whole(weights: Path, people: Path, tmp_path: Path, capsys: Any) -> None:
    assert generate(weights, people, tmp_path / "one") == 0
    for part in (3, 1, 2):
        assert generate(weights, people, tmp_path / "three", "--shard", f"{part}/3") == 0
    assert "7 pictures of shard 2/3 painted" in capsys.readouterr().out
    by_file = [sorted(rows(tmp_path / name), key=lambda row: row["file"]) for name in ("one", "three")]
    assert by_file[0] == by_file[1]
    one, three = pictures(tmp_path / "one"), pictures(tmp_path / "three")
    assert one.keys() == three.keys()
    for name in one:  # the same picture, but for the rounding of another batch
        first, second = (np.asarray(Image.open(io.BytesIO(made[name])), np.int64) for made in (one, three))
        assert np.abs(first - second).mean() < 1, name
    assert len(set(one.values())) == len(one)
    assert generate(weights, people, tmp_path / "three", "--shard", "1/2") == 2
    assert "is painted in other shards, or with other tables (provenance-1-of-3.csv)" in capsys.readouterr().err
    assert generate(weights, people, tmp_path / "three") == 2


def test_its_provenance_may_be_parquet_and_says_the_same(
    weights: Path, people: Path, tmp_path: Path, capsys: Any
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs dgnet[parquet]")
    assert generate(weights, people, tmp_path / "csv") == 0
    assert generate(weights, people, tmp_path / "made", "--shard", "1/2", "--provenance", "parquet") == 0
    assert generate(weights, people, tmp_path / "made", "--shard", "2/2", "--provenance", "parquet") == 0
    tables = sorted((tmp_path / "made").glob("provenance*"))
    assert [table.name for table in tables] == ["provenance-1-of-2.parquet", "provenance-2-of-2.parquet"]
    held = [row for table in tables for row in parquet.read_table(table).to_pylist()]
    said = [{**row, "identity": int(row["identity"]), "camera": int(row["camera"])} for row in rows(tmp_path / "csv")]
    assert sorted(held, key=lambda row: row["file"]) == sorted(said, key=lambda row: row["file"])
    made = sorted((tmp_path / "made" / "bounding_box_train").glob("*.jpg"))
    by_csv = sources_of(sorted((tmp_path / "csv" / "bounding_box_train").glob("*.jpg")))
    by_parquet = sources_of(made)
    assert len(by_csv) == 20
    assert [by_parquet[file] for file in made] == list(by_csv.values())
    capsys.readouterr()
    assert generate(weights, people, tmp_path / "made", "--shard", "1/2") == 2
    assert "or with other tables (provenance-1-of-2.parquet)" in capsys.readouterr().err


def test_whose_clothes_are_worn_is_the_label_only_where_people_wear_their_own(
    weights: Path, people: Path, tmp_path: Path
) -> None:
    for wear, known in (("own", True), ("others", False)):
        assert generate(weights, people, tmp_path / wear, "--wear", wear) == 0
        found = sources_of(sorted((tmp_path / wear / "bounding_box_train").glob("*.jpg")))
        assert len(found) == 20
        assert {source.identity is not None for source in found.values()} == {known}


def test_parquet_without_its_package_is_told_before_any_work(
    weights: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert generate(weights, people, tmp_path / "made", "--provenance", "parquet") == 2
    assert "--provenance parquet: needs pyarrow: pip install 'dgnet[parquet]'" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_each_process_of_torchrun_paints_a_shard(weights: Path, people: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dgnet",
               "generate", "dataset", str(weights), str(tmp_path / "out"), "--data", str(people),
               "--device", "cpu"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "out").glob("*.csv")) == [
        "provenance-1-of-2.csv", "provenance-2-of-2.csv",
    ]  # fmt: skip
    assert len(pictures(tmp_path / "out")) == 40


def test_with_the_real_images_it_is_a_set_to_train_and_test_with(weights: Path, people: Path, tmp_path: Path) -> None:
    assert generate(weights, people, tmp_path / "out", "--with-real") == 0
    real, made = read_dataset(people), read_dataset(tmp_path / "out")
    assert len(made.train) == len(real.train) + 20
    assert made.train.people.tolist() == real.train.people.tolist()
    for split in ("query", "gallery"):
        labels = [Counter(zip(s.identities.tolist(), s.cameras.tolist(), strict=True)) for s in
                  (getattr(real, split), getattr(made, split))]  # fmt: skip
        assert labels[0] == labels[1]
        photos = [Counter(path.read_bytes() for path in getattr(s, split).paths) for s in (real, made)]
        assert photos[0] == photos[1]
    copied = Counter(path.read_bytes() for path in made.train.paths)
    assert Counter(path.read_bytes() for path in real.train.paths) <= copied


def test_unreadable_photos_are_named_or_passed_over(weights: Path, people: Path, tmp_path: Path, capsys: Any) -> None:
    copy = tmp_path / "copy" / "bounding_box_train"
    copy.mkdir(parents=True)
    for photo in (people / "bounding_box_train").glob("*.jpg"):
        (copy / photo.name).write_bytes(photo.read_bytes())
    (copy.parent / "bounding_box_test").mkdir()
    bad = min(copy.glob("*.jpg"))
    bad.write_bytes(bad.read_bytes()[:300])
    given = (weights, copy.parent, tmp_path / "out", "--layout", "market1501")
    assert generate(*given) == 2
    assert f"error: {bad}: truncated or not an image" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert generate(*given, "--on-unreadable", "skip") == 0
    assert f"left out 1 of 16 images, which cannot be read: {bad}" in capsys.readouterr().err
    assert len(pictures(tmp_path / "out")) == 20
    assert str(bad) not in {path for row in rows(tmp_path / "out") for path in (row["appearance"], row["structure"])}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--seed", 1], "begun with seed = 0, not 1"),
        (["--wear", "others"], "begun with wear = own, not others"),
        (["--shard", "0/3"], "--shard 0/3: write it as 3/8"),
        (["--shard", "half"], "--shard half: write it as 3/8"),
        (["--per-identity", 0], "--per-identity 0: at least 1"),
    ],
)
def test_what_cannot_be_made_is_told(
    weights: Path, people: Path, made: Path, more: list[object], says: str, capsys: Any
) -> None:
    before = {file: file.read_bytes() for file in made.rglob("*") if file.is_file()}
    assert generate(weights, people, made, *more) == 2
    assert says in capsys.readouterr().err
    assert {file: file.read_bytes() for file in made.rglob("*") if file.is_file()} == before


@pytest.fixture(scope="module")
def made(weights: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    assert generate(weights, people, out) == 0
    return out


def test_a_folder_of_something_else_and_weights_that_are_no_numbers(
    weights: Path, people: Path, tmp_path: Path, capsys: Any
) -> None:
    assert generate(weights, people, people) == 2
    assert "not empty, and no data set that dgnet began" in capsys.readouterr().err
    net = DGNet(TINY, 4).eval()
    for tensor in net.decoder.state_dict().values():
        tensor.fill_(1e38)
    save_model(tmp_path / "huge.safetensors", net, TINY, "joint", [])
    assert generate(tmp_path / "huge.safetensors", people, tmp_path / "out") == 2
    assert "came out as NaN or infinity" in capsys.readouterr().err
    assert pictures(tmp_path / "out") == {}


def test_a_disk_that_is_full_is_told_and_leaves_no_part(
    weights: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(self: Path, target: object) -> Path:
        raise OSError(28, "No space left on device", str(target))

    real = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, to: full(self, to) if str(to).endswith(".jpg") else real(self, to)
    )
    assert generate(weights, people, tmp_path / "out") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "out" / "bounding_box_train").iterdir()) == []


def test_the_plan_is_a_function_of_photos_and_seed(people: Path) -> None:
    train = read_dataset(people).train
    first, again, other = (expansion.plan(train, 7, "own", seed) for seed in (0, 0, 1))
    assert first == again
    assert [p.structure for p in first] != [p.structure for p in other]
    assert len({picture.file for picture in first}) == 28
