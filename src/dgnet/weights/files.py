"""Weights on disk: the files that dgnet writes and reads.

Ours are safetensors with the configuration inside. Other people's `.pt` and `.pth` files are read through
`torch.load(weights_only=True)`, which builds tensors and runs nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dgnet import __version__
from dgnet.config import Config, from_dict, to_dict
from dgnet.errors import UserError
from dgnet.files import file_hash as file_hash
from dgnet.files import replacing
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline, build_baseline
from dgnet.weights.foreign import SHOWN, flat, listed, shown

FORMAT = 1  # of the metadata; this program cannot read a higher one

Kind = Literal["joint", "teacher"]
Net = TypeVar("Net", bound=nn.Module)
T = TypeVar("T")

TYPICAL = "typical_structures"  # a tensor beside the weights: see DGNet.typical
FILE_OF: dict[Kind, str] = {"joint": "model.safetensors", "teacher": "teacher.safetensors"}  # of a run that is done
FINISHED = tuple(FILE_OF.values())
CLASSIFIER: dict[Kind, str] = {"joint": "appearance.heads.0.classify.weight", "teacher": "head.classify.weight"}
KINDS: dict[Kind, str] = {"joint": f"a DG-Net ({FILE_OF['joint']})", "teacher": f"a teacher ({FILE_OF['teacher']})"}


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
    threshold: dict[str, Any] | None = None
    """What `Threshold.to_dict` gave when it was calibrated; None where it was not."""


def save_model(
    path: Path,
    module: nn.Module,
    config: Config,
    kind: Kind,
    identities: Sequence[int],
    threshold: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
) -> None:
    """Write the weights of `module` for use, with all that is needed to build it again.

    `identities` names the classes in their order (empty: unknown); `threshold` is what it was calibrated to; with
    `half`, numbers are written in half precision. What stood at `path` stays whole until the new file is safely on
    disk. Raises `UserError` where it cannot be written.
    """
    about = {
        "format": FORMAT,
        "version": __version__,
        "kind": kind,
        "config": to_dict(config),
        "identities": [int(identity) for identity in identities],
    }
    about |= {} if threshold is None else {"threshold": dict(threshold)}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
    if isinstance(module, DGNet) and module.typical is not None:
        tensors[TYPICAL] = module.typical.cpu().contiguous()
    if half:
        tensors = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    try:
        with replacing(Path(path)) as part:
            part.write_bytes(save(tensors, {"dgnet": json.dumps(about)}))  # one entry: several come in random order
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); free some space or choose another folder") from error


def finished(folder: Path) -> Path | None:
    """The weights that a finished run left in its folder; None where there are none."""
    return next((folder / name for name in FINISHED if (folder / name).is_file()), None)


def load_joint(path: str | Path, device: str | torch.device = "cpu") -> Loaded[DGNet]:
    """The DG-Net of a `model.safetensors`. Raises `UserError` that names the file and what is wrong with it."""
    return _load(Path(path), "joint", DGNet, device)


def load_teacher(path: str | Path, device: str | torch.device = "cpu") -> Loaded[Baseline]:
    """The network of a `teacher.safetensors`. Raises `UserError` that names the file and what is wrong with it."""
    return _load(Path(path), "teacher", build_baseline, device)


def load_any(path: str | Path, device: str | torch.device = "cpu") -> Loaded[DGNet] | Loaded[Baseline]:
    """Either of the two above, whichever the file holds."""
    metadata = _opened(Path(path), lambda file: file.metadata() or {})
    return (load_teacher if _about(Path(path), metadata).kind == "teacher" else load_joint)(path, device)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of one that `torch.save` wrote (`.pt`, `.pth`), nested ones by long names.

    Raises `UserError` if the file is missing, damaged, a checkpoint of ours, or would have to run code to be read.
    """
    start = _start(path)
    if start[8:9] != b"{" and (path.suffix != ".safetensors" or start.startswith(_PICKLED)):
        return _read_pickled(path)
    tensors, metadata = _read_safetensors(path)
    _refuse_checkpoint(path, metadata)
    return tensors


