"""The data plane's HTTP/1.1 on real sockets: framing, limits, times, order, and clients that mean ill or go away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import random
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs

import h11
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.serve.http import DataPlane
from noria.serve.listen import _drain, _Pages, _Stop
from noria.serve.protocol import Connection, Front, Limits
from noria.serve.wire import Held, Reply, Request, json_reply

PATIENCE = 30.0
LOOPS = ("uvloop", "asyncio")
GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


class Pieces(asyncio.Protocol):
    """Gives a connection what comes in the pieces a test asks for: the network alone would join them again."""

    def __init__(self, inner: asyncio.Protocol, sizes: list[int]) -> None:
        self._inner = inner
        self._sizes = sizes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            size = self._sizes.pop(0) if self._sizes else len(data)
            receiver = self._transport.get_protocol()
            if receiver is self:
                receiver = self._inner
            cast(asyncio.Protocol, receiver).data_received(data[at : at + size])
            at += size

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """What uvicorn serves beside the data plane."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    said = json.dumps({"page": scope["path"], "length": len(body)}).encode()
    headers = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


class Server:
    """A front in a thread, as `noria.serve.listen` runs it, with a handler that tells what it was asked."""

    def __init__(
        self,
        loop: str = "uvloop",
        *,
        paged: bool = False,
        settle: Callable[[list[Reply]], list[Reply]] | None = None,
        **limits: Any,
    ) -> None:
        self.limits = Limits(**limits)
        self.seen: list[str] = []
        self.waits: list[float] = []
        self.connected: list[int] = []
        self.faults: list[dict[str, Any]] = []
        self.pieces: list[int] = []
        self._kind = loop
        self._paged = paged
        self._settle = settle
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        make = uvloop.new_event_loop if self._kind == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self.gate, self.stopping = asyncio.Event(), asyncio.Event()
        beside = _Pages(pages) if self._paged else None
        self.front = Front(
            self.handle,
            fallback=None if beside is None else beside.protocol,
            mine=lambda target: target.startswith(b"/echo"),
            limits=self.limits,
            settle=self._settle,
        )
        listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.server = await self.loop.create_server(self._protocol, sock=listening, backlog=2048)
        self.port: int = listening.getsockname()[1]
        self.front.listening = listening
        self.front.start()
        self._ready.set()
        await self.stopping.wait()
        self.server.close()
        if beside is not None:
            await beside.stop()
        self.front.stop()

    def _protocol(self) -> asyncio.Protocol:
        sizes, self.pieces = self.pieces, []
        return Pieces(self.front.protocol(), sizes) if sizes else self.front.protocol()

    def handle(self, request: Request) -> Reply | Awaitable[Reply]:
        path = request.path.decode("latin-1")
        asked = {key: values[0] for key, values in parse_qs(request.query.decode("latin-1")).items()}
        self.seen.append(path)
        self.waits.append(request.waited)
        self.connected.append(len(self.front.connections))
        if path == "/raise":
            raise ValueError("a secret")
        if path == "/nothing":
            return cast(Reply, None)
        if path == "/block":
            time.sleep(float(asked["for"]))
        if path == "/big":
            return Reply(200, bytes(int(asked["size"])), b"application/octet-stream")
        told = {
            "method": request.method,
            "path": path,
            "query": request.query.decode("latin-1"),
            "headers": {key.decode("latin-1"): value.decode("latin-1") for key, value in request.headers.items()},
            "length": len(request.body),
            "digest": hashlib.sha256(request.body).hexdigest(),
        }
        if path in ("/slow", "/echo/slow", "/never", "/later/raise", "/soon"):
            return self._later(path, told)
        reply = json_reply(200, told)
        reply.held = Held() if request.method == "POST" else None
        return reply

    async def _later(self, path: str, told: dict[str, Any]) -> Reply:
        if path == "/later/raise":
            raise ValueError("a secret")
        if path == "/never":
            await asyncio.Event().wait()
        if path == "/soon":
            await asyncio.sleep(0)
        else:
            await self.gate.wait()
        return json_reply(200, told)

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert self.faults == []

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a function in the server's thread."""

        async def called() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(PATIENCE)

    def open(self) -> None:
        self.call(self.gate.set)

    def connections(self) -> list[Connection]:
        return cast(list[Connection], self.call(lambda: list(self.front.connections)))

    def idle(self) -> bool:
        return bool(self.call(lambda: not self.front.connections and not self.front.tasks))

    @contextmanager
    def client(self, *, receive_buffer: int = 0) -> Iterator[Client]:
        with socket.socket() as made:
            if receive_buffer:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            made.settimeout(PATIENCE)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.connect(("127.0.0.1", self.port))
            yield Client(made)

    def ask(self, data: bytes, *methods: str, pieces: list[int] | None = None) -> list[Answer]:
        """All answers to what is sent on a connection of its own, up to the server's end of it."""
        self.pieces = list(pieces or [])
        with self.client() as client:
            client.send(data)
            client.end()
            return client.rest(*methods)


class Client:
    """A connection's other side."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self._left = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end(self) -> None:
        """Send no more, and read on."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def drip(self, first: bytes = b"", data: bytes = b"a") -> None:
        """Send byte by byte until the server says something."""
        ends = time.monotonic() + PATIENCE
        rest = list(first)
        while not select.select([self.socket], [], [], 0.01)[0]:
            assert time.monotonic() < ends
            self.send(bytes([rest.pop(0)]) if rest else data)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def answer(self, method: str = "GET") -> Answer:
        """The next answer; a body is not waited for after HEAD."""
        while b"\r\n\r\n" not in self._left:
            self._more()
        head, _, rest = self._left.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status = int(first.split(" ")[1])
        length = 0 if status == 100 or method == "HEAD" else int(headers["content-length"])
        self._left = rest
        while len(self._left) < length:
            self._more()
        body, self._left = self._left[:length], self._left[length:]
        return Answer(status, headers, body)

    def rest(self, *methods: str) -> list[Answer]:
        """The answers up to the end of the connection, which must be clean."""
        found: list[Answer] = []
        asked = iter(methods)
        while True:
            if not self._left and not self._read():
                return found
            found.append(self.answer(next(asked, "GET")))

    def closed(self) -> bool:
        """Whether the server ends the connection, with nothing more said."""
        with suppress(ConnectionError):
            return not self._left and not self._read()
        return True

    def _read(self) -> bool:
        data = self.socket.recv(2**18)
        self._left += data
        return bool(data)

    def _more(self) -> None:
        assert self._read(), f"the connection ended after {self._left[:200]!r}"


def until(true: Callable[[], bool], said: str = "") -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, said or "it did not come to be in time"
        time.sleep(0.01)


def post(body: bytes = b"", path: str = "/echo", *lines: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*pieces: bytes, lines: tuple[str, ...] = (), trailers: bytes = b"") -> bytes:
    head = "\r\n".join(["POST /echo HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", *lines])
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + b"\r\n\r\n" + chunks + b"0\r\n" + trailers + b"\r\n"


