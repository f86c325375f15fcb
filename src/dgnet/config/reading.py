"""A configuration read from YAML and overrides, written, and explained."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from dgnet import yamltext
from dgnet.config.run import Config
from dgnet.errors import UserError, nearest
from dgnet.files import expanded

_ADAPTER = TypeAdapter(Config)


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a preset's name or a YAML file, with `key.path=value` overrides on top.

    A text is taken as it is given, any other value is YAML.

    Raises `UserError` for a missing file, text that is not YAML, an unknown key (with its path and the nearest right
    one) and a value out of range.
    """
    tree = _read(source)
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"override {override!r}: write it as key.path=value, for example train.iterations=1000")
        *parents, last = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise UserError(f"override {override!r}: {parent} is a value, not a group of keys")
        branch[last] = _meant(value, yamltext.type_at(Config, [*parents, last]), override)
    return from_dict(tree, str(source))


def _meant(value: str, kind: Any, override: str) -> Any:
    """The value of an override for a field of that type: a text as it is given, anything else as YAML."""
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    if yamltext.is_text(kind) and value not in ("null", "~") and not quoted:
        return value
    if yamltext.is_text(yamltext.items_of(kind)) and value and not value.startswith("["):
        return [value]
    try:
        return yamltext.parse(value, kind, f"override {override!r}")
    except UserError as error:
        if error.__cause__ is None:  # YAML, but nothing that could be meant
            raise
        raise UserError(f"override {override!r}: {value!r} is not a YAML value") from error


def from_dict(tree: dict[str, Any], source: str = "configuration") -> Config:
    """A checked `Config` from nested dictionaries; `source` is named in the errors. Raises `UserError`."""
    try:
        return _ADAPTER.validate_python(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {'; '.join(_explain(problem) for problem in error.errors())}") from error


def to_dict(config: Config) -> dict[str, Any]:
    """Nested dictionaries of plain values (lists for tuples), ready for YAML or JSON."""
    tree: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return tree


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML text."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def explain(key: str = "", config: Config | None = None) -> str:
    """What the values mean: each with its value in `config`, its type, and its meaning; of a key, a group, or all.

    Raises `UserError` for a key that there is not, with the nearest right one.
    """
    found = [
        line for path, line in _explanations(config or Config(), "") if f"{path}.".startswith(f"{key}." if key else "")
    ]
    if not found:
        near = nearest(key, [path for path, _ in _explanations(Config(), "")])
        raise UserError(f"unknown key {key}; " + (f"did you mean {near}?" if near else "`dgnet config` shows all"))
    return "\n".join(found) + "\n"


def _explanations(group: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, field in type(group).__pydantic_fields__.items():
        value, place = getattr(group, name), f"{path}{name}"
        if dataclasses.is_dataclass(value):
            yield from _explanations(value, f"{place}.")
        else:
            shown = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True)
            meaning = " ".join((field.description or "").split())
            yield place, f"{place} = {shown.removesuffix('...' + chr(10)).strip()} ({_range(field)})\n    {meaning}"


def _range(field: Any) -> str:
    """The type of a value in words, with its bounds."""
    kind = field.annotation
    if typing.get_origin(kind) is Literal:
        return " or ".join(str(choice) for choice in typing.get_args(kind))
    words = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    name = words.get(kind, "list" if typing.get_origin(kind) is tuple else "text or null")
    bounds = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "multiple of"}
    said = [f"{bounds[b]} {getattr(m, b):g}" for m in field.metadata for b in bounds if hasattr(m, b)]
    return ", ".join([name, *said])


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in _presets_folder().iterdir() if f.name.endswith(".yaml"))


def _presets_folder() -> Any:
    return resources.files("dgnet") / "presets"


def _read(source: str | Path) -> dict[str, Any]:
    if str(source) in presets():
        text = (_presets_folder() / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        path = expanded(source)
        if not path.is_file():
            raise UserError(f"{source}: neither a preset ({', '.join(presets())}) nor a YAML file")
        text = yamltext.read_file(path)
    tree = yamltext.parse(text, Config, str(source))
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise UserError(f"{source}: expected groups of keys (data, model, loss, ...), found {type(tree).__name__}")
    return tree


def _explain(problem: Any) -> str:
    """One pydantic error in one line: full key path, what is wrong, what would be right."""
    location = [str(part) for part in problem["loc"]]
    path = ".".join(location)
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _keys_at(location[:-1])
        near = nearest(location[-1], known)
        hint = f"did you mean {'.'.join([*location[:-1], near])}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {path}; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    if not path:
        return str(message)
    return f"{path} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _keys_at(path: Sequence[str]) -> list[str]:
    at: Any = Config()
    for part in path:
        at = getattr(at, part, None)
    return [f.name for f in dataclasses.fields(at)] if dataclasses.is_dataclass(at) else []
