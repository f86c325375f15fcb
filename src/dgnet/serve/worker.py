"""One model for many requests: they wait in line, a line that has an end, and who hangs up loses the place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

WAITING = 64  # requests in line, the one at work included


class BusyError(Exception):
    """The line is full."""


class GoneError(Exception):
    """Whoever asked has hung up."""


class Worker:
    """A thread that does one thing after the other. `most` is the length of the line."""

    def __init__(self, most: int = WAITING) -> None:
        self.most, self.waiting = most, 0
        self._thread = ThreadPoolExecutor(1, "model")

    async def do(self, work: Callable[[], T], gone: Callable[[], Awaitable[bool]], every: float = 0.25) -> T:
        """What `work` gives, once its turn has come; `gone` is asked now and then whether anybody still waits.

        Raises BusyError where the line is full, GoneError where nobody waits any more; what has not begun then never
        begins.
        """
        if self.waiting >= self.most:
            raise BusyError
        loop = asyncio.get_running_loop()
        self.waiting += 1
        asked = self._thread.submit(work)
        asked.add_done_callback(lambda _: self._leave(loop))
        answer = asyncio.wrap_future(asked)
        while not answer.done():
            await asyncio.wait([answer], timeout=every)
            if not answer.done() and await gone():
                answer.cancel()  # and so `asked`, unless it is at work
                raise GoneError
        return answer.result()

    def close(self) -> None:
        """Finish what is at work, and nothing else."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        def leave() -> None:
            self.waiting -= 1

        with suppress(RuntimeError):  # the page is closing: nobody stands in line any more
            loop.call_soon_threadsafe(leave)
