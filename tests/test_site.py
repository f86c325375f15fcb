"""The site and the notebooks, as far as one sees without building them, which `make docs` and `make notebooks` do."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dgnet

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
API = sorted((ROOT / "docs" / "api").glob("*.md"))
SITE: dict[str, Any] = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def pages(menu: list[dict[str, Any]]) -> Iterator[str]:
    for entry in menu:
        for below in entry.values():
            if isinstance(below, str):
                yield below
            else:
                yield from pages(below)


def test_every_page_stands_in_the_menu_once() -> None:
    there = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(pages(SITE["nav"])) == sorted(there)


def test_a_site_fetches_nothing() -> None:
    assert SITE["theme"]["font"] is False  # else from a network


def test_every_module_on_the_pages_of_the_api_is_there_once() -> None:
    named = [name for page in API for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]
    assert len(named) > 20
    assert len(set(named)) == len(named)
    for name in named:
        assert importlib.import_module(name).__doc__, name


def of_dgnet(hint: object) -> Iterator[type]:
    """The classes of dgnet in an annotation: `Results` in `Sequence[Results] | None`."""
    if inspect.isclass(hint) and hint.__module__.startswith("dgnet"):
        yield hint
    for inner in typing.get_args(hint):
        yield from of_dgnet(inner)


def test_what_a_model_takes_and_gives_has_a_page() -> None:
    """As do the modules that its docstrings send to, and those of the face."""
    shown = {name for page in API for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)}
    methods = [value for name, value in inspect.getmembers(dgnet.Model, inspect.isfunction) if name[0] != "_"]
    types = {kind for method in methods for hint in typing.get_type_hints(method).values() for kind in of_dgnet(hint)}
    sent = {
        name.rpartition(".")[0]
        for method in methods
        for name in re.findall(r"`(dgnet(?:\.\w+){2,})`", method.__doc__ or "")
    }
    face = {getattr(dgnet, name).__module__ for name in dgnet.__all__ if name != "__version__"}
    assert len(types) > 5
    assert len(sent) > 2
    assert {kind.__module__ for kind in types} | sent | face <= shown


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 2


@each_notebook
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in cells(path, "code"):
        assert (cell["outputs"], cell["execution_count"], cell["metadata"]) == ([], None, {}), cell["id"]


@each_notebook
def test_what_a_notebook_imports_and_names_is_there(path: Path) -> None:
    code = ast.parse("\n".join("".join(cell["source"]) for cell in cells(path, "code")))
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("dgnet"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
    text = "\n".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    for name in re.findall(r"`([\w/-]+\.(?:md|ipynb))`", text):
        assert (path.parent / name).exists() or (ROOT / name).exists(), name


def test_examples_are_headed_as_the_site_knows_them() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        wrong = re.search(r"^ *Example:$", path.read_text(), re.MULTILINE)
        assert wrong is None, f"{path}: Example: is prose to the site; Examples: would be right"
