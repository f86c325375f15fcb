"""The step, which runs every network once on the whole batch, equals the literal two-half iteration of `oracle`."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from oracle import Oracle, Result
from torch import Tensor, nn

from dgnet import config as configuration
from dgnet.config import Config
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline, Teacher, build_baseline
from dgnet.train.optim import joint_optimizers
from dgnet.train.step import JointStep, Outcome

CLASSES = 5


class Case(NamedTuple):
    """One row of the table."""

    size: tuple[int, int]
    half_batch: int
    gan: str
    tuned: str
    gradient: str
    heads: str
    erasing: bool
    style: str = "soft"
    also: tuple[str, ...] = ()
    iteration: int = 4

    def config(self) -> Config:
        return configuration.load(
            "tiny",
            [
                f"data.height={self.size[0]}",
                f"data.width={self.size[1]}",
                f"data.erasing={0.5 * self.erasing}",
                f"train.half_batch={self.half_batch}",
                f"model.discriminator.kind={self.gan}",
                f"model.appearance.gradient={self.gradient}",
                f"model.appearance.heads={self.heads}",
                "model.appearance.dropout=[0, 0]",
                f"loss.tune_encoder={int(self.tuned == 'encoder')}",
                f"loss.teacher_style={self.style}",
                *self.also,
            ],
        )


EVEN, ODD = (32, 16), (52, 28)
CASES = [  # in the first nine, every pair of values of any two of the first seven columns occurs
    Case(EVEN, 2, "lsgan", "image", "published", "one", False),
    Case(EVEN, 2, "wgan", "encoder", "paper", "two", True),
    Case(EVEN, 3, "nsgan", "encoder", "published", "one", True, style="two_labels"),
    Case(EVEN, 3, "nsgan", "encoder", "published", "pcb", True),
    Case(ODD, 2, "nsgan", "image", "paper", "two", False, style="hard"),
    Case(ODD, 2, "wgan", "image", "published", "pcb", False),
    Case(ODD, 3, "lsgan", "encoder", "paper", "pcb", False),
    Case(ODD, 3, "lsgan", "image", "published", "two", True),
    Case(ODD, 3, "wgan", "image", "paper", "one", True, style="appearance"),
    Case(EVEN, 2, "lsgan", "encoder", "published", "two", False, style="uniform", iteration=2),  # nothing warmed up
    Case(EVEN, 3, "lsgan", "encoder", "published", "two", False, style="two_labels", iteration=3),  # first rise
    Case(ODD, 2, "lsgan", "image", "paper", "two", True, iteration=3),
    Case(EVEN, 2, "lsgan", "image", "paper", "one", False, iteration=3),
    Case(EVEN, 2, "lsgan", "encoder", "published", "pcb", False, iteration=3),
    Case(EVEN, 3, "lsgan", "encoder", "published", "two", False, also=("loss.teacher=0",)),
    Case(EVEN, 3, "lsgan", "encoder", "paper", "one", False, also=("loss.teacher=0", "loss.cycle=0")),
    Case(EVEN, 3, "lsgan", "image", "published", "two", False, also=("loss.structure_code=0", "loss.primary=0")),
    Case(EVEN, 3, "lsgan", "image", "published", "two", True, also=("loss.adversarial=0", "loss.generated_identity=0")),
    Case(EVEN, 3, "lsgan", "image", "paper", "two", True, also=("loss.warm_up.start=2", "loss.appearance_code=0")),
    Case(EVEN, 2, "lsgan", "encoder", "paper", "two", False, also=("model.structure.input=edge",)),
    Case(EVEN, 3, "lsgan", "image", "paper", "two", True, also=("model.appearance.train_bn=false",)),
    Case(EVEN, 2, "lsgan", "image", "published", "two", True, also=("model.appearance.enlarge='yes'",), iteration=6),
    Case(EVEN, 3, "lsgan", "image", "published", "two", True, also=("loss.triplet=1", "loss.circle=0.1",
         "loss.metric.circle_scale=2", "loss.label_smoothing=0.2")),
    Case(EVEN, 3, "lsgan", "encoder", "paper", "two", False, also=("loss.soft_triplet=0.5", "loss.centre=0.01")),
    Case(EVEN, 3, "lsgan", "image", "paper", "one", True, also=("loss.arcface=0.3", "loss.cosface=0.2",
         "model.appearance.classifier=cosine", "model.appearance.pool=gem")),
    Case(EVEN, 3, "lsgan", "encoder", "paper", "pcb", False, also=("loss.triplet=1", "loss.label_smoothing=0.1")),
    Case(EVEN, 3, "lsgan", "image", "paper", "two", True, also=("model.appearance.neck=bnneck", "loss.triplet=1",
         "model.appearance.pool=average")),
]  # fmt: skip


def lively(network: nn.Module, seed: int) -> None:
    """Float64 weights of ordinary size everywhere, so that no gradient is too small to be compared."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in network.double().state_dict().items():
        noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
        if tensor.dim() > 1:
            tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
        elif name.endswith("running_var") or name.endswith(("gamma", "weight")):
            tensor.copy_(1 + 0.1 * noise.abs())
        elif tensor.dim() == 1:
            tensor.copy_(0.1 * noise)


