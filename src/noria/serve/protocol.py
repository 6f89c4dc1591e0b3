"""HTTP/1.1 for the data plane: an asyncio protocol over httptools (llhttp), without a framework between.

uvicorn costs about 20 microseconds of CPU a request more, which is as much as everything else a prediction needs
(`bench/serving.py --wires`). What must hold for that to be safe is kept here and in `tests/serve/test_protocol.py`:

- Framing is llhttp's, in its strict mode: both Content-Length and Transfer-Encoding, two lengths, bare line feeds and
  folded headers are refused, and the connection is closed after any refusal. Trailers are read and forgotten.
- Requests of one connection are answered one after the other, in order, a refusal after what came before it; a
  connection with more than a few waiting, or with a large one, is not read from.
- Heads, addresses, bodies and what stands between a body's chunks are bounded; a head or a body that does not come in
  time is refused with 408; idle connections are closed; a client that does not read its answers is dropped.
- After a refusal the connection is only half closed for a while, and what still comes is thrown away, so that a client
  that is sending sees the answer rather than a reset (RFC 9112, 9.6).
- A wish to upgrade is not followed (RFC 9110, 7.8) and the request answered in HTTP/1.1: Java's client wishes unasked.
- Paths that are not the data plane's go to another protocol (uvicorn's), from a message's first byte on. One that was
  sent before the answers to earlier requests came cannot be handed on and is told 421: ask on another connection.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from typing import Any

import httptools

from noria.serve.repeated import RepeatedHead
from noria.serve.wire import JSON, STATUS_LINES, Handler, Reply, Request, json_reply

__all__ = ["Connection", "Front", "Limits"]

_log = logging.getLogger("noria.serve")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIPELINED = 8
_LARGE = 2**16
_PIECES = 1024
_DIFFERING = 64  # heads of one connection, after which none is expected to come again
_LINGER_SECONDS = 5.0
_TOGETHER = 128  # replies that go out together: what was touched to make them is still in the caches
_MANY = 5  # replies that go out together, from which on it pays to make them together too
_TURN_SECONDS = (0.1, 0.01)  # how long a turn may last with quick requests alone, and with others
_QUICK_SECONDS = 0.0001
_ACCEPTED = 128  # connections, in one turn
_SLOW_SECONDS = 0.001  # of a turn that many came in
_FEW = 32  # requests that may wait however long it takes
_FRAMING = (b"content-length", b"transfer-encoding")
_ONCE = frozenset((*_FRAMING, b"authorization", b"content-encoding", b"content-type", b"host", b"origin"))
_UPGRADES = frozenset((b"upgrade", b"http2-settings"))


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
        settle: called with replies before they go out; gives those that do, refusals of what cannot be put on record
            among them.

    What came in one turn of the loop is answered together, in groups: after each call of the system the processor's
    caches are cold, and sending wakes a client that may want the processor too. One connection alone does not wait.

    A turn lasts as long as requests come, and answering lets more come. So once it has lasted a while the requests that
    still come in it wait here, in order, and the loop turns between every few of them: a model that is asked elsewhere
    is heard, and how long a request has waited is known. Those for which there is no place are not to be answered.
    """

    def __init__(
        self,
        handle: Handler,
        *,
        fallback: Callable[[], asyncio.Protocol] | None = None,
        mine: Callable[[bytes], bool] = lambda _: True,
        limits: Limits | None = None,
        settle: Callable[[list[Reply]], list[Reply]] | None = None,
    ) -> None:
        self.handle = handle
        self.settle = settle
        self._grouped: list[tuple[Connection, Request, Reply, bool]] = []
        self._turning = False  # something was done in this turn of the loop, and its end is to come
        self._began = 0.0  # when it was begun
        self._answers = 0  # in it
        self.many = False  # replies went out together last time
        self.crowded = False  # requests that come now wait
        self._queue: deque[tuple[Connection, float, int]] = deque()  # who waits, since when, and with how many bytes
        self._queued = 0  # bytes
        self.listening: socket.socket | None = None
        self._opening: set[asyncio.Task[Any]] = set()
        self._heads: dict[tuple[bytes, bytes], RepeatedHead] = {}
        self.fallback = fallback
        self.mine = mine
        self.limits = limits = limits or Limits()
        self.connections: set[Connection] = set()
        self.draining = False
        self.holding = False
        self.tasks: set[asyncio.Future[Any]] = set()
        self.now = time.monotonic()
        self.behind = 0.0
        self.date = b""
        self.well = b""  # how most replies begin
        self._handed: set[asyncio.BaseTransport] = set()
        shortest = min(limits.head_seconds, limits.body_seconds, limits.idle_seconds)
        self._tick = max(0.01, min(0.5, shortest / 8))
        self._sweeper: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the connections' times.

        The clock does not count the time in which this process stood still: what came in it is yet to be read.
        """
        now = time.monotonic()
        self.now = now if self._sweeper is None else self.now + min(now - self.now - self.behind, 2 * self._tick)
        self.behind = now - self.now
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        self.well = STATUS_LINES[200] + self.date + b"content-type: " + JSON + b"\r\ncontent-length: "
        self._sweeper = asyncio.get_running_loop().call_later(self._tick, self.start)
        self._handed = {transport for transport in self._handed if not transport.is_closing()}
        for connection in tuple(self.connections):
            connection.check(self.now)

    def stop(self) -> None:
        """Close what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.close()

    def group(self, connection: Connection, request: Request, reply: Reply, keep: bool) -> None:
        """Let a reply go out with others of this turn of the loop."""
        self._turn()
        self._grouped.append((connection, request, reply, keep))
        self._answers += 1
        if len(self._grouped) >= _TOGETHER:
            self._send()
        if self._long():
            self.crowded = True

    def queue(self, connection: Connection, size: int) -> bool:
        """Let a connection wait for its turn; False if there is no place for its request's ``size`` bytes."""
        if self._queued + size > self.limits.body and len(self._queue) >= _FEW:
            return False
        self._queued += size
        self._queue.append((connection, time.monotonic(), size))
        self._turn()
        return True

    def _turn(self) -> None:
        if not self._turning and not self.holding:
            self._turning = True
            self._begin()
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _begin(self) -> None:
        self._began, self._answers = time.monotonic(), 0

    def _long(self) -> bool:
        """Whether this turn has lasted long enough."""
        spent = time.monotonic() - self._began
        return spent > _TURN_SECONDS[bool(self.tasks) or spent > _QUICK_SECONDS * self._answers]

    def _end_turn(self) -> None:
        """Send what is there, and look at some of those that wait."""
        if time.monotonic() - self._began > _SLOW_SECONDS:
            self._accept()
        self._turning = False
        self._send()
        if self.crowded:
            self._begin()
        while self._queue and not self.holding and not self._long():
            connection, since, size = self._queue.popleft()
            self._queued -= size
            connection.go_on(time.monotonic() - since if len(self._queue) >= _FEW else 0.0)
        self._send()
        self.crowded = bool(self._queue)
        if self._queue:
            self._turn()

    def _accept(self) -> None:
        """Take new connections: the loop takes one in a turn, which is few when turns are long."""
        if self.listening is None:
            return
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTED):
            try:
                taken, _ = self.listening.accept()
            except OSError:  # there are no more, or no more can be had: the loop says so
                return
            taken.setblocking(False)
            with suppress(OSError):  # it may be over already
                taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(loop.connect_accepted_socket(self.protocol, taken))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _send(self) -> None:
        if self.holding or not self._grouped:
            return
        grouped, self._grouped = self._grouped, []
        self.many = len(grouped) >= _MANY
        replies = self.settled([reply for _, _, reply, _ in grouped])
        for (connection, request, _, keep), reply in zip(grouped, replies, strict=True):
            connection.grouped(request, reply, keep)

    def head(self, head: RepeatedHead | None) -> RepeatedHead | None:
        """The same head as another connection has, if it has: what many share stays in the caches."""
        if head is None:
            return None
        if len(self._heads) > 64:
            self._heads.clear()
        return self._heads.setdefault(head.parts, head)

    def settled(self, replies: list[Reply]) -> list[Reply]:
        """The replies that go out for these."""
        try:
            return replies if self.settle is None else self.settle(replies)
        except Exception:  # noqa: BLE001 - as in Connection._next
            _log.exception("replies could not be settled")
            return [reply if reply.held is None else _failed() for reply in replies]

    def hold(self, holding: bool) -> None:
        """Let requests wait unanswered, those too whose answers come meanwhile; or go on with them."""
        self.holding = holding
        if not holding:
            self._turn()
            for connection in tuple(self.connections):
                connection.next()

    def busy(self) -> bool:
        """Whether any request is being read, answered or written."""
        return any(connection.busy() for connection in self.connections)

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return Connection(self)

    def hand_on(self, transport: asyncio.Transport, data: bytes) -> None:
        """Give a connection to the other protocol, with what has come on it."""
        assert self.fallback is not None
        self._handed.add(transport)
        protocol = self.fallback()
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        protocol.data_received(data)

    def count(self) -> int:
        """How many connections there are, those that were handed on among them."""
        return len(self.connections) + len(self._handed)


