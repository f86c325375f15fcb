"""The same numbers as the published implementation: codes, images, losses, gradients, steps and batch-norm statistics.

What is compared, how it was obtained and how it is named is in tests/golden/README.md. One iteration at the published
image size in float64 takes about a minute on two cores and 10 GB of memory, so these tests have a mark of their own and
run one after the other (see the Makefile).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from unittest.mock import patch

import golden_set as golden
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dgnet.losses import joint as losses
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import BatchNorm2d
from dgnet.train import step as step_module
from dgnet.train.optim import joint_optimizers
from dgnet.train.step import JointStep
from dgnet.weights.published import from_published

ROUNDING = 1e-9  # a gradient norm below this is not a number of the method

pytestmark = [pytest.mark.slow, pytest.mark.golden]


def error(ours: Tensor | float, theirs: np.ndarray | float) -> float:
    """The largest difference, relative to the largest value."""
    difference = np.abs(np.asarray(ours) - np.asarray(theirs)).max()
    return float(difference / max(np.abs(theirs).max(), np.finfo(float).tiny))


# Networks in evaluation


def evaluated() -> dict[str, Tensor]:
    """Our values under the names of `eval/...`, arrays whole."""
    image = golden.images()
    config = golden.case_config("lsgan_tuned_encoder")
    net, teacher = golden.networks(config).eval(), golden.teacher(config).eval()
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for name in ("a", "b", "pa", "pb"):
            code, logits = net.appearance(image[f"x{name}"])[:2]
            found |= {f"f_{name}": code, f"p_{name}_1": logits[0], f"p_{name}_2": logits[1]}
        for name in ("a", "b"):
            found[f"s_{name}"] = net.structure(net.structure_of(image[f"x{name}"]))
        for name, s, f in (("ab", "a", "b"), ("ba", "b", "a"), ("a_recon", "a", "a"), ("a_recon_p", "a", "pa")):
            found[f"x_{name}"] = net.decode(found[f"s_{s}"], found[f"f_{f}"])
        for scale, score in enumerate(net.discriminator(image["xa"])):
            found[f"dis_xa_{scale}"] = score
        prediction = teacher(image["xa"])
        for number, style in enumerate(golden.STYLES):
            found[f"label_style{number}_xa"] = losses.teacher_labels(style, prediction, golden.y_a, golden.y_b)
        found["teacher_logits_xa_eval"] = teacher.baselines[0](image["xa"])
        views = net.embed(image["xa"]) + net.embed(image["xa"].flip(3))
        found["reid_feature_xa"] = torch.cat([F.normalize(half, dim=1) for half in views.chunk(2, dim=1)], dim=1)
    return found


def test_images_are_those_of_the_formula() -> None:
    image = golden.images()
    for name in (n for n in golden.full if n.startswith("meta/")):
        assert np.array_equal(golden.full[name], golden.phases[name])
    assert np.array_equal(image["xa"][0, :, :2, :2].float().numpy(), golden.values["meta/xa_corner"])
    assert error(image["xpb"].mean((1, 2, 3)), golden.values["meta/xpb_mean"]) < 1e-5


def test_evaluation(subtests: pytest.Subtests) -> None:
    found = evaluated()
    for name in (n.removeprefix("eval/") for n in golden.values if n.startswith("eval/")):
        with subtests.test(name):
            ours, theirs = found[name], golden.values[f"eval/{name}"]
            if name.startswith(("s_", "x_")) or name == "dis_xa_0":
                ours = ours[..., ::4, ::4]
            assert ours.shape == theirs.shape
            assert error(ours, theirs) < 1e-6


# Iterations


class Iteration(NamedTuple):
    """What one iteration left, by our names."""

    losses: dict[str, float]  # by the published names
    weights: dict[str, float]  # likewise
    gradients: dict[str, float | None]  # norms
    steps: dict[str, float]  # norms
    statistics: dict[str, float]  # norms
    buffers: set[str]
    batches: float  # that moved the running statistics


def iterations(case: str) -> Iterator[Iteration]:
    """The iterations of a case, one after the other on the same images."""
    config, image = golden.case_config(case), golden.images()
    net = golden.networks(config).train()
    optimizers = joint_optimizers(net, config.train, torch.device("cpu"))
    step = JointStep(net, golden.teacher(config), config, optimizers, torch.Generator())
    x, x_pos = torch.cat([image["xa"], image["xb"]]), torch.cat([image["xpa"], image["xpb"]])
    y = torch.cat([golden.y_a, golden.y_b])
    recorded = {name.split("/")[1] for name in golden.values if name.startswith(f"{case}/")}
    assert recorded == {f"it{number}" for number in range(1, len(recorded) + 1)}
    for number in range(1, len(recorded) + 1):
        if config.data.erasing:
            erased = erased_pixels(f"{case}/it{number}")
            step.erase = lambda t, erased=erased: t.masked_fill(erased, 0.0)
        yield one(net, step, (x, x_pos, y), golden.iteration(case, number))


def one(net: DGNet, step: JointStep, batch: tuple[Tensor, Tensor, Tensor], number: int) -> Iteration:
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    norm = next(module for module in net.appearance.modules() if isinstance(module, BatchNorm2d))
    running, images = norm.running_mean, []

    def count(module: BatchNorm2d, x: tuple[Tensor]) -> None:
        if module.training and module.running_mean is running:
            images.append(len(x[0]))

    sums: list[tuple[Tensor, Tensor]] = []  # what both_halves returned, and the values per image behind it

    def both_halves(per_image: Tensor) -> Tensor:
        sums.append((losses.both_halves(per_image), per_image.detach()))
        return sums[-1][0]

    with patch.object(step_module, "both_halves", both_halves), norm.register_forward_pre_hook(count):
        outcome = step(*batch, number)

    def halves(total: Tensor | None) -> tuple[float, float]:
        if total is None:  # not evaluated
            return 0.0, 0.0
        (per_image,) = (per_image for result, per_image in sums if result is total)
        a, b = per_image.chunk(2)
        return float(a.mean()), float(b.mean())

    loss, weights = step.config.loss, outcome.weights
    beta = weights["fine_identity"] / weights["identity"]
    terms = {name: halves(outcome.terms.get(name)) for name in weights}
    pairs = {
        "gen_recon_x": terms["image"],
        "gen_recon_xp": terms["same_identity"],
        "gen_recon_s": terms["structure_code"],
        "gen_recon_f": terms["appearance_code"],
        "gen_cycrecon_x": terms["cycle"],
        "gen_adv": terms["adversarial"],
        "gen_vgg": terms["perceptual"],
        "dis": halves(outcome.discriminator),
        "reg": tuple(loss.r1 * value for value in halves(outcome.penalty)),
    }
    named = {f"{name}_{half}": value for name, pair in pairs.items() for half, value in zip("ab", pair, strict=True)}
    named |= {
        "gen_recon_id": sum(terms["generated_identity"]),
        "id": sum(terms["identity"]) + beta * sum(terms["fine_identity"]),
        "pid": sum(terms["positive_identity"]),
        "teacher": loss.primary * sum(terms["primary"]) + loss.fine_grained * sum(terms["fine_grained"]),
        "gen_total": float(outcome.total.detach()),
        "dis_total": float(outcome.discriminator.detach()),
    }
    return Iteration(
        named,
        {
            "recon_f": weights["appearance_code"],
            "recon_s": weights["structure_code"],
            "recon_x_cyc": weights["cycle"],
            "teacher": weights["primary"] / loss.primary,
            "head2": beta,
        },
        {name: None if p.grad is None else float(p.grad.norm()) for name, p in net.named_parameters()},
        {name: float((p.detach() - before[name]).norm()) for name, p in net.named_parameters()},
        {name: float(t.norm()) for name, t in net.state_dict().items() if "running_" in name},
        {name for name, _ in net.named_buffers()},
        sum(images) / golden.half_batch,
    )


def erased_pixels(prefix: str) -> Tensor:
    """The masks of xa, xb, xpa, xpb, bool [4B, 1, 256, 128]."""
    packed = [golden.values[f"{prefix}/erased/{name}"] for name in ("xa", "xb", "xpa", "xpb")]
    return torch.from_numpy(np.unpackbits(np.concatenate(packed), axis=-1)).bool()[:, None]


def check_losses(prefix: str, found: Iteration, tolerance: float) -> None:
    wanted = scalars(f"{prefix}/loss/")
    assert wanted.keys() == found.losses.keys()
    assert_close({name: error(found.losses[name], wanted[name]) for name in wanted}, tolerance)


def check_gradients(prefix: str, found: Iteration, tolerance: float) -> None:
    errors, compared = {}, set()
    for name, mine, gradient, _ in norms(prefix, "grad_norm"):
        if gradient == -1:
            assert mine is None, f"{name}: has a counterpart, which learns"
            assert name.startswith("id/model.fc."), f"{name}: not used, and not ImageNet's classifier"
        elif gradient == 0:
            assert found.gradients[mine or ""] == 0, f"{name}: zeros there, something or nothing here"
        elif gradient < ROUNDING:
            assert mine is not None, f"{name}: has no counterpart"
            assert without_effect(mine, found), f"{name}: no gradient, but not a bias before a norm"
        else:
            assert mine is not None, f"{name}: has no counterpart"
            errors[name] = error(found.gradients[mine] or 0.0, gradient)
        compared.add(mine)
    assert found.gradients.keys() <= compared
    assert_close(errors, tolerance)


def check_steps(prefix: str, found: Iteration, tolerance: float) -> None:
    errors = {
        name: error(found.steps[mine], length)
        for name, mine, gradient, length in norms(prefix, "step_norm")
        if mine is not None and (gradient >= ROUNDING or gradient == 0)  # weight decay acts on zeros
    }
    assert_close(errors, tolerance)


def check_statistics(prefix: str, found: Iteration, tolerance: float) -> None:
    names, values = (golden.values[f"{prefix}/{kind}"] for kind in ("bn_names", "bn_norm"))
    wanted = {str(ours(f"id/{name}")): float(value) for name, value in zip(names, values, strict=True)}
    assert wanted.keys() == found.statistics.keys()
    assert_close({name: error(found.statistics[name], wanted[name]) for name in wanted}, tolerance)


def check_phase(prefix: str, found: Iteration) -> None:
    """The factors in the sum, and whether E_a's statistics saw generated images."""
    wanted = scalars(f"{prefix}/weight/")
    assert wanted.keys() == found.weights.keys()
    assert found.weights == pytest.approx(wanted, rel=1e-9, abs=0)
    assert found.batches == int(golden.values[f"{prefix}/bn_batches"])


