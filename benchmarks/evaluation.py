"""Seconds for a whole evaluation, side by side with the loop over queries that toolkits have.

    python benchmarks/evaluation.py --size msmt17          # 11 659 x 82 161, as in the MSMT17 test
    python benchmarks/evaluation.py --size market1501 --rerank

Features are drawn around one centre per identity, shifted by camera, so that a ranking looks like that of a fair model.
The loop is timed on some of the queries (evenly spaced) and its time scaled up to all of them: the output says so.
All take turns within one run, and of each the quickest turn counts, the one least disturbed by others on the machine.
Next to the time on the clock stands that of the processor, in seconds and in ratios.
Two loops are timed: one that scores query by query, as the Market-1501 code and its descendants do, and one that is
given a matrix of all scores from a single product, as the large toolkits do (at MSMT17 size that matrix, its argsort
and its matches alone take 11 GiB). On the timed queries the average precisions of all three must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import about

from dgnet.evaluate.evaluation import evaluate
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.prepared import Comparison, prepare
from dgnet.retrieval.rerank import ReRanking, rerank

SIZES = {  # queries, gallery, identities, cameras
    "msmt17": (11659, 82161, 3060, 15),
    "market1501": (3368, 15913, 750, 6),
    "small": (400, 4000, 100, 6),
}


class Memory(threading.Thread):
    """Samples this process's resident memory: the most above what it held at the start, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before, self.most, self.done = resident(), 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.005):
            self.most = max(self.most, resident() - self.before)

    def stop(self) -> float:
        self.done.set()
        self.join()
        return self.most / 2**30


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def draw(queries: int, gallery: int, people: int, cameras: int, dimensions: int, noise: float) -> FeatureSet:
    """Unit-length features: shared directions for people and cameras, and noise."""
    generator = np.random.default_rng(0)
    basis = generator.standard_normal((40, dimensions), dtype=np.float32) / np.float32(np.sqrt(40))
    person = generator.standard_normal((people, 40), dtype=np.float32) @ basis
    camera = 0.8 * generator.standard_normal((cameras, 40), dtype=np.float32) @ basis

    def part(count: int) -> Features:
        identities, seen = generator.integers(people, size=count), generator.integers(cameras, size=count)
        features = generator.standard_normal((count, dimensions), dtype=np.float32)
        features *= noise
        for rows in np.array_split(np.arange(count), count // 4096 + 1):
            features[rows] += person[identities[rows]] + camera[seen[rows]]
            features[rows] /= np.linalg.norm(features[rows], axis=1, keepdims=True)
        return Features(features, identities + 1, seen + 1)

    return FeatureSet(part(queries), part(gallery))


def loop(feature_set: FeatureSet, chosen: np.ndarray, score: Callable[[int], np.ndarray]) -> tuple[float, np.ndarray]:
    """Rank-1 and average precision, one query at a time on whole sorted galleries."""
    query, gallery = feature_set.query, feature_set.gallery
    cmc, aps = np.zeros(len(gallery)), np.zeros(len(chosen))
    for number, index in enumerate(chosen):
        order = np.argsort(-score(number))
        same = gallery.identities[order] == query.identities[index]
        keep = ~(same & (gallery.cameras[order] == query.cameras[index])) & (gallery.identities[order] != -1)
        hits = same[keep]
        if hits.any():
            found = hits.cumsum()
            cmc[: len(hits)] += np.minimum(found, 1)
            aps[number] = (found / np.arange(1, len(hits) + 1) * hits).sum() / hits.sum()
    return float(cmc[0] / len(chosen)), aps


def timed(call: Callable[[], Any]) -> tuple[np.ndarray, Any]:
    """Seconds on the clock and seconds of processor, `[2]`; and the result."""
    before = np.array([time.perf_counter(), time.process_time()])
    result = call()
    return np.array([time.perf_counter(), time.process_time()]) - before, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="market1501")
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--noise", type=float, default=1.2, help="per coordinate; more makes the ranking worse")
    parser.add_argument("--loop-queries", type=int, default=60, help="timed per turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rerank", action="store_true", help="time k-reciprocal re-ranking too")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "evaluation.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    queries, entries, people, cameras = SIZES[options.size]
    feature_set = draw(queries, entries, people, cameras, options.dimensions, options.noise)
    evaluate(FeatureSet(feature_set.query.subset(np.arange(64)), feature_set.gallery.subset(np.arange(2048))), draws=0)

    chosen = np.unique(np.linspace(0, queries - 1, min(options.loop_queries, queries)).astype(int))
    scale = queries / len(chosen)
    q, g = feature_set.query.features, feature_set.gallery.features
    names = ("dgnet", "loop over queries", "one product, then the loop")
    seconds: dict[str, list[np.ndarray]] = {name: [] for name in names}
    extra = 0.0
    for _ in range(options.turns):
        memory = Memory()
        ours, results = timed(lambda: evaluate(feature_set, alpha=None, draws=0, device=options.device))
        extra = max(extra, memory.stop())
        one_by_one, (_, aps) = timed(lambda: loop(feature_set, chosen, lambda n: g @ q[chosen[n]]))
        product, matrix = timed(lambda: q[chosen] @ g.T)
        sorting, (_, matrix_aps) = timed(lambda: loop(feature_set, chosen, lambda n: matrix[n]))  # noqa: B023
        for name, spent in zip(names, (ours, one_by_one * scale, (product + sorting) * scale), strict=True):
            seconds[name].append(spent)

    best = {name: np.min(spent, axis=0) for name, spent in seconds.items()}
    ratio = {name: best[name] / best["dgnet"] for name in names[1:]}
    report = {
        "size": {"name": options.size, "queries": queries, "gallery": entries, "dimensions": options.dimensions},
        "features": {"noise": options.noise, "rank1": results.rank[1], "mAP_standard": results.mAP_standard},
        "turns": options.turns,
        "loops_timed_on_queries": len(chosen),
        "seconds": {name: {"clock": clock, "processor": processor} for name, (clock, processor) in best.items()},
        "times_slower_than_dgnet": {
            n: {"clock": clock, "processor": processor} for n, (clock, processor) in ratio.items()
        },
        "memory_beyond_features_GiB": extra,
        "largest_difference_of_ap": max(np.abs(a - results.ap_standard[chosen]).max() for a in (aps, matrix_aps)),
        "machine": {
            "threads": options.threads,
            "load": os.getloadavg()[0],
            **about(str(options.device)),
            "numpy": np.__version__,
        },
    }
    print(f"{options.size}: {queries} x {entries}, {options.dimensions}-d, mAP {results.mAP_standard:.3f}")
    for name, (clock, processor) in best.items():
        print(f"  {name:28}{clock:8.1f} s on the clock{processor:8.1f} s of processor", end="")
        print(
            "   {:.1f} x, {:.1f} x".format(*ratio[name]) if name in ratio else f"   {extra:.2f} GiB beyond the features"
        )
    difference = report["largest_difference_of_ap"]
    print(f"  loops timed on {len(chosen)} queries and scaled up; average precisions differ by {difference:.0e}")
    if options.rerank:
        prepared = prepare(feature_set, Comparison(None), device=options.device)
        memory = Memory()
        ours, _ = timed(lambda: rerank(prepared, ReRanking()))
        extra = memory.stop()
        report["reranking"] = {
            "seconds": {"clock": ours[0], "processor": ours[1]},
            "memory_beyond_features_GiB": extra,
        }
        print(f"  {'re-ranking':28}{ours[0]:8.1f} s on the clock{ours[1]:8.1f} s of processor   {extra:.2f} GiB")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    everything = json.loads(options.out.read_text()) if options.out.exists() else {}
    options.out.write_text(json.dumps(everything | {options.size: report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
