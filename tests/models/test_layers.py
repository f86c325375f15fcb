"""The shared layers: hand-worked norms and paddings, grouped statistics, and networks that are borrowed frozen."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.errors import UserError
from dgnet.models.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv,
    LayerNorm,
    NonLocal,
    frozen,
    full_precision,
    group_statistics,
    reflection_pad,
)

# Layer norm


@pytest.mark.parametrize("eps", [1e-5, 1.0])
def test_layer_norm_divides_by_the_unbiased_deviation_plus_eps(eps: float) -> None:
    layer = LayerNorm(2, eps)
    with torch.no_grad():
        layer.gamma.copy_(torch.tensor([2.0, 1.0]))
        layer.beta.copy_(torch.tensor([0.0, 0.5]))
    x = torch.tensor([[[[1.0, 2.0]], [[3.0, 6.0]]], [[[0.0, 0.0]], [[2.0, 2.0]]]])
    # Means 3 and 1; squared distances 4 + 1 + 0 + 9 = 14 and 1 + 1 + 1 + 1 = 4, each over 3.
    first, second = (14 / 3) ** 0.5 + eps, (4 / 3) ** 0.5 + eps
    expected = [[[[-4 / first, -2 / first]], [[0.5, 3 / first + 0.5]]], [[[-2 / second] * 2], [[1 / second + 0.5] * 2]]]
    torch.testing.assert_close(layer(x), torch.tensor(expected))


def test_layer_norm_starts_between_0_and_1() -> None:
    layer = LayerNorm(1000)
    lowest, highest = layer.gamma.detach().aminmax()
    assert 0 <= lowest < 0.1 < 0.9 < highest < 1
    assert not layer.beta.any()


# Padding and convolution


@pytest.mark.parametrize(
    ("row", "padding", "expected"),
    [
        ([0, 1, 2], 2, [2, 1, 0, 1, 2, 1, 0]),
        ([0, 1], 3, [1, 1, 1, 0, 1, 0, 0, 0]),  # reflected once, then the last pixel repeated
        ([5], 2, [5, 5, 5, 5, 5]),
    ],
)
def test_reflection_pad(row: list[float], padding: int, expected: list[float]) -> None:
    x = torch.tensor(row, dtype=torch.float32)
    square = x[:, None] + 10 * x[None, :]
    wanted = torch.tensor(expected, dtype=torch.float32)
    assert torch.equal(reflection_pad(square[None, None], padding)[0, 0], wanted[:, None] + 10 * wanted[None, :])


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (5, 1), (3, 9)])
def test_convolutions_keep_the_size(kernel: int, dilation: int) -> None:
    assert Conv(3, 4, kernel, dilation=dilation)(torch.randn(2, 3, 7, 5)).shape == (2, 4, 7, 5)


def test_convolution_is_padded_by_reflection_and_rectified() -> None:
    layer = Conv(1, 1, 3)
    with torch.no_grad():
        layer.weight.copy_(
            torch.tensor([[[[0.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]])
        )  # minus the left pixel
        layer.bias.fill_(2.5)
    x = torch.tensor([[1.0, 2.0, 3.0]] * 2)[None, None]
    # Left of 1 stands 2, mirrored: 2.5 - 2, 2.5 - 1, 2.5 - 2.
    torch.testing.assert_close(layer(x), torch.tensor([[0.5, 1.5, 0.5]] * 2)[None, None])
    torch.testing.assert_close(layer(2 * x), torch.tensor([[-0.3, 0.5, -0.3]] * 2)[None, None])  # 0.2 (2.5 - 4), ...


def test_the_bias_before_an_instance_norm_is_kept_and_has_no_part() -> None:
    layer = Conv(3, 4, 3, norm="instance")
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert set(layer.state_dict()) == {"weight", "bias"}
    x = torch.randn(2, 3, 8, 8)
    before = layer(x)
    layer.bias.fill_(7.0)
    assert torch.equal(layer(x), before)


def test_non_local() -> None:
    layer, x = NonLocal(16), torch.randn(2, 16, 3, 2)
    assert torch.equal(layer(x), x)  # gamma starts at 0
    with torch.no_grad():
        layer.gamma.fill_(2.0)
        layer.query_conv.weight.zero_()  # every position attends to all others alike
        layer.value_conv.weight.copy_(torch.eye(16)[..., None, None])
    torch.testing.assert_close(layer(x), x + 2 * x.mean((2, 3), keepdim=True))


def test_non_local_is_softmax_attention_over_key_positions() -> None:
    layer, x = NonLocal(16).double(), torch.randn(2, 16, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    query, key, value = (c(x).flatten(2) for c in (layer.query_conv, layer.key_conv, layer.value_conv))
    attention = torch.einsum("ncq,nck->nqk", query, key).softmax(2)
    attended = torch.einsum("nqk,nck->ncq", attention, value).view_as(x)
    torch.testing.assert_close(layer(x), 0.7 * attended + x)


def test_full_precision() -> None:
    for dtype, wide in {
        torch.float16: torch.float32,
        torch.bfloat16: torch.float32,
        torch.float32: torch.float32,
        torch.float64: torch.float64,
    }.items():
        assert full_precision(torch.zeros(1, dtype=dtype)).dtype == wide


# Statistics per group


def batch_norm(dimensions: int) -> tuple[nn.Module, nn.Module, Tensor]:
    """Ours, PyTorch's own with the same weights, and five samples."""
    ours = (BatchNorm2d if dimensions == 2 else BatchNorm1d)(3).double()
    theirs = (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm1d)(3).double()
    for tensor in ours.parameters():
        nn.init.normal_(tensor)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, torch.randn(5, 3, *([4, 2] if dimensions == 2 else []), dtype=torch.float64)


