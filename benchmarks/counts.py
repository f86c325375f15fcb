"""Operator calls and bytes of one training iteration: early (before the warm-ups) and late (every term).

Counted on the `meta` device, so the same on every machine. A call is an operator that computes, not a view, not an
allocation; bytes are what the calls read and write, each tensor once per call. tests/train/test_counts.py holds the
step to what is recorded in results/counts.json.

    python benchmarks/counts.py --json benchmarks/results/counts.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hardware import about

from dgnet import console

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from counting import EARLY, LATE, counted

ROWS = [
    ("published, early", "market1501", EARLY, []),
    ("published, late, image tuned", "market1501", LATE, ["loss.tune_encoder=0"]),
    ("published, late, encoder tuned", "market1501", LATE, ["loss.tune_encoder=1"]),
    ("demo, early", "demo", EARLY, []),
    ("demo, late", "demo", LATE, []),
]
HALF_BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    rows = []
    for what, preset, iteration, overrides in ROWS:
        found = counted(iteration, HALF_BATCH, overrides, preset)
        rows.append({"what": what, "preset": preset, "iteration": iteration, "overrides": overrides, **found._asdict()})
    console.stdout.print(
        console.table(
            "One iteration of 8 + 8 images",
            ["", "calls", "views", "GB", "host copies", "waits"],
            [
                (row["what"], *(f"{row[key]}" for key in ("calls", "views", "gigabytes", "from_host", "to_host")))
                for row in rows
            ],
        )
    )
    if options.json:
        figures = {**about("cpu"), "half_batch": HALF_BATCH, "counts": rows}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
