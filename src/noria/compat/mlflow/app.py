"""MLflow's REST as a bare ASGI application: finds the route, reads the body, answers in JSON.

What must be fast is prepared on the event loop and waits for its commit without a thread; the rest runs in a few
threads. An error of the client's is answered with MLflow's code for it, never with a stack trace.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from noria.compat.mlflow.errors import WireError, wire_error
from noria.compat.mlflow.fields import Field, check
from noria.compat.mlflow.routing import Params, Request, Route, Services
from noria.errors import NoriaError

__all__ = ["Application", "Table", "application", "read_fields"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 64 * 2**20
_MAX_QUERY_BYTES = 256 * 1024
_THREADS = 8
_log = logging.getLogger("noria.compat.mlflow")
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
_ENCODER = msgspec.json.Encoder()
_JSON = (b"content-type", b"application/json")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")


class Table:
    """Routes by method and path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._plain: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        by_pattern: dict[str, dict[str, Route]] = {}
        for route in routes:
            if "{" in route.path:
                methods = by_pattern.setdefault(route.path, {})
            else:
                methods = self._plain.setdefault(route.path, {})
            if route.method in methods:
                raise ValueError(f"{route.method} {route.path} is there twice")
            methods[route.method] = route
        for path, methods in by_pattern.items():
            self._patterns.append((_pattern(path), methods))

    def find(self, method: str, path: str) -> tuple[Route, Params]:
        """The route of a request, and the parts of its path.

        Raises:
            WireError: there is no such address, or not with this method.
        """
        if path.startswith("/ajax-api/"):
            path = f"/api/{path[len('/ajax-api/') :]}"
        methods = self._plain.get(path)
        parts: Params = {}
        if methods is None:
            for pattern, found in self._patterns:
                match = pattern.fullmatch(path)
                if match:
                    methods, parts = found, match.groupdict()
                    break
        if methods is None:
            raise WireError("ENDPOINT_NOT_FOUND", "There is no such address here.")
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ", ".join(sorted(methods))
            raise WireError("BAD_REQUEST", f"This address takes {allowed}, not {method[:20]}.", 405)
        return route, parts


def _pattern(path: str) -> re.Pattern[str]:
    text, last = "", 0
    for match in _PARAMETER.finditer(path):
        text += re.escape(path[last : match.start()])
        text += f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})"
        last = match.end()
    return re.compile(text + re.escape(path[last:]), re.DOTALL)


def application(routes: Iterable[Route], services: Services) -> Application:
    """The ASGI application of these routes.

    Args:
        routes: the whole table.
        services: what the handlers work on.
    """
    table = Table(routes)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mlflow")

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request: Request | None = None
        method = scope["method"]
        try:
            route, parts = table.find(method, scope["path"])
            if route.refused:
                raise WireError("NOT_IMPLEMENTED", route.refused)
            if route.stream is not None:
                request = _request(services, scope, parts, receive, send)
                await route.stream(request)
                return
            params = await _params(route, scope, parts, receive)
            if route.change is not None:
                found = await asyncio.wrap_future(services.tracking.submit(route.change(services, params)))
            else:
                assert route.answer is not None
                loop = asyncio.get_running_loop()
                body = await loop.run_in_executor(pool, _answered, route, services, params)
                await _respond(send, 200, body, method)
                return
            await _respond(send, 200, _ENCODER.encode(found), method)
        except NoriaError as error:
            if request is not None and request.started:
                raise
            wire = wire_error(error)
            if wire.status >= 500 and wire.status != 501:
                _log.error("%s %s: %s", method, scope["path"], error, exc_info=error)
            await _refuse(send, wire, method)
        except _Gone:
            return
        except Exception as error:
            if request is not None and request.started:
                raise
            _log.exception("%s %s failed", method, scope["path"], exc_info=error)
            await _refuse(send, WireError("INTERNAL_ERROR", "The server failed; its log says why."), method)

    return answer


class _Gone(Exception):
    """The client went away."""


def _answered(route: Route, services: Services, params: Params) -> bytes:
    assert route.answer is not None
    return _ENCODER.encode(route.answer(services, params))


