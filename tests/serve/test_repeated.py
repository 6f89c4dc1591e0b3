"""A head that came before is not parsed again: the same must be understood as if it were."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.serve import protocol
from noria.serve.protocol import Front, Limits
from noria.serve.repeated import RepeatedHead
from noria.serve.wire import Reply, Request, json_reply

HEADS = [
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
    b"POST /v2/models/m/infer?a=b HTTP/1.1\r\ncontent-length:%d\r\nConnection: keep-alive\r\nHost: a\r\n\r\n",
    b"\r\nPUT /x HTTP/1.1\r\nHost: a\r\nX: content-length: 7\r\nCONTENT-LENGTH: \t%d\r\n\r\n",
    b"POST /x HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n",
    b"POST /x HTTP/1.0\r\nContent-Length: %d\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d \r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 00%d\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
    b"POST http://b/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nContent-Length: %d\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nY: 1\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nY: 2\r\n\r\n",
    b"POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
]


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.written.append(b"paused")

    def resume_reading(self) -> None:
        self.written.append(b"resumed")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


def understood(pieces: list[bytes], most: int = 2000) -> tuple[list[Any], list[bytes]]:
    """The requests that a connection finds in what comes, and what it writes and hands on."""
    seen: list[Any] = []
    handed: list[bytes] = []

    def handle(request: Request) -> Reply:
        headers = {name: value for name, value in request.headers.items() if name != b"content-length"}
        seen.append((request.method, request.path, request.query, headers, bytes(request.body)))
        return json_reply(200, {"number": len(seen)})

    class Other(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            handed.append(data)

    front = Front(handle, fallback=Other, mine=lambda target: target != b"/page", limits=Limits(body=most))
    made, wire = front.protocol(), Wire()
    made.connection_made(wire)
    for piece in pieces:
        if wire.closed or handed:
            break
        made.data_received(piece)
    return seen, [*wire.written, b"closed" if wire.closed else b"open", *handed]


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Messages, one a piece as a client sends them, most of them like the one before; some disturbed or cut."""
    found: list[bytes] = []
    head = draw(st.sampled_from(HEADS))
    for _ in range(draw(st.integers(2, 7))):
        if draw(st.integers(0, 4)) == 0:
            head = draw(st.sampled_from(HEADS))
        body = draw(st.binary(max_size=30)) if draw(st.integers(0, 9)) else bytes(2100)
        told = max(0, len(body) + draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1])))
        message = head % ((told,) * head.count(b"%d")) + body
        if draw(st.integers(0, 5)) == 0:
            odd = draw(st.sampled_from([b"+%d", b"%d_0", b"0%d", b" %d", b"%d\t", b"\xb2%d", b"-%d", b"%d, %d"]))
            oddly = head.replace(b"%d", odd)
            message = oddly % ((told,) * oddly.count(b"%d")) + body
        match draw(st.integers(0, 9)):
            case 0:
                at = draw(st.integers(0, len(message) - 1))
                wrong = draw(st.sampled_from([b"", b"\r", b"\n", b" ", b"0", b"+", b"-", b"\0", b"X"]))
                message = message[:at] + wrong + message[at + draw(st.integers(0, 1)) :]
            case 1:
                at = draw(st.integers(0, len(message)))
                found.append(message[:at])
                message = message[at:]
            case 2:
                message = (found.pop() if found else b"") + message
            case _:
                pass
        found.append(message)
    return found


@settings(max_examples=1500)
@given(stream=streams())
def test_a_stream_is_understood_as_if_every_head_were_parsed(stream: list[bytes]) -> None:
    quick = understood(stream)
    with patch.object(protocol, "_DIFFERING", 0):
        assert understood(stream) == quick


@pytest.fixture
def repeated() -> Iterator[list[int]]:
    """How often a head was known."""
    found = [0]
    real = RepeatedHead.request

    def counted(self: RepeatedHead, data: bytes, most: int) -> Request | None:
        request = real(self, data, most)
        found[0] += request is not None
        return request

    with patch.object(RepeatedHead, "request", counted):
        yield found


@pytest.mark.parametrize("head", HEADS[:4], ids=["plain", "query", "odd", "http 1.0"])
def test_a_client_that_repeats_itself_is_known_whatever_its_bodies_length(head: bytes, repeated: list[int]) -> None:
    bodies = [b"x" * size for size in (1, 5, 10, 999, 7, 2000)]
    seen, _ = understood([head % len(body) + body for body in bodies])
    assert [request[4] for request in seen] == bodies
    assert repeated == [5]


def test_a_body_over_the_limit_is_refused_though_the_head_is_known(repeated: list[int]) -> None:
    _, written = understood([HEADS[0] % size + bytes(size) for size in (10, 20, 2001)])
    assert repeated == [1]
    assert b"HTTP/1.1 413" in written[2]


def test_a_head_that_differs_anywhere_is_another(repeated: list[int]) -> None:
    """Same length, one byte changed, before or after the digits: never taken for the one that came before."""
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nB: 1\r\nContent-Length: 3\r\nY: 1\r\n\r\nabc"
    for at in (6, 22, 28, len(head) - 8):
        other = head[:at] + bytes([head[at] + 1]) + head[at + 1 :]
        quick = understood([head, other, head, other])
        with patch.object(protocol, "_DIFFERING", 0):
            assert understood([head, other, head, other]) == quick
    assert repeated == [0]


def test_no_request_has_the_length_of_another() -> None:
    first = Request("POST", b"/x", b"", {b"host": b"a", b"content-length": b"3"}, b"abc")
    known = RepeatedHead.of(HEADS[0] % 3 + b"abc", first)
    assert known is not None
    other = known.request(HEADS[0] % 2 + b"de", 10)
    assert other is not None
    assert (other.headers, other.body) == ({b"host": b"a"}, b"de")


def test_connections_with_the_same_head_share_it() -> None:
    front = Front(lambda _: json_reply(200, {}), limits=Limits())
    made = [front.protocol() for _ in range(3)]
    for one in made:
        one.connection_made(Wire())
    for head in (HEADS[0], HEADS[0], HEADS[3]):
        made.pop().data_received(head % 2 + b"de")
    assert len(front._heads) == 2


def test_heads_that_never_come_again_are_soon_no_longer_kept() -> None:
    with patch.object(RepeatedHead, "of", side_effect=RepeatedHead.of) as made:
        understood(
            [b"POST /x HTTP/1.1\r\nHost: a\r\nX: %d\r\nContent-Length: 1\r\n\r\na" % number for number in range(500)]
        )
    assert made.call_count == 64
