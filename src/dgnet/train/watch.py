"""What is known of an iteration only on the device: whether its losses are finite. Nobody waits there for the answer.

Asking a GPU for a number stops the host until everything launched so far is done. So a loss that is not finite trips a
switch on the device, which lets every later step of an optimiser do nothing, and the host reads the losses one
iteration late: then the weights are still those that gave them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class NonFiniteLossError(FloatingPointError):
    """A loss became NaN or infinite; the message names the terms."""

    def __init__(self, iteration: int, what: str) -> None:
        super().__init__(f"iteration {iteration}: {what}")
        self.iteration = iteration


class Seen(NamedTuple):
    """The losses of one step of optimisers, on their way to the host."""

    iteration: int
    names: list[str]
    numbers: Tensor  # on the host: tripped, asked to stop, then the losses
    arrived: torch.cuda.Event | None  # None: they are there


class Watch:
    """The switch, and what was seen.

    `tripped` [] on the device is 0, and 1 from the first loss on that is not finite, in all processes.
    `asked_to_stop` says whether this process should end; `stop` whether any process was asked to.
    """

    def __init__(self, device: torch.device) -> None:
        self.tripped = torch.zeros((), device=device)
        self.asked_to_stop: Callable[[], bool] = lambda: False
        self._seen: deque[Seen] = deque()
        self._stop = False
        self._flags = torch.zeros(2)

    def look(self, terms: dict[str, Tensor]) -> Tensor:
        """Float [2] on the device: whether a term is not finite, whether this process should stop."""
        total = torch.stack([term.detach() for term in terms.values()]).sum()
        # A number that is not finite gives NaN when multiplied by 0.
        asked = torch.full_like(self.tripped, float(self.asked_to_stop()))
        return torch.stack([(total * 0 != 0).to(self.tripped.dtype), asked])

    def note(self, iteration: int, terms: dict[str, Tensor], flags: Tensor) -> None:
        """Keep what was seen, and send it to the host. `flags`: those of `look`, added up over all processes."""
        self.tripped.copy_((self.tripped + flags[0]).clamp(max=1))
        numbers = torch.stack([self.tripped, flags[1], *(t.detach().to(self.tripped.dtype) for t in terms.values())])
        if numbers.device.type != "cuda":
            self._seen.append(Seen(iteration, list(terms), numbers, None))
            return
        host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._seen.append(Seen(iteration, list(terms), host, arrived))

    def stop(self, upto: int) -> bool:
        """Whether any process was asked to stop, as far as iterations up to `upto` know.

        Raises `NonFiniteLossError` in all processes if one of their losses is NaN or infinite; it names those that are.
        """
        while self._seen and self._seen[0].iteration <= upto:
            seen = self._seen.popleft()
            if seen.arrived is not None:
                seen.arrived.synchronize()
            tripped, asked, *values = seen.numbers.tolist()
            self._stop = self._stop or asked > 0
            if tripped:
                bad = [f"{n} is {v}" for n, v in zip(seen.names, values, strict=True) if not math.isfinite(v)]
                finite = "a loss of another process is not finite, or the sum of all terms overflows"
                raise NonFiniteLossError(seen.iteration, ", ".join(bad) or finite)
        return self._stop