async def _respond(send: Send, status: int, body: bytes, method: str) -> None:
    headers = [_JSON, _NO_SNIFF, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def _refuse(send: Send, error: WireError, method: str) -> None:
    body = _ENCODER.encode({"error_code": error.code, "message": _readable(str(error))})
    await _respond(send, error.status, body, method)


def _readable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _query(scope: Scope) -> dict[str, list[str]]:
    raw = scope["query_string"]
    if not raw:
        return {}
    if len(raw) > _MAX_QUERY_BYTES:
        raise WireError("INVALID_PARAMETER_VALUE", "The query is too long.", 414)
    try:
        return parse_qs(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=10_000)
    except ValueError:
        raise WireError("INVALID_PARAMETER_VALUE", "The query cannot be read: it is not valid UTF-8.") from None


def _request(services: Services, scope: Scope, parts: Params, receive: Receive, send: Send) -> Request:
    # the server has decoded the path leniently; what is no UTF-8 is refused here
    raw = scope.get("raw_path")
    if raw is not None:
        try:
            unquote(raw.decode("ascii"), errors="strict")
        except ValueError:
            raise WireError("INVALID_PARAMETER_VALUE", "Invalid path: it is not valid UTF-8.") from None
    found = Request(services, scope["method"], _headers(scope), _query(scope), parts, receive, send)  # type: ignore[arg-type]
    plain = found.send

    async def note(message: dict[str, Any]) -> None:
        found.started = True
        await plain(message)

    found.send = note
    return found


async def _params(route: Route, scope: Scope, parts: Params, receive: Receive) -> Params:
    if scope["method"] in ("GET", "HEAD"):
        given: Mapping[str, Any] = _from_query(route, scope)
    else:
        body = await _body(scope, receive)
        if route.fast is not None and not parts:
            found = route.fast(body)
            if found is not None:
                return found
        given = _from_body(body) if body or not scope["query_string"] else _from_query(route, scope)
    return {**check(route.fields, given), **parts}


async def read_fields(request: Request, fields: Mapping[str, Field]) -> Params:
    """The fields of a JSON body, for a route that answers by itself."""
    headers = [(name.encode(), value.encode()) for name, value in request.headers.items()]
    return check(fields, _from_body(await _body({"headers": headers}, request.receive)))


def _from_query(route: Route, scope: Scope) -> dict[str, Any]:
    found = {}
    for name, values in _query(scope).items():
        field = route.fields.get(name)
        found[name] = values if field is not None and field.listed else values[-1]
    return found


def _from_body(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        found = msgspec.json.decode(body)
    except RecursionError:
        raise WireError("INVALID_PARAMETER_VALUE", "The body is nested too deeply.") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        found = _python_json(body, error)
    if isinstance(found, str):  # some clients send the JSON as text in JSON
        try:
            found = msgspec.json.decode(found)
        except (msgspec.MsgspecError, RecursionError):
            found = None
    if not isinstance(found, dict):
        raise WireError("INVALID_PARAMETER_VALUE", "The body must be a JSON object.")
    return found


def _python_json(body: bytes, why: Exception) -> Any:
    """JSON with the bare NaN and Infinity that Python's writer makes."""
    if b"NaN" in body or b"Infinity" in body:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    raise WireError("INVALID_PARAMETER_VALUE", f"The body is not valid JSON: {why}.") from None


async def _body(scope: Scope, receive: Receive) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _Gone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            part = message.get("body", b"")
            size += len(part)
            if size <= MAX_BODY_BYTES:
                parts.append(part)
            else:
                parts.clear()
        if size > MAX_BODY_BYTES:
            raise WireError("INVALID_PARAMETER_VALUE", f"The body is over {MAX_BODY_BYTES} bytes.", 413)
        body = b"".join(parts)
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.lower() != b"identity":
            return _unpacked(body, value.lower())
    return body


def _unpacked(body: bytes, encoding: bytes) -> bytes:
    if encoding not in (b"gzip", b"deflate"):
        raise WireError("INVALID_PARAMETER_VALUE", "The body's encoding must be gzip, deflate or none.", 415)
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        found = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise WireError("INVALID_PARAMETER_VALUE", "The body is not valid gzip.") from None
    if len(found) > MAX_BODY_BYTES:
        raise WireError("INVALID_PARAMETER_VALUE", f"The body unpacks to over {MAX_BODY_BYTES} bytes.", 413)
    if not unpacker.eof:
        raise WireError("INVALID_PARAMETER_VALUE", "The gzip body ends too early.")
    return found
