"""The data plane over HTTP: a bare ASGI application, no framework.

Routes::

    POST /predict/{loop}[?version=N]              plain JSON records
    GET  /predict/{loop}                          what a record must hold
    POST /labels/{loop}                           the truth, by key or prediction id
    GET  /v2, /v2/health/live, /v2/health/ready   Open Inference Protocol
    GET  /v2/models/{loop}[/versions/{N}][/ready]
    POST /v2/models/{loop}[/versions/{N}]/infer

Access: these routes are open to whoever can reach the address, which is loopback.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from noria.errors import (
    ModelError,
    NoriaError,
    NotFound,
    RequestError,
    StepError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from noria.records import Signature
from noria.serve import oip
from noria.serve.labels import labels_of
from noria.serve.plane import Plane, without_folders

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 32 * 2**20
MAX_RECORDS = 10_000
_STORE: dict[type[StoreError], str] = {
    StoreFull: "The server has no space left to record predictions. Nothing was recorded.",
    StoreReadOnly: "The server may not write its store. Nothing was recorded.",
    StoreBusy: "The server's store is busy. Nothing was recorded; try again.",
}
_log = logging.getLogger("noria.serve")


class TooLargeError(RequestError):
    """The body or batch is over the limit."""


class WrongMethodError(RequestError):
    """The path exists, the method does not; ``allowed`` does."""

    def __init__(self, method: str, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(f"Use {allowed} here, not {method[:20]}.")


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("The request ended early.")
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        else:
            parts.clear()
        more = message.get("more_body", False)
        # What is too large is read on for a while, unkept: a client still sending would not see the answer.
        if size > MAX_BODY_BYTES and (not more or size > 8 * MAX_BODY_BYTES):
            raise TooLargeError(f"The body is larger than {MAX_BODY_BYTES // 2**20} MB; send smaller batches.")
        if not more:
            return b"".join(parts)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"The body is not JSON: {error}.") from None


def data_plane(plane: Plane) -> Application:
    """The ASGI application that answers for ``plane``."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        try:
            status, body = await _route(plane, scope, receive)
        except WrongMethodError as error:
            status, body = 405, {"error": str(error)}
            headers.append((b"allow", error.allowed.encode()))
        except NoriaError as error:
            status, body = _refusal(error)
        except Exception:  # noqa: BLE001 - the edge: a fault of ours must not reach the client as a trace
            _log.exception("request %s failed", scope.get("path"))
            status, body = 500, {"error": "The server failed to answer; its log says why."}
        payload = orjson.dumps(body)
        headers.append((b"content-length", str(len(payload)).encode()))
        if status == 503:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    return application


def _refusal(error: NoriaError) -> tuple[int, dict[str, Any]]:
    body: dict[str, Any] = {"error": str(error)}
    if isinstance(error, TooLargeError):
        return 413, body
    if isinstance(error, RequestError):
        if error.details:
            body["details"] = list(error.details)
        return (422 if error.details else 400), body
    if isinstance(error, NotFound):
        return 404, body
    if isinstance(error, StoreError):
        _log.error("%s", error)
        return 503, {"error": _STORE.get(type(error), "The server's store cannot be used; its log says why.")}
    if isinstance(error, (ModelError, StepError)):
        return 503, {"error": without_folders(str(error))}
    return 409, body


async def _route(plane: Plane, scope: Scope, receive: Receive) -> tuple[int, Any]:
    method = scope["method"]
    parts = [unquote(part) for part in scope["raw_path"].decode("latin-1").split("?")[0].split("/")[1:]]
    match parts:
        case ["predict", loop]:
            if method == "GET":
                return 200, _describe(plane, loop)
            if method != "POST":
                raise WrongMethodError(method, "POST")
            return 200, await _predict(plane, loop, _version(_query(scope, "version")), await _body(receive))
        case ["labels", loop]:
            _need(method, "POST")
            return 200, await _labels(plane, loop, await _body(receive))
        case ["v2"]:
            _need(method, "GET")
            return 200, {"name": "noria", "version": "2", "extensions": []}
        case ["v2", "health", "live"]:
            _need(method, "GET")
            return 200, {"live": True}
        case ["v2", "health", "ready"]:
            _need(method, "GET")
            return (200 if plane.ready else 503), {"ready": plane.ready}
        case ["v2", "models", loop, *rest]:
            return await _model(plane, method, loop, rest, receive)
    raise NotFound(f"There is nothing at {scope['path'][:200]}.")


