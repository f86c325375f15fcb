"""Features with their labels: what every ranking starts from, and the `.npz` file they are exchanged in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet import console
from dgnet.errors import UserError
from dgnet.files import expanded, replacing
from dgnet.labels import JUNK, LARGEST, NOTHING, NUMBER, SPECIAL, UNKNOWN_CAMERA, meaning, one_number_once

Ids = NDArray[np.int64]
PARTS = ("query", "gallery", "multi_query")


@dataclass(frozen=True)
class Features:
    """Features `[N, D]` (torch or NumPy, floating point) with `identities [N]` and `cameras [N]`.

    Identity -1 is junk (left out of every gallery). A camera of -1 is unknown: nothing is then left out for being seen
    by the same camera. `clothes [N]`, numbers of any kind, -1 where unknown, are there where photos of a person in the
    query's clothes are to be left out, too. Raises UserError where shapes do not fit or a feature is not finite.
    """

    features: Tensor | NDArray[np.floating]
    identities: Ids
    cameras: Ids
    clothes: Ids | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or (len(self.features) and not self.features.shape[1]):
            raise UserError(f"features have shape {list(self.features.shape)}: [images, dimensions] is needed")
        for name in ("identities", "cameras", *["clothes"] * (self.clothes is not None)):
            labels = np.asarray(getattr(self, name))
            if labels.shape != (len(self.features),):
                raise UserError(f"{name} have shape {list(labels.shape)}, but there are {len(self.features)} features")
            if not np.issubdtype(labels.dtype, np.integer):
                raise UserError(f"{name} are of type {labels.dtype}: integers are needed")
            object.__setattr__(self, name, labels.astype(np.int64))
        kind = self.features.dtype
        if not (kind.is_floating_point if isinstance(kind, torch.dtype) else np.issubdtype(kind, np.floating)):
            raise UserError(f"features are of type {kind}: float16, float32 or float64 is needed")
        sums = self.tensor().sum(1)  # NaN or infinity wherever one of its terms is
        for row in torch.isfinite(sums).logical_not().nonzero().flatten().tolist():
            if not torch.isfinite(self.tensor()[row]).all():
                raise UserError(f"feature {row} (counted from 0) contains NaN or infinity: finite numbers are needed")

    def __len__(self) -> int:
        return len(self.features)

    def tensor(self) -> Tensor:
        """The features as a tensor `[N, D]` that shares their memory."""
        return torch.as_tensor(self.features)

    def subset(self, indices: NDArray[np.integer] | NDArray[np.bool_]) -> Features:
        """The rows that an index array or a boolean mask picks."""
        rows = np.flatnonzero(indices) if indices.dtype == bool else indices
        features = self.features[torch.as_tensor(rows)] if isinstance(self.features, Tensor) else self.features[rows]
        clothes = None if self.clothes is None else self.clothes[rows]
        return Features(features, self.identities[rows], self.cameras[rows], clothes)


def joined(several: Sequence[Features]) -> Features:
    """All of them, one behind the other; of none, [0, 1]."""
    some = [part for part in several if len(part)]
    if not some:
        return Features(torch.empty(0, 1), np.empty(0, np.int64), np.empty(0, np.int64))
    worn = [part.clothes for part in some if part.clothes is not None]
    return Features(
        torch.cat([part.tensor() for part in some]),
        np.concatenate([part.identities for part in some]),
        np.concatenate([part.cameras for part in some]),
        np.concatenate(worn) if len(worn) == len(some) else None,
    )


@dataclass(frozen=True)
class FeatureSet:
    """Queries, gallery and, for multi-query evaluation, all images of each query's identity and camera."""

    query: Features
    gallery: Features
    multi_query: Features | None = None
    camera_words: Mapping[int, str] = field(default_factory=dict)
    """What cameras are called, where they have names."""

    def __post_init__(self) -> None:
        for name, part in self.parts():
            if len(part) == 0:
                raise UserError(f"{name} holds no features: at least one is needed")
            if part.features.shape[1] != self.query.features.shape[1]:
                raise UserError(
                    f"{name} features have {part.features.shape[1]} dimensions, "
                    f"query features {self.query.features.shape[1]}: they must be equal"
                )

    def parts(self) -> Iterator[tuple[str, Features]]:
        """The parts that are there, by name."""
        for name in PARTS:
            part = getattr(self, name)
            if part is not None:
                yield name, part

    def without_junk(self) -> FeatureSet:
        """The same with the gallery's junk (identity -1) left out."""
        keep = self.gallery.identities != JUNK
        if not keep.any():
            raise UserError("every gallery entry is junk (identity -1): nothing is left to rank")
        return self if keep.all() else replace(self, gallery=self.gallery.subset(keep))

    def without_cameras(self) -> FeatureSet:
        """The same with every camera unknown, so that nothing is left out for its camera."""
        parts: dict[str, Any] = {}
        for name, part in self.parts():
            parts[name] = replace(part, cameras=np.full(len(part), UNKNOWN_CAMERA))
        return replace(self, **parts)

    def label_hash(self) -> str:
        """SHA-256 of all identities and cameras in their order: equal for equal queries against an equal gallery."""
        digest = hashlib.sha256()
        for part in (self.query, self.gallery):
            digest.update(str(len(part)).encode() + part.identities.tobytes() + part.cameras.tobytes())
            digest.update(b"" if part.clothes is None else part.clothes.tobytes())
        return digest.hexdigest()

    def feature_hash(self) -> str:
        """SHA-256 of the features themselves, with their types and shapes."""
        digest = hashlib.sha256()
        for name, part in self.parts():
            values = part.tensor()
            digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
            for rows in torch.split(values, 4096):
                digest.update(rows.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def pool_queries(feature_set: FeatureSet, how: Literal["mean", "max"]) -> FeatureSet:
    """Replace each query's feature by the mean or the element-wise maximum over its identity and camera.

    The images are those of `multi_query` (Market-1501: gt_bbox; Zheng et al., ICCV 2015). The pooled feature is *not*
    brought back to unit length. Raises UserError where `multi_query` is missing or has no image for some query.
    """
    if how not in ("mean", "max"):
        raise UserError(f"multi_query is {how!r}: 'mean' or 'max' would be right")
    query, several = feature_set.query, feature_set.multi_query
    if several is None:
        raise UserError("multi-query evaluation needs multi_query features, and there are none")
    members: dict[tuple[int, int], list[int]] = {}
    for index, key in enumerate(zip(several.identities.tolist(), several.cameras.tolist(), strict=True)):
        members.setdefault(key, []).append(index)
    values = several.tensor()
    pooled: dict[tuple[int, int], Tensor] = {}
    keys = list(zip(query.identities.tolist(), query.cameras.tolist(), strict=True))
    for index, key in enumerate(keys):
        if key not in members:
            raise UserError(f"query {index} (identity {key[0]}, camera {key[1]}) has no image in multi_query")
        if key not in pooled:
            images = values[torch.as_tensor(members[key], device=values.device)].double()
            pooled[key] = images.mean(0) if how == "mean" else images.amax(0)
    features = torch.stack([pooled[key] for key in keys])
    return replace(feature_set, query=replace(query, features=features))


def load_features(path: Path, *, changed_clothes: bool = False) -> FeatureSet:
    """Read a `.npz` file: `query_features [N, D]`, `query_ids [N]`, `query_cameras [N]`, and the same for `gallery_`.

    `multi_query_` arrays are read where present. Cameras may be missing (then unknown, -1). Identities and cameras are
    whole numbers, or words: a word `junk` is -1, `distractor` 0, an empty camera unknown; numbers are compared as
    numbers, however they are written. Nothing is unpickled. Says so where an array is not used, features are
    zero throughout, or cameras are known of one side alone. With `changed_clothes`, `query_clothes` and
    `gallery_clothes` are read, too, and photos of a person in the query's clothes do not count.
    Raises UserError naming file and array.
    """
    path = expanded(path)
    arrays = _arrays_of(path, changed_clothes)
    parts = [name for name in PARTS if name != "multi_query" or any(key.startswith("multi_query_") for key in arrays)]
    for name in parts:
        for kind in ("features", "ids"):
            if f"{name}_{kind}" not in arrays:
                found = ", ".join(sorted(arrays)) or "none of the expected arrays"
                raise UserError(f"{path}: array '{name}_{kind}' is missing (found: {found})")
    if ("query_cameras" in arrays) != ("gallery_cameras" in arrays):
        console.warn(f"{path}: cameras of query or gallery alone: nothing can be left out for its camera")
    try:
        people, _ = _numbered(arrays, "ids", parts, SPECIAL)
        unknown_words = dict.fromkeys(["", *NOTHING, "-1"], UNKNOWN_CAMERA)
        cameras, words = _numbered(arrays, "cameras", parts, unknown_words)
        clothes, _ = _numbered(arrays, "clothes", parts, unknown_words)
        if changed_clothes and not {"query", "gallery"} <= clothes.keys():
            raise UserError("--changed-clothes: the arrays query_clothes and gallery_clothes are needed")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error

    def part(name: str) -> Features:
        features: Any = arrays[f"{name}_features"]
        if features.dtype.kind == "f":
            kind = np.float64 if features.dtype.itemsize > 8 else features.dtype.newbyteorder("=")
            with np.errstate(over="ignore"):  # infinity is told below
                features = features.astype(kind, copy=False)
        unknown = np.full(len(features) if features.ndim else 0, UNKNOWN_CAMERA)
        try:
            return Features(features, people[name], cameras.get(name, unknown), clothes.get(name))
        except UserError as error:
            raise UserError(f"{path}: {name}: {error}") from error

    read = {name: part(name) for name in parts}
    for name, given in read.items():
        if blank := int((given.tensor() == 0).all(1).sum()):
            console.warn(f"{path}: {name}: {blank} of {len(given)} features are zero throughout, and are like nothing")
    try:
        return FeatureSet(read["query"], read["gallery"], read.get("multi_query"), words)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _arrays_of(path: Path, changed_clothes: bool) -> dict[str, NDArray[np.generic]]:
    kinds = ("features", "ids", "cameras", *["clothes"] * changed_clothes)
    known = {f"{part}_{kind}" for part in PARTS for kind in kinds}
    try:
        if path.exists() and not path.is_file():
            raise ValueError("a folder, a pipe or a device")
        with path.open("rb") as beginning:
            if beginning.read(2) not in (b"PK", b"\x93N"):
                raise ValueError("numpy.savez writes such files; this is another")
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with loaded as file:
            _check_names(file.zip)
            unused = sorted(set(file.files) - known)
            arrays = {key: file[key] for key in file.files if key in known}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except Exception as error:  # a damaged archive can fail in any way
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: not a readable .npz file of plain arrays ({why})") from error
    if unused:
        console.warn(f"{path}: arrays that are not used: {', '.join(unused)}")
    return arrays


def _check_names(archive: Any) -> None:
    """Raise where the list of an archive's files is damaged: it has no checksum, and an array could be missed."""
    for entry in archive.infolist():
        archive.open(entry).close()  # compares the name with that beside the data
        if entry.comment or entry.orig_filename != entry.filename:
            raise ValueError("the list of its arrays is damaged")


def _numbered(
    arrays: Mapping[str, NDArray[np.generic]], kind: str, parts: Sequence[str], special: Mapping[str, int]
) -> tuple[dict[str, Ids], dict[int, str]]:
    """The ids or cameras of every part as numbers, the same in all, and the words that they stand for.

    Whole numbers, written as such, as floats or as words, keep their value; other words are numbered from 1.
    """
    said = {name: arrays[f"{name}_{kind}"] for name in parts if f"{name}_{kind}" in arrays}
    whole: dict[str, Ids] = {}
    for name, labels in said.items():
        if labels.dtype.kind not in "iufUS":
            raise UserError(f"{name}: {kind} are of type {labels.dtype}: whole numbers or words are needed")
        if labels.ndim != 1:
            raise UserError(f"{name}: {kind} have shape {list(labels.shape)}: [images] is needed")
        if labels.dtype.kind in "iuf":
            whole[name] = _whole(name, kind, labels)
    if len(whole) == len(said):
        return whole, {}
    text = {
        name: [str(number) for number in whole[name].tolist()] if name in whole else _words(name, kind, labels)
        for name, labels in said.items()
    }
    for name, said_words in text.items():
        for place, word in enumerate(said_words):
            if word not in special and (word == "" or word in (*NOTHING, "NaN", "None")):
                raise UserError(f"{name}: {kind} hold {word!r} at place {place} (counted from 0): who is that?")
    words = set().union(*text.values())
    one_number_once(words, kind)
    number = {word: special[word.casefold()] for word in words if word.casefold() in special}
    ordinary = sorted(words - number.keys())
    if all(NUMBER.fullmatch(word) and abs(int(word)) < LARGEST for word in ordinary):
        number |= {word: int(word) for word in ordinary}
        names: dict[int, str] = {}
    else:
        names = dict(enumerate(ordinary, start=1))
        number |= {word: place for place, word in names.items()}
    return {name: np.array([number[word] for word in spelt], np.int64) for name, spelt in text.items()}, names


def _words(name: str, kind: str, labels: NDArray[np.generic]) -> list[str]:
    try:
        text = [bytes(word).decode() if isinstance(word, bytes) else str(word) for word in labels.tolist()]
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: {kind} hold bytes that are no UTF-8") from error
    return [meaning(word.strip()) for word in text]


def _whole(name: str, kind: str, labels: NDArray[np.generic]) -> Ids:
    values: Any = labels
    if values.dtype.kind == "f":
        if not (np.isfinite(values) & (values == np.round(values))).all():
            raise UserError(f"{name}: {kind} are not whole numbers: {values.ravel()[:3].tolist()} ...")
        limit = 2 ** min(np.finfo(values.dtype).nmant + 1, 62)  # beyond it, neighbours are one number
    else:
        limit = 2**62
    if len(values) and max(int(values.max()), -int(values.min())) >= limit:
        raise UserError(f"{name}: {kind} hold {values.max()}: as {values.dtype}, numbers below {limit} are needed")
    return np.asarray(values.astype(np.int64))


def save_features(feature_set: FeatureSet, path: Path, *, half: bool = False) -> None:
    """Write the file that `load_features` reads: features as float32, or float16 with `half`. All or nothing."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, part in feature_set.parts():
        values = part.tensor().detach().cpu().to(torch.float16 if half else torch.float32)
        if not torch.isfinite(values).all():
            raise UserError(f"{path}: {name} features hold numbers that are too large for {values.dtype}: scale them")
        arrays[f"{name}_features"] = values.numpy()
        arrays[f"{name}_ids"] = part.identities
        if (part.cameras != UNKNOWN_CAMERA).any():
            arrays[f"{name}_cameras"] = part.cameras
        if part.clothes is not None:
            arrays[f"{name}_clothes"] = part.clothes
    with replacing(path) as new, new.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
