"""HTTP/1.1 for the data plane: an asyncio protocol over httptools (llhttp), without a framework between.

uvicorn costs about 20 microseconds of CPU a request more, which is as much as everything else a prediction needs
(`bench/serving.py --wires`). What must hold for that to be safe is kept here and in `tests/serve/test_protocol.py`:

- Framing is llhttp's, in its strict mode: both Content-Length and Transfer-Encoding, two different lengths, bare
  line feeds and folded headers are refused, and the connection is closed after any refusal.
- Requests of one connection are answered one after the other, in order; a connection with more than a few waiting
  is not read from.
- Heads, addresses and bodies are bounded; a head or a body that does not come in time is refused with 408;
  idle connections are closed; a client that does not read its answers is dropped.
- Paths that are not the data plane's go to another protocol (uvicorn's), from a message's first byte on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import httptools

from noria.serve.wire import STATUS_LINES, Handler, Reply, Request, json_reply

__all__ = ["Connection", "Front", "Limits"]

_log = logging.getLogger("noria.serve")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIPELINED = 8
_ONCE = frozenset((b"content-length", b"host", b"transfer-encoding", b"authorization", b"content-type"))


class Limits:
    """How much a client may ask for.

    Attributes:
        body: largest body, bytes.
        head: largest head (address and headers together), bytes.
        headers: most headers.
        connections: most connections at a time.
        head_seconds: time for a head to come whole.
        body_seconds: time for a body to come whole, besides one second a mebibyte.
        idle_seconds: how long a connection without a request is kept.
    """

    def __init__(
        self,
        *,
        body: int = 64 * 2**20,
        head: int = 32 * 2**10,
        headers: int = 100,
        connections: int = 8192,
        head_seconds: float = 20.0,
        body_seconds: float = 60.0,
        idle_seconds: float = 75.0,
    ) -> None:
        self.body = body
        self.head = head
        self.headers = headers
        self.connections = connections
        self.head_seconds = head_seconds
        self.body_seconds = body_seconds
        self.idle_seconds = idle_seconds


class Front:
    """What the connections of one server share.

    Args:
        handle: answers a request.
        fallback: makes the protocol for addresses that ``mine`` refuses; None: everything is ``handle``'s.
        mine: whether an address (path and query) is the data plane's.
        limits: what a client may ask for.
    """

    def __init__(
        self,
        handle: Handler,
        *,
        fallback: Callable[[], asyncio.Protocol] | None = None,
        mine: Callable[[bytes], bool] = lambda _: True,
        limits: Limits | None = None,
    ) -> None:
        self.handle = handle
        self.fallback = fallback
        self.mine = mine
        self.limits = limits or Limits()
        self.connections: set[Connection] = set()
        self.draining = False
        self.holding = False
        self.tasks: set[asyncio.Future[Any]] = set()
        self.now = time.monotonic()
        self.date = b""
        self._sweeper: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the connections' times."""
        self.now = time.monotonic()
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in tuple(self.connections):
            connection.check(self.now)
        self._sweeper = asyncio.get_running_loop().call_later(0.5, self.start)

    def stop(self) -> None:
        """Close what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.close()

    def hold(self, holding: bool) -> None:
        """Let requests wait unanswered, or go on with them."""
        self.holding = holding
        if not holding:
            for connection in tuple(self.connections):
                connection.go_on()

    def busy(self) -> bool:
        """Whether any request is being read, answered or written."""
        return any(connection.busy() for connection in self.connections)

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return Connection(self)


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_answering",
        "_body",
        "_closing",
        "_expect",
        "_front",
        "_head",
        "_headers",
        "_loop",
        "_paused",
        "_peeked",
        "_reading",
        "_refused",
        "_since",
        "_size",
        "_stopped",
        "_transport",
        "_url",
        "_waiting",
        "parser",
    )  # fmt: skip

    def __init__(self, front: Front) -> None:
        self._front = front
        self._loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._answering = False  # a request is with the handler
        self._reading = False  # a message has begun and is not whole
        self._closing = False
        self._refused: Reply | None = None
        self._paused = 0.0  # since when the client has not read
        self._stopped = False  # it is not read from
        self._since = front.now
        self._peeked = b""
        self._url = b""
        self._head = 0
        self._size = 0
        self._expect = False
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or refuse it when there are too many."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._since = self._front.now
        self._front.connections.add(self)
        if len(self._front.connections) > self._front.limits.connections:
            self._refuse(503, "The server has too many connections; try again.")

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it; an answer still being made goes nowhere."""
        self._front.connections.discard(self)
        self._closing = True
        self._waiting.clear()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._closing:
            return
        if not self._reading and self._front.fallback is not None:
            data = self._peeked + data
            self._peeked = b""
            if not self._waiting and not self._answering and not self._stays(data):
                return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "This server speaks HTTP/1.1 only; it does not upgrade connections.")
        except httptools.HttpParserError as error:
            if self._refused is None:
                self._refuse(400, f"The request is not valid HTTP/1.1: {str(error)[:100]}.")

    def eof_received(self) -> bool:
        """The client sends no more; it may still wait for its answers."""
        return bool(self._answering or self._waiting)

    def pause_writing(self) -> None:
        """The client does not read its answers: ask no more of it."""
        self._paused = self._front.now
        self._pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = 0.0
        self._next()

    # what the parser calls

    def on_message_begin(self) -> None:
        """A message begins."""
        self._reading = True
        self._since = self._front.now
        self._url = b""
        self._head = 0
        self._size = 0
        self._expect = False
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._url += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer."""
        name, headers = name.lower(), self._headers
        self._head += len(name) + len(value) + 4
        if name in headers and name in _ONCE:
            self._refuse(400, f"The header {name.decode('latin-1')} is there twice.")
        headers[name] = value
        if len(headers) > 16:
            self._grow(0)

    def on_headers_complete(self) -> None:
        """The head is whole: refuse what its words already rule out."""
        headers, limits = self._headers, self._front.limits
        self._grow(0)
        if self._refused is not None:
            return
        if b"host" not in headers and self.parser.get_http_version() == "1.1":
            self._refuse(400, "The request has no Host header.")
            return
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or b"content-length" in headers):
            self._refuse(400, "A body comes chunked or with its length, not otherwise and not both.")
            return
        expect = headers.get(b"expect")
        if expect is None:
            return
        if expect.lower() != b"100-continue":
            self._refuse(417, "Expect can only be 100-continue.")
        elif int(headers.get(b"content-length", b"0")) > limits.body:
            self._refuse(413, f"The body is larger than {limits.body // 2**20} MB; send smaller batches.")
        elif self._transport is not None and not self._answering:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A piece of the body. What is too large is read on for a while, unkept, so that the client sees the answer."""
        self._size += len(body)
        if self._refused is not None:
            return
        if self._size <= self._front.limits.body:
            self._body.append(body)
            return
        self._body.clear()
        if self._size > 8 * self._front.limits.body:
            self._refuse(413, self._too_large())

    def on_message_complete(self) -> None:
        """A message is whole: answer it, or let it wait for those before it."""
        self._reading = False
        self._since = self._front.now
        if self._refused is not None:
            return
        if self._size > self._front.limits.body:
            self._refuse(413, self._too_large())
            return
        path, _, query = self._url.partition(b"?")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self.parser.get_method().decode("ascii", "replace")
        request = Request(method, path, query, self._headers, body)
        self._waiting.append((request, self.parser.should_keep_alive()))
        if not self._answering:
            self._next()
        elif len(self._waiting) >= _PIPELINED:
            self._pause()

    # the rest

    def _too_large(self) -> str:
        return f"The body is larger than {self._front.limits.body // 2**20} MB; send smaller batches."

    def _grow(self, size: int) -> None:
        self._head += size
        if self._head > self._front.limits.head:
            self._refuse(431, f"The request's head is larger than {self._front.limits.head // 1024} kB.")
        elif len(self._headers) > self._front.limits.headers:
            self._refuse(431, f"There are more than {self._front.limits.headers} headers.")

    def _stays(self, data: bytes) -> bool:
        """Whether the message that begins here is ours; else the connection is handed on, or waits to be told."""
        _, found, rest = data.partition(b" ")
        target, whole, _ = rest.partition(b" ")
        if not (found and whole) and b"\n" not in data and len(data) < 8192:
            self._peeked = data  # too short to tell
            return False
        if self._front.mine(target):
            return True
        fallback, transport = self._front.fallback, self._transport
        if fallback is None or transport is None:
            return True
        self._front.connections.discard(self)
        self._closing = True
        protocol = fallback()
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        protocol.data_received(data)
        return False

    def _next(self) -> None:
        """Answer what waits, in order, for as long as answers come at once."""
        while self._waiting and not self._answering and not self._closing:
            if self._paused or self._front.holding:
                return
            request, keep = self._waiting.popleft()
            self._answering = True
            try:
                reply = self._front.handle(request)
            except Exception:  # noqa: BLE001 - the edge: a fault of ours must not reach the client as a trace
                reply = self._fault(request)
            if isinstance(reply, Reply):
                self._answer(request, reply, keep)
            else:
                self._later(request, reply, keep)
        if self._stopped and len(self._waiting) < _PIPELINED and not self._paused:
            self._resume()

    def go_on(self) -> None:
        """Answer what was held."""
        self._next()

    def _fault(self, request: Request) -> Reply:
        _log.exception("request %s failed", request.path[:200])
        return json_reply(500, {"error": "The server failed to answer; its log says why."})

    def _later(self, request: Request, reply: Awaitable[Reply], keep: bool) -> None:
        future = asyncio.ensure_future(reply)
        self._front.tasks.add(future)

        def done(future: asyncio.Future[Reply]) -> None:
            self._front.tasks.discard(future)
            if future.cancelled():
                found = json_reply(503, {"error": "The server is stopping."})
            elif future.exception() is not None:
                _log.error("request %s failed", request.path[:200], exc_info=future.exception())
                found = json_reply(500, {"error": "The server failed to answer; its log says why."})
            else:
                found = future.result()
            self._answer(request, found, keep)
            self._next()

        future.add_done_callback(done)

    def _answer(self, request: Request, reply: Reply, keep: bool) -> None:
        self._answering = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        keep = keep and not self._front.draining and self._refused is None
        head = [
            STATUS_LINES.get(reply.status) or STATUS_LINES[500],
            self._front.date,
            b"content-type: ",
            reply.kind,
            b"\r\ncontent-length: %d\r\n" % len(reply.body),
        ]
        for name, value in reply.headers:
            head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n" if keep else b"connection: close\r\n\r\n")
        if request.method != "HEAD":
            head.append(reply.body)
        transport.write(b"".join(head))
        self._since = self._front.now
        if not keep:
            self.close()

    def _refuse(self, status: int, problem: str) -> None:
        """Answer with an error once what came before is answered, and close."""
        if self._refused is not None or self._closing:
            return
        self._refused = json_reply(status, {"error": problem})
        if not self._answering and not self._waiting:
            self._say_refused()

    def _say_refused(self) -> None:
        if self._refused is None or self._closing:
            return
        self._answer(Request("GET", b"", b"", {}, b""), self._refused, keep=False)

    def _pause(self) -> None:
        if not self._stopped and self._transport is not None and not self._transport.is_closing():
            self._stopped = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._stopped = False
            self._transport.resume_reading()

    def busy(self) -> bool:
        """Whether a request is being read, answered or written."""
        transport = self._transport
        writing = transport is not None and not transport.is_closing() and transport.get_write_buffer_size() > 0
        return self._answering or self._reading or bool(self._waiting) or bool(self._peeked) or writing

    @property
    def quiet_since(self) -> float:
        """When it last began or ended a message."""
        return self._since

    def check(self, now: float) -> None:
        """Close it if a time is over."""
        limits = self._front.limits
        waited = now - self._since
        if self._paused:
            if now - self._paused > limits.body_seconds and self._transport is not None:
                self._transport.abort()
        elif self._reading:
            allowed = limits.body_seconds + self._size / 2**20 if self._size else limits.head_seconds
            if waited > allowed:
                self._reading = False
                self._refuse(408, f"The request did not come whole in {allowed:.0f} s.")
        elif not self._answering and not self._waiting:
            allowed = limits.head_seconds if self._peeked else limits.idle_seconds
            if waited > allowed:
                self.close()

    def close(self) -> None:
        """Close it when what was written has gone."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()