async def _model(plane: Plane, method: str, loop: str, rest: list[str], receive: Receive) -> tuple[int, Any]:
    version = None
    if rest[:1] == ["versions"] and len(rest) >= 2:
        version, rest = _version(rest[1]), rest[2:]
    if rest == ["infer"]:
        _need(method, "POST")
        return 200, await _infer(plane, loop, version, await _body(receive))
    _need(method, "GET")
    _, manifest = plane.manifest(loop, version)
    if rest == ["ready"]:
        return 200, {"name": loop, "ready": True}
    if rest == []:
        versions = [r.version for r in plane.deployment(loop).routes]
        return 200, oip.metadata(loop, versions, manifest)
    raise NotFound(f"There is nothing at /v2/models/{loop[:80]}/{'/'.join(rest)[:80]}.")


def _need(method: str, wanted: str) -> None:
    if method != wanted:
        raise WrongMethodError(method, wanted)


def _query(scope: Scope, name: str) -> str | None:
    found = parse_qs(scope["query_string"].decode("latin-1")).get(name)
    return found[0] if found else None


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(f"'{text[:80]}' is not a version number.")
    return int(text)


def _records(found: Any) -> list[dict[str, Any]]:
    """Records of a body: ``{"records": [...]}``, a list of records, or one record."""
    if isinstance(found, dict):
        found = found["records"] if isinstance(found.get("records"), list) else [found]
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise RequestError('The body must be {"records": [{…}, …]}, a list of records, or one record.')
    if not found:
        raise RequestError("There are no records to predict.")
    if len(found) > MAX_RECORDS:
        raise TooLargeError(f"{len(found)} records in one request; at most {MAX_RECORDS}.")
    return found


async def _predict(plane: Plane, loop: str, version: int | None, body: bytes) -> Any:
    plane.deployment(loop)  # an unknown loop is said before a bad body
    answers = await plane.predict(loop, _records(_json(body)), version=version)
    predictions = []
    for answer in answers:
        one: dict[str, Any] = {"id": answer.id, "version": answer.version, "prediction": answer.value}
        if answer.probabilities is not None and len(answer.classes) == len(answer.probabilities):
            one["probabilities"] = {
                str(name): share for name, share in zip(answer.classes, answer.probabilities, strict=True)
            }
        predictions.append(one)
    return {"loop": loop, "predictions": predictions}


async def _infer(plane: Plane, loop: str, version: int | None, body: bytes) -> Any:
    plane.deployment(loop)
    request = _json(body)
    signature = plane.manifest(loop, version)[1].signature
    records = _records(oip.records_of(request, signature))
    names = oip.outputs_of(request, signature)
    answers = await plane.predict(loop, records, version=version)
    return oip.response(loop, answers, signature, names, request.get("id"))


async def _labels(plane: Plane, loop: str, body: bytes) -> Any:
    _, manifest = plane.manifest(loop)
    labels = labels_of(_json(body), loop, manifest.signature, plane.now())
    if len(labels) > MAX_RECORDS:
        raise TooLargeError(f"{len(labels)} labels in one request; at most {MAX_RECORDS}.")
    receipt = await plane.label(labels)
    return {"received": receipt.received, "matched": receipt.matched, "unmatched": list(receipt.unmatched)}


def _describe(plane: Plane, loop: str) -> Any:
    _, manifest = plane.manifest(loop)
    signature: Signature = manifest.signature
    return {
        "loop": loop,
        "versions": {str(route.version): route.percent for route in plane.deployment(loop).routes},
        "task": signature.task,
        "classes": list(signature.classes),
        "fields": [
            {
                "name": f.name,
                "type": f.dtype,
                "required": f.required,
                "may_be_null": f.nullable,
                "example": f.example,
            }
            for f in signature.inputs
        ],
        "key": signature.key,
        "label": signature.label,
    }