def scalars(prefix: str) -> dict[str, float]:
    return {n.removeprefix(prefix): float(golden.values[n]) for n in golden.values if n.startswith(prefix)}


def norms(prefix: str, kind: str) -> Iterator[tuple[str, str | None, float, float]]:
    """Published name, our name, gradient norm, and the norm of this kind, of every published parameter."""
    names, gradients, wanted = (golden.values[f"{prefix}/{k}"] for k in ("names", "grad_norm", kind))
    for name, gradient, value in zip(names, gradients, wanted, strict=True):
        yield str(name), ours(str(name)), float(gradient), float(value)


def ours(published: str) -> str | None:
    """Our name of the published `gen/...`, `id/...` or `dis/...`; none for what no network uses."""
    kind, key = published.split("/", 1)
    return next(iter(from_published(kind, {key: None})), None)  # type: ignore[arg-type]


def without_effect(name: str, found: Iteration) -> bool:
    """Whether a norm takes out what this bias adds: an instance norm in E_s and G (those are buffers); in E_a, the
    batch norm of a head, to which its own bias and that of the backbone's last norm are constants."""
    if name in found.buffers:
        return name.startswith(("structure.", "decoder.residual.")) and name.endswith(".bias")
    before_head = name.endswith(".reduce.bias") or name == "appearance.backbone.layer4.2.bn3.bias"
    return before_head and (found.gradients[name] or 0.0) < ROUNDING


