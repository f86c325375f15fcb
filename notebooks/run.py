"""Run the notebooks beside this file, each in a folder of its own that is thrown away.

    python notebooks/run.py [NAME ...] [--save FOLDER]

A cell that raises ends it with the cell and its error. `--save` keeps the notebooks there, with what they showed; those
beside this file stay as they are, without outputs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the notebooks beside this file.")
    known = sorted(path.stem for path in HERE.glob("*.ipynb"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all unless given")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write them there, with what they showed")
    chosen = parser.parse_args()
    for name in chosen.names or known:
        if name not in known:
            sys.exit(f"{name}: no such notebook; there are {', '.join(known)}")
        began = time.monotonic()
        notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
        try:
            with tempfile.TemporaryDirectory() as folder:
                resources = {"metadata": {"path": folder}}  # where it runs
                quiet = ["--log-level=ERROR"]
                NotebookClient(notebook, timeout=600, resources=resources, extra_arguments=quiet).execute()
        except CellExecutionError as error:
            sys.exit(f"{name}.ipynb: {error}")
        if chosen.save:
            chosen.save.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, chosen.save / f"{name}.ipynb")
        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        print(f"{name}.ipynb: {cells} cells ran in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
