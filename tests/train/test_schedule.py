"""Learning rates and loss weights at the corners of their schedules."""

from __future__ import annotations

import pytest
import torch

from dgnet import config as configuration
from dgnet.config import Loss, WarmUp
from dgnet.models.dgnet import DGNet
from dgnet.train.optim import joint_optimizers
from dgnet.train.schedule import decay, loss_weights, warmed_up

PUBLISHED = configuration.load("market1501")


@pytest.mark.parametrize(
    ("iteration", "factor"),
    [
        (1, 1),
        (59_999, 1),
        (60_000, 0.1),
        (89_999, 0.1),
        (90_000, 0.01),
        (100_000, 0.01),
        (104_999, 0.01),
        (105_000, 1e-3),
    ],
)
def test_decay(iteration: int, factor: float) -> None:
    train = PUBLISHED.train
    assert decay(train.milestones, train.decay, iteration) == pytest.approx(factor)
    assert decay(train.milestones[::-1], train.decay, iteration) == pytest.approx(factor)


def test_decay_without_milestones() -> None:
    assert decay((), 0.1, 10**6) == 1


@pytest.mark.parametrize(
    ("iteration", "up_to_1", "up_to_2", "one_behind"),
    [
        (1, 0, 0, 0),
        (30_001, 0, 0, 0),
        (30_002, 0.0005, 0.0005, 0),
        (30_003, 0.001, 0.001, 0.0005),
        (32_000, 0.9995, 0.9995, 0.999),
        (32_001, 1, 1, 0.9995),
        (32_002, 1, 1.0005, 1),
        (34_000, 1, 1.9995, 1.999),
        (34_001, 1, 2, 1.9995),
        (34_002, 1, 2, 2),
        (100_000, 1, 2, 2),
    ],
)
def test_warm_up(iteration: int, up_to_1: float, up_to_2: float, one_behind: float) -> None:
    assert warmed_up(1, WarmUp(), iteration) == pytest.approx(up_to_1)
    assert warmed_up(2, WarmUp(), iteration) == pytest.approx(up_to_2)
    weights = loss_weights(PUBLISHED.loss, iteration)
    assert weights == pytest.approx(
        {
            "image": 5,
            "same_identity": 5,
            "structure_code": up_to_1,
            "appearance_code": up_to_1,
            "cycle": up_to_2,
            "identity": 1,
            "fine_identity": 0.2 * one_behind,
            "positive_identity": 1,
            "generated_identity": 0.5,
            "adversarial": 1,
            "primary": up_to_2,
            "fine_grained": 0.2 * up_to_2,
            "perceptual": 0,
        }
    )


def test_the_teacher_has_its_own_warm_up_and_inner_weights() -> None:
    loss = Loss(teacher=3, teacher_warm_up=WarmUp(start=10, per_iteration=1), primary=0.5, fine_grained=0.1, identity=2)
    at = {iteration: loss_weights(loss, iteration) for iteration in (11, 12, 13, 20)}
    assert [at[i]["primary"] for i in at] == [0, 0.5, 1, 1.5]
    assert [at[i]["fine_grained"] for i in at] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [at[i]["fine_identity"] for i in at] == pytest.approx([0, 0, 2 * 0.1, 2 * 0.3])
    assert all(at[i]["cycle"] == 0 for i in at)


def test_rates_are_set_from_their_first_values() -> None:
    config = configuration.load("tiny")
    optimizers = joint_optimizers(DGNet(config, 3), config.train, torch.device("cpu"))
    for factor in (0.1, 0.1, 0.01):
        optimizers.set_rates(factor)
        rates = {name: [g["lr"] for g in o.param_groups] for name, o in optimizers.by_name.items()}
        assert rates == {
            "generator": [pytest.approx(1e-4 * factor)],
            "discriminator": [pytest.approx(1e-4 * factor)],
            "identity": [pytest.approx(0.002 * factor), pytest.approx(0.02 * factor)],
        }
