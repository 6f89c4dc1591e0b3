"""Counts of what is served, in Prometheus' text format.

Source: Prometheus exposition format 0.0.4. The counts are plain numbers of this process, since a lock and a label
look-up a request would cost as much as the model; processes that share a port add theirs up when asked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from noria.records import Route
from noria.serve.engine import Scores

__all__ = ["Metrics", "Snapshot", "ended", "render"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 10_000)
_CLASSES = 100
_ADDED = ("noria_queue_requests", "noria_model_restarts")  # the other gauges say the same of every process
_AGREES = 0.01  # of the number given, as a canary's decisions have it


class Series(msgspec.Struct):
    """Counts of one version in one role."""

    loop: str
    version: int
    role: str
    requests: int = 0
    errors: int = 0
    predictions: int = 0
    seconds: float = 0.0
    seconds_in: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    rows_in: list[int] = msgspec.field(default_factory=lambda: [0] * (len(ROWS) + 1))
    classes: dict[str, int] = {}
    total: float = 0.0
    squares: float = 0.0
    compared: int = 0
    agreed: int = 0
    dropped: int = 0


class Snapshot(msgspec.Struct):
    """All counts of one process."""

    series: list[Series] = []
    refused: dict[str, int] = {}
    gauges: dict[str, float] = {}


class Metrics:
    """The counts of this process."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, int, str], Series] = {}
        self._refused: dict[str, int] = {}

    def _of(self, loop: str, route: Route) -> Series:
        key = (loop, route.version, route.role)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = Series(loop, route.version, route.role)
        return found

    def answered(
        self, loop: str, route: Route, classes: Sequence[Any], scores: Scores, seconds: float, requests: int = 1
    ) -> None:
        """Count an answered request; or several that were answered together, of as many rows each."""
        one, rows = self._of(loop, route), len(scores.values)
        one.requests += requests
        one.predictions += rows
        one.seconds += requests * seconds
        one.seconds_in[bisect_left(SECONDS, seconds)] += requests
        one.rows_in[bisect_left(ROWS, rows // requests)] += requests
        if classes:
            for value in scores.values if rows < 50 else ():
                name = str(value)
                if name in one.classes or len(one.classes) < _CLASSES:
                    one.classes[name] = one.classes.get(name, 0) + 1
            if rows >= 50:
                for value in set(scores.values):
                    name = str(value)
                    if name in one.classes or len(one.classes) < _CLASSES:
                        one.classes[name] = one.classes.get(name, 0) + scores.values.count(value)
        else:
            one.total += sum(scores.values)
            one.squares += sum(value * value for value in scores.values)

    def failed(self, loop: str, route: Route, rows: int, seconds: float) -> None:
        """Count a request the model failed on."""
        one = self._of(loop, route)
        one.requests += 1
        one.errors += 1
        one.seconds += seconds
        one.seconds_in[bisect_left(SECONDS, seconds)] += 1
        one.rows_in[bisect_left(ROWS, rows)] += 1

    def lost(self, loop: str, route: Route, classes: Sequence[Any], scores: Scores, requests: int = 1) -> None:
        """Count requests as failed that were counted as answered: their answers could not be put on record."""
        one = self._of(loop, route)
        one.errors += requests
        one.predictions -= len(scores.values)
        if classes:
            for value in scores.values:
                if str(value) in one.classes:
                    one.classes[str(value)] -= 1
        else:
            one.total -= sum(scores.values)
            one.squares -= sum(value * value for value in scores.values)

    def compared(self, loop: str, route: Route, given: Sequence[Any], shadow: Sequence[Any]) -> None:
        """Count a shadow's answers against those that were given."""
        one = self._of(loop, route)
        one.compared += len(given)
        one.agreed += sum(
            ours == theirs or (isinstance(ours, float) and abs(ours - theirs) <= _AGREES * max(1e-12, abs(ours)))
            for ours, theirs in zip(given, shadow, strict=False)
        )

    def dropped(self, loop: str, route: Route) -> None:
        """Count a request the shadow was too busy for."""
        self._of(loop, route).dropped += 1

    def refused(self, status: int) -> None:
        """Count a request that was refused."""
        name = str(status)
        self._refused[name] = self._refused.get(name, 0) + 1

    def of(self, loop: str, version: int | None = None) -> list[Series]:
        """Counts of a loop's versions."""
        return [one for key, one in self._series.items() if key[0] == loop and version in (None, key[1])]

    def snapshot(self, gauges: dict[str, float]) -> Snapshot:
        """The counts as they stand."""
        return Snapshot(list(self._series.values()), dict(self._refused), gauges)


def _label(text: object) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _merged(
    snapshots: Iterable[Snapshot],
) -> tuple[dict[tuple[str, int, str], Series], dict[str, int], dict[str, float]]:
    series: dict[tuple[str, int, str], Series] = {}
    refused: dict[str, int] = {}
    gauges: dict[str, float] = {}
    for snapshot in snapshots:
        for one in snapshot.series:
            key = (one.loop, one.version, one.role)
            into = series.setdefault(key, Series(*key))
            for name in (
                "requests",
                "errors",
                "predictions",
                "seconds",
                "total",
                "squares",
                "compared",
                "agreed",
                "dropped",
            ):
                setattr(into, name, getattr(into, name) + getattr(one, name))
            into.seconds_in = [a + b for a, b in zip(into.seconds_in, one.seconds_in, strict=True)]
            into.rows_in = [a + b for a, b in zip(into.rows_in, one.rows_in, strict=True)]
            for name, count in one.classes.items():
                into.classes[name] = into.classes.get(name, 0) + count
        for name, count in snapshot.refused.items():
            refused[name] = refused.get(name, 0) + count
        for name, value in snapshot.gauges.items():
            if name.startswith(_ADDED):
                gauges[name] = gauges.get(name, 0.0) + value
            else:
                gauges[name] = min(gauges.get(name, value), value)
    return series, refused, gauges


def ended(snapshots: Iterable[Snapshot]) -> Snapshot:
    """What processes that are gone have counted, in one; how it stood with them is nothing any more."""
    series, refused, _ = _merged(snapshots)
    return Snapshot(list(series.values()), refused)


def render(snapshots: Iterable[Snapshot]) -> bytes:
    """The sum of some processes' counts as Prometheus reads it."""
    series, refused, gauges = _merged(snapshots)
    lines: list[str] = []

    def head(name: str, kind: str, words: str) -> None:
        lines.extend((f"# HELP {name} {words}", f"# TYPE {name} {kind}"))

    def each(name: str, kind: str, words: str, field: str) -> None:
        head(name, kind, words)
        for (loop, version, role), one in series.items():
            lines.append(f"{name}{{{labels(loop, version, role)}}} {getattr(one, field)}")

    def labels(loop: str, version: int, role: str) -> str:
        return f'model="{_label(loop)}",version="{version}",role="{role}"'

    each("noria_requests_total", "counter", "Requests a version was asked.", "requests")
    each("noria_request_errors_total", "counter", "Requests a version failed on.", "errors")
    each("noria_predictions_total", "counter", "Rows predicted.", "predictions")
    for name, words, edges, field, total in (
        ("noria_request_seconds", "Time in the server.", SECONDS, "seconds_in", "seconds"),
        ("noria_request_rows", "Rows a request.", ROWS, "rows_in", "predictions"),
    ):
        head(name, "histogram", words)
        for key, one in series.items():
            counts, below, shown = getattr(one, field), 0, labels(*key)
            for edge, count in zip(edges, counts, strict=False):
                below += count
                lines.append(f'{name}_bucket{{{shown},le="{edge}"}} {below}')
            lines.append(f'{name}_bucket{{{shown},le="+Inf"}} {sum(counts)}')
            lines.append(f"{name}_sum{{{shown}}} {getattr(one, total)}")
            lines.append(f"{name}_count{{{shown}}} {sum(counts)}")
    head("noria_prediction_class_total", "counter", "Predictions by class.")
    for key, one in series.items():
        for value, count in one.classes.items():
            lines.append(f'noria_prediction_class_total{{{labels(*key)},class="{_label(value)}"}} {count}')
    numbers = [(key, one) for key, one in series.items() if not one.classes and one.predictions]
    for name, kind, field in (
        ("noria_prediction_value_sum", "gauge", "total"),  # it may shrink: numbers may be negative
        ("noria_prediction_value_squares", "counter", "squares"),
    ):
        head(name, kind, "Sum of the predicted numbers, or of their squares; with the count, mean and spread.")
        lines.extend(f"{name}{{{labels(*key)}}} {getattr(one, field)}" for key, one in numbers)
    each("noria_shadow_compared_total", "counter", "Shadow answers compared with those given.", "compared")
    each("noria_shadow_agreed_total", "counter", "Shadow answers equal to those given.", "agreed")
    each("noria_shadow_dropped_total", "counter", "Requests a shadow was too busy for.", "dropped")
    head("noria_refused_total", "counter", "Requests refused, by status.")
    lines.extend(f'noria_refused_total{{status="{status}"}} {count}' for status, count in sorted(refused.items()))
    said = ""
    for named, level in sorted(gauges.items()):
        base = named.partition("{")[0]
        if base != said:
            head(base, "gauge", "As it is now.")
        said = base
        lines.append(f"{named} {level}")
    return ("\n".join(lines) + "\n").encode()
