"""A running mean of a network's weights, which ranks and paints more evenly than the last ones (EMA)."""

from __future__ import annotations

import copy

import torch
from torch import nn


class RunningMean:
    """`net` is the mean: after iteration t, mean <- d * mean + (1 - d) * weights, d = min(decay, (1 + t) / (10 + t)).

    Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017; the smaller d of the first iterations
    lets it forget the start. Running statistics are averaged, too; counters are taken over.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def follow(self, net: nn.Module, iteration: int) -> None:
        """Move towards `net` as it is after this iteration, counted from 1."""
        kept = min(self.decay, (1 + iteration) / (10 + iteration))
        for mean, tensor in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(tensor, 1 - kept)
            else:
                mean.copy_(tensor)
