"""The loop around a training step: seeds, progress, log, checkpoints, interruption, resumption. It knows nothing of DG-Net.

Everything that is drawn in iteration t is drawn from (seed, t), so the state of a run is its weights, its optimisers and
one number: nothing else has to be remembered to continue exactly.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dgnet import console
from dgnet.data.batches import Stream
from dgnet.errors import UserError
from dgnet.train import checkpoint, distributed
from dgnet.train.logs import Log
from dgnet.train.optim import Optimizers

B = TypeVar("B")
Line = dict[str, Any]  # of the log: tensors are turned into numbers only when the line is written


class NonFiniteLossError(FloatingPointError):
    """A loss became NaN or infinite; the message names the terms."""


@dataclass(frozen=True)
class Plan:
    """How long to train and what to leave behind."""

    run: Path
    """Folder of the run."""
    iterations: int
    seed: int
    checkpoint_every: int
    keep: int
    log_every: int
    title: str
    """Of the progress bar."""
    resume_command: str
    """What the user types to go on after an interruption."""
    fingerprint: dict[str, Any]
    """What a checkpoint must agree with to be continued from, such as the configuration and the identities."""
    tensorboard: bool = False


class Loop(Generic[B]):
    """Calls `step(batch, iteration)` for iterations 1, 2, ... and returns whether it reached the end.

    `step` returns a line for the log, with "total" for the progress bar. `module` and `optimizers` are what it changes.
    """

    def __init__(
        self,
        plan: Plan,
        module: nn.Module,
        optimizers: Optimizers,
        stream: Stream[B],
        step: Callable[[B, int], Line],
    ) -> None:
        self.plan, self.module, self.optimizers, self.stream, self.step = plan, module, optimizers, stream, step
        self.folder = plan.run / "checkpoints"
        self.done = 0

    def resume(self) -> None:
        """Continue from the newest checkpoint, or from the start if there is none.

        Raises `UserError` if that checkpoint is of another configuration or training set.
        """
        path = checkpoint.newest(self.folder)
        if path is None:
            return
        state = checkpoint.load(path)
        for key, value in self.plan.fingerprint.items():
            if state["fingerprint"].get(key) != value:
                raise UserError(
                    f"{path}: trained with {key} = {state['fingerprint'].get(key)}, not {value}; "
                    "continue with the same, or start a new run folder"
                )
        self.module.load_state_dict(state["module"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.done = int(state["iteration"])
        self.stream.load_state_dict(state["stream"])

    def run(self) -> bool:
        """Train to the end (True), or until SIGINT or SIGTERM: then the iteration is finished and saved (False).

        Raises `UserError` if a loss is not finite, once everything needed to look at it is saved.
        """
        plan, began, first = self.plan, time.monotonic(), self.done
        log = Log(plan.run, self.done, tensorboard=plan.tensorboard) if distributed.rank() == 0 else None
        self.module.train()
        with console.progress(speed_unit="it") as bar, _signals() as asked_to_stop:
            task = bar.add_task(plan.title, total=plan.iterations, completed=self.done, note="")
            while self.done < plan.iterations:
                iteration = self.done + 1
                torch.manual_seed(seed_of(plan.seed, iteration, distributed.rank()))
                batch = next(self.stream)
                try:
                    line = self.step(batch, iteration)
                except NonFiniteLossError as error:
                    raise UserError(f"{error}; the batch and the weights are in {self._save_evidence(batch)}") from None
                distributed.average_statistics(self.module)
                self.done = iteration

                last = iteration == plan.iterations
                if log and (last or iteration % plan.log_every == 0):
                    seconds = (time.monotonic() - began) / (iteration - first)
                    line = _numbers({"iteration": iteration, **line, "seconds": round(seconds, 4)})
                    log.write(line)
                    bar.update(task, note=f"loss {line['total']:.3f}")
                bar.update(task, completed=iteration)
                stop = distributed.any_process(asked_to_stop())
                if last or stop or iteration % plan.checkpoint_every == 0:
                    self._save()
                if stop and not last:
                    console.notice(f"stopped after iteration {iteration}; go on with: {plan.resume_command}")
                    break
        if log:
            log.close()
        return self.done >= plan.iterations

    def _save(self) -> None:
        if distributed.rank() == 0:
            checkpoint.save(checkpoint.of_iteration(self.folder, self.done), self._state())
            checkpoint.prune(self.folder, self.plan.keep)
        distributed.wait()

    def _state(self) -> checkpoint.Tree:
        return {
            "iteration": self.done,
            "fingerprint": self.plan.fingerprint,
            "module": dict(self.module.state_dict()),
            "optimizers": self.optimizers.state_dict(),
            "stream": self.stream.state_dict(),
        }

    def _save_evidence(self, batch: B) -> Path:
        path = self.plan.run / f"nonfinite-{self.done + 1:08d}-rank{distributed.rank()}.safetensors"
        checkpoint.save(path, {**self._state(), "batch": dict(vars(batch))})
        return path


def require_finite(iteration: int, terms: dict[str, Tensor]) -> None:
    """Raises `NonFiniteLossError` if one of the scalars is NaN or infinite, with the names of those that are."""
    if not torch.isfinite(torch.stack([term.detach() for term in terms.values()]).sum()):
        bad = [f"{name} is {float(term)}" for name, term in terms.items() if not torch.isfinite(term)]
        raise NonFiniteLossError(f"iteration {iteration}: {', '.join(bad) or 'the sum of all terms overflows'}")


def seed_of(*numbers: int) -> int:
    """A seed for torch from several numbers, such as (seed, iteration, rank)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGINT or SIGTERM has come. A second SIGINT interrupts at once."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came = True
        console.notice("stopping after this iteration (Ctrl-C again: at once, losing what is not saved)")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers(tree: Any) -> Any:
    """Tensors in nested dictionaries as Python numbers, six digits."""
    if isinstance(tree, dict):
        return {key: _numbers(value) for key, value in tree.items()}
    return float(f"{tree.item():.6g}") if isinstance(tree, Tensor) else tree
