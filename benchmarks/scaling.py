"""Images per second of a real joint training in one process and in several, as torchrun starts them, side by side.

People are drawn, a teacher is trained for one epoch; then `dgnet train joint` runs with each number of processes in
turns, so that a busy machine slows all of them. Seconds are those of the run's own log, without its first iterations.
Efficiency is images per second over those of one process times the processes. Every process computes on one thread, or
on a GPU of its own.

    python benchmarks/scaling.py --json benchmarks/results/scaling.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from hardware import about

from dgnet import config as configuration
from dgnet import console
from dgnet.datasets.read import read_dataset
from dgnet.device import device_named
from dgnet.drawn.dataset import synthesize
from dgnet.train import logs
from dgnet.train.baseline import train_baseline

EVERY_TERM = ["loss.warm_up.start=0", "loss.teacher_warm_up.start=0"]
WARM = 2  # iterations that are not counted


def images_per_second(processes: int, run: Path, arguments: list[str], half_batch: int) -> float:
    """Of a training that `torchrun` starts in so many processes, whatever they do beside the step included."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
        "-m", "dgnet", "train", "joint", str(run), *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    lines = {line["iteration"]: line["seconds"] * line["iteration"] for line in logs.read(run / "log.jsonl")}
    last = max(lines)
    return processes * 2 * half_batch * (last - WARM) / (lines[last] - lines[WARM])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="the first is the measure")
    parser.add_argument("--preset", default="demo", help="a preset or a YAML file (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=12, help="of each run, 3 or more (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--note", default="", help="about the machine, for the JSON file")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("overrides", nargs="*", help="key.path=value, laid over the preset")
    options = parser.parse_args()
    torch.set_num_threads(1)

    lengths = [f"train.iterations={options.iterations}", "train.log_every=1", "teacher.epochs=1"]
    overrides = [*EVERY_TERM, *lengths, *options.overrides]
    config = configuration.load(options.preset, overrides)
    rates: dict[int, list[float]] = {count: [] for count in options.processes}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        synthesize(
            here / "people", identities=22, test_identities=2, height=config.data.height, width=config.data.width
        )
        people = read_dataset(here / "people")
        teacher = train_baseline(config, people, here / "teacher", device_named(options.device))
        arguments = ["--config", options.preset, "--teacher", str(teacher), "--device", options.device, *overrides,
                     f"data.root={people.root}"]  # fmt: skip
        for turn in range(options.turns):
            for count in options.processes:
                run = here / f"{count}-{turn}"
                rates[count].append(images_per_second(count, run, arguments, config.train.half_batch))
            console.notice(f"turn {turn + 1}: " + ", ".join(f"{c}: {r[-1]:.2f} images/s" for c, r in rates.items()))

    one = rates[options.processes[0]]
    figures: dict[str, Any] = {"processes": {}}
    rows = []
    for count, all_turns in rates.items():
        ratios = [rate / base for rate, base in zip(all_turns, one, strict=True)]
        times, of_the_measure = statistics.median(ratios), count / options.processes[0]
        figures["processes"][count] = {
            "images_per_second": statistics.median(all_turns), "turns": all_turns, "ratio": times,
            "ratio_smallest_to_largest": [min(ratios), max(ratios)], "efficiency": times / of_the_measure,
        }  # fmt: skip
        rows.append(
            (str(count), f"{statistics.median(all_turns):.2f}", f"{times:.2f}", f"{times / of_the_measure:.0%}")
        )
    title = f"joint training with {options.preset} on {options.device}"
    console.stdout.print(console.table(title, ["processes", "images per second", "ratio", "efficiency"], rows))
    if options.json:
        figures |= {"preset": options.preset, "overrides": overrides, "note": options.note, **about(options.device)}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
