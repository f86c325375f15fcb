"""Tables from outside, CSV or Parquet, as columns of text; whatever can be wrong with such a file is one line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from dgnet.errors import UserError

Table = dict[str, list[str]]
"""Columns by name, all of one length."""

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_table(file: Path) -> Table:
    """The columns of a CSV (comma, semicolon or tab between the fields) or Parquet file, blanks around words left out.

    Raises:
        UserError: a file that is not there or not of that format, another encoding than UTF-8 or UTF-16, a column that
            stands twice, a row of another length than the head.
    """
    if file.suffix.lower() == ".parquet":
        return _read_parquet(file)
    return _columns(file, _rows_of(file, _text_of(file)))


def _text_of(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{file}, line {line}: byte {data[error.start]:#04x} is no {encoding.removesuffix('-sig').upper()} (UTF-8, "
            "and UTF-16 with its mark, were tried); save it as UTF-8"
        ) from error


def _rows_of(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the number of its last line."""
    head = text.split("\n", 1)[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), skipinitialspace=True, strict=True
    )
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{file}, line {reader.line_num}: {error}; is a quotation mark left open?") from error
        if any(cell.strip() for cell in cells):
            yield reader.line_num, [cell.strip() for cell in cells]


def _columns(file: Path, rows: Iterator[tuple[int, list[str]]]) -> Table:
    _, names = next(rows, (0, []))
    while names and not names[-1]:  # a spreadsheet's empty last columns
        names.pop()
    table = _empty(file, names)
    for line, cells in rows:
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if len(cells) != len(names):
            raise UserError(
                f"{file}, line {line}: expected {len(names)} fields ({', '.join(names)}), found {len(cells)}"
            )
        for name, cell in zip(names, cells, strict=True):
            table[name].append(cell)
    return table


def _empty(file: Path, names: list[str]) -> Table:
    if not names:
        raise UserError(f"{file}: is empty; a head with the names of the columns is needed")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{file}: column '{name}' stands twice ({', '.join(names)}); remove or rename one")
    return {name: [] for name in names}


def _read_parquet(file: Path) -> Table:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{file}: reading Parquet needs pyarrow: pip install dgnet[parquet]") from error
    try:
        read = parquet.read_table(file)
        names = [name.strip() for name in read.column_names]
        columns = [column.to_pylist() for column in read.columns]
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{file}: no readable Parquet file ({' '.join(str(error).split())[:200]})") from error
    _empty(file, names)
    return {name: [_word(value) for value in column] for name, column in zip(names, columns, strict=True)}


def _word(value: object) -> str:
    """A cell as text; whole numbers without the ".0" that a column with gaps gives them."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
