"""A small HTTP client for MLflow's REST: one connection, no redirects, answers of a bounded size."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from noria.errors import Conflict, DataError, Denied, NoriaError, NotFound

__all__ = ["Server"]

_MOST_ANSWER = 512 << 20
_TIMEOUT = 120
_TRIES = 5
_LATER = frozenset((408, 425, 429, 500, 502, 503, 504))


class Server:
    """A tracking server.

    Who asks is taken from the address (``http://user:password@…``) or, as MLflow's client does, from
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``, or ``MLFLOW_TRACKING_TOKEN``. Redirects are not
    followed: they would take that along.

    Raises:
        DataError: the address is none.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DataError(f"'{address[:200]}' is not the address of a server: http://host:port.")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self.shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{self._prefix}"
        self._headers = {"accept": "*/*", "user-agent": "noria", **_credentials(parts.username, parts.password)}
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, /, **query: Any) -> Any:
        """``GET`` a JSON object."""
        return self._json("GET", path, None, query)

    def post(self, path: str, body: Any, method: str = "POST") -> Any:
        """Send a JSON object, get one back."""
        return self._json(method, path, json.dumps(body).encode(), {})

    def put(self, path: str, body: Callable[[], Iterable[bytes]], size: int) -> None:
        """Send a file; ``body`` gives its pieces, anew for each try."""
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        self._answer("PUT", self._target(path, {}), body, headers).read()

    @contextmanager
    def stream(self, path: str, /, **query: Any) -> Iterator[http.client.HTTPResponse]:
        """An answer's body, read as it comes.

        Raises:
            DataError: it ended before its length was reached.
        """
        answer = self._answer("GET", self._target(path, query), lambda: b"", {})
        try:
            yield answer
            if answer.length:
                raise DataError(f"{self.shown}{path[:200]} ended {answer.length} bytes too early.")
        except (OSError, http.client.HTTPException) as error:
            raise DataError(f"{self.shown}{path[:200]} ended too early: {error}.") from None
        finally:
            if not answer.isclosed():
                self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _target(self, path: str, query: dict[str, Any]) -> str:
        given = urlencode(query)
        return f"{self._prefix}{path}{'?' + given if given else ''}"

    def _json(self, method: str, path: str, body: bytes | None, query: dict[str, Any]) -> Any:
        headers = {"content-type": "application/json"} if body is not None else {}
        answer = self._answer(method, self._target(path, query), lambda: body or b"", headers)
        try:
            data = answer.read(_MOST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise DataError(f"{self.shown}{path} ended too early: {error}.") from None
        if not answer.isclosed():
            self.close()
            raise DataError(f"{self.shown}{path} answered with over {_MOST_ANSWER} bytes.")
        try:
            found = json.loads(data or b"{}")
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise DataError(f"{self.shown}{path} did not answer with JSON. Is it a tracking server's address?")
        return found

    def _answer(
        self, method: str, target: str, body: Callable[[], bytes | Iterable[bytes]], headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        """An answer that is a success; what may pass is tried again, if that cannot do a thing twice."""
        again = method in ("GET", "PUT") or target.endswith("/search")
        for left in reversed(range(_TRIES)):
            fresh = self._connection is None
            try:
                answer = self._ask(method, target, body() or None, headers)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if left and (again or (not fresh and isinstance(error, http.client.RemoteDisconnected))):
                    time.sleep(0.2 * (_TRIES - left))
                    continue
                raise DataError(f"{self.shown} does not answer: {error}.") from None
            if answer.status in (200, 201, 204):
                return answer
            said = answer.read(65_536)
            self.close()
            if left and again and answer.status in _LATER:
                time.sleep(0.5 * (_TRIES - left))
                continue
            raise _refusal(f"{self.shown}{target.partition('?')[0][:200]}", answer.status, said)
        raise AssertionError("the last try answers or raises")

    def _ask(
        self, method: str, target: str, body: bytes | Iterable[bytes] | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        if self._connection is None:
            if self._secure:
                secured = ssl.create_default_context()
                opened = http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT, context=secured)
            else:
                opened = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)  # type: ignore[assignment]
            opened.connect()
            self._connection = opened
        self._connection.request(method, target, body, {**self._headers, **headers})
        return self._connection.getresponse()


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    user = unquote(user) if user else os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(password) if password else os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}


def _refusal(where: str, status: int, said: bytes) -> NoriaError:
    try:
        answer = json.loads(said)
        code, message = str(answer.get("error_code")), str(answer.get("message"))[:500]
    except (ValueError, AttributeError, RecursionError):
        code, message = "", said[:200].decode(errors="replace")
    text = f"{where} answered {status} {code}: {message}"
    if code == "RESOURCE_ALREADY_EXISTS":
        return Conflict(text)
    if status in (401, 403):
        return Denied(f"{text} Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.")
    if status == 404 or code in ("RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND"):
        return NotFound(text)
    return DataError(text)
