"""Training iterations of the one-batch step and of the literal two-half iteration, side by side.

Both start from the same weights and compute the same numbers with every term on, on random images. The literal one
(tests/oracle.py) treats the half-batches one after the other, deep-copies the frozen networks, computes gradients that
nobody needs, and upsamples before it convolves, as the published code does; it is in float32. The other is what
`dgnet train joint` runs, channels last in memory, in each of `--precision`. They take turns within one run, so that a
busy machine slows all; a ratio is the median over turns. Seconds are those of the clock, and of the processor on a CPU:
on a shared machine only the latter say something.

    python benchmarks/step.py --preset market1501 --half-batch 2 --json benchmarks/results/step.json
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from hardware import about
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dgnet import config as configuration
from dgnet import console
from dgnet import device as memory
from dgnet.config import Precision
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Teacher, build_baseline
from dgnet.train.optim import joint_optimizers
from dgnet.train.run import placed
from dgnet.train.step import JointStep

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracle import Oracle

CLASSES = 751
EVERY_TERM = ["loss.warm_up.start=0", "loss.teacher_warm_up.start=0"]


def upsample_then_convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What `dgnet.models.decoder.upsampled_convolution` equals, word for word."""
    return F.conv2d(F.pad(F.interpolate(x, scale_factor=2), (2, 2, 2, 2), mode="reflect"), weight, bias)


class Sides(NamedTuple):
    """What takes turns: one iteration each, to be called any number of times."""

    literal: Callable[[], object]
    ours: dict[Precision, Callable[[], object]]


def sides(
    preset: str, half_batch: int, precisions: Sequence[Precision], overrides: Sequence[str], device: str
) -> Sides:
    """The oracle, and the step in every precision, each with its own copy of the same weights."""
    config = configuration.load(preset, [*EVERY_TERM, f"train.half_batch={half_batch}", *overrides])
    place = torch.device(device)
    torch.manual_seed(0)
    net, baseline = DGNet(config, CLASSES).train(), build_baseline(config, CLASSES)
    size = (config.data.height, config.data.width)
    x, x_pos = torch.randn(2 * half_batch, 3, *size).to(place), torch.randn(2 * half_batch, 3, *size).to(place)
    y = torch.randint(CLASSES, (2 * half_batch,)).to(place)
    erased = torch.rand(4 * half_batch, 1, *size).to(place) < 0.2 if config.data.erasing else None
    late = 10_000  # warmed up

    oracle = Oracle(
        copy.deepcopy(net).to(place), [copy.deepcopy(baseline).to(place)], config, torch.Generator().manual_seed(1)
    )
    halves = [part for images in (x, x_pos, y) for part in images.chunk(2)]
    masks = None if erased is None else erased.chunk(4)

    def literal() -> object:
        with patch("dgnet.models.decoder.upsampled_convolution", upsample_then_convolve):
            return oracle(*halves, late, masks)

    def ours(precision: Precision) -> Callable[[], object]:
        chosen = replace(config, train=replace(config.train, precision=precision))
        own = placed(copy.deepcopy(net), place)
        step = JointStep(
            own,
            placed(Teacher([copy.deepcopy(baseline)], batch_statistics=config.model.appearance.train_bn), place),
            chosen,
            joint_optimizers(own, chosen.train, place),
            torch.Generator().manual_seed(1),  # the same coins
            None if erased is None else lambda images: images.masked_fill(erased, 0.0),
        )
        images = [photos.to(memory_format=torch.channels_last) for photos in (x, x_pos)]  # as the loader gives them
        return lambda: step(*images, y, late)

    return Sides(literal, {precision: ours(precision) for precision in precisions})


class Taken(NamedTuple):
    """Of one iteration."""

    clock: float  # seconds
    processor: float  # seconds, of all threads
    memory: int  # bytes at most, on a GPU


def taken(do: Callable[[], object], device: str) -> Taken:
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    clock, processor = time.perf_counter(), time.process_time()
    do()
    if on_gpu:
        torch.cuda.synchronize()
    memory = torch.cuda.max_memory_allocated() if on_gpu else 0
    return Taken(time.perf_counter() - clock, time.process_time() - processor, memory)


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of convolutions and matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def flops(do: Callable[[], object]) -> int:
    with Operations() as operations:
        do()
    return operations.total


def summary(turns: Sequence[Taken], operations: int, device: str) -> dict[str, Any]:
    """Median and interquartile range of the seconds that count: the processor's on a CPU, the clock's on a GPU."""
    counted = [t.clock if torch.device(device).type == "cuda" else t.processor for t in turns]
    low, median, high = statistics.quantiles(counted, n=4) if len(counted) > 1 else counted * 3
    return {
        "median_seconds": median,
        "interquartile_range": [low, high],
        "gflop": operations / 1e9,
        "gflop_per_second": operations / 1e9 / median,
        "peak_memory_bytes": max(t.memory for t in turns) or None,
        "clock_seconds": [t.clock for t in turns],
        "processor_seconds": [t.processor for t in turns],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="market1501", help="a preset or a YAML file (default: %(default)s)")
    parser.add_argument("--half-batch", type=int, default=2, help="images per half-batch (default: %(default)s)")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"], help="of the step (default: both)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--note", default="", help="about the machine, for the JSON file")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("overrides", nargs="*", help="key.path=value, laid over the preset")
    options = parser.parse_args()
    made_on = about(options.device)  # now: files may change while they are timed
    memory.keep_freed()
    torch.set_num_threads(options.threads)

    literal, ours = sides(options.preset, options.half_batch, options.precision, options.overrides, options.device)
    everyone = {"literal": literal, **ours}
    operations = {name: flops(do) for name, do in everyone.items()}  # the first use fills caches, too
    turns: dict[str, list[Taken]] = {name: [] for name in everyone}
    with console.progress() as bar:
        task = bar.add_task("turns", total=options.repeats, note="")
        for _ in range(options.repeats):
            for name, do in everyone.items():
                turns[name].append(taken(do, options.device))
            bar.advance(task)

    figures = {name: summary(turns[name], operations[name], options.device) for name in everyone}
    seconds = "clock_seconds" if torch.device(options.device).type == "cuda" else "processor_seconds"
    for figure in figures.values():
        pairs = zip(figures["literal"][seconds], figure[seconds], strict=True)
        figure["times_as_fast"] = statistics.median(theirs / own for theirs, own in pairs)
    columns = {"median_seconds": ".3f", "gflop": ".0f", "gflop_per_second": ".0f", "times_as_fast": ".2f"}
    rows = [(name, *(format(f[key], form) for key, form in columns.items())) for name, f in figures.items()]
    title = f"One iteration of {options.preset}, {options.half_batch} + {options.half_batch} images, {options.device}"
    console.stdout.print(console.table(title, ["", "seconds", "GFLOP", "GFLOP/s", "times as fast"], rows))
    if options.json:
        written = {
            "preset": options.preset,
            "overrides": options.overrides,
            "half_batch": options.half_batch,
            "threads": options.threads,
            **made_on,
            "note": options.note,
            "figures": figures,
        }
        options.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
