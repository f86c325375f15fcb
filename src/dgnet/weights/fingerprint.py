"""Which network made a feature, or a picture: what galleries, thresholds and generated folders are bound to."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

from dgnet.config import Config
from dgnet.models.dgnet import DGNet


def fingerprint(net: nn.Module, config: Config) -> str:
    """SHA-256 of all that a feature depends on: the weights that embed, the size seen, and the halves' weighing.

    Two models with the same fingerprint give the same features, up to rounding; the generator does not count.
    """
    joint = isinstance(net, DGNet)
    seen = config.model.appearance if joint else config.teacher
    about = {
        "size": [config.data.height, config.data.width],
        "alpha": config.evaluate.alphas[0] if joint else None,
        "stride": seen.last_stride,
        "enlarge": getattr(seen, "enlarge", None),
    }
    digest = hashlib.sha256(json.dumps(about).encode())
    _take_in(digest, net.appearance if isinstance(net, DGNet) else net)
    return digest.hexdigest()


def weights_hash(net: nn.Module) -> str:
    """SHA-256 of all weights, which stays when their file gets a threshold and with it another hash."""
    digest = hashlib.sha256()
    _take_in(digest, net)
    return digest.hexdigest()


def _take_in(digest: Any, net: nn.Module) -> None:
    for key, tensor in sorted(net.state_dict().items()):
        if not key.endswith("num_batches_tracked"):  # which nothing reads
            plain = tensor.detach().cpu().float().contiguous()
            digest.update(f"{key} {list(plain.shape)}".encode())
            digest.update(plain.numpy().data)


def state(net: nn.Module) -> tuple[tuple[int, int, float], ...]:
    """Another value where weights that embed have been changed, replaced or moved since: quick, unlike `fingerprint`.

    Of each tensor where it lies, how often it was written to, and its sum: writing through `.data` is not counted.
    """
    seen = net.appearance if isinstance(net, DGNet) else net
    tensors = (*seen.parameters(), *seen.buffers())
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version, float(t.detach().sum(dtype=torch.float64)))
                 for t in tensors)  # fmt: skip
