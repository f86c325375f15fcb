"""Charts as SVG: the losses over time, and cumulative match curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dgnet.images.sheets import PAGE, svg, text
from dgnet.logline import LogLine

Floats = npt.NDArray[np.float64]

POINTS = 150  # of a curve: longer logs are averaged down to that many


class Panel(NamedTuple):
    """One quantity over time; NaN where there is none."""

    title: str
    time: Floats  # [T]
    values: Floats  # [T]
    weights: Floats | None = None  # [T]


def loss_curves(log: Sequence[LogLine], teacher_log: Sequence[LogLine] = ()) -> str:
    """A small panel for every term of the objective, with its weight, then for what else the lines of the logs hold.

    A line shows means over stretches of the log, the band around it their extremes. Lines without a term leave a gap.
    """
    time = np.array([line["iteration"] for line in log], np.float64)
    terms, weights = [line.get("terms", {}) for line in log], [line.get("weights", {}) for line in log]
    panels = [
        Panel(name.replace("_", " "), time, _column(terms, name), np.nan_to_num(_column(weights, name)))
        for name in dict.fromkeys(name for line in terms for name in line)
    ]
    panels += [
        Panel("total", time, np.array([line.get("total", math.nan) for line in log])),
        Panel("discriminator", time, np.array([line.get("discriminator", math.nan) for line in log])),
        Panel("penalty", time, np.array([line.get("penalty", math.nan) for line in log])),
    ]
    time = np.array([line.get("epoch", line["iteration"]) for line in teacher_log], np.float64)
    panels += [
        Panel("teacher: loss", time, np.array([line.get("total", math.nan) for line in teacher_log])),
        Panel("teacher: accuracy", time, np.array([line.get("accuracy", math.nan) for line in teacher_log])),
    ]
    panels = [panel for panel in panels if np.isfinite(panel.values).any()]

    columns, w, h = 4, 216.0, 96.0
    across, down = (PAGE - columns * w) / (columns - 1) + w, h + 68
    parts = []
    for number, panel in enumerate(panels):
        x, y = number % columns * across, number // columns * down
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{"".join(_panel(w, h, panel))}</g>')
    alt = f"Curves over training time, one panel each: {', '.join(panel.title for panel in panels)}."
    return svg(PAGE, math.ceil(len(panels) / columns) * down, parts, alt)


def _panel(w: float, h: float, panel: Panel) -> Iterator[str]:
    """A line of means in the band of the extremes, over the weight as an area that is as high as its largest value."""
    left, top = 34.0, 26.0
    time, weights = panel.time, panel.weights
    middle, mean, lowest, highest = _thinned(time, panel.values)
    seen = mean[np.isfinite(mean)]
    floor, ceiling = (min(0.0, float(seen.min())), _nice(float(seen.max()))) if len(seen) else (0.0, 1.0)

    def along(t: Floats) -> Floats:
        return np.asarray(left + (t - time[0]) / max(time[-1] - time[0], 1) * (w - left))

    def up(v: Floats) -> Floats:
        return np.asarray(top + h - (np.clip(v, floor, ceiling) - floor) / (ceiling - floor) * h)

    yield text(0, 9, panel.title, "start", "title")
    if weights is not None:
        share = _thinned(time, weights)[1] / max(weights.max(), 1e-12)
        x = along(np.concatenate([time[:1], middle, time[-1:]]))
        yield f'<path class="weight" d="{_path(x, top + h - np.concatenate([[0], share, [0]]) * h)}Z"/>'
        ends = dict.fromkeys(f"{end:.3g}" for end in (weights[0], weights[-1]))
        yield text(w, 9, f"× {' → '.join(ends)}", "end")
    yield f'<path class="axis" d="M{left} {top}H{w}M{left} {top + h}H{w}"/>'
    for run in _runs(np.isfinite(mean)):
        x = along(middle[run])
        band = _path(np.concatenate([x, x[::-1]]), np.concatenate([up(highest[run]), up(lowest[run])[::-1]]))
        yield f'<path class="band" d="{band}Z"/><path class="line a" d="{_path(x, up(mean[run]))}h0"/>'
    for value, y in ((ceiling, top), (floor, top + h)):
        yield text(left - 6, y, f"{value:.3g}", "end", "tick")
    for value, at_x, anchor in ((time[0], left, "start"), (time[-1], w, "end")):
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
    for letter, (name, curve) in zip("abcdefgh", shown.items(), strict=False):
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
    stretches = np.array_split(np.arange(len(time)), min(POINTS, max(len(time) // 3, min(len(time), 40))))

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
    return next(round(k * power, 12) for k in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if k * power >= value * (1 - 1e-9))


def _path(x: Floats, y: Floats) -> str:
    return "M" + "L".join(f"{i:.1f} {j:.1f}" for i, j in zip(x, y, strict=True))
