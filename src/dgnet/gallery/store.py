"""A gallery on disk: features in one memory-mapped file, what is known of them in SQLite.

    gallery/
      entries.sqlite        a row per entry; what it says is in the gallery, and nothing else is
      features-000001.bin   rows of float16 or float32, in the order in which they were added

SQLite rather than Parquet: one entry is added, or removed, in a transaction; a Parquet file would be written anew.

A writer appends features, brings them to disk, and only then commits their entries: a process that dies in between
leaves rows that nobody knows of, over which the next writer writes. Every entry has a checksum over what is known of it
and its feature, so damage is seen, told, and passed over.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from dgnet import __version__
from dgnet.errors import UserError
from dgnet.files import expanded

FORMAT = 1
TABLE = "entries.sqlite"
Precision = Literal["float16", "float32"]
_WAIT = 30.0  # seconds, for the commit of another process
_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    camera TEXT, identity TEXT, time REAL, about TEXT NOT NULL, checksum INTEGER NOT NULL
);
"""
_COLUMNS = "id, place, key, name, camera, identity, time, about, checksum"


@dataclass(frozen=True)
class About:
    """What a gallery is."""

    model: str
    """Fingerprint of the model whose features it holds."""
    made_by: str
    """What that model was loaded as: where it may still be found."""
    dimensions: int
    precision: Precision
    features: str
    """The name of the file of features."""
    places: int
    """Rows in it that count, those of removed entries included."""
    entries: int
    """How many there should be."""
    version: int
    """One more with every change."""
    whole: bool
    """Whether its building came to an end."""
    format: int = FORMAT
    written_by: str = __version__


class Row(NamedTuple):
    """An entry as SQLite has it."""

    id: int
    place: int
    key: str
    name: str
    camera: str | None
    identity: str | None
    time: float | None
    about: str
    checksum: int

    def sum_with(self, feature: bytes | memoryview) -> int:
        """The checksum that it has to have, with its feature."""
        known = repr((self.key, self.name, self.camera, self.identity, self.time, self.about))
        return zlib.crc32(feature, zlib.crc32(known.encode("utf-8", "surrogatepass")))


