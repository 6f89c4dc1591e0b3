"""What a client is told when it is not answered: one place for what each error becomes."""

from __future__ import annotations

import logging
from typing import Any

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
from noria.serve.access import Unauthorized
from noria.serve.engine import Overloaded, TooLate
from noria.serve.outage import Unrecorded
from noria.serve.plane import without_folders
from noria.serve.wire import Reply, json_reply

__all__ = ["Foreign", "TooLargeError", "UnknownKindError", "WrongMethodError", "refusal"]

_STORE: dict[type[StoreError], str] = {
    StoreFull: "The server has no space left to record predictions. Nothing was recorded.",
    StoreReadOnly: "The server may not write its store. Nothing was recorded.",
    StoreBusy: "The server's store is busy. Nothing was recorded; try again.",
}
_log = logging.getLogger("noria.serve")


class Foreign(NoriaError):
    """The request came from a stranger's page."""


class TooLargeError(RequestError):
    """The body or batch is over the limit."""


class UnknownKindError(RequestError):
    """The content type or coding is none of those taken."""


class WrongMethodError(RequestError):
    """The path exists, the method does not; ``allowed`` does."""

    def __init__(self, method: str, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(f"Use {allowed} here, not {method[:20]}.")


def refusal(error: Exception) -> Reply:
    """What a client is told of an error: never more than concerns it."""
    body: dict[str, Any] = {"error": without_folders(str(error))}
    if isinstance(error, WrongMethodError):
        return json_reply(405, body, (b"allow", error.allowed.encode()))
    if isinstance(error, TooLargeError):
        return json_reply(413, body)
    if isinstance(error, UnknownKindError):
        return json_reply(415, body)
    if isinstance(error, RequestError):
        if error.details:
            body["details"] = [
                {**detail, "problem": without_folders(str(detail.get("problem", "")))} for detail in error.details
            ]
        return json_reply(422 if error.details else 400, body)
    if isinstance(error, Unauthorized):
        return json_reply(401, body, (b"www-authenticate", b"Bearer"))
    if isinstance(error, Foreign):
        return json_reply(403, body)
    if isinstance(error, NotFound):
        return json_reply(404, body)
    if isinstance(error, Overloaded):
        return json_reply(429, body, *_again(error.wait_ms))
    if isinstance(error, TooLate):
        return json_reply(504, body)
    if isinstance(error, StoreError):
        if isinstance(error, Unrecorded):
            error = error.cause
        else:
            _log.error("%s", error)
        said = _STORE.get(type(error), "The server's store cannot be used; its log says why.")
        return json_reply(503, {"error": said}, *_again(1000))
    if isinstance(error, (ModelError, StepError)):
        return json_reply(503, body, *_again(1000))
    if isinstance(error, NoriaError):
        return json_reply(409, body)
    return json_reply(500, {"error": "The server failed to answer; its log says why."})


def _again(wait_ms: int) -> tuple[tuple[bytes, bytes], ...]:
    """When to try again: in whole seconds as HTTP has it, and in milliseconds."""
    seconds = max(1, -(-wait_ms // 1000))
    return (b"retry-after", str(seconds).encode()), (b"retry-after-ms", str(wait_ms).encode())
