"""Features with their labels: what every ranking starts from, and the `.npz` file they are exchanged in."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgnet.errors import UserError
from dgnet.files import replacing

Ids = NDArray[np.int64]
PARTS = ("query", "gallery", "multi_query")


@dataclass(frozen=True)
class Features:
    """Features `[N, D]` (torch or NumPy, floating point) with `identities [N]` and `cameras [N]`.

    Identity -1 is junk (left out of every gallery). A camera of -1 is unknown: nothing is then left out for being seen
    by the same camera. Raises UserError where shapes do not fit or a feature is not a finite number.
    """

    features: Tensor | NDArray[np.floating]
    identities: Ids
    cameras: Ids

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise UserError(f"features have shape {list(self.features.shape)}: [images, dimensions] is needed")
        for name in ("identities", "cameras"):
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
        return Features(features, self.identities[rows], self.cameras[rows])


@dataclass(frozen=True)
class FeatureSet:
    """Queries, gallery and, for multi-query evaluation, all images of each query's identity and camera."""

    query: Features
    gallery: Features
    multi_query: Features | None = None

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
        keep = self.gallery.identities != -1
        if not keep.any():
            raise UserError("every gallery entry is junk (identity -1): nothing is left to rank")
        return self if keep.all() else replace(self, gallery=self.gallery.subset(keep))

    def label_hash(self) -> str:
        """SHA-256 of all identities and cameras in their order: equal for equal queries against an equal gallery."""
        digest = hashlib.sha256()
        for part in (self.query, self.gallery):
            digest.update(str(len(part)).encode() + part.identities.tobytes() + part.cameras.tobytes())
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


def load_features(path: Path) -> FeatureSet:
    """Read a `.npz` file: `query_features [N, D]`, `query_ids [N]`, `query_cameras [N]`, and the same for `gallery_`.

    `multi_query_` arrays are read where present. Cameras may be missing (then unknown, -1). Nothing is unpickled.
    Raises UserError naming file and array.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with loaded as file:
            arrays = {key: file[key] for key in file.files if key.startswith(PARTS)}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable .npz file of plain arrays ({error})") from error

    def part(name: str) -> Features:
        for kind in ("features", "ids"):
            if f"{name}_{kind}" not in arrays:
                found = ", ".join(sorted(arrays)) or "none of the expected arrays"
                raise UserError(f"{path}: array '{name}_{kind}' is missing (found: {found})")
        features, identities = arrays[f"{name}_features"], arrays[f"{name}_ids"]
        cameras = arrays.get(f"{name}_cameras", np.full(len(features) if features.ndim else 0, -1))
        try:
            return Features(features, identities, cameras)
        except UserError as error:
            raise UserError(f"{path}: {name}: {error}") from error

    several = part("multi_query") if any(key.startswith("multi_query_") for key in arrays) else None
    try:
        return FeatureSet(part("query"), part("gallery"), several)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(str(path)) else f"{path}: {message}") from error


def save_features(feature_set: FeatureSet, path: Path, *, half: bool = False) -> None:
    """Write the file that `load_features` reads: features as float32, or float16 with `half`. All or nothing."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, part in feature_set.parts():
        arrays[f"{name}_features"] = part.tensor().detach().cpu().to(torch.float16 if half else torch.float32).numpy()
        arrays[f"{name}_ids"] = part.identities
        if (part.cameras != -1).any():
            arrays[f"{name}_cameras"] = part.cameras
    with replacing(path) as new, new.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
