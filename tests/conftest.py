"""What all tests share. The modules beside this file (`command`, `oracle`, ...) are imported by their names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from command import Refused, Run, Said, code_of


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`dgnet ARGUMENTS` in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        return Said(code_of(*arguments), *capsys.readouterr())

    return call


@pytest.fixture
def refused(run: Run) -> Refused:
    """`dgnet ARGUMENTS` that must end with exit code 2 and one line, which is returned without its `error: `."""

    def call(*arguments: object) -> str:
        said = run(*arguments)
        assert said.code == 2, said
        assert said.out == ""
        (line,) = (line for line in said.err.splitlines() if line.startswith("error: "))
        assert said.err.endswith(f"{line}\n"), said.err  # nothing after it: no traceback
        return line.removeprefix("error: ")

    return call
