"""What a client says of its runs, as events: each may be applied again without harm, whatever became of it before."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import msgspec

from noria.errors import NoriaError, RequestError, StoreError
from noria.records.tracking import Input, Point, TrackedDataset
from noria.store.tracking import Tracking, TrackingTransaction
from noria.track import verbs

__all__ = [
    "ArtifactPut",
    "DatasetRead",
    "Event",
    "ParamsSet",
    "PointsLogged",
    "Refused",
    "RunEnded",
    "RunStarted",
    "TagsSet",
    "apply",
    "frame",
    "frames",
    "read_events",
    "write_events",
]


class RunStarted(msgspec.Struct, frozen=True, tag="start"):
    """A run began, or goes on (``resume``: it must be there)."""

    run: str
    experiment: str
    name: str
    user: str
    at: int
    tags: dict[str, str]
    resume: bool = False


class PointsLogged(msgspec.Struct, frozen=True, tag="points"):
    """Points of metrics: key, value, time in ms, step."""

    run: str
    points: list[tuple[str, float, int, int]]


class ParamsSet(msgspec.Struct, frozen=True, tag="params"):
    """Params."""

    run: str
    params: dict[str, str]


class TagsSet(msgspec.Struct, frozen=True, tag="tags"):
    """Tags."""

    run: str
    tags: dict[str, str]


class DatasetRead(msgspec.Struct, frozen=True, tag="input"):
    """The run read a dataset."""

    run: str
    dataset: TrackedDataset
    context: str


class ArtifactPut(msgspec.Struct, frozen=True, tag="artifact"):
    """A file of the run, which lies in the spool as ``file`` until it is sent."""

    run: str
    path: str
    file: str


class RunEnded(msgspec.Struct, frozen=True, tag="end"):
    """A run ended: ``FINISHED``, ``FAILED`` or ``KILLED``."""

    run: str
    status: str
    at: int


Event = RunStarted | PointsLogged | ParamsSet | TagsSet | DatasetRead | ArtifactPut | RunEnded

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Event)
_MANY = msgspec.msgpack.Decoder(list[Event])
_HEAD = struct.Struct("<II")
_LARGEST = 2**26


class Refused(msgspec.Struct, frozen=True):
    """An event that cannot be applied, by its place in the batch, and why."""

    place: int
    why: str


def write_events(events: Sequence[Event]) -> bytes:
    """Events as one body (MessagePack: it keeps every float, NaN too)."""
    return _ENCODER.encode(list(events))


def read_events(body: bytes) -> list[Event]:
    """The events of a body.

    Raises:
        RequestError: it is not one.
    """
    try:
        return _MANY.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise RequestError(f"The body is not a list of events: {error}.") from None


def frame(event: Event) -> bytes:
    """An event as a spool keeps it: length, CRC-32, body."""
    body = _ENCODER.encode(event)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def frames(data: bytes) -> Iterator[tuple[Event, int]]:
    """The whole events at the start of a spool's bytes, each with the place where it ends.

    Stops at the first that is torn or damaged.
    """
    place = 0
    while place + _HEAD.size <= len(data):
        length, check = _HEAD.unpack_from(data, place)
        end = place + _HEAD.size + length
        if length > _LARGEST or end > len(data):
            return
        body = data[place + _HEAD.size : end]
        if zlib.crc32(body) != check:
            return
        try:
            event = _DECODER.decode(body)
        except msgspec.MsgspecError:
            return
        yield event, end
        place = end


def apply(tracking: Tracking, events: Sequence[Event]) -> list[Refused]:
    """Apply events in order, durable on return; those that cannot be are left out and told.

    Most batches are one transaction. Where an event is refused, each half is given its own, and so on down to the event
    that is at fault, so that the others are kept.

    Raises:
        StoreError: the store is at fault, and no event; some may have been applied.
    """
    return _apply_halves(tracking, events, 0) if events else []


def _apply_halves(tracking: Tracking, events: Sequence[Event], first: int) -> list[Refused]:
    try:
        tracking.write(lambda transaction: _apply_all(transaction, events))
    except StoreError:
        raise
    except NoriaError as error:
        if len(events) == 1:
            return [Refused(first, str(error))]
        middle = len(events) // 2
        return [
            *_apply_halves(tracking, events[:middle], first),
            *_apply_halves(tracking, events[middle:], first + middle),
        ]
    return []


def _apply_all(transaction: TrackingTransaction, events: Sequence[Event]) -> None:
    waiting: dict[str, list[Point]] = {}
    for event in events:
        if isinstance(event, PointsLogged):
            waiting.setdefault(event.run, []).extend(Point(*point) for point in event.points)
        else:
            _log(transaction, waiting.pop(event.run, []), event.run)
            _apply(transaction, event)
    for run, points in waiting.items():
        _log(transaction, points, run)


def _log(transaction: TrackingTransaction, points: list[Point], run: str) -> None:
    if points:
        verbs.log(transaction, run, verbs.checked(points))


def _apply(transaction: TrackingTransaction, event: Event) -> None:
    match event:
        case RunStarted():
            _start(transaction, event)
        case ParamsSet():
            verbs.log(transaction, event.run, verbs.checked(params=list(event.params.items())))
        case TagsSet():
            verbs.log(transaction, event.run, verbs.checked(tags=list(event.tags.items())))
        case DatasetRead():
            verbs.active_run(transaction, event.run)
            transaction.add_inputs(event.run, [Input(event.dataset, {"mlflow.data.context": event.context})])
        case RunEnded():
            verbs.update_run(transaction, event.run, status=event.status, ended=event.at)
        case ArtifactPut():
            raise RequestError("Files are sent by themselves, not among events.")
        case PointsLogged():
            raise AssertionError("points are gathered by the caller")


def _start(transaction: TrackingTransaction, event: RunStarted) -> None:
    if not event.resume and transaction.info(event.run) is not None:
        return  # said before: what came of the run since then stays
    if event.resume:
        verbs.update_run(transaction, event.run, status="RUNNING")
        if event.tags:
            verbs.log(transaction, event.run, verbs.checked(tags=list(event.tags.items())))
        return
    found = transaction.experiment(name=event.experiment)
    number = found.id if found else verbs.create_experiment(transaction, event.experiment, event.at)
    verbs.create_run(transaction, number, event.at, id=event.run, name=event.name, user=event.user, tags=event.tags)
