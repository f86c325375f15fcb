"""YAML as its writer meant it: what is read as text where a text is wanted, and nothing that is written twice.

YAML takes `1501` for a number, `on` for a yes and `2024_01_01` for twenty million; a folder may be called any of these.
So a value is read with the type of the field that it is for.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from dgnet.errors import UserError
from dgnet.files import content


def read_file(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark. Raises `UserError` for another encoding."""
    try:
        data = content(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: byte {data[error.start]:#04x} is no UTF-8; save it as UTF-8") from error


def parse(text: str, kind: Any, source: str) -> Any:
    """The plain value of a YAML text that is meant for a `kind`: a dataclass, `str`, or anything else.

    Raises:
        UserError: text that is not YAML, or a key that stands twice in one group; `source` is named.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        return None if node is None else _value(loader, node, kind, source)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source}: not YAML: {' '.join(str(error).split())[:200]}") from error


def is_text(kind: Any) -> bool:
    """Whether a field of this type holds a text, perhaps none."""
    if typing.get_origin(kind) is typing.Annotated:
        return is_text(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return {str} == set(typing.get_args(kind)) - {type(None)}
    return kind is str


def type_at(kind: Any, path: list[str]) -> Any:
    """The type of the field at a path of keys below a dataclass; None where there is no such field."""
    for key in path:
        kind = _fields(kind).get(key)
    return kind


def items_of(kind: Any) -> Any:
    """The type of what a list field holds; None for anything else."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None


def _fields(kind: Any) -> dict[str, Any]:
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return {}
    return typing.get_type_hints(kind, include_extras=True)


def _value(loader: yaml.SafeLoader, node: yaml.Node, kind: Any, source: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        _refuse_repetition(node, source)
        loader.flatten_mapping(node)
        if typing.get_origin(kind) is dict:  # its keys are names: texts as they stand
            named = [(str(key.value), inner) for key, inner in node.value]
            return {name: _value(loader, inner, typing.get_args(kind)[1], source) for name, inner in named}
        fields = _fields(kind)
        keys = [str(loader.construct_object(key, deep=True)) for key, _ in node.value]
        return {k: _value(loader, inner, fields.get(k), source) for k, (_, inner) in zip(keys, node.value, strict=True)}
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, inner, items_of(kind), source) for inner in node.value]
    if not is_text(kind):
        _refuse_doubtful(node, kind, source)
    nothing = node.tag == "tag:yaml.org,2002:null"  # a quoted null is a text
    return node.value if is_text(kind) and not nothing else loader.construct_object(node, deep=True)


def _refuse_doubtful(node: yaml.Node, kind: Any, source: str) -> None:
    """Raise UserError for a number that YAML reads otherwise than its writer: 010 is 8 to it, 1:30 is 90, yes is 1."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    line, number = node.start_mark.line + 1, node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    if number and re.fullmatch(r"[-+]?(0\d+|\d[\d_]*:.*)", node.value):
        raise UserError(f"{source}, line {line}: {node.value} can be read in two ways; write the number plainly")
    if node.tag == "tag:yaml.org,2002:bool" and kind in (int, float):
        raise UserError(f"{source}, line {line}: {node.value} where a number is needed")


def _refuse_repetition(node: yaml.MappingNode, source: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines and name != "<<":
            raise UserError(f"{source}: {name} stands twice, in line {lines[name]} and in line {line}; join the two")
        lines[name] = line
