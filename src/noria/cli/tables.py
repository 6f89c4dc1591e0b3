"""Records as tables for the terminal."""

from __future__ import annotations

from datetime import datetime

from rich.table import Table
from rich.text import Text

from noria.records import Outcome, ValidationReport

__all__ = ["bytes_text", "gates_table", "moment", "table"]

_COLOURS = {Outcome.passed: "green", Outcome.failed: "red", Outcome.inconclusive: "yellow"}


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the house style; columns starting with ``#`` are right-aligned."""
    found = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column.lstrip("#"), justify="right" if column.startswith("#") else "left")
    return found


def gates_table(report: ValidationReport) -> Table:
    """Every gate with its outcome and sentence."""
    found = table("", "gate", "")
    for result in report.results:
        mark = Text(result.outcome.value, style=_COLOURS[result.outcome])
        found.add_row(mark, Text(result.gate), Text(result.sentence))
    return found


def moment(when: datetime | None) -> str:
    """A time to the minute, UTC."""
    return f"{when:%Y-%m-%d %H:%M}" if when is not None else "-"


def bytes_text(size: int) -> str:
    """A size for a person."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size = size / 1000  # type: ignore[assignment]  # shown rounded
    return ""
