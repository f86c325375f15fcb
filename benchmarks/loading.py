"""Training images per second: the decoded cache with batched augmentation, against a plain DataLoader, side by side.

Both read the same JPEG files of 128 x 64 pixels (the size of Market-1501), scale them to 256 x 128 and flip, pad, crop
and normalise them. The DataLoader has one worker process per core and transforms each image with Pillow, as re-ID
toolkits do. The two take turns within one run, so that a busy machine slows both; the ratio is the median over turns.

    python benchmarks/loading.py --json benchmarks/results/loading.json
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from hardware import about
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dgnet import console
from dgnet import device as memory
from dgnet.images.store import ImageStore
from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD
from dgnet.train.batches import OneStream, shuffled

HEIGHT, WIDTH, PAD = 256, 128, 10


class PlainDataset(Dataset[tuple[torch.Tensor, int]]):
    """One image at a time with Pillow: decode, flip, scale, pad by edge replication, crop, normalise."""

    def __init__(self, paths: list[Path], labels: np.ndarray) -> None:
        self.paths, self.labels = paths, labels
        self.mean, self.std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.paths[index]).convert("RGB")
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        padded = np.pad(np.asarray(image), ((PAD, PAD), (PAD, PAD), (0, 0)), mode="edge")
        top, left = random.randint(0, 2 * PAD), random.randint(0, 2 * PAD)
        crop = padded[top : top + HEIGHT, left : left + WIDTH].transpose(2, 0, 1)
        x = torch.from_numpy(np.ascontiguousarray(crop)).float().div(255)
        return (x - self.mean) / self.std, int(self.labels[index])


def write_photos(folder: Path, count: int) -> list[Path]:
    """Smooth random pictures, saved as JPEG files of 128 x 64 pixels and about 3 kB."""
    chance = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(chance.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        paths.append(folder / f"{number:05}.jpg")
        coarse.resize((64, 128), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def endless(loader: DataLoader[tuple[torch.Tensor, int]]) -> Iterator[object]:
    while True:
        yield from loader


def speed(batches: Iterator[object], batch: int, seconds: float) -> float:
    """Images per second over about `seconds`; the first batches, which may wait ready, don't count."""
    for _ in range(8):
        next(batches)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(batches)
        done += batch
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    memory.keep_freed()
    torch.set_num_threads(1)  # one thread per batch, and as many batches at a time as there are cores

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = write_photos(folder, options.images)
        labels = np.arange(options.images) // 8

        start = time.perf_counter()
        store = ImageStore(paths, HEIGHT, WIDTH, cache=folder / "cache")
        building = time.perf_counter() - start

        cached = OneStream(store, labels, shuffled(len(store), options.batch), prefetch=options.cores)
        plain = DataLoader(
            PlainDataset(paths, labels), options.batch, shuffle=True, drop_last=True, num_workers=options.cores
        )
        ours, theirs = [], []
        for _ in range(options.turns):
            theirs.append(speed(endless(plain), options.batch, options.seconds))
            ours.append(speed(cached, options.batch, options.seconds))

    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    rows = [
        ("decoding once, first use only", f"{options.images / building:.0f}", ""),
        ("plain DataLoader, Pillow", f"{statistics.median(theirs):.0f}", "1.0"),
        ("dgnet, cached", f"{statistics.median(ours):.0f}", f"{ratio:.1f}"),
    ]
    title = f"Loading {HEIGHT} x {WIDTH} images, {options.cores} cores, batches of {options.batch}"
    console.stdout.print(console.table(title, ["", "images/s", "ratio"], rows))
    if options.json:
        figures = {
            "ratio": ratio,
            "dgnet_images_per_second": ours,
            "dataloader_images_per_second": theirs,
            "decode_images_per_second": options.images / building,
            "cores_used": options.cores,
            "batch": options.batch,
            **about("cpu"),
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