def _failed() -> Reply:
    return json_reply(500, {"error": "The server failed to answer; its log says why."})


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_answering",
        "_asked",
        "_body",
        "_closing",
        "_due",
        "_ended",
        "_expect",
        "_fed",
        "_front",
        "_head",
        "_headed",
        "_headers",
        "_lingering",
        "_mark",
        "_mine",
        "_parsed",
        "_paused",
        "_peeked",
        "_queued",
        "_reading",
        "_refused",
        "_repeated",
        "_since",
        "_size",
        "_stopped",
        "_transport",
        "_url",
        "_waiting",
        "_whole",
        "parser",
    )  # fmt: skip

    def __init__(self, front: Front) -> None:
        self._front = front
        self.parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._answering = False  # a request is with the handler
        self._reading = False  # a message has begun and is not whole
        self._closing = False
        self._lingering = False  # it is closed but for what the client still sends
        self._ended = False  # the client sends no more
        self._due = False  # something is to be done once all is answered: see _settle
        self._refused: Reply | None = None
        self._paused = 0.0  # since when the client has not read
        self._queued = False  # it waits for its turn
        self._stopped = False  # it is not read from
        self._since = front.now
        self._peeked = b""
        self._mine = False  # the message that begins was found to be ours
        self._repeated: RepeatedHead | None = None  # the head that came last
        self._parsed = 0  # how many that differed from the one before
        self._whole = b""  # what came, if it began with the message that is being parsed
        self._url = b""
        self._head = 0
        self._size = 0
        self._mark = -2  # how far the body had come with the last piece: -2 nothing yet, -1 a head
        self._fed = 0  # bytes since then
        self._expect = False
        self._headed = False  # the head is whole
        self._asked: dict[bytes, bytes] = {}
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes | bytearray] = []

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or refuse it when there are too many."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._since = self._front.now
        self._front.connections.add(self)
        most = self._front.limits.connections
        if len(self._front.connections) > 2 * most:
            transport.abort()  # type: ignore[attr-defined]  # not even a refusal is to be had
        elif self._front.count() > most:
            self._refuse(503, "The server has too many connections; try again.")

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it; an answer still being made goes nowhere."""
        self._front.connections.discard(self)
        self._closing = True
        self._waiting.clear()
        self._body = []
        self._transport = None
        self.parser = None  # type: ignore[assignment]  # they hold each other

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._closing or self._refused is not None:
            return
        front = self._front
        begins = not (self._reading or self._answering or self._waiting)
        if begins and self._repeated is not None and not self._peeked and not front.draining:
            request = self._repeated.request(data, front.limits.body)
            if request is not None:
                self._since = front.now
                self._size = len(request.body)
                if front.crowded or front.holding or self._paused:
                    self._waiting.append((request, True))
                    self.next()
                else:
                    self._handle(request, True)
                return
        if begins and front.fallback is not None:
            if self._peeked:
                data = self._peeked + data
            if not self._stays(data):
                return
            self._mine = True
        self._whole = data if begins and self._parsed < _DIFFERING else b""
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stumbled(data, error)
        if self._reading:
            self._unfinished(len(data))
        if front.draining:
            self.next()

    def eof_received(self) -> bool:
        """The client sends no more; it may still wait for its answers."""
        self._ended = self._due = bool(self._answering or self._waiting) and not self._closing
        return self._ended

    def pause_writing(self) -> None:
        """The client does not read its answers: ask no more of it."""
        self._paused = self._front.now
        if not self._lingering:
            self._pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = 0.0
        self.next()

    # what the parser calls

    def on_message_begin(self) -> None:
        """A message begins."""
        self._reading = True
        self._since = self._front.now
        self._url = b""
        self._head = 0
        self._size = 0
        self._mark = -2
        self._expect = False
        self._headed = False
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._url += url
        self._head += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer."""
        name, headers = name.lower(), self._headers
        self._head += len(name) + len(value) + 4
        if name in headers and name in _ONCE:
            self._refuse(400, f"The header {name.decode('latin-1')} is there twice.")
        headers[name] = value.rstrip()
        if len(headers) > 16:
            self._bound()

    def on_headers_complete(self) -> None:
        """The head is whole: refuse what its words already rule out."""
        front, parser = self._front, self.parser
        self._asked = headers = self._headers
        self._headers = {}  # trailers go there, and nowhere on: a proxy may have looked at the head alone
        self._headed = True
        if self._head > front.limits.head or len(headers) > front.limits.headers:
            self._bound()
        if parser.should_upgrade():
            self._size = front.limits.body + 1  # on_message_complete stops at it; what then comes is _stumbled's
            return
        if self._mine:
            self._mine = False
        elif front.fallback is not None and not front.mine(self._url):
            self._refuse(421, "Ask for this on a connection of its own, not behind a request for a model.")
        if self._refused is not None:
            return
        if b"host" not in headers and parser.get_http_version() == "1.1":
            self._refuse(400, "The request has no Host header.")
        elif b"transfer-encoding" in headers:
            coding = headers[b"transfer-encoding"].lower()
            if coding != b"chunked" or b"content-length" in headers or parser.get_http_version() != "1.1":
                self._refuse(400, "A body comes chunked, in HTTP/1.1, or with its length, not otherwise and not both.")
                return
        if b"expect" in headers:
            self._expected(headers[b"expect"].lower())

    def on_body(self, body: bytes) -> None:
        """A piece of the body. What is too large is read on for a while, unkept, so that the client sees the answer."""
        self._size += len(body)
        if self._refused is not None:
            return
        if self._size <= self._front.limits.body:
            pieces = self._body
            pieces.append(body)
            if len(pieces) > _PIECES:  # a few bytes a piece would take many times their size
                whole = pieces[0] if isinstance(pieces[0], bytearray) else bytearray(pieces[0])
                whole += b"".join(pieces[1:])
                self._body = [whole, b""]
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
            if not self.parser.should_upgrade():
                self._refuse(413, self._too_large())
            return
        keep = self.parser.should_keep_alive()
        if not keep and self.parser.get_http_version() not in ("1.1", "1.0"):
            self._refuse(505, "This server speaks HTTP/1.1.")
            return
        path, _, query = self._url.partition(b"?")
        if path[0] != 47:  # "/"
            path = self._absolute(path)
        pieces = self._body
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        method = self.parser.get_method().decode("ascii", "replace")
        request = Request(method, path, query, self._asked, body)  # type: ignore[arg-type]
        self._waiting.append((request, keep))
        if self._whole and keep:
            self._parsed += 1
            self._repeated = self._front.head(RepeatedHead.of(self._whole, request))
        self._whole = b""
        if self._answering:
            if len(self._waiting) >= _PIPELINED or self._size > _LARGE:
                self._pause()
        elif not self._front.draining:  # then the others that have come are looked at first: only the last one closes
            self.next()

    # the rest

    def _too_large(self) -> str:
        return f"The body is larger than {self._front.limits.body // 2**20} MB; send smaller batches."

    def _bound(self) -> None:
        if self._head > self._front.limits.head:
            self._refuse(431, f"The request's head is larger than {self._front.limits.head // 1024} kB.")
        elif len(self._headers) > self._front.limits.headers:
            self._refuse(431, f"There are more than {self._front.limits.headers} headers.")

    def _expected(self, expect: bytes) -> None:
        """Let the client send its body, or not."""
        if self.parser.get_http_version() != "1.1":
            return
        body = self._front.limits.body
        if expect != b"100-continue":
            self._refuse(417, "Expect can only be 100-continue.")
        elif int(self._asked.get(b"content-length", b"0")) > body:
            self._refuse(413, self._too_large())
        else:
            self._expect = self._due = True
            if not self._answering and not self._waiting:
                self._settle()

    def _absolute(self, target: bytes) -> bytes:
        """The path of an address that is not just a path (RFC 9112, 3.2.2)."""
        _, found, rest = target.partition(b"://")
        if not found:
            return target
        host, _, path = rest.partition(b"/")
        self._asked[b"host"] = host
        return b"/" + path

    def _stumbled(self, data: bytes, error: Exception) -> None:
        """Go on after the parser could not.

        A wish to upgrade ends its work: a new one is told the head without the wish, and then what came after it.
        """
        rest = memoryview(data)
        while isinstance(error, httptools.HttpParserUpgrade):
            if self._refused is not None or self._closing:
                return
            rest = rest[error.args[0] :]
            method = self.parser.get_method()
            if method == b"CONNECT":
                self._refuse(501, "This server is no proxy.")
                return
            kept = {name: value for name, value in self._asked.items() if name not in _UPGRADES}
            kept[b"connection"] = b"keep-alive" if self.parser.should_keep_alive() else b"close"
            head = [b"%s %s HTTP/%s\r\n" % (method, self._url, self.parser.get_http_version().encode())]
            head += [b"%s: %s\r\n" % header for header in kept.items()]
            self.parser = httptools.HttpRequestParser(self)
            self._mine = True
            try:
                self.parser.feed_data(b"".join(head) + b"\r\n")
                self.parser.feed_data(rest)
                return
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as again:
                error = again
        if isinstance(error, httptools.HttpParserCallbackError):
            _log.error("request %s failed", self._url[:200], exc_info=error.__context__ or error)
            self._refuse(500, "The server failed to answer; its log says why.")
        else:
            self._refuse(400, f"The request is not valid HTTP/1.1: {str(error)[:100]}.")

    def _unfinished(self, length: int) -> None:
        """Bound what the parser keeps or skips unseen: half a header, a trailer, what is said beside a chunk's size."""
        mark = self._size if self._headed else -1
        if mark == self._mark:
            self._fed += length
            if self._fed > self._front.limits.head:
                self._refuse(431, f"The request's head is larger than {self._front.limits.head // 1024} kB.")
            return
        if mark >= 0 and self._mark < 0 and self._refused is None:
            declared = int(self._asked.get(b"content-length", b"0"))
            if declared > 8 * self._front.limits.body:
                self._refuse(413, self._too_large())
        self._mark, self._fed = mark, 0

    def _stays(self, data: bytes) -> bool:
        """Whether the message that begins here is ours; else the connection is handed on, or waits to be told."""
        _, found, rest = data.partition(b" ")
        target, whole, _ = rest.partition(b" ")
        if not (found and whole):
            begun = data.lstrip(b"\r\n")  # empty lines before a message are nothing
            if b"\n" not in begun and len(begun) < 8192:  # too short to tell
                if begun and not self._peeked:
                    self._since = self._front.now
                    self._headed = False
                self._peeked = begun
                return False
        self._peeked = b""
        transport = self._transport
        if self._front.mine(target) or transport is None:
            return True
        self._front.connections.discard(self)
        self._closing = True
        self._front.hand_on(transport, data)
        return False

    def next(self, waited: float | None = None) -> None:
        """Answer what waits, in order, for as long as answers come at once.

        Args:
            waited: it is its turn, after so many seconds; None: it may have to wait.
        """
        front = self._front
        while self._waiting and not self._answering and not self._closing:
            if self._paused or front.holding or (front.crowded and waited is None and self._waits()):
                if len(self._waiting) >= _PIPELINED or self._size > _LARGE:
                    self._pause()
                return
            request, keep = self._waiting.popleft()
            if front.crowded:
                request.waited = math.inf if waited is None else waited
                waited = None
            self._handle(request, keep)
        if self._stopped and len(self._waiting) < _PIPELINED and not self._paused:
            self._resume()
        if self._due and not self._waiting and not self._answering:
            self._settle()

    def _handle(self, request: Request, keep: bool) -> None:
        """Have a request answered, at once or later."""
        front = self._front
        self._answering = True
        grouped = len(front.connections) > 1
        request.grouped = grouped and front.many
        try:
            reply = front.handle(request)
            if not isinstance(reply, Reply):
                self._later(request, reply, keep)
                return
        except Exception:  # noqa: BLE001 - the edge: a fault of ours must not reach the client as a trace
            reply = self._fault(request)
        if grouped:
            front.group(self, request, reply, keep)
        else:
            self._answer(request, front.settled([reply])[0], keep)

    def _settle(self) -> None:
        """Do what had to wait until all that came before was answered."""
        self._due = False
        if self._closing or self._transport is None:
            return
        if self._refused is not None:
            about_head = self._headed and self.parser.get_method() == b"HEAD"
            self._answer(Request("HEAD" if about_head else "GET", b"", b"", {}, b""), self._refused, keep=False)
        elif self._ended:
            self.close()
        elif self._expect and self._reading:
            self._transport.write(_CONTINUE)

    def grouped(self, request: Request, reply: Reply, keep: bool) -> None:
        """Answer what waited to be on record, and go on."""
        self._answer(request, reply, keep)
        self.next()

    def go_on(self, waited: float) -> None:
        """It is its turn, after so many seconds."""
        self._queued = False
        self.next(waited)

    def _waits(self) -> bool:
        """Whether it waits for its turn now; False if there is no place to."""
        if not self._queued:
            self._queued = self._front.queue(self, len(self._waiting[0][0].body))
        return self._queued

    def _fault(self, request: Request) -> Reply:
        _log.exception("request %s failed", request.path[:200])
        return _failed()

    def _later(self, request: Request, reply: Awaitable[Reply], keep: bool) -> None:
        if asyncio.iscoroutine(reply):
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_task(reply)
        else:
            future = asyncio.ensure_future(reply)
        self._front.tasks.add(future)

        def done(future: asyncio.Future[Reply]) -> None:
            self._front.tasks.discard(future)
            if future.cancelled():
                found = json_reply(503, {"error": "The server is stopping."})
            elif future.exception() is not None:
                _log.error("request %s failed", request.path[:200], exc_info=future.exception())
                found = _failed()
            else:
                found = future.result()
            self._front.group(self, request, found, keep)

        future.add_done_callback(done)

    def _answer(self, request: Request, reply: Reply, keep: bool) -> None:
        self._answering = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        front, linger = self._front, False
        if not keep:
            linger = self._refused is not None
        elif front.draining:
            keep = bool(self._waiting) or self._reading or self._refused is not None
            linger = not keep
        if reply.status == 200 and reply.kind is JSON:
            begun = front.well
        else:
            line = STATUS_LINES.get(reply.status) or STATUS_LINES[500]
            begun = b"".join((line, front.date, b"content-type: ", reply.kind, b"\r\ncontent-length: "))
        rest = b""
        for name, value in reply.headers:
            rest += b"%b: %b\r\n" % (name, value)
        if not keep:
            rest += b"connection: close\r\n"
        elif b"connection" in request.headers:  # HTTP/1.0 has to be told
            rest += b"connection: keep-alive\r\n"
        body = reply.body
        shown = body if request.method != "HEAD" else b""
        transport.write(b"%b%d\r\n%b\r\n%b" % (begun, len(body), rest, shown))
        self._since = self._front.now
        if linger:
            self._linger()
        elif not keep:
            self.close()

    def _refuse(self, status: int, problem: str) -> None:
        """Answer with an error once what came before is answered, and close."""
        if self._refused is not None or self._closing:
            return
        self._refused = json_reply(status, {"error": problem})
        self._due = True
        if not self._answering and not self._waiting:
            self._settle()

    def _pause(self) -> None:
        if not self._stopped and self._transport is not None and not self._transport.is_closing():
            self._stopped = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._stopped = False
            self._since = self._front.now  # what it could not send meanwhile is not late
            self._transport.resume_reading()

    def busy(self) -> bool:
        """Whether a request is being read, answered or written."""
        transport = self._transport
        writing = transport is not None and not transport.is_closing() and transport.get_write_buffer_size() > 0
        return self._answering or self._reading or bool(self._waiting) or bool(self._peeked) or writing

    @property
    def quiet_since(self) -> float:
        """When it last began or ended a message."""
        return self._since + self._front.behind

    def check(self, now: float) -> None:
        """Close it if a time is over."""
        limits = self._front.limits
        waited = now - self._since
        if self._paused and now - self._paused > limits.body_seconds:
            self._abort()
        elif self._lingering:
            if waited > min(_LINGER_SECONDS, limits.idle_seconds):
                self.close()
        elif self._closing:
            if waited > limits.body_seconds:
                self._abort()  # what was written does not go
        elif self._paused:
            return
        elif self._reading:
            allowed = limits.body_seconds + self._size / 2**20 if self._headed else limits.head_seconds
            if waited > allowed and not self._stopped:
                self._reading = False
                self._refuse(408, f"The request did not come whole in {allowed:.0f} s.")
        elif not self._answering and not self._waiting:
            if self._peeked:
                if waited > limits.head_seconds:
                    self._peeked = b""
                    self._refuse(408, f"The request did not come whole in {limits.head_seconds:.0f} s.")
            elif waited > limits.idle_seconds:
                self.close()

    def _linger(self) -> None:
        """Close it so that the client sees the last answer, though it may be sending still."""
        transport = self._transport
        if transport is None or self._closing:
            return
        if self._ended or not transport.can_write_eof():
            self.close()
            return
        self._over()
        self._lingering = True
        if self._stopped:
            self._resume()
        transport.write_eof()

    def close(self) -> None:
        """Close it when what was written has gone."""
        if not self._closing or self._lingering:
            self._over()
        self._lingering = False
        if self._transport is not None:
            self._transport.close()

    def _over(self) -> None:
        self._closing = True
        self._reading = False
        self._since = self._front.now
        self._waiting.clear()
        self._body = []

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
