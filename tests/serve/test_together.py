"""Small requests that come in one turn of the loop are answered by one call of the model: each as if it were alone."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from serving import Served

from noria.errors import ModelError, RequestError
from noria.records import ModelVersion
from noria.serve.batch import Batch
from noria.serve.engine import Scores
from noria.serve.http import DataPlane
from noria.serve.native import NativeEngine
from noria.serve.plane import Plane
from noria.serve.wire import Reply, Request
from noria.store import Store
from noria.store.files import store_error
from noria.store.segments.writer import SegmentWriter

PATH = "/v2/models/numbers/infer"
MANY = 60


@pytest.fixture
def up(numeric: tuple[Store, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, Plane]]:
    """A server, and the sizes of what it asks together."""
    served = Served(*numeric, name="numbers")
    served.deploy((1, 100.0))
    with served.up():
        assert served.plane is not None
        yield served, served.plane


@pytest.fixture
def sizes(up: tuple[Served, Plane], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of what is asked together."""
    found: list[int] = []
    real = Plane.answer_together

    def counted(self: Plane, loop: str, route: Any, served: Any, batches: list[Batch]) -> Any:
        found.append(len(batches))
        return real(self, loop, route, served, batches)

    monkeypatch.setattr(Plane, "answer_together", counted)
    return found


def row(number: int) -> list[float]:
    return [number / MANY, number % 10, math.sin(number)]


def body(number: int, *, first: float | None = None, named: bool = True) -> bytes:
    values = row(number)
    if first is not None:
        values[0] = first
    asked: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": values}]}
    return json.dumps({"id": f"n{number}", **asked} if named else asked).encode()


