"""A gallery in Qdrant gives the answers of one on disk; Qdrant's embedded store stands in for a server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qdrant_client import QdrantClient

from dgnet.errors import UserError
from dgnet.gallery import qdrant
from dgnet.gallery.ask import Where
from dgnet.gallery.entries import Entry
from dgnet.gallery.gallery import Gallery
from dgnet.gallery.qdrant import QdrantGallery
from dgnet.images.pieces import Piece
from dgnet.retrieval.matches import Match
from dgnet.retrieval.rerank import ReRanking

MAKER: dict[str, Any] = {"model": "m" * 64, "made_by": "runs/a", "dimensions": 8}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No embedded store stays open beyond its test."""
    yield
    qdrant._client.cache_clear()


def both(tmp_path: Path, precision: Any = "float32") -> tuple[Gallery, QdrantGallery]:
    there = QdrantGallery.create(
        "qdrant://somewhere/people", client=QdrantClient(":memory:"), precision=precision, **MAKER
    )
    return Gallery.create(tmp_path / "g", precision=precision, **MAKER), there


def many(count: int) -> tuple[list[Entry], torch.Tensor]:
    """Entries of which many are equal, and others differ in their last bits."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(9, 8))
    features = few[rng.integers(9, size=count)] + 1e-7 * rng.normal(size=(count, 8)) * rng.integers(2, size=(count, 1))
    entries = [
        Entry((Piece(Path(f"/p{n % 4}/{n}.jpg")),), {"camera": f"0{n % 3}", "identity": str(n % 9), "time": str(n)})
        for n in range(count)
    ]
    return entries, torch.from_numpy(features).float()


def plain(matches: list[Match]) -> list[Match]:
    """Without the numbers that each store gives its entries."""
    return [replace(match, about={k: v for k, v in match.about.items() if k != "id"}) for match in matches]


def test_the_embedded_store_is_closed_before_python_ends(weights: Path, people: Path, tmp_path: Path) -> None:
    """Left to Python's last moments it complains below what was asked for."""
    words = ["gallery", "build", str(weights), str(people / "query"), "--store", f"qdrant://{tmp_path}/people"]
    done = subprocess.run([sys.executable, "-m", "dgnet", *words], capture_output=True, text=True, check=True)
    assert "entries in qdrant:///" in done.stdout
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_answers_are_those_of_a_gallery_on_disk(tmp_path: Path) -> None:
    here, there = both(tmp_path)
    entries, features = many(200)
    for gallery in (here, there):
        assert gallery.add(entries[:120], features[:120]) == 120
        gallery.add(entries[120:], features[120:])
        assert len(gallery) == 200
        gallery.remove(["/p1/5.jpg"])
        gallery.remove(["/p2"], Where(identity="4", before=150))
    assert here.known() == there.known()
    assert here.pieces() == there.pieces()
    for query in features[:3]:
        for top in (1, 30, 400):
            assert plain(there.search(query, top)) == plain(here.search(query, top))
        for where in (Where(camera="1"), Where(identity="3", after=100), Where(after="1970-01-01T00:01", before=90)):
            assert plain(there.search(query, 20, where)) == plain(here.search(query, 20, where))
        again = ReRanking(k1=5, k2=2)
        assert plain(there.search(query, 20, reranking=again)) == plain(here.search(query, 20, reranking=again))
    told, wanted = there.info(), here.info()
    for key in ("entries", "people", "cameras", "model", "fingerprint", "dimensions", "lost"):
        assert told[key] == wanted[key]


def test_an_entry_that_is_added_again_is_replaced(tmp_path: Path) -> None:
    here, there = both(tmp_path)
    entries, features = many(10)
    for gallery in (here, there):
        gallery.add(entries, features)
        gallery.add(entries[:1], features[5:6])
        assert len(gallery) == 10
    assert plain(there.search(features[5], 10)) == plain(here.search(features[5], 10))


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    _, there = both(tmp_path)
    entries, features = many(10)
    there.add(entries, features)
    with pytest.raises(UserError, match="another model than b"):
        there.require("b" * 64, "b")
    with pytest.raises(UserError, match="a collection of that name is there already"):
        QdrantGallery.create(there.place, client=there.client, **MAKER)
    with pytest.raises(UserError, match="no gallery; `dgnet gallery build` makes one"):
        QdrantGallery("qdrant://somewhere/others", there.client)
    with pytest.raises(UserError, match="/p9: no entry of qdrant://somewhere/people is of that photo or folder"):
        there.remove(["/p9"])
    with pytest.raises(UserError, match="no entry meets camera 7"):
        there.remove(where=Where(camera="7"))
    with pytest.raises(UserError, match=r"shape \[10, 4\], not \[10, 8\]"):
        there.add(entries, features[:, :4])
    assert len(there) == 10
    for address in ("qdrant://", "qdrant:people", "qdrant://host:port/name", "qdrant://host"):
        with pytest.raises(UserError, match="write it as qdrant://host:port/name"):
            QdrantGallery(address)
    with pytest.raises(UserError, match=r"^qdrant://127.0.0.1:9/people: .*; is a Qdrant server there\?$"):
        QdrantGallery("qdrant://127.0.0.1:9/people")