@pytest.fixture(scope="module", params=LOOPS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param, body=2**20, connections=500) as found:
        yield found


@pytest.fixture(scope="module", params=LOOPS)
def paged(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with uvicorn behind it."""
    with Server(request.param, paged=True) as found:
        yield found


@pytest.fixture(params=LOOPS)
def up(request: pytest.FixtureRequest) -> Callable[..., Server]:
    return partial(Server, request.param)


# framing

HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNK = b"1\r\nx\r\n"
END = b"0\r\n\r\n"


def headed(*lines: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


TE = b"Transfer-Encoding: chunked"
REFUSED = {
    "length and chunks": headed(b"Content-Length: 6", TE) + END,
    "chunks and length": headed(TE, b"Content-Length: 6") + END,
    "chunks and length zero": headed(TE, b"Content-Length: 0") + END,
    "two lengths": headed(b"Content-Length: 1", b"Content-Length: 2") + b"xy",
    "the same length twice": headed(b"Content-Length: 1", b"Content-Length: 1") + b"x",
    "lengths in a list": headed(b"Content-Length: 1, 1") + b"x",
    "two lengths in other letters": headed(b"Content-Length: 1", b"CONTENT-LENGTH: 0") + b"x",
    "negative length": headed(b"Content-Length: -1") + b"x",
    "length with plus": headed(b"Content-Length: +1") + b"x",
    "length in hex": headed(b"Content-Length: 0x1") + b"x",
    "length with underline": headed(b"Content-Length: 1_0") + b"0123456789",
    "length with a space": headed(b"Content-Length: 1 0") + b"x",
    "length of another script": headed("Content-Length: ١".encode()) + b"x",
    "length with a point": headed(b"Content-Length: 1.0") + b"x",
    "empty length": headed(b"Content-Length:") + b"x",
    "length over 64 bits": headed(b"Content-Length: 18446744073709551617") + b"x",
    "length of 5000 digits": headed(b"Content-Length: " + b"9" * 5000) + b"x",
    "length of 64 bits": headed(b"Content-Length: 18446744073709551615") + b"x",
    "length of a terabyte": headed(b"Content-Length: 1099511627776") + b"x",
    "chunked twice": headed(TE, TE) + END,
    "chunked twice in one": headed(b"Transfer-Encoding: chunked, chunked") + END,
    "identity": headed(b"Transfer-Encoding: identity") + END,
    "identity, then chunked": headed(b"Transfer-Encoding: identity", TE) + END,
    "chunked, then identity": headed(b"Transfer-Encoding: chunked, identity") + END,
    "a coding unknown": headed(b"Transfer-Encoding: gzip, chunked") + END,
    "xchunked": headed(b"Transfer-Encoding: xchunked") + END,
    "chunked with a tab": headed(b"Transfer-Encoding: chunked\x0b") + END,
    "chunked with a NUL": headed(b"Transfer-Encoding: chunked\x00") + END,
    "chunked quoted": headed(b'Transfer-Encoding: "chunked"') + END,
    "chunked with a word": headed(b"Transfer-Encoding: chunked;q=1") + END,
    "empty coding": headed(b"Transfer-Encoding:") + END,
    "coding folded": headed(b"Transfer-Encoding:\r\n chunked") + END,
    "space before colon": headed(b"Transfer-Encoding : chunked") + END,
    "tab before colon": headed(b"Content-Length\t: 5") + b"xxxxx",
    "space before name": headed(b" Transfer-Encoding: chunked") + END,
    "chunks in HTTP/1.0": headed(TE).replace(b"HTTP/1.1", b"HTTP/1.0") + END,
    "chunks in HTTP/1.0 kept": headed(TE, b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0") + END,
    "folded header": headed(b"A: b", b" c"),
    "folded with a tab": headed(b"A: b", b"\tc"),
    "bare LF": headed().replace(b"\r\n", b"\n"),
    "bare LF after a header": HEAD + b"A: b\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "bare LF ends the head": HEAD + b"A: b\r\n\n",
    "bare CR": HEAD + b"A: b\rTransfer-Encoding: chunked\r\n\r\n" + END,
    "two CR": HEAD + b"A: b\r\r\n\r\n",
    "CR ends the head": HEAD + b"A: b\r\n\r",
    "NUL in a value": headed(b"A: b\x00c"),
    "NUL in a name": headed(b"A\x00: b"),
    "NUL in the address": b"GET /echo\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "control in a value": headed(b"A: \x01"),
    "not ASCII in a name": headed(b"\xc3\xa4: b"),
    "no name": headed(b": b"),
    "no colon": headed(b"Transfer-Encoding"),
    "colon far": headed(b"Transfer-Encoding chunked:"),
    "brackets in a name": headed(b"Content-Length[]: 1"),
    "chunk size negative": headed(TE) + b"-1\r\nx\r\n" + END,
    "chunk size in hex with 0x": headed(TE) + b"0x1\r\nx\r\n" + END,
    "chunk size with plus": headed(TE) + b"+1\r\nx\r\n" + END,
    "chunk size with underline": headed(TE) + b"1_0\r\nx\r\n" + END,
    "chunk size after a space": headed(TE) + b" 1\r\nx\r\n" + END,
    "chunk size before a space": headed(TE) + b"1 \r\nx\r\n" + END,
    "chunk size missing": headed(TE) + b"\r\nx\r\n" + END,
    "chunk size over 64 bits": headed(TE) + b"10000000000000001\r\nx\r\n" + END,
    "chunk size far over 64 bits": headed(TE) + b"f" * 100 + b"\r\nx\r\n" + END,
    "chunk size, LF": headed(TE) + b"1\nx\r\n" + END,
    "chunk size, two CR": headed(TE) + b"1\r\r\nx\r\n" + END,
    "chunk size, CR and no LF": headed(TE) + b"1\rx\r\n" + END,
    "chunk extension with LF": headed(TE) + b"1;a\nx\r\n" + END,
    "chunk extension with CR": headed(TE) + b"1;a\rb\r\nx\r\n" + END,
    "chunk extension with NUL": headed(TE) + b"1;a\x00\r\nx\r\n" + END,
    "chunk longer than said": headed(TE) + b"1\r\nxy\r\n" + END,
    "chunk shorter than said": headed(TE) + b"3\r\nx\r\n" + END,
    "chunk without CRLF": headed(TE) + b"1\r\nx" + END,
    "chunk with LF": headed(TE) + b"1\r\nx\n" + END,
    "chunk with other two": headed(TE) + b"1\r\nxzz" + END,
    "last chunk with LF": headed(TE) + CHUNK + b"0\n\n",
    "trailer with a length": headed(TE) + CHUNK + b"0\r\nContent-Length: 40\r\n\r\n",
    "trailer with a coding": headed(TE) + CHUNK + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer folded": headed(TE) + CHUNK + b"0\r\nA: b\r\n c\r\n\r\n",
    "trailer with a NUL": headed(TE) + CHUNK + b"0\r\nA: \x00\r\n\r\n",
    "no host": b"GET /echo HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "two hosts in other letters": b"GET /echo HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
    "two keys": headed(b"Authorization: Bearer a", b"Authorization: Bearer b"),
    "two kinds": headed(b"Content-Type: a", b"Content-Type: b"),
    "two origins": headed(b"Origin: a", b"Origin: b"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 by name": b"GET /echo HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"GET /echo HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /echo\r\n\r\n",
    "HTTP/0.9 by name": b"GET /echo HTTP/0.9\r\nHost: a\r\n\r\n",
    "version in small letters": b"GET /echo http/1.1\r\nHost: a\r\n\r\n",
    "version with a space": b"GET /echo HTTP/1.1 \r\nHost: a\r\n\r\n",
    "version of three digits": b"GET /echo HTTP/1.10\r\nHost: a\r\n\r\n",
    "method in small letters": b"get /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "method unknown": b"SMUGGLE /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "method with a tab": b"GET\t/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "no address": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "address of no kind": b"GET echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "address with a space": b"GET /ec ho HTTP/1.1\r\nHost: a\r\n\r\n",
    "address not ASCII": "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "tunnel": b"CONNECT /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "tunnel to a host": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(50),
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "unknown expectation": headed(b"Expect: 200-maybe"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_and_nothing_after_it_read(server: Server, name: str) -> None:
    server.seen.clear()
    answers = server.ask(REFUSED[name] + SMUGGLED)
    assert [one.status for one in answers] == [one.status for one in answers if 400 <= one.status < 600]
    (answer,) = answers
    assert answer.headers["connection"] == "close"
    assert answer.told["error"]
    assert "Traceback" not in answer.told["error"]
    assert server.seen == []


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_the_same_byte_by_byte_and_behind_a_good_request(server: Server, name: str) -> None:
    once = server.ask(REFUSED[name] + SMUGGLED)
    server.seen.clear()
    assert [one.status for one in server.ask(REFUSED[name] + SMUGGLED, pieces=[1] * 6000)] == [once[0].status]
    good, bad = server.ask(GET + REFUSED[name] + SMUGGLED)
    assert (good.status, bad.status, bad.headers["connection"]) == (200, once[0].status, "close")
    assert server.seen == ["/echo"]


ACCEPTED = {
    "empty lines before": b"\r\n\r\n" + GET,
    "empty lines between": GET + b"\r\n\r\n" + GET,
    "empty value": headed(b"A:", b"Content-Length: 0"),
    "spaces around a value": headed(b"A: \t b \t", b"Content-Length: \t 0 \t"),
    "obsolete text": headed(b"A: \xff"),
    "zeros before a length": headed(b"Content-Length: 0001") + b"x",
    "chunked in capitals": headed(b"TRANSFER-ENCODING: CHUNKED") + END,
    "a chunk's size in capitals, with zeros": headed(TE) + b"00A\r\n0123456789\r\n000\r\n\r\n",
    "chunk extensions": headed(TE) + b'1;a=b;c="d;\\"e"\r\nx\r\n0;f\r\n\r\n',
    "two of a header": headed(b"A: b", b"A: c"),
    "a star": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0 without host": b"GET /echo HTTP/1.0\r\n\r\n",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_odd_and_valid_is_answered(server: Server, name: str) -> None:
    whole = server.ask(ACCEPTED[name])
    assert {one.status for one in whole} == {200}
    assert [one.told for one in whole] == [one.told for one in server.ask(ACCEPTED[name], pieces=[1] * 500)]


def test_spaces_around_a_value_are_not_part_of_it(server: Server) -> None:
    (answer,) = server.ask(headed(b"A: \t b c \t ", b"Authorization: Bearer k "))
    assert (answer.told["headers"]["a"], answer.told["headers"]["authorization"]) == ("b c", "Bearer k")


def test_trailers_do_not_become_headers(server: Server) -> None:
    trailers = b"Authorization: Bearer stolen\r\nX-Model: other\r\nHost: b\r\nContent-Encoding: gzip\r\n"
    (answer,) = server.ask(chunked(b"one", trailers=trailers))
    assert answer.told["headers"] == {"host": "a", "transfer-encoding": "chunked"}
    assert answer.told["length"] == 3


def test_headers_and_body_of_one_request_do_not_reach_the_next(server: Server) -> None:
    first, second = server.ask(post(b"body", "/echo?q=1", "Authorization: Bearer k", "X-A: 1") + GET)
    assert first.told["headers"]["x-a"] == "1"
    assert (second.told["headers"], second.told["length"], second.told["query"]) == ({"host": "a"}, 0, "")


def test_the_whole_address_of_a_proxy_is_taken_for_its_path(server: Server) -> None:
    first, second = server.ask(
        b"GET http://b:1/echo?a=b HTTP/1.1\r\nHost: a\r\n\r\nGET HTTP://c HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert (first.told["path"], first.told["query"], first.told["headers"]["host"]) == ("/echo", "a=b", "b:1")
    assert (second.told["path"], second.told["headers"]["host"]) == ("/", "c")


def parsed_by_h11(data: bytes) -> list[tuple[str, str, bytes]]:
    """The requests that h11 finds before it ends or refuses."""
    peer = h11.Connection(h11.SERVER)
    found: list[tuple[str, str, bytes]] = []
    with suppress(h11.RemoteProtocolError, h11.LocalProtocolError):
        peer.receive_data(data)
        peer.receive_data(b"")
        while True:
            event, method, target, body = peer.next_event(), "", "", b""
            while not isinstance(event, h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    method, target = event.method.decode(), event.target.decode("latin-1")
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return found
                event = peer.next_event()
            found.append((method, target, body))
            peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            peer.send(h11.EndOfMessage())
            peer.start_next_cycle()
    return found


SEEDS = [
    post(b"hello world"),
    chunked(b"hello", b"world"),
    chunked(b"x", trailers=b"A: b\r\n"),
    headed(TE) + b"5;a=b\r\nhello\r\n" + END,
    GET + post(b"x" * 20) + GET,
    post(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"),
    headed(b"Content-Length: 3", TE) + END,
]
DUST = [
    b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b"\x0b", b":", b";", b",", b"0", b"1", b"a", b"-", b"+", b"\xff",
    b"\r\n\r\n", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"chunked", b"identity",
    b"HTTP/1.0", b"HTTP/1.1", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"x",
]  # fmt: skip


@st.composite
def disturbed(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(SEEDS)) + draw(st.sampled_from([b"", GET, *SEEDS]))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.sampled_from([0, 0, 1, 2, 5]))
        data = data[:at] + draw(st.sampled_from([b"", *DUST])) + data[at + gone :]
    return data


@settings(max_examples=400)
@given(data=disturbed())
def test_a_disturbed_stream_is_framed_as_another_parser_frames_it_or_refused(server: Server, data: bytes) -> None:
    ours = [
        (one.told["method"], one.told["path"], one.told["length"], one.told["digest"])
        for one in server.ask(data)
        if one.status == 200
    ]
    theirs = [
        (method, target.partition("?")[0], len(body), hashlib.sha256(body).hexdigest())
        for method, target, body in parsed_by_h11(data)
    ]
    for mine, other in zip(ours, theirs, strict=False):
        if mine[0] == other[0] and "://" not in other[1] and " " not in other[1].strip():
            assert (mine[0], mine[1].strip(), *mine[2:]) == (other[0], other[1].strip(), *other[2:])
        else:
            assert mine[2:] == other[2:]


@settings(max_examples=150)
@given(data=st.one_of(st.binary(max_size=2000), st.lists(st.sampled_from([*DUST, *SEEDS, GET])).map(b"".join)))
def test_nothing_that_is_sent_ends_the_server(server: Server, data: bytes) -> None:
    for one in server.ask(data):
        assert one.status in (100, 200, 400, 413, 417, 431, 501, 505)
    (answer,) = server.ask(GET)
    assert answer.told["path"] == "/echo"
    assert server.faults == []


TOKEN = st.text("abcdefghijkl-", min_size=1, max_size=12)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, str]:
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS"]))
    path = draw(st.sampled_from(["/echo", "/soon", "/echo/" + draw(TOKEN), "/big"]))
    query = draw(st.sampled_from(["", "?a=b%20c", "?" + draw(TOKEN)])) if path != "/big" else "?size=70000"
    version = draw(st.sampled_from(["1.1"] * 5 + ["1.0"]))
    lines = [f"{method} {path}{query} HTTP/{version}", "Host: a"]
    if version == "1.0":
        lines.append("Connection: keep-alive")
    lines += [
        f"X-{name}:{draw(st.sampled_from(['', ' ']))}{value}" for name, value in draw(st.lists(st.tuples(TOKEN, TOKEN)))
    ]
    body = draw(st.one_of(st.binary(max_size=40), st.integers(0, 5000).map(lambda size: b"z" * size)))
    lines += draw(st.sampled_from([[], [], ["Expect: 100-continue"], ["Connection: Upgrade", "Upgrade: h2c"]]))
    kind = draw(st.sampled_from(["none", "length", "chunked"])) if version == "1.1" else "length"
    if kind == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif kind == "chunked":
        lines.append("transfer-encoding: chunked")
        size = draw(st.integers(1, 700))
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        said = draw(st.sampled_from([b"", b";a=b"]))
        body = b"".join(b"%x%s\r\n%s\r\n" % (len(one), said, one) for one in chunks)
        body += b"0\r\n" + draw(st.sampled_from([b"", b"T: u\r\n"])) + b"\r\n"
    else:
        body = b""
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body, method


def told_apart(answers: list[Answer]) -> list[tuple[Any, ...]]:
    return [
        (one.status, {key: value for key, value in one.headers.items() if key != "date"}, one.body)
        for one in answers
        if one.status != 100
    ]


def final(client: Client, methods: list[str]) -> list[Answer]:
    """The final answers; what says to continue is not one."""
    found = []
    for method in methods:
        answer = client.answer(method)
        while answer.status == 100:
            answer = client.answer(method)
        found.append(answer)
    assert client.closed()
    return found


@settings(max_examples=150)
@given(made=st.lists(requests(), min_size=1, max_size=6), data=st.data())
def test_any_cut_of_a_stream_gives_the_same_answers(
    server: Server, made: list[tuple[bytes, str]], data: st.DataObject
) -> None:
    stream, methods = b"".join(one for one, _ in made), [method for _, method in made]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=40)))
    sizes = [size for size in (b - a for a, b in pairwise([0, *cuts, len(stream)])) if size]
    found = []
    for pieces in ([], sizes, [1] * len(stream)):
        server.pieces = list(pieces)
        with server.client() as client:
            client.send(stream)
            client.end()
            found.append(told_apart(final(client, methods)))
    assert len(found[0]) == len(made)
    assert found[0] == found[1] == found[2]


@settings(max_examples=60)
@given(
    made=st.lists(st.sampled_from(["/echo", "/echo/slow", "/page", "/page/two", "/echo?a=b"]), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 30), max_size=30),
)
def test_paths_of_both_protocols_on_one_connection_in_any_pieces(
    paged: Server, made: list[str], cuts: list[int]
) -> None:
    paged.open()
    paged.pieces = list(cuts)
    with paged.client() as client:
        for path in made:
            client.send(post(b"body", path))
            answer = client.answer()
            assert answer.status == 200
            if path.startswith("/page"):
                assert answer.told == {"page": path, "length": 4}
            elif "page" in answer.told:  # what was handed on once stays there
                assert answer.told["page"] == path.partition("?")[0]
            else:
                assert answer.told["path"] == path.partition("?")[0]


# hand-over


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5, 6, 8, 10, 12, 20, 60])
def test_a_page_is_handed_on_wherever_its_first_bytes_are_cut(paged: Server, first: int) -> None:
    for lead in (b"", b"\r\n", b"\r\n\r\n"):
        with paged.client() as client:
            paged.pieces = []
            data = lead + post(b"body", "/page")
            client.send(data[:first])
            time.sleep(0.01)
            client.send(data[first:])
            assert client.answer().told == {"page": "/page", "length": 4}


def test_an_empty_line_before_a_request_of_ours_does_not_hand_it_on(paged: Server) -> None:
    paged.pieces = [2, 2, 1, 1, 7, 3]
    with paged.client() as client:
        client.send(b"\r\n\r\n" + post(b"one") + b"\r\n")
        assert client.answer().told["path"] == "/echo"
        client.send(post(b"two", "/echo/2"))
        assert client.answer().told["path"] == "/echo/2"
        client.send(b"\r")
        time.sleep(0.02)
        client.send(post(b"two", "/page"))
        assert client.answer().told == {"page": "/page", "length": 3}


def test_a_page_asked_for_before_the_model_answered_is_sent_elsewhere(paged: Server) -> None:
    paged.call(paged.gate.clear)
    with paged.client() as client:
        client.send(post(b"", "/echo/slow") + post(b"", "/page") + post(b"", "/echo"))
        time.sleep(0.05)
        paged.open()
        assert client.answer().told["path"] == "/echo/slow"
        last = client.answer()
        assert (last.status, last.headers["connection"]) == (421, "close")
        assert client.closed()


def test_what_is_never_whole_is_handed_on_or_refused_in_time(up: Callable[..., Server]) -> None:
    with up(paged=True, head_seconds=0.3) as server:
        with server.client() as client:
            client.send(b"GET /ec")
            assert client.answer().status == 408
            assert client.closed()
        with server.client() as client:
            client.send(b"A" * 9000)
            assert client.answer().status == 400
        until(server.idle)


def test_connections_that_were_handed_on_count(up: Callable[..., Server]) -> None:
    with up(paged=True, connections=2) as server:
        with server.client() as first, server.client() as second:
            for one in (first, second):
                one.send(post(b"", "/page"))
                assert one.answer().status == 200
            assert server.connections() == []
            with server.client() as third:
                assert third.answer().status == 503
                assert third.closed()
        until(lambda: server.ask(post(b"", "/page"))[0].status == 200)


# order


def test_answers_keep_their_order_when_the_first_is_slow(up: Callable[..., Server]) -> None:
    with up() as server, server.client() as client:
        client.send(post(b"", "/slow") + b"".join(post(b"x", f"/echo/{number}") for number in range(1000)))
        until(lambda: server.seen == ["/slow"])
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.answer()
        client.socket.settimeout(PATIENCE)
        server.open()
        assert [client.answer().told["path"] for _ in range(1001)] == [
            "/slow",
            *(f"/echo/{number}" for number in range(1000)),
        ]
        assert server.seen[1:] == [f"/echo/{number}" for number in range(1000)]


def test_a_thousand_slow_and_quick_requests_in_one_piece(server: Server) -> None:
    stream = b"".join(post(b"", "/soon" if number % 3 else f"/echo/{number}") for number in range(1000))
    assert [one.told["path"] for one in server.ask(stream)] == [
        "/soon" if number % 3 else f"/echo/{number}" for number in range(1000)
    ]


def test_a_refusal_comes_after_the_answers_to_what_came_before(up: Callable[..., Server]) -> None:
    with up() as server, server.client() as client:
        client.send(post(b"", "/slow") + GET + post(b"", "/echo/2") + REFUSED["length and chunks"] + SMUGGLED)
        until(lambda: server.seen == ["/slow"])
        client.send(b"more of it\r\n" * 1000)
        server.open()
        answers = client.rest()
        assert [one.status for one in answers] == [200, 200, 200, 400]
        assert [one.headers.get("connection") for one in answers] == [None, None, None, "close"]
        assert server.seen == ["/slow", "/echo", "/echo/2"]


def pushed(client: Client, data: bytes, most: int) -> int:
    """How much the server takes before it reads no more."""
    client.socket.settimeout(1.0)
    done = 0
    with suppress(TimeoutError):
        while done < most:
            done += client.socket.send(data[done % len(data) :][: 2**18])
    client.socket.settimeout(PATIENCE)
    return done


def test_what_waits_for_a_slow_answer_is_bounded(up: Callable[..., Server]) -> None:
    with up() as server:
        with server.client() as client:
            client.send(post(b"", "/slow"))
            assert pushed(client, GET * 10_000, 64 * 2**20) < 32 * 2**20
            (connection,) = server.connections()
            assert server.call(lambda: len(connection._waiting)) < 20_000
        with server.client() as client:
            client.send(post(b"", "/slow"))
            large = post(bytes(20 * 2**20))
            assert pushed(client, large, len(large) * 6) < len(large) + 48 * 2**20
            server.open()
            assert client.answer().status == 200
        until(server.idle)


def test_what_waits_while_answers_are_held_back_is_bounded_and_answered(up: Callable[..., Server]) -> None:
    with up() as server, server.client() as client:
        server.call(lambda: server.front.hold(True))
        large = post(bytes(20 * 2**20))
        done = pushed(client, large, len(large) * 4)
        assert done < len(large) + 48 * 2**20
        assert server.seen == []
        server.call(lambda: server.front.hold(False))
        rest = memoryview(large * 4)[done:]
        client.send(bytes(rest))
        assert [client.answer().told["length"] for _ in range(4)] == [20 * 2**20] * 4


def test_answers_that_come_while_answers_are_held_back_wait_too(up: Callable[..., Server]) -> None:
    with up() as server, server.client() as client, server.client() as other:
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: server.seen == ["/slow"])
        server.call(lambda: server.front.hold(True))
        server.open()
        other.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
        assert select.select([client.socket, other.socket], [], [], 0.3)[0] == []
        server.call(lambda: server.front.hold(False))
        assert client.answer().told["path"] == "/slow"
        assert other.answer().told["path"] == "/quick"


@pytest.mark.parametrize("path", ["/big", "/soon"])
def test_a_client_that_never_reads_costs_little_and_is_dropped(up: Callable[..., Server], path: str) -> None:
    with up(body_seconds=1.0) as server, server.client(receive_buffer=4096) as client:
        request = f"GET {path}?size=1000000 HTTP/1.1\r\nHost: a\r\nX: {'x' * 200}\r\n\r\n".encode()
        stream = request * 20_000
        sent = 0
        with suppress(OSError):  # it is cut off, at the latest after a second that it reads nothing
            client.socket.settimeout(5.0)
            while sent < len(stream):
                sent += client.socket.send(stream[sent : sent + 2**18])
        if path == "/big":
            assert len(server.seen) < 100
        until(server.idle)
    assert len(server.seen) < 20_000


def test_a_client_that_leaves_little_unread_is_dropped_too(up: Callable[..., Server]) -> None:
    with up(body_seconds=0.5, idle_seconds=0.5) as server, server.client(receive_buffer=4096) as client:
        client.send(b"GET /big?size=3000000 HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        until(lambda: len(server.seen) > 0)
        until(server.idle)


def test_a_client_that_reads_slowly_gets_it_all(up: Callable[..., Server]) -> None:
    with up() as server, server.client(receive_buffer=4096) as client:
        client.send(b"GET /big?size=500000 HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
        for _ in range(20):
            time.sleep(0.01)
            assert len(client.answer().body) == 500_000
        client.send(GET)
        assert client.answer().status == 200


# bodies


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 5000])
def test_a_body_in_any_chunks_is_the_same_body(server: Server, size: int) -> None:
    body = random.Random(size).randbytes(min(200_000, size * 3000))
    stream = chunked(*(body[at : at + size] for at in range(0, len(body), size)))
    for pieces in ([], [1] * 3000, [3] * 10_000, [4093] * 300):
        (answer,) = server.ask(stream, pieces=pieces)
        assert answer.told["digest"] == hashlib.sha256(body).hexdigest()


def test_a_body_with_its_length_in_many_pieces_is_the_same_body(server: Server) -> None:
    body = random.Random(1).randbytes(100_000)
    for size in (1, 10, 99):
        (answer,) = server.ask(post(body), pieces=[size] * (100_000 // size))
        assert answer.told["digest"] == hashlib.sha256(body).hexdigest()


def test_a_body_at_the_limit_is_taken_and_one_over_it_refused(server: Server) -> None:
    limit = 2**20
    (answer,) = server.ask(post(bytes(limit)))
    assert answer.told["length"] == limit
    (answer,) = server.ask(chunked(bytes(limit)))
    assert answer.told["length"] == limit
    for stream in (post(bytes(limit + 1)), chunked(bytes(limit), b"x"), chunked(bytes(limit + 1))):
        (answer,) = server.ask(stream + SMUGGLED)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert "1 MB" in answer.told["error"]
    assert "/smuggled" not in server.seen


def chunks(amount: int) -> Iterator[bytes]:
    yield b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(amount):
        yield b"100000\r\n" + bytes(2**20) + b"\r\n"
    yield b"0\r\n\r\n"


@pytest.mark.parametrize("kind", ["length", "chunked"])
@pytest.mark.parametrize("limit", [64, 16, 1])
def test_a_client_that_is_still_sending_100_mb_sees_the_refusal(
    up: Callable[..., Server], kind: str, limit: int
) -> None:
    with up(body=limit * 2**20) as server:
        with server.client() as client:
            for piece in chunks(100) if kind == "chunked" else (post(bytes(100 * 2**20)),):
                client.send(piece)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
            assert f"{limit} MB" in answer.told["error"]
            assert client.closed()
        until(server.idle)
        assert server.seen == []


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (REFUSED["two lengths"], 400),
        (headed(b"Expect: 200-maybe", b"Content-Length: 20000000"), 417),
        (headed(b"A: " + b"a" * 40_000, b"Content-Length: 20000000"), 431),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ],
)
def test_a_client_that_sends_on_after_a_refusal_sees_it(server: Server, stream: bytes, status: int) -> None:
    with server.client() as client:
        client.send(stream + bytes(20 * 2**20))
        assert client.answer().status == status
        assert client.closed()


def test_a_client_that_sends_for_ever_after_a_refusal_is_cut_off(up: Callable[..., Server]) -> None:
    with up(idle_seconds=0.3) as server, server.client() as client:
        client.send(REFUSED["two lengths"])
        sent = 0
        with suppress(OSError):
            while sent < 3000:
                client.send(bytes(1000))
                sent += 1
                time.sleep(0.01)
        assert sent < 3000
        until(server.idle)


# heads


def test_a_head_at_the_limit_is_taken_and_one_over_it_refused(server: Server) -> None:
    for made in ("address", "value", "name", "values"):
        for size, status in ((30_000, 200), (34_000, 431), (300_000, 431)):
            stream = {
                "address": b"GET /echo?" + b"a" * size + b" HTTP/1.1\r\nHost: a\r\n\r\n",
                "value": headed(b"A: " + b"a" * size),
                "name": headed(b"a" * size + b": a"),
                "values": headed(*[b"A: " + b"a" * 100] * (size // 105)),
            }[made]
            for pieces in ([], [1000] * 400, [1] * 2000):
                (answer,) = server.ask(stream + SMUGGLED, pieces=pieces)[:1]
                assert (made, size, answer.status) == (made, size, status)


def test_too_many_headers_are_refused(server: Server) -> None:
    for amount, status in ((99, 200), (100, 431), (1000, 431)):
        answer = server.ask(headed(*(b"a-%d: b" % number for number in range(amount))))[0]
        assert answer.status == status


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /echo?",
        b"GET /echo HTTP/1.1\r\nHost: a\r\nA: ",
        b"GET /echo HTTP/1.1\r\nHost: a\r\nA",
        headed(TE) + CHUNK + b"0\r\nA: ",
        headed(TE) + CHUNK + b"0\r\nA",
        headed(TE) + b"1;",
        headed(TE) + b"0",
    ],
    ids=["address", "value", "name", "trailer", "trailer's name", "chunk extension", "chunk size"],
)
@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind a slow one"])
def test_a_head_or_trailer_without_end_is_refused_and_not_kept(
    up: Callable[..., Server], begin: bytes, behind: bool
) -> None:
    piece = b"0" * 2**16
    with up() as server:
        with server.client() as client:
            if behind:
                client.send(post(b"", "/slow"))
            client.send(begin)
            if behind:
                for _ in range(300):
                    client.send(piece)
                server.open()
                assert client.answer().status == 200
            else:
                with suppress(OSError):
                    for _ in range(300):
                        client.send(piece)
            answer = client.answer()
            assert answer.status in (400, 431)
            assert client.closed()
        until(server.idle)


# times


@pytest.mark.parametrize("begin", [b"GET /echo?", GET[:-2], GET[:-2] + b"A: b"])
def test_a_head_that_comes_too_slowly_is_refused(up: Callable[..., Server], begin: bytes) -> None:
    with up(head_seconds=0.4) as server:
        with server.client() as client:
            client.drip(begin)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert client.closed()
        until(server.idle)


@pytest.mark.parametrize("begin", [headed(b"Content-Length: 100000"), headed(TE) + b"ffff\r\n"])
def test_a_body_that_comes_too_slowly_is_refused(up: Callable[..., Server], begin: bytes) -> None:
    with up(body_seconds=0.4) as server:
        with server.client() as client:
            client.send(begin)
            client.drip()
            assert client.answer().status == 408
            assert client.closed()
        until(server.idle)
        assert server.seen == []


def test_a_connection_without_a_request_is_closed_and_empty_lines_do_not_keep_it(up: Callable[..., Server]) -> None:
    with up(idle_seconds=0.4) as server:
        with server.client() as silent, server.client() as after, server.client() as lines:
            after.send(GET)
            assert after.answer().status == 200
            lines.drip(data=b"\r\n")
            assert silent.closed()
            assert after.closed()
            assert lines.closed()
        until(server.idle)


def test_a_slow_answer_and_what_waits_behind_it_are_not_taken_for_slowness(up: Callable[..., Server]) -> None:
    """The client cannot send on while the server does not read; that is not its fault."""
    with up(head_seconds=0.4, body_seconds=0.4, idle_seconds=0.4) as server, server.client() as client:
        large = post(bytes(20 * 2**20))
        client.send(post(b"", "/slow"))
        sender = threading.Thread(target=client.send, args=(large * 3 + GET * 1000,))
        sender.start()
        until(lambda: any(one._stopped for one in server.connections()))
        time.sleep(1.2)
        server.open()
        assert [client.answer().status for _ in range(1004)] == [200] * 1004
        sender.join()


def test_a_server_that_stood_still_does_not_hold_it_against_the_clients(up: Callable[..., Server]) -> None:
    with (
        up(head_seconds=0.8, body_seconds=0.8, idle_seconds=0.8) as server,
        server.client() as head,
        server.client() as body,
        server.client() as blocking,
    ):
        head.send(GET[:20])
        body.send(post(b"body")[:-2])
        until(lambda: sum(one._reading for one in server.connections()) == 2)
        blocking.send(b"GET /block?for=2 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.5)
        head.send(GET[20:])
        body.send(b"dy")
        assert (head.answer().status, body.answer().status, blocking.answer().status) == (200, 200, 200)


def test_a_connection_idle_for_long_may_begin_a_request_in_two_pieces(up: Callable[..., Server]) -> None:
    with up(paged=True, head_seconds=0.8, idle_seconds=30) as server, server.client() as client:
        time.sleep(1.5)
        client.send(b"GE")
        time.sleep(0.3)
        client.send(GET[2:])
        assert client.answer().status == 200


# words


def test_a_client_that_asks_first_is_told_to_send(server: Server) -> None:
    with server.client() as client:
        client.send(headed(b"Content-Length: 4", b"Expect: 100-Continue "))
        assert client.answer() == (100, {}, b"")
        client.send(b"body")
        assert client.answer().told["length"] == 4
        client.send(headed(b"Content-Length: 4000000", b"Expect: 100-continue"))
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert client.closed()


def test_one_that_asks_behind_a_slow_request_is_told_once_that_is_answered(up: Callable[..., Server]) -> None:
    with up() as server, server.client() as client:
        asked = headed(b"Content-Length: 4", b"Expect: 100-continue")
        client.send(post(b"", "/slow") + asked)
        until(lambda: any(one._reading for one in server.connections()))
        server.open()
        assert [client.answer().status, client.answer().status] == [200, 100]
        client.send(b"body")
        assert client.answer().told["length"] == 4
        client.send(post(b"", "/soon") + asked + b"body" + GET)
        assert [one.status for one in (client.answer(), client.answer(), client.answer())] == [200, 200, 200]


def test_http_1_0_closes_unless_asked_to_stay_and_is_told_that_it_stays(server: Server) -> None:
    with server.client() as client:
        for _ in range(3):
            client.send(b"GET /echo HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")
        client.send(b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
        answer = client.answer()  # it would not understand 100
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert client.closed()


def test_a_client_that_asks_to_close_is_closed_on(server: Server) -> None:
    for line in ("Connection: close", "Connection: Close", "Connection: keep-alive, close"):
        (answer,) = server.ask(post(b"", "/soon", line) + GET)
        assert answer.headers["connection"] == "close"
    first, second = server.ask(post(b"") + LAST)
    assert ("connection" in first.headers, second.headers["connection"]) == (False, "close")


def test_head_is_answered_without_a_body(server: Server) -> None:
    request = b"HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n"
    with server.client() as client:
        client.send(request + request.replace(b"/echo", b"/soon") + GET)
        for _ in range(2):
            answer = client.answer("HEAD")
            assert (answer.status, answer.body) == (200, b"")
            assert int(answer.headers["content-length"]) > 100
        assert client.answer().told["method"] == "GET"
        client.send(b"HEAD /echo HTTP/1.1\r\n\r\n")
        assert client.answer("HEAD").status == 400
        assert client.closed()


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
def test_a_wish_to_upgrade_is_not_followed_and_the_request_answered(server: Server, protocol: str) -> None:
    wish = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__", f"Upgrade: {protocol}")
    large = random.Random(3).randbytes(300_000)
    parts = [
        post(b"body", "/echo?a=b", *wish, "X-A: 1"),
        chunked(b"one", b"two", lines=wish),
        post(large, "/echo", *wish),
    ]
    stream = b"".join(parts) + headed(*(line.encode() for line in wish)) + GET
    for pieces in ([], [1] * 1000, [97] * 2000):
        first, second, third, fourth, last = server.ask(stream, pieces=pieces)
        assert (first.told["length"], first.told["query"], first.told["headers"]["x-a"]) == (4, "a=b", "1")
        assert not {"upgrade", "http2-settings"} & set(first.told["headers"])
        assert second.told["digest"] == hashlib.sha256(b"onetwo").hexdigest()
        assert third.told["digest"] == hashlib.sha256(large).hexdigest()
        assert (fourth.told["length"], last.told["method"]) == (0, "GET")
    (answer,) = server.ask(post(b"", "/echo", "Connection: upgrade, close", "Upgrade: h2c") + GET)
    assert answer.headers["connection"] == "close"


def test_a_thousand_wishes_to_upgrade_in_one_piece(server: Server) -> None:
    stream = post(b"b", "/echo", "Connection: upgrade", "Upgrade: h2c") * 1000
    assert [one.told["length"] for one in server.ask(stream)] == [1] * 1000


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (headed(TE, b"Content-Length: 3", b"Connection: upgrade", b"Upgrade: h2c") + END, 400),
        (headed(TE, TE, b"Connection: upgrade", b"Upgrade: h2c") + END, 400),
        (b"GET /echo HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 400),
        (headed(b"Content-Length: 2000000", b"Connection: upgrade", b"Upgrade: h2c") + bytes(2_000_000), 413),
        (headed(TE, b"Connection: upgrade", b"Upgrade: h2c") + b"zz\r\n", 400),
    ],
)
def test_a_wish_to_upgrade_changes_nothing_about_what_is_refused(server: Server, stream: bytes, status: int) -> None:
    server.seen.clear()
    (answer,) = server.ask(stream + SMUGGLED)
    assert answer.status == status
    assert server.seen == []


# faults


def test_a_handler_that_raises_is_answered_500_without_a_trace(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/raise", "/later/raise", "/nothing"):
        caplog.clear()
        failed, after = server.ask(post(b"", path) + GET)
        assert (failed.status, after.status) == (500, 200)
        assert b"secret" not in failed.body
        assert b"Traceback" not in failed.body
        (record,) = caplog.records
        assert record.exc_info
        assert path in record.getMessage()


@pytest.mark.parametrize("how", ["well", "refused", "raising"])
def test_replies_that_share_a_flush_go_out_in_order_or_say_what_failed(up: Callable[..., Server], how: str) -> None:
    settled: list[int] = []

    def settle(replies: list[Reply]) -> list[Reply]:
        settled.append(len(replies))
        if how == "raising":
            raise ValueError("a secret")
        refused = json_reply(503, {"error": "no space"})
        return [refused if how == "refused" and one.held is not None else one for one in replies]

    status = {"well": 200, "refused": 503, "raising": 500}[how]
    with up(settle=settle) as server:
        with server.client() as alone:
            alone.send(b"".join(post(b"", f"/echo/{number}") for number in range(100)))
            answers = [alone.answer() for _ in range(100)]
            alone.send(GET)  # which changes nothing, and is not refused for what others did
            assert alone.answer().status == 200
            with server.client() as other, server.client() as gone:
                other.send(GET * 10)
                assert [other.answer().status for _ in range(10)] == [200] * 10
                gone.send(GET * 100)
                gone.reset()
                for client in (alone, other):
                    client.send(b"".join(post(b"", f"/echo/{number}") for number in range(100)) + GET[:-2])
                for client in (alone, other):
                    answers += [client.answer() for _ in range(100)]
                    client.send(REFUSED["two lengths"])
                    assert client.answer().status == 400
        until(server.idle)
    assert [one.status for one in answers] == [status] * 300
    assert not any(b"secret" in one.body for one in answers)
    assert sum(settled) >= 300
    if how == "well":
        assert [one.told["path"] for one in answers] == [f"/echo/{number}" for number in range(100)] * 3


def test_many_requests_wait_in_order_and_know_how_long(up: Callable[..., Server]) -> None:
    """A turn of the loop takes only so many; the others stand in line, and the last few are not told to hurry."""
    with up() as server, ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(80)]
        until(lambda: len(server.connections()) == 80)
        block = threading.Thread(target=server.call, args=(lambda: time.sleep(0.2),))
        block.start()  # so that all have come when it looks
        for client in clients:
            client.send(b"GET /block?for=0.01 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [client.answer().status for client in clients] == [200] * 80
        block.join()
        waited = [one for one in server.waits if one]
        assert waited == sorted(waited)
        assert waited[-1] > 0.2  # behind some forty that took 10 ms each
        assert server.waits[-32:] == [0.0] * 32
        for client in clients:  # and the line is gone
            client.send(GET)
            assert client.answer().status == 200
        assert server.waits[-80:] == [0.0] * 80


def test_requests_for_which_there_is_no_place_are_known(up: Callable[..., Server]) -> None:
    with up(body=2**20) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(80)]
        until(lambda: len(server.connections()) == 80)
        block = threading.Thread(target=server.call, args=(lambda: time.sleep(0.2),))
        block.start()
        for client in clients:
            client.send(post(bytes(50_000), "/block?for=0.01"))
        assert [client.answer().status for client in clients] == [200] * 80
        block.join()
        assert 30 < server.waits.count(math.inf) < 50  # there is place for a mebibyte, and for some 32
        client.send(post(bytes(50_000)))
        assert client.answer().status == 200
        assert server.waits[-1] == 0.0


def test_those_who_come_while_it_is_busy_are_let_in_together(up: Callable[..., Server]) -> None:
    """An event loop takes one connection in a turn, and turns are long while much is asked."""
    with up() as server, ExitStack() as stack:
        busy = [stack.enter_context(server.client()) for _ in range(4)]
        until(lambda: len(server.connections()) == 4)
        for client in busy:
            client.send(b"GET /block?for=0.1 HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        clients = [stack.enter_context(server.client()) for _ in range(60)]
        for client in clients:
            client.send(GET)
        assert [client.answer().status for client in (*busy, *busy, *clients)] == [200] * 68
        blocks = [count for path, count in zip(server.seen, server.connected, strict=True) if path == "/block"]
        assert blocks[-1] == 64


def test_answers_that_are_cancelled_say_that_the_server_stops(server: Server) -> None:
    with server.client() as first, server.client() as second:
        for client in (first, second):
            client.send(post(b"", "/never") + GET)
        until(lambda: server.call(lambda: len(server.front.tasks)) == 2)
        server.call(lambda: [task.cancel() for task in server.front.tasks])
        for client in (first, second):
            assert [client.answer().status, client.answer().status] == [503, 200]


STAGES = {
    "nothing": b"",
    "a first byte": b"G",
    "half a head": GET[:20],
    "a head": GET[:-2],
    "half a body": headed(b"Content-Length: 100") + b"x",
    "half a chunk": headed(TE) + b"ff\r\nx",
    "an answer to come": post(b"", "/slow"),
    "answers to come": post(b"", "/slow") + GET * 100,
    "answers and half a body to come": post(b"", "/slow") + headed(b"Content-Length: 100") + b"x",
    "a large answer": b"GET /big?size=5000000 HTTP/1.1\r\nHost: a\r\n\r\n" * 5,
    "a refusal": REFUSED["two lengths"],
}


@pytest.mark.parametrize("paged", [False, True], ids=["alone", "with pages"])
@pytest.mark.parametrize("how", ["closed", "reset", "half closed"])
def test_a_client_that_goes_away_leaves_nothing_behind(
    up: Callable[..., Server], how: str, paged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name, sent in STAGES.items():
        if paged:
            sent = sent.replace(b"/slow", b"/echo/slow").replace(b"/big", b"/echo/big")
        with up(paged=paged) as server, server.client() as client:
            client.send(sent)
            time.sleep(0.02)
            if how == "closed":
                client.socket.close()
            elif how == "reset":
                client.reset()
            else:
                client.end()
            time.sleep(0.02)
            server.open()
            if how == "half closed":
                answers = client.rest()
                assert len(answers) == {"answers to come": 101, "a large answer": 5}.get(
                    name, "to come" in name or name == "a refusal"
                )
            until(server.idle, f"{name} left something")
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio" or record.levelno > 20] == []


def test_connections_over_the_limit_are_told_and_the_others_stay(up: Callable[..., Server]) -> None:
    with up(connections=3) as server:
        with server.client() as one, server.client() as two, server.client() as three:
            for client in (one, two, three):
                client.send(GET)
                assert client.answer().status == 200
            with server.client() as four:
                four.send(post(bytes(100_000)))
                answer = four.answer()
                assert (answer.status, answer.headers["connection"]) == (503, "close")
                assert four.closed()
            many = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(40)]
            until(lambda: len(server.connections()) <= 7)
            for client in (one, two, three):
                client.send(GET)
                assert client.answer().status == 200
            for other in many:
                other.close()
        until(server.idle)
        assert server.ask(GET)[0].status == 200


# the end


def test_when_draining_every_request_that_came_is_answered_and_the_last_answer_closes(
    up: Callable[..., Server],
) -> None:
    with up() as server:
        with server.client() as quick, server.client() as slow, server.client() as half, server.client() as kept:
            kept.send(GET)
            assert "connection" not in kept.answer().headers
            slow.send(post(b"", "/slow") + GET * 3)
            half.send(post(b"", "/slow") + GET[:-5])
            until(lambda: server.seen.count("/slow") == 2)
            server.call(partial(setattr, server.front, "draining", True))
            quick.send(GET * 100)
            kept.send(GET)
            server.open()
            half.send(GET[-5:])
            for client, amount in ((quick, 100), (slow, 4), (half, 2), (kept, 1)):
                answers = client.rest()
                assert [one.status for one in answers] == [200] * amount
                assert [one.headers.get("connection") for one in answers] == [None] * (amount - 1) + ["close"]
        until(server.idle)


def test_no_request_is_lost_while_a_server_drains(up: Callable[..., Server]) -> None:
    """As `noria.serve.listen` does it. Clients open a new connection when they were told, or could not know better."""
    lost: list[str] = []
    answered = [0] * 8
    closing = threading.Event()

    def ask(server: Server, number: int) -> None:
        while True:
            try:
                with server.client() as client:
                    while True:
                        client.send(post(b"x" * 100, "/soon" if number % 2 else "/echo"))
                        answer = client.answer()
                        answered[number] += answer.status == 200
                        if answer.headers.get("connection") == "close":
                            break
            except ConnectionRefusedError:
                return
            except (OSError, AssertionError) as error:
                lost.append(repr(error))
                return
            if closing.is_set():
                return

    with up() as server:
        threads = [threading.Thread(target=ask, args=(server, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: min(answered) > 50)

        async def drain() -> None:
            stop = _Stop()
            closing_soon = server.loop.call_later(0.3, closing.set)
            await _drain(cast(DataPlane, SimpleNamespace(draining=False)), server.front, server.server, stop, 0.5)
            closing_soon.cancel()

        asyncio.run_coroutine_threadsafe(drain(), server.loop).result(PATIENCE)
        assert server.connections() == []
        for thread in threads:
            thread.join(PATIENCE)
    assert lost == []


def test_the_answers_name_the_time(server: Server) -> None:
    (answer,) = server.ask(GET)
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
