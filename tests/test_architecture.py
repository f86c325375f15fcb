"""The layers of the package: a file imports lower layers, or its own folder; and what must not be imported at all."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dgnet

PACKAGE = Path(dgnet.__file__).parent
LAYERS = [
    {"dgnet", "errors", "console", "files", "device", "processes", "labels", "pixels", "logline", "yamltext"},
    {"config"},
    {"models", "losses", "images", "drawn"},
    {"datasets", "weights", "retrieval", "report"},
    {"evaluate", "generate", "gallery"},
    {"train", "export"},
    {"model"},
    {"demo", "run_report", "showcase", "serve", "study"},
    {"cli"},
    {"__main__"},
]
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
FOLDERS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
FORBIDDEN = {"torchvision", "timm", "torch_fidelity", "lpips", "cleanfid", "pickle"}
FILES = sorted(PACKAGE.rglob("*.py"))


def module(path: Path) -> str:
    """`dgnet.train.step` for its file."""
    return ".".join(("dgnet", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module(path) for path in FILES}


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, wherever in the file; of `from dgnet import x`, `dgnet.x`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for name in node.names:
                inside = f"{node.module}.{name.name}"
                found.add(inside if inside in MODULES else str(node.module))
    return frozenset(found)


def part(name: str) -> str:
    """The part of the package that a module belongs to: its folder, or itself."""
    return name.split(".")[1] if "." in name else name


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_lower_layers_or_its_own_folder(path: Path) -> None:
    mine = part(module(path))
    if module(path) == "dgnet":  # the face: it fetches from above what is asked for, and imports nothing itself
        assert {node.module for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)} <= {
            "__future__",
            "typing",
        }
        return
    assert mine in LAYER, f"{path}: which layer is it in? Say so in this test"
    for name in sorted(imports(path)):
        if name.split(".")[0] != "dgnet":
            continue
        theirs = part(name)
        own_folder = mine == theirs if FOLDERS & {mine, theirs} else LAYER[mine] == LAYER[theirs]
        assert LAYER[theirs] < LAYER[mine] or own_folder, f"{module(path)} (layer {LAYER[mine]}) imports {name}"


def test_no_module_needs_itself() -> None:
    graph = {module(path): {name for name in imports(path) if name in MODULES - {"dgnet"}} for path in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_nothing_forbidden(path: Path) -> None:
    allowed = {"timm"} if module(path) == "dgnet.models.backbones.from_timm" else set()
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN - allowed


def test_the_layers_name_what_is_there() -> None:
    assert set(LAYER) == {part(name) for name in MODULES}
