"""Values a chart island draws; the same numbers stand in the table beside each chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec


class Series(msgspec.Struct, frozen=True):
    """One line: a value (or None) for each x of its chart, with its interval if there is one."""

    label: str
    values: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    dash: bool = False
    quiet: bool = False  # drawn thin and grey: something to compare with
    tone: int | None = None  # which colour, where the place among the series does not say it


class Marker(msgspec.Struct, frozen=True):
    """Something that happened at ``x``: ``alarm``, ``warning``, ``promotion`` or ``rollback``."""

    x: float
    kind: str
    label: str
    text: str
    href: str = ""


class Chart(msgspec.Struct, frozen=True):
    """A line chart.

    Attributes:
        x_kind: ``time`` when ``x`` are epoch seconds; else what the plain numbers are: ``step``, ``seconds``.
        log: whether the values' axis is logarithmic.
    """

    title: str
    x_kind: str
    x: list[float]
    series: list[Series]
    markers: list[Marker] = []
    unit: str = ""
    log: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(value is not None for series in self.series for value in series.values)


def align(points: Sequence[tuple[float, float]], x: Sequence[float]) -> list[float | None]:
    """The values of ``points`` at each of ``x``; None where there is none."""
    at = dict(points)
    return [at.get(place) for place in x]


def seconds(moment: datetime) -> float:
    """A moment as a chart's x."""
    return moment.timestamp()
