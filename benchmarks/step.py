"""Seconds per training iteration: the one-batch step against the literal two-half iteration, side by side.

Both start from the same weights and compute the same numbers with every term on, on random images. The literal one
(tests/oracle.py) treats the half-batches one after the other, deep-copies the frozen networks, computes gradients that
nobody needs, and upsamples before it convolves, as the published code does. The other is what `dgnet train joint`
runs it, channels last in memory. They take turns within one run, so that a busy machine slows both; the ratio is the
median over turns.

    python benchmarks/step.py --preset market1501 --half-batch 2 --json benchmarks/results/step.json
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from dgnet import config as configuration
from dgnet import console
from dgnet import device as memory
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Teacher, build_baseline
from dgnet.train.optim import joint_optimizers
from dgnet.train.run import placed
from dgnet.train.step import JointStep

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracle import Oracle

CLASSES = 751
EVERY_TERM = ["loss.warm_up.start=0", "loss.teacher_warm_up.start=0"]


def seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def upsample_then_convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What `dgnet.models.decoder.upsampled_convolution` equals, word for word."""
    return F.conv2d(F.pad(F.interpolate(x, scale_factor=2), (2, 2, 2, 2), mode="reflect"), weight, bias)


def iterations(preset: str, half_batch: int, overrides: list[str]) -> tuple[Callable[[], object], Callable[[], object]]:
    """One iteration of the step and one of the oracle, to be called any number of times."""
    config = configuration.load(preset, [*EVERY_TERM, f"train.half_batch={half_batch}", *overrides])
    torch.manual_seed(0)
    net, baseline = DGNet(config, CLASSES).train(), build_baseline(config, CLASSES)
    size = (config.data.height, config.data.width)
    x, x_pos = torch.randn(2 * half_batch, 3, *size), torch.randn(2 * half_batch, 3, *size)
    y = torch.randint(CLASSES, (2 * half_batch,))
    erased = torch.rand(4 * half_batch, 1, *size) < 0.2 if config.data.erasing else None

    oracle = Oracle(copy.deepcopy(net), [copy.deepcopy(baseline)], config, torch.Generator().manual_seed(1))
    device = torch.device("cpu")
    net = placed(net, device)
    step = JointStep(
        net,
        placed(Teacher([baseline], batch_statistics=config.model.appearance.train_bn), device),
        config,
        joint_optimizers(net, config.train, device),
        torch.Generator().manual_seed(1),  # the same coins
        None if erased is None else lambda images: images.masked_fill(erased, 0.0),
    )
    halves = [part for images in (x, x_pos, y) for part in images.chunk(2)]
    masks = None if erased is None else erased.chunk(4)
    late = 10_000  # warmed up
    images = [photos.to(memory_format=torch.channels_last) for photos in (x, x_pos)]  # as the loader gives them

    def literal() -> object:
        with patch("dgnet.models.decoder.upsampled_convolution", upsample_then_convolve):
            return oracle(*halves, late, masks)

    return lambda: step(*images, y, late), literal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="market1501", help="a preset or a YAML file (default: %(default)s)")
    parser.add_argument("--half-batch", type=int, default=2, help="images per half-batch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("overrides", nargs="*", help="key.path=value, laid over the preset")
    options = parser.parse_args()
    memory.keep_freed()
    torch.set_num_threads(options.threads)

    step, oracle = iterations(options.preset, options.half_batch, options.overrides)
    seconds(step), seconds(oracle)  # first use fills caches
    ours, theirs = [], []
    with console.progress() as bar:
        task = bar.add_task("turns", total=options.repeats, note="")
        for _ in range(options.repeats):
            theirs.append(seconds(oracle))
            ours.append(seconds(step))
            bar.advance(task)

    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    rows = [
        ("literal, half after half", f"{statistics.median(theirs):.3f}", "1.00"),
        ("dgnet, one batch", f"{statistics.median(ours):.3f}", f"{ratio:.2f}"),
    ]
    title = f"One iteration of {options.preset}, {options.half_batch} + {options.half_batch} images"
    console.stdout.print(console.table(title, ["", "seconds", "times as fast"], rows))
    if options.json:
        figures = {
            "ratio": ratio,
            "dgnet_seconds": ours,
            "literal_seconds": theirs,
            "preset": options.preset,
            "overrides": options.overrides,
            "half_batch": options.half_batch,
            "threads": options.threads,
            "torch": torch.__version__,
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
