"""A batch in parts: the step of the whole one."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from dgnet import config as configuration
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen, group_statistics
from dgnet.models.teacher import Teacher, build_baseline
from dgnet.train.accumulate import AccumulatedStep
from dgnet.train.optim import joint_optimizers
from dgnet.train.schedule import scaled_rates
from dgnet.train.step import JointStep, Outcome

CLASSES, GROUP = 5, 3  # three images in a half of a part: of two, batch norm makes much of rounding
PLAIN = ("model.appearance.dropout=[0, 0]", "teacher.dropout=0")


def upper_rows(x: Tensor) -> Tensor:
    """An erasing that draws nothing."""
    return x.clone().index_fill_(2, torch.arange(8), 0)


def step_of(half: int, parts: int, *also: str, erase: bool = False) -> JointStep:
    """Of so many parts, each of two half-batches; batch norms take groups of three."""
    sizes = [f"train.half_batch={half}", f"train.accumulate={parts}"]
    config = configuration.load("tiny", [*PLAIN, *also, *sizes])
    torch.manual_seed(0)
    net, baseline = DGNet(config, CLASSES).double().train(), build_baseline(config, CLASSES).double()
    optimizers = joint_optimizers(net, config.train, torch.device("cpu"))
    kind = JointStep if parts == 1 else AccumulatedStep
    chance: dict[str, Any] = {} if parts == 1 else {"seed": lambda iteration, part: None}
    given = net, Teacher([baseline]), config, optimizers, torch.Generator(), upper_rows if erase else None
    step = kind(*given, coins=torch.Generator(), **chance)
    step.teacher.group = GROUP
    group_statistics(net.appearance, GROUP)
    return step


def batch(parts: int, *, turned: bool) -> list[Tensor]:
    """x, x_pos, y of a batch [a1 a2 ..; b1 b2 ..]; turned, in its parts [a1; b1], [a2; b2], ..."""
    generator, size = torch.Generator().manual_seed(1), 2 * GROUP * parts
    x, x_pos = torch.randn(2, size, 3, 32, 16, dtype=torch.float64, generator=generator)
    y = torch.randint(CLASSES, (size,), generator=generator)
    order = torch.arange(size).view(2, parts, -1).transpose(0, 1).flatten() if turned else torch.arange(size)
    return [t[order] for t in (x, x_pos, y)]


def iterations(step: JointStep, given: list[Tensor], first: int) -> list[Outcome]:
    """Up to the fifth, where a milestone comes; warm-ups rise in the second."""
    outcomes = []
    for iteration in range(first, 6):
        step.coins.manual_seed(iteration)
        outcomes.append(step(*given, iteration))
    return outcomes


@pytest.mark.parametrize(
    ("parts", "first", "erase", "also"),
    [
        (2, 2, False, ()),
        (3, 2, True, ()),
        (2, 5, True, ("model.appearance.gradient=paper",)),  # it makes much of rounding
        (2, 2, False, ("model.discriminator.kind=nsgan", "model.appearance.heads=pcb", "loss.r1_every=2")),
        (2, 2, False, ("loss.adversarial=0.3", "loss.tune_encoder=1", "loss.identity=0", "loss.fine_grained=0")),
    ],
)
def test_several_parts_make_the_step_of_the_whole_batch(
    parts: int, first: int, erase: bool, also: tuple[str, ...]
) -> None:
    whole = step_of(GROUP * parts, 1, *also, erase=erase)
    step = step_of(GROUP, parts, *also, erase=erase)
    initial = {name: p.detach().clone() for name, p in step.net.named_parameters()}
    ours, theirs = (
        iterations(whole, batch(parts, turned=False), first),
        iterations(step, batch(parts, turned=True), first),
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a.terms.keys() == b.terms.keys()
        assert a.weights == b.weights
        for key, term in a.terms.items():
            torch.testing.assert_close(term.detach(), b.terms[key], rtol=1e-7, atol=1e-9, msg=key)
        for key in ("total", "discriminator", "penalty"):
            torch.testing.assert_close(getattr(a, key).detach(), getattr(b, key).detach(), rtol=1e-7, atol=1e-9)
    moved = 0
    for (name, one), other in zip(whole.net.named_parameters(), step.net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8, msg=name)
        moved += not torch.equal(other, initial[name])
    assert moved > 100


@pytest.mark.parametrize("backbone_frozen", [False, True])
def test_what_the_discriminator_is_shown_is_what_is_painted_in_full(backbone_frozen: bool) -> None:
    step = step_of(GROUP, 2)
    x, x_pos, y = batch(1, turned=False)
    before = {name: tensor.clone() for name, tensor in step.net.state_dict().items()}
    with frozen(step.net.backbone) if backbone_frozen else torch.enable_grad():
        shown = step.glance(x)
        assert all(torch.equal(tensor, before[name]) for name, tensor in step.net.state_dict().items())
        scene = step.generate(x, x_pos, y)
    assert not shown.x_cross.requires_grad
    torch.testing.assert_close(shown.x_cross, scene.x_cross.detach(), rtol=1e-10, atol=1e-12)


def test_a_part_keeps_no_more_than_a_batch_of_its_size() -> None:
    """What is kept for the backward pass, at most at once."""

    class Kept:
        def __init__(self, t: Tensor) -> None:
            self.t = t

    def most(step: JointStep, given: list[Tensor]) -> int:
        alive: weakref.WeakSet[Kept] = weakref.WeakSet()
        sizes = []

        def keep(t: Tensor) -> Kept:
            made = Kept(t)
            alive.add(made)
            if len(alive) % 20 == 0:  # often enough
                sizes.append(sum(kept.t.numel() for kept in alive))
            return made

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.t):
            step(*given, 4)
        return max(sizes)

    alone = most(step_of(GROUP, 1), batch(1, turned=False))
    assert most(step_of(GROUP, 3), batch(3, turned=True)) <= 1.05 * alone
    assert most(step_of(3 * GROUP, 1), batch(3, turned=False)) > 2 * alone


def test_rates_are_scaled_as_asked() -> None:
    train = configuration.load("market1501", ["train.half_batch=4"]).train
    assert scaled_rates(train, 8) == train
    for how, factor in (("linear", 4.0), ("sqrt", 2.0)):
        scaled = scaled_rates(
            configuration.load("market1501", ["train.half_batch=4", f"train.scale_rates={how}"]).train, 8
        )
        assert scaled.learning_rate == pytest.approx(factor * train.learning_rate)
        assert scaled.backbone_learning_rate == pytest.approx(factor * train.backbone_learning_rate)
        assert scaled.head_learning_rate == pytest.approx(factor * train.head_learning_rate)
