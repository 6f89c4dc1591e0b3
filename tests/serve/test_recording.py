"""What an answer may be given on: records that are where they were asked to be."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from fakes import House

from noria.errors import StoreError
from noria.serve.engine import Scores
from noria.serve.recording import Recorder
from noria.store import Store
from noria.store.segments.writer import SegmentWriter


class Keeping:
    """A recorder, told to keep one record after the other; which segments are on disk."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads = ThreadPoolExecutor(2)
        self.recorder = Recorder(store, "disk", self.threads, lambda *_: None)
        self.synced: set[int] = set()  # inodes
        house = House(store)
        house.deploy("m", (1, "champion", 100))
        self._house = house
        real = os.fdatasync

        def fdatasync(handle: int) -> None:
            real(handle)
            self.synced.add(os.fstat(handle).st_ino)

        monkeypatch.setattr(os, "fdatasync", fdatasync)
        self._segments = store.predictions.segments  # type: ignore[attr-defined]

    async def begin(self) -> None:
        deployment = self._house.deployments["m"]
        self.route = deployment.routes[0]
        self.served = await self._house._brought_up(self.route.bundle, "m", 1)

    def keep(self, rows: int = 1) -> str:
        numbers = np.random.default_rng(0).random((rows, 2))
        batch = self.served.layout.from_matrix(numbers)
        return self.recorder.keep(
            "m", datetime.now(UTC), batch, self.route, self.served, Scores([1.0] * rows, None), 1, None
        )

    def on_disk(self, made: str) -> bool:
        return (self._segments / f"{made[:22]}.log").stat().st_ino in self.synced


def test_what_was_kept_before_another_record_failed_is_on_disk_when_it_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = Keeping(store, monkeypatch)

    async def work() -> None:
        await keeping.begin()
        first = keeping.keep()
        waiting = asyncio.ensure_future(keeping.recorder.sync("m"))
        with monkeypatch.context() as patch:
            patch.setattr(SegmentWriter, "_write", failing)
            with pytest.raises(StoreError):
                keeping.keep()
        second = keeping.keep()
        await keeping.recorder.sync("m")
        await waiting
        assert keeping.on_disk(first)
        assert keeping.on_disk(second)
        await keeping.recorder.close()

    def failing(*_: Any) -> None:
        raise StoreError("it cannot be written")

    asyncio.run(work())


def test_the_first_segment_is_on_disk_though_another_was_begun_before_anybody_waited(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.store.segments.writer.ROLL_BYTES", 10_000)
    keeping = Keeping(store, monkeypatch)

    async def work() -> None:
        await keeping.begin()
        made = [keeping.keep(600_000), keeping.keep()]
        assert made[0][:22] != made[1][:22]
        await asyncio.gather(*(keeping.recorder.sync("m") for _ in made))
        assert [keeping.on_disk(one) for one in made] == [True, True]
        await keeping.recorder.close()

    asyncio.run(work())


def test_a_disk_that_failed_is_not_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping = Keeping(store, monkeypatch)
    failed = threading.Event()

    def failing(_: int) -> None:
        if not failed.is_set():
            time.sleep(0.1)
            failed.set()
            raise OSError(5, "Input/output error")

    async def work() -> None:
        await keeping.begin()
        keeping.keep()
        monkeypatch.setattr(os, "fdatasync", failing)
        first = asyncio.ensure_future(keeping.recorder.sync("m"))
        await asyncio.sleep(0.01)
        keeping.keep()  # in the same segment: who asks for it asks in vain
        second = asyncio.ensure_future(keeping.recorder.sync("m"))
        found = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(one) for one in found] == [StoreError] * 2
        with pytest.raises(StoreError):
            keeping.keep()
        keeping.keep()
        with pytest.raises(StoreError):
            await keeping.recorder.sync("m")  # of the segment that was given up it cannot be known
        keeping.keep()
        await keeping.recorder.sync("m")
        await keeping.recorder.close()

    asyncio.run(work())


def test_what_is_held_when_a_recorder_is_closed_is_written(store: Store) -> None:
    house = House(store)
    house.deploy("m", (1, "champion", 100))

    async def work() -> None:
        threads = ThreadPoolExecutor(1)
        recorder = Recorder(store, "os", threads, lambda *_: None)
        route = house.deployments["m"].routes[0]
        served = await house._brought_up(route.bundle, "m", 1)
        batch = served.layout.from_matrix(np.ones((1, 2)))
        held = recorder.held
        made = recorder.keep("m", datetime.now(UTC), batch, route, served, Scores([1.0], None), 1, None, hold=True)
        await recorder.close()
        recorder.flush()  # what an answer that goes out now is preceded by
        assert held.problem is None
        assert store.predictions.find(made)[0].value == 1.0

    asyncio.run(work())
