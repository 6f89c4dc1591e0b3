"""A model's process by itself."""

from __future__ import annotations

import asyncio
import sys

import pytest

from noria.errors import ModelError
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
