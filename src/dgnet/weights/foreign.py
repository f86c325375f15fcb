"""Other people's state dicts: where in a file the network lies, and what stands before its names.

`{"model_state_dict": {"module.base.conv1.weight": ...}}` is the same to us as `{"conv1.weight": ...}`: nests and
prefixes are one thing, a longer name. A network is found by a landmark, a name that it alone has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from dgnet.errors import UserError

NESTS = ("a", "state_dict", "model")  # where there is one of these, what lies beside it is of no interest
SHOWN = 8  # tensors named in one error
_DEEPEST = 8  # nests within nests


def flat(tree: Any) -> dict[str, Tensor]:
    """All tensors in nested dicts, under their keys joined by dots: {"net": {"fc": t}} -> {"net.fc": t}."""
    while isinstance(tree, dict) and (nest := next((n for n in NESTS if isinstance(tree.get(n), dict)), None)):
        inner = tree[nest]
        tree = None if inner is tree else inner  # a damaged file may hold itself
    return _below(tree, "", _DEEPEST)


def network(tensors: Mapping[str, Tensor], landmark: str, name: object) -> dict[str, Tensor]:
    """The tensors of the network that has `landmark`, under its own names: whatever prefix all of them bear is gone.

    Empty where there is none; several of equal weights are one (a module that goes by two names). Raises `UserError`,
    which calls the file `name`, where there are several that differ.
    """
    prefixes = [key.removesuffix(landmark) for key in tensors if f".{key}".endswith(f".{landmark}")]
    if "" in prefixes:
        return dict(tensors)
    found = [
        {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        for prefix in prefixes
    ]
    if any(not _equal(found[0], other) for other in found[1:]):
        raise UserError(
            f"{name}: holds {len(found)} networks that differ, below {listed(prefixes)}: which is meant cannot be "
            "told; save one of them in a file of its own"
        )
    return found[0] if found else {}


def listed(names: Iterable[str]) -> str:
    """The first few names, for a message of one line."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown, names[:SHOWN])) + more


def shown(name: str) -> str:
    """A name from a file as one line can show it."""
    name = name if name.isprintable() else ascii(name)[1:-1]
    return name if len(name) <= 100 else f"{name[:100]}..."


def _below(tree: Any, prefix: str, depth: int) -> dict[str, Tensor]:
    if not isinstance(tree, dict) or not depth:
        return {}
    found: dict[str, Tensor] = {}
    for key, value in tree.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{key}"] = value
        else:
            found |= _below(value, f"{prefix}{key}.", depth - 1)
    return found


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())
