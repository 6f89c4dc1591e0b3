"""Runs side by side: what differs in params, metrics, data and steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from noria.errors import RequestError
from noria.records import Run
from noria.ui import format as say
from noria.ui.ask import Ask, href
from noria.ui.chart import Chart
from noria.ui.draw import Bar
from noria.ui.pages.runs import find_run, metric_charts, summary

MOST = 10


class Row(msgspec.Struct, frozen=True):
    """One thing of each run; ``differs`` when they are not all equal."""

    name: str
    values: list[Any]
    differs: bool


class MetricBars(msgspec.Struct, frozen=True):
    """One metric of each run as bars (percent of the longest)."""

    name: str
    bars: list[Bar]


class RunHead(msgspec.Struct, frozen=True):
    """A run's column heading."""

    id: str
    href: str
    started: str
    status: str


class ComparePage(msgspec.Struct, frozen=True):
    """Runs side by side."""

    title: str
    loop: str
    runs: list[RunHead]
    facts: list[Row]
    cost: list[Row]
    params: list[Row]
    metrics: list[Row]
    steps: list[Row]
    bars: list[MetricBars]
    charts: dict[str, Chart]


def compare(ask: Ask) -> ComparePage:
    """The runs that the query names, side by side."""
    loop = ask.loop().name
    names = [name for value in ask.query.get("runs", []) for name in value.split(",") if name]
    names = list(dict.fromkeys(names))
    if len(names) > MOST:
        raise RequestError(f"At most {MOST} runs can be compared at once; {len(names)} were asked for.")
    found = [find_run(ask, loop, name) for name in names]
    heads = [RunHead(r.id, href("loops", loop, "runs", r.id), say.stamp(r.started)[:16], r.status) for r in found]
    metrics = _rows(found, summary)
    return ComparePage(
        title=f"Compare runs of {loop}",
        loop=loop,
        runs=heads,
        facts=_rows(found, _facts),
        cost=[Row(row.name, row.values, False) for row in _rows(found, _cost)],
        params=_rows(found, lambda run: run.params),
        metrics=metrics,
        steps=_rows(found, _parts),
        bars=[_bars(row, heads) for row in metrics],
        charts=metric_charts(found) if found else {},
    )


def _rows(runs: list[Run], read: Callable[[Run], dict[str, Any]]) -> list[Row]:
    columns = [read(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = []
    for name in names:
        values = [column.get(name) for column in columns]
        rows.append(Row(name, values, any(value != values[0] for value in values)))
    return rows


def _facts(run: Run) -> dict[str, Any]:
    commit = f"{run.git_commit[:10]}{' + changes' if run.git_dirty else ''}" if run.git_commit else None
    return {
        "dataset": say.short(run.dataset, 12),
        "commit": commit,
        "environment": say.short(run.environment, 12),
    }


def _cost(run: Run) -> dict[str, Any]:
    return {"took": say.duration(run.seconds), "peak memory": say.size(run.peak_memory_bytes)}


def _parts(run: Run) -> dict[str, Any]:
    """Parts of each step's key: equal parts mean the step had the same code, inputs, knobs and packages."""
    return {f"{step.name} · {part}": say.short(value, 12) for step in run.steps for part, value in step.parts.items()}


def _bars(row: Row, heads: list[RunHead]) -> MetricBars:
    top = max((abs(value) for value in row.values if value is not None), default=0) or 1
    bars = []
    for place, (value, head) in enumerate(zip(row.values, heads, strict=True)):
        width = round(100 * abs(value) / top, 2) if value is not None else 0.0
        bars.append(Bar(0, place * 22.0, width, 14, head.id[:8], value or 0.0))
    return MetricBars(row.name, bars)