def at_once(served: Served, plane: Plane, bodies: list[bytes], **headers: str) -> list[tuple[int, dict[str, str], Any]]:
    """What as many clients are told who ask in the same moment."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port), 60)) for _ in bodies]
        assert plane._follower is not None
        loop = plane._follower.get_loop()
        live = b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        for client in clients:  # every connection is known then
            client.sendall(live)
            answer(client)
        for asked in ([live] * len(bodies), [message(content, lines) for content in bodies]):
            held, sent = threading.Event(), threading.Event()
            loop.call_soon_threadsafe(hold, held, sent)  # all have come when it looks; then that many are expected
            assert held.wait(60)
            for client, data in zip(clients, asked, strict=True):
                client.sendall(data)
            sent.set()
            answers = [answer(client) for client in clients]
        return answers


def hold(held: threading.Event, sent: threading.Event) -> None:
    held.set()
    sent.wait(60)


def message(content: bytes, lines: str) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n{lines}\r\n"
    return head.encode() + content


def answer(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    while len(rest) < int(headers["content-length"]):
        rest += client.recv(65536)
    if headers.get("content-encoding") == "gzip":
        rest = gzip.decompress(rest)
    return int(first.split(" ")[1]), headers, json.loads(rest)


def given(told: dict[str, Any]) -> list[Any]:
    return [output["data"] for output in told["outputs"]]


def counts(plane: Plane) -> tuple[int, int, int]:
    (one,) = plane.metrics.of("numbers", 1)
    return one.requests, one.errors, one.predictions


def test_each_is_answered_and_on_record_as_if_it_were_alone(up: tuple[Served, Plane], sizes: list[int]) -> None:
    served, plane = up
    alone = [json.loads(served.request_raw("POST", PATH, body(number)).body) for number in range(MANY)]
    before = counts(plane)
    found = at_once(served, plane, [body(number, named=number % 3 > 0) for number in range(MANY)])
    assert max(sizes) > 10
    assert [status for status, _, _ in found] == [200] * MANY
    for (_, _, told), one in zip(found, alone, strict=True):
        (prediction, shares), (lonely, lonely_shares) = given(told), given(one)
        assert prediction == lonely
        assert shares == pytest.approx(lonely_shares, rel=1e-12)
    ids = [told["parameters"]["prediction_ids"] for _, _, told in found]
    assert len(set(ids)) == MANY
    for number, (made, (_, _, told)) in enumerate(zip(ids, found, strict=True)):
        assert told["id"] == (f"n{number}" if number % 3 else made)
        prediction, _ = served.store.predictions.find(made)
        assert list(prediction.record.values()) == row(number)
        assert prediction.value == told["outputs"][0]["data"][0]
    assert counts(plane) == (before[0] + MANY, before[1], before[2] + MANY)
    (series,) = plane.metrics.of("numbers", 1)
    assert series.rows_in[0] == series.requests  # each of them has one row
    assert sum(series.seconds_in) == series.requests
    assert plane.served("numbers")[1].users == 0


@pytest.mark.parametrize("error", [RequestError("no"), ModelError("no"), MemoryError("no")])
def test_one_that_cannot_be_answered_costs_the_others_nothing(
    up: tuple[Served, Plane], sizes: list[int], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    served, plane = up
    real = NativeEngine.scores

    def scores(self: NativeEngine, batch: Batch) -> Scores:
        if (batch.matrix == 666.0).any():
            raise error
        return real(self, batch)

    monkeypatch.setattr(NativeEngine, "scores", scores)
    found = at_once(served, plane, [body(number, first=666.0 if number == 30 else None) for number in range(MANY)])
    assert max(sizes) > 10
    assert [number for number, (status, _, _) in enumerate(found) if status != 200] == [30]
    assert found[30][0] == {RequestError: 400, ModelError: 503, MemoryError: 500}[type(error)]
    assert found[31][2]["id"] == "n31"
    assert plane.served("numbers")[1].users == 0
    assert counts(plane)[1] == isinstance(error, ModelError)


def test_what_cannot_be_put_on_record_is_not_told_to_anybody(
    up: tuple[Served, Plane], sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, plane = up
    assert at_once(served, plane, [body(0)])[0][0] == 200
    before = counts(plane)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise store_error(OSError(28, "No space left on device"), "record a prediction")

        patch.setattr(SegmentWriter, "_write", full)
        found = at_once(served, plane, [body(number) for number in range(MANY)])
    assert max(sizes) > 10
    assert {status for status, _, _ in found} <= {503, 507}
    assert all("outputs" not in told for _, _, told in found)
    assert counts(plane)[2] == before[2]
    served.until(lambda: served.request_raw("POST", PATH, body(1)).status == 200)


def test_who_takes_packed_answers_gets_them_and_a_wrong_deadline_is_refused(
    up: tuple[Served, Plane], sizes: list[int]
) -> None:
    served, plane = up
    packed = at_once(served, plane, [body(number) for number in range(MANY)], **{"Accept-Encoding": "gzip"})
    assert [told["id"] for _, _, told in packed] == [f"n{number}" for number in range(MANY)]
    assert max(sizes) > 10
    hasty = at_once(served, plane, [body(number) for number in range(MANY)], **{"X-Request-Timeout-Ms": "1000"})
    assert [status for status, _, _ in hasty] == [200] * MANY
    wrong = at_once(served, plane, [body(number) for number in range(MANY)], **{"X-Request-Timeout-Ms": "soon"})
    assert [status for status, _, _ in wrong] == [400] * MANY


def test_what_was_asked_is_answered_by_the_version_it_was_asked_of(up: tuple[Served, Plane]) -> None:
    """Though that is let go meanwhile: a version ends once nobody uses it."""
    _, plane = up
    data = DataPlane(plane)
    data.grouping = True

    async def run() -> list[Reply]:
        asked = Request("POST", PATH.encode(), b"", {}, body(3))
        asked.grouped = True
        reply = data.handle(asked)
        assert isinstance(reply, Reply)
        assert reply.status == 500  # until it is made
        engine = plane.served("numbers")[1]
        assert engine.users == 1
        await plane.unload("numbers")
        await asyncio.sleep(0.1)
        settled = data.settle([reply])
        assert engine.users == 0
        refused = data.handle(asked)
        assert isinstance(refused, Reply)
        return [*settled, refused]

    assert plane._follower is not None
    found = asyncio.run_coroutine_threadsafe(run(), plane._follower.get_loop()).result(60)
    assert [reply.status for reply in found] == [200, 404]


def test_a_model_whose_answers_depend_on_their_company_is_asked_one_by_one(
    up: tuple[Served, Plane], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plane = up
    engine = plane.served("numbers")[1].engine
    assert isinstance(engine, NativeEngine)
    assert engine.together
    real = engine._graph.run

    def run(feed: dict[str, Any]) -> list[Any]:
        found = real(feed)
        return [one * (1 + 1e-9) if len(one) > 1 and one.dtype.kind == "f" else one for one in found]

    monkeypatch.setattr(engine._graph, "run", run)
    asyncio.run(engine.start())
    assert not engine.together


def test_it_is_the_loops_own_way_that_decides(up: tuple[Served, Plane]) -> None:
    """With a canary or a shadow beside it, requests are answered one by one: each by the version its key chooses."""
    served, plane = up
    assert plane.together("numbers") is not None
    served.deploy((1, 90.0), (2, 10.0))
    served.until(lambda: plane.together("numbers") is None)
    served.deploy((1, 100.0), shadow=(2, 100.0))
    served.until(lambda: plane.deployment("numbers").route("shadow") is not None)
    assert plane.together("numbers") is None
    served.deploy((2, 100.0))
    served.until(lambda: plane.together("numbers") is not None)
    assert plane.together("nobody") is None
