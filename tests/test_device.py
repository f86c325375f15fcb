"""What float32 means on a GPU is said, and only for as long as it is said."""

from __future__ import annotations

import pytest
import torch

from dgnet.device import float32_as

MATRICES, CONVOLUTIONS = torch.backends.cuda.matmul, torch.backends.cudnn.conv


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("benchmark", [True, False])
def test_tf32_and_cudnns_trials_are_as_said_inside_and_as_before_outside(tf32: bool, benchmark: bool) -> None:
    def now() -> tuple[str, str, bool]:
        return MATRICES.fp32_precision, CONVOLUTIONS.fp32_precision, torch.backends.cudnn.benchmark

    before = now()
    wanted = "tf32" if tf32 else "ieee"
    with float32_as(tf32=tf32, benchmark=benchmark):
        assert now() == (wanted, wanted, benchmark)
    assert now() == before
