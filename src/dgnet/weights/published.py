"""The published checkpoints: their key names in ours, in both directions, and their import.

A run of the published implementation leaves `gen_*.pt` (E_s and G), `id_*.pt` (E_a) and `dis_*.pt` (D), each with its
state dict under the key `a`, and `config.yaml`. Its teacher is a bare state dict, `net_last.pth`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from torch import Tensor, nn

from dgnet import config as configuration
from dgnet import console
from dgnet.errors import UserError
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.weights import published_config
from dgnet.weights.files import (
    CLASSIFIER,
    Kind,
    in_words,
    mismatches,
    read_tensors,
    require_finite,
    rows,
    save_model,
    with_counters,
)
from dgnet.weights.foreign import SHOWN, listed, network

File = Literal["gen", "id", "dis", "teacher"]
T = TypeVar("T")

# How a published key begins, and how ours does: {i+1} stands for a number, here one more than {i} on the other side.
# The first line that fits is taken, in either direction.
KEYS: dict[File, list[tuple[str, str]]] = {
    "gen": [
        ("enc_content.model.4.model.{i}.nonloc.", "structure.residual.{i}.nonloc."),
        ("enc_content.model.4.model.{i}.model.0.nonloc.", "structure.residual.{i}.nonloc."),
        ("enc_content.model.4.model.{i}.model.0.conv.", "structure.residual.{i}.first."),
        ("enc_content.model.4.model.{i}.model.1.conv.", "structure.residual.{i}.second."),
        ("enc_content.model.5.conv1.conv.", "structure.pyramid.point."),
        ("enc_content.model.5.conv6.{k}.conv.", "structure.pyramid.dilated.0.{k}."),
        ("enc_content.model.5.conv12.{k}.conv.", "structure.pyramid.dilated.1.{k}."),
        ("enc_content.model.5.conv18.{k}.conv.", "structure.pyramid.dilated.2.{k}."),
        ("enc_content.model.5.fuse.conv.", "structure.pyramid.fuse."),
        ("enc_content.model.{i}.conv.", "structure.stem.{i}."),
        ("dec.model.1.model.{i}.nonloc.", "decoder.residual.{i}.nonloc."),
        ("dec.model.1.model.{i}.model.0.nonloc.", "decoder.residual.{i}.nonloc."),
        ("dec.model.1.model.{i}.model.0.conv.", "decoder.residual.{i}.first."),
        ("dec.model.1.model.{i}.model.1.conv.", "decoder.residual.{i}.second."),
        ("dec.model.3.norm.", "decoder.upsample.0.norm."),
        ("dec.model.3.conv.", "decoder.upsample.0."),
        ("dec.model.5.norm.", "decoder.upsample.1.norm."),
        ("dec.model.5.conv.", "decoder.upsample.1."),
        ("dec.model.{i+6}.conv.", "decoder.paint.{i}."),
        ("mlp_w{i+1}.model.{k}.fc.", "decoder.scales.{i}.layers.{k}."),
        ("mlp_b{i+1}.model.{k}.fc.", "decoder.shifts.{i}.layers.{k}."),
    ],
    "id": [
        ("model.", "appearance.backbone."),
        ("classifier{i+1}.add_block.0.", "appearance.heads.{i}.reduce."),
        ("classifier{i+1}.add_block.1.", "appearance.heads.{i}.norm."),
        ("classifier{i+1}.classifier.0.", "appearance.heads.{i}.classify."),
        ("classifier.add_block.0.", "appearance.heads.0.reduce."),
        ("classifier.add_block.1.", "appearance.heads.0.norm."),
        ("classifier.classifier.0.", "appearance.heads.0.classify."),
    ],
    "dis": [
        ("cnns.{i}.{k}.nonloc.", "discriminator.scales.{i}.{k}.nonloc."),
        ("cnns.{i}.{k}.model.0.nonloc.", "discriminator.scales.{i}.{k}.nonloc."),
        ("cnns.{i}.{k}.model.0.conv.", "discriminator.scales.{i}.{k}.first."),
        ("cnns.{i}.{k}.model.1.conv.", "discriminator.scales.{i}.{k}.second."),
        ("cnns.{i}.{k}.conv.", "discriminator.scales.{i}.{k}."),
        ("cnns.{i}.{k}.", "discriminator.scales.{i}.{k}."),
        ("cnn.{i}.conv.", "discriminator.layers.{2i}."),
        ("cnn.{i}.", "discriminator.layers.{2i}."),
    ],
    "teacher": [
        ("model.", "backbone."),
        ("classifier.add_block.0.", "head.reduce."),
        ("classifier.add_block.1.", "head.norm."),
        ("classifier.classifier.0.", "head.classify."),
    ],
}
# What each file's network has that no other has: there it begins, whatever stands before its names.
LANDMARKS: dict[File, tuple[str, ...]] = {
    "gen": ("enc_content.model.0.conv.weight",),
    "id": ("model.layer1.0.conv1.weight",),
    "dis": ("cnns.0.0.conv.weight", "cnn.0.conv.weight"),
    "teacher": ("model.layer1.0.conv1.weight",),
}
JOINT: tuple[File, ...] = ("gen", "id", "dis")
PARTS: dict[File, tuple[str, ...]] = {  # what a file holds, as our keys begin
    "gen": ("structure.", "decoder."),
    "id": ("appearance.",),
    "dis": ("discriminator.",),
    "teacher": ("backbone.", "head."),
}
# Published tensors that no network reads: ImageNet's classifier, and running statistics of norms that are never in use.
UNUSED = re.compile(r"model\.fc\.|dec\..*\.norm\.running_")


def from_published(file: File, tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of a published file under our names; unknown keys keep theirs."""
    return {_renamed(key, KEYS[file]): tensor for key, tensor in tensors.items() if not UNUSED.match(key)}


