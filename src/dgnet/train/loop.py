"""The loop around a training step: seeds, progress, log, checkpoints, stopping, resuming. It knows nothing of DG-Net.

Everything that is drawn in iteration t is drawn from (seed, t), so the state of a run is its weights, its optimisers
and one number: nothing else has to be remembered to continue exactly.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from dgnet import __version__, console
from dgnet.errors import UserError
from dgnet.train import checkpoint, distributed
from dgnet.train.batches import Stream
from dgnet.train.chance import seed_of
from dgnet.train.logs import Log, OnLine, summary_writer
from dgnet.train.optim import Optimizers

CHECKPOINTS = "checkpoints"  # folder in that of the run
NUMBERS = 2  # raised whenever the same configuration and seed come to give other numbers
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
    length_key: str
    """Of the configuration: what decides `iterations`."""
    seed: int
    checkpoint_every: int
    keep: int
    log_every: int
    title: str
    """Of the progress bar."""
    resume_command: str
    """What the user types to go on after an interruption."""
    fingerprint: dict[str, Any]
    """What a checkpoint must agree with to be continued from, such as the configuration and the training set."""
    tensorboard: bool = False


class Loop(Generic[B]):
    """Calls `step(batch, iteration)` for iterations 1, 2, ... to the end of the plan.

    `step` returns a line for the log, with "total" for the progress bar; `on_line` is given it, too.
    `module` and `optimizers` are what `step` changes.
    """

    def __init__(
        self,
        plan: Plan,
        module: nn.Module,
        optimizers: Optimizers,
        stream: Stream[B],
        step: Callable[[B, int], Line],
        on_line: OnLine | None = None,
    ) -> None:
        self.on_line = on_line
        self.plan, self.module, self.optimizers, self.stream, self.step = plan, module, optimizers, stream, step
        self.folder = plan.run / CHECKPOINTS
        self.done = 0
        if plan.tensorboard:
            summary_writer()  # if it is missing, say so before anything is written

    def resume(self) -> None:
        """Continue from the newest whole checkpoint.

        Raises `UserError` if it is of another configuration, training set or number of processes, is beyond the end of
        the plan, or none is whole.
        """
        path, state = checkpoint.load_newest(self.folder)
        if state.get("numbers") != NUMBERS:
            raise UserError(
                f"{path}: written by dgnet {state.get('version')}, whose step and random numbers are not those of "
                f"dgnet {__version__}; finish the run with that version, or start a new run folder"
            )
        for key, value in self.plan.fingerprint.items():
            if (before := state["fingerprint"].get(key)) != value:
                raise UserError(
                    f"{path}: trained with {key} = {before}, not {value}; "
                    "continue with the same, or start a new run folder"
                )
        if (done := int(state["iteration"])) > self.plan.iterations:
            raise UserError(
                f"{path}: {done} iterations are done, and {self.plan.length_key} asks for {self.plan.iterations}; "
                f"raise {self.plan.length_key}, or start a new run folder for a shorter run"
            )
        try:
            self.module.load_state_dict(state["module"])
            self.optimizers.load_state_dict(state["optimizers"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{path}: written by dgnet {state['version']}, whose networks differ from these") from error
        # The seed of the data order is each process's own, so of the order only the position is taken.
        self.stream.load_state_dict({**self.stream.state_dict(), "next": state["stream"]["next"]})
        self.done = done
        console.notice(f"{self.plan.title}: going on after iteration {self.done} of {self.plan.iterations}")

    def run(self) -> bool:
        """Train to the end (True), or until SIGINT or SIGTERM: then the iteration is finished and saved (False).

        Raises `UserError` if a loss is not finite, once everything needed to look at it is saved.
        """
        plan, began, first = self.plan, time.monotonic(), self.done
        first_process = distributed.rank() == 0
        log = Log(plan.run, self.done, tensorboard=plan.tensorboard, on_line=self.on_line) if first_process else None
        self.module.train()
        with console.progress(speed_unit="it") as bar, _signals() as asked_to_stop:
            task = bar.add_task(plan.title, total=plan.iterations, completed=self.done, note="")
            while self.done < plan.iterations:
                iteration = self.done + 1
                torch.manual_seed(seed_of(plan.seed, "layers", iteration, distributed.rank()))
                batch = next(self.stream)
                try:
                    line = self.step(batch, iteration)
                except NonFiniteLossError as error:
                    raise UserError(
                        f"{error}; the batch and the weights are in {self._save_evidence(batch)}"
                    ) from error
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
                    if bar.disable:
                        console.notice(f"{plan.title}: {iteration} of {plan.iterations} iterations done and saved")
                if stop and not last:
                    console.notice(f"stopped after iteration {iteration}; go on with: {plan.resume_command}")
                    break
        return self.done >= plan.iterations

    def _save(self) -> None:
        if distributed.rank() == 0:
            checkpoint.save(checkpoint.of_iteration(self.folder, self.done), self._state())
            checkpoint.prune(self.folder, self.plan.keep)
        distributed.wait()

    def _state(self) -> checkpoint.Tree:
        return {
            "version": __version__,
            "numbers": NUMBERS,
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
    """Raises `NonFiniteLossError` in all processes if one of the scalars is NaN or infinite; names those that are."""
    values = torch.stack([term.detach() for term in terms.values()])
    finite = bool(torch.isfinite(values.sum()))
    if distributed.any_process(not finite):
        bad = [
            f"{name} is {value}" for name, value in zip(terms, values.tolist(), strict=True) if not math.isfinite(value)
        ]
        unnamed = "a loss of another process is not finite" if finite else "the sum of all terms overflows"
        raise NonFiniteLossError(f"iteration {iteration}: {', '.join(bad) or unnamed}")


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGINT or SIGTERM has come. A second Ctrl-C interrupts at once."""
    came: float | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        now = time.monotonic()
        if came is None:
            came = now
            with suppress(RuntimeError):  # the signal came in the middle of a print
                console.notice("stopping after this iteration (Ctrl-C again: at once, losing what is not saved)")
        elif number == signal.SIGINT and now - came > 1:  # torchrun passes on a Ctrl-C that has come here already
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread hears of signals
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came is not None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers(tree: Any) -> Any:
    """Tensors in nested dictionaries as Python numbers, six digits."""
    if isinstance(tree, dict):
        return {key: _numbers(value) for key, value in tree.items()}
    return float(f"{tree.item():.6g}") if isinstance(tree, Tensor) else tree