class Store:
    """The two files of a gallery, read and written; `Gallery` is what a user holds."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = expanded(folder)
        self._lock = FileLock(self.folder / ".lock")

    @property
    def table(self) -> Path:
        return self.folder / TABLE

    @property
    def begun(self) -> bool:
        """Whether a gallery is there: not where its maker died before the first commit. Raises UserError for damage."""
        return bool(self._stated())

    def _stated(self) -> dict[str, str]:
        if not self.table.is_file():
            return {}
        with self.reading() as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
                return {}
            return dict(db.execute("SELECT key, value FROM about"))

    def about(self) -> About:
        """What it is. Raises UserError where there is no gallery, a damaged one, or one of a newer dgnet."""
        held = self._stated()
        if not held:
            raise UserError(f"{self.folder}: no gallery; `dgnet gallery build` makes one")
        try:
            read = {key: json.loads(value) for key, value in held.items()}
            if read["format"] > FORMAT:
                raise UserError(f"{self.folder}: made by dgnet {read['written_by']}, a newer one: update dgnet")
            return About(**read)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f"{self.table}: its description is damaged ({error}); build the gallery again") from error

    def create(self, about: About) -> None:
        """Make an empty gallery. Raises UserError where there is anything else than nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.writing() as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        db.execute(statement)
                db.executemany("INSERT INTO about VALUES (?, ?)", _as_rows(about))
                db.execute("COMMIT")
            except sqlite3.IntegrityError as error:
                raise UserError(f"{self.folder}: holds a gallery already") from error

    # Reading

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state; errors of SQLite become UserErrors that name the file."""
        with _told(self.table), _connection(self.table) as db:
            yield db

    def rows(self) -> tuple[list[Row], list[str]]:
        """All entries by id, and a line for each stretch of them that cannot be read any more."""
        with _connection(self.table) as db:
            try:
                return [Row(*row) for row in db.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY id")], []
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                    raise UserError(f"{self.table}: cannot be read ({error})") from error
                return _salvaged(db, self.table)

    def mapped(self, about: About) -> NDArray[Any]:
        """The features [places or fewer, D], memory-mapped: fewer where the file is short, none where it is gone."""
        file, row = self.folder / about.features, about.dimensions * np.dtype(about.precision).itemsize
        there = min(about.places, file.stat().st_size // row) if file.is_file() else 0
        shape = (there, about.dimensions)
        if not there:
            return np.empty(shape, about.precision)
        return np.memmap(file, dtype=_kind(about), mode="c", shape=shape)  # what is written to it reaches no disk

    # Writing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one writer, until the block ends or the process does. Raises UserError where there is another."""
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no gallery; `dgnet gallery build` makes one")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"{self.folder}: another process is writing to this gallery; wait for it to end (reading is possible)"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise UserError(f"{self.folder}: cannot be written to ({error})") from error
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection of the one writer; what is not committed when the block ends is undone."""
        with self.locked(), _told(self.table), _connection(self.table, create=True) as db:
            yield db

    def append(self, rows: Sequence[Row], features: NDArray[Any], *, whole: bool | None = None) -> None:
        """Add entries with their features [n, D]; one with the key of another takes its place. All or nothing.

        When this returns they are on disk. The ids, places and checksums of `rows` are given here.
        """
        with self.writing() as db:
            about = self.about()
            self._sweep(about)
            values = np.ascontiguousarray(features, dtype=_kind(about))
            if values.shape != (len(rows), about.dimensions):
                raise UserError(f"features of shape {list(values.shape)}, not [{len(rows)}, {about.dimensions}]")
            _write_at(self.folder / about.features, about.places * about.dimensions * values.itemsize, values)
            written = [
                row._replace(place=about.places + n, checksum=row.sum_with(values[n].tobytes()))
                for n, row in enumerate(rows)
            ]
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                f"INSERT OR REPLACE INTO entries ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
                [row[1:] for row in written],
            )
            _state(db, about, places=about.places + len(rows), whole=about.whole if whole is None else whole)
            db.execute("COMMIT")

    def delete(self, ids: Sequence[int]) -> None:
        """Remove entries: at once from every search, and from the disk when the gallery is compacted."""
        with self.writing() as db:
            about = self.about()
            db.execute("BEGIN IMMEDIATE")
            db.executemany("DELETE FROM entries WHERE id = ?", [(number,) for number in ids])
            _state(db, about)
            db.execute("COMMIT")

    def rewrite(self, rows: Sequence[Row], mapped: NDArray[Any]) -> None:
        """Write both files anew with these entries only, in their order: the move that ends it is that of the table."""
        with self.locked(), _told(self.table):
            about = self.about()
            self._sweep(about)
            number = int(about.features.removeprefix("features-").removesuffix(".bin")) + 1
            name, part = f"features-{number:06d}.bin", self.folder / f"{TABLE}.part"
            with (self.folder / name).open("wb") as file:
                for start in range(0, len(rows), 4096):
                    file.write(mapped[[row.place for row in rows[start : start + 4096]]].tobytes())
                file.flush()
                os.fsync(file.fileno())
            with _connection(part, create=True) as db:
                db.execute("BEGIN IMMEDIATE")
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    db.execute(statement)
                count = len(rows)
                made = replace(about, features=name, places=count, entries=count, version=about.version + 1)
                db.executemany("INSERT INTO about VALUES (?, ?)", _as_rows(made))
                db.executemany(
                    f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [row._replace(place=n) for n, row in enumerate(rows)],
                )
                db.execute("COMMIT")
            Path(f"{self.table}-journal").unlink(missing_ok=True)  # of a table that is read whole, or damaged for good
            part.replace(self.table)
            _sync_folder(self.folder)
            self._sweep(made)

    def _sweep(self, about: About) -> None:
        """Remove what writers left that were killed."""
        for file in [*self.folder.glob("features-*.bin"), *self.folder.glob(f"{TABLE}.part*")]:
            if file.name != about.features:
                try:
                    file.unlink()
                except OSError:  # mapped by a reader, on Windows: the next writer removes it
                    continue


def _kind(about: About) -> np.dtype[Any]:
    return np.dtype(about.precision).newbyteorder("<")


def _as_rows(about: About) -> list[tuple[str, str]]:
    return [(key, json.dumps(value)) for key, value in vars(about).items()]


def _state(db: sqlite3.Connection, about: About, **changed: Any) -> None:
    (changed["entries"],) = db.execute("SELECT count(*) FROM entries").fetchone()
    changed["version"] = about.version + 1
    db.executemany("UPDATE about SET value = ? WHERE key = ?", [(json.dumps(v), k) for k, v in changed.items()])


def _write_at(file: Path, start: int, values: NDArray[Any]) -> None:
    """Write behind the first `start` bytes, whatever stands there, and bring it to disk."""
    new = not file.exists()
    with file.open("wb" if new else "rb+") as out:
        out.truncate(start)
        out.seek(start)
        out.write(values.tobytes())
        out.flush()
        os.fsync(out.fileno())
    if new:
        _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _connection(table: Path, *, create: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that ends with the block. Not in WAL mode: a gallery may lie on a share, or be read only."""
    mode = "rwc" if create else "rw" if os.access(table, os.W_OK) else "ro"
    db = sqlite3.connect(f"{table.absolute().as_uri()}?mode={mode}", uri=True, timeout=_WAIT, isolation_level=None)
    try:
        if create:
            db.execute("PRAGMA synchronous = EXTRA")  # a commit that has returned survives a loss of power
        elif _refused(db):
            db.close()
            db = _filled_up(table)
        db.text_factory = lambda data: data.decode("utf-8", "backslashreplace")  # damage is told by checksums
        yield db
    finally:
        db.close()


