"""Who computes predictions: the compiled graph in this process, or the model in a process of its own.

Requests that arrive while a model is busy wait, and the next call takes all that wait: nothing waits for a timer,
and a lone request pays nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.errors import ModelError, NoriaError, RequestError
from noria.serve.batch import Batch
from noria.serve.process import WorkerProcess

__all__ = ["Engine", "Overloaded", "ProcessEngine", "Scores", "TooLate"]

MAX_WAITING = 8192
MAX_WAITING_ROWS = 200_000
MAX_TOGETHER = 10_000
_ALWAYS = 32  # requests that may wait however long it takes
_PATIENCE_SECONDS = 1.0  # how long one may have to wait that gave no deadline
_ENCODER = msgspec.msgpack.Encoder()


class Overloaded(NoriaError):
    """More waits for the model than it can answer in time; ``wait_ms`` is when to try again."""

    def __init__(self, message: str, wait_ms: int) -> None:
        self.wait_ms = wait_ms
        super().__init__(message)


class TooLate(NoriaError):
    """The request's time was over before it was its turn."""


class Scores:
    """What a model said of a batch.

    Attributes:
        values: labels or numbers, plain, one a row.
        shares: class probabilities, rows x classes, or None.
        only: those of the only row, plain, where somebody has made them so; else None.
        seconds: how long the model took for the call, where it was not asked at once; else None.
    """

    __slots__ = ("only", "seconds", "shares", "values")

    def __init__(self, values: list[Any], shares: NDArray[np.float64] | None, only: list[float] | None = None) -> None:
        self.values = values
        self.shares = shares
        self.only = only
        self.seconds: float | None = None

    def each(self) -> list[Scores]:
        """Those of every row alone."""
        if self.shares is None:
            return [Scores([value], None) for value in self.values]
        shares = self.shares
        return [
            Scores([value], shares[row : row + 1], only)
            for row, (value, only) in enumerate(zip(self.values, shares.tolist(), strict=True))
        ]

    def part(self, start: int, stop: int) -> Scores:
        """The scores of some rows."""
        found = Scores(self.values[start:stop], None if self.shares is None else self.shares[start:stop])
        found.seconds = self.seconds
        return found


