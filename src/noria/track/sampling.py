"""Histories of metrics for people and plots: fewer points, the same picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from noria.records.tracking import Point

__all__ = ["sample"]


def sample(
    histories: Sequence[tuple[str, Sequence[Point]]], most: int, first: int | None = None, last: int | None = None
) -> Iterable[tuple[str, list[Point]]]:
    """Points of several runs at the same, evenly spaced steps.

    The steps are taken from all that any of the runs has between ``first`` and ``last``, evenly by their order; the
    first and last step of each run are taken too, so that no line ends too early.

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
    kept = {steps[place * len(steps) // most] for place in range(most)} if len(steps) > most else set(steps)
    for _, points in wanted:
        if points:
            kept.update((min(point.step for point in points), max(point.step for point in points)))
    for run, points in wanted:
        yield run, sorted((p for p in points if p.step in kept), key=lambda point: (point.step, point.time))
