"""Histories of metrics for people and plots: fewer points, the same picture."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from noria.records.tracking import Point

__all__ = ["sample"]


def sample(
    histories: Sequence[tuple[str, Sequence[Point]]], most: int, first: int | None = None, last: int | None = None
) -> Iterable[tuple[str, list[Point]]]:
    """Points of several runs at the same, evenly spaced steps.

    The steps are taken from all that any of the runs has between ``first`` and ``last``, evenly by their order, the
    first and the last of all among them; besides, every run keeps its own first and last point, so that no line ends
    too early.

    Args:
        histories: run and its points.
        most: about how many steps to keep of each run.
        first: the lowest step wanted.
        last: the highest step wanted.

    Returns:
        Each run with its points by step, then time.
    """
    wanted = [
        (run, [p for p in points if (first is None or p.step >= first) and (last is None or p.step <= last)])
        for run, points in histories
    ]
    steps = sorted({point.step for _, points in wanted for point in points})
    kept = set(_spread(steps, most))
    for run, points in wanted:
        ordered = sorted(points, key=lambda point: (point.step, point.time))
        ends = {ordered[0].step, ordered[-1].step} if ordered else set()
        yield run, [point for point in ordered if point.step in kept or point.step in ends][: most + len(ends) + 1]


def _spread(steps: Sequence[int], most: int) -> list[int]:
    if len(steps) <= most:
        return list(steps)
    if most == 1:
        return [steps[0]]
    gap = (len(steps) - 1) / (most - 1)
    places = sorted({round(place * gap) for place in range(most)})
    return [steps[place] for place in places[: bisect_left(places, len(steps))]]
