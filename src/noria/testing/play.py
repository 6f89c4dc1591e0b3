"""A loop played in a temporary store, time advanced by hand: the real rooms, the real server, your rows."""

from __future__ import annotations

import http.client
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from noria.data.sources import Parquet
from noria.deploy.rollout import deployed
from noria.errors import NoriaError
from noria.frames.convert import from_any
from noria.frames.parquet import write_parquet
from noria.loop.build import source_of
from noria.loop.controller import Controller
from noria.loop.declare import Loop
from noria.loop.load import LoadedLoop
from noria.loop.staging import worker_command
from noria.loop.turn import newest_turn
from noria.records import Deployment, ModelVersion, Turn, ValidationReport
from noria.register import champion
from noria.serve import DataPlane, Plane
from noria.serve.listen import ServerThread
from noria.store import open_store
from noria.testing.clock import FakeClock

__all__ = ["Played", "play"]


def play(loop: Loop, frame: Any, clock: FakeClock | None = None) -> Played:
    """The loop on rows of yours in place of its source.

    Args:
        loop: as declared; its source keeps its key, time, label and the rest.
        frame: pandas, Polars or PyArrow rows.
        clock: starts at 2024-01-01 unless given.

    Example::

        with play(loop, frame, clock) as played:
            assert played.tick().state is TurnState.promoted
            played.predict([{"age": 44}])
            clock.advance("7d")
            played.tick()
    """
    return Played(loop, frame, clock or FakeClock())


class Played:
    """A loop under way: its store, its clock and its server."""

    def __init__(self, loop: Loop, frame: Any, clock: FakeClock) -> None:
        self.clock = clock
        self._loop = loop
        self._folder = tempfile.TemporaryDirectory(prefix="noria-play-")
        root = Path(self._folder.name)
        self._rows = root / "rows.parquet"
        self.replace_rows(frame)
        self._origins = loop.origins
        declared = source_of(loop)
        shared = {name: getattr(declared, name) for name in
                  ("key", "time", "label", "sensitive", "labels_after", "served", "task")}  # fmt: skip
        loop.origins = (Parquet(str(self._rows), **shared),)
        self.store = open_store(root / "store")
        loaded = LoadedLoop(loop, _variable(loop), Path(loop.where.rpartition(":")[0]))
        self.controller = Controller(loaded, self.store, clock, live=lambda: True)
        self._plane = Plane(self.store, clock, worker_command(self.store), self._deployed, refresh_s=0.02)
        self._server = ServerThread(DataPlane(self._plane))

    def _deployed(self) -> Mapping[str, Deployment]:
        with self.store.ledger.read() as db:
            return deployed(db)

    def __enter__(self) -> Played:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)
        self.store.close()
        self._loop.origins = self._origins
        self._folder.cleanup()

    @property
    def address(self) -> str:
        """Where its server listens."""
        return self._server.address

    def replace_rows(self, frame: Any) -> None:
        """Let the source hold other rows from now on."""
        self._rows.write_bytes(write_parquet(from_any(frame)))  # type: ignore[arg-type]  # a frame stays one

    def tick(self) -> Turn | None:
        """One look round of the controller; returns the turn that was moved, if one was.

        What it deployed is up when this returns.
        """
        turn = self.controller.tick()
        self._server.settle()
        return turn

    @property
    def turn(self) -> Turn | None:
        """The newest turn."""
        with self.store.ledger.read() as db:
            return newest_turn(db, self._loop.name)

    @property
    def champion(self) -> ModelVersion | None:
        """The version that serves."""
        with self.store.ledger.read() as db:
            return champion(db, self._loop.name)

    @property
    def report(self) -> ValidationReport | None:
        """The newest validation report."""
        with self.store.ledger.read() as db:
            return db.find(ValidationReport, loop=self._loop.name)

    def predict(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predictions of the served versions, over HTTP, recorded.

        Raises:
            NoriaError: the server refused; says why.
        """
        found: list[dict[str, Any]] = self._post("predict", {"records": list(records)})["predictions"]
        return found

    def label(self, labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Post labels, each with ``key`` (or ``id``) and ``label``.

        Raises:
            NoriaError: the server refused; says why.
        """
        return self._post("labels", {"labels": list(labels)})

    def _post(self, what: str, body: Any) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        try:
            connection.request("POST", f"/{what}/{self._loop.name}", orjson.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = orjson.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise NoriaError(f"{response.status}: {answer}")
        return answer


def _variable(loop: Loop) -> str:
    """Its loop name: a bundle's own file is searched by variable or loop name."""
    return loop.name