class Backlog:
    """What waits for a model, and how long that will take.

    Args:
        name: whose, for messages.
        most: requests that may wait.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self.requests = self.rows = 0
        self._took = self._for = 0.0  # seconds, and for how many rows; the calls before count less and less

    @property
    def seconds(self) -> float:
        """How long until what waits is answered."""
        return self.rows * self._took / self._for if self._for else 0.0

    def check(self, deadline: float | None, waited: float = 0.0) -> None:
        """Turn a request away that would not be answered in time: best before its body is read.

        Args:
            deadline: ``time.monotonic()`` by which it must have begun; None: nobody said.
            waited: seconds it has waited already.

        Raises:
            Overloaded: says when to try again.
        """
        left = _PATIENCE_SECONDS - waited if deadline is None else deadline - time.monotonic()
        if waited and waited > left:
            wait = int(1000 * min(waited, _PATIENCE_SECONDS))
            raise Overloaded(f"More is asked of the model '{self._name}' than can be answered.", wait)
        if self.requests < min(_ALWAYS, self._most):
            return
        # Half the time: what has come and is not read yet waits too.
        allowed = left if deadline is None else left / 2
        if self.requests >= self._most or self.rows >= MAX_WAITING_ROWS or self.seconds > allowed:
            wait = max(1, int(1000 * self.seconds))
            raise Overloaded(f"{self.requests} requests wait for the model '{self._name}' already.", wait)

    def add(self, rows: int) -> None:
        """A request comes."""
        self.requests += 1
        self.rows += rows

    def took(self, seconds: float, rows: int) -> None:
        """The model took so long for so many rows.

        How long they waited is another matter: turning away takes time too, and to count it would turn ever more away.
        """
        self._took = 0.9 * self._took + seconds
        self._for = 0.9 * self._for + rows

    def done(self, requests: int, rows: int) -> None:
        """Requests are answered, or given up."""
        self.requests -= requests
        self.rows -= rows


class Engine(Protocol):
    """A model that is up."""

    native: bool
    together: bool  # whether a row's scores are the same, but for the last bits, whatever rows are asked with it
    backlog: Backlog

    def run(self, batch: Batch, deadline: float) -> Scores | asyncio.Future[Scores]:
        """The scores of a batch: now, or later.

        Args:
            batch: what to predict.
            deadline: ``time.monotonic()`` by which it must have begun.

        Raises:
            RequestError: a record cannot be predicted; names it.
            ModelError: the model failed.
            Overloaded: too much waits already.
            TooLate: the deadline passed.
        """
        ...

    async def start(self) -> None:
        """Bring the model up."""
        ...

    async def stop(self) -> None:
        """Finish what is in flight, then let it go."""
        ...


class _Waiting(msgspec.Struct):
    batch: Batch
    deadline: float
    done: asyncio.Future[Scores]


class ProcessEngine:
    """A model in a process of its own, asked with all that waits at once.

    Args:
        worker: its process.
        names: columns of the matrix.
        max_waiting: requests that may wait; more are turned away.
    """

    native = together = False

    def __init__(self, worker: WorkerProcess, names: tuple[str, ...], max_waiting: int = MAX_WAITING) -> None:
        self.worker = worker
        self._names = names
        self._queue: deque[_Waiting] = deque()
        self._pump: asyncio.Task[None] | None = None
        self.backlog = Backlog(worker.name, max_waiting)
        self.patience = 30.0  # seconds that `stop` waits for answers

    def run(self, batch: Batch, deadline: float) -> asyncio.Future[Scores]:
        """As `Engine.run`."""
        self.backlog.check(deadline)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Scores] = loop.create_future()
        self._queue.append(_Waiting(batch, deadline, done))
        self.backlog.add(batch.rows)
        if self._pump is None:
            self._pump = loop.create_task(self._work())
        return done

    async def _work(self) -> None:
        try:
            while self._queue:
                taken = self._take()
                if taken:
                    await self._serve(taken)
        finally:
            self._pump = None
            if self._queue:  # cancelled between two requests
                left = list(self._queue)
                self._queue.clear()
                self._fail(left, ModelError(f"Model {self.worker.name} was stopped."))

    def _take(self) -> list[_Waiting]:
        """All that waits and is still wanted, up to what one call should hold."""
        taken: list[_Waiting] = []
        rows, now = 0, time.monotonic()
        while self._queue and (not taken or rows + self._queue[0].batch.rows <= MAX_TOGETHER):
            one = self._queue.popleft()
            if one.done.done():
                self.backlog.done(1, one.batch.rows)
                continue
            if one.deadline < now:
                self._fail([one], TooLate("The request waited too long for its turn; it was not predicted."))
                continue
            taken.append(one)
            rows += one.batch.rows
        return taken

    async def _serve(self, taken: list[_Waiting]) -> None:
        """Answer requests together; if that fails, each alone, so that only the one at fault does."""
        try:
            scores = await self._ask([one.batch for one in taken])
        except (ModelError, RequestError) as error:
            if len(taken) == 1:
                self._fail(taken, error)
                return
            left = deque(taken)
            try:
                while left:
                    await self._serve([left.popleft()])
            finally:
                if left:  # cancelled between two of them
                    self._fail(list(left), ModelError(f"Model {self.worker.name} was stopped."))
            return
        except BaseException:
            self._fail(taken, ModelError(f"Model {self.worker.name} was stopped."))
            raise
        rows = sum(one.batch.rows for one in taken)
        assert scores.seconds is not None
        self.backlog.took(scores.seconds, rows)
        self.backlog.done(len(taken), rows)
        start = 0
        for one in taken:
            if not one.done.done():
                one.done.set_result(scores.part(start, start + one.batch.rows))
            start += one.batch.rows

    def _fail(self, taken: Sequence[_Waiting], error: Exception) -> None:
        self.backlog.done(len(taken), sum(one.batch.rows for one in taken))
        for one in taken:
            if not one.done.done():
                one.done.set_exception(error)

    async def _ask(self, batches: list[Batch]) -> Scores:
        rows = sum(batch.rows for batch in batches)
        matrix = batches[0].matrix if len(batches) == 1 else np.concatenate([batch.matrix for batch in batches])
        names = {name for batch in batches for name in batch.columns}
        columns = {
            name: [value for batch in batches for value in batch.columns.get(name) or [None] * batch.rows]
            for name in names
        }
        message = {"rows": rows, "names": self._names, "matrix": matrix.tobytes(), "columns": columns}
        reply = msgspec.msgpack.decode(await self.worker.ask(_ENCODER.encode(message)))
        if "error" in reply:
            if reply.get("kind") == "request":
                raise RequestError(reply["error"], reply["details"])
            raise ModelError(reply["error"])
        values = reply["values"]
        if len(values) != rows:
            raise ModelError(f"The model returned {len(values)} predictions for {rows} rows.")
        shares = reply["shares"]
        if shares is not None:
            shares = np.frombuffer(shares, dtype="<f8").reshape(rows, -1)
        scores = Scores(values, shares)
        scores.seconds = reply["seconds"]
        return scores

    async def start(self) -> None:
        """Start the process."""
        await self.worker.start()

    async def stop(self) -> None:
        """Finish what waits, then end the process."""
        began = time.monotonic()
        while self._pump is not None and time.monotonic() < began + self.patience:
            await asyncio.sleep(0.005)
        if self._pump is not None:
            self._pump.cancel()
        await self.worker.stop()