class Pair:
    """The same training twice, by the step and by the oracle."""

    def __init__(self, case: Case, teachers: int = 1) -> None:
        config = case.config()
        net = DGNet(config, CLASSES)
        lively(net, seed=1)
        baselines: list[Baseline] = [build_baseline(config, CLASSES) for _ in range(teachers)]
        for number, baseline in enumerate(baselines):
            lively(baseline, seed=2 + number)
        self.net = net
        self.oracle = Oracle(copy.deepcopy(net), copy.deepcopy(baselines), config, torch.Generator().manual_seed(5))

        draw, half = torch.Generator().manual_seed(7), case.half_batch
        shape = (2 * half, 3, *case.size)
        self.x, self.x_pos = (torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(2))
        self.y = torch.randint(CLASSES, (2 * half,), generator=draw)
        self.erased = torch.rand((4 * half, 1, *case.size), generator=draw) < 0.3 if case.erasing else None

        self.step = JointStep(
            net,
            Teacher(baselines, batch_statistics=config.model.appearance.train_bn) if baselines else None,
            config,
            joint_optimizers(net, config.train, torch.device("cpu")),
            torch.Generator().manual_seed(5),
            self.erase if case.erasing else None,
        )

    def erase(self, x: Tensor) -> Tensor:
        assert self.erased is not None
        return x.masked_fill(self.erased, 0.0)

    def go_on(self, iteration: int) -> tuple[Outcome, Result]:
        """One iteration of each."""
        outcome = self.step(self.x, self.x_pos, self.y, iteration)
        erased = None if self.erased is None else self.erased.chunk(4)
        result = self.oracle(*self.x.chunk(2), *self.x_pos.chunk(2), *self.y.chunk(2), iteration, erased)
        return outcome, result


