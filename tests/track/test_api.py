"""The address for events, asked by hostile clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from noria.errors import StoreFull
from noria.store import open_store
from noria.store.ports import Store
from noria.testing.clock import FakeClock
from noria.track.api import MAX_BODY_BYTES, create
from noria.track.events import ArtifactPut, Event, ParamsSet, RunStarted, write_events
from noria.track.senders import EVENTS_PATH

RUN = "a" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def ask(store: Store, body: bytes, method: str = "POST", path: str = EVENTS_PATH) -> tuple[int, Any]:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(create(store, FakeClock()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, content=body)

    answer = asyncio.run(call())
    return answer.status_code, answer.json()


def test_events_are_kept_and_what_is_refused_is_told_by_its_place(store: Store) -> None:
    said: list[Event] = [
        RunStarted(RUN, "e", "name", "user", 1, {}),
        ParamsSet(RUN, {"p": "1"}),
        ParamsSet(RUN, {"p": "2"}),
        ArtifactPut(RUN, "a", "../../events"),
    ]
    status, answer = ask(store, write_events(said))
    assert status == 200
    assert [one["place"] for one in answer["refused"]] == [2, 3]
    with store.tracking.read() as reader:
        assert reader.run(RUN).params == {"p": "1"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"\x91" * 100_000, 400),
        (msgspec.msgpack.encode([{"type": "points", "run": RUN, "points": [["m", "x", 1, 1]]}]), 400),
        (msgspec.msgpack.encode([{"type": "nothing", "run": RUN}]), 400),
        (b"\x90" + b"\0" * MAX_BODY_BYTES, 413),
    ],
)
def test_a_body_that_is_not_events_is_refused_with_a_reason(store: Store, body: bytes, status: int) -> None:
    found, answer = ask(store, body)
    assert found == status
    assert answer["error"]
    assert "Traceback" not in answer["error"]


def test_other_addresses_and_methods_are_told(store: Store) -> None:
    assert ask(store, b"", "GET")[0] == 405
    assert ask(store, b"", path="/api/v1/tracking/else")[0] == 404


def test_a_full_store_is_no_fault_of_the_client(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(change: object) -> None:
        raise StoreFull("no space left in /secret/place")

    monkeypatch.setattr(store.tracking, "write", full)
    status, answer = ask(store, write_events([ParamsSet(RUN, {"p": "1"})]))
    assert status == 503
    assert "secret" not in answer["error"]