@pytest.mark.parametrize(
    ("dimensions", "group"),  # of five samples; a group of one vector would have no variance
    [(1, None), (1, 3), (1, 5), (1, 9), (2, None), (2, 2), (2, 3), (2, 5), (2, 9)],
)
def test_grouped_statistics_are_those_of_separate_calls(dimensions: int, group: int | None) -> None:
    ours, theirs, x = batch_norm(dimensions)
    group_statistics(ours, group)
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y_ours, y_theirs = ours(x_ours), torch.cat([theirs(part) for part in x_theirs.split(group or 5)])
    y_ours.pow(3).sum().backward()
    y_theirs.pow(3).sum().backward()

    torch.testing.assert_close(y_ours, y_theirs)
    torch.testing.assert_close(x_ours.grad, x_theirs.grad)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(ours.get_buffer(name), theirs.get_buffer(name))
    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, msg=name)


def test_evaluation_knows_no_groups() -> None:
    ours, theirs, x = batch_norm(2)
    group_statistics(ours, 2)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


# Frozen networks


class Small(nn.Module):
    """Everything that freezing must take care of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = BatchNorm1d(4)
        self.rest = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
        self.rest[1].weight.requires_grad_(False)
        self.rest.eval()
        self.rest[0].train()

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.norm(self.first(x)))


def state(net: nn.Module) -> tuple[object, ...]:
    return (
        {name: p.requires_grad for name, p in net.named_parameters()},
        {name: module.training for name, module in net.named_modules()},
        {name: id(tensor) for name, tensor in net.named_buffers()},
        {name: tensor.tolist() for name, tensor in net.state_dict().items()},
    )


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_frozen_leaves_everything_as_it_was(batch_statistics: bool) -> None:
    net, x = Small(), torch.randn(6, 3)
    before = state(net)
    with frozen(net, batch_statistics=batch_statistics):
        net(x)
        assert not any(p.requires_grad for p in net.parameters())
    assert state(net) == before
    with pytest.raises(RuntimeError), frozen(net, batch_statistics=batch_statistics):
        net(x[:, :2])
    assert state(net) == before
    net(x)
    assert state(net) != before  # the running statistics move again


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_frozen_is_a_deep_copy_without_the_copy(batch_statistics: bool) -> None:
    net, x = Small(), torch.randn(6, 3)
    twin = copy.deepcopy(net).eval()
    twin.norm.train(batch_statistics)
    through_twin, through_net = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted = twin(through_twin)
    wanted.square().sum().backward()
    with frozen(net, batch_statistics=batch_statistics):
        found = net(through_net)
    net(10 * torch.randn(6, 3))  # moves the running statistics before the backward pass
    found.square().sum().backward()

    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(through_net.grad, through_twin.grad)
    assert all(p.grad is None for p in net.parameters())


class Other(nn.BatchNorm1d):
    """A batch norm from elsewhere, with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp_min(0)


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(4), Other(4), nn.SyncBatchNorm(4), nn.BatchNorm1d(4, momentum=None),
             nn.BatchNorm1d(4, affine=False), nn.BatchNorm1d(4, track_running_stats=False)],
    ids=["plain", "derived", "synchronised", "cumulative", "without weights", "without statistics"],
)  # fmt: skip
@pytest.mark.parametrize("batch_statistics", [False, True])
def test_batch_norms_from_elsewhere_are_frozen_too(norm: nn.Module, batch_statistics: bool) -> None:
    net, x = nn.Sequential(nn.Linear(3, 4), copy.deepcopy(norm), nn.Dropout(0.5)).double(), torch.randn(6, 3).double()
    net(10 * x)
    twin = copy.deepcopy(net).eval()
    twin[1].train(batch_statistics)
    before = state(net)
    through_twin, through_net = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted = twin(through_twin)
    wanted.pow(3).sum().backward()
    with frozen(net, batch_statistics=batch_statistics):
        found = net(through_net)
    assert state(net) == before
    net(10 * torch.randn(6, 3).double())  # moves the running statistics before the backward pass
    found.pow(3).sum().backward()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(through_net.grad, through_twin.grad)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, Other])
def test_a_batch_norm_that_knows_no_groups_is_refused_by_name(norm: type[nn.Module]) -> None:
    net = nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(3, 4), norm(4))})
    with pytest.raises(
        UserError, match=rf"^backbone\.1 is a \S*{norm.__name__}, which cannot take statistics per half"
    ):
        group_statistics(net, 4)


def test_frozen_within_frozen() -> None:
    net, x = Small(), torch.randn(6, 3)
    before = state(net)
    with frozen(net, batch_statistics=True):
        with frozen(net):
            net(x)
        net(x)
        assert not any(p.requires_grad for p in net.parameters())
    assert state(net) == before


def test_instance_norm_matches_its_formula() -> None:
    layer, x = Conv(2, 2, 1, norm="instance", rectify=False).double(), torch.randn(1, 2, 3, 3, dtype=torch.float64)
    y = F.conv2d(x, layer.weight)
    mean, variance = y.mean((2, 3), keepdim=True), y.var((2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(layer(x), (y - mean) / (variance + 1e-5).sqrt())


@pytest.mark.parametrize(("side", "padding"), [(8, 2), (2, 3)])
def test_padding_stays_in_half_precision_under_autocast(side: int, padding: int) -> None:
    """And is what it is without: pixels are repeated, not computed."""
    x = torch.randn(2, 3, side, side, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        padded = reflection_pad(x, padding)
    assert padded.dtype == torch.bfloat16
    assert torch.equal(padded, reflection_pad(x, padding))
