"""An iteration of a batch in parts: the step of a large batch in the memory of a small one.

An iteration has two descents, the discriminator's and then that of generator and identity loss, which meets the
discriminator that has just learnt. So every part is seen twice: by D, painted without a graph; then in full. The step
is that of the whole batch, with the statistics of each half of each part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dgnet.losses.joint import both_halves
from dgnet.train.schedule import loss_weights, rate
from dgnet.train.step import JointStep, Outcome, Shown, swap


class AccumulatedStep(JointStep):
    """Calling it does one iteration on [part; part; ...], each of two half-batches: x, x_pos [P 2B, 3, H, W], y [P 2B].

    P is `train.accumulate`. `seed(iteration, part)` seeds whatever a part draws, whenever one is taken up.
    """

    def __init__(self, *given: Any, seed: Callable[[int, int], object], **options: Any) -> None:
        super().__init__(*given, **options)
        self.seed = seed

    def __call__(self, x: Tensor, x_pos: Tensor, y: Tensor, iteration: int) -> Outcome:
        train, loss, optimizers = self.config.train, self.config.loss, self.optimizers
        count = train.accumulate
        evaluated, counted = (loss_weights(loss, at) for at in (iteration - 1, iteration))
        optimizers.set_rates(rate(train, train.decay, iteration, train.iterations + 1))
        parts = list(zip(x.chunk(count), x_pos.chunk(count), y.chunk(count), strict=True))
        coin = self.toss()  # one for all parts

        seen: dict[str, Tensor] = {}
        for number, (x, _, _) in enumerate(parts, 1):
            self.seed(iteration, number - 1)
            with optimizers.autocast():
                judged, penalty = self.judge(self.glance(x), penalise=iteration % loss.r1_every == 0)
            seen = _sum(seen, {"discriminator": both_halves(judged) / count, "penalty": both_halves(penalty) / count})
            discriminator = both_halves(judged + loss.r1 * loss.r1_every * penalty) / count
            if number < count:
                optimizers.add(loss.adversarial * discriminator, "discriminator")
        optimizers.descend(loss.adversarial * discriminator, "discriminator", iteration=iteration, terms=seen)

        terms: dict[str, Tensor] = {}
        for number, part in enumerate(parts, 1):
            self.seed(iteration, number - 1)
            with optimizers.autocast():
                mine = {name: term / count for name, term in self.terms(self.generate(*part), evaluated, coin).items()}
            terms = _sum(terms, mine)
            total = torch.stack([counted[name] * term for name, term in mine.items()]).sum()
            if number < count:
                optimizers.add(total, "generator", "identity")
        optimizers.descend(total, "generator", "identity", iteration=iteration, terms=terms)
        optimizers.finish()
        total = torch.stack([counted[name] * term for name, term in terms.items()]).sum()
        penalised = seen["discriminator"] + loss.r1 * loss.r1_every * seen["penalty"]
        return Outcome(terms, counted, total, penalised, seen["penalty"])

    @torch.no_grad()
    def glance(self, x: Tensor) -> Shown:
        """Every image in its partner's appearance, as `generate` paints it, without a graph and without a trace."""
        s = self.net.structure(self.net.structure_of(x, self.generator))
        with untouched(self.net.appearance):
            f = self.net.appearance.pool(x)[0]
        return Shown(x, self.net.decoder(s, swap(f)))


@contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Whatever happens inside, the network's buffers, such as running statistics, are afterwards what they were."""
    kept = [(buffer, buffer.clone()) for buffer in net.buffers()]
    yield
    for buffer, before in kept:
        buffer.copy_(before)


def _sum(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: a[name] + term.detach() if a else term.detach() for name, term in b.items()}
