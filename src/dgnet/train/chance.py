"""Where the random numbers of a training come from: every stream has a seed of its own, made of what it is for.

seed_of(seed, "joint")              of a training, from the configuration's; below it, each with that seed first:
seed_of(..., "weights")             initial weights
seed_of(..., "photos", 0)           of batches; below it "order", and "positive" and "augment" for batch number n,
                                    counted over all processes
seed_of(..., "layers", t, rank)     dropout in iteration t
seed_of(..., "images", t, rank)     random erasing, noise on edges
seed_of(..., "coin", t)             who is tuned by L_s, the same in every process
"""

from __future__ import annotations

import hashlib
import json

import torch


def seed_of(*parts: int | str) -> int:
    """A seed below 2^63 from numbers and words, such as (seed, "coin", iteration). Other parts, another seed."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8]) >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A generator of its own for what `parts` say."""
    return torch.Generator().manual_seed(seed_of(*parts))
