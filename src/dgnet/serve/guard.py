"""What stands before the page: whose requests are taken, and how large and how slow they may be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class TooLargeError(Exception):
    """More bytes came than are taken."""


class Guard:
    """Passes on to `app` what it may answer.

    A page of another site that a browser has open can send requests here, too, under a name of its own that leads to
    this machine or with an `Origin` of its own: both are refused.

    Args:
        app: what answers.
        hosts: names by which the page may be asked; empty: any.
        most: bytes of a request.
        seconds: for the body of a request to arrive in.
        too_large: what is said to a larger one.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], most: int, seconds: float, too_large: str) -> None:
        self.app, self.hosts, self.most, self.seconds, self.too_large = app, hosts, most, seconds, too_large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        length = headers.get("content-length", "0")
        host = headers.get("host", "")
        if self.hosts and _name(f"//{host}") not in self.hosts:
            return await _refuse(send, 403, f"this page is not reached as {host[:80] or 'nothing'}")
        if "origin" in headers and urlsplit(headers["origin"]).netloc != host:
            return await _refuse(send, 403, "requests from other sites are refused")
        if not length.isdigit() or int(length) > self.most:
            return await _refuse(send, 413, self.too_large)
        await self.app(scope, self._bounded(receive), _with_headers(send))

    def _bounded(self, receive: Receive) -> Receive:
        came, ended = 0, False
        deadline = asyncio.get_running_loop().time() + self.seconds

        async def bounded() -> Message:
            nonlocal came, ended
            if ended:
                return await receive()
            async with asyncio.timeout_at(deadline):
                message = await receive()
            came += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if came > self.most:
                raise TooLargeError
            return message

        return bounded


def _with_headers(send: Send) -> Send:
    async def sends(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
            message["headers"] = [*message.get("headers", []), *own]
        await send(message)

    return sends


async def _refuse(send: Send, status: int, why: str) -> None:
    from starlette.responses import JSONResponse

    nothing: Any = None
    await JSONResponse({"error": why}, status, {"connection": "close"})({"type": "http"}, nothing, _with_headers(send))


def _name(url: str) -> str:
    """The host that a URL names, without its port."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
