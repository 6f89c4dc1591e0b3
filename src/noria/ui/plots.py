"""Geometry of plots over many runs, as plain numbers for SVG attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

WIDTH, HEIGHT = 1000.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 70.0, 40.0, 24.0


class Axis(msgspec.Struct, frozen=True):
    """An upright axis: where it stands, and what is written along it (height and words)."""

    name: str
    x: float
    ticks: list[tuple[float, str]]


class Strand(msgspec.Struct, frozen=True):
    """One run's way through the axes: the points of ``polyline``s, broken where it has no value."""

    run: int
    label: str
    lines: list[str]
    dots: list[tuple[float, float]]


class Parallel(msgspec.Struct, frozen=True):
    """Parallel coordinates."""

    axes: list[Axis]
    strands: list[Strand]


class Dot(msgspec.Struct, frozen=True):
    """One run of a scatter."""

    run: int
    label: str
    x: float
    y: float


class Scatter(msgspec.Struct, frozen=True):
    """Runs by two of their values; ticks are places and words."""

    x_name: str
    y_name: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    dots: list[Dot]


class Scale:
    """Values of one thing, as shares of an axis: numbers by size, texts by their order.

    Args:
        values: what stands along the axis; None is left out.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        numbers = [number(value) for value in values if value is not None]
        self._names: list[str] = []
        if any(one is None for one in numbers):
            self._names = sorted({str(value) for value in values if value is not None})
            self._low, self._high = 0.0, float(max(len(self._names) - 1, 0))
        else:
            known = [one for one in numbers if one is not None and math.isfinite(one)]
            self._low, self._high = min(known, default=0.0), max(known, default=0.0)

    def share(self, value: Any) -> float | None:
        """Where a value stands, from 0 to 1; None for what has no place."""
        if value is None:
            return None
        at = float(self._names.index(str(value))) if self._names else number(value)
        if at is None or not math.isfinite(at):
            return None
        return (at - self._low) / (self._high - self._low) if self._high > self._low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Shares and words to write along the axis."""
        if self._names:
            step = max(1, math.ceil(len(self._names) / 8))
            return [(self.share(name) or 0.0, name[:24]) for name in self._names[::step]]
        if self._high == self._low:
            return [(0.5, f"{self._low:.4g}")]
        return [(part / 4, f"{self._low + (self._high - self._low) * part / 4:.4g}") for part in range(5)]


def number(value: Any) -> float | None:
    """A value as a number, if it spells one."""
    try:
        return float(value) if len(str(value)) < 40 else None
    except ValueError:
        return None


def parallel(names: Sequence[str], runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Parallel | None:
    """Runs as lines through an axis for each name; None when there are fewer than two axes."""
    if len(names) < 2:
        return None
    scales = {name: Scale([values.get(name) for _, values in runs]) for name in names}
    step = (WIDTH - _LEFT - _RIGHT) / (len(names) - 1)
    places = {name: round(_LEFT + step * place, 1) for place, name in enumerate(names)}
    axes = [
        Axis(name.partition(":")[2], places[name], [(_height(at), words) for at, words in scales[name].ticks()])
        for name in names
    ]
    strands = []
    for place, (label, values) in enumerate(runs):
        pieces: list[list[tuple[float, float]]] = [[]]
        for name in names:
            share = scales[name].share(values.get(name))
            if share is None:
                pieces.append([])
            else:
                pieces[-1].append((places[name], _height(share)))
        lines = [" ".join(f"{x},{y}" for x, y in piece) for piece in pieces if len(piece) > 1]
        strands.append(Strand(place, label, lines, [point for piece in pieces for point in piece]))
    return Parallel(axes, strands)


def _height(share: float) -> float:
    return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - share), 1)


def scatter(x: str, y: str, runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Scatter:
    """Runs by two values; a run that lacks one is left out."""
    across, up = (Scale([values.get(name) for _, values in runs]) for name in (x, y))
    dots = []
    for place, (label, values) in enumerate(runs):
        at, height = across.share(values.get(x)), up.share(values.get(y))
        if at is not None and height is not None:
            dots.append(Dot(place, label, _across(at), _height(height)))
    return Scatter(
        x.partition(":")[2],
        y.partition(":")[2],
        [(_across(at), words) for at, words in across.ticks()],
        [(_height(at), words) for at, words in up.ticks()],
        dots,
    )


def _across(share: float) -> float:
    return round(_LEFT + 14 + (560 - _LEFT - 38) * share, 1)
