"""Results as pictures: contact sheets in pixels; labelled figures as SVG in the colours of the page."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageDraw, ImageFont

from dgnet.errors import UserError, at_least
from dgnet.files import replacing
from dgnet.images.decode import resize
from dgnet.pixels import Pixels

Cell = Pixels | str | None
"""A picture [H, W, 3], a few words, or an empty place."""

FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
MOST_SCALE = 16
PAGE = 960  # width of a figure in CSS pixels


def save(path: Path, pixels: Pixels) -> None:
    """Write a picture [H, W, 3] as PNG or JPEG, all or nothing. Raises UserError for another suffix."""
    require_format(path)
    with replacing(path) as part:
        Image.fromarray(pixels).save(part, **FORMATS[path.suffix.lower()])


def require_format(path: Path) -> None:
    """Raise UserError for a file whose ending is of no picture that `save` writes: best before the picture is made."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: pictures are written as {' or '.join(FORMATS)}")


def sheet(
    cells: Pixels, top: Pixels | None = None, left: Pixels | None = None, gutter: int = 2, scale: int = 1
) -> Pixels:
    """Pictures [R, C, H, W, 3] as one on white; sources `top` [C, H, W, 3] and `left` [R, H, W, 3] on the margin.

    All of it `scale` times as large (bicubic). Raises UserError for a scale or a gutter that cannot be.
    """
    if not 1 <= scale <= MOST_SCALE:
        raise UserError(f"scale is {scale}: 1 to {MOST_SCALE} would be right")
    at_least(0, border=gutter)
    rows, columns, height, width, _ = cells.shape
    height, width, gutter = scale * height, scale * width, scale * gutter
    down = height + 4 * gutter if top is not None else 0
    right = width + 4 * gutter if left is not None else 0
    size = (down + rows * (height + gutter) - gutter, right + columns * (width + gutter) - gutter, 3)
    canvas = np.full(size, 255, np.uint8)

    def paste(picture: Pixels, y: int, x: int) -> None:
        canvas[y : y + height, x : x + width] = resize(picture, height, width)

    for j in range(rows):
        if left is not None:
            paste(left[j], down + j * (height + gutter), 0)
        for i in range(columns):
            paste(cells[j, i], down + j * (height + gutter), right + i * (width + gutter))
    if top is not None:
        for i in range(columns):
            paste(top[i], 0, right + i * (width + gutter))
    return canvas


def labelled(
    sheet: Pixels, columns: Sequence[str], rows: Sequence[str], across: Sequence[int], down: Sequence[int]
) -> Pixels:
    """A sheet [H, W, 3] with words above its columns and before its rows, which begin at pixels `across` and `down`.

    Words that are too long for their column lose their beginning: files of one person differ at the end.
    """
    font = ImageFont.load_default(12)
    height = 18
    left = 6 + int(max((font.getlength(word) for word in rows), default=0))
    canvas = Image.new("RGB", (sheet.shape[1] + left, sheet.shape[0] + height), "white")
    canvas.paste(Image.fromarray(sheet), (left, height))
    draw = ImageDraw.Draw(canvas)
    ends = [*across[1:], sheet.shape[1]]
    for word, x, end in zip(columns, across, ends, strict=True):
        while len(word) > 1 and font.getlength(word) > end - x - 2:
            word = word[1:]
        draw.text((left + x, 2), word, "black", font)
    for word, y in zip(rows, down, strict=True):
        draw.text((2, height + y), word, "black", font)
    return np.asarray(canvas)


# Figures: rows of pictures with their labels.


def grid_figure(cells: Pixels, structures: Pixels, appearances: Pixels) -> str:
    """Appearance x structure: cells [A, S, H, W, 3] with the photos that gave structures [S] and appearances [A]."""
    head: list[Cell] = ["structure →\nappearance ↓", *structures]
    alt = (
        f"Grid of generated people: {len(structures)} structures from left to right, each in {len(appearances)} "
        "appearances from top to bottom; the source photos are on the margin."
    )
    rows: list[list[Cell]] = [head, *([own, *row] for own, row in zip(appearances, cells, strict=True))]
    return _mosaic(rows, alt, apart_rows=[0], apart_columns=[0])


def rows_figure(rows: Mapping[str, Pixels]) -> str:
    """Labelled rows of pictures [N, H, W, 3]; a column shows one person."""
    count = max(len(row) for row in rows.values())
    alt = f"{count} people in columns; rows from top to bottom: {', '.join(rows)}."
    return _mosaic([list(row) for row in rows.values()], alt, row_labels=list(rows))


def interpolation_figure(fixed: Pixels, start: Pixels, end: Pixels, strips: Pixels, kept: str) -> str:
    """Strips [N, K, H, W, 3] from photos `start` to `end` [N, H, W, 3]; `kept` names what `fixed` [N] gives."""
    steps = strips.shape[1]
    labels = [kept, "from", *(f"{k / (steps - 1):.0%}" for k in range(steps)), "to"]
    rows: list[list[Cell]] = [
        [same, first, *strip, last] for same, first, strip, last in zip(fixed, start, strips, end, strict=True)
    ]
    alt = f"{len(strips)} strips of {steps} generated pictures, from one photo's code to another's; the {kept} stays."
    return _mosaic(rows, alt, column_labels=labels, apart_columns=[0, 1, steps + 1])


