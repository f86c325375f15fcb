"""Pictures per second of the generator alone, and of those that reach the disk: `dgnet generate dataset`, side by side.

The generator paints the same batches, from photos that are in memory already, without writing anything. The two take
turns within one run, so that a busy machine slows both; the share is the median over turns.

    python benchmarks/generate.py --json benchmarks/results/generate.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from hardware import about

from dgnet import config
from dgnet.datasets.read import read_dataset
from dgnet.datasets.records import Dataset
from dgnet.device import device_named
from dgnet.drawn.dataset import synthesize
from dgnet.generate import edit
from dgnet.generate.expansion import generate_dataset, plan
from dgnet.models.dgnet import DGNet


def alone(net: DGNet, dataset: Dataset, per_identity: int, height: int, width: int) -> float:
    """Pictures per second without reading or writing."""
    pictures = plan(dataset.train, per_identity, "own", 0)
    photos = edit.read(dataset.train.paths, height, width)
    began = time.perf_counter()
    for start in range(0, len(pictures), edit.BATCH):
        now = pictures[start : start + edit.BATCH]
        s = edit.structure_codes(net, photos[[picture.structure for picture in now]])
        f = edit.appearance_codes(net, photos[[picture.appearance for picture in now]])
        edit.paint(net, s, f)
    return len(pictures) / (time.perf_counter() - began)


def to_disk(net: DGNet, dataset: Dataset, per_identity: int, height: int, width: int, folder: Path) -> float:
    """Pictures per second that `dgnet generate dataset` leaves on the disk."""
    began = time.perf_counter()
    made = generate_dataset(net, dataset, folder, height=height, width=width, per_identity=per_identity)
    return made / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="market1501")
    parser.add_argument("--identities", type=int, default=10)
    parser.add_argument("--per-identity", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    chosen, device = config.load(given.preset), device_named(given.device)
    height, width = chosen.data.height, chosen.data.width
    net = DGNet(chosen, given.identities).eval().to(device)
    shares, rates = [], []
    with tempfile.TemporaryDirectory() as folder:
        synthesize(
            Path(folder, "people"), identities=given.identities + 2, test_identities=2, height=height, width=width
        )
        dataset = read_dataset(Path(folder, "people"))
        alone(net, dataset, 4, height, width)  # warm
        for turn in range(given.turns):
            own = alone(net, dataset, given.per_identity, height, width)
            written = to_disk(net, dataset, given.per_identity, height, width, Path(folder, f"made{turn}"))
            shares.append(written / own)
            rates.append((own, written))
            print(
                f"turn {turn + 1}: generator {own:.1f}, on disk {written:.1f} pictures per second: {written / own:.1%}"
            )
    share = statistics.median(shares)
    print(f"share of the generator's throughput that reaches the disk: {share:.1%}")
    if given.json:
        made = {
            "share": share, "pictures_per_second": rates, "preset": given.preset, "size": [height, width],
            "threads": torch.get_num_threads(), **about(device.type),
        }  # fmt: skip
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
