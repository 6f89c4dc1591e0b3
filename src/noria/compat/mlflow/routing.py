"""What a route is: its address, what it needs, its fields, and how it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from noria.compat.mlflow.fields import Field
from noria.core.clock import Clock
from noria.store.ports import Blobs, Ledger
from noria.store.tracking import Tracking, TrackingChange, TrackingTransaction

__all__ = ["Need", "Params", "Request", "Route", "Services", "doing"]

Params = dict[str, Any]
"""The fields of a request as checked, by name; an absent field is absent. Parts of the path are here too."""


class Need(Enum):
    """What a route needs of whoever calls it. There are no users yet; every route says it all the same."""

    read = "read"
    write = "write"
    delete = "delete"


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work on."""

    tracking: Tracking
    ledger: Ledger
    blobs: Blobs
    clock: Clock

    def now_ms(self) -> int:
        """The time, in milliseconds since 1970."""
        return int(self.clock.now().timestamp() * 1000)


@dataclass(slots=True)
class Request:
    """A request whose body is not JSON: read it with ``receive``, answer with ``send`` (ASGI).

    Attributes:
        headers: by lower-case name.
        query: the decoded query, each name with its values.
        path: the decoded parts of the path, by name.
        started: whether an answer has begun, so that an error can no longer become one.
    """

    services: Services
    method: str
    headers: Mapping[str, str]
    query: Mapping[str, list[str]]
    path: Params
    receive: Callable[[], Awaitable[dict[str, Any]]]
    send: Callable[[dict[str, Any]], Awaitable[None]]
    started: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One address. Exactly one of ``answer``, ``change``, ``stream`` and ``refused`` is set.

    Attributes:
        method: ``GET``, ``POST``, ``PATCH``, ``PUT`` or ``DELETE``.
        path: e.g. ``/api/2.0/mlflow/runs/get``; parts in braces are parameters, ``{name:path}`` takes the rest.
            Every path under ``/api/`` is also there under ``/ajax-api/``.
        need: what it needs; there is no default.
        fields: the body's fields (the query's for GET).
        answer: gives the JSON of the answer; runs in a thread of its own and may block on the store.
        change: checks and prepares on the event loop, without blocking; the change it returns runs in a
            transaction of the tracking store and gives the JSON of the answer. For what must be fast.
        fast: reads the plainest form of the body at once; gives None for what needs a closer look.
        stream: reads and answers by itself.
        refused: why it is not supported; such a route answers NOT_IMPLEMENTED.
    """

    method: str
    path: str
    need: Need
    fields: Mapping[str, Field] = field(default_factory=dict)
    answer: Callable[[Services, Params], Any] | None = None
    change: Callable[[Services, Params], TrackingChange[Any]] | None = None
    fast: Callable[[bytes], Params | None] | None = None
    stream: Callable[[Request], Awaitable[None]] | None = None
    refused: str = ""


def doing(verb: Callable[..., None], *arguments: Any) -> TrackingChange[Any]:
    """A change that does ``verb(transaction, *arguments)`` and answers with an empty object."""

    def change(transaction: TrackingTransaction) -> dict[str, Any]:
        verb(transaction, *arguments)
        return {}

    return change
