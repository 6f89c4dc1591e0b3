"""What the data are expected to be, declared; with the sources and splits, the whole vocabulary of this room.

Expectations are judged in `noria.data.expect`. A missing value (null or NaN) breaks only `NotMissing` and
`MissingShare`: the others speak of the values that are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from noria.core.canonical import BY_NAME
from noria.core.policy import Policy, wants_choice, wants_duration, wants_name, wants_number
from noria.core.units import Duration
from noria.data.sources import TASKS, Csv, FunctionSource, Parquet, Source
from noria.data.splits import GroupSplit, RandomSplit, Split, TimeSplit

__all__ = [
    "TASKS",
    "Between",
    "Csv",
    "Expectation",
    "Fresh",
    "FunctionSource",
    "GroupSplit",
    "HasColumns",
    "MissingShare",
    "NotMissing",
    "OneOf",
    "Pandera",
    "Parquet",
    "RandomSplit",
    "Rows",
    "Source",
    "Split",
    "TimeSplit",
    "Unique",
    "failing_rows_problems",
    "find_expectation",
]


@dataclass(frozen=True, slots=True)
class Unique(Policy):
    """No value of ``column`` comes twice; of equal ones the first row is kept and the later ones fail."""

    column: str

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("column", self.column)

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.column,)


@dataclass(frozen=True, slots=True)
class Between(Policy):
    """Every value of ``column`` lies in ``[low, high]``; either bound may be None.

    Bounds are numbers, or dates and times for a time column (also as ISO text).
    """

    column: str
    low: Any
    high: Any

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("column", self.column)
        if self.low is None and self.high is None:
            yield "low and high are both None: give at least one bound."
            return
        try:
            backwards = self.low is not None and self.high is not None and self.low > self.high
        except TypeError:
            yield f"low {self.low!r} and high {self.high!r} cannot be compared."
            return
        if backwards:
            yield f"low {self.low!r} is more than high {self.high!r}."

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.column,)


@dataclass(frozen=True, slots=True)
class OneOf(Policy):
    """Every value of ``column`` is one of ``values``."""

    column: str
    values: tuple[Any, ...]

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("column", self.column)
        if not isinstance(self.values, (tuple, set, frozenset)) or not self.values:
            yield f'values must be a tuple such as ("a", "b"), not {self.values!r}.'

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.column,)


@dataclass(frozen=True, slots=True)
class NotMissing(Policy):
    """No value of ``column`` is missing (null or NaN)."""

    column: str

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("column", self.column)

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.column,)


@dataclass(frozen=True, slots=True)
class MissingShare(Policy):
    """At most this share of ``column`` is missing; about the table, so no row is set aside for it."""

    column: str
    at_most: float = field(metadata=BY_NAME)

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("column", self.column)
        yield from wants_number("at_most", self.at_most, 0, 1)

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.column,)


@dataclass(frozen=True, slots=True)
class Fresh(Policy):
    """The newest time in ``column`` is at most ``within`` old when the data are read."""

    column: str
    within: Duration = field(metadata=BY_NAME)

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("column", self.column)
        yield from wants_duration("within", self.within, zero=False)

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.column,)


@dataclass(frozen=True, slots=True)
class HasColumns(Policy):
    """The table has these columns with these types; others may be there too.

    Types are Polars' names (``Int64``, ``Float64``, ``String``, ``Boolean``, ``Date``, ``Datetime``) or,
    for any width, ``int``, ``float``, ``number``, ``str``, ``bool``, ``date``, ``datetime``; ``any`` asks
    for the column only.
    """

    types: Mapping[str, str]

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        texts = isinstance(self.types, Mapping) and all(
            isinstance(name, str) and isinstance(kind, str) for name, kind in self.types.items()
        )
        if not texts or not self.types:
            yield f'types must be a dict such as {{"age": "Int64"}}, not {self.types!r}.'


@dataclass(frozen=True, slots=True)
class Rows(Policy):
    """The table has at least this many rows."""

    at_least: int = field(metadata=BY_NAME)

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_number("at_least", self.at_least, 0, whole=True)


@dataclass(frozen=True, slots=True)
class Pandera(Policy):
    """A pandera schema or model, as it is; a bare one in ``Loop(expect=…)`` means the same."""

    schema: Any

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        if not _from_pandera(self.schema):
            yield f"schema must be a pandera schema or model, not {self.schema!r:.60}."


Expectation = Unique | Between | OneOf | NotMissing | MissingShare | Fresh | HasColumns | Rows | Pandera


def find_expectation(value: object) -> Expectation | None:
    """``value`` as an expectation (bare pandera schemas wrapped), or None if it is none."""
    if isinstance(value, Expectation):
        return value
    return Pandera(value) if _from_pandera(value) else None


def failing_rows_problems(on_failing_rows: str, quarantine_at_most: float) -> Iterator[str]:
    """One sentence for each of the loop's two settings for failing rows that cannot be right."""
    yield from wants_choice("on_failing_rows", on_failing_rows, ("quarantine", "stop"))
    yield from wants_number("quarantine_at_most", quarantine_at_most, 0, 1)


def _from_pandera(value: object) -> bool:
    kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
    return any(kind.__module__.split(".")[0] == "pandera" for kind in kinds)
