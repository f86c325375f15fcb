"""One model for many requests: one at a time, a line that ends, and nothing for those who have gone."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import dgnet
from dgnet.serve.app import create
from dgnet.serve.worker import BusyError, GoneError, Worker


async def waits() -> bool:
    return False


async def has_gone() -> bool:
    return True


def test_requests_are_answered_one_after_the_other_in_their_order() -> None:
    at_work, most, order = 0, 0, []

    def work(number: int) -> int:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        order.append(number)
        time.sleep(0.005)
        at_work -= 1
        return number

    async def run() -> list[int]:
        worker = Worker()
        return await asyncio.gather(*(worker.do(lambda n=n: work(n), waits) for n in range(20)))  # type: ignore[misc]

    assert asyncio.run(run()) == order == list(range(20))
    assert most == 1


def test_a_full_line_is_told_and_empties() -> None:
    async def run() -> tuple[list[Any], int]:
        worker, go = Worker(most=3), threading.Event()
        asked = [asyncio.create_task(worker.do(lambda: go.wait(10), waits)) for _ in range(5)]
        await asyncio.sleep(0.05)
        go.set()
        ends = await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0.05)
        ends.append(await worker.do(lambda: "again", waits))
        await asyncio.sleep(0.05)
        return ends, worker.waiting

    ends, waiting = asyncio.run(run())
    assert ends[:3] == [True] * 3
    assert [type(end) for end in ends[3:5]] == [BusyError] * 2
    assert ends[5] == "again"
    assert waiting == 0


def test_what_nobody_waits_for_is_not_begun() -> None:
    done: list[str] = []

    async def run() -> int:
        worker, go = Worker(), threading.Event()
        first = asyncio.create_task(worker.do(lambda: go.wait(10), waits))
        left = [asyncio.create_task(worker.do(lambda: done.append("left"), has_gone, every=0.01)) for _ in range(10)]
        assert [type(end) for end in await asyncio.gather(*left, return_exceptions=True)] == [GoneError] * 10
        go.set()
        await first
        await worker.do(lambda: done.append("stayed"), waits)
        await asyncio.sleep(0.05)
        return worker.waiting

    assert asyncio.run(run()) == 0
    assert done == ["stayed"]


def test_what_fails_is_told_to_who_asked_and_to_nobody_else() -> None:
    def fail() -> None:
        raise ValueError("broken")

    async def run() -> str:
        worker = Worker()
        with pytest.raises(ValueError, match="broken"):
            await worker.do(fail, waits)
        return await worker.do(lambda: "fine", waits)

    assert asyncio.run(run()) == "fine"


@pytest.mark.parametrize("end", ["late", "hung up"])
def test_a_photo_that_does_not_arrive_ends_its_request(model: dgnet.Model, end: str) -> None:
    pytest.importorskip("fastapi", reason="the page needs dgnet[serve]")
    app = create(model)
    app.seconds = 0.1
    scope = {
        "type": "http", "method": "POST", "path": "/api/pair", "raw_path": b"/api/pair", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")],
        "http_version": "1.1", "scheme": "http", "root_path": "",
    }  # fmt: skip
    said: list[Any] = []

    async def run() -> None:
        async def receive() -> Any:
            if end == "late":
                await asyncio.sleep(10)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        await asyncio.wait_for(app(scope, receive, send), 5)

    asyncio.run(run())
    assert said[0]["status"] == {"late": 408, "hung up": 499}[end]
