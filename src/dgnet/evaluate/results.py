"""The numbers of one evaluation: in Python, in the terminal, and in a JSON file that says how to repeat them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

import dgnet
from dgnet import console
from dgnet.errors import UserError
from dgnet.evaluate.decisions import Decisions
from dgnet.evaluate.metrics import Floats, Ints, cumulative_match
from dgnet.evaluate.verification import Verification
from dgnet.files import expanded, replacing

FORMAT = 1


@dataclass(frozen=True)
class CameraPair:
    """Queries of one camera against the gallery of another: only those with a correct answer there count."""

    query_camera: int | str
    gallery_camera: int | str
    queries: int
    rank1: float
    mAP_standard: float


@dataclass(frozen=True)
class Results:
    """One evaluation: what came out for each query, and every option it depends on.

    Rates are shares between 0 and 1. Means run over the queries that `divisor` counts: `all` of them, one without a
    correct answer counting 0, or the `valid` ones, those that have a correct answer.
    """

    name: str
    queries: int
    valid_queries: int
    gallery: int
    """Gallery entries given, junk included."""
    divisor: str
    ranks: tuple[int, ...]
    """The k of each rank-k figure."""
    first_hit: Ints
    """Place of the first correct answer, from 1; 0 without one. `[Q]`"""
    ap_standard: Floats
    """`[Q]`; precision at each correct answer, as most toolkits have it."""
    ap_trapezoid: Floats
    """`[Q]`; precision just before and at each correct answer, as the Market-1501 and the DG-Net code have it."""
    inp: Floats
    """Inverse negative penalty `[Q]`."""
    precision_recall: Floats
    """Mean interpolated precision at recall 0, 0.01, ..., 1, `[101]`."""
    protocol: dict[str, Any]
    """Options that the numbers depend on."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where they come from: hashes of labels and weights, versions."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """95 % bootstrap intervals over queries, by the names of `figures`."""
    verification: Verification | None = None
    camera_pairs: list[CameraPair] | None = None
    decisions: Decisions | None = None
    """What the model's threshold is worth here, where it has one; of the features that `Model.embed` gives."""

    @property
    def counted(self) -> NDArray[np.bool_]:
        """The queries that the divisor counts, `[Q]`."""
        return self.first_hit > 0 if self.divisor == "valid" else np.ones(self.queries, bool)

    @property
    def cmc(self) -> Floats:
        """Share of queries answered within the first 1, 2, ..., G places, `[G]`."""
        return cumulative_match(self.first_hit[self.counted], self.gallery)

    @property
    def rank(self) -> dict[int, float]:
        """Share of queries answered within the first k places, by k."""
        return {k: float(self.per_query()[f"rank{k}"].mean()) for k in self.ranks}

    @property
    def mAP_standard(self) -> float:
        """Mean of `ap_standard`."""
        return float(self.ap_standard[self.counted].mean())

    @property
    def mAP_trapezoid(self) -> float:
        """Mean of `ap_trapezoid`."""
        return float(self.ap_trapezoid[self.counted].mean())

    @property
    def mINP(self) -> float:
        """Mean inverse negative penalty (Ye et al., TPAMI 2021)."""
        return float(self.inp[self.counted].mean())

    def figures(self) -> dict[str, float]:
        """The headline figures by name: `rank1`, ..., `mAP_standard`, `mAP_trapezoid`, `mINP`."""
        return {key: float(values.mean()) for key, values in self.per_query().items()}

    def per_query(self) -> dict[str, Floats]:
        """What each headline figure is the mean of, under this divisor: arrays `[Q]` or `[valid queries]`."""
        hit = self.first_hit[self.counted]
        named = {f"rank{k}": ((hit > 0) & (hit <= k)).astype(np.float64) for k in self.ranks}
        aps = {"mAP_standard": self.ap_standard, "mAP_trapezoid": self.ap_trapezoid, "mINP": self.inp}
        return named | {key: values[self.counted] for key, values in aps.items()}

    def table(self) -> Table:
        """Headline figures in per cent with their intervals, for `console.stdout.print`."""
        rows = [[label(key), percent(value), _interval(self, key)] for key, value in self.figures().items()]
        if self.verification is not None:
            for rate, share in self.verification.tpr_at.items():
                rows.append([f"TPR at FPR {rate:g}", percent(share), ""])
        rows += [] if self.decisions is None else self.decisions.rows()
        rows.append(["queries with an answer / all", f"{self.valid_queries} / {self.queries}", ""])
        made = console.table(self.name or "evaluation", ["", "%", "95 %"], rows)
        options = {"divisor": f"{self.divisor} queries"} | self.protocol
        made.caption = ", ".join(f"{key} {plain(value)}" for key, value in options.items() if value)
        made.caption_justify = "left"
        return made

    def camera_table(self) -> Table:
        """Rank-1 / standard mAP in per cent, query cameras down, gallery cameras across."""
        pairs = {(pair.query_camera, pair.gallery_camera): pair for pair in self.camera_pairs or []}
        down, across = (list(dict.fromkeys(key[side] for key in pairs)) for side in (0, 1))

        def cell(key: tuple[int | str, int | str]) -> str:
            return f"{100 * pairs[key].rank1:.1f}/{100 * pairs[key].mAP_standard:.1f}" if key in pairs else "-"

        rows = [[str(a), *(cell((a, b)) for b in across)] for a in down]
        return console.table(
            "rank-1 / mAP (standard), query camera down, gallery camera across", ["", *map(str, across)], rows
        )

    def to_json(self) -> str:
        """Everything in this object as JSON text, one line per field; of the CMC curve the first 100 places."""
        derived = {"format": FORMAT, "figures": self.figures(), "cmc": self.cmc[:100].tolist()}
        content = derived | {f.name: _jsonable(getattr(self, f.name)) for f in fields(self)}
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()) + "\n}"

    def save(self, path: Path) -> None:
        """Write `to_json` to a file, all or nothing."""
        with replacing(path) as part:
            part.write_text(self.to_json() + "\n", encoding="utf-8")