def assert_close(errors: dict[str, float], tolerance: float) -> None:
    too_far = {name: e for name, e in errors.items() if not e <= tolerance}
    assert errors
    assert not too_far, f"{len(too_far)} of {len(errors)} differ by more than {tolerance}: {too_far}"


FIRST = {check_losses: 1e-9, check_gradients: 1e-8, check_steps: 1e-8, check_statistics: 1e-8}
SECOND_OF_PHASES = dict.fromkeys(FIRST, 1e-6)
LATER_OF_PHASES = {check_losses: 1e-6, check_gradients: 1e-4, check_steps: 1e-4, check_statistics: 1e-6}
LATER_AT_FULL_WEIGHTS = {check_losses: 1e-5, check_statistics: 1e-5}


@pytest.mark.parametrize("case", golden.cases)
def test_iterations(case: str, subtests: pytest.Subtests) -> None:
    """Later iterations stand on the roundings of the first, which Adam's first step enlarges (see the README there)."""
    phase = f"{case}/it1/iteration" in golden.phases
    for number, found in enumerate(iterations(case), 1):
        later = (SECOND_OF_PHASES if number == 2 else LATER_OF_PHASES) if phase else LATER_AT_FULL_WEIGHTS
        for check, tolerance in (FIRST if number == 1 else later).items():
            with subtests.test(check.__name__, iteration=number):
                check(f"{case}/it{number}", found, tolerance)
        if phase:
            with subtests.test(check_phase.__name__, iteration=number):
                check_phase(f"{case}/it{number}", found)


@pytest.mark.parametrize(
    "name",
    [
        "hinge_tuned_encoder",
        "lsgan_tuned_both",
        "lsgan_tuned_image_style5",
        "wgan_tuned",
        "lsgan_ramp",
        "lsgan_early_image",
    ],
)
def test_a_case_that_is_not_understood_fails(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        golden.case_config(name)
