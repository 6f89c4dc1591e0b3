"""The HTTP protocol against clients that are wrong, slow or hostile, over raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.serve.protocol import Front, Limits
from noria.serve.wire import Reply, Request

GOOD = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"


class Server:
    """A front in a thread; it echoes bodies, at once or later."""

    def __init__(self, limits: Limits, fallback: Any = None) -> None:
        self.seen: list[tuple[str, bytes, bytes]] = []
        self.front: Front
        self.port = 0
        self._limits = limits
        self._fallback = fallback
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._main()))
        self._loop: asyncio.AbstractEventLoop

    def handle(self, request: Request) -> Any:
        self.seen.append((request.method, request.path, request.body))
        if request.path == b"/slow":
            return self._slow(request)
        if request.path == b"/fault":
            raise RuntimeError("a secret of ours")
        if request.path == b"/large":
            return Reply(200, b"x" * 30_000_000)
        return Reply(200, b"%s:%s" % (request.path, request.body), b"text/plain")

    async def _slow(self, request: Request) -> Reply:
        await asyncio.sleep(0.2)
        return Reply(200, b"slow:" + request.body, b"text/plain")

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        mine = (lambda target: target.startswith(b"/")) if self._fallback is None else (lambda t: t != b"/pages")
        self.front = Front(self.handle, limits=self._limits, fallback=self._fallback, mine=mine)
        server = await self._loop.create_server(self.front.protocol, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.front.start()
        self._ready.set()
        await self._over.wait()
        self.front.stop()
        server.close()

    def __enter__(self) -> Server:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def say(self, *pieces: bytes, pause: float = 0.0) -> bytes:
        """Everything the server answers until it closes or says no more for a while."""
        with self.connect() as client:
            for piece in pieces:
                with contextlib.suppress(OSError):
                    client.sendall(piece)
                if pause:
                    time.sleep(pause)
            return heard(client)

    def alive(self) -> bool:
        return b"/echo:hello" in self.say(GOOD.replace(b"Host: a", b"Host: a\r\nConnection: close"))


def heard(client: socket.socket, patience: float = 1.0) -> bytes:
    client.settimeout(patience)
    found = b""
    with contextlib.suppress(OSError):
        while piece := client.recv(1 << 20):
            found += piece
    return found


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+)", answer)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(Limits(body=2**20, head=4096, headers=20)) as found:
        yield found


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    with Server(Limits(body=2**20, head_seconds=0.6, body_seconds=0.6, idle_seconds=1.0)) as found:
        yield found


def test_requests_of_a_connection_are_answered_in_order(server: Server) -> None:
    slow = GOOD.replace(b"/echo", b"/slow")
    answer = server.say(slow + GOOD + slow + GET)
    assert re.findall(rb"slow:hello|/echo:hello|/echo:", answer) == [
        b"slow:hello",
        b"/echo:hello",
        b"slow:hello",
        b"/echo:",
    ]


def test_many_requests_at_once_are_all_answered(server: Server) -> None:
    many = b"".join(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d" % n for n in range(12))
    with server.connect() as client:
        client.sendall(many + GOOD * 300)
        answer = heard(client, 4)
    assert re.findall(rb"slow:(\d\d)", answer) == [b"%02d" % n for n in range(12)]
    assert answer.count(b"/echo:hello") == 300


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
HOSTILE = {
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
    "two equal lengths": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "negative length": b"Content-Length: -5\r\n\r\n",
    "plus length": b"Content-Length: +5\r\n\r\nhello",
    "hexadecimal length": b"Content-Length: 0x5\r\n\r\nhello",
    "huge length": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "other coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "coding list": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding then more": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "tab before coding": b"Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n",
    "space before colon": b"Content-Length : 5\r\n\r\nhello",
    "folded header": b"X: a\r\n Content-Length: 5\r\n\r\nhello",
    "NUL in a value": b"X: a\0b\r\n\r\n",
    "NUL in a name": b"X\0: a\r\n\r\n",
    "no name": b": a\r\n\r\n",
    "line feed in a name": b"X\nY: a\r\n\r\n",
    "bare carriage return": b"X: a\rY: b\r\n\r\n",
    "bad chunk size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "huge chunk size": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "negative chunk size": b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "chunk longer than said": b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_request_that_two_servers_could_read_in_two_ways_is_refused(server: Server, name: str) -> None:
    before = len(server.seen)
    answer = server.say(b"POST /echo HTTP/1.1\r\nHost: a\r\n" + HOSTILE[name] + SMUGGLED)
    assert statuses(answer)[:1] == [400], answer[:300]
    assert len(statuses(answer)) == 1  # and the connection is closed: what follows is not read as a request
    assert not any(path == b"/smuggled" for _, path, _ in server.seen[before:])
    assert server.alive()


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\xff" * 200,
    ],
)
def test_what_is_no_http_is_refused(server: Server, head: bytes) -> None:
    assert statuses(server.say(head))[:1] in ([400], [505])
    assert server.alive()


def test_an_upgrade_is_not_taken(server: Server) -> None:
    answer = server.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert 101 not in statuses(answer)
    assert server.alive()


def test_heads_are_bounded(server: Server) -> None:
    for head in (
        b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 8000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(30)) + b"\r\n",
    ):
        assert statuses(server.say(head))[:1] == [431]
    assert server.alive()


def test_bodies_are_bounded_and_the_sender_sees_why(server: Server) -> None:
    for rest in (
        b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * 0x100000 + b"\r\n" + b"5\r\nhello\r\n0\r\n\r\n",
    ):
        before = len(server.seen)
        assert statuses(server.say(b"POST /echo HTTP/1.1\r\nHost: a\r\n" + rest)) == [413]
        assert len(server.seen) == before
    with server.connect() as client:  # a sender without an end is cut off
        with contextlib.suppress(OSError):
            client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(40):
                client.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        heard(client)
    assert server.alive()


def test_a_client_that_waits_to_be_told_to_go_on(server: Server) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert statuses(server.say(head, b"hello", pause=0.2)) == [100, 200]
    large = head.replace(b"Content-Length: 5", b"Content-Length: 3000000")
    assert statuses(server.say(large)) == [413]
    assert statuses(server.say(head.replace(b"100-continue", b"200-ok"))) == [417]


def test_an_old_client_is_answered_and_let_go(server: Server) -> None:
    answer = server.say(b"GET /echo HTTP/1.0\r\n\r\n")
    assert statuses(answer) == [200]
    assert b"connection: close" in answer
    kept = server.say(b"HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    assert statuses(kept) == [200, 200]
    assert kept.count(b"/echo:") == 1


def test_a_fault_of_ours_is_no_clients_business(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    answer = server.say(GET.replace(b"/echo", b"/fault") + GET)
    assert statuses(answer) == [500, 200]
    assert b"secret" not in answer
    assert "a secret of ours" in caplog.text


@pytest.mark.parametrize(
    "sent", [b"", b"POST /echo HTTP/1.1\r\nHost", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"]
)
def test_a_slow_client_is_told_and_let_go(hasty: Server, sent: bytes) -> None:
    answer = b""
    with hasty.connect() as client:
        if sent:
            client.sendall(sent)
        answer = heard(client, 15)
    assert statuses(answer) == ([408] if sent else [])
    assert hasty.alive()


def test_a_client_that_drips_is_let_go(hasty: Server) -> None:
    with hasty.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 15:
                client.sendall(b"x")
                time.sleep(0.05)
                if hasty_closed(client):
                    break
        assert time.monotonic() - began < 15


def hasty_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(4096))
    except BlockingIOError:
        return False
    finally:
        client.settimeout(20)


def test_a_client_that_does_not_read_is_dropped(hasty: Server) -> None:
    with hasty.connect() as client:
        client.sendall(GET.replace(b"/echo", b"/large") * 20)
        end = time.monotonic() + 20
        while hasty.front.connections and time.monotonic() < end:
            time.sleep(0.1)
        assert not hasty.front.connections
    assert hasty.alive()


def test_a_client_that_leaves_is_forgotten(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    for sent in (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe", GOOD.replace(b"/echo", b"/slow")):
        with server.connect() as client:
            client.sendall(sent)
    end = time.monotonic() + 10
    while (server.front.connections or server.front.tasks) and time.monotonic() < end:
        time.sleep(0.05)
    assert not server.front.connections
    assert not server.front.tasks
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_more_connections_than_allowed_are_told(server: Server) -> None:
    with Server(Limits(connections=3)) as small:
        kept = [small.connect() for _ in range(3)]
        time.sleep(0.2)
        assert statuses(small.say(GET)) == [503]
        for one in kept:
            one.close()
        time.sleep(0.2)
        assert small.alive()


def test_while_draining_each_answer_ends_its_connection(server: Server) -> None:
    with Server(Limits()) as one:
        one.front.draining = True
        answer = one.say(GET)
        assert statuses(answer) == [200]
        assert b"connection: close" in answer


class _Pages(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data))


def test_what_is_not_the_data_planes_is_handed_on(server: Server) -> None:
    page = b"GET /pages HTTP/1.1\r\nHost: a\r\n\r\n"
    with Server(Limits(), fallback=_Pages) as mixed:
        assert page in mixed.say(page)
        assert mixed.alive()
        with mixed.connect() as client:
            client.sendall(GOOD)
            assert b"/echo:hello" in client.recv(65536)
            for byte in page:  # in pieces, however small
                client.sendall(bytes([byte]))
                time.sleep(0.002)
            assert b"/pages" in heard(client)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, len(GOOD * 3)), max_size=6))
def test_however_it_is_cut_it_reads_the_same(cuts: list[int]) -> None:
    chunked = (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
    )
    whole = GOOD + chunked + GET
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    pieces = [whole[start:stop] for start, stop in pairwise(places)]
    answer = shared().say(*pieces, pause=0.001)
    assert re.findall(rb"/echo:(?:hello)?", answer) == [b"/echo:hello", b"/echo:hello", b"/echo:"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_end_the_server(data: bytes, behind: bool) -> None:
    shared().say((GOOD if behind else b"") + data)
    assert shared().alive()


_shared: list[Server] = []


def shared() -> Server:
    """One server for all examples of a property."""
    if not _shared:
        _shared.append(Server(Limits(head_seconds=0.3, body_seconds=0.3, idle_seconds=0.5)))
        _shared[0].__enter__()
    return _shared[0]


@pytest.fixture(scope="module", autouse=True)
def _end_shared() -> Iterator[None]:
    yield
    while _shared:
        _shared.pop().__exit__()