def save_all(results: Sequence[Results], path: Path) -> None:
    """Write evaluations, one per alpha, to a JSON file: the first as `Results.save` writes it, and `others`."""
    first, others = results[0].to_json(), ",\n".join(each.to_json() for each in results[1:])
    with replacing(path) as part:
        part.write_text(f'{first.removesuffix("}").rstrip()},\n"others": [{others}]\n}}\n', encoding="utf-8")


def load_results(path: Path) -> Results:
    """The first evaluation of a file that `Results.save` or `save_all` wrote. Raises UserError naming the file."""
    return load_all(path)[0]


def load_all(path: Path) -> list[Results]:
    """Every evaluation of such a file, also of those of 0.1.0. Raises UserError naming the file."""
    path = expanded(path)
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return [_from_json(read), *(_from_json(other) for other in read.get("others", []))]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError, OverflowError) as error:
        raise UserError(f"{path}: not the JSON of an evaluation ({type(error).__name__}: {error})") from error


def _from_json(read: Any) -> Results:
    if read["format"] != FORMAT:
        raise UserError("results of another format: evaluate again with this version")
    figures = read["figures"]
    read = {key: value for key, value in read.items() if key not in ("format", "figures", "cmc", "others")}
    for key in ("ap_standard", "ap_trapezoid", "inp", "precision_recall"):
        read[key] = np.asarray(read[key], np.float64)
    read["first_hit"] = np.asarray(read["first_hit"], np.int64)
    lengths = {len(read[key]) for key in ("first_hit", "ap_standard", "ap_trapezoid", "inp")}
    if lengths != {read["queries"]} or not read["queries"]:
        raise ValueError(f"{read['queries']} queries, but lists of {sorted(lengths)}")
    read["ranks"] = tuple(int(k) for k in read["ranks"])
    read["intervals"] = {key: (float(low), float(high)) for key, (low, high) in read["intervals"].items()}
    if read["verification"] is not None:
        tests = read["verification"]
        tests["tpr_at"] = {float(rate): share for rate, share in tests["tpr_at"].items()}
        tests |= {key: np.asarray(tests[key], np.float64) for key in ("curve_fpr", "curve_tpr")}
        read["verification"] = Verification(**tests)
    if read.get("decisions") is not None:
        read["decisions"] = Decisions(**read["decisions"])
    if read["camera_pairs"] is not None:
        read["camera_pairs"] = [CameraPair(**pair) for pair in read["camera_pairs"]]
    run = Results(**read)
    _check(run, figures)
    return run


def _check(run: Results, figures: Mapping[str, float]) -> None:
    """Raise ValueError where a field holds what it cannot, or the figures are not those of the lists."""
    tests, pairs = run.verification, run.camera_pairs or []
    counts = [run.queries, run.valid_queries, run.gallery, *run.ranks, *(pair.queries for pair in pairs)]
    rates = [run.ap_standard, run.ap_trapezoid, run.inp, run.precision_recall, *run.intervals.values()]
    shares = [share for pair in pairs for share in (pair.rank1, pair.mAP_standard)]
    if tests is not None:
        counts += [tests.genuine_pairs, tests.impostor_pairs]
        rates += [tests.curve_fpr, tests.curve_tpr]
        shares += tests.tpr_at.values()
    if run.decisions is not None:
        judged = run.decisions
        counts += [judged.residents, judged.strangers]
        shares += [judged.false_accepts, judged.true_accepts, judged.unsure]
        shares += [s for s in (judged.found, judged.mistaken, judged.taken_for_residents) if s is not None]
    right = {
        "name": isinstance(run.name, str),
        "divisor": run.divisor in ("all", "valid"),
        "protocol": isinstance(run.protocol, dict),
        "provenance": isinstance(run.provenance, dict) and isinstance(run.provenance.get("labels", ""), str),
        "cameras": all(isinstance(c, int | str) for pair in pairs for c in (pair.query_camera, pair.gallery_camera)),
        "counts": all(type(count) is int and 0 <= count < 2**53 for count in counts) and min(run.ranks, default=1) >= 1,
        "places": run.first_hit.ndim == 1 and bool(((run.first_hit >= 0) & (run.first_hit <= run.gallery)).all()),
        "shares": all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares),
        "rates": all(((rate := np.asarray(part, np.float64)) >= 0).all() and (rate <= 1).all() for part in rates),
    }
    if wrong := [what for what, fine in right.items() if not fine]:
        raise ValueError(f"{wrong[0]} are damaged")
    found = run.figures()
    if found.keys() != figures.keys() or not all(abs(found[key] - figures[key]) < 1e-9 for key in found):
        raise ValueError("its figures are not those of its queries: it was damaged or changed")
    if run.valid_queries != int((run.first_hit > 0).sum()):
        raise ValueError("its number of queries with an answer is not that of its queries")


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    return {
        "dgnet": dgnet.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def label(key: str) -> str:
    if key.startswith("rank"):
        return f"rank-{key[4:]}"
    return {"mAP_standard": "mAP (standard)", "mAP_trapezoid": "mAP (trapezoid)"}.get(key, key)


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _interval(run: Results, key: str) -> str:
    return "[{:.2f}, {:.2f}]".format(*(100 * end for end in run.intervals[key])) if key in run.intervals else ""


def plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {plain(part)}" for key, part in value.items())
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _jsonable(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Verification | CameraPair | Decisions):
        return {f.name: _jsonable(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(part) for part in value]
    return value
