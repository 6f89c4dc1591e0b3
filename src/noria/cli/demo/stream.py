"""The trips of 2019-10 to 2020-08 as a stream, sent through HTTP; labels follow when each trip has ended."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from noria.errors import NoriaError
from noria.loop.controller import Controller
from noria.serve.listen import ServerThread
from noria.testing.clock import FakeClock

__all__ = ["START", "STOP", "Replay", "months"]

START = datetime(2019, 10, 1, tzinfo=UTC)
STOP = datetime(2020, 9, 1, tzinfo=UTC)
_STEP = timedelta(hours=6)
_BATCH = 1000


def months(start: datetime, stop: datetime) -> list[datetime]:
    """The first moments of the months from ``start`` to before ``stop``."""
    found = [start]
    while True:
        last = found[-1]
        following = last.replace(year=last.year + last.month // 12, month=last.month % 12 + 1, day=1)
        if following >= stop:
            return found
        found.append(following)


class Replay:
    """Sends the stream to a server and moves the clock.

    Args:
        trips: raw rows with ``trip``, ``pickup_at``, ``minutes`` and the rest of a record, sorted by pick-up.
        server: where to send them.
        loop: the loop's name.
        clock: moved on by six hours a step.
        controller: looked round after each step.
    """

    def __init__(
        self, trips: pl.DataFrame, server: ServerThread, loop: str, clock: FakeClock, controller: Controller
    ) -> None:
        self._trips = trips
        self._server = server
        self._loop = loop
        self._clock = clock
        self._controller = controller
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        self.answers: NDArray[np.float64] = np.full(trips.height, np.nan)
        self.versions: NDArray[np.int64] = np.zeros(trips.height, dtype=np.int64)

    def run(self, stop: datetime, step: Callable[[datetime, int], None]) -> None:
        """Replay until ``stop``; ``step`` is told the time and how many trips were sent, after each step.

        Raises:
            NoriaError: a request was not answered.
        """
        picks = self._trips["pickup_at"].dt.epoch("us").to_numpy()
        ends = picks + (self._trips["minutes"].to_numpy() * 6e7).astype(np.int64)
        by_end = np.argsort(ends, kind="stable")
        sent = labelled = 0
        records = self._trips.drop("minutes").with_columns(pl.col("pickup_at").dt.to_string("iso:strict")).to_dicts()
        keys, truth = self._trips["trip"].to_list(), self._trips["minutes"].to_list()
        while self._clock.now() < stop:
            now = self._clock.advance(_STEP)
            until = int(now.timestamp() * 1e6)
            last = int(np.searchsorted(picks, until, side="left"))
            for part in _parts(sent, last):
                self._predict(part, records)
            sent = last
            last = int(np.searchsorted(ends[by_end], until, side="left"))
            for part in _parts(labelled, last):
                rows = by_end[part.start : part.stop]
                self._post("labels", {"labels": [{"key": keys[r], "label": truth[r]} for r in rows]})
            labelled = last
            if self._controller.tick() is not None:
                self._server.settle()
            step(now, sent)
        self._connection.close()

    def _predict(self, part: range, records: list[dict[str, Any]]) -> None:
        found = self._post("predict", {"records": records[part.start : part.stop]})["predictions"]
        self.answers[part.start : part.stop] = [one["prediction"] for one in found]
        self.versions[part.start : part.stop] = [one["version"] for one in found]

    def _post(self, what: str, body: Any) -> Any:
        self._connection.request("POST", f"/{what}/{self._loop}", orjson.dumps(body))
        response = self._connection.getresponse()
        answer = orjson.loads(response.read())
        if response.status != 200:
            raise NoriaError(f"The server answered {response.status}: {answer.get('error')}")
        return answer


def _parts(first: int, last: int) -> Iterator[range]:
    for start in range(first, last, _BATCH):
        yield range(start, min(start + _BATCH, last))
