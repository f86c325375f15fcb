"""The decoder's short cuts give what the plain computation gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dgnet.models.decoder import Decoder, UpsampleConv, upsampled_convolution


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 5), (8, 4), (26, 21)])
def test_an_upsampled_convolution_is_the_convolution_of_the_upsampled_map(height: int, width: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(F.pad(F.interpolate(x, scale_factor=2), (2, 2, 2, 2), mode="reflect"), weight, bias)
    quick = upsampled_convolution(x, weight, bias)
    torch.testing.assert_close(quick, plain, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(plain.sin().sum(), (x, weight, bias))
    for ours, theirs in zip(torch.autograd.grad(quick.sin().sum(), (x, weight, bias)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_small_and_large_maps_take_different_ways_to_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = UpsampleConv(2, 3).double()
    called = []
    monkeypatch.setattr(
        "dgnet.models.decoder.upsampled_convolution", lambda *a: called.append(1) or upsampled_convolution(*a)
    )
    large = torch.randn(1, 2, 32, 17, dtype=torch.float64)
    whole, part = layer(large), large[:, :, :16]
    layer(part)
    assert called == [1]
    assert whole.shape == (1, 3, 64, 34)


def test_one_structure_in_several_appearances_is_painted_as_one_by_one() -> None:
    torch.manual_seed(0)
    decoder = Decoder(16, 24, mlp_width=8, residual_blocks=2, non_local=True).double()
    s, f = torch.randn(2, 16, 8, 4, dtype=torch.float64), torch.randn(6, 24, dtype=torch.float64)
    at_once = decoder(s, f)
    torch.testing.assert_close(at_once, torch.cat([decoder(s, part) for part in f.chunk(3)]), rtol=1e-12, atol=1e-12)
