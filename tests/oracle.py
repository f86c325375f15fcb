"""One iteration of DG-Net word for word: the half-batches a and b one after the other, frozen networks as deep copies.

Written from the specification of the method, as a test oracle and as what the step is timed against. It shares the
network classes with the program, but nothing of `dgnet.train.step` and `dgnet.losses`, and it wastes what the published
code wastes: deep copies in every iteration, which collect gradients, and D's gradients in the generator's step.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Adam

from dgnet.config import METRICS, Config
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline

Halves = tuple[Tensor, Tensor]


class Result(NamedTuple):
    """What one iteration saw; `_a` and `_b` in the order of the pairs."""

    terms: dict[str, Halves]  # before their weights
    weights: dict[str, float]
    total: Tensor
    discriminator: Halves  # with the penalty and its factor
    penalty: Halves  # without
    gradients: dict[str, Tensor | None]  # of every parameter when its optimiser steps


class Oracle:
    """The whole state of a training: networks (no grouped statistics), optimisers, the generator of random numbers."""

    def __init__(self, net: DGNet, teachers: Sequence[Baseline], config: Config, generator: torch.Generator) -> None:
        self.net, self.teachers, self.config, self.generator = net, list(teachers), config, generator
        train, E_a = config.train, net.appearance
        adam = {"lr": train.learning_rate, "betas": train.betas, "weight_decay": train.weight_decay}
        self.adam_generator = Adam([*net.structure.parameters(), *net.decoder.parameters()], **adam)
        self.adam_discriminator = Adam(net.discriminator.parameters(), **adam)
        self.sgd = SGD(
            [
                {"params": list(E_a.backbone.parameters()), "lr": train.backbone_learning_rate},
                {"params": [*E_a.heads.parameters(), *E_a.pooling.parameters()], "lr": train.head_learning_rate},
            ],
            momentum=train.momentum,
            nesterov=True,
            weight_decay=train.weight_decay,
        )
        self.rates = [(g, g["lr"]) for o in self.optimizers for g in o.param_groups]

    @property
    def optimizers(self) -> tuple[Adam, Adam, SGD]:
        return self.adam_generator, self.adam_discriminator, self.sgd

    def __call__(
        self, xa: Tensor, xb: Tensor, xpa: Tensor, xpb: Tensor, la: Tensor, lb: Tensor, iteration: int,
        erased: Sequence[Tensor] | None = None,
    ) -> Result:  # fmt: skip
        """One iteration. `erased`: the erased pixels of xa, xb, xpa, xpb, bool [B, 1, H, W]; none: erasing is off."""
        config, net = self.config, self.net
        loss, appearance = config.loss, config.model.appearance
        E_s, E_a, G, D = net.structure, net.appearance, net.decoder, net.discriminator
        paper = appearance.gradient == "paper"
        for group, rate in self.rates:
            group["lr"] = rate * config.train.decay ** sum(iteration >= m for m in config.train.milestones)

        # Forward.
        s_a, s_b = E_s(self.structure_of(xa)), E_s(self.structure_of(xb))
        f_a, logits_a, m_a = E_a(xa)
        f_b, logits_b, m_b = E_a(xb)
        fp_a, logits_pa, m_pa = E_a(xpa)
        fp_b, logits_pb, m_pb = E_a(xpb)
        if erased is not None:
            (_, logits_a, m_a), (_, logits_b, m_b), (_, logits_pa, m_pa), (_, logits_pb, m_pb) = (
                E_a(x.masked_fill(mask, 0.0)) for x, mask in zip((xa, xb, xpa, xpb), erased, strict=True)
            )
        if not paper:
            f_a, f_b, fp_a, fp_b = f_a.detach(), f_b.detach(), fp_a.detach(), fp_b.detach()
        x_ba, x_ab = G(s_b, f_a), G(s_a, f_b)
        x_aa, x_bb = G(s_a, f_a), G(s_b, f_b)
        x_aap, x_bbp = G(s_a, fp_a), G(s_b, fp_b)

        # Discriminator.
        self.adam_discriminator.zero_grad()
        dis_a, reg_a = self.discriminator_loss(x_ba.detach(), xa)
        dis_b, reg_b = self.discriminator_loss(x_ab.detach(), xb)
        (loss.adversarial * (dis_a + dis_b)).backward()
        gradients = {f"discriminator.{name}": p.grad.clone() for name, p in D.named_parameters()}
        self.adam_discriminator.step()

        # Generator and identity.
        terms: dict[str, Halves] = {}
        before, after = self.rising(iteration - 1), self.rising(iteration)
        fixed_E_s, fixed_E_a = fixed(E_s), fixed(E_a, batch_statistics=appearance.train_bn)
        coin = torch.rand((), generator=self.generator)
        if before["structure_code"] > 0 or before["cycle"] > 0:
            if coin < loss.tune_encoder:
                sr_a, sr_b = E_s(self.structure_of(x_ab.detach())), E_s(self.structure_of(x_ba.detach()))
            else:
                sr_a, sr_b = fixed_E_s(self.structure_of(x_ab)), fixed_E_s(self.structure_of(x_ba))
        fr_a, logits_ba = fixed_E_a(x_ba)[:2]
        fr_b, logits_ab = fixed_E_a(x_ab)[:2]
        if not paper:
            fr_a, fr_b = fr_a.detach(), fr_b.detach()
        terms["image"] = l1(x_aa, xa), l1(x_bb, xb)
        terms["same_identity"] = l1(x_aap, xa), l1(x_bbp, xb)
        if before["structure_code"] > 0:
            terms["structure_code"] = l1(sr_a, s_a.detach()), l1(sr_b, s_b.detach())
        if before["appearance_code"] > 0:
            terms["appearance_code"] = l1(fr_a, f_a.detach()), l1(fr_b, f_b.detach())
        if before["cycle"] > 0:
            terms["cycle"] = l1(G(sr_a, fr_a), xa), l1(G(sr_b, fr_b), xb)
        terms["identity"] = self.recognised(logits_a, la), self.recognised(logits_b, lb)
        terms["positive_identity"] = self.recognised(logits_pa, la), self.recognised(logits_pb, lb)
        terms["generated_identity"] = self.recognised(logits_ba, la), self.recognised(logits_ab, lb)
        terms["adversarial"] = self.deceive(x_ba), self.deceive(x_ab)

        recognising = torch.cat([logits_a[0], logits_b[0], logits_pa[0], logits_pb[0]])
        terms |= self.compared(torch.cat([m_a, m_b, m_pa, m_pb]), recognising, [*la, *lb, *la, *lb])

        if appearance.heads == "two":
            terms["fine_identity"] = F.cross_entropy(logits_a[1], la), F.cross_entropy(logits_b[1], lb)
        if before["teacher"] > 0 and appearance.heads != "pcb":
            seen_ba = E_a(x_ba.detach()).logits
            seen_ab = E_a(x_ab.detach()).logits
            if self.teachers:
                q_ba = self.soft_labels(x_ba.detach(), la, lb)
                q_ab = self.soft_labels(x_ab.detach(), lb, la)
                terms["primary"] = kl(q_ba, seen_ba[0]), kl(q_ab, seen_ab[0])
            if appearance.heads == "two":
                terms["fine_grained"] = F.cross_entropy(seen_ba[1], lb), F.cross_entropy(seen_ab[1], la)

        weights = self.weights(before, after)
        total = sum((weights[name] * (a + b) for name, (a, b) in terms.items()), torch.zeros_like(s_a[0, 0, 0, 0]))
        self.adam_generator.zero_grad()
        self.sgd.zero_grad()
        total.backward()
        learning = {"structure": E_s, "decoder": G, "appearance": E_a}
        for part, network in learning.items():
            gradients |= {f"{part}.{name}": p.grad for name, p in network.named_parameters() if p.requires_grad}
        self.adam_generator.step()
        self.sgd.step()
        return Result(terms, weights, total.detach(), (dis_a, dis_b), (reg_a, reg_b), gradients)

    def rising(self, iteration: int) -> dict[str, float]:
        """The weights that are warmed up as they stand after an iteration, grown one by one."""
        loss = self.config.loss
        grown = {"structure_code": 0.0, "appearance_code": 0.0, "cycle": 0.0, "teacher": 0.0}
        for counter in range(iteration):  # the published counter, from 0
            for name in grown:
                warm_up = loss.teacher_warm_up if name == "teacher" else loss.warm_up
                if counter > warm_up.start:
                    grown[name] = min(grown[name] + warm_up.per_iteration, getattr(loss, name))
        return grown

    def weights(self, before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
        """The factor of each term in the sum."""
        loss = self.config.loss
        return {
            "image": loss.image,
            "same_identity": loss.same_identity,
            "structure_code": after["structure_code"],
            "appearance_code": after["appearance_code"],
            "cycle": after["cycle"],
            "identity": loss.identity,
            "fine_identity": loss.identity * before["teacher"] * loss.fine_grained,
            "positive_identity": loss.positive_identity,
            "generated_identity": loss.generated_identity,
            "adversarial": loss.adversarial,
            "primary": after["teacher"] * loss.primary,
            "fine_grained": after["teacher"] * loss.fine_grained,
            **{name: getattr(loss, name) for name in METRICS},
        }

    def compared(self, pooled: Tensor, logits: Tensor, people: Sequence[Tensor]) -> dict[str, Halves]:
        """The metric terms that have a weight, photo by photo over both halves and their positives."""
        loss, numbers, E_a = self.config.loss, self.config.loss.metric, self.net.appearance
        y = [int(person) for person in people]
        scale = self.config.model.appearance.cosine_scale
        values: dict[str, list[Tensor]] = {name: [] for name in METRICS if getattr(loss, name)}
        for i, (photo, row) in enumerate(zip(pooled, logits, strict=True)):
            same = [other for j, other in enumerate(pooled) if j != i and y[j] == y[i]]
            others = [other for j, other in enumerate(pooled) if y[j] != y[i]]
            gap = max((photo - p).norm() for p in same) - min((photo - n).norm() for n in others)
            target = F.one_hot(torch.tensor(y[i]), len(row)).bool()
            for name, value in values.items():
                if name == "triplet":
                    value.append((numbers.triplet_margin + gap).clamp(min=0))
                elif name == "soft_triplet":
                    value.append((1 + gap.exp()).log())
                elif name == "circle":
                    near = [F.cosine_similarity(photo, p, dim=0) for p in same]
                    far = [F.cosine_similarity(photo, n, dim=0) for n in others]
                    m, s = numbers.circle_margin, numbers.circle_scale
                    a = sum((-s * (1 + m - c.detach()).clamp(min=0) * (c - 1 + m)).exp() for c in near)
                    b = sum((s * (c.detach() + m).clamp(min=0) * (c - m)).exp() for c in far)
                    value.append((1 + a * b).log())
                elif name == "arcface":
                    harder = scale * ((row / scale).acos() + numbers.arcface_margin).cos()
                    value.append(F.cross_entropy(torch.where(target, harder, row), torch.tensor(y[i])))
                elif name == "cosface":
                    harder = row - scale * numbers.cosface_margin
                    value.append(F.cross_entropy(torch.where(target, harder, row), torch.tensor(y[i])))
                elif name == "centre":
                    value.append(((photo - E_a.centres.at[y[i]].clone()) ** 2).sum() / 2)
        if "centre" in values:
            for person in set(y):
                photos = [photo.detach() for photo, whose in zip(pooled, y, strict=True) if whose == person]
                centre = E_a.centres.at[person]
                centre -= numbers.centre_rate * sum(centre - photo for photo in photos) / (1 + len(photos))
        means = {name: torch.stack(value).mean() for name, value in values.items()}
        return {name: (mean, mean) for name, mean in means.items()}

    def structure_of(self, x: Tensor) -> Tensor:
        return self.net.structure_of(x, self.generator)

    def recognised(self, logits: Sequence[Tensor], y: Tensor) -> Tensor:
        """Cross-entropy of the primary head; of PCB's stripes, the average."""
        smoothing = self.config.loss.label_smoothing
        if self.config.model.appearance.heads == "pcb":
            return torch.stack([cross_entropy(stripe, y, smoothing) for stripe in logits]).mean()
        return cross_entropy(logits[0], y, smoothing)

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Halves:
        """D's loss on one half, with R1, and R1 alone before its factor."""
        kind, D = self.config.model.discriminator.kind, self.net.discriminator
        real = real.clone().requires_grad_()
        total = penalty = torch.zeros_like(real[0, 0, 0, 0])
        for judged_fake, judged_real in zip(D(fake), D(real), strict=True):
            if kind == "lsgan":
                total = total + (judged_fake**2).mean() + ((judged_real - 1) ** 2).mean()
            elif kind == "nsgan":
                probably_fake, probably_real = judged_fake.sigmoid(), judged_real.sigmoid()
                total = total + F.binary_cross_entropy(probably_fake, torch.zeros_like(probably_fake))
                total = total + F.binary_cross_entropy(probably_real, torch.ones_like(probably_real))
                judged_real = probably_real
            else:
                total = total + judged_fake.mean() - judged_real.mean()
                total = total + 0.001 * ((judged_fake**2).sum() + (judged_real**2).sum())
            (slope,) = torch.autograd.grad(judged_real.sum(), real, create_graph=True)
            penalty = penalty + (slope**2).sum((1, 2, 3)).mean()
        return total + self.config.loss.r1 * penalty, penalty

    def deceive(self, fake: Tensor) -> Tensor:
        """What the generator minimises on one half."""
        kind = self.config.model.discriminator.kind
        total = torch.zeros_like(fake[0, 0, 0, 0])
        for judged in self.net.discriminator(fake):
            if kind == "lsgan":
                total = total + 2 * ((judged - 1) ** 2).mean()
            elif kind == "nsgan":
                total = total + F.binary_cross_entropy(judged.sigmoid(), torch.ones_like(judged))
            else:
                total = total - judged.mean() + 0.001 * (judged**2).sum()
        return total

    def soft_labels(self, x: Tensor, appearance: Tensor, structure: Tensor) -> Tensor:
        """The teacher's labels of generated images [B, 3, H, W] with these two labels [B] each."""
        predictions = []
        with torch.no_grad():
            for baseline in self.teachers:
                teacher = fixed(baseline, batch_statistics=self.config.model.appearance.train_bn)
                prediction = teacher(x).softmax(1) + teacher(x.flip(3)).softmax(1)
                predictions.append(prediction / prediction.sum(1, keepdim=True))
        prediction = sum(predictions, torch.zeros_like(predictions[0])) / len(predictions)
        labels = torch.zeros_like(prediction)
        for row, (mine, theirs) in enumerate(zip(appearance.tolist(), structure.tolist(), strict=True)):
            match self.config.loss.teacher_style:
                case "soft":
                    labels[row] = prediction[row]
                case "hard":
                    labels[row, prediction[row].argmax()] = 1.0
                case "appearance":
                    labels[row, mine] = 1.0
                case "uniform":
                    labels[row] = 1.0 / len(labels[row])
                case "two_labels":
                    for label in {mine, theirs}:
                        labels[row, label] = prediction[row, label]
                    labels[row] /= labels[row].sum()
        return labels


def fixed(network: nn.Module, *, batch_statistics: bool = False) -> nn.Module:
    """A deep copy in eval mode, its batch norms in training mode with `batch_statistics`."""
    twin = copy.deepcopy(network).eval()
    for module in twin.modules():
        if isinstance(module, _BatchNorm):
            module.train(batch_statistics)
    return twin


def cross_entropy(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """With labels of which a share is spread over all classes."""
    q = (1 - smoothing) * F.one_hot(y, logits.shape[1]).to(logits.dtype) + smoothing / logits.shape[1]
    return -(q * logits.log_softmax(1)).sum(1).mean()


def l1(u: Tensor, v: Tensor) -> Tensor:
    return (u - v).abs().mean()


def kl(labels: Tensor, logits: Tensor) -> Tensor:
    """KL(labels || softmax(logits)), summed over classes, mean over the batch; 0 log 0 = 0."""
    return (torch.special.xlogy(labels, labels) - labels * logits.log_softmax(1)).sum(1).mean()
