"""The command line in this process, as its user has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from dgnet import cli


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]
Refused = Callable[..., str]


def code_of(*words: object) -> int:
    """`dgnet WORDS`: its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main([str(word) for word in words])
    assert isinstance(left.value.code, int)
    return left.value.code
