"""Charts as SVG: the losses over time, and cumulative match curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dgnet.images.sheets import PAGE, svg, text
from dgnet.logline import LogLine

Floats = npt.NDArray[np.float64]

POINTS = 150  # of a curve: longer logs are averaged down to that many
COLUMNS = 4  # panels side by side
LETTERS = "abcdefgh"  # of the colours and dashes of curves, as the style sheet has them; a ninth looks like the first


class Curve(NamedTuple):
    """One quantity over time; NaN where there is none."""

    time: Floats  # [T]
    values: Floats  # [T]
    weights: Floats | None = None  # [T]


def loss_curves(log: Sequence[LogLine], teacher_log: Sequence[LogLine] = ()) -> str:
    """A small panel for every term of the objective, with its weight, then for what else the lines of the logs hold.

    A line shows means over stretches of the log, the band around it their extremes. Lines without a term leave a gap.
    """
    return _panels({title: [curve] for title, curve in (_curves(log) | _curves(teacher_log)).items()})


def run_curves(logs: Mapping[str, Sequence[LogLine]]) -> str:
    """The same panels for several runs by name, a line each: means over stretches of the log."""
    curves = {name: _curves(log) for name, log in logs.items()}
    nothing = Curve(np.empty(0), np.empty(0))
    titles = dict.fromkeys(title for run in curves.values() for title in run)
    shown = {title: [run.get(title, nothing)._replace(weights=None) for run in curves.values()] for title in titles}
    return _panels(shown, list(logs))


def _curves(log: Sequence[LogLine]) -> dict[str, Curve]:
    """What the lines of a log hold, by title; a baseline's over its epochs."""
    time = np.array([line.get("epoch", line["iteration"]) for line in log], np.float64)
    terms, weights = [line.get("terms", {}) for line in log], [line.get("weights", {}) for line in log]
    curves = {
        name.replace("_", " "): Curve(time, _column(terms, name), np.nan_to_num(_column(weights, name)))
        for name in dict.fromkeys(name for line in terms for name in line)
    }
    for key in ("total", "discriminator", "penalty", "accuracy"):
        curves[key] = Curve(time, np.array([line.get(key, math.nan) for line in log], np.float64))
    if any("epoch" in line for line in log):
        curves["loss"] = curves.pop("total")
        curves = {f"teacher: {title}": curve for title, curve in sorted(curves.items(), key=lambda c: c[0] != "loss")}
    return {title: curve for title, curve in curves.items() if np.isfinite(curve.values).any()}


def _panels(shown: Mapping[str, Sequence[Curve]], names: Sequence[str] = ()) -> str:
    """A panel for every title; above them, the names of its curves."""
    w, h = 216.0, 96.0
    across, down = (PAGE - COLUMNS * w) / (COLUMNS - 1) + w, h + 68
    parts, head = list(_legend(names)), 24.0 * math.ceil(len(names) / COLUMNS) + 10 * bool(names)
    for number, (title, curves) in enumerate(shown.items()):
        x, y = number % COLUMNS * across, number // COLUMNS * down + head
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{"".join(_panel(w, h, title, curves))}</g>')
    alt = f"Curves over training time, one panel each: {', '.join(shown)}."
    if names:
        alt += f" A line for each of {', '.join(names)}."
    return svg(PAGE, head + math.ceil(len(shown) / COLUMNS) * down, parts, alt)


def _legend(names: Sequence[str]) -> Iterator[str]:
    for number, (letter, name) in enumerate(zip(cycle(LETTERS), names, strict=False)):
        x, y = number % COLUMNS * PAGE / COLUMNS, number // COLUMNS * 24 + 8.0
        yield f'<path class="line {letter}" d="M{x:.1f} {y:.1f}h28"/>'
        yield text(x + 36, y, name if len(name) <= 24 else f"…{name[-23:]}", "start", f"name {letter}")


