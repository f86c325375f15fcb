"""What starts at once: not by the clock, which differs between machines, but by what is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = {"torch", "numpy", "PIL", "simplejpeg", "safetensors", "pydantic", "yaml", "urllib.request", "filelock", "scipy"}
HELP = "from dgnet.cli import main\ntry: main({words})\nexcept SystemExit as done: assert not done.code, done.code"


def imported(program: str) -> set[str]:
    """The modules that a fresh Python has loaded after a program."""
    asked = [sys.executable, "-c", f"{program}\nimport sys\nprint('modules', *sys.modules)"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return set(shown.splitlines()[-1].split()[1:])


def test_the_package_itself_imports_next_to_nothing() -> None:
    loaded = imported("import dgnet; dgnet.__version__, dir(dgnet)")
    assert not loaded & {*SLOW, "rich", "tyro", "dgnet.errors"}


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], [], ["train", "joint", "--help"], ["evaluate", "--help"], ["data", "--help"]]
)
def test_help_imports_nothing_slow(words: list[str]) -> None:
    loaded = imported(HELP.format(words=words))
    assert "dgnet.cli.app" in loaded
    assert not loaded & SLOW


def test_a_configuration_is_shown_without_torch() -> None:
    loaded = imported(HELP.format(words=["config", "tiny"]))
    assert "pydantic" in loaded
    assert not loaded & {"torch", "numpy", "PIL"}


def test_the_face_is_imported_when_it_is_asked_for() -> None:
    assert "torch" in imported("import dgnet; dgnet.load")


def test_a_model_is_loaded_and_used_without_the_compiler() -> None:
    """PyTorch's compiler takes most of a second to import, and drawing first weights on "meta" would call it in."""
    use = "from PIL import Image\nphoto = Image.new('RGB', (64, 128))\nmodel.embed(photo)"
    loaded = imported(f"import dgnet\nmodel = dgnet.load('drawn')\n{use}")
    assert "torch.nn" in loaded
    assert "torch._dynamo" not in loaded
