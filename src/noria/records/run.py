"""A run: one training, everything needed to say why it came out as it did."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Metric(msgspec.Struct, frozen=True):
    """One value of a metric. ``step`` counts iterations; summary metrics have step 0."""

    name: str
    value: float
    step: int = 0


class Artifact(msgspec.Struct, frozen=True):
    """A named file of a run, held as a blob."""

    name: str
    digest: str
    size_bytes: int


class StepTrace(msgspec.Struct, frozen=True):
    """What one step of a run did.

    Attributes:
        name: the function's name.
        key: its cache key (code, inputs, knobs, packages).
        cached: whether the result came from the cache.
        seconds: time it took (reading the cache included).
        parts: what went into the key, by name, so that two runs can be compared part by part.
    """

    name: str
    key: str
    cached: bool
    seconds: float
    parts: dict[str, str] = {}


class Run(msgspec.Struct, frozen=True):
    """One training run.

    Attributes:
        id: 32 hexadecimal characters.
        loop: the loop it belongs to.
        turn: the turn that ordered it.
        status: ``running``, ``finished`` or ``failed``.
        started: when it began.
        ended: when it ended.
        dataset: id of the dataset version trained on.
        params: knobs by ``step.knob``, as used.
        metrics: what ``evaluate`` returned.
        artifacts: files it left, the bundle's among them.
        bundle: digest of the model bundle's manifest.
        steps: trace of each step.
        peak_memory_bytes: highest resident memory of the process while training.
        git_commit: commit of the loop file's repository, or None outside one.
        git_dirty: whether it differed from that commit; the difference is the artifact ``git.diff``.
        environment: digest of the environment lock (installed packages and versions).
        plan: digest of the loop's plan.
        failure: why it failed.
    """

    id: str
    loop: str
    turn: str
    status: str
    started: datetime
    ended: datetime | None = None
    dataset: str | None = None
    params: dict[str, Any] = {}
    metrics: tuple[Metric, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    bundle: str | None = None
    steps: tuple[StepTrace, ...] = ()
    peak_memory_bytes: int = 0
    git_commit: str | None = None
    git_dirty: bool = False
    environment: str | None = None
    plan: str | None = None
    failure: str | None = None

    @property
    def seconds(self) -> float | None:
        """Wall time in seconds, once ended."""
        return (self.ended - self.started).total_seconds() if self.ended else None

    def metric(self, name: str) -> float | None:
        """The last value of the metric ``name``, or None."""
        return next((metric.value for metric in reversed(self.metrics) if metric.name == name), None)
