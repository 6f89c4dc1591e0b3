"""What a page is asked, and the reading every page shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from noria.errors import NotFound, RequestError
from noria.store.ports import Blobs, LoopRecord, PredictionLog, Reader, Window
from noria.store.tracking import Activity, TrackingReader

PAGE = 100
"""Rows of a list on one page."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to the pages.

    Attributes:
        db: a consistent view of the ledger.
        counts: predictions, errors and labelled predictions of a loop since a moment.
        blobs: bytes by digest.
        now: the present.
        tracked: a consistent view of experiments and runs.
        activity: what goes on in each experiment.
        predictions: every prediction, by id and in order of arrival.
        path: parts of the address, decoded.
        query: the query, each name with all its values.
    """

    db: Reader
    counts: Callable[[str, datetime], tuple[int, int, int]]
    blobs: Blobs
    now: datetime
    tracked: TrackingReader
    activity: Callable[[TrackingReader], Mapping[int, Activity]]
    predictions: PredictionLog
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, list[str]] = field(default_factory=dict)

    def loop(self) -> LoopRecord:
        """The loop the address names.

        Raises:
            NotFound: there is none of this name.
        """
        name = self.path["loop"]
        found = self.db.find(LoopRecord, name=name)
        if found is None:
            raise NotFound(f"There is no loop '{name[:80]}' in this store.")
        return found

    def one(self, name: str) -> str | None:
        """The last value of a query parameter, or None."""
        values = self.query.get(name)
        return values[-1] if values else None

    def whole(self, name: str) -> int | None:
        """A query parameter that is a whole number, or None.

        Raises:
            RequestError: it is something else.
        """
        return None if (text := self.one(name)) is None else whole(text, name)

    def moment(self, name: str) -> datetime | None:
        """A query parameter that is a time, or None.

        Raises:
            RequestError: it is something else.
        """
        text = self.one(name)
        if text is None:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise RequestError(f"{name} must be a time such as 2026-01-31T12:00:00Z, not '{text[:40]}'.") from None
        try:
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except OverflowError:
            raise RequestError(f"{name} is out of range.") from None


def windows(db: Reader, loop: str, kind: str, limit: int) -> list[Window]:
    """The loop's newest windows of one kind, newest first."""
    mixed = db.list(Window, limit=limit * 4, loop=loop)
    return [window for window in mixed if window.kind == kind][:limit]


def whole(text: str, name: str) -> int:
    """The whole number ``text`` spells.

    Raises:
        RequestError: it does not.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise RequestError(f"{name} must be a whole number, not '{text[:40]}'.")
    return int(text)


def numbered(text: str, what: str) -> int:
    """The number in an address; an address that spells none names nothing.

    Raises:
        NotFound: it is not a number.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise NotFound(f"'{text[:80]}' is not {what}.")
    return int(text)


def href(*parts: object, **query: object) -> str:
    """An address made of parts, each encoded, with the query parameters that are not None; a list is repeated."""
    path = "/" + "/".join(quote(str(part), safe="") for part in parts)
    pairs = [
        f"{name}={quote(str(one), safe='')}"
        for name, value in query.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def policies(plan: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The policy values under ``name`` in a loop's plan, as mappings; none when there are none."""
    found = plan.get(name)
    entries = found if isinstance(found, list) else [found]
    return [entry for entry in entries if isinstance(entry, Mapping)]


def policy_kind(entry: Mapping[str, Any]) -> str:
    """The class name of a policy value in a plan, e.g. ``OnAlarm``."""
    return str(entry.get("type") or entry.get("kind") or "")


def approval_role(plan: Mapping[str, Any]) -> str | None:
    """The role whose yes the plan asks for, or None when it asks for none."""
    entries = policies(plan, "approval")
    return str(entries[0].get("role") or "owner") if entries else None


def main_metric(plan: Mapping[str, Any]) -> str | None:
    """The metric the plan watches in production, or the first one its gates name; None when it names none."""
    for entry in (*policies(plan, "monitor"), *policies(plan, "gates")):
        if isinstance(metric := entry.get("metric"), str):
            return metric
    return None
