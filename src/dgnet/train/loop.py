"""The loop around a training step: seeds, progress, log, checkpoints, stopping, resuming. It knows nothing of DG-Net.

Everything that is drawn in iteration t is drawn from (seed, t), so the state of a run is its weights, its optimisers
and one number: nothing else has to be remembered to continue exactly.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from dgnet import __version__, console
from dgnet.errors import UserError
from dgnet.logline import LogLine
from dgnet.train import checkpoint, distributed
from dgnet.train.averaging import RunningMean
from dgnet.train.batches import Stream
from dgnet.train.chance import seed_of
from dgnet.train.logs import Log, OnLine, summary_writer
from dgnet.train.optim import Optimizers
from dgnet.train.watch import NonFiniteLossError

CHECKPOINTS = "checkpoints"  # folder in that of the run
NUMBERS = 2  # raised whenever the same configuration and seed come to give other numbers
B = TypeVar("B")
Line = dict[str, Any]  # of the log: tensors are turned into numbers only when the line is written


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
    advice: Mapping[str, str] = field(default_factory=dict)
    """What to do where something of the fingerprint differs, if more can be done than to continue with the same."""
    tensorboard: bool = False
    ema: float = 0.0
    """Decay of the running mean of the weights, which then is what is left for use; 0: the last ones are."""


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
        self.saver = checkpoint.Saver(self.folder, plan.keep)
        self.mean = RunningMean(module, plan.ema) if plan.ema else None
        self.done = 0
        self.late = int(optimizers.device.type == "cuda")  # iterations by which losses are read later than computed
        if plan.tensorboard:
            summary_writer()  # if it is missing, say so before anything is written

    @property
    def result(self) -> nn.Module:
        """The network for use: the running mean, where there is one."""
        return self.mean.net if self.mean else self.module

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
            if (before := state["fingerprint"].get(key, value)) != value:  # it may be older than a key of today
                advice = self.plan.advice.get(key, "continue with the same")
                raise UserError(
                    f"{path}: trained with {key} = {before}, not {value}; {advice}, or start a new run folder"
                )
        if (done := int(state["iteration"])) > self.plan.iterations:
            raise UserError(
                f"{path}: {done} iterations are done, and {self.plan.length_key} asks for {self.plan.iterations}; "
                f"raise {self.plan.length_key}, or start a new run folder for a shorter run"
            )
        try:
            self.module.load_state_dict(state["module"])
            self.optimizers.load_state_dict(state["optimizers"])
            if self.mean:
                self.mean.net.load_state_dict(state["mean"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{path}: written by dgnet {state['version']}, whose networks differ from these") from error
        # What the order depends on has been compared above, so of it only the position is taken.
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
        watch = self.optimizers.watch
        batches: deque[tuple[int, B]] = deque(maxlen=1 + self.late)
        self.module.train()
        with console.progress(speed_unit="it") as bar, _signals() as asked_to_stop, self.saver:
            watch.asked_to_stop = asked_to_stop
            task = bar.add_task(plan.title, total=plan.iterations, completed=self.done, note="")
            while self.done < plan.iterations:
                iteration = self.done + 1
                torch.manual_seed(seed_of(plan.seed, "layers", iteration, distributed.rank()))
                batches.append((iteration, next(self.stream)))
                line = self.step(batches[-1][1], iteration)
                if self.mean:
                    self.mean.follow(self.module, iteration)
                self.done = iteration
                self.saver.look()

                last = iteration == plan.iterations
                logged, saved = last or iteration % plan.log_every == 0, last or iteration % plan.checkpoint_every == 0
                try:
                    stop = asked_to_stop() if distributed.count() == 1 else watch.stop(iteration - self.late)
                    watch.stop(iteration if stop or logged or saved else iteration - self.late)
                except NonFiniteLossError as error:
                    evidence = self._save_evidence(error.iteration, dict(batches)[error.iteration])
                    raise UserError(f"{error}; the batch and the weights are in {evidence}") from error
                if logged:
                    line = _numbers(line)
                if log and logged:
                    seconds = (time.monotonic() - began) / (iteration - first)
                    entry = {"iteration": iteration, **line, "seconds": round(seconds, 4)}
                    log.write(cast(LogLine, entry))
                    bar.update(task, note=f"loss {line['total']:.3f}")
                bar.update(task, completed=iteration)
                if stop or saved:
                    self._save(say=bar.disable)
                if stop or last:
                    self.saver.wait()
                    distributed.wait()
                if stop and not last:
                    console.notice(f"stopped after iteration {iteration}; go on with: {plan.resume_command}")
                    break
        return self.done >= plan.iterations

    def _save(self, *, say: bool) -> None:
        distributed.average_statistics(self.module)
        if self.mean:
            distributed.average_statistics(self.mean.net)
        if distributed.rank() == 0:
            done = f"{self.plan.title}: {self.done} of {self.plan.iterations} iterations done and saved"
            self.saver.save(self.done, self._state(), lambda: console.notice(done) if say else None)

    def _state(self) -> checkpoint.Tree:
        return {
            "version": __version__,
            "numbers": NUMBERS,
            "iteration": self.done,
            "fingerprint": self.plan.fingerprint,
            "module": dict(self.module.state_dict()),
            **({"mean": dict(self.mean.net.state_dict())} if self.mean else {}),
            "optimizers": self.optimizers.state_dict(),
            "stream": self.stream.state_dict(),
        }

    def _save_evidence(self, iteration: int, batch: B) -> Path:
        self.done = iteration - 1  # no step was taken since
        path = self.plan.run / f"nonfinite-{iteration:08d}-rank{distributed.rank()}.safetensors"
        checkpoint.save(path, {**self._state(), "batch": dict(vars(batch))})
        return path


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


def _numbers(line: Line) -> Line:
    """Tensors in nested dictionaries as Python numbers, six digits: their means over all processes, fetched at once."""
    leaves, structure = tree_flatten(line)
    tensors = [leaf.detach().double() for leaf in leaves if isinstance(leaf, Tensor)]
    numbers = iter(distributed.mean(torch.stack(tensors)).tolist() if tensors else [])
    return tree_unflatten(  # type: ignore[no-any-return]
        [float(f"{next(numbers):.6g}") if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure
    )