def to_published(file: File, tensors: Mapping[str, T]) -> dict[str, T]:
    """The inverse of `from_published`: our tensors of one file's networks, under its names, without `UNUSED` ones."""
    back = [(ours, theirs) for theirs, ours in KEYS[file]]
    named = {_renamed(key, back): tensor for key, tensor in tensors.items()}
    if file == "id" and not any(key.startswith("classifier2.") for key in named):
        named = {re.sub(r"^classifier1\.", "classifier.", key): tensor for key, tensor in named.items()}
    if file == "dis":  # the last convolution, which gives the score, is a bare one
        wrapped = re.compile(r"(cnns?\.(?:\d+\.)?(\d+)\.)conv\.")
        last = max((int(match[2]) for key in named if (match := wrapped.match(key))), default=-1)
        named = {
            wrapped.sub(lambda match: match[1] if int(match[2]) == last else match[0], key): tensor
            for key, tensor in named.items()
        }
    return named


def import_published(
    source: str | Path | Sequence[str | Path], out: str | Path, overrides: Sequence[str] = (), *, partial: bool = False
) -> Path:
    """Make a `model.safetensors`, or of a `net_last.pth` a `teacher.safetensors`, from published checkpoints.

    Sizes, classes, heads and attention come from the tensors; losses, schedule and image size from `config.yaml` where
    there is one. A teacher's files don't tell the stride of its last stage: it is 2 unless `overrides` say otherwise.

    Args:
        source: the folder of a run (its newest iteration is taken), or the files themselves.
        out: the folder to write to, or a file ending in .safetensors.
        overrides: `key.path=value` of our configuration; they have the last word.
        partial: take what fits and leave the rest as it is initialised, each named in a warning, instead of raising.

    Returns:
        The file that was written. It does not know which identity is which class.

    Raises:
        UserError: a file is missing, or tensors do not fit; these are named key by key.
    """
    files, described = _find([source] if isinstance(source, str | Path) else source)
    folder = next(iter(files.values())).parent
    kind: Kind = "teacher" if "teacher" in files else "joint"
    absent = [file for file in JOINT if file not in files] if kind == "joint" else []
    if absent and not (partial and absent == ["dis"]):
        hint = _HINT if absent == ["dis"] else ""
        raise UserError(f"{folder}: {', '.join(f'{file}_*.pt' for file in absent)} of the same iteration missing{hint}")

    found, labels = _read(files)
    told = published_config.settings(described) if described else {}
    try:
        told |= published_config.joint_sizes(found) if kind == "joint" else published_config.teacher_sizes(found)
        config = configuration.load("market1501", [*published_config.as_overrides(told), *overrides])
    except UserError as error:
        raise UserError(f"{folder}, in our terms: {error}") from error
    classifier = found.get(CLASSIFIER[kind])
    build: Callable[..., nn.Module] = DGNet if kind == "joint" else build_baseline
    net = build(config, rows(classifier) or 1)

    needed = {
        key: t for key, t in net.state_dict().items() if key.startswith(tuple(p for f in files for p in PARTS[f]))
    }
    wrong = mismatches(needed, with_counters(needed, found))
    labels = {**_labels(files, needed), **labels}
    named = [(labels[key], what) for key, what in wrong]
    if wrong and not partial:
        for key, what in named if len(named) > SHOWN else ():
            console.notice(f"{key} {what}")
        raise UserError(f"{folder}: {in_words(named)}{_HINT}")
    for key, what in named:
        console.warn(f"not imported: {key} {what}")
    if absent:
        console.warn("not imported: the discriminator, for want of a dis_*.pt")
    misfits = {key for key, _ in wrong}
    fitting = {key: tensor for key, tensor in found.items() if key not in misfits}
    require_finite(folder, {labels[key]: tensor for key, tensor in fitting.items()})
    net.load_state_dict(fitting, strict=False)

    target = Path(out)
    if target.suffix != ".safetensors":
        target /= "model.safetensors" if kind == "joint" else "teacher.safetensors"
    save_model(target, net, config, kind, [])
    return target


