"""The examples in docstrings: every loss and every metric has one, and all of them give what they say.

Those of `dgnet.model` need a model and photos: tests/test_model.py runs them. Those of `dgnet.export.session` and
`dgnet.gallery.gallery` need files: tests/export and tests/gallery make the same calls, but do not run the examples.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import FunctionType, ModuleType

import pytest

import dgnet
from dgnet import losses
from dgnet.evaluate import metrics

NEED_A_MODEL = {"dgnet.model", "dgnet.export.session", "dgnet.gallery.gallery"}


def modules(package: ModuleType) -> list[ModuleType]:
    names = (found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def examples(module: ModuleType) -> int:
    return sum(len(test.examples) for test in doctest.DocTestFinder().find(module))


def public(module: ModuleType) -> list[FunctionType]:
    own = (value for value in vars(module).values() if inspect.isfunction(value))
    return [function for function in own if function.__module__ == module.__name__ and function.__name__[0] != "_"]


WITH_EXAMPLES = [module for module in modules(dgnet) if examples(module) and module.__name__ not in NEED_A_MODEL]
LOSSES_AND_METRICS = [function for module in (*modules(losses), metrics) for function in public(module)]


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=lambda module: module.__name__)
def test_the_examples_of_a_module_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("function", LOSSES_AND_METRICS, ids=lambda function: function.__name__)
def test_every_loss_and_metric_has_an_example(function: FunctionType) -> None:
    assert ">>>" in (function.__doc__ or "")


def test_there_are_examples() -> None:
    assert len(WITH_EXAMPLES) >= 2
    assert len(LOSSES_AND_METRICS) >= 15
    assert all(examples(importlib.import_module(name)) for name in NEED_A_MODEL)
