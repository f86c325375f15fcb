"""A study as its YAML file says it: a table of trainings, times seeds. Reading it starts nothing.

config: demo                      # of every row, unless a row has its own
data: people
seeds: [0, 1, 2]
rows:
  teacher: {train: teacher}
  DG-Net: {teacher: teacher}      # its teacher is the row above
  control: {teacher: teacher, set: loss.teacher=0}
against: control
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from dgnet import yamltext
from dgnet.config import Config, load
from dgnet.datasets.read import laid_out
from dgnet.errors import UserError, nearest
from dgnet.files import expanded
from dgnet.train.run import flat
from dgnet.weights.files import FILE_OF, Kind, finished

OWN = "own"  # what the test of the training's own data set is called

_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)
_PRESET = {"teacher": "market1501", "baseline": "baseline", "joint": "market1501"}  # as `dgnet train` has them
_NAME = re.compile(r"\w[\w .+-]*(?<! )")


def _words(value: object) -> object:
    """Overrides as they are typed: of one text, a list, or keys with values.

    Examples:
        >>> _words("loss.teacher=0 loss.cycle=0"), _words({"loss.teacher": 0, "evaluate": {"alphas": [0]}})
        (['loss.teacher=0', 'loss.cycle=0'], ['loss.teacher=0', 'evaluate.alphas=[0]'])
    """
    if isinstance(value, str):
        return shlex.split(value)
    if isinstance(value, dict):
        return [f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in flat(value).items()]
    return value


Overrides = Annotated[tuple[str, ...], BeforeValidator(_words)]
Seeds = tuple[Annotated[int, Field(ge=0, strict=True)], ...]


@dataclass(frozen=True, config=_STRICT)
class Row:
    """One training, in as many seeds as there are."""

    train: Literal["teacher", "baseline", "joint"] = "joint"
    """What `dgnet train` is told."""
    config: str = ""
    """A preset or a YAML file; by default the study's."""
    set: Overrides = ()
    """Changes to it, as on the command line; after those of the study."""
    teacher: str = ""
    """Of joint training: an earlier row, or a file of weights."""
    start: str = ""
    """Whose weights the backbone starts from: an earlier row, or a file of weights."""
    seeds: Seeds = ()
    """By default the study's. A later row takes the run of its own seed, or the only one."""


@dataclass(frozen=True, config=_STRICT)
class Table:
    """What a study's file holds."""

    data: str
    """Folder of the data set, or `layout=folder`."""
    rows: dict[str, Row]
    """Trainings by name, in the order in which they are done."""
    config: str = ""
    """A preset or a YAML file; by default that of the command `dgnet train`."""
    set: Overrides = ()
    """Changes to the configuration of every row."""
    seeds: Seeds = (0,)
    """Everything is trained once with each."""
    against: str = ""
    """The row that the others are compared with; by default the first."""
    tests: dict[str, str] = Field(default_factory=dict)
    """More data sets to be tested on, by name: folders, or `layout=folder`."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a study."""

    row: str
    seed: int
    folder: Path
    kind: Kind
    config: Config
    sources: Mapping[str, Path]
    """Files of weights that it needs, by the key of the row: `teacher`, `start`. They may be still to come."""
    command: str
    """That trains it, or goes on with it."""

    @property
    def weights(self) -> Path:
        """The file that it leaves behind."""
        return self.folder / FILE_OF[self.kind]

    @property
    def alphas(self) -> tuple[float | None, ...]:
        """What the fine-grained half of its features is weighed by; None where features have no halves."""
        halves = self.kind == "joint" and self.config.model.appearance.heads == "two"
        return self.config.evaluate.alphas if halves else (None,)


