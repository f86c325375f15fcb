"""Who learns from what: the table of the method, term by term, in both modes of L_s, published and paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dgnet import config as configuration
from dgnet.config import Config
from dgnet.losses.joint import both_halves
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Teacher, build_baseline
from dgnet.train.optim import joint_optimizers
from dgnet.train.schedule import loss_weights
from dgnet.train.step import JointStep

CLASSES, SIZE, HALF = 5, (32, 16), 3
NETWORKS = {
    "E_s": "structure.",
    "G": "decoder.",
    "D": "discriminator.",
    "E_a": "appearance.backbone.",
    "head1": "appearance.heads.0.",
    "head2": "appearance.heads.1.",
}
COLUMNS = [("published", "encoder"), ("published", "image"), ("paper", "encoder"), ("paper", "image")]
TABLE = {
    "image": ("E_s G", "E_s G", "E_s G E_a", "E_s G E_a"),
    "same_identity": ("E_s G", "E_s G", "E_s G E_a", "E_s G E_a"),
    "structure_code": ("E_s", "E_s G", "E_s", "E_s G E_a"),
    "appearance_code": ("", "", "E_s G E_a", "E_s G E_a"),
    "cycle": ("E_s G", "E_s G", "E_s G E_a", "E_s G E_a"),
    "identity": ("E_a head1", "E_a head1", "E_a head1", "E_a head1"),
    "fine_identity": ("E_a head2", "E_a head2", "E_a head2", "E_a head2"),
    "positive_identity": ("E_a head1", "E_a head1", "E_a head1", "E_a head1"),
    "generated_identity": ("E_s G", "E_s G", "E_s G E_a", "E_s G E_a"),
    "adversarial": ("E_s G", "E_s G", "E_s G E_a", "E_s G E_a"),
    "primary": ("E_a head1", "E_a head1", "E_a head1", "E_a head1"),
    "fine_grained": ("E_a head2", "E_a head2", "E_a head2", "E_a head2"),
    "perceptual": ("E_s G", "E_s G", "E_s G E_a", "E_s G E_a"),
    "discriminator": ("D", "D", "D", "D"),
}


def config(gradient: str, tuned: str) -> Config:
    return configuration.load(
        "tiny",
        [
            f"train.half_batch={HALF}",
            f"model.appearance.gradient={gradient}",
            f"loss.tune_encoder={int(tuned == 'encoder')}",
            "loss.perceptual=1",
            "loss.perceptual_weights=none, a stand-in is used",
        ],
    )


def joint_step(config: Config, *, erasing: bool) -> JointStep:
    torch.manual_seed(1)
    net = DGNet(config, CLASSES)
    for parameter in net.discriminator.parameters():  # as drawn, its gradients are too small to be told from rounding
        nn.init.normal_(parameter, std=0.2)
    features = nn.Conv2d(3, 4, 3).requires_grad_(False)
    return JointStep(
        net,
        Teacher([build_baseline(config, CLASSES)]),
        config,
        joint_optimizers(net, config.train, torch.device("cpu")),
        torch.Generator().manual_seed(2),
        (lambda x: x.masked_fill(x > 1, 0.0)) if erasing else None,
        features,  # type: ignore[arg-type]
    )


def learners(net: DGNet, term: Tensor) -> set[str]:
    """The networks that a term gives a gradient to; the others must get exactly none."""
    if not term.requires_grad:
        return set()
    found = set()
    names, parameters = zip(*net.named_parameters(), strict=True)
    gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    for network, prefix in NETWORKS.items():
        sizes = [
            float(g.abs().max())
            for n, g in zip(names, gradients, strict=True)
            if n.startswith(prefix) and g is not None
        ]
        if max(sizes, default=0.0) > 0.0:
            assert max(sizes) > 1e-6, f"{network}: rounding only"
            found.add(network)
    return found


@pytest.mark.parametrize("erasing", [False, True], ids=["whole", "erased"])
@pytest.mark.parametrize("column", range(4), ids=["-".join(c) for c in COLUMNS])
def test_every_term_teaches_whom_the_table_says(column: int, erasing: bool) -> None:
    step = joint_step(config(*COLUMNS[column]), erasing=erasing)
    x, x_pos = torch.randn(2 * HALF, 3, *SIZE), torch.randn(2 * HALF, 3, *SIZE)
    scene = step.generate(x, x_pos, torch.tensor([0, 1, 2, 3, 4, 0]))
    judged, penalty = step.judge(scene)
    terms = step.terms(scene, dict.fromkeys(loss_weights(step.config.loss, 1), 1.0))
    terms["discriminator"] = both_halves(judged + penalty)

    assert {name: learners(step.net, term) for name, term in terms.items()} == {
        name: set(row[column].split()) for name, row in TABLE.items()
    }


def test_the_table_is_complete() -> None:
    assert TABLE.keys() == loss_weights(configuration.load("tiny").loss, 1).keys() | {"discriminator"}


def test_an_iteration_leaves_no_network_frozen_or_switched() -> None:
    step = joint_step(config("paper", "image"), erasing=True)
    step.net.train()
    x = torch.randn(2 * HALF, 3, *SIZE)
    step(x, x, torch.tensor([0, 1, 2, 3, 4, 0]), 4)
    assert all(p.requires_grad for p in step.net.parameters())
    assert all(module.training for module in step.net.modules())
    assert not any(p.requires_grad or p.grad is not None for p in step.teacher.parameters())


# Beyond the paper

METRIC_TABLE = {
    "triplet": "E_a", "soft_triplet": "E_a", "circle": "E_a", "arcface": "E_a head1", "cosface": "E_a head1",
    "centre": "E_a",
}  # fmt: skip


@pytest.mark.parametrize("erasing", [False, True], ids=["whole", "erased"])
@pytest.mark.parametrize("gradient", ["published", "paper"])
def test_metric_terms_teach_the_appearance_encoder_alone(gradient: str, erasing: bool) -> None:
    weights = [f"loss.{name}=1" for name in METRIC_TABLE]
    chosen = configuration.load(
        "tiny",
        [f"train.half_batch={HALF}", f"model.appearance.gradient={gradient}", "model.appearance.classifier=cosine",
         "loss.metric.triplet_margin=100", "loss.metric.circle_scale=2", *weights],
    )  # fmt: skip
    step = joint_step(chosen, erasing=erasing)
    x, x_pos = torch.randn(2 * HALF, 3, *SIZE), torch.randn(2 * HALF, 3, *SIZE)
    scene = step.generate(x, x_pos, torch.tensor([0, 1, 2, 3, 4, 0]))
    evaluated = loss_weights(chosen.loss, 4)
    terms = step.terms(scene, evaluated)
    assert {name: learners(step.net, terms[name]) for name in METRIC_TABLE} == {
        name: set(who.split()) for name, who in METRIC_TABLE.items()
    }


def test_without_a_weight_there_is_no_metric_term() -> None:
    step = joint_step(config("published", "image"), erasing=False)
    x = torch.randn(2 * HALF, 3, *SIZE)
    outcome = step(x, x, torch.tensor([0, 1, 2, 3, 4, 0]), 4)
    assert not METRIC_TABLE.keys() & (outcome.terms.keys() | outcome.weights.keys())
