"""A model's process by itself."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import cast

import numpy as np
import pytest

from noria.errors import ModelError
from noria.serve.batch import Batch
from noria.serve.engine import ProcessEngine
from noria.serve.process import WorkerProcess

DEAF = """
import sys, time
from noria.loop.worker import _send
_send(sys.stdout.buffer, 0, {"ready": True})
time.sleep(600)
"""


def test_a_process_that_does_not_read_a_large_request_is_replaced() -> None:
    async def ask() -> None:
        process = WorkerProcess([sys.executable, "-c", DEAF], "deaf/1", timeout_s=0.5)
        await process.start()
        try:
            for _ in range(2):
                with pytest.raises(ModelError, match="restarted"):
                    await asyncio.wait_for(process.ask(bytes(5_000_000)), 60)
        finally:
            await process.stop()

    asyncio.run(ask())


ANSWERING = """
import sys
from typing import cast
from noria.loop.worker import _send
from noria.serve.process import HEADER
_send(sys.stdout.buffer, 0, {"ready": True})
while head := sys.stdin.buffer.read(HEADER.size):
    size, number = HEADER.unpack(head)
    if sys.stdin.buffer.read(size) == b"die":
        sys.exit(3)
    _send(sys.stdout.buffer, number, {})
"""


def test_a_version_is_not_blamed_for_a_machine_that_can_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    blamed: list[str] = []
    tried: list[int] = []

    def full(**_: object) -> None:
        tried.append(1)
        raise OSError(28, "No space left on device")

    async def ask() -> None:
        process = WorkerProcess([sys.executable, "-c", ANSWERING], "full/1", crashing=blamed.append)
        await process.start()
        try:
            with monkeypatch.context() as patch:
                patch.setattr("tempfile.TemporaryDirectory", full)
                patch.setattr("noria.serve.process._STEADY_SECONDS", -1.0)  # it is tried again at once
                with pytest.raises(ModelError, match="stopped"):
                    await process.ask(b"die")
                async with asyncio.timeout(60):
                    while len(tried) < 8:
                        await asyncio.sleep(0.01)
            await process.ask(b"live")
            assert blamed == []
            for _ in range(4):
                with pytest.raises(ModelError, match="stopped"):
                    await process.ask(b"die")
                await process.ask(b"live")
            assert [one.startswith("its process ended with status 3, 5 times") for one in blamed] == [True]
        finally:
            await process.stop()

    asyncio.run(ask())


def test_a_stop_between_two_requests_that_are_asked_again_leaves_none_waiting() -> None:
    """What failed together is asked one by one: who has not been asked when the model is stopped is told."""

    class Stuck:
        name = "stuck/1"
        asked = 0

        async def ask(self, _: bytes) -> bytes:
            self.asked += 1
            if self.asked == 1:
                raise ModelError("It failed.")
            await asyncio.Event().wait()
            raise AssertionError

        async def stop(self) -> None:
            pass

    async def work() -> None:
        engine = ProcessEngine(cast(WorkerProcess, Stuck()), ("a",))
        engine.patience = 0.05
        asked = [engine.run(Batch(1, np.zeros((1, 1)), {}, None), math.inf) for _ in range(3)]
        await asyncio.sleep(0.01)
        await engine.stop()
        found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
        assert [str(error) for error in found] == ["Model stuck/1 was stopped."] * 3
        assert engine.backlog.requests == 0

    asyncio.run(work())