def mismatches(needed: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Each tensor that does not fit, and how: `is missing`, `is unknown`, `is [2, 3], not [3, 3]`, or of another type.

    Any precision of floating point fits; integers do not, which nobody has scaled back.
    """
    wrong = [(key, "is missing") for key in needed if key not in found]
    for key, tensor in found.items():
        wanted = needed.get(key)
        if wanted is None:
            wrong.append((key, "is unknown"))
        elif tensor.shape != wanted.shape:
            wrong.append((key, f"is {list(tensor.shape)}, not {list(wanted.shape)}"))
        elif wanted.is_floating_point() and not tensor.is_floating_point():
            wrong.append((key, f"is of {str(tensor.dtype).removeprefix('torch.')}, not of floating point"))
        elif tensor.layout != torch.strided or (tensor.is_meta and not wanted.is_meta):
            wrong.append((key, "is sparse, or without values"))
    return wrong


def in_words(wrong: Sequence[tuple[str, str]]) -> str:
    """What `mismatches` found, in one line that names the first few."""
    first = "; ".join(f"{shown(key)} {what}" for key, what in wrong[:SHOWN])
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return f"{len(wrong)} tensor{'s do' if len(wrong) > 1 else ' does'} not fit: {first}{more}"


def rows(tensor: Tensor | None) -> int:
    """The first size of a tensor; 0 where it has none."""
    return 0 if tensor is None or not tensor.ndim else len(tensor)


def with_counters(needed: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`found`, with the batch counters of `needed` where it has none: old files lack them, and nothing reads them."""
    return {key: tensor for key, tensor in needed.items() if key.endswith(".num_batches_tracked")} | dict(found)


def usable(path: Path, tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` in the types of `needed`, whatever precision they were stored in.

    Raises `UserError`, naming them, where some are NaN or infinite.
    """
    made = {key: tensor.to(needed[key].dtype) for key, tensor in tensors.items()}
    require_finite(path, made)
    return made


def require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises `UserError`, naming them, where tensors hold NaN or infinity."""
    if bad := [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise UserError(f"{path}: NaN or infinity in {listed(bad)}; train again, or take another file")


@dataclass(frozen=True)
class _About:
    """What dgnet wrote about a file of weights."""

    kind: Kind
    version: str
    config: dict[str, Any]
    identities: list[int]
    threshold: dict[str, Any] | None


def _load(path: Path, kind: Kind, build: Callable[[Config, int], Net], device: str | torch.device) -> Loaded[Net]:
    tensors, metadata = _read_safetensors(path)
    about = _about(path, metadata)
    if about.kind != kind:
        raise UserError(f"{path}: holds {KINDS[about.kind]}; {KINDS[kind]} is needed")
    config = from_dict(about.config, str(path))
    classes, identities = rows(tensors.get(CLASSIFIER[kind])), about.identities
    if classes and identities and len(identities) != classes:
        raise UserError(f"{path}: tells {classes} classes apart, but names {len(identities)} identities")
    built = partial(build, config, classes or len(identities) or 1)
    try:
        with torch.device("meta"), _Unfilled():
            net = built()
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:  # sizes that no tensor can have
        reason = shown(str(error))
        raise UserError(f"{path}: networks as its configuration has them cannot be built: {reason}") from error
    typical = tensors.pop(TYPICAL, None) if isinstance(net, DGNet) else None
    needed = net.state_dict()
    if wrong := mismatches(needed, tensors):
        raise UserError(f"{path}: {in_words(wrong)}")
    if any(buffer.is_meta for key, buffer in net.named_buffers() if key not in needed):  # computed, and never saved
        with torch.random.fork_rng(devices=[]):
            net = built()
    if isinstance(net, DGNet) and typical is not None:
        net.typical = _typical(path, typical, config)
    net.load_state_dict(usable(path, tensors, needed), assign=True)
    return Loaded(net.to(device).eval(), config, identities, about.version, file_hash(path), about.threshold)


class _Unfilled(TorchFunctionMode):
    """Draws no first weights: those of the file replace them, and drawing on "meta" imports PyTorch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _typical(path: Path, tensor: Tensor, config: Config) -> Tensor:
    """The typical structures of a file. Raises `UserError` where they are of another shape, or not finite."""
    wanted = (1, config.data.height, config.data.width)
    if tuple(tensor.shape[1:]) != wanted or not tensor.is_floating_point():
        held = f"{list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
        raise UserError(f"{path}: {TYPICAL} is {held}, not [K, {', '.join(map(str, wanted))}] of floating point")
    require_finite(path, {TYPICAL: tensor})
    return tensor


def _about(path: Path, metadata: Mapping[str, str]) -> _About:
    """What dgnet wrote about a file of weights. Raises `UserError` where that is nothing, damaged, or too new."""
    _refuse_checkpoint(path, metadata)
    if "dgnet" not in metadata:
        raise UserError(f"{path}: not written by dgnet; published checkpoints are read by `dgnet weights import`")
    damaged = f"{path}: its description by dgnet is damaged"
    try:
        about = json.loads(metadata["dgnet"])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{damaged} ({error})") from error
    if not isinstance(about, dict):
        raise UserError(f"{damaged} (it is {type(about).__name__}, not an object)")
    for key, kind in (("format", int), ("version", str), ("kind", str), ("config", dict), ("identities", list)):
        if type(about.get(key)) is not kind:
            raise UserError(f"{damaged} ({key}: {shown(repr(about.get(key)))}, not of type {kind.__name__})")
    if type(about.get("threshold", {})) is not dict:
        raise UserError(f"{damaged} (threshold: {shown(repr(about['threshold']))}, not of type dict)")
    if about["format"] > FORMAT:
        version = shown(about["version"])
        raise UserError(f"{path}: written by dgnet {version}, a newer one than this ({__version__}): update dgnet")
    if about["kind"] not in KINDS:
        raise UserError(f"{damaged} (kind: {shown(about['kind'])!r}, not one of {', '.join(KINDS)})")
    if not all(type(identity) is int and abs(identity) < 1 << 63 for identity in about["identities"]):
        raise UserError(f"{damaged} (identities that are not whole numbers of 64 bits)")
    return _About(about["kind"], about["version"], about["config"], about["identities"], about.get("threshold"))


def _refuse_checkpoint(path: Path, metadata: Mapping[str, str]) -> None:
    if "tree" in metadata:
        raise UserError(f"{path}: a checkpoint, to continue its run from; give the run's {' or '.join(FINISHED)}")


_PICKLED = (b"PK", b"\x80")  # how what torch.save wrote begins: a zip, and before torch 1.6 a pickle


def _start(path: Path) -> bytes:
    """The first 9 bytes of a file: the last of them is `{` in safetensors. Nothing of what is no file."""
    if not path.is_file():  # a pipe would wait for ever
        return b""
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError:
        return b""


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    return _opened(path, lambda file: ({key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}))  # noqa: SIM118


def _opened(path: Path, use: Callable[[Any], T]) -> T:
    """What `use` makes of an open safetensors file. Raises `UserError` for anything else, saying what it is."""
    if path.is_dir():
        there = sorted(file.name for file in path.glob("*.safetensors"))
        raise UserError(f"{path}: a folder; give the file in it ({', '.join(there) or 'there is none'})")
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return use(file)
    except Exception as error:  # a damaged header can fail in any way
        start = _start(path)
        if start.startswith(_PICKLED) and start[8:9] != b"{":
            raise UserError(
                f"{path}: a file of torch.save, not of dgnet; published checkpoints are read by `dgnet weights import`"
            ) from error
        raise UserError(f"{path}: damaged, or not a safetensors file ({shown(str(error))})") from error


def _read_pickled(path: Path) -> dict[str, Tensor]:
    _require_file(path)
    try:
        with path.open("rb") as file:  # not by its name, whose ending torch.load would go by
            tree: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        if forbidden := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: refused, since it wants to call {shown(forbidden[1])}; only plain tensors are read"
            ) from error
        raise UserError(f"{path}: damaged, or not a PyTorch file of plain tensors") from error
    if not (tensors := flat(tree)):
        held = listed(map(str, tree)) if isinstance(tree, dict) else type(tree).__name__
        raise UserError(f"{path}: holds no named tensors, but {held or 'nothing'}")
    return tensors


def _require_file(path: Path) -> None:
    """Raises `UserError` where there is no file to read: nothing, a pipe, or one that may not be read."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: not a file; weights are read from a file on disk")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
