"""Heads that come again: a client on one connection sends the same bytes, but for the body's length, each time."""

from __future__ import annotations

from noria.serve.wire import Request

__all__ = ["RepeatedHead"]

_DIGITS = 10


class RepeatedHead:
    """The head of a request that was parsed, so that a request with the very same head need not be.

    What a head means is a function of its bytes, where the message before it is whole. So nothing is trusted here that
    the parser has not accepted byte for byte; only the digits of the Content-Length may differ.

    Args:
        before: the head's bytes up to these digits.
        after: its bytes after them, the empty line at its end included.
        request: what the parser made of it.
    """

    __slots__ = ("_after", "_before", "_headers", "_method", "_path", "_query")

    def __init__(self, before: bytes, after: bytes, request: Request) -> None:
        self._before = before
        self._after = after
        self._method = request.method
        self._path = request.path
        self._query = request.query
        self._headers = {name: value for name, value in request.headers.items() if name != b"content-length"}

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """Its bytes before and after the body's length."""
        return self._before, self._after

    @staticmethod
    def of(data: bytes, request: Request) -> RepeatedHead | None:
        """The head of ``data``, if that is one whole message with a body of a length told, and ``request`` it.

        Args:
            data: what came, from the first byte of a message on.
            request: what the parser made of it.
        """
        headers = request.headers
        length = headers.get(b"content-length")
        if not length or not length.isdigit() or b"transfer-encoding" in headers or b"expect" in headers:
            return None
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or len(data) - end != int(length) or len(request.body) != int(length):
            return None
        head = data[:end]
        at = head.lower().find(b"\r\ncontent-length:") + 17
        at += len(head) - at - len(head[at:].lstrip(b" \t"))
        if at < 17 or not head.startswith(length + b"\r\n", at):
            return None
        return RepeatedHead(head[:at], head[at + len(length) :], request)

    def request(self, data: bytes, most: int) -> Request | None:
        """The request that ``data`` is, if it has this head and its body is whole; else None: ask the parser.

        Args:
            data: what came, from the first byte of a message on.
            most: largest body, bytes.
        """
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + _DIGITS)
        length = data[start:end]
        if end < 0 or not length.isdigit() or not data.startswith(after, end):
            return None
        end += len(after)
        size = int(length)
        if len(data) - end != size or size > most:
            return None
        return Request(self._method, self._path, self._query, self._headers, data[end:])
