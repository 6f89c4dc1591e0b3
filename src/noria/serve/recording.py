"""Every answer on record before it is given: one block of a segment a request, written by the one who answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from noria.core.ids import new_id
from noria.errors import StoreError
from noria.records import Route
from noria.serve.batch import Batch
from noria.serve.engine import Scores
from noria.serve.wire import Held
from noria.store.ports import PredictionWriter, Store
from noria.store.segments.writer import Block

if TYPE_CHECKING:
    from noria.serve.plane import Served

__all__ = ["Recorder"]

_log = logging.getLogger("noria.serve")
Lose = Callable[[str, Route, "Served", Scores, int], None]


class _Group:
    """Those who wait for the disk."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.running = False


class Recorder:
    """Writes predictions, one writer a loop.

    Args:
        store: whose prediction log.
        level: ``os``, ``disk`` or ``off``.
        threads: where waiting for the disk is done.
        lose: told of answers that were held and cannot be written.
    """

    def __init__(self, store: Store, level: str, threads: ThreadPoolExecutor, lose: Lose) -> None:
        self.level = level
        self._tell = lose
        self._store = store
        self._threads = threads
        self._writers: dict[str, PredictionWriter] = {}
        self._left: dict[str, list[PredictionWriter]] = {}  # given up, with records that may not be on disk yet
        self._groups: dict[str, _Group] = {}
        self._loops: set[str] = set()  # those of which blocks wait for `flush`
        self._waiting: list[tuple[str, Route, Served, Scores | None, int]] = []  # what is in those blocks
        self.held = Held()  # what waits for it, and was written by it since the last failure
        self.lost = False  # whether any ever was

    def keep(
        self,
        loop: str,
        at: datetime,
        batch: Batch,
        route: Route,
        served: Served,
        scores: Scores | None,
        latency_us: int,
        trace: str | None,
        *,
        error: str | None = None,
        answered: list[Any] | None = None,
        hold: bool = False,
        requests: int = 1,
    ) -> str:
        """Write a batch, of one request or more, with its scores or why there are none; the id of its first row.

        Raises:
            StoreError: it cannot be written; nothing of it is kept.
        """
        if self.level == "off":
            return new_id()[:22] + "0000000000"
        manifest = served.manifest
        shares = None if scores is None or scores.shares is None else scores.shares.tobytes()
        # In order, as names would cost half a microsecond.
        block = Block(
            int(at.timestamp() * 1_000_000), latency_us, route.version, manifest.model_digest, route.role,
            batch.rows, served.layout.names, batch.raw or np.ascontiguousarray(batch.matrix).data.cast("B"),
            batch.columns, batch.keys, [] if scores is None else scores.values, manifest.signature.classes, shares,
            error, answered, trace, None,
        )  # fmt: skip
        writer = self._writers.get(loop)
        if writer is None:
            writer = self._writers[loop] = self._store.predictions.writer(loop)
            if self.level == "disk":
                writer.sync()  # of nothing: it keeps each segment from now on until that is on disk
        try:
            first = writer.append(block, hold=hold)
        except StoreError as error:
            self._leave(loop)
            self._lose(error)
            raise
        if hold:
            self._loops.add(loop)
            self._waiting.append((loop, route, served, scores, requests))
        return first

    def flush(self) -> None:
        """Write what is held, of every loop: those who asked may be told then.

        Raises:
            StoreError: it cannot be written; nothing of it is kept.
        """
        if not self._loops:
            return
        loops, self._loops = self._loops, set()
        try:
            for loop in loops:
                if (writer := self._writers.get(loop)) is not None:
                    writer.flush()
        except StoreError as error:
            for loop in loops:
                self._leave(loop)
            self._lose(error)
            raise
        self._waiting.clear()

    def _leave(self, loop: str) -> None:
        """Give a writer up, and with it what was held; what it wrote before may be waited for."""
        writer = self._writers.pop(loop, None)
        if writer is not None and self.level == "disk":
            self._left.setdefault(loop, []).append(writer)
        elif writer is not None:
            writer.close()

    def _lose(self, error: StoreError) -> None:
        waiting, self._waiting = self._waiting, []
        for loop, route, served, scores, requests in waiting:
            if scores is not None:
                self._tell(loop, route, served, scores, requests)
        self.lost = True
        self.held.problem = error
        self.held = Held()

    async def sync(self, loop: str) -> None:
        """Return once everything kept so far is on disk; those who come meanwhile share the next turn.

        Raises:
            StoreError: the disk failed.
        """
        group = self._groups.setdefault(loop, _Group())
        done = asyncio.get_running_loop().create_future()
        group.waiting.append(done)
        if not group.running:
            group.running = True
            asyncio.get_running_loop().call_soon(self._begin, loop, group)
        await done

    def _begin(self, loop: str, group: _Group) -> None:
        waiting, group.waiting = group.waiting, []
        left, writer = self._left.pop(loop, []), self._writers.get(loop)
        if writer is None and not left:
            self._end(loop, group, waiting, StoreError("The prediction log was closed before it was on disk."))
            return

        def sync() -> None:
            for one in left:
                try:
                    one.sync()
                finally:
                    one.close()
            if writer is not None:
                writer.sync()

        work = asyncio.get_running_loop().run_in_executor(self._threads, sync)
        work.add_done_callback(lambda done: self._end(loop, group, waiting, done.exception()))

    def _end(self, loop: str, group: _Group, waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
        for done in waiting:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        if group.waiting:
            self._begin(loop, group)
        else:
            group.running = False

    async def close(self) -> None:
        """Close every writer. An answer may be on its way yet: what it is about is written, or refused by `Held`."""
        with suppress(StoreError):
            self.flush()
        for loop in {*self._writers, *self._left} if self.level == "disk" else ():
            try:
                await self.sync(loop)
            except StoreError as error:  # those who waited were told; the others' records are closed all the same
                _log.error("predictions of %s may not be on disk: %s", loop, error)
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
