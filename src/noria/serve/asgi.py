"""The data plane for servers that speak ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from noria.errors import NoriaError, RequestError
from noria.serve.http import DataPlane
from noria.serve.reading import MAX_BODY_BYTES
from noria.serve.refusals import TooLargeError, refusal
from noria.serve.wire import Reply, Request

__all__ = ["Application", "data_plane"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("The request ended early.")
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        else:
            parts.clear()
        more = message.get("more_body", False)
        # What is too large is read on for a while, unkept: a client still sending would not see the answer.
        if size > MAX_BODY_BYTES and (not more or size > 8 * MAX_BODY_BYTES):
            raise TooLargeError(f"The body is larger than {MAX_BODY_BYTES // 2**20} MB; send smaller batches.")
        if not more:
            return b"".join(parts)


def data_plane(plane: DataPlane) -> Application:
    """The same over ASGI, for connections that came for the pages and then ask a model."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            path = scope.get("raw_path") or scope["path"].encode("latin-1", "replace")
            request = Request(
                scope["method"],
                path.split(b"?")[0],
                scope["query_string"],
                dict(scope["headers"]),
                await _body(receive),
            )
            found = plane.handle(request)
            reply = found if isinstance(found, Reply) else await found
            (reply,) = plane.settle([reply])
        except NoriaError as error:
            reply = refusal(error)
        length = str(len(reply.body)).encode()
        given = [(b"content-type", reply.kind), (b"content-length", length), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": given})
        await send({"type": "http.response.body", "body": reply.body})

    return application
