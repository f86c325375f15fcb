"""A loss that is not finite is read late and loses nothing; an optimiser whose step is skipped stays what it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from dgnet.train.optim import Optimizers
from dgnet.train.watch import NonFiniteLossError, Watch

CPU = torch.device("cpu")


def small(precision: str = "float32") -> tuple[nn.Linear, Optimizers]:
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    by_name = {
        "sgd": SGD([net.weight], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        "adam": Adam([net.bias], lr=0.1),
    }
    return net, Optimizers(by_name, precision, CPU)  # type: ignore[arg-type]


def state(net: nn.Module, optimizers: Optimizers) -> list[torch.Tensor]:
    states = [value for o in optimizers.by_name.values() for s in o.state.values() for value in s.values()]
    return [t.detach().clone() for t in [*net.parameters(), *states]]


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("first", [True, False])
def test_no_step_is_taken_from_a_loss_that_is_not_finite_nor_after_it(poison: float, first: bool) -> None:
    net, optimizers = small()
    x = torch.ones(2, 3)
    if not first:
        loss = net(x).square().mean()
        optimizers.descend(loss, "sgd", "adam", iteration=1, terms={"loss": loss})
    before = state(net, optimizers)
    for iteration, factor in ((2, poison), (3, 1.0)):
        loss = net(x).square().mean() * factor
        optimizers.descend(loss, "sgd", "adam", iteration=iteration, terms={"fine": torch.ones(()), "odd": loss})
    after = state(net, optimizers)[: len(before)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not optimizers.watch.stop(1)  # as far as iteration 1 knows
    with pytest.raises(NonFiniteLossError, match=rf"^iteration 2: odd is {poison}$") as caught:
        optimizers.watch.stop(3)
    assert caught.value.iteration == 2


def test_a_sum_that_overflows_is_seen_though_every_term_is_finite() -> None:
    watch = Watch(CPU)
    terms = {"a": torch.tensor(3e38), "b": torch.tensor(3e38)}
    watch.note(1, terms, watch.look(terms))
    with pytest.raises(NonFiniteLossError, match="or the sum of all terms overflows"):
        watch.stop(1)


def test_what_another_process_asks_for_reaches_this_one() -> None:
    watch, terms = Watch(CPU), {"a": torch.tensor(1.0)}
    watch.note(1, terms, watch.look(terms))
    assert not watch.stop(1)
    watch.note(2, terms, watch.look(terms) + torch.tensor([0.0, 1.0]))  # the sum over processes
    assert not watch.stop(1)
    assert watch.stop(2)
    watch.note(3, terms, watch.look(terms) + torch.tensor([1.0, 0.0]))
    with pytest.raises(NonFiniteLossError, match="of another process"):
        watch.stop(3)


def test_in_fp16_an_overflow_in_the_first_iteration_is_skipped_and_the_next_steps_are_as_if_it_had_not_been() -> None:
    """PyTorch's fused SGD would go on with a momentum of whatever stood in memory."""
    x = torch.ones(2, 3)
    found = []
    for overflows in (True, False):
        net, optimizers = small("float16")
        before = state(net, optimizers)
        if overflows:
            optimizers.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-111)
            loss = (net(x) * 1e4).square().mean() * 1e4
            optimizers.descend(loss, "sgd", "adam", iteration=1, terms={"loss": loss})
            optimizers.finish()
            assert all(torch.equal(a, b) for a, b in zip(before, state(net, optimizers)[: len(before)], strict=True))
            assert optimizers.scaler.get_scale() == 2.0**16
        for iteration in (2, 3, 4):
            loss = net(x).square().mean()
            optimizers.descend(loss, "sgd", "adam", iteration=iteration, terms={"loss": loss})
            optimizers.finish()
        assert not optimizers.watch.stop(4)
        found.append(state(net, optimizers))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_fused_optimisers_take_the_steps_of_plain_ones() -> None:
    net, optimizers = small()
    plain, _ = small()
    others = [SGD([plain.weight], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1), Adam([plain.bias], lr=0.1)]
    for iteration in range(1, 6):
        x = torch.full((2, 3), float(iteration))
        loss = net(x).square().mean()
        optimizers.descend(loss, "sgd", "adam", iteration=iteration, terms={"loss": loss})
        for other in others:
            other.zero_grad()
        plain(x).square().mean().backward()
        for other in others:
            other.step()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name))
