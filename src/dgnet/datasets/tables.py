"""Tables from outside, CSV or Parquet, as columns of text; whatever can be wrong with such a file is one line."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from dgnet.errors import UserError
from dgnet.files import content
from dgnet.labels import visible

Table = dict[str, list[str]]
"""Columns by name, all of one length."""

_BEGINNINGS = (
    (re.compile(re.escape(codecs.BOM_UTF8)), "utf-8-sig"),
    (re.compile(re.escape(codecs.BOM_UTF32_LE) + b"|" + re.escape(codecs.BOM_UTF32_BE)), "utf-32"),
    (re.compile(re.escape(codecs.BOM_UTF16_LE) + b"|" + re.escape(codecs.BOM_UTF16_BE)), "utf-16"),
    (re.compile(rb"[ -~]\0[ -~]\0"), "utf-16-le"),
    (re.compile(rb"\0[ -~]\0[ -~]"), "utf-16-be"),
)
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
_EXACT = 2**53  # from here on a float does not hold every whole number


def read_table(file: Path) -> Table:
    """The columns of a CSV (comma, semicolon, tab or | between the fields) or Parquet file.

    Blanks around words are left out, and columns without a name.

    Raises:
        UserError: a file that is not there or not of that format, another encoding than UTF-8 or UTF-16, a column that
            stands twice, a row of another length than the head.
    """
    if file.suffix.lower() == ".parquet":
        return _read_parquet(file)
    return _columns(file, _rows_of(file, text_of(file)))


def text_of(file: Path) -> str:
    """What is written in a file, in UTF-8, UTF-16 or UTF-32; raises UserError for another encoding."""
    try:
        data = content(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    encoding = next((name for beginning, name in _BEGINNINGS if beginning.match(data)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{file}, line {line}: byte {data[error.start]:#04x} is no {encoding.removesuffix('-sig').upper()} (UTF-8, "
            "and UTF-16 with its mark, were tried); save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{file}, line {line}: a zero byte, which no text has: damaged, or no CSV; save it as UTF-8")
    return text


def _rows_of(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the number of its last line."""
    head = text.strip().split("\n", 1)[0].strip()
    said = re.fullmatch(r"sep=([,;|\t])", head)  # as a spreadsheet may write above the head
    delimiter = said[1] if said else max(",;\t|", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    if said:
        next(reader)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{file}, line {reader.line_num}: {error}; is a quotation mark left open?") from error
        if broken := next((cell.strip() for cell in cells if re.search(r"[\r\n]", cell.strip())), None):
            raise UserError(
                f"{file}, line {reader.line_num}: a field goes over several lines ({broken.splitlines()[0]!r} ...); is "
                "a quotation mark left open?"
            )
        if any(cell.strip() for cell in cells):
            yield reader.line_num, [cell.strip() for cell in cells]


def _columns(file: Path, rows: Iterator[tuple[int, list[str]]]) -> Table:
    _, names = next(rows, (0, []))
    while names and not names[-1]:  # a spreadsheet's empty last columns
        names.pop()
    names = list(map(visible, names))
    table = _empty(file, names)
    for line, cells in rows:
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if len(cells) != len(names):
            raise UserError(
                f"{file}, line {line}: expected {len(names)} fields ({', '.join(names)}), found {len(cells)}"
            )
        for name, cell in zip(names, cells, strict=True):
            if name:
                table[name].append(cell)
    return table


def _empty(file: Path, names: list[str]) -> Table:
    names = [name for name in names if name]
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
        names = list(map(visible, read.column_names))
        columns = [column.to_pylist() for column in read.columns]
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{file}: no readable Parquet file ({' '.join(str(error).split())[:200]})") from error
    _empty(file, names)
    try:
        return {name: [_word(value) for value in column] for name, column in zip(names, columns, strict=True) if name}
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error


def _word(value: object) -> str:
    """A cell as text; whole numbers without the ".0" that a column with gaps gives them.

    Raises ValueError for bytes that are no text, and for floats so large that their last digits are lost.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode().strip()
    if isinstance(value, float) and abs(value) >= _EXACT:
        raise ValueError(
            f"{value!r} is too large for a number with a point: its last digits are lost; write it as text"
        )
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
