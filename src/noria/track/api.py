"""The one address that Noria's own client needs of a server: events in, what was refused out.

Mounted by ``noria.server`` by name. Needs: write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from noria.core.clock import Clock
from noria.errors import NoriaError, RequestError, StoreError
from noria.store.ports import Store
from noria.track.events import apply, read_events
from noria.track.senders import EVENTS_PATH

__all__ = ["PREFIXES", "create"]

PREFIXES = ("/api/v1/tracking/",)
MAX_BODY_BYTES = 16 * 2**20
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_log = logging.getLogger("noria.track")


def create(store: Store, clock: Clock) -> Callable[[Message, Receive, Send], Awaitable[None]]:
    """The ASGI application of one store."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] != EVENTS_PATH:
            await _answer(send, 404, {"error": "There is no such address here."})
        elif scope["method"] != "POST":
            await _answer(send, 405, {"error": "Use POST here."})
        else:
            try:
                events = read_events(await _body(receive))
                loop = asyncio.get_running_loop()
                refused = await loop.run_in_executor(None, apply, store.tracking, events)
                await _answer(send, 200, {"refused": refused})
            except _TooLarge as error:
                await _answer(send, 413, {"error": str(error)})
            except RequestError as error:
                await _answer(send, 400, {"error": str(error)})
            except StoreError as error:
                _log.error("%s", error, exc_info=error)
                await _answer(send, 503, {"error": f"The store cannot take this now ({type(error).__name__})."})
            except NoriaError as error:
                await _answer(send, 400, {"error": str(error)})

    return application


class _TooLarge(RequestError):
    """The body is over the limit."""


async def _body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("The request ended early.")
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        if not message.get("more_body", False):
            break
    if size > MAX_BODY_BYTES:
        raise _TooLarge(f"The body is over {MAX_BODY_BYTES} bytes; send fewer events at once.")
    return b"".join(parts)


async def _answer(send: Send, status: int, body: object) -> None:
    data = msgspec.json.encode(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