@dataclasses.dataclass(frozen=True)
class Study:
    """A file that has been read and fits together."""

    file: Path
    folder: Path
    """Of its runs and of what comes of them."""
    runs: Sequence[Run]
    """In the order in which they are done: whatever a run needs comes before it."""
    against: str
    tests: Mapping[str, tuple[str, str]]
    """Layout and folder of the further data sets, by name."""

    @property
    def rows(self) -> dict[str, list[Run]]:
        """The runs of each row, a seed each."""
        rows: dict[str, list[Run]] = {}
        for run in self.runs:
            rows.setdefault(run.row, []).append(run)
        return rows

    @contextmanager
    def naming(self, run: Run) -> Iterator[None]:
        """Errors inside name the file, the row and the seed."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.file}: row {run.row}, seed {run.seed}: {error}") from error


def read_study(file: str | Path, folder: str | Path | None = None) -> Study:
    """The study in a YAML file; `folder` is where its runs go, by default the file's name without its ending.

    Raises:
        UserError: a line that names the file, the key and the row: what is no YAML, a key that there is not, a value
            out of range, a row that is not there or stands below the one that needs it.
    """
    file = expanded(file)
    if not file.is_file():
        raise UserError(
            f"{file}: {'a folder' if file.is_dir() else 'no such file'}; the YAML file of a study is needed"
        )
    if folder is None and not file.suffix:
        raise UserError(f"{file}: without an ending there is no name for its folder; call it {file.name}.yaml")
    table = _read(file)
    place = expanded(folder) if folder is not None else file.with_suffix("")
    _check(table, file)
    runs: list[Run] = []
    for name in table.rows:
        for seed in table.rows[name].seeds or table.seeds:
            runs.append(_run(table, name, seed, runs, place, file))
    return Study(
        file=file,
        folder=place,
        runs=runs,
        against=table.against or next(iter(table.rows)),
        tests={name: laid_out(entry) for name, entry in table.tests.items()},
    )


def _read(file: Path) -> Table:
    tree = yamltext.parse(yamltext.read_file(file), Table, str(file))
    if not isinstance(tree, dict):
        raise UserError(f"{file}: keys are needed: data, rows, and perhaps {', '.join(_keys(Table)[2:])}")
    if isinstance(rows := tree.get("rows"), dict):
        tree["rows"] = {name: {} if row is None else row for name, row in rows.items()}
    try:
        return TypeAdapter(Table).validate_python(tree)
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda problem: problem["type"] == "missing")  # perhaps only misspelt
        raise UserError(f"{file}: {'; '.join(map(_explain, problems))}") from error


def _explain(problem: Any) -> str:
    """One error of pydantic in words: the row, the key, what is wrong, what would be right."""
    place = [str(part) for part in problem["loc"]]
    of, keys = "", _keys(Table)
    if place[0] == "rows" and len(place) > 1:
        of, place, keys = f"row {place[1]}: ", place[2:], _keys(Row)
    key = ".".join(place)
    if problem["type"] == "unexpected_keyword_argument":
        near = nearest(key, keys)
        return f"{of}unknown key {key}; " + (f"did you mean {near}?" if near else f"known here: {', '.join(keys)}")
    if problem["type"] == "missing":
        return f"{of}{key} is missing"
    if not place:
        return f"{of}keys are needed, such as train: joint"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{of}{key} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _keys(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _check(table: Table, file: Path) -> None:
    """Raises UserError for names that cannot be those of folders, and for keys that mean nothing together."""
    if not table.rows:
        raise UserError(f"{file}: rows is empty: name a training, as in rows: {{teacher: {{train: teacher}}}}")
    for what, names in (("row", table.rows), ("tests", table.tests)):
        seen: dict[str, str] = {}
        for name in names:
            if not _NAME.fullmatch(name):
                raise UserError(f"{file}: {what} {name!r}: is a folder's name, too: letters, digits, blanks, . + - _")
            if (before := seen.setdefault(name.lower(), name)) != name:
                raise UserError(f"{file}: {what} {name!r}: and {before!r} are one folder's name on some machines")
    if OWN in table.tests:
        raise UserError(f"{file}: tests: {OWN} is the test of data; call the other something else")
    if table.against and table.against not in table.rows:
        near = nearest(table.against, table.rows)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(table.rows)}"
        raise UserError(f"{file}: against = {table.against!r}: no such row; {hint}")
    parts: list[tuple[str, Table | Row]] = [("", table), *table.rows.items()]
    for name, row in parts:
        of = f"row {name}: " if name else ""
        if isinstance(row, Row) and row.teacher and row.train != "joint":
            raise UserError(f"{file}: {of}teacher: a {row.train} learns from none; weights to start from are start")
        if len(set(row.seeds)) < len(row.seeds) or not (row.seeds or name):
            raise UserError(f"{file}: {of}seeds = {list(row.seeds)}: give one or more, each once")
        for word in row.set:
            if word.startswith(("train.seed=", "teacher.seed=")):
                raise UserError(f"{file}: {of}set: {word}: seeds stand in seeds")


def _run(table: Table, name: str, seed: int, before: Sequence[Run], place: Path, file: Path) -> Run:
    """The training of a row with a seed."""
    row = table.rows[name]
    try:
        sources = {
            key: _source(reference, seed, before, name, table)
            for key in ("teacher", "start")
            if (reference := getattr(row, key))
        }
        layout, root = laid_out(table.data)
        words = [*table.set, f"data.root={root}", *([f"data.layout={layout}"] if layout != "auto" else []), *row.set]
        words += [f"{part}.seed={seed}" for part in ("teacher", "train")]
        if "start" in sources:
            owner = "model.appearance" if row.train == "joint" else "teacher"
            words.append(f"{owner}.weights={sources['start']}")
        chosen = row.config or table.config or _PRESET[row.train]
        folder = place / f"{name}-seed{seed}"
        command = ["dgnet", "train", row.train, str(folder), "--config", chosen, *words]
        command += ["--teacher", str(sources["teacher"])] if "teacher" in sources else []
        return Run(
            row=name,
            seed=seed,
            folder=folder,
            kind="joint" if row.train == "joint" else "teacher",
            config=load(chosen, words),
            sources=sources,
            command=shlex.join([*command, "--resume", "auto"]),
        )
    except UserError as error:
        raise UserError(f"{file}: row {name}: {error}") from error


def _source(reference: str, seed: int, before: Sequence[Run], name: str, table: Table) -> Path:
    """The file of weights that a row names: of an earlier row, with the same seed or its only one; or a file."""
    runs = [run for run in before if run.row == reference and run.row != name]
    if runs:
        same = [run for run in runs if run.seed == seed] or (runs if len(runs) == 1 else [])
        if not same:
            raise UserError(
                f"seed {seed} of {reference}: there are {', '.join(str(run.seed) for run in runs)}; give it this one, "
                "too, or one alone"
            )
        return same[0].weights.absolute()
    if reference in table.rows:
        raise UserError(f"{reference}: a row that comes later; a row starts from one above it")
    path = expanded(reference)
    found = finished(path) if path.is_dir() else path if path.is_file() else None
    if found is None:
        rows = list(dict.fromkeys(run.row for run in before if run.row != name))
        near = nearest(reference, rows)
        hint = f"did you mean {near}?" if near else f"rows above it: {', '.join(rows) or 'none'}"
        raise UserError(f"{reference}: neither a row above it nor a file of weights or a finished run; {hint}")
    return found.absolute()