def assert_same(ours: Tensor | float, theirs: Tensor | float, name: str, tolerance: float = 1e-9) -> None:
    """Equal to `tolerance` of the largest value; what is only rounding on both sides is equal, too."""
    ours, theirs = torch.as_tensor(ours).detach(), torch.as_tensor(theirs).detach()
    scale = max(float(theirs.abs().max()), 1e-2)
    assert float((ours - theirs).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_equals_the_literal_iteration(case: Case) -> None:
    pair = Pair(case)
    outcome, result = pair.go_on(case.iteration)

    assert {name for name in result.terms if result.weights[name]} <= outcome.terms.keys() <= result.terms.keys()
    for name, term in outcome.terms.items():
        assert_same(outcome.weights[name], result.weights[name], f"weight of {name}")
        assert_same(term, sum(result.terms[name]), name)
    assert_same(outcome.total, result.total, "total")
    assert_same(outcome.discriminator, sum(result.discriminator), "discriminator")
    assert_same(outcome.penalty, sum(result.penalty), "penalty")

    gradients = {name: p.grad for name, p in pair.net.named_parameters() if p.requires_grad}
    assert gradients.keys() == result.gradients.keys()
    for name, gradient in gradients.items():
        theirs = result.gradients[name]
        assert gradient is not None, name
        assert theirs is not None, name
        assert_same(gradient, theirs, name)
    theirs = pair.oracle.net.state_dict()
    for name, tensor in pair.net.state_dict().items():
        if "running" in name or "centres" in name:
            assert_same(tensor, theirs[name], name)


@pytest.mark.parametrize(
    ("teachers", "first", "also"),
    [(0, 2, ()), (2, 2, ()), (0, 4, ()), (2, 4, ()), (1, 2, ("loss.adversarial=0", "loss.fine_grained=0"))],
)
def test_stays_equal_over_iterations(teachers: int, first: int, also: tuple[str, ...]) -> None:
    """The optimisers, their schedule (a milestone at 5) and all that iterations leave behind; several teachers, none.
    From 2 on the second head has gradients of zeros at first, on which weight decay and momentum act; without weights
    for them, it and the discriminator shrink all the time.

    Rounding grows with every step, fastest where a batch norm sees two values only; hence half-batches of three.
    """
    pair = Pair(Case(EVEN, 3, "lsgan", "image", "published", "two", True, also=also), teachers)
    sizes = {name: float(p.detach().norm()) for name, p in pair.net.named_parameters()}
    for iteration in range(first, 6):
        outcome, result = pair.go_on(iteration)
        assert_same(outcome.total, result.total, f"total of {iteration}", 1e-7)
    theirs = pair.oracle.net.state_dict()
    for name, tensor in pair.net.state_dict().items():
        assert_same(tensor, theirs[name], name, 1e-7)
    if also:
        for name, parameter in pair.net.named_parameters():
            if name.startswith(("discriminator.", "appearance.heads.1.")):
                assert float(parameter.detach().norm()) < sizes[name], name


def test_a_lazy_penalty_counts_as_often_as_it_was_left_out() -> None:
    """Every second iteration: none in the third, twice of it in the fourth."""

    def gradients(iteration: int, *also: str) -> dict[str, Tensor | None]:
        pair = Pair(Case(EVEN, 3, "lsgan", "image", "published", "two", False, also=also))
        outcome = pair.step(pair.x, pair.x_pos, pair.y, iteration)
        assert bool(outcome.penalty) == (iteration % pair.step.config.loss.r1_every == 0)
        return {name: p.grad for name, p in pair.net.discriminator.named_parameters()}

    for iteration, factor in ((3, 0.0), (4, 0.8)):
        lazy, plain = gradients(iteration, "loss.r1=0.4", "loss.r1_every=2"), gradients(iteration, f"loss.r1={factor}")
        assert lazy
        for name, gradient in lazy.items():
            assert gradient is not None
            assert_same(gradient, plain[name], name)


def test_what_is_computed_again_in_the_backward_pass_is_the_same() -> None:
    """Activation checkpointing: equal to the last bit over three iterations, and less is kept."""
    case = Case(EVEN, 3, "lsgan", "image", "paper", "two", True)
    plain, again = Pair(case), Pair(case._replace(also=("train.activation_checkpointing=true",)))
    kept = []
    for pair in (plain, again):
        sizes: list[int] = []

        def keep(t: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            pair.step.generate(pair.x, pair.x_pos, pair.y)
        kept.append(sum(sizes))
        for iteration in (3, 4, 5):
            pair.step(pair.x, pair.x_pos, pair.y, iteration)
    assert kept[1] < 0.7 * kept[0]
    others = again.net.state_dict()
    assert all(torch.equal(tensor, others[name]) for name, tensor in plain.net.state_dict().items())
