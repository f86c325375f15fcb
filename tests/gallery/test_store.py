"""A gallery on disk: what was acknowledged is there whatever dies; what is damaged is told; one writes, many read."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import processes
import pytest
import torch

from dgnet.errors import UserError
from dgnet.gallery.entries import Entry
from dgnet.gallery.gallery import Gallery, Where
from dgnet.gallery.store import TABLE
from dgnet.images.pieces import Piece


def made(folder: Path, *, precision: str = "float32", changes: int = 0) -> Gallery:
    gallery = Gallery.create(folder, model="m" * 64, made_by="runs/a", dimensions=8, precision=precision)  # type: ignore[arg-type]
    for number in range(1, changes + 1):
        gallery.add(*processes.entries_of(number))
    return gallery


def names(gallery: Gallery) -> set[str]:
    return {match.name for match in gallery.search(torch.ones(8), top=10**6)}


# What dies


@pytest.mark.parametrize("compacting", [False, True], ids=["add", "compact"])
def test_a_writer_that_is_killed_at_any_moment_loses_nothing_that_was_acknowledged(
    compacting: bool, tmp_path: Path
) -> None:
    made(tmp_path / "g")
    chance = np.random.default_rng(0)
    there: set[int] = set()  # changes whose entries are there
    next_one = 1
    for _ in range(12):
        reading, writing = Pipe(duplex=False)
        writer = processes.start(processes.change_without_end, tmp_path / "g", next_one, compacting, writing)
        assert reading.poll(processes.PATIENCE)
        time.sleep(chance.uniform(0, 0.12))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        writing.close()
        reports = []
        while reading.poll():
            try:
                reports.append(reading.recv())
            except EOFError:
                break
        there |= {number for what, number in reports if what == "added"}
        there -= {number for what, number in reports if what == "removed"}
        next_one = max([next_one, *(number + 1 for what, number in reports if what == "added")])
        gallery = Gallery(tmp_path / "g")
        found = [int(str(match.about["camera"])) for match in gallery.search(torch.ones(8), top=10**6)]
        assert gallery.lost == []
        removing = {reports[-1][1]} if reports[-1][0] == "removing" else set()
        assert there - removing <= set(found) <= there | {next_one}  # what was done, and not yet reported
        assert len(found) == 20 * len(set(found))
        for match in gallery.search(torch.ones(8), top=50):
            number, place = (int(part.removesuffix(".jpg")) for part in match.name.split("/")[2:])
            feature = processes.entries_of(number)[1][place]
            assert match.score == pytest.approx(float(feature.sum() / 8**0.5), abs=1e-5)
        there, next_one = set(found), max([next_one, *(number + 1 for number in found)])
    assert len(there) > 3


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", changes=2)
    file = tmp_path / "g" / gallery.about.features
    with file.open("ab") as out:
        out.write(b"half a row")
    (tmp_path / "g" / "features-000009.bin").write_bytes(b"of a compaction that died")
    assert len(Gallery(tmp_path / "g")) == 40
    gallery.add(*processes.entries_of(3))
    assert len(Gallery(tmp_path / "g")) == 60
    assert Gallery(tmp_path / "g").lost == []
    assert file.stat().st_size == 60 * 8 * 4
    assert not (tmp_path / "g" / "features-000009.bin").exists()


def test_a_gallery_whose_maker_died_at_once_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / TABLE).touch()
    with pytest.raises(UserError, match="no gallery; `dgnet gallery build` makes one"):
        Gallery(tmp_path / "g")
    assert len(made(tmp_path / "g", changes=1)) == 20


def test_a_gallery_is_not_made_over_one_or_over_something_else(tmp_path: Path) -> None:
    made(tmp_path / "g", changes=1)
    with pytest.raises(UserError, match="holds a gallery already"):
        made(tmp_path / "g")
    assert len(Gallery(tmp_path / "g")) == 20
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "a.jpg").touch()
    with pytest.raises(UserError, match="is there already, and no gallery"):
        made(tmp_path / "album")


# Writers and readers


def test_a_second_writer_is_told_and_readers_go_on(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", changes=1)
    ours, theirs = Pipe()
    writer = processes.start(processes.hold, tmp_path / "g", theirs)
    assert ours.poll(processes.PATIENCE)
    assert ours.recv() == "holding"
    for change in (
        lambda: gallery.add(*processes.entries_of(2)),
        lambda: gallery.remove(["/photos/1"]),
        gallery.compact,
    ):
        with pytest.raises(UserError, match="another process is writing to this gallery"):
            change()
    assert len(Gallery(tmp_path / "g").search(torch.ones(8))) == 10
    os.kill(writer.pid, signal.SIGKILL)  # its lock goes with it
    writer.join()
    gallery.add(*processes.entries_of(2))
    assert len(gallery) == 40


def test_a_reader_sees_what_others_change(tmp_path: Path) -> None:
    reader, writer = made(tmp_path / "g", changes=1), Gallery(tmp_path / "g")
    assert len(reader) == 20
    writer.add(*processes.entries_of(2))
    assert len(reader) == 40
    writer.remove(["/photos/1"])
    assert names(reader) == names(writer)
    writer.compact()
    assert len(names(reader)) == 20
    assert reader.lost == []


def test_a_gallery_that_may_only_be_read_is_searched(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    made(folder, changes=1)
    for path in [*folder.iterdir(), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(Gallery(folder).search(torch.ones(8))) == 10
    finally:
        folder.chmod(0o755)


# What is changed


def test_an_entry_that_is_added_again_is_replaced(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", changes=1)
    entries, features = processes.entries_of(1)
    gallery.add(entries[:1], features[5:6])
    assert len(gallery) == 20
    (mine,) = (m for m in gallery.search(features[5], top=20) if m.name == entries[0].name)
    assert mine.score == pytest.approx(1, abs=1e-6)


def test_compaction_keeps_every_answer_and_frees_the_rest(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", changes=5)
    gallery.remove(["/photos/2"], Where(camera="2"))
    gallery.remove(where=Where(camera="04"))
    before = gallery.search(torch.ones(8), top=100)
    old = gallery.about.features
    assert gallery.info()["removed"] == 40
    assert gallery.compact() > 0
    assert gallery.search(torch.ones(8), top=100) == before
    assert {match.about["camera"] for match in before} == {"1", "3", "5"}
    assert gallery.info()["removed"] == 0
    assert not (tmp_path / "g" / old).exists()
    assert b"/photos/2/" not in (tmp_path / "g" / TABLE).read_bytes()
    gallery.add(*processes.entries_of(6))
    assert len(gallery) == 80


def test_what_cannot_be_removed_is_told_and_nothing_is(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", changes=2)
    with pytest.raises(UserError, match=r"^/photo/1/3.jpg: no entry .*; perhaps /photos/1/3.jpg\?$"):
        gallery.remove(["/photos/2", "/photo/1/3.jpg"])
    with pytest.raises(UserError, match="no entry meets camera 7"):
        gallery.remove(where=Where(camera="7"))
    with pytest.raises(UserError, match="remove: name photos or folders"):
        gallery.remove()
    assert len(gallery) == 40


def test_features_that_cannot_be_kept_are_told(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g")
    entries, features = processes.entries_of(1)
    for wrong, says in (
        (features[:, :4], r"shape \[20, 4\], not \[20, 8\]"),
        (features[:3], r"shape \[3, 8\], not \[20, 8\]"),
        (features / 0, "NaN or infinity"),
    ):
        with pytest.raises(UserError, match=says):
            gallery.add(entries, wrong)
    assert len(gallery) == 0
    assert gallery.search(torch.ones(8)) == []
    with pytest.raises(UserError, match="query has 4 dimensions, the gallery 8"):
        gallery.search(torch.ones(4))


# The order


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_the_order_is_that_of_float64_with_ties_in_the_order_of_adding(precision: str, tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", precision=precision)
    rng = np.random.default_rng(0)
    few = torch.from_numpy(rng.normal(size=(7, 8))).float()
    features = few[rng.integers(7, size=900)]
    entries = [Entry((Piece(Path(f"/p/{n}.jpg")),)) for n in range(900)]
    for start in range(0, 900, 300):
        gallery.add(entries[start : start + 300], features[start : start + 300])
    gallery.remove(["/p/5.jpg", "/p/450.jpg"])
    kept = [n for n in range(900) if n not in (5, 450)]
    for q in few:
        stored = (features[kept] / features[kept].norm(dim=1, keepdim=True)).to(getattr(torch, precision))
        wanted = sorted(
            range(len(kept)), key=lambda n: (-round(float(stored[n].double() @ (q / q.norm()).double()), 9), n)
        )
        found = [match.name for match in gallery.search(q, top=len(kept))]
        assert found == [f"/p/{kept[n]}.jpg" for n in wanted]


# Damage


def damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Gallery, str]:
    capsys.readouterr()
    gallery = Gallery(folder)
    len(gallery)
    return gallery, capsys.readouterr().err


def test_a_bit_that_flips_costs_its_entry_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery = made(tmp_path / "g", changes=2)
    file = tmp_path / "g" / gallery.about.features
    data = bytearray(file.read_bytes())
    data[23 * 32 + 5] ^= 4
    file.write_bytes(data)
    gallery, told = damaged(tmp_path / "g", capsys)
    assert gallery.lost == ["/photos/2/3.jpg"]
    assert "damaged: 1 lost, the rest is served: /photos/2/3.jpg; add them again" in told
    assert len(names(gallery)) == 39
    entries, features = processes.entries_of(2)
    gallery.add(entries[3:4], features[3:4])
    assert (len(gallery), gallery.lost) == (40, [])


@pytest.mark.parametrize(("size", "left"), [(10 * 32, 10), (7 * 32 + 31, 7), (0, 0), (None, 0)])
def test_a_file_of_features_that_was_cut_serves_what_is_left(
    size: int | None, left: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "g", changes=1)
    file = tmp_path / "g" / "features-000001.bin"
    if size is None:
        file.unlink()
    else:
        os.truncate(file, size)
    gallery, told = damaged(tmp_path / "g", capsys)
    assert gallery.lost == [f"/photos/1/{n}.jpg" for n in range(left, 20)]
    assert f"{20 - left} lost" in told
    assert len(gallery.search(torch.ones(8), top=100)) == left
    gallery.add(*processes.entries_of(2))
    assert len(Gallery(tmp_path / "g")) == left + 20
    gallery.compact()
    assert (len(gallery), gallery.lost) == (left + 20, [])


def test_a_name_that_was_changed_on_disk_is_not_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "g", changes=1)
    table = tmp_path / "g" / TABLE
    table.write_bytes(table.read_bytes().replace(b"/photos/1/7.jpg", b"/photos/1/\xff.jpg"))
    gallery, _ = damaged(tmp_path / "g", capsys)
    assert len(gallery) == 19
    assert len(gallery.lost) == 1


def test_a_table_with_a_damaged_page_serves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "g", changes=40)
    table = tmp_path / "g" / TABLE
    with sqlite3.connect(table) as db:
        (page_size,) = db.execute("PRAGMA page_size").fetchone()
    pages = table.read_bytes()
    numbers = [n for n in range(1, len(pages) // page_size) if b"/photos/20/" in pages[n * page_size :][:page_size]]
    leaf = next(n for n in numbers if pages[n * page_size] == 13)  # a leaf of the table itself, not of an index
    with table.open("rb+") as file:
        file.seek(leaf * page_size)
        file.write(b"\xee" * page_size)
    gallery, told = damaged(tmp_path / "g", capsys)
    assert 700 < len(gallery) < 800
    assert len(gallery.search(torch.ones(8), top=1000)) == len(gallery)
    assert "(their names are lost, too)" in told
    gallery.compact()
    assert (len(Gallery(tmp_path / "g")), Gallery(tmp_path / "g").lost) == (len(gallery), [])
    gallery.add(*processes.entries_of(50))
    assert len(Gallery(tmp_path / "g")) == len(gallery)


def test_a_table_that_was_cut_serves_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "g", changes=40)
    wanted = {match.name: match.score for match in Gallery(tmp_path / "g").search(torch.ones(8), top=10**6)}
    table = tmp_path / "g" / TABLE
    os.truncate(table, table.stat().st_size * 3 // 4)
    gallery, told = damaged(tmp_path / "g", capsys)
    found = {match.name: match.score for match in gallery.search(torch.ones(8), top=10**6)}
    assert 100 < len(found) < 800
    assert found.items() <= wanted.items()
    assert "the rest is served" in told
    with pytest.raises(UserError, match="`dgnet gallery compact` keeps what can be read"):
        gallery.add(*processes.entries_of(50))
    gallery.compact()
    assert gallery.add(*processes.entries_of(50)) == len(found) + 20
    assert Gallery(tmp_path / "g").lost == []


@pytest.mark.parametrize("content", [b"", b"no table", b"SQLite format 3\0" + b"\xee" * 5000])
def test_a_table_that_is_none_is_one_line(content: bytes, tmp_path: Path) -> None:
    made(tmp_path / "g", changes=1)
    (tmp_path / "g" / TABLE).write_bytes(content)
    with pytest.raises(UserError, match=r"entries.sqlite: |no gallery"):
        Gallery(tmp_path / "g").search(torch.ones(8))
