"""What a move between a store and another tool tells of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from noria.records.tracking import Point

__all__ = ["Moved", "Report", "distinct", "same"]

_MOST_SENTENCES = 1000


class Moved(msgspec.Struct):
    """What moved. Counts are of what was new or changed; ``unchanged`` are runs that were there already.

    Attributes:
        apart: how many runs and models keep their files where they are, such as in S3.
        problems: a sentence for each thing that did not move as it is.
        notes: a sentence for what is worth knowing.
    """

    experiments: int = 0
    runs: int = 0
    unchanged: int = 0
    points: int = 0
    files: int = 0
    bytes: int = 0
    logged_models: int = 0
    models: int = 0
    versions: int = 0
    apart: int = 0
    problems: list[str] = []
    notes: list[str] = []

    def problem(self, what: str, why: object) -> None:
        """Say what did not move, and why."""
        if len(self.problems) < _MOST_SENTENCES:
            self.problems.append(f"{what}: {why}")

    def note(self, sentence: str) -> None:
        """Say what is worth knowing."""
        if len(self.notes) < _MOST_SENTENCES:
            self.notes.append(sentence)


class Report(Protocol):
    """Told how far a move is."""

    def __call__(self, done: int, of: int | None, what: str) -> None:
        """``done`` runs ``of`` so many (None if unknown), now at ``what``."""
        ...


def same(point: Point) -> tuple[str, int, int, float | None]:
    """A point as it is compared: NaN is equal to itself."""
    return point.key, point.time, point.step, None if point.value != point.value else point.value


def distinct(points: Iterable[Point]) -> list[Point]:
    """The points, each once."""
    return list({same(point): point for point in points}.values())