def _refused(db: sqlite3.Connection) -> bool:
    """Whether SQLite will read nothing of a table: so it does where the file is shorter than it says."""
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        return "malformed" in str(error)
    return False


def _filled_up(table: Path) -> sqlite3.Connection:
    """The table in memory, as long as its head says (SQLite's file format, section 1.3): what was cut off is zeros."""
    data = table.read_bytes()
    page, pages = int.from_bytes(data[16:18]), int.from_bytes(data[28:32])
    size = min((65536 if page == 1 else page) * pages, 2 * len(data) + 2**20)  # the head may be damaged, too
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(data.ljust(size, b"\0"))
    return db


@contextmanager
def _told(table: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        full = "full" in str(error) or "disk I/O" in str(error)
        way = "free some space" if full else "`dgnet gallery compact` keeps what can be read"
        raise UserError(f"{table}: {error}; {way}") from error


def _salvaged(db: sqlite3.Connection, table: Path) -> tuple[list[Row], list[str]]:
    """The rows that lie on pages that can be read, found by halving; and which cannot."""
    try:
        (last,) = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone() or (0,)
    except sqlite3.DatabaseError as error:
        raise UserError(f"{table}: damaged beyond reading ({error}); build the gallery again") from error
    found: list[Row] = []
    bad: list[tuple[int, int]] = []

    def look(low: int, high: int) -> None:
        try:
            some = db.execute(f"SELECT {_COLUMNS} FROM entries WHERE id BETWEEN ? AND ?", (low, high)).fetchall()
        except sqlite3.DatabaseError:
            if low < high:
                look(low, (low + high) // 2)
                look((low + high) // 2 + 1, high)
            elif bad and bad[-1][1] == low - 1:
                bad[-1] = (bad[-1][0], low)
            else:
                bad.append((low, low))
        else:
            found.extend(Row(*row) for row in some)

    look(1, max(1, int(last)))
    return found, [f"entries {low} to {high} (their names are lost, too)" for low, high in bad]


def described(entry: Mapping[str, Any]) -> str:
    """What is known of an entry as text."""
    return json.dumps(dict(entry), ensure_ascii=False, sort_keys=True)
