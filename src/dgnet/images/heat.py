"""Photos under a map of shares: what speaks for something in orange, against it in blue."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FOR, AGAINST = (255.0, 122.0, 0.0), (20.0, 90.0, 255.0)  # told apart by all kinds of colour vision
STRONGEST = 0.8  # how much of the photo the largest share covers


def overlay(photos: Tensor, shares: Tensor) -> Tensor:
    """Photos uint8 [N, H, W, 3] in gray, tinted by shares [N, h, w] of any size: uint8 [N, H, W, 3].

    The share that is largest in a photo, whatever its sign, has the full colour; 0 has none.
    """
    size = (photos.shape[1], photos.shape[2])
    fine = F.interpolate(shares[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]
    most = fine.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    strength = (STRONGEST * fine.abs() / most)[..., None]
    luma = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
    gray = (photos.float() @ luma)[..., None]
    colour = torch.where((fine > 0)[..., None], torch.tensor(FOR), torch.tensor(AGAINST))
    return (gray * (1 - strength) + colour * strength).round().clamp(0, 255).byte()
