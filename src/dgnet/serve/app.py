"""The local page of a model: swaps, interpolation, search, where a match comes from; nothing leaves the machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dgnet import console
from dgnet.errors import UserError
from dgnet.gallery.places import open_gallery
from dgnet.model import Model
from dgnet.serve.answers import Answers
from dgnet.serve.guard import LOOPBACK, Guard
from dgnet.serve.searched import Folder, Searched

if TYPE_CHECKING:
    import uvicorn


def serve(
    model: Model,
    gallery: str | Path | None = None,
    images: Sequence[str | Path] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        model: the model.
        gallery: a gallery to search; see `dgnet gallery`.
        images: instead, folders of photos to search, which are embedded first.
        host: the address to listen at; by default this machine's own, which nobody else reaches.
        port: of that address; 0 for any that is free.

    Raises:
        UserError: an address that cannot be had, a gallery of another model, or packages that are missing.
    """
    require_packages()  # before a folder is embedded
    with listening(host, port) as at:
        app = create(model, searched_in(model, gallery, images), LOOPBACK if host in LOOPBACK else ())
        shown = f"[{host}]" if ":" in host else host
        console.stdout.print(f"http://{shown}:{at.getsockname()[1]} (Ctrl-C stops)")
        if host not in LOOPBACK:
            console.warn(f"--host {host}: whoever reaches this machine can use the page and see the photos it searches")
        with suppress(KeyboardInterrupt):
            server(app).run(sockets=[at])


def searched_in(model: Model, gallery: str | Path | None = None, images: Sequence[str | Path] = ()) -> Searched | None:
    """What the page is to search. Raises UserError where both are given, or what is given cannot be read."""
    if gallery is not None and images:
        raise UserError("serve: --gallery or --images, not both")
    if gallery is not None:
        found = open_gallery(gallery)  # and not `model.gallery`, which would make one where there is none
        found.require(model.fingerprint, model.name)
        return found
    return Folder(model, images) if images else None


def create(model: Model, searched: Searched | None = None, hosts: tuple[str, ...] = LOOPBACK) -> Guard:
    """The page as an ASGI application. `hosts` are the names by which it may be asked; empty: any.

    Raises UserError where a package is missing.
    """
    require_packages()
    from dgnet.serve.routes import routes

    return routes(Answers(model, searched), hosts)


def server(app: Guard) -> uvicorn.Server:
    """What serves the page."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, limit_concurrency=256, server_header=False)
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address. Raises UserError where it cannot be had."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: 0 to 65535 would be right")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        hint = "; is it in use? --port names another" if port else ""
        raise UserError(f"{host}, port {port}: cannot be listened at ({error.strerror or error}){hint}") from error


def require_packages() -> None:
    """Raise UserError where a package is missing that only this page needs."""
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401  # reads forms; its absence would show with the first photo only
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"serve: needs {error.name}: pip install 'dgnet[serve]'") from error