def test_the_commands_are_the_same(
    weights: Path,
    people: Path,
    photos: list[Path],
    tmp_path: Path,
    run: Callable[..., Any],
    refused: Callable[..., str],
) -> None:
    store = ("--store", f"qdrant://{tmp_path}/qd/people")
    folder, query = people / "bounding_box_test", sorted((people / "query").glob("*.jpg"))
    run("gallery", "build", weights, folder, "--out", tmp_path / "g")
    said = run("gallery", "build", weights, folder, *store)
    assert (said.code, said.err) == (0, "")
    assert "a whole gallery already" in refused("gallery", "build", weights, folder, *store)
    for words in (("add", query[1], "--camera", "5"), ("add", query[2], "--camera", "6"), ("remove", photos[0])):
        command, *rest = words
        for said in (run("gallery", command, tmp_path / "g", *rest), run("gallery", command, *rest, *store)):
            assert said.code == 0, said
    for words in ((query[0], query[3], "--top", 5), (query[0], "--camera", "05")):
        here, there = run("gallery", "search", tmp_path / "g", *words), run("gallery", "search", *words, *store)
        assert there.code == 0
        ours, theirs = ([line.split() for line in said.out.splitlines()] for said in (here, there))
        assert len(theirs) > 2
        for column in (0, 1, -1):  # but for the number that each gives an entry
            assert [line[column] for line in theirs] == [line[column] for line in ours]
    ours, theirs = (run("gallery", "info", *where).out.splitlines() for where in ((tmp_path / "g",), store))
    assert theirs[1] == ours[1]
    assert run("gallery", "compact", *store).code == 0
    assert "say where to keep it" in refused("gallery", "build", weights, folder)
    assert "name its folder, or --store" in refused("gallery", "info")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """host:port of a Qdrant server: that of QDRANT_SERVER, or one that is started here, on the loopback."""
    if named := os.environ.get("QDRANT_SERVER"):
        yield named
        return
    if (program := shutil.which("qdrant")) is None:
        pytest.skip("QDRANT_SERVER=host:port names no server, and no program `qdrant` is installed")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        http, grpc = (str(line.getsockname()[1]) for line in (one, other))
    about = {"SERVICE__HOST": "127.0.0.1", "SERVICE__HTTP_PORT": http, "SERVICE__GRPC_PORT": grpc,
             "STORAGE__STORAGE_PATH": str(tmp_path / "storage"), "TELEMETRY_DISABLED": "true",
             "STORAGE__SNAPSHOTS_PATH": str(tmp_path / "snapshots")}  # fmt: skip
    told = os.environ | {f"QDRANT__{key}": value for key, value in about.items()}
    started = subprocess.Popen([program], cwd=tmp_path, env=told)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                QdrantGallery.begun(f"qdrant://127.0.0.1:{http}/nothing")
                break
            except UserError:
                assert started.poll() is None, "the server ended at once"
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.2)
        yield f"127.0.0.1:{http}"
    finally:
        started.terminate()
        started.wait(timeout=30)


def test_a_server_answers_as_the_embedded_store_does(server: str, tmp_path: Path) -> None:
    name = f"dgnet_test_{os.getpid()}"
    there = QdrantGallery.create(f"qdrant://{server}/{name}", **MAKER)
    try:
        here = Gallery.create(tmp_path / "g", **MAKER)
        entries, features = many(300)
        for gallery in (here, there):
            gallery.add(entries, features)
        for query in features[:6]:
            assert plain(there.search(query, 40)) == plain(here.search(query, 40))
            assert plain(there.search(query, 40, Where(camera="1"))) == plain(here.search(query, 40, Where(camera="1")))
    finally:
        there.client.delete_collection(name)
