"""Versions on trial: served over HTTP on a loopback port of their own, nothing recorded, for the gates to ask."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import orjson

from noria.core.clock import Clock
from noria.errors import ModelError
from noria.records import Deployment, Route
from noria.serve import DataPlane, Plane
from noria.serve.listen import ServerThread
from noria.store.ports import Store

__all__ = ["Staging", "worker_command"]

_CHUNK = 1000


def worker_command(store: Store) -> list[str]:
    """The command line of a model process; the manifest's digest is appended."""
    return [sys.executable, "-m", "noria.loop.worker", str(store.folder)]


class Staging:
    """Serves one loop's versions through the same server, wire and processes as production.

    Args:
        store: where the bundles are.
        clock: the present.
        loop: the loop's name.
        versions: version number to manifest digest; the first takes unpinned requests.
    """

    def __init__(self, store: Store, clock: Clock, loop: str, versions: dict[int, str]) -> None:
        self._loop = loop
        routes = [
            Route(version, bundle, "champion" if place == 0 else "canary", 100.0 if place == 0 else 0.0)
            for place, (version, bundle) in enumerate(versions.items())
        ]
        deployment = Deployment(loop=loop, revision=1, since=clock.now(), routes=tuple(routes))
        self._plane = Plane(store, clock, worker_command(store), lambda: {loop: deployment}, level="off")
        self._server = ServerThread(DataPlane(self._plane))
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Staging:
        self._server.__enter__()
        self._connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=120)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
        self._server.__exit__(kind, error, trace)

    def ask(self, version: int, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One request: predictions of the records by this version.

        Raises:
            ModelError: it was not answered with 200; says what the server said.
        """
        assert self._connection is not None
        body = orjson.dumps({"records": list(records)})
        self._connection.request(
            "POST", f"/predict/{self._loop}?version={version}", body, {"content-type": "application/json"}
        )
        response = self._connection.getresponse()
        answer = orjson.loads(response.read())
        if response.status != 200:
            details = "".join(f"; record {d.get('record')}: {d.get('problem')}" for d in answer.get("details", [])[:3])
            raise ModelError(f"Version {version} on trial answered {response.status}: {answer.get('error')}{details}")
        found: list[dict[str, Any]] = answer["predictions"]
        return found

    def predict(self, version: int, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predictions of any number of records, in requests of a thousand."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(records), _CHUNK):
            found += self.ask(version, records[start : start + _CHUNK])
        return found

    def latencies_ms(self, version: int, records: Sequence[dict[str, Any]], requests: int) -> list[float]:
        """Time of single-record requests over one kept-alive connection, after a short warm-up."""
        times = []
        for number in range(requests + 20):
            started = time.perf_counter()
            self.ask(version, [records[number % len(records)]])
            times.append((time.perf_counter() - started) * 1000)
        return times[20:]
