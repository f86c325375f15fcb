"""Images per second of a real joint training, loading, logging and saving included, and where the time goes.

People are drawn, a teacher is trained for one epoch, then DG-Net with every term on. Seconds are those of the clock
from the second iteration on; what a share does not name is the loop itself.

    python benchmarks/train.py --preset demo --iterations 20 --json benchmarks/results/train.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hardware import about

from dgnet import config as configuration
from dgnet import console
from dgnet import device as memory
from dgnet.datasets.read import read_dataset
from dgnet.drawn.dataset import synthesize
from dgnet.train import loop
from dgnet.train.baseline import train_baseline
from dgnet.train.batches import Stream
from dgnet.train.checkpoint import Saver
from dgnet.train.joint import train_joint
from dgnet.train.logs import Log
from dgnet.train.step import JointStep

EVERY_TERM = ["loss.warm_up.start=0", "loss.teacher_warm_up.start=0"]
PARTS: dict[str, tuple[Any, str]] = {
    "loading": (Stream, "__next__"),
    "step": (JointStep, "__call__"),
    "numbers for the log": (loop, "_numbers"),
    "log": (Log, "write"),
    "checkpoint": (Saver, "save"),
}


@contextmanager
def timed() -> Iterator[dict[str, list[tuple[float, float]]]]:
    """Begin and end of every call of the parts."""
    calls: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def timing(part: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return do(*given, **named)
            finally:
                calls[part].append((begin, time.perf_counter()))

        return wrapped

    with ExitStack() as stack:
        for part, (owner, name) in PARTS.items():
            stack.enter_context(patch.object(owner, name, timing(part, getattr(owner, name))))
        yield calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="demo", help="a preset or a YAML file (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=20, help="two or more (default: %(default)s)")
    parser.add_argument("--identities", type=int, default=20, help="people to draw (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--note", default="", help="about the machine, for the JSON file")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("overrides", nargs="*", help="key.path=value, laid over the preset")
    options = parser.parse_args()
    memory.keep_freed()
    torch.set_num_threads(options.threads)
    device = memory.device_named(options.device)

    lengths = [f"train.iterations={options.iterations}", "teacher.epochs=1"]
    config = configuration.load(options.preset, [*EVERY_TERM, *lengths, *options.overrides])
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        size = {"height": config.data.height, "width": config.data.width}
        synthesize(here / "people", identities=options.identities + 2, test_identities=2, **size)
        people = read_dataset(here / "people")
        teacher = train_baseline(config, people, here / "teacher", device)
        assert teacher is not None
        with timed() as calls:
            train_joint(config, people, here / "joint", [teacher], device)

    start, end = calls["step"][0][1], calls["checkpoint"][-1][1]
    seconds = {part: sum(b - a for a, b in spans if a >= start) for part, spans in calls.items()}
    images = 2 * config.train.half_batch * (options.iterations - 1)
    figures = {
        "images_per_second": images / (end - start),
        "seconds_per_iteration": (end - start) / (options.iterations - 1),
        "share": {part: spent / (end - start) for part, spent in seconds.items()},
        "preset": options.preset,
        "overrides": options.overrides,
        "iterations": options.iterations,
        "threads": options.threads,
        **about(device.type),
        "note": options.note,
    }
    shares = [(part, f"{share:.1%}") for part, share in figures["share"].items()]
    title = f"{figures['images_per_second']:.1f} images per second with {options.preset} on {device}"
    console.stdout.print(console.table(title, ["where the time goes", "share"], shares))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
