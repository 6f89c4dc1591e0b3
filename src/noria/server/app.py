"""The one address: serving goes straight to the data plane, everything else to the pages."""

from __future__ import annotations

import importlib
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any

from noria.core.clock import Clock
from noria.server.answers import Answers
from noria.server.guard import Tokens, bound_host, foreign
from noria.server.ports import Pages
from noria.server.routes import ROUTES, PageRoute
from noria.store.ports import Store

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

DATA_PLANE = ("/v2/", "/predict/", "/labels/", "/overrides/", "/invocations/", "/ping/", "/metrics/", "/openapi.json/")
"""What the addresses that models answer begin with."""
_SITE = "noria.ui:Site"
_PROTOCOLS = ("noria.compat.mlflow", "noria.track.api")


def create_app(
    store: Store,
    clock: Clock,
    *,
    data_plane: ASGIApp | None = None,
    address: str,
    routes: Sequence[PageRoute] = ROUTES,
) -> ASGIApp:
    """The ASGI application of one store.

    Args:
        store: what the pages show and change.
        clock: stamps changes, and says what "now" is on the pages.
        data_plane: answers for the addresses of ``DATA_PLANE``. Only what a browser adds is looked at
            before: a foreign name or a foreign page's script is refused.
        address: where the server listens, e.g. ``http://127.0.0.1:8000``.
        routes: the pages' table.

    Raises:
        NoriaError: the address is not a loopback address.
        ValueError: a route does not declare its access.
    """
    module, _, name = _SITE.partition(":")
    site: Pages = getattr(importlib.import_module(module), name)(store, clock)
    bound = bound_host(address)
    pages = Answers(site, store, clock, Tokens(store.folder), bound).application(routes)
    mounted = [(prefixes, app) for prefixes, app in _protocols(store, clock)]
    if data_plane is not None:
        mounted.insert(0, (DATA_PLANE, data_plane))

    def find(path: str) -> ASGIApp | None:
        return next((app for prefixes, app in mounted if f"{path}/".startswith(prefixes)), None)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("//"):
            scope = {**scope, "path": "/" + scope["path"].lstrip("/")}  # addresses joined with one slash too many
        app = find(scope["path"]) if scope["type"] == "http" else None
        if app is not None:
            problem = foreign(scope["headers"], bound)
            if problem:
                await _refuse(send, problem)
            else:
                await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await pages(scope, receive, send)

    return application


async def _refuse(send: Send, problem: str) -> None:
    body = json.dumps({"error": problem}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _protocols(store: Store, clock: Clock) -> Iterator[tuple[tuple[str, ...], ASGIApp]]:
    """Other tools' protocols, with what their addresses begin with."""
    for name in _PROTOCOLS:
        module = importlib.import_module(name)
        yield module.PREFIXES, module.create(store, clock)
