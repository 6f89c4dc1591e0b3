"""What the pages of experiments and runs share: finding, naming, and places to go on from."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from noria.errors import NotFound, RequestError
from noria.records.tracking import Experiment, Order, RunInfo, TrackedRun
from noria.ui.ask import Ask, href

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SYSTEM = "system/"
POLL_RUNNING, POLL_CALM = 2, 10
"""Seconds between two looks of an open page: while a run goes on, and otherwise."""

_RUN_ID = re.compile(r"[a-zA-Z0-9][\w-]{0,255}", re.ASCII)
_INT64 = range(-(2**63), 2**63)
_PLACE = msgspec.json.Decoder(list[str | int | float | None])
_INFINITE = {"inf": math.inf, "-inf": -math.inf}


class Pair(msgspec.Struct, frozen=True):
    """A name and what it says."""

    name: str
    value: str


def experiment_of(ask: Ask) -> Experiment:
    """The experiment the address names.

    Raises:
        NotFound: there is none.
    """
    text = ask.path["id"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    found = ask.tracked.experiment(id=number) if number in _INT64 else None
    if found is None:
        raise NotFound(f"There is no experiment '{text[:80]}' in this store.")
    return found


def run_of(ask: Ask, name: str) -> TrackedRun:
    """The run of this id.

    Raises:
        NotFound: there is none.
    """
    found = ask.tracked.run(name) if _RUN_ID.fullmatch(name) else None
    if found is None:
        raise NotFound(f"There is no run '{name[:80]}' in this store.")
    return found


def info_of(ask: Ask, name: str) -> RunInfo | None:
    """What the run of this id is, if there is one."""
    return ask.tracked.info(name) if _RUN_ID.fullmatch(name) else None


def moment(at: int | None) -> datetime | None:
    """Milliseconds since 1970 as a moment; None for what no calendar holds."""
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def seconds(run: RunInfo, now: datetime) -> float | None:
    """How long a run took, or has taken until now."""
    if run.ended is not None:
        return max(run.ended - run.started, 0) / 1000
    started = moment(run.started)
    return max((now - started).total_seconds(), 0.0) if started and run.status == "RUNNING" else None


def named(run: RunInfo) -> str:
    """What to call a run."""
    return run.name or run.id[:8]


def run_href(run: str) -> str:
    """Where a run is shown."""
    return href("runs", run)


def poll(infos: Sequence[RunInfo]) -> int:
    """Seconds until a page that shows these runs is looked at again."""
    return POLL_RUNNING if any(info.status == "RUNNING" for info in infos) else POLL_CALM


def user_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that people set, without those that programs keep for themselves."""
    return {key: value for key, value in tags.items() if not key.startswith(("mlflow.", "noria."))}


def quoted(text: str) -> str:
    """A text as it stands in a filter."""
    return "'" + text.replace("'", "''") + "'"


def write_place(place: list[Any] | None) -> str | None:
    """A place in an order as text; None for none."""
    if place is None:
        return None
    parts = [str(value) if isinstance(value, float) and math.isinf(value) else value for value in place]
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def read_place(text: str | None, order: Sequence[Order]) -> list[Any] | None:
    """The place that a text names; None for none.

    Raises:
        RequestError: it is not one of an order like this.
    """
    if not text:
        return None
    try:
        place: list[Any] = _PLACE.decode(base64.urlsafe_b64decode(text.encode()[:20_000] + b"=="))
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        place = []
    wanted = [kind for term in order for kind in (_is_whole, _is_number if _numeric(term) else _is_text)]
    wanted += [_is_whole, _is_text]
    if len(place) == len(wanted):
        place = [
            _INFINITE.get(value, value) if check is _is_number else value
            for check, value in zip(wanted, place, strict=True)
        ]
    known = len(place) == len(wanted) and all(check(value) for check, value in zip(wanted, place, strict=True))
    if not known or place[-1] is None or place[-2] is None:
        raise RequestError("This page of the list is not known. Begin at its first page.")
    return place


def _numeric(term: Order) -> bool:
    return term.entity == "metric" or term.key in ("start_time", "end_time")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and value in _INT64


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and (isinstance(value, float) or value in _INT64))


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and "\0" not in value)
