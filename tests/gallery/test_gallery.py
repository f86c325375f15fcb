"""`dgnet gallery`, from photos to answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from PIL import Image

import dgnet
from dgnet.errors import UserError
from dgnet.gallery.enrol import enrol
from dgnet.gallery.entries import of_dataset, of_images
from dgnet.gallery.gallery import Gallery, Where
from dgnet.retrieval.rerank import ReRanking

Run = Callable[..., Any]


@pytest.fixture
def built(weights: Path, people: Path, tmp_path: Path, run: Run) -> Path:
    said = run("gallery", "build", weights, people / "bounding_box_test", "--out", tmp_path / "gal lery")
    assert (said.code, said.err) == (0, "")
    return tmp_path / "gal lery"


def test_a_gallery_answers_as_the_search_of_its_folder_does(
    built: Path, model: dgnet.Model, people: Path, photos: list[Path], run: Run, tmp_path: Path
) -> None:
    query = sorted((people / "query").glob("*.jpg"))[0]
    wanted = model.search(query, people / "bounding_box_test", top=5)
    found = Gallery(built).search(model.embed_person(query), top=5)
    assert [(match.place, match.name, match.score) for match in found] == [
        (match.place, match.name, match.score) for match in wanted
    ]
    said = run(
        "gallery", "search", built, query, "--top", 5, "--json", tmp_path / "m.json", "--sheet", tmp_path / "s.png"
    )
    assert (said.code, said.err) == (0, "")
    assert [line.split()[-1] for line in said.out.splitlines()[1:6]] == [match.name for match in wanted]
    read = json.loads((tmp_path / "m.json").read_text())
    assert [match["name"] for match in read["matches"]] == [match.name for match in wanted]
    assert read["lost"] == []
    assert Image.open(tmp_path / "s.png").width > 0


def test_a_gallery_finds_its_own_photos(built: Path, model: dgnet.Model, photos: list[Path]) -> None:
    gallery = Gallery(built)
    for photo in photos:
        first = gallery.search(model.embed_person(photo), top=1)[0]
        assert (first.name, f"{first.score:.3f}") == (str(photo), "1.000")


def test_several_photos_are_one_person(built: Path, model: dgnet.Model, photos: list[Path], run: Run) -> None:
    said = run("gallery", "search", built, *photos[:3], "--top", 1)
    first = Gallery(built).search(model.embed_person(photos[:3]), top=1)[0]
    assert said.out.splitlines()[1].split() == ["1", f"{first.score:.3f}", str(first.about["id"]), first.name]


def test_another_model_is_refused(
    built: Path, other_weights: Path, people: Path, photos: list[Path], refused: Callable[..., str], run: Run
) -> None:
    for words in (
        ("gallery", "search", built, photos[0], "--model", other_weights),
        ("gallery", "add", built, photos[0], "--model", other_weights),
        ("gallery", "build", other_weights, people / "query", "--out", built),
    ):
        assert "another model than" in refused(*words)
    with pytest.raises(UserError, match="their features cannot be compared"):
        dgnet.load(other_weights).gallery(built)


def test_a_model_that_has_moved_is_named(
    weights: Path, people: Path, photos: list[Path], tmp_path: Path, run: Run, refused: Callable[..., str]
) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(weights, tmp_path / "run")
    run("gallery", "build", people / "query", "--model", tmp_path / "run", "--out", tmp_path / "g")
    (tmp_path / "run").rename(tmp_path / "moved")
    told = refused("gallery", "search", tmp_path / "g", photos[0])
    assert told.startswith(f"{tmp_path / 'run'}: no such file; it made {tmp_path / 'g'}: --model says")
    assert run("gallery", "search", tmp_path / "g", photos[0], "--model", tmp_path / "moved").code == 0


def test_what_is_no_gallery_or_no_order_is_one_line(
    built: Path, weights: Path, people: Path, photos: list[Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    out = tmp_path / "new"
    for words, told in (
        (("search", tmp_path, photos[0]), "no gallery; `dgnet gallery build` makes one"),
        (("info", tmp_path / "nowhere"), "no gallery; `dgnet gallery build` makes one"),
        (("search", built), "give a photo of the person"),
        (("search", built, tmp_path / "none.jpg"), "none.jpg: no such image file"),
        (("search", built, photos[0], "--after", "yesterday"), "time 'yesterday': seconds, or a date"),
        (("build", weights, people / "query", "--out", built), "a whole gallery already; dgnet gallery add"),
        (("build", "--out", out), "give a model"),
        (("build", weights, "--out", out), "give photos, folders of photos"),
        (("build", people / "query", "--out", out), "say which one makes the features: --model RUN"),
        (("build", weights, people / "query", "--out", people), "is there already, and no gallery"),
        (("build", weights, people / "query", "--out", photos[0]), "is there already, and no gallery"),
        (("build", weights, people / "query", "--out", out, "--tracklets", "id"), "of photos, `folder` alone"),
        (
            ("build", weights, people / "query", "--out", out, "--frames", people),
            "--frames: holds the frames of --boxes",
        ),
    ):
        assert told in refused("gallery", *words), words
        assert not out.exists()


def test_add_remove_compact_and_info(
    built: Path, people: Path, photos: list[Path], run: Run, tmp_path: Path, model: dgnet.Model
) -> None:
    before = len(Gallery(built))
    new = sorted((people / "query").glob("*.jpg"))
    said = run("gallery", "add", built, people / "query", photos[0], "--camera", "03")
    assert said.out == f"{len(new)} added, 1 were in it already; {before + len(new)} entries in {built}\n"
    said = run("gallery", "search", built, new[0], "--camera", "3", "--top", 100)
    assert len(said.out.splitlines()) == len(new) + 2
    assert "camera" in said.out.splitlines()[0]
    said = run("gallery", "search", built, new[0], "--camera", "9")
    assert "no entry meets camera 9" in said.err

    assert run("gallery", "remove", built, people / "query" / new[0].name).out.startswith("removed 1 entries")
    assert run("gallery", "remove", built, "--camera", 3).out == f"removed {len(new) - 1} entries; {before} are left\n"
    said = run("gallery", "info", built, "--json", tmp_path / "info.json")
    assert said.code == 0
    told = json.loads((tmp_path / "info.json").read_text())
    assert (told["entries"], told["removed"], told["lost"], told["whole"]) == (before, len(new), [], True)
    assert told["fingerprint"] == model.fingerprint
    assert run("gallery", "compact", built).code == 0
    assert Gallery(built).info()["removed"] == 0
    assert len(Gallery(built)) == before


def test_a_photo_that_has_changed_is_embedded_again(
    weights: Path, photos: list[Path], tmp_path: Path, run: Run, model: dgnet.Model
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    shutil.copy(photos[0], album / "a.jpg")
    run("gallery", "build", weights, album, "--out", tmp_path / "g")
    shutil.copy(photos[6], album / "a.jpg")
    os.utime(album / "a.jpg", (1, 1))
    said = run("gallery", "add", tmp_path / "g", album)
    assert said.out == f"1 added; 1 entries in {tmp_path / 'g'}\n"
    assert Gallery(tmp_path / "g").search(model.embed_person(photos[6]))[0].score == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_read_stops_the_build_or_is_passed_over(
    weights: Path, photos: list[Path], tmp_path: Path, run: Run, refused: Callable[..., str]
) -> None:
    album = tmp_path / "album [1]"
    album.mkdir()
    for number, photo in enumerate(photos[:4]):
        shutil.copy(photo, album / f"{number} ü.jpg")
    (album / "2 ü.jpg").write_bytes(b"\xff\xd8 no photo")
    told = refused("gallery", "build", weights, album, "--out", tmp_path / "g")
    assert told.startswith(f"{album / '2 ü.jpg'}: truncated or not an image")
    assert "entries are in" in told
    said = run("gallery", "build", weights, album, "--out", tmp_path / "g", "--on-unreadable", "skip")
    assert said.code == 0
    assert "left out 1 of" in said.err
    assert "1 left out; 3 entries" in said.out


def test_a_data_set_keeps_its_people_and_cameras(
    weights: Path, people: Path, model: dgnet.Model, tmp_path: Path, run: Run
) -> None:
    from dgnet.datasets.read import read_dataset

    dataset = read_dataset(people, "auto")
    run("gallery", "build", weights, "--data", people, "--out", tmp_path / "g")
    gallery = Gallery(tmp_path / "g")
    assert len(gallery) == int((dataset.gallery.identities >= 0).sum())
    assert gallery.info()["people"] == len(dataset.gallery.people)
    assert gallery.info()["cameras"] == ["1", "2"]
    for match in gallery.search(model.embed_person(dataset.query.paths[0]), top=100):
        at = dataset.gallery.paths.index(Path(match.name))
        assert match.about.get("identity", "0") == str(dataset.gallery.identities[at])
        assert match.about["camera"] == str(dataset.gallery.cameras[at])
    assert len(of_dataset(dataset, ["train", "query"])) == len(dataset.train) + len(dataset.query)
    with pytest.raises(UserError):
        of_dataset(dataset, ["validation"])


def test_a_folder_may_be_a_tracklet(model: dgnet.Model, photos: list[Path], tmp_path: Path) -> None:
    for number, photo in enumerate(photos[:6]):
        track = tmp_path / "tracks" / f"t{number // 3}"
        track.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, track)
    gallery = model.gallery(tmp_path / "g")
    assert enrol(gallery, model, of_images([tmp_path / "tracks"], by_folder=True)) == (2, 0, 0)
    assert enrol(gallery, model, of_images([tmp_path / "tracks"], by_folder=True)) == (0, 2, 0)
    found = gallery.search(model.embed_person(photos[:3]))
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert found[0].about["photos"] == 3
    assert len(found) == 2


def test_times_are_searched_by(model: dgnet.Model, photos: list[Path], weights: Path, tmp_path: Path, run: Run) -> None:
    for day, photo in enumerate(photos[:4], start=1):
        shutil.copy(photo, tmp_path / f"{day}.jpg")
        os.utime(tmp_path / f"{day}.jpg", (86400 * day, 86400 * day))
    gallery = model.gallery(tmp_path / "g")
    enrol(gallery, model, of_images(sorted(tmp_path.glob("*.jpg")), modified=True))
    enrol(gallery, model, of_images(photos[5:6]))
    query = model.embed_person(photos[0])
    for where, days in (
        (Where(after="1970-01-03"), "34"),
        (Where(after=86400 * 2, before="1970-01-05T00:00:00+00:00"), "3"),
        (Where(before="1970-01-02T01:00:00"), "1"),
    ):
        assert sorted(Path(m.name).stem for m in gallery.search(query, where=where)) == list(days)
    for words, days in (
        (["--after", "1970-01-03"], "34"),
        (["--before", "1970-01-02T01:00:00"], "1"),
        (["--after", "1970-01-02T01:00:00", "--before", "1970-01-03T01:00:00"], "2"),
    ):
        run("gallery", "search", tmp_path / "g", photos[0], "--model", weights, *words, "--json", tmp_path / "f.json")
        told = json.loads((tmp_path / "f.json").read_text())["matches"]
        assert sorted(Path(match["name"]).stem for match in told) == list(days)


def test_the_best_are_ranked_anew_as_re_ranking_has_it(
    built: Path, model: dgnet.Model, people: Path, tmp_path: Path, run: Run
) -> None:
    import numpy as np

    from dgnet.retrieval.feature_sets import Features, FeatureSet
    from dgnet.retrieval.prepared import Comparison, prepare
    from dgnet.retrieval.rerank import rerank

    query, names = sorted((people / "query").glob("*.jpg"))[3], sorted((people / "bounding_box_test").glob("*.jpg"))
    one, many = model.embed_person(query), model.embed(names)
    blank = np.full(len(names), -1)
    both = FeatureSet(Features(one, blank[:1] + 2, blank[:1]), Features(many, blank + 1, blank))
    settings = ReRanking(k1=5, k2=2)
    assert len(names) < 200
    wanted = rerank(prepare(both, Comparison(None)), settings)[0].argsort(stable=True)
    found = Gallery(built).search(one, top=len(names), reranking=settings)
    ranked = [names.index(Path(match.name)) for match in found]
    distance = rerank(prepare(both, Comparison(None)), settings)[0]
    torch.testing.assert_close(distance[ranked], distance[wanted])
    anew, plain = (Gallery(built).search(one, top=6, reranking=how) for how in (ReRanking(), None))
    assert [match.name for match in anew] != [match.name for match in plain]
    for words, wanted_first in ((["--rerank"], anew), ([], plain)):
        run("gallery", "search", built, query, *words, "--top", 6, "--json", tmp_path / "found.json")
        told = json.loads((tmp_path / "found.json").read_text())["matches"]
        assert [match["name"] for match in told] == [match.name for match in wanted_first]


def test_a_build_that_is_killed_goes_on_from_what_it_said_was_safe(
    weights: Path, people: Path, tmp_path: Path, run: Run
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for copy in range(8):
        for photo in sorted((people / "bounding_box_test").glob("*.jpg")):
            os.link(photo, album / f"{copy} {photo.name}")
    total = len(list(album.iterdir()))
    assert total > 96
    words = ["gallery", "build", str(weights), str(album), "--out", str(tmp_path / "g"), "--device", "cpu"]
    output = tmp_path / "said"
    build = processes.start(processes.build_in_small_steps, words, output)
    while build.is_alive() and not (output.exists() and b"are safe in" in output.read_bytes()):
        time.sleep(0.002)
    os.kill(build.pid, signal.SIGKILL)
    build.join()
    safe = int(output.read_text().split(" entries are safe")[0].split()[-1])
    assert safe >= 32
    assert len(Gallery(tmp_path / "g")) >= safe
    assert Gallery(tmp_path / "g").lost == []
    said = run(*words)
    assert said.code == 0
    assert f"; {total} entries in" in said.out
    assert int(said.out.split(" were in it already")[0].split()[-1]) >= safe
