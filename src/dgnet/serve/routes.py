"""What a browser asks, and which part of `Answers` answers it. Imported where `fastapi` is known to be there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

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

    async def asked(request: Request, photos: Sequence[str], work: Callable[[dict[str, Any]], Any]) -> Any:
        """What `work` makes of a form; those of its fields that are `photos` stay on the disk until their turn."""
        async with request.form(max_files=len(photos), max_fields=4) as form:
            given: dict[str, Any] = dict(form)
            for name in photos:
                if not isinstance(given.get(name), UploadFile):
                    raise UserError(f"{name}: a photo is needed")
            return await answered(request, lambda: work(given | {name: _upload(given[name], name) for name in photos}))

    for path, (file, kind) in FILES.items():
        app.add_api_route(path, _static(file, kind), response_class=Response)

    @app.get("/api/about")
    async def about(request: Request) -> Any:
        return await answered(request, lambda: answers.about() | {"megabytes": MEGABYTES})

    @app.post("/api/pair")
    async def pair(request: Request) -> Any:
        return await asked(request, ["a", "b"], lambda given: answers.pair(given["a"], given["b"]))

    @app.post("/api/interpolation")
    async def interpolation(request: Request) -> Any:
        def work(given: dict[str, Any]) -> Any:
            return answers.interpolation(given["a"], given["b"], str(given.get("of", "")))

        return await asked(request, ["a", "b"], work)

    @app.post("/api/search")
    async def search(request: Request) -> Any:
        def work(given: dict[str, Any]) -> Any:
            return answers.search(given["query"], _whole(given.get("top", "12"), "top"))

        return await asked(request, ["query"], work)

    @app.post("/api/explanation")
    async def explanation(request: Request) -> Any:
        def work(given: dict[str, Any]) -> Any:
            return answers.explanation(given["query"], _whole(given.get("number"), "number"))

        return await asked(request, ["query"], work)

    @app.get("/api/named")
    async def named(request: Request, text: str = "") -> Any:
        return await answered(request, lambda: answers.named(text[:200]))

    @app.get("/api/photo/{number}", response_class=Response)
    async def photo(request: Request, number: str) -> Any:
        content = await answered(request, lambda: answers.picture(_whole(number, "photo")))
        return Response(content, media_type="image/png")

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


def _upload(photo: UploadFile, name: str) -> Upload:
    return Upload(photo.file.read(), (photo.filename or name)[-80:])


def _whole(text: object, name: str) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{name}: a whole number is needed")
    return int(text)
