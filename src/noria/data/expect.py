"""Rows and expectations -> rows kept, rows set aside, and a report that names them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import polars as pl

from noria.core.canonical import describe
from noria.data.findings import Finding, find
from noria.data.rules import Expectation, Source, find_expectation
from noria.errors import DataError
from noria.records.dataset import ExpectationReport, ExpectationResult

__all__ = ["FAILED", "ROW", "judge", "require"]

_NAMED = 20

ROW = "_row"
"""Column added to quarantined rows: position in the source, from 0."""
FAILED = "_failed"
"""Column added to quarantined rows: the expectations broken."""


def judge(
    frame: pl.DataFrame, expectations: Iterable[object], source: Source, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame, ExpectationReport]:
    """Rows kept, rows that break a row-wise expectation, and the report.

    Quarantined rows carry two more columns, `ROW` and `FAILED`. Nothing is raised for failing data: `require`
    turns the report into a decision.

    Args:
        frame: the rows as read.
        expectations: expectations or bare pandera schemas.
        source: says which column is the key.
        now: timezone-aware; what `Fresh` compares with.
    """
    results: list[ExpectationResult] = []
    broken: list[pl.Series] = []
    for given in expectations:
        rule = find_expectation(given)
        if rule is None:
            raise DataError(f"{given!r:.80} is not an expectation.")
        finding = find(rule, frame, now)
        results.append(_result(rule, finding, frame, source))
        if finding.problem and finding.mask is not None:
            name = pl.lit(describe(rule))
            broken.append(pl.select(pl.when(finding.mask).then(name).alias(str(len(broken)))).to_series())
    names = pl.repeat("", frame.height, dtype=pl.String, eager=True)
    if broken:
        joined = pl.concat_str(pl.all(), separator="; ", ignore_nulls=True)
        names = pl.DataFrame(broken).select(joined).to_series()
    failing = names != ""
    marked = frame.with_columns(pl.int_range(frame.height, dtype=pl.Int64).alias(ROW), names.alias(FAILED))
    report = ExpectationReport(tuple(results), quarantined=int(failing.sum()))
    return frame.filter(~failing), marked.filter(failing), report


def require(report: ExpectationReport, rows: int, on_failing_rows: str, quarantine_at_most: float) -> None:
    """Raise a `DataError` listing what stops the turn, if anything does.

    Args:
        report: what `judge` found.
        rows: number of rows as read.
        on_failing_rows: ``quarantine`` or ``stop``.
        quarantine_at_most: share of the rows that may be set aside.
    """
    failed = [result for result in report.results if not result.passed]
    blocking = [result for result in failed if result.blocking]
    if blocking or (failed and on_failing_rows == "stop"):
        shown = "\n".join(f"  {result.expectation}: {result.sentence}" for result in failed)
        raise DataError(f"The data are not as expected:\n{shown}")
    if report.quarantined > quarantine_at_most * rows:
        shown = "\n".join(f"  {result.expectation}: {result.sentence}" for result in failed)
        raise DataError(
            f"{report.quarantined} of {rows} rows break an expectation, more than the "
            f"{quarantine_at_most:.0%} that may be set aside (quarantine_at_most):\n{shown}"
        )


def _result(rule: Expectation, finding: Finding, frame: pl.DataFrame, source: Source) -> ExpectationResult:
    text = describe(rule)
    if not finding.problem:
        return ExpectationResult(text, True, "Holds.")
    if finding.mask is None:
        return ExpectationResult(text, False, finding.problem, failing=1, blocking=True)
    rows = tuple(finding.mask.arg_true().to_list())
    named = rows[:_NAMED]
    keys: tuple[str, ...] = ()
    if source.key is not None and source.key in frame.columns:
        keys = tuple(str(frame[source.key][row]) for row in named)
    where = f"Key {', '.join(keys[:5])}" if keys else f"Row {', '.join(map(str, named[:5]))}"
    sentence = f"{finding.problem} {where}{', …' if len(rows) > 5 else ''}."
    return ExpectationResult(text, False, sentence, failing=len(rows), rows=named, keys=keys)
