"""Records that only the store's users keep: bookkeeping between rooms, never passed from room to room."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class LoopRecord(msgspec.Struct, frozen=True):
    """A loop as last declared: its plan, where its file is, when it was first and last seen."""

    name: str
    file: str
    plan: dict[str, Any]
    plan_digest: str
    created: datetime
    updated: datetime


class AliasRecord(msgspec.Struct, frozen=True):
    """``loop@alias`` names one version: ``champion`` or ``challenger``."""

    loop: str
    alias: str
    version: int
    since: datetime


class ApiKey(msgspec.Struct, frozen=True):
    """A key that opens a served model.

    Attributes:
        name: what people call it.
        digest: SHA-256 of the key, hexadecimal; the key itself is kept nowhere.
        model: the model it opens; None opens every model.
    """

    name: str
    digest: str
    created: datetime
    model: str | None = None
    by: str = ""


class CacheEntry(msgspec.Struct, frozen=True):
    """Outputs of a step by its key: name to blob digest (or to a plain value)."""

    key: str
    step: str
    loop: str
    created: datetime
    outputs: dict[str, Any]
    parts: dict[str, str]
    seconds: float


class Lease(msgspec.Struct, frozen=True):
    """Who controls a loop. ``token`` grows with each holder: writes of an earlier holder are refused."""

    name: str
    token: int
    holder: str
    host: str
    pid: int
    process_started: float
    renewed: datetime
    expires: datetime
    address: str = ""


class MonitorState(msgspec.Struct, frozen=True):
    """How far monitoring has read for one version, and the state of its detectors."""

    loop: str
    version: int
    since: datetime
    state: dict[str, Any]


class Window(msgspec.Struct, frozen=True):
    """One monitoring window of one version.

    Attributes:
        kind: ``performance`` or ``drift``.
        start: first prediction time in it; ``end`` the end of the window (exclusive).
        rows: predictions it holds.
        facts: the numbers: metric with interval and bias, or effects by column.
    """

    id: str
    loop: str
    version: int
    kind: str
    start: datetime
    end: datetime
    rows: int
    facts: dict[str, Any]


class Prediction(msgspec.Struct, frozen=True):
    """One prediction as answered (or refused: ``error`` set).

    Attributes:
        id: identifier given to the client.
        at: when.
        key: the record's key, or None.
        role: ``champion``, ``canary`` or ``shadow``: the route it took.
        record: the record as received.
        value: the predicted label or number.
        probabilities: class probabilities, if any.
        latency_us: time in the server, microseconds.
        answered: what the client was given, where ``role`` is ``shadow``.
        trace: W3C trace id of the request, if it had one.
    """

    id: str
    loop: str
    at: datetime
    version: int
    model_digest: str
    role: str
    record: dict[str, Any]
    value: Any = None
    probabilities: list[float] | None = None
    key: str | None = None
    latency_us: int = 0
    error: str | None = None
    answered: Any = None
    trace: str | None = None


class Label(msgspec.Struct, frozen=True):
    """The truth for one prediction, found by prediction id or by key."""

    loop: str
    at: datetime
    value: Any
    prediction: str | None = None
    key: str | None = None
