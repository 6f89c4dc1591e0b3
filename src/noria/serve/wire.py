"""What every wire speaks inside: a request as it came, a reply as it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import orjson

__all__ = ["JSON", "STATUS_LINES", "Handler", "Held", "Reply", "Request", "json_reply"]

JSON = b"application/json"
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}


class Request:
    """One HTTP request, whole.

    Attributes:
        method: in capitals.
        path: as sent, percent-encoded, without the query.
        query: as sent, without the question mark.
        headers: values by lower-case name, of a repeated one the last; other requests may have the same mapping, and
            none has to have a Content-Length.
        body: its bytes, still compressed if they came so.
        waited: seconds it has waited among many others; infinite if there was no place for it to.
        grouped: whether its reply is expected to go out with many others, once all of them have come.
    """

    __slots__ = ("body", "grouped", "headers", "method", "path", "query", "waited")

    def __init__(self, method: str, path: bytes, query: bytes, headers: Mapping[bytes, bytes], body: bytes) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.waited = 0.0
        self.grouped = False

    @property
    def parts(self) -> list[str]:
        """The path's parts, decoded."""
        return [unquote(part) for part in self.path.decode("latin-1").split("/")[1:]]


class Held:
    """Records that wait to be written together; what was answered about them goes out after that.

    Attributes:
        problem: why they are not on record, once that is known.
    """

    __slots__ = ("problem",)

    def __init__(self) -> None:
        self.problem: Exception | None = None


class Reply:
    """One HTTP reply, whole.

    Attributes:
        held: the records that it is about, where they are not written yet.
    """

    __slots__ = ("body", "headers", "held", "kind", "status")

    def __init__(
        self, status: int, body: bytes, kind: bytes = JSON, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.status = status
        self.body = body
        self.kind = kind
        self.headers = headers
        self.held: Held | None = None


Handler = Callable[[Request], Reply | Awaitable[Reply]]
"""Answers a request, at once where it can."""


def json_reply(status: int, body: Any, *headers: tuple[bytes, bytes]) -> Reply:
    """A reply of JSON."""
    return Reply(status, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), JSON, headers)