def _panel(w: float, h: float, title: str, curves: Sequence[Curve]) -> Iterator[str]:
    """Lines of means, one alone in the band of its extremes over its weight, an area as high as its largest value."""
    left, top = 34.0, 26.0
    thinned = [_thinned(curve.time, curve.values) for curve in curves]
    time = np.concatenate([curve.time for curve in curves])
    first, last = float(time.min()), float(time.max())
    seen = np.concatenate([mean[np.isfinite(mean)] for _, mean, _, _ in thinned])
    floor, ceiling = (min(0.0, float(seen.min())), _nice(float(seen.max()))) if len(seen) else (0.0, 1.0)

    def along(t: Floats) -> Floats:
        return np.asarray(left + (t - first) / max(last - first, 1) * (w - left))

    def up(v: Floats) -> Floats:
        return np.asarray(top + h - (np.clip(v, floor, ceiling) - floor) / (ceiling - floor) * h)

    yield text(0, 9, title, "start", "title")
    if (weights := curves[0].weights) is not None:
        share = _thinned(time, weights)[1] / max(weights.max(), 1e-12)
        x = along(np.concatenate([time[:1], thinned[0][0], time[-1:]]))
        yield f'<path class="weight" d="{_path(x, top + h - np.concatenate([[0], share, [0]]) * h)}Z"/>'
        ends = dict.fromkeys(f"{end:.3g}" for end in (weights[0], weights[-1]))
        yield text(w, 9, f"× {' → '.join(ends)}", "end")
    yield f'<path class="axis" d="M{left} {top}H{w}M{left} {top + h}H{w}"/>'
    for letter, (middle, mean, lowest, highest) in zip(cycle(LETTERS), thinned, strict=False):
        for run in _runs(np.isfinite(mean)):
            x = along(middle[run])
            if len(curves) == 1:
                band = _path(np.concatenate([x, x[::-1]]), np.concatenate([up(highest[run]), up(lowest[run])[::-1]]))
                yield f'<path class="band" d="{band}Z"/>'
            yield f'<path class="line {letter}" d="{_path(x, up(mean[run]))}h0"/>'
    for value, y in ((ceiling, top), (floor, top + h)):
        yield text(left - 6, y, f"{value:.3g}", "end", "tick")
    for value, at_x, anchor in ((first, left, "start"), (last, w, "end")):
        yield text(at_x, top + h + 12, f"{value:.0f}", anchor, "tick")


def cmc_curve(curves: Mapping[str, Sequence[float] | Floats], places: int = 20) -> str:
    """Cumulative match curves by name: the share of queries answered within the first 1, 2, ... places, each [G]."""
    shown = {name: np.asarray(curve, np.float64)[:places] for name, curve in curves.items()}
    places = max(len(curve) for curve in shown.values())
    left, top, w, h = 44.0, 12.0, 560.0, 280.0
    floor = min(0.9, math.floor(10 * min(float(curve[0]) for curve in shown.values())) / 10)

    step = 0.1 if floor > 0.45 else 0.2

    def along(place: Floats) -> Floats:
        return left + (place - 1) / max(places - 1, 1) * w

    def up(share: Floats) -> Floats:
        return top + (1 - share) / (1 - floor) * h

    parts = []
    for share in np.arange(math.ceil(round(floor / step, 6)), round(1 / step) + 1) * step:
        parts.append(f'<path class="axis" d="M{left} {up(share):.1f}h{w}"/>')
        parts.append(text(left - 10, float(up(share)), f"{share:.0%}", "end", "tick"))
    at = np.array([1, *range(5, places + 1, 5)])
    parts += [text(float(along(k)), top + h + 18, str(k), "middle", "tick") for k in at]
    parts.append(text(left + w / 2, top + h + 38, "place in the ranking", "middle"))
    labels: list[float] = []
    for letter, (name, curve) in zip(cycle(LETTERS), shown.items(), strict=False):
        x, y = along(np.arange(1.0, len(curve) + 1)), up(curve)
        parts.append(f'<path class="line {letter}" d="{_path(x, y)}"/>')
        parts += [
            f'<circle class="dot {letter}" cx="{i:.1f}" cy="{j:.1f}" r="2.5"/>' for i, j in zip(x, y, strict=True)
        ]
        labels.append(next(y[-1] + down for down in range(0, 1000) if all(abs(y[-1] + down - o) >= 17 for o in labels)))
        parts.append(text(x[-1] + 12, labels[-1], name, "start", f"name {letter}"))
    first = "; ".join(f"{name} {curve[0]:.1%} at the first place" for name, curve in shown.items())
    return svg(left + w + 160, top + h + 48, parts, f"Cumulative match curves: {first}.")


def _column(lines: Sequence[Mapping[str, float]], name: str) -> Floats:
    """The values of one name in all lines, NaN where a line has none."""
    return np.array([line.get(name, math.nan) for line in lines], np.float64)


def _thinned(time: Floats, values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """At most POINTS stretches: mean time, and mean, least and largest value; NaN where a stretch has no value."""
    stretches = np.array_split(np.arange(len(time)), min(POINTS, max(len(time) // 3, min(len(time), 40), 1)))

    def of(values: Floats, summary: Callable[[Floats], Any]) -> Floats:
        kept = [values[inside][np.isfinite(values[inside])] for inside in stretches]
        return np.array([summary(some) if len(some) else math.nan for some in kept])

    return of(time, np.mean), of(values, np.mean), of(values, np.min), of(values, np.max)


def _runs(there: npt.NDArray[np.bool_]) -> Iterator[slice]:
    """Every unbroken run of True."""
    turns = np.flatnonzero(np.diff(there, prepend=False, append=False))
    return (slice(start, stop) for start, stop in turns.reshape(-1, 2))


def _nice(value: float) -> float:
    """The least round number that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (k * power for k in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10))
    return next(float(f"{step:.12g}") for step in steps if step >= value * (1 - 1e-9))


def _path(x: Floats, y: Floats) -> str:
    return "M" + "L".join(f"{i:.1f} {j:.1f}" for i, j in zip(x, y, strict=True))
