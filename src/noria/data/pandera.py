"""Pandera schemas, pandas or Polars ones, as expectations. Imported only when the user passed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from pandera.errors import SchemaErrors

__all__ = ["validate"]


def validate(schema: Any, frame: pl.DataFrame) -> tuple[str, pl.Series | None]:
    """What the schema finds wrong (empty if nothing), and the rows that break it.

    The rows are None when something is wrong with the table itself, such as a column that is not there.
    """
    from pandera.errors import SchemaErrors

    kinds = schema.__mro__ if isinstance(schema, type) else type(schema).__mro__
    wants_polars = any(kind.__module__.startswith(("pandera.api.polars", "pandera.polars")) for kind in kinds)
    given: Any = frame if wants_polars else frame.to_pandas()
    try:
        schema.validate(given, lazy=True)
    except SchemaErrors as errors:
        return _read(errors, frame.height)
    return "", pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)


def _read(errors: SchemaErrors, height: int) -> tuple[str, pl.Series | None]:
    cases: Any = errors.failure_cases
    found = cases.rows(named=True) if isinstance(cases, pl.DataFrame) else cases.to_dict("records")
    rows: set[int] = set()
    texts: dict[str, None] = {}
    table = False
    for case in found:
        index = case["index"]
        in_row = isinstance(index, (int, float)) and index == index
        rows |= {int(index)} if in_row else set()
        table = table or not in_row
        column = case["column"] if isinstance(case["column"], str) else None
        subject = f'"{column}"' if column and in_row else f"{column or ''} {case['failure_case']}".strip()
        texts[f"{subject}: {case['check']}"] = None
    shown = "; ".join(list(texts)[:5]) + ("; …" if len(texts) > 5 else "")
    if table:
        return f"{shown}.", None
    mask = pl.zeros(height, dtype=pl.Int8, eager=True).scatter(sorted(rows), 1).cast(pl.Boolean)
    return f"In {len(rows)} of {height} rows the schema is broken: {shown}.", mask
