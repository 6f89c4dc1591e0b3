"""Geometry of what the server draws itself, as plain numbers for SVG attributes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

CENTRE = 200.0
RIM = 138.0
STAGES = 7


class Bar(msgspec.Struct, frozen=True):
    """A rectangle of a histogram, with what it stands for."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: float


class Gauge(msgspec.Struct, frozen=True):
    """A value against a threshold on one axis, in percent of its width.

    Attributes:
        value: where the value is; ``low`` and ``high`` its interval's ends, where it has one.
        threshold: where the threshold is.
    """

    value: float
    threshold: float
    low: float | None = None
    high: float | None = None


def round_about(angle_degrees: float, radius: float, centre: float = CENTRE) -> tuple[float, float]:
    """The point at an angle (0 is up, clockwise) round the wheel's centre."""
    turn = math.radians(angle_degrees - 90)
    return round(centre + radius * math.cos(turn), 2), round(centre + radius * math.sin(turn), 2)


def bucket(index: int) -> tuple[float, float]:
    """Where the stage with this index sits on the rim."""
    return round_about(index * 360 / STAGES, RIM)


def arc(index: int) -> str:
    """Path along the rim from one stage to the next."""
    start, end = (index + 0.24) * 360 / STAGES, (index + 0.76) * 360 / STAGES
    (x1, y1), (x2, y2) = round_about(start, RIM), round_about(end, RIM)
    return f"M{x1} {y1}A{RIM} {RIM} 0 0 1 {x2} {y2}"


def spokes(count: int = 14) -> list[tuple[float, float, float, float]]:
    """Lines from hub to rim."""
    return [(*round_about(i * 360 / count, 30), *round_about(i * 360 / count, RIM - 12)) for i in range(count)]


def paddles(count: int = 28) -> list[tuple[float, float, float, float]]:
    """The short boards outside the rim that the river pushes."""
    angles = [(i + 0.5) * 360 / count for i in range(count)]
    return [(*round_about(a, RIM + 12), *round_about(a + 3, RIM + 26)) for a in angles]


def bars(
    counts: Sequence[float],
    labels: Sequence[str],
    width: float = 100,
    height: float = 40,
    top: float | None = None,
) -> list[Bar]:
    """A histogram's bars; a count of ``top`` (the largest, unless told) is as high as the drawing."""
    top = top or max(counts, default=0) or 1
    step = width / max(len(counts), 1)
    gap = min(step * 0.14, 1.2)
    found = []
    for place, (count, label) in enumerate(zip(counts, labels, strict=True)):
        tall = max(height * count / top, 0.6 if count else 0)
        x, y = place * step + gap / 2, height - tall
        found.append(Bar(round(x, 2), round(y, 2), round(step - gap, 2), round(tall, 2), label, count))
    return found


def gauge(value: float | None, threshold: float | None, interval: tuple[float, float] | None) -> Gauge | None:
    """Places on a common axis with room on both sides; None when there is nothing to compare."""
    if value is None or threshold is None:
        return None
    points = [value, threshold, *(interval or ())]
    if not all(math.isfinite(point) for point in points):
        return None
    low, high = min(points), max(points)
    room = (high - low) * 0.25 or abs(high) * 0.25 or 1.0
    start, length = low - room, (high - low) + 2 * room

    def place(point: float) -> float:
        return round(float(100 * (point - start) / length), 2)

    ends = (place(interval[0]), place(interval[1])) if interval else (None, None)
    return Gauge(place(value), place(threshold), *ends)


def spark(values: Sequence[float | None], width: float = 120, height: float = 32) -> str:
    """The points of a small line for an SVG ``polyline``; empty when there are fewer than two."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(value for _, value in known), max(value for _, value in known)
    tall = (high - low) or 1.0
    last = max(len(values) - 1, 1)
    return " ".join(
        f"{2 + (width - 4) * place / last:.1f},{2 + (height - 4) * (1 - (value - low) / tall):.1f}"
        for place, value in known
    )