def retrieval_panel(queries: Pixels, ranked: Pixels, correct: npt.NDArray[np.bool_]) -> str:
    """Queries [Q, H, W, 3], their first answers [Q, K, H, W, 3] and which of these are right [Q, K]."""
    rows: list[list[Cell]] = [[query, *answers] for query, answers in zip(queries, ranked, strict=True)]
    places = range(1, ranked.shape[1] + 1)
    words = [
        f"query {number}: right at {', '.join(str(k) for k in places if right[k - 1]) or 'no place'}"
        for number, right in enumerate(correct, 1)
    ]
    labels = ["query", *(str(k) for k in places)]
    alt = f"Queries with their first {len(places)} answers; {'; '.join(words)}."
    marks = [[None, *map(bool, right)] for right in correct]
    return _mosaic(rows, alt, column_labels=labels, apart_columns=[0], marks=marks)


def _mosaic(
    rows: Sequence[Sequence[Cell]],
    alt: str,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    apart_rows: Sequence[int] = (),
    apart_columns: Sequence[int] = (),
    marks: Sequence[Sequence[bool | None]] | None = None,
) -> str:
    """Rows of cells as an SVG; after rows and columns that are `apart` there is more room. Marks say right or wrong."""
    margin = 132 if row_labels else 0
    gap, wide = (4, 16) if marks is None else (12, 24)
    columns = max(len(row) for row in rows)
    height, width = next(cell.shape[:2] for row in rows for cell in row if isinstance(cell, np.ndarray))
    w = min(74.0, (PAGE - margin - len(apart_columns) * (wide - gap)) / columns - gap)
    h = w * height / width

    def offset(place: int, size: float, apart: Sequence[int]) -> float:
        return place * (size + gap) + sum(wide - gap for before in apart if before < place)

    parts, first = [], 24 if column_labels else 0
    for i, label in enumerate(column_labels):
        parts.append(text(margin + offset(i, w, apart_columns) + w / 2, 11, label, "middle"))
    for j, row in enumerate(rows):
        y = first + offset(j, h, apart_rows)
        if row_labels:
            parts.append(text(margin - 14, y + h / 2, textwrap.fill(row_labels[j], 18), "end"))
        for i, cell in enumerate(row):
            x = margin + offset(i, w, apart_columns)
            if isinstance(cell, str):
                parts.append(text(x + w, y + h / 2, cell, "end"))
            elif cell is not None:
                parts.append(
                    f'<image x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" preserveAspectRatio="none" '
                    f'href="{_data_uri(cell)}"/>'
                )
                if marks is not None and marks[j][i] is not None:
                    parts.append(_mark(x, y, w, h, bool(marks[j][i])))
    return svg(margin + offset(columns, w, apart_columns) - gap, first + offset(len(rows), h, apart_rows), parts, alt)


def _mark(x: float, y: float, w: float, h: float, right: bool) -> str:
    kind, sign = ("right", "M-3.5 .5l2.5 2.5 4.5-5.5") if right else ("wrong", "M-3-3l6 6m0-6l-6 6")
    return (
        f'<g class="{kind}"><rect x="{x - 1:.1f}" y="{y - 1:.1f}" width="{w + 2:.1f}" height="{h + 2:.1f}" rx="2"/>'
        f'<g transform="translate({x + w - 7:.1f} {y + h - 7:.1f})"><circle r="8"/><path d="{sign}"/></g></g>'
    )


def _data_uri(picture: Pixels) -> str:
    code = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=92, colorspace="RGB", colorsubsampling="444")
    return "data:image/jpeg;base64," + base64.b64encode(code).decode()


def text(x: float, y: float, words: str, anchor: str, kind: str = "label") -> str:
    """Words, line under line, centred on height `y`, with their start, middle or end (`anchor`) at `x`."""
    lines = words.split("\n")
    spans = "".join(
        f'<tspan x="{x:.1f}" y="{y + 16 * (k - (len(lines) - 1) / 2):.1f}" dy=".35em">{escape(line)}</tspan>'
        for k, line in enumerate(lines)
    )
    return f'<text class="{kind}" text-anchor="{anchor}">{spans}</text>'


def svg(width: float, height: float, parts: Sequence[str], alt: str) -> str:
    """Drawn parts as one picture that shrinks with the page; `alt` says what it shows to those who cannot see it."""
    return (
        f'<svg viewBox="-2 -2 {width + 4:.0f} {height + 4:.0f}" style="max-width:{width + 4:.0f}px;'
        f'min-width:{min(720, width + 4):.0f}px" role="img" '
        f'aria-label="{escape(alt)}">{"".join(parts)}</svg>'
    )
