"""How many synthetic pedestrians one core makes in a second: render, compress and write, as `synthesize` does.

python benchmarks/synthetic.py [--height 128 --width 64] [--json results/synthetic.json]
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from hardware import about

from dgnet import console
from dgnet.drawn.dataset import synthesize


@dataclass
class Options:
    height: int = 128
    width: int = 64
    identities: int = 60
    repeats: int = 3
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the figures to this file."""


def main(options: Options) -> None:
    rates = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            factors = synthesize(
                Path(folder) / "set", identities=options.identities, height=options.height, width=options.width
            )
            rates.append(len(factors.images) / (time.process_time() - start))
    result = {
        "size": [options.height, options.width],
        "images": len(factors.images),
        "images_per_second_and_core": round(max(rates), 1),
        **about("cpu"),
    }
    console.stdout.print(f"{max(rates):.0f} images/s on one core at {options.height} x {options.width}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