_HINT = "; `partial` imports what is there"


def _read(files: Mapping[File, Path]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of all files under our names, and what to call each in a message: its file and its published name."""
    found: dict[str, Tensor] = {}
    labels: dict[str, str] = {}
    for file, path in files.items():
        tensors = _own(file, path)
        for ours, key in from_published(file, {key: key for key in tensors}).items():
            found[ours] = tensors[key].float() if tensors[key].is_floating_point() else tensors[key]
            labels[ours] = f"{path.name}: {key}"
    return found, labels


def _own(file: File, path: Path) -> dict[str, Tensor]:
    """The tensors of a published file under its own names, whatever stood before them.

    Raises `UserError` where none of them is like those of such a file.
    """
    tensors = read_tensors(path)
    for landmark in LANDMARKS[file]:
        if own := network(tensors, landmark, path):
            return own
    if not any(_renamed(key, KEYS[file]) != key for key in tensors):
        raise UserError(f"{path}: not published (no {LANDMARKS[file][0]}); its tensors are {listed(tensors)}")
    return {key.removeprefix("module."): tensor for key, tensor in tensors.items()}


def _labels(files: Mapping[File, Path], needed: Mapping[str, Tensor]) -> dict[str, str]:
    """What to call each tensor that the networks need: the file that should hold it, and its published name."""
    labels: dict[str, str] = {}
    for file, path in files.items():
        own = {key: key for key in needed if key.startswith(PARTS[file])}
        labels |= {key: f"{path.name}: {name}" for name, key in to_published(file, own).items()}
    return labels


def _find(given: Sequence[str | Path]) -> tuple[dict[File, Path], Path | None]:
    """The checkpoints among `given` (files, or runs' folders) that belong together, and the config.yaml beside them."""
    there: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            there += [inner for folder in (path, path / "checkpoints") for inner in sorted(folder.glob("*.pt*"))]
        elif path.is_file():
            there.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    iterations: dict[int, dict[File, Path]] = {}
    for path in there:
        for file in JOINT:
            if match := re.fullmatch(rf"{file}\D*(\d*)\.pt", path.name):
                iterations.setdefault(int(match[1] or 0), {})[file] = path
    teachers = sorted((path for path in there if path.suffix == ".pth"), key=lambda path: path.name == "net_last.pth")
    if iterations:
        complete = [number for number, files in iterations.items() if len(files) == len(JOINT)]
        files = iterations[max(complete or iterations)]
    elif teachers:
        return {"teacher": teachers[-1]}, None
    else:
        where = ", ".join(map(str, given))
        raise UserError(f"{where}: no gen_*.pt, id_*.pt and dis_*.pt there, nor a teacher's net_last.pth")
    folder = next(iter(files.values())).parent
    beside = [folder / "config.yaml", folder.parent / "config.yaml"]
    described = [path for path in there if path.suffix == ".yaml"] + [path for path in beside if path.is_file()]
    return files, described[0] if described else None


_FIELD = re.compile(r"\{(\d*)(\w)(?:\+(\d+))?\}")  # {i}, {i+6}, {2i}


def _renamed(key: str, rules: Sequence[tuple[str, str]]) -> str:
    """`key` with its beginning rewritten by the first pair of templates whose left one fits it."""
    for given, wanted in rules:
        match = _pattern(given).match(key)
        numbers = _numbers(given, match.groups()) if match else None
        if match and numbers is not None:
            return _filled(wanted, numbers) + key[match.end() :]
    return key


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(_FIELD.sub(r"(\\d+)", template.replace(".", r"\.")))


def _numbers(template: str, digits: Sequence[str]) -> dict[str, int] | None:
    """What the letters of `template` stand for, i = 2 for {i+6} and "8"; None where no number fits."""
    numbers = {}
    for (factor, letter, offset), text in zip(_FIELD.findall(template), digits, strict=True):
        numbers[letter], rest = divmod(int(text) - int(offset or 0), int(factor or 1))
        if rest or numbers[letter] < 0:
            return None
    return numbers


def _filled(template: str, numbers: Mapping[str, int]) -> str:
    return _FIELD.sub(lambda field: str(int(field[1] or 1) * numbers[field[2]] + int(field[3] or 0)), template)
