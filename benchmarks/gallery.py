"""A gallery on disk beside FAISS's exact index in memory: build rate, milliseconds per query, memory, in one run.

    python benchmarks/gallery.py                     # 200 000 x 1 024
    python benchmarks/gallery.py --size 20000        # for a busy machine
    python benchmarks/gallery.py --json gallery.json

Needs `pip install faiss-cpu`. Features are random and of unit length, given as they are: what embedding costs is not in
it. Both are exact and search one query at a time, with as many threads; they take turns, and of each the median and the
quickest turn count. A gallery is built as `dgnet gallery build` builds it, 512 entries to a commit that is on disk when
it returns; FAISS keeps its index in memory alone. Opening a gallery compares every entry with its checksum. Memory is
what the process holds above its start: its own, and the pages of the mapped file, which the system may take back.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import about

from dgnet.gallery.enrol import COMMIT
from dgnet.gallery.entries import Entry
from dgnet.gallery.gallery import Gallery
from dgnet.images.pieces import Piece
from dgnet.retrieval.scores import unit


def memory() -> dict[str, float]:
    """MiB of the process's own, and of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    held = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}
    return {"own": held["RssAnon"], "mapped": held["RssFile"]}


def above(start: dict[str, float]) -> dict[str, float]:
    return {key: round(value - start[key], 1) for key, value in memory().items()}


def features(start: int, count: int, dimensions: int) -> torch.Tensor:
    """Unit-length features; which they are does not depend on how they are asked for."""
    rows = [
        np.random.default_rng([7, row]).standard_normal(dimensions, np.float32) for row in range(start, start + count)
    ]
    return unit(torch.from_numpy(np.stack(rows)), 1)


def build(folder: Path, size: int, dimensions: int, precision: str) -> float:
    """Seconds in which a gallery takes features in; those of making them are left out."""
    gallery = Gallery.create(folder, model="-", made_by="-", dimensions=dimensions, precision=precision)  # type: ignore[arg-type]
    seconds = 0.0
    for start in range(0, size, COMMIT):
        part = features(start, min(COMMIT, size - start), dimensions)
        entries = [Entry((Piece(Path(f"/photos/{start + n}.jpg")),), {"camera": "1"}) for n in range(len(part))]
        before = time.perf_counter()
        gallery.add(entries, part)
        seconds += time.perf_counter() - before
    return seconds


def run(size: int, dimensions: int, queries: int, turns: int, precision: str, folder: Path) -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    asked = features(size, queries, dimensions)
    found: dict[str, Any] = {"gallery": {}, "faiss": {}}
    found["gallery"]["build"] = build(folder / "g", size, dimensions, precision)

    start, before = memory(), time.perf_counter()
    gallery = Gallery(folder / "g")
    assert len(gallery) == size
    found["gallery"]["open"] = time.perf_counter() - before
    gallery.search(asked[0])
    found["gallery"]["memory"] = above(start)

    start, seconds, index = memory(), 0.0, faiss.IndexFlatIP(dimensions)
    for first in range(0, size, COMMIT):
        part = features(first, min(COMMIT, size - first), dimensions).numpy()
        before = time.perf_counter()
        index.add(part)
        seconds += time.perf_counter() - before
    found["faiss"] |= {"build": seconds, "memory": above(start)}

    times: dict[str, list[float]] = {"gallery": [], "faiss": []}
    agree = 0
    for turn in range(turns):
        for n in range(queries):
            before = time.perf_counter()
            mine = gallery.search(asked[n], top=10)
            times["gallery"].append(time.perf_counter() - before)
            before = time.perf_counter()
            _, theirs = index.search(asked[n : n + 1].numpy(), 10)
            times["faiss"].append(time.perf_counter() - before)
            if turn == 0:
                agree += [Path(match.name).stem for match in mine] == [str(place) for place in theirs[0]]
    for name, each in times.items():
        found[name] |= {"median_ms": 1e3 * float(np.median(each)), "quickest_ms": 1e3 * min(each)}
        found[name]["entries_per_second"] = size / found[name].pop("build")
    found["gallery"]["open_seconds"] = found["gallery"].pop("open")
    return found | {"same_first_ten": f"{agree} of {queries}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--precision", choices=("float16", "float32"), default="float32")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        found = run(given.size, given.dimensions, given.queries, given.turns, given.precision, folder)
    finally:
        shutil.rmtree(folder)
    made = {
        **about("cpu"),
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        **{key: value for key, value in vars(given).items() if key != "json"},
    }
    for name in ("gallery", "faiss"):
        each, held = found[name], found[name]["memory"]
        times = f"{each['median_ms']:.1f} ms/query (quickest {each['quickest_ms']:.1f})"
        print(
            f"{name}: {each['entries_per_second']:,.0f} entries/s, {times}, {held['own']} MiB + {held['mapped']} mapped"
        )
    print(
        f"gallery opened in {found['gallery']['open_seconds']:.2f} s; the first ten agree for {found['same_first_ten']}"
    )
    if given.json:
        given.json.write_text(json.dumps({"about": made} | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
