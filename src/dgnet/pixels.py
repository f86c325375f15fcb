"""Pixels as every part of the program knows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Pictures [..., H, W, 3], RGB, 0 to 255."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB values in [0, 1]: a normalised image is (x - mean) / std."""
