"""Where events go: into a store of this machine, or over HTTP to a server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from noria.errors import Denied, NoriaError, NotFound, RequestError, StoreBusy, StoreError
from noria.store.ports import Blobs
from noria.store.tracking import Artifact, Tracking
from noria.track import verbs
from noria.track.artifacts import clean_path
from noria.track.events import Event, Refused, apply, write_events

__all__ = ["EVENTS_PATH", "HttpSender", "Sender", "StoreSender"]

EVENTS_PATH = "/api/v1/tracking/events"
_PROXY = "mlflow-artifacts:/"
_SECONDS = 30


class Sender(Protocol):
    """Takes events to the store. Whatever it raises as StoreError is tried again later."""

    def send(self, events: Sequence[Event]) -> list[Refused]:
        """Have events applied; those that never will be are told.

        Raises:
            StoreError: nothing is known of them; send them again.
            RequestError: so many, or one of them, cannot be sent at all.
        """
        ...

    def put(self, run: str, path: str, file: Path) -> None:
        """Keep a file of a run.

        Raises:
            StoreError: send it again.
            RequestError, NotFound: it never will be kept.
        """
        ...

    def address(self, run: str) -> str:
        """Where a person looks at a run; empty where there are no pages."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class StoreSender:
    """Into a store opened by this process."""

    def __init__(self, tracking: Tracking, blobs: Blobs) -> None:
        self._tracking, self._blobs = tracking, blobs

    def send(self, events: Sequence[Event]) -> list[Refused]:
        """Apply events."""
        return apply(self._tracking, events)

    def put(self, run: str, path: str, file: Path) -> None:
        """Keep a file of a run."""
        name = clean_path(path)
        with self._tracking.read() as reader:
            root = verbs.run_of(reader, run).artifacts
        if not root.startswith(_PROXY):
            raise RequestError("The artifacts of this run are kept elsewhere.")
        writer = self._blobs.writer()
        try:
            with file.open("rb") as handle:
                while piece := handle.read(2**20):
                    writer.write(piece)
            digest, size = writer.commit()
        except BaseException:
            writer.abort()
            raise
        at = int(file.stat().st_mtime * 1000)
        made = Artifact(f"{root.removeprefix(_PROXY)}/{name}", digest, size, at)
        self._tracking.write(lambda transaction: transaction.put_artifact(made))

    def address(self, run: str) -> str:
        """There are no pages without a server."""
        return ""

    def close(self) -> None:
        """Nothing: the store belongs to whoever opened it."""


class HttpSender:
    """Over HTTP to ``noria server``.

    Args:
        address: e.g. ``http://127.0.0.1:5000``.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RequestError(f"'{address[:80]}' is not the address of a server: give http://HOST:PORT.")
        self._address = address.rstrip("/")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None
        self._roots: dict[str, str] = {}

    def _call(self, method: str, path: str, body: object = None, **headers: str) -> bytes:
        try:
            if self._connection is None:
                self._connection = self._kind(self._host, self._port, timeout=_SECONDS)
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            self._connection.request(method, f"{self._base}{path}", body, given)  # type: ignore[arg-type]
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise StoreBusy(f"{self._address} does not answer ({type(error).__name__}).") from error
        if answer.status == 200:
            return data
        why = _reason(data) or f"status {answer.status}"
        if answer.status == 404:
            raise NotFound(why)
        if answer.status in (401, 403, 407):
            raise Denied(f"{self._address} does not let this be done: {why}")
        if 400 <= answer.status < 500 and answer.status not in (408, 421, 425, 429):
            raise RequestError(why)
        raise StoreError(f"{self._address} cannot keep this now: {why}")

    def send(self, events: Sequence[Event]) -> list[Refused]:
        """Have the server apply events."""
        body = write_events(events)
        try:
            data = self._call("POST", EVENTS_PATH, body, Content_Type="application/msgpack")
        except NotFound as error:
            raise StoreError(f"{self._address} is not a Noria server.") from error
        except Denied as error:  # a person may put it right: no event is at fault
            raise StoreError(str(error)) from error
        return msgspec.json.decode(data, type=_Answer).refused

    def put(self, run: str, path: str, file: Path) -> None:
        """Upload a file of a run."""
        root = self._roots.get(run)
        if root is None:
            found = self.get(f"/api/2.0/mlflow/runs/get?run_id={quote(run)}")
            root = str(found["run"]["info"]["artifact_uri"])
            if not root.startswith(_PROXY):
                raise RequestError("The artifacts of this run are kept elsewhere.")
            self._roots[run] = root
        place = quote(f"{root.removeprefix(_PROXY)}/{clean_path(path)}")
        with file.open("rb") as handle:
            size = str(file.stat().st_size)
            try:
                self._call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}", handle, Content_Length=size)
            except Denied as error:
                raise StoreError(str(error)) from error

    def get(self, path: str) -> Any:
        """The JSON at an address of the server.

        Raises:
            NotFound, RequestError, StoreError: as the server says.
        """
        return json.loads(self._call("GET", path))

    def post(self, path: str, body: object) -> Any:
        """The JSON that the server answers to a JSON body; raises as ``get``."""
        return json.loads(self._call("POST", path, json.dumps(body).encode(), Content_Type="application/json"))

    def address(self, run: str) -> str:
        """The run's page."""
        return f"{self._address}/runs/{run}"

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Answer(msgspec.Struct):
    refused: list[Refused] = []


def _reason(data: bytes) -> str:
    try:
        found = json.loads(data)
    except ValueError:
        return ""
    if not isinstance(found, dict):
        return ""
    return str(found.get("error") or found.get("message") or "")[:500]


def is_lasting(error: NoriaError) -> bool:
    """Whether trying again would not help."""
    return not isinstance(error, StoreError)
