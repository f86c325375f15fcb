"""What a browser asks, and which part of `Answers` answers it. Imported once `fastapi` is known to be there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import python_multipart  # noqa: F401  # what reads forms; its absence would show with the first photo only
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dgnet.errors import UserError
from dgnet.serve.answers import Answers, Upload
from dgnet.serve.guard import Guard, TooLargeError
from dgnet.serve.worker import BusyError, GoneError, Worker

MEGABYTES = 20
"""Of a request: two photos, at most."""
SECONDS = 60.0
"""For a request to arrive in."""
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
TOLD: dict[type[Exception], tuple[int, str]] = {
    UserError: (422, ""),
    HTTPException: (400, ""),
    TooLargeError: (413, f"more than {MEGABYTES} MB at once; save the photos smaller"),
    TimeoutError: (408, f"the photos did not arrive within {SECONDS:.0f} seconds"),
    BusyError: (503, "too many requests are waiting; try again in a moment"),
    GoneError: (499, "nobody waits for this answer"),
    ClientDisconnect: (499, "nobody waits for this answer"),
}
"""Status and sentence of each error; where there is no sentence, its own."""


def routes(answers: Answers, hosts: tuple[str, ...]) -> Guard:
    """The page as an ASGI application, whose requests are answered one after the other."""
    worker = Worker()

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=living)
    for error in TOLD:
        app.add_exception_handler(error, _told)

    async def answered(request: Request, work: Callable[[], Any]) -> Any:
        return await worker.do(work, request.is_disconnected)

    for path, (file, kind) in FILES.items():
        app.add_api_route(path, _static(file, kind), response_class=Response)

    @app.get("/api/about")
    async def about(request: Request) -> Any:
        return await answered(request, answers.about)

    @app.post("/api/pair")
    async def pair(request: Request) -> Any:
        given = await _form(request, "a", "b")
        return await answered(request, lambda: answers.pair(given["a"], given["b"]))

    @app.post("/api/interpolation")
    async def interpolation(request: Request) -> Any:
        given = await _form(request, "a", "b")
        of = str(given.get("of", ""))
        return await answered(request, lambda: answers.interpolation(given["a"], given["b"], of))

    @app.post("/api/search")
    async def search(request: Request) -> Any:
        given = await _form(request, "query")
        top = _whole(given.get("top", "12"), "top")
        return await answered(request, lambda: answers.search(given["query"], top))

    @app.post("/api/explanation")
    async def explanation(request: Request) -> Any:
        given = await _form(request, "query")
        number = _whole(given.get("number"), "number")
        return await answered(request, lambda: answers.explanation(given["query"], number))

    @app.get("/api/named")
    async def named(request: Request, text: str = "") -> Any:
        return await answered(request, lambda: answers.named(text[:200]))

    @app.get("/api/photo/{number}", response_class=Response)
    async def photo(request: Request, number: str) -> Any:
        place = _whole(number, "photo")
        return Response(await answered(request, lambda: answers.picture(place)), media_type="image/png")

    return Guard(app, hosts, MEGABYTES * 1_000_000, SECONDS, TOLD[TooLargeError][1])


def _static(file: str, kind: str) -> Callable[[], Response]:
    content = (resources.files("dgnet") / "serve" / "page" / file).read_bytes()
    return lambda: Response(content, media_type=kind)


async def _told(request: Request, error: Exception) -> JSONResponse:
    """An error as JSON, in one line."""
    status, sentence = next(TOLD[kind] for kind in type(error).__mro__ if kind in TOLD)
    if isinstance(error, HTTPException):
        status, sentence = error.status_code, str(error.detail)
    return JSONResponse({"error": sentence or " ".join(str(error).split())}, status)


async def _form(request: Request, *photos: str) -> dict[str, Any]:
    """The fields of a form; those named are photos. Raises UserError where one is missing."""
    given: dict[str, Any] = {}
    async with request.form(max_files=len(photos), max_fields=4) as form:
        for key, value in form.items():
            given[key] = value
            if isinstance(value, UploadFile):
                given[key] = Upload(await value.read(), (value.filename or key)[-80:])
    for name in photos:
        if not isinstance(given.get(name), Upload):
            raise UserError(f"{name}: a photo is needed")
    return given


def _whole(text: object, name: str) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{name}: a whole number is needed")
    return int(text)
