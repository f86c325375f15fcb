"""Swap fidelity as a benchmark for any person generator: pairs and truths in a folder, anyone's pictures scored.

The folder holds `structure/NAME.png`, `appearance/NAME.png`, `truth/NAME.png`, `decoys/NAME.png` (wrong answers, side
by side) and `pairs.csv` (name, factor): all that a score needs, with or without dgnet.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgnet import console
from dgnet.datasets.folders import images_in
from dgnet.drawn.pairs import DECOYS, FACTORS, pairs
from dgnet.drawn.render import VERSION
from dgnet.errors import UserError
from dgnet.files import expanded, occupied, replacing_folder, write_json
from dgnet.generate import edit
from dgnet.generate.quality import colour_transfer, floats, psnr, ssim, to_bytes
from dgnet.images import sheets

PAIRS = 240
TABLE, RECIPE = "pairs.csv", "benchmark.json"
_README = """Swap fidelity: for each NAME of pairs.csv, paint the person of appearance/NAME.png in the pose, place and
camera of structure/NAME.png, and write it as NAME.png (or .jpg) in a folder of yours. The right answer is
truth/NAME.png; decoys/NAME.png holds wrong ones side by side. Then: dgnet score --truth THIS_FOLDER YOUR_FOLDER
"""

Likeness = Callable[[Tensor], Tensor]
"""Features [N, D] of photos uint8 [N, H, W, 3], rows of length 1."""


@dataclass(frozen=True)
class Benchmark:
    """A folder that `write_benchmark` made."""

    folder: Path
    factor_of: dict[str, str]
    """By the name of each pair."""
    height: int
    width: int

    def photos(self, what: str) -> Tensor:
        """uint8 [N, H, W, 3] of "structure", "appearance" or "truth", in the order of the pairs."""
        return edit.read([self.folder / what / f"{name}.png" for name in self.factor_of], self.height, self.width)

    def decoys(self) -> Tensor:
        """uint8 [N, DECOYS, H, W, 3]."""
        files = [self.folder / "decoys" / f"{name}.png" for name in self.factor_of]
        strips = edit.read(files, self.height, DECOYS * self.width)
        return strips.view(len(files), self.height, DECOYS, self.width, 3).movedim(2, 1)


@dataclass(frozen=True)
class Fidelity:
    """What `fidelity` measured, per factor ("all pairs" are all of them) and of what needs no generator."""

    name: str
    factors: dict[str, dict[str, float]]
    baselines: dict[str, dict[str, float]]

    def table(self) -> Any:
        columns = list(next(iter(self.factors.values())))
        rows = [[name, *_cells(row)] for name, row in (self.factors | self.baselines).items()]
        return console.table(f"swap fidelity of {self.name}", ["", *columns], rows)

    def save(self, path: Path) -> None:
        """Write everything as JSON, all or nothing; a PSNR of equal pictures is Infinity."""
        about = {"name": self.name, "factors": self.factors, "baselines": self.baselines}
        write_json(path, about)


def write_benchmark(
    folder: Path, *, count: int = PAIRS, seed: int = 0, height: int = 128, width: int = 64
) -> Benchmark:
    """Draw the pairs into a new folder, which appears whole or not at all; one that holds these very pairs is kept.

    Raises:
        UserError: a folder that holds anything else, or numbers out of range.
    """
    folder = expanded(folder)
    if count < len(FACTORS):
        raise UserError(f"{count} pairs: at least {len(FACTORS)}, one for each factor, are needed")
    if height < 32 or width < 16 or seed < 0:
        raise UserError(f"pairs of {height} x {width}, seed {seed}: at least 32 x 16, and a seed from 0 on, are needed")
    recipe = {"renderer": VERSION, "pairs": count, "seed": seed, "height": height, "width": width}
    if occupied(folder):
        if not (folder / RECIPE).is_file() or _recipe(folder) != recipe:
            raise UserError(f"{folder}: not empty, and not these very pairs; give a new folder, or pictures to score")
        return read_benchmark(folder)
    with replacing_folder(folder) as part:
        lines = [("name", "factor")]
        with console.progress(speed_unit="pairs") as bar:
            task = bar.add_task("pairs", total=count, note="")
            for number, pair in enumerate(pairs(count, seed, height, width)):
                name = f"{number:04d}"
                sheets.save(part / "structure" / f"{name}.png", pair.structure)
                sheets.save(part / "appearance" / f"{name}.png", pair.appearance)
                sheets.save(part / "truth" / f"{name}.png", pair.truth)
                sheets.save(part / "decoys" / f"{name}.png", np.concatenate(pair.decoys, 1))
                lines.append((name, pair.factor))
                bar.advance(task)
        (part / TABLE).write_text("".join(f"{name},{factor}\n" for name, factor in lines), encoding="utf-8")
        (part / "README.txt").write_text(_README, encoding="utf-8")
        (part / RECIPE).write_text(json.dumps(recipe) + "\n", encoding="utf-8")
    return read_benchmark(folder)


def read_benchmark(folder: Path) -> Benchmark:
    """A folder that `write_benchmark` made. Raises UserError where it is none, or lacks something."""
    folder = expanded(folder)
    recipe = _recipe(folder)
    try:
        with (folder / TABLE).open(encoding="utf-8", newline="") as lines:
            factor_of = {row["name"]: row["factor"] for row in csv.DictReader(lines)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / TABLE}: cannot be read ({error}); write the benchmark again") from error
    if len(factor_of) != recipe["pairs"] or not set(factor_of.values()) <= set(FACTORS):
        raise UserError(f"{folder / TABLE}: not the table of {recipe['pairs']} pairs; write the benchmark again")
    return Benchmark(folder, factor_of, recipe["height"], recipe["width"])


def paint_benchmark(benchmark: Benchmark, swap: Callable[[Tensor, Tensor], Tensor], out: Path) -> None:
    """Write the pictures of a generator into `out`: `swap` takes structures and appearances, uint8 [N, H, W, 3]."""
    made = swap(benchmark.photos("structure"), benchmark.photos("appearance"))
    for name, picture in zip(benchmark.factor_of, made.numpy(), strict=True):
        sheets.save(expanded(out) / f"{name}.png", picture)


def fidelity(benchmark: Benchmark, pictures: Path, recognisers: Mapping[str, Likeness] | None = None) -> Fidelity:
    """How near the pictures in a folder come to the truth.

    `identity` is the share of pictures that are nearer (mean squared error) to the truth than to every decoy: other
    people, or the same one in other colours, in the very same pose, place and camera. Each of the `recognisers` adds
    that share by its own features' cosine. Pictures of another size are scaled (bicubic).

    Raises:
        UserError: pictures that are missing or cannot be read.
    """
    made = edit.read(_answers(benchmark, expanded(pictures)), benchmark.height, benchmark.width)
    structure, appearance, truth = (benchmark.photos(what) for what in ("structure", "appearance", "truth"))
    decoys = benchmark.decoys()
    transferred = to_bytes(colour_transfer(floats(structure), floats(appearance)))
    factors, target = np.array(list(benchmark.factor_of.values())), floats(truth)
    known = {
        name: (embed, embed(truth), [embed(decoy) for decoy in decoys.unbind(1)])
        for name, embed in (recognisers or {}).items()
    }

    def measured(answers: Tensor) -> dict[str, Tensor]:
        columns = {
            "PSNR": psnr(floats(answers), target).double(),
            "SSIM": ssim(floats(answers), target),
            "identity": _nearest(_error(answers, truth), [_error(answers, decoy) for decoy in decoys.unbind(1)]),
        }
        for name, (embed, right, wrong) in known.items():
            own = embed(answers)
            columns[name] = _nearest(-(own * right).sum(1), [-(own * decoy).sum(1) for decoy in wrong])
        return columns

    def means(columns: Mapping[str, Tensor], rows: Any) -> dict[str, float]:
        chosen = {name: values[torch.from_numpy(rows)] for name, values in columns.items()}
        return {"pictures": float(rows.sum())} | {name: float(values.mean()) for name, values in chosen.items()}

    every = np.ones(len(factors), bool)
    ours = measured(made)
    per_factor = {name: means(ours, factors == name) for name in FACTORS if (factors == name).any()}
    baselines = {"copy of the structure photo": structure, "copy of the appearance photo": appearance,
                 "per-channel colour transfer": transferred}  # fmt: skip
    return Fidelity(
        str(pictures),
        per_factor | {"all pairs": means(ours, every)},
        {name: means(measured(answers), every) for name, answers in baselines.items()},
    )


def _answers(benchmark: Benchmark, folder: Path) -> list[Path]:
    """The picture of each pair in `folder`. Raises UserError where some are missing."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of pictures")
    there = {path.stem: path for path in images_in(folder)}
    absent = [name for name in benchmark.factor_of if name not in there]
    if absent:
        raise UserError(
            f"{folder}: {len(absent)} of {len(benchmark.factor_of)} pictures are missing, the first {absent[0]}.png "
            "(or .jpg): one for each line of pairs.csv is needed"
        )
    return [there[name] for name in benchmark.factor_of]


def _error(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference [N] of pictures uint8 [N, H, W, 3]."""
    return (one.double() - other.double()).square().flatten(1).mean(1)


def _nearest(right: Tensor, wrong: Sequence[Tensor]) -> Tensor:
    """1 where `right` [N] is less than each of `wrong` [N], else 0."""
    return (right < torch.stack(list(wrong)).amin(0)).double()


def _recipe(folder: Path) -> dict[str, int]:
    try:
        read = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
        return {key: int(read[key]) for key in ("renderer", "pairs", "seed", "height", "width")}
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no benchmark of swaps; `dgnet score --truth {folder}` writes one") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / RECIPE}: damaged ({error}); write the benchmark again in a new folder") from error


def _cells(row: Mapping[str, float]) -> Sequence[str]:
    formats = {"pictures": "{:.0f}", "PSNR": "{:.2f}", "SSIM": "{:.3f}"}
    return [formats[name].format(value) if name in formats else f"{100 * value:.1f} %" for name, value in row.items()]
