"""One iteration of DG-Net: the centre of this program.

Zheng et al., "Joint Discriminative and Generative Learning for Person Re-identification", CVPR 2019, section 3.

One batch holds two half-batches [a; b]; an image's partner is its counterpart in the other half, swap(t) = t.roll(B).

    s = E_s(gray(x)), f = E_a(x)      structure and appearance of every image
    x_self  = G(s, f)                 must equal x
    x_same  = G(s, f_pos)             must equal x
    x_cross = G(s, swap(f))           my structure in my partner's clothes: [x_ab; x_ba]
    worn    = swap(x_cross)           my clothes on my partner's structure: [x_ba; x_ab], the published order
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dgnet.config import Config
from dgnet.losses import joint as losses
from dgnet.losses import metric
from dgnet.losses.joint import both_halves
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen, group_statistics
from dgnet.models.perceptual import Perceptual
from dgnet.models.teacher import Teacher
from dgnet.train.optim import Optimizers
from dgnet.train.schedule import loss_weights, rate


class Scene(NamedTuple):
    """Everything that one forward pass knows; the first dimension is the batch of 2B images."""

    x: Tensor  # [2B, 3, H, W]
    y: Tensor  # [2B]
    s: Tensor  # [2B, C, H/d, W/d], d = model.structure.downsampling, published 4
    f: Tensor  # [2B, code]
    logits: tuple[Tensor, ...]  # per head [2B, K], of the (erased) images
    logits_pos: tuple[Tensor, ...]  # the same of the (erased) positives
    pooled: Tensor  # [4B, C], the pooled maps of both
    x_self: Tensor
    x_same: Tensor
    x_cross: Tensor


class Shown(NamedTuple):
    """What the discriminator sees of a scene."""

    x: Tensor  # [2B, 3, H, W]
    x_cross: Tensor


class Outcome(NamedTuple):
    """What an iteration reports: total is sum(weights[k] * terms[k]), so what is plotted is what was minimised."""

    terms: dict[str, Tensor]
    weights: dict[str, float]
    total: Tensor
    discriminator: Tensor
    penalty: Tensor


def swap(t: Tensor) -> Tensor:
    """Every image's partner: the other half-batch."""
    return t.roll(len(t) // 2, dims=0)


class JointStep:
    """Calling it does one iteration.

    `generator` draws the noise on edges, `coins` the coin of L_s (`generator`, unless given); `erase` erases random
    rectangles of [N, 3, H, W] (None: erasing is off).
    """

    def __init__(
        self,
        net: DGNet,
        teacher: Teacher | None,
        config: Config,
        optimizers: Optimizers,
        generator: torch.Generator,
        erase: Callable[[Tensor], Tensor] | None = None,
        perceptual: Perceptual | None = None,
        *,
        coins: torch.Generator | None = None,
    ) -> None:
        self.net, self.teacher, self.config, self.optimizers = net, teacher, config, optimizers
        self.generator, self.coins, self.erase, self.perceptual = generator, coins or generator, erase, perceptual
        self.decoder: Callable[[Tensor, Tensor], Tensor] = net.decoder
        if config.train.activation_checkpointing:
            chance = config.model.decoder.dropout > 0
            self.decoder = partial(checkpoint, net.decoder, use_reentrant=False, preserve_rng_state=chance)
        half = config.train.half_batch
        group = half if config.model.appearance.batch_norm == "half_batch" else 2 * half
        synchronised = config.model.appearance.synchronised
        group_statistics(net.appearance, group, synchronised=synchronised)
        if teacher is not None:
            teacher.group, teacher.synchronised = group, synchronised

    def __call__(self, x: Tensor, x_pos: Tensor, y: Tensor, iteration: int) -> Outcome:
        """x, x_pos [2B, 3, H, W] normalised, y [2B] labels; `iteration` counts from 1.

        Nothing here waits for the device. A loss that isn't finite stops all steps; `optimizers.watch` tells which.
        """
        train, optimizers = self.config.train, self.optimizers
        # The warm-ups rise in the middle: terms are evaluated by the weights before, and count with those after.
        evaluated, counted = (loss_weights(self.config.loss, at) for at in (iteration - 1, iteration))
        optimizers.set_rates(rate(train, train.decay, iteration, train.iterations + 1))

        with optimizers.autocast():
            scene = self.generate(x, x_pos, y)

        with optimizers.autocast():
            judged, penalty = self.judge(scene, penalise=iteration % self.config.loss.r1_every == 0)
        discriminator = both_halves(judged + self.config.loss.r1 * self.config.loss.r1_every * penalty)
        seen = {"discriminator": both_halves(judged), "penalty": both_halves(penalty)}
        optimizers.descend(
            self.config.loss.adversarial * discriminator, "discriminator", iteration=iteration, terms=seen
        )

        with optimizers.autocast():
            terms = self.terms(scene, evaluated)
        total = torch.stack([counted[name] * term for name, term in terms.items()]).sum()
        optimizers.descend(total, "generator", "identity", iteration=iteration, terms=terms)
        optimizers.finish()
        return Outcome(terms, counted, total, discriminator, seen["penalty"])

    def generate(self, x: Tensor, x_pos: Tensor, y: Tensor) -> Scene:
        """Encode every image, then paint each in its own, its positive's and its partner's appearance."""
        E_s, E_a, G = self.net.structure, self.net.appearance, self.decoder
        both = torch.cat([x, x_pos])

        s = E_s(self.net.structure_of(x, self.generator))
        # f comes from clean images and, as published, brings no gradient to E_a. With erasing, the logits come from a
        # second pass, so that the first needs a graph only if f does.
        published = self.config.model.appearance.gradient == "published"
        with torch.no_grad() if published and self.erase else nullcontext():
            clean = E_a(both)
        seen = E_a(self.erase(both)) if self.erase else clean
        f, f_pos = (clean.code.detach() if published else clean.code).chunk(2)

        x_self, x_same, x_cross = G(s, torch.cat([f, f_pos, swap(f)])).chunk(3)
        logits, logits_pos = zip(*(head.chunk(2) for head in seen.logits), strict=True)
        return Scene(x, y, s, f, logits, logits_pos, seen.pooled, x_self, x_same, x_cross)

    def judge(self, scene: Scene | Shown, *, penalise: bool = True) -> tuple[Tensor, Tensor]:
        """D's loss and gradient penalty per image [2B]: it learns to tell real images from x_cross, which is fixed.

        Not to `penalise` makes the penalty 0 and saves its second derivatives.
        """
        kind, D = self.config.model.discriminator.kind, self.net.discriminator
        fake = D(swap(scene.x_cross).detach())
        with self.optimizers.full_precision():  # second derivatives lose too much in half precision
            x = scene.x.detach().requires_grad_(penalise)
            real = D(x)
            penalty = losses.r1(kind, real, x) if penalise else x.new_zeros(len(x))
        return losses.discriminator(kind, fake, real), penalty

    def toss(self) -> float:
        """The coin of L_s, thrown in every iteration."""
        return float(torch.rand((), generator=self.coins, device=self.coins.device))

    def terms(self, scene: Scene, evaluated: dict[str, float], coin: float | None = None) -> dict[str, Tensor]:
        """The terms of the objective of generator and re-ID network, summed over both halves.

        Of those that are warmed up, the ones whose weight in `evaluated` is not 0. The others are there at any weight:
        times 0, they give their networks gradients of zeros, and an optimiser's weight decay and momentum act.
        `coin` is tossed here, unless given.
        """
        E_a, G, D, T = self.net.appearance, self.decoder, self.net.discriminator, self.teacher
        config, kind = self.config.loss, self.config.model.discriminator.kind
        batch_statistics = self.config.model.appearance.train_bn
        coin = self.toss() if coin is None else coin
        x, y, s, f = scene.x, scene.y, scene.s, scene.f
        worn = swap(scene.x_cross)
        term: dict[str, Tensor] = {}

        # Reconstruct: my own image from my own codes, and from another photo's appearance of me.
        term["image"] = losses.l1(scene.x_self, x)
        term["same_identity"] = losses.l1(scene.x_same, x)

        # Recognise: real images teach E_a; generated ones must be recognised by a fixed E_a as whom they wear.
        term["identity"] = self.recognised(scene.logits, y)
        term["positive_identity"] = self.recognised(scene.logits_pos, y)
        with frozen(E_a, batch_statistics=batch_statistics):
            again = E_a(worn)
        term["generated_identity"] = self.recognised(again.logits, y)

        # Compare every photo, its positive among them, with all others: off in the paper.
        term |= self.compared(scene, evaluated)

        # Recover the codes from the generated images, and from those the image.
        published = self.config.model.appearance.gradient == "published"
        f_again = again.code.detach() if published else again.code
        if evaluated["appearance_code"]:
            term["appearance_code"] = losses.l1(f_again, f.detach())
        if evaluated["structure_code"] or evaluated["cycle"]:
            s_again = self.recovered_structure(scene.x_cross, tune_encoder=coin < config.tune_encoder)
        if evaluated["structure_code"]:
            term["structure_code"] = losses.l1(s_again, s.detach())
        if evaluated["cycle"]:
            term["cycle"] = losses.l1(G(s_again, f_again), x)

        # Deceive the discriminator, which has just learnt.
        with frozen(D):
            term["adversarial"] = losses.adversarial(kind, D(worn))

        # Learn from generated images, which are fixed here: E_a's primary head from the teacher, its fine-grained head
        # the identity of the structure. While neither has a weight, E_a's running statistics see real images only.
        if E_a.fine_grained:
            term["fine_identity"] = losses.identity(scene.logits[1], y)
        if not E_a.striped and (evaluated["primary"] or evaluated["fine_grained"]):
            seen = E_a(worn.detach()).logits
            if evaluated["primary"] and T is not None:
                labels = losses.teacher_labels(config.teacher_style, T(worn.detach()), y, swap(y))
                term["primary"] = losses.primary(seen[0], labels)
            if evaluated["fine_grained"] and E_a.fine_grained:
                term["fine_grained"] = losses.identity(seen[1], swap(y))

        if self.perceptual is not None:
            term["perceptual"] = losses.perceptual(self.perceptual(worn), self.perceptual(swap(x)))
        return {name: both_halves(value) for name, value in term.items()}

    def recognised(self, logits: tuple[Tensor, ...], y: Tensor) -> Tensor:
        """Cross-entropy per image [N] of the primary (or only) head; of PCB's stripes, the mean."""
        deciding = logits if self.net.appearance.striped else logits[:1]
        smoothing = self.config.loss.label_smoothing
        return torch.stack([metric.smoothed(head, y, smoothing) for head in deciding]).mean(0)

    def compared(self, scene: Scene, evaluated: dict[str, float]) -> dict[str, Tensor]:
        """The metric terms that have a weight, per image [4B]: photos and positives together, so nobody lacks one."""
        return metric.terms(
            self.config.loss.metric,
            evaluated,
            torch.cat([scene.y, scene.y]),
            pooled=scene.pooled,
            logits=torch.cat([scene.logits[0], scene.logits_pos[0]]),
            scale=self.config.model.appearance.cosine_scale,
            centres=self.net.appearance.centres,
        )

    def recovered_structure(self, x_cross: Tensor, *, tune_encoder: bool) -> Tensor:
        """E_s of generated images: E_s learns by it, the image fixed; or else the image, E_s fixed."""
        E_s = self.net.structure
        if tune_encoder:
            return E_s(self.net.structure_of(x_cross.detach(), self.generator))  # type: ignore[no-any-return]
        with frozen(E_s):
            return E_s(self.net.structure_of(x_cross, self.generator))  # type: ignore[no-any-return]
