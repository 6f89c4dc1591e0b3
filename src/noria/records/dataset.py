"""A dataset version: exact rows, named by digest, with their schema, counts and profile."""

from __future__ import annotations

from datetime import datetime

import msgspec


class ColumnProfile(msgspec.Struct, frozen=True):
    """How one column is distributed, in a few counts that can be compared and merged.

    Attributes:
        name: column name.
        kind: ``number``, ``category``, ``time`` or ``boolean``.
        missing: number of missing values.
        edges: for numbers and times (epoch seconds), the inner bin edges, ascending; bin ``i`` holds values
            in ``(edges[i-1], edges[i]]``; there are ``len(edges) + 1`` bins.
        levels: for categories and booleans, the levels that have their own bin; the bin after the last
            level holds every other level seen in the reference.
        others: those other levels, up to 1,000 levels in all, so that a new level is told from a rare one.
        counts: one count for each bin.
        distinct: number of distinct values seen (exact).
        minimum: smallest value of a number or time; None otherwise or when all are missing.
        maximum: largest value.
        mean: mean of a number; None otherwise.
        blocks: counts of the same bins, plus the missing count as last entry, for each contiguous block of
            rows in time order: what this column does from one stretch of time to the next when nothing is wrong.
    """

    name: str
    kind: str
    missing: int
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    distinct: int = 0
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    blocks: tuple[tuple[int, ...], ...] = ()


class Profile(msgspec.Struct, frozen=True):
    """The reference profile of a frame: a small artefact stored with the model and compared in O(bins)."""

    rows: int
    columns: tuple[ColumnProfile, ...]

    def column(self, name: str) -> ColumnProfile | None:
        """The profile of the column ``name``, or None."""
        return next((column for column in self.columns if column.name == name), None)


class ExpectationResult(msgspec.Struct, frozen=True):
    """What one expectation found.

    Attributes:
        expectation: the expectation as written, e.g. ``Between("age", 18, 110)``.
        passed: whether it holds.
        failing: number of rows (or columns) that break it.
        rows: up to 20 of the failing rows, by position in the source (0-based) ...
        keys: ... and by key, where the source declares one.
        sentence: the finding for a person.
        blocking: True when the expectation is about the table (schema, freshness), so that no row can be
            set aside to make it hold.
    """

    expectation: str
    passed: bool
    sentence: str
    failing: int = 0
    rows: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    blocking: bool = False


class ExpectationReport(msgspec.Struct, frozen=True):
    """All expectations on one dataset version, and how many rows were set aside."""

    results: tuple[ExpectationResult, ...] = ()
    quarantined: int = 0
    quarantine: str | None = None  # digest of the Parquet file holding the rows set aside

    @property
    def passed(self) -> bool:
        """Whether every expectation held on the rows as read."""
        return all(result.passed for result in self.results)


class DatasetVersion(msgspec.Struct, frozen=True):
    """Exact rows, named by the digest of their values.

    Attributes:
        id: digest of the canonical values (names, types, order); equal rows give equal ids.
        loop: the loop it was read for.
        created: when it was first recorded.
        blob: digest of the Parquet file that holds the rows.
        rows: number of rows kept.
        schema: column name and type, in order.
        source: the source as declared.
        profile: profile of the rows.
        expectations: what was expected and found.
        first_time: earliest value of the time column, if one is declared.
        last_time: latest value of it.
        served_rows: how many of the rows came from served predictions whose label is known.
        size_bytes: size of the Parquet file.
    """

    id: str
    loop: str
    created: datetime
    blob: str
    rows: int
    schema: tuple[tuple[str, str], ...]
    source: str
    profile: Profile
    expectations: ExpectationReport
    first_time: datetime | None = None
    last_time: datetime | None = None
    served_rows: int = 0
    size_bytes: int = 0
