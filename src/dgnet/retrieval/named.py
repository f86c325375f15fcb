"""Features beside the names of their photos, in a file: .npz, .parquet or .csv."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from dgnet.errors import UserError
from dgnet.files import expanded, replacing


def writer_of(path: Path) -> Callable[[Path, Sequence[str], Tensor], None]:
    """What writes a file of this ending. Raises UserError for another one, and where a package is missing."""
    ending = path.suffix.lower()
    if ending not in _WRITERS:
        raise UserError(f"{path}: features are written as {', '.join(_WRITERS)}")
    if ending == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UserError(f"{path}: writing Parquet needs pyarrow: pip install 'dgnet[parquet]'") from error
    return _WRITERS[ending]


def save_named(path: Path, names: Sequence[str], features: Tensor) -> None:
    """Write features [N, D] beside their names [N], all or nothing; the ending decides how.

    .npz: arrays `names` and `features` (float32). .parquet: columns `name` and `feature` (a list of float32). .csv:
    columns `name`, `f0`, `f1`, ..., with as many digits as float32 has.

    Raises:
        UserError: another ending, or Parquet without pyarrow.
    """
    path = expanded(path)
    write = writer_of(path)
    with replacing(path) as part:
        write(part, names, features)


def _npz(path: Path, names: Sequence[str], features: Tensor) -> None:
    with path.open("wb") as file:
        np.savez(file, names=np.array(names, dtype=np.str_), features=features.numpy())


def _parquet(path: Path, names: Sequence[str], features: Tensor) -> None:
    import pyarrow
    from pyarrow import parquet

    flat = pyarrow.array(features.flatten().numpy())
    column = pyarrow.FixedSizeListArray.from_arrays(flat, features.shape[1])
    parquet.write_table(pyarrow.table({"name": list(names), "feature": column}), path)


def _csv(path: Path, names: Sequence[str], features: Tensor) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", *(f"f{place}" for place in range(features.shape[1]))])
        for name, feature in zip(names, features.tolist(), strict=True):
            rows.writerow([name, *(f"{value:.9g}" for value in feature)])


_WRITERS = {".npz": _npz, ".parquet": _parquet, ".csv": _csv}
