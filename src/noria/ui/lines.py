"""Histories of metrics as charts of a few hundred points, however long they are."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence

from noria.errors import RequestError
from noria.records.tracking import Point, TrackedRun
from noria.store.tracking import TrackingReader
from noria.track.sampling import sample
from noria.ui.ask import Ask
from noria.ui.chart import Chart, Series, align

X_KINDS = ("step", "elapsed", "time")
_POINTS = 400  # of a line alone
_FEWEST = 60  # of each line among many
_ALL = 2_000  # of the lines of a chart together, and of a history that is read whole
_LAST_STEP = 2**63 - 1
_COLOURS = 6  # after which lines are dashed
_After = Callable[[int, int], Point | None]


def asked_axes(ask: Ask) -> tuple[str, bool]:
    """What the query wants along the charts, and whether upwards by powers.

    Raises:
        RequestError: it is none of what there is.
    """
    x = ask.one("x_axis") or "step"
    if x not in X_KINDS:
        raise RequestError(f"x_axis must be one of {', '.join(X_KINDS)}, not '{x[:40]}'.")
    return x, ask.one("log") == "1"


def with_a_line(reader: TrackingReader, runs: Sequence[TrackedRun], keys: Sequence[str]) -> list[str]:
    """Those of the metrics of which a run has several points."""

    def several(key: str) -> bool:
        return any(len(reader.history(run.info.id, key, limit=2)) > 1 for run in runs)

    return [key for key in keys if several(key)]


def chart_of(reader: TrackingReader, runs: Sequence[TrackedRun], key: str, x: str, log: bool) -> Chart:
    """One metric of some runs, a line each."""
    most = max(_FEWEST, min(_POINTS, _ALL // max(len(runs), 1)))
    lines = []
    for place, run in enumerate(runs):
        newest = next((point for point in run.metrics if point.key == key), None)
        if newest is not None:
            points = history(reader, run.info.id, newest, most)
            shown = [(_place(point, run.info.started, x), _height(point.value, log)) for point in points]
            lines.append((place, run.info.name or run.info.id[:8], shown))
    places = sorted({at for _, _, line in lines for at, _ in line})
    series = [
        Series(key if len(runs) == 1 else name, align_last(line, places), dash=place >= _COLOURS, tone=place)
        for place, name, line in lines
    ]
    return Chart(key, "seconds" if x == "elapsed" else x, places, series, log=log)


def align_last(line: Sequence[tuple[float, float | None]], places: Sequence[float]) -> list[float | None]:
    """The values of a line at each place; of several at one place the last."""
    return align([(place, value) for place, value in line if value is not None], places)


def _place(point: Point, started: int, x: str) -> float:
    if x == "step":
        return float(point.step)
    return (point.time - started) / 1000 if x == "elapsed" else point.time / 1000


def _height(value: float, log: bool) -> float | None:
    return None if not math.isfinite(value) or (log and value <= 0) else value


def history(reader: TrackingReader, run: str, newest: Point, most: int) -> list[Point]:
    """About ``most`` points of a metric, evenly spaced; all when there are few.

    Args:
        reader: the store.
        run: the run's id.
        newest: the metric's newest point.
        most: about how many points to keep.
    """
    points = reader.history(run, newest.key, limit=_ALL + 1)
    if len(points) > _ALL:
        return _outline(reader, run, points[0], newest, most)
    return [point for _, kept in sample([(run, points)], most) for point in kept]


def _outline(reader: TrackingReader, run: str, first: Point, newest: Point, most: int) -> list[Point]:
    """Points of a long history found by jumping into it: the widest gap between two is looked into next."""
    key = first.key

    def after(time: int, step: int) -> Point | None:
        found = reader.history(run, key, limit=1, after=Point(key, math.inf, time, step))
        return found[0] if found else None

    last = _end(after, newest)
    steps, times = abs(newest.step - first.step) or 1, (last.time - first.time) or 1
    found, turn = {first, last}, itertools.count()
    gaps: list[tuple[float, int, Point, Point, int]] = []

    def note(left: Point, right: Point, until: int) -> None:
        """There may be points after ``left``, before ``right``, not later than ``until``."""
        width = max(abs(right.step - left.step) / steps, (until - left.time) / times)
        if width > 1 / most:
            heapq.heappush(gaps, (-width, next(turn), left, right, until))

    note(first, last, last.time)
    for _ in range(3 * most):
        if not gaps or len(found) >= most:
            break
        _, _, left, right, until = heapq.heappop(gaps)
        middle = (left.time + until) // 2
        if until > left.time:
            between = after(middle, _LAST_STEP)
        elif right.time == left.time and right.step - left.step > 1:
            between = after(left.time, (left.step + right.step) // 2)
        else:
            continue
        if between is None or _at(between) >= _at(right):
            if until > left.time:
                note(left, right, middle)
            continue
        found.add(between)
        note(left, between, middle if until > left.time else until)
        note(between, right, until)
    return sorted(found, key=lambda point: (point.step, point.time))


def _at(point: Point) -> tuple[int, int]:
    return point.time, point.step


def _end(after: _After, newest: Point) -> Point:
    """The last point in time, which is not that of the highest step when steps went back."""
    last, reach = newest, 0
    for _ in range(200):
        later = after(last.time + reach, _LAST_STEP if reach else last.step)
        if later is not None:
            last, reach = later, 2 * reach or 1
        elif reach:
            reach //= 2
        else:
            break
    return last
