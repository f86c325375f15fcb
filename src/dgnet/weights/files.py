"""Weights on disk: the files that dgnet writes and reads.

Ours are safetensors with the configuration inside. Other people's `.pt` and `.pth` files are read through
`torch.load(weights_only=True)`, which builds tensors and runs nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dgnet import __version__
from dgnet.config import Config, from_dict, to_dict
from dgnet.errors import UserError
from dgnet.files import file_hash as file_hash
from dgnet.files import replacing
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline, build_baseline

FORMAT = 1  # of the metadata; this program cannot read a higher one
SHOWN = 8  # tensors named in one error

Kind = Literal["joint", "teacher"]
Net = TypeVar("Net", bound=nn.Module)

FINISHED = ("model.safetensors", "teacher.safetensors")  # what a run that is done leaves behind, the first first
KINDS: dict[Kind, str] = {"joint": "a DG-Net (model.safetensors)", "teacher": "a teacher (teacher.safetensors)"}


@dataclass(frozen=True)
class Loaded(Generic[Net]):
    """A network as it was saved, in evaluation mode, and what its file says of it."""

    net: Net
    config: Config
    identities: list[int]
    """The data set's number of each class; empty where the file does not know (imported weights)."""
    version: str
    """Of the dgnet that wrote the file."""
    hash: str
    """SHA-256 of the file."""


def save_model(path: Path, module: nn.Module, config: Config, kind: Kind, identities: Sequence[int]) -> None:
    """Write the weights of `module` for use, with all that is needed to build it again.

    `identities` names the classes in their order (empty: unknown). What stood at `path` stays whole until the new file
    is safely on disk. Raises `UserError` where it cannot be written.
    """
    about = {
        "format": FORMAT,
        "version": __version__,
        "kind": kind,
        "config": to_dict(config),
        "identities": [int(identity) for identity in identities],
    }
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
    try:
        with replacing(Path(path)) as part:
            part.write_bytes(save(tensors, {"dgnet": json.dumps(about)}))  # one entry: several come in random order
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); free some space or choose another folder") from error


def load_joint(path: str | Path, device: str | torch.device = "cpu") -> Loaded[DGNet]:
    """The DG-Net of a `model.safetensors`. Raises `UserError` that names the file and what is wrong with it."""
    return _load(Path(path), "joint", DGNet, "appearance.heads.0.classify.weight", device)


def load_teacher(path: str | Path, device: str | torch.device = "cpu") -> Loaded[Baseline]:
    """The network of a `teacher.safetensors`. Raises `UserError` that names the file and what is wrong with it."""
    return _load(Path(path), "teacher", build_baseline, "head.classify.weight", device)


def load_any(path: str | Path, device: str | torch.device = "cpu") -> Loaded[DGNet] | Loaded[Baseline]:
    """Either of the two above, whichever the file holds."""
    kind = _about(Path(path), _read_safetensors(Path(path))[1])["kind"]
    return load_teacher(path, device) if kind == "teacher" else load_joint(path, device)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a PyTorch file (`.pt`, `.pth`) with a state dict.

    Raises `UserError` if the file is missing, damaged, or would have to run code to be read.
    """
    return _read_safetensors(path)[0] if path.suffix == ".safetensors" else _read_pickled(path)


def mismatches(needed: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Each tensor that does not fit, and how: `is missing`, `is unknown` or `is [2, 3], not [3, 3]`."""
    wrong = [(key, "is missing") for key in needed if key not in found]
    for key, tensor in found.items():
        if key not in needed:
            wrong.append((key, "is unknown"))
        elif tensor.shape != needed[key].shape:
            wrong.append((key, f"is {list(tensor.shape)}, not {list(needed[key].shape)}"))
    return wrong


def in_words(wrong: Sequence[tuple[str, str]]) -> str:
    """What `mismatches` found, in one line that names the first few."""
    shown = "; ".join(f"{key} {what}" for key, what in wrong[:SHOWN])
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return f"{len(wrong)} tensor{'s do' if len(wrong) > 1 else ' does'} not fit: {shown}{more}"


def with_counters(needed: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`found`, with the batch counters of `needed` where it has none: old files lack them, and nothing reads them."""
    return {key: tensor for key, tensor in needed.items() if key.endswith(".num_batches_tracked")} | dict(found)


def _load(
    path: Path, kind: Kind, build: Callable[[Config, int], Net], classifier: str, device: str | torch.device
) -> Loaded[Net]:
    tensors, metadata = _read_safetensors(path)
    about = _about(path, metadata)
    try:
        version = str(about["version"])
        if int(about["format"]) > FORMAT:
            raise UserError(f"{path}: written by dgnet {version}, a newer one than this ({__version__}): update dgnet")
        if about["kind"] != kind:
            raise UserError(f"{path}: holds {KINDS[about['kind']]}; {KINDS[kind]} is needed")
        config = from_dict(about["config"], str(path))
        identities = [int(identity) for identity in about["identities"]]
    except UserError:
        raise
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: its description by dgnet is damaged ({error!r})") from error
    classes = len(tensors[classifier]) if classifier in tensors else len(identities)
    if identities and len(identities) != classes:
        raise UserError(f"{path}: tells {classes} classes apart, but names {len(identities)} identities")
    with torch.device("meta"):
        net = build(config, classes)
    if wrong := mismatches(net.state_dict(), tensors):
        raise UserError(f"{path}: {in_words(wrong)}")
    net.load_state_dict(_usable(path, tensors, net.state_dict()), assign=True)
    return Loaded(net.to(device).eval(), config, identities, version, file_hash(path))


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What dgnet wrote about a file of weights. Raises `UserError` where that is nothing, or damaged."""
    if "tree" in metadata:
        raise UserError(f"{path}: a checkpoint, to continue its run from; give the run's {' or '.join(FINISHED)}")
    if "dgnet" not in metadata:
        raise UserError(f"{path}: not written by dgnet; published checkpoints are read by `dgnet weights import`")
    try:
        about = json.loads(metadata["dgnet"])
        if about["kind"] not in KINDS:
            raise ValueError(f"kind {about['kind']!r}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: its description by dgnet is damaged ({error!r})") from error
    return about  # type: ignore[no-any-return]


def _usable(path: Path, tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` in the types of `needed`, whatever precision they were stored in. Raises `UserError` naming NaNs."""
    made = {key: tensor.to(needed[key].dtype) for key, tensor in tensors.items()}
    if bad := [key for key, tensor in made.items() if not torch.isfinite(tensor).all()]:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(f"{path}: NaN or infinity in {', '.join(bad[:SHOWN])}{more}; train again, or take another file")
    return made


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except Exception as error:  # a damaged header can fail in any way
        if path.is_dir():
            there = sorted(file.name for file in path.glob("*.safetensors"))
            raise UserError(f"{path}: a folder; give the file in it ({', '.join(there) or 'there is none'})") from error
        raise UserError(f"{path}: damaged, or not a safetensors file ({error})") from error


def _read_pickled(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        tree: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        if forbidden := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: refused, since it wants to call {forbidden[1]}; only plain tensors are read"
            ) from error
        raise UserError(f"{path}: damaged, or not a PyTorch file of plain tensors") from error
    for nest in ("a", "state_dict", "model"):
        if isinstance(tree, dict) and isinstance(tree.get(nest), dict):
            tree = tree[nest]
    pairs = tree.items() if isinstance(tree, dict) else ()
    tensors = {str(key).removeprefix("module."): tensor for key, tensor in pairs if isinstance(tensor, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no named tensors")
    return tensors
