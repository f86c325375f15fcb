"""Photos in the memory of a device, where batches are taken from them without a way through the host."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgnet.images.store import Images, Indices

_CHUNK = 512  # images that are sent at once: bounds what is held twice


class Resident:
    """All of `images` on `device`: `resident[indices]` is uint8 [n, H, W, 3] there, equal to `images[indices]`."""

    def __init__(self, images: Images, device: torch.device) -> None:
        first = images[np.arange(1)]
        self.pixels = torch.empty((len(images), *first.shape[1:]), dtype=torch.uint8, device=device)
        for places in np.array_split(np.arange(len(images)), -(-len(images) // _CHUNK)):
            self.pixels[places[0] : places[-1] + 1] = images[places].to(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, indices: Indices) -> Tensor:
        index = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        if self.pixels.is_cuda:
            index = index.pin_memory().to(self.pixels.device, non_blocking=True)
        return self.pixels.index_select(0, index)


def bytes_of(images: Images) -> int:
    """What all of them take in memory."""
    return len(images) * images[np.arange(1)].numel()
