"""What is tracked: experiments, their runs, and every point of every metric. Times are integer milliseconds since 1970.

These are the records that clients write by the million; the runs of a loop (:class:`noria.records.Run`) are
tracked too, under an experiment of the loop's name.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

ACTIVE = "active"
DELETED = "deleted"

RUN_STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")


class Point(msgspec.Struct, frozen=True, gc=False):
    """One value of a metric: 64-bit float (NaN and infinities are kept), time in ms, step."""

    key: str
    value: float
    time: int
    step: int


class ModelPoint(NamedTuple):
    """A point that also belongs to a logged model, and says on which dataset it was measured ("" if unknown)."""

    model: str
    point: Point
    dataset_name: str
    dataset_digest: str


class Experiment(msgspec.Struct, frozen=True):
    """A named group of runs.

    Attributes:
        id: dense from 0 (``Default``).
        artifacts: where its runs keep artifacts, as clients are told.
        stage: ``active`` or ``deleted``.
    """

    id: int
    name: str
    artifacts: str
    stage: str
    created: int
    updated: int
    tags: dict[str, str] = {}


class TrackedDataset(msgspec.Struct, frozen=True):
    """A dataset that runs read: ``source``, ``schema`` and ``profile`` are the client's own JSON text."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str = ""
    profile: str = ""


class Input(msgspec.Struct, frozen=True):
    """A dataset as one run used it; tags say how (``mlflow.data.context``: ``training``)."""

    dataset: TrackedDataset
    tags: dict[str, str] = {}


class ModelLink(msgspec.Struct, frozen=True):
    """A logged model that a run read (``input``) or made (``output``), at a step."""

    model: str
    kind: str
    step: int = 0


class RunInfo(msgspec.Struct, frozen=True):
    """What a run is, without what it logged.

    Attributes:
        id: 32 hexadecimal characters.
        status: one of ``RUN_STATUSES``.
        stage: ``active`` or ``deleted``.
        artifacts: where its artifacts are, as clients are told.
    """

    id: str
    experiment: int
    name: str
    user: str
    status: str
    stage: str
    started: int
    ended: int | None
    artifacts: str
    deleted: int | None = None


class TrackedRun(msgspec.Struct, frozen=True):
    """A run with what it logged: of each metric the newest point by (step, time, value)."""

    info: RunInfo
    metrics: tuple[Point, ...] = ()
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: tuple[Input, ...] = ()
    models: tuple[ModelLink, ...] = ()


class Clause(NamedTuple):
    """One comparison of a search: ``entity.key operator value``; clauses are joined by AND.

    Attributes:
        entity: ``attribute``, ``metric``, ``param``, ``tag`` or ``dataset``.
        operator: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``LIKE``, ``ILIKE``, ``IN``, ``NOT IN``,
            ``IS NULL`` or ``IS NOT NULL``.
        value: text or number; a tuple of texts for ``IN``; None for ``IS``.
    """

    entity: str
    key: str
    operator: str
    value: str | float | int | tuple[str, ...] | None


class Order(NamedTuple):
    """One term of an order: entity and key as in :class:`Clause`."""

    entity: str
    key: str
    descending: bool = False
