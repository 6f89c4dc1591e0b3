"""Tracked runs side by side: charts overlaid, plots over all of them, and a table of what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from noria.errors import NoriaError, RequestError
from noria.records.tracking import RunInfo, TrackedRun
from noria.ui.ask import Ask, href
from noria.ui.chart import Chart
from noria.ui.lines import asked_axes
from noria.ui.pages.compare import Row
from noria.ui.pages.files import base
from noria.ui.pages.tracked import Toggle, code, metric_charts, toggles
from noria.ui.pages.tracking import SYSTEM, moment, named, poll, run_href, run_of, user_tags
from noria.ui.plots import Parallel, Scatter, parallel, scatter

MOST = 50
_LINES = 120  # of all charts of a page together
_MOST_CHARTS = 12
_AXIS_PARAMS, _AXIS_METRICS = 5, 3
_LOCK = "environment.lock"
_LARGEST_LOCK = 1 << 20


class Head(msgspec.Struct, frozen=True):
    """A run's column heading."""

    id: str
    name: str
    href: str
    status: str
    started: datetime | None
    without: str  # the same comparison without this run


class Group(msgspec.Struct, frozen=True):
    """Rows of one kind."""

    title: str
    rows: list[Row]
    numeric: bool = False


class Value(msgspec.Struct, frozen=True):
    """Something every run may have a value of: ``metric:loss`` or ``param:depth``."""

    id: str
    label: str


class TrackedComparePage(msgspec.Struct, frozen=True):
    """Runs side by side."""

    title: str
    runs: list[Head]
    groups: list[Group]
    hidden: int
    only: Toggle | None
    charts: dict[str, Chart]
    more_charts: str | None
    toggles: list[Toggle]
    parallel: Parallel | None
    scatter: Scatter | None
    values: list[Value]
    x: str
    y: str
    poll_seconds: int


def tracked_compare(ask: Ask) -> TrackedComparePage:
    """The runs that the query names, side by side."""
    ids = list(dict.fromkeys(name for name in ask.query.get("run", []) if name))
    if len(ids) > MOST:
        raise RequestError(f"At most {MOST} runs can be compared at once; {len(ids)} were asked for.")
    runs = [run_of(ask, name) for name in ids]
    x_axis, log = asked_axes(ask)
    start = ask.whole("charts") or 0
    most = max(1, min(_MOST_CHARTS, _LINES // max(len(runs), 1)))
    charts, more = metric_charts(ask, runs, x_axis, log, start, most)
    only = ask.one("rows") == "differing"
    groups = _groups(ask, runs)
    shown = [Group(g.title, [row for row in g.rows if row.differs or not only], g.numeric) for g in groups]
    plotted = [(named(run.info), _values(run)) for run in runs]
    values = _known(plotted)
    axes = _axes(plotted, values)
    x, y = _asked_values(ask, values, axes)

    def address(**changed: object) -> str:
        kept = {"run": ids, "x": ask.one("x"), "y": ask.one("y"), "rows": ask.one("rows")}
        return href("runs", "compare", **(kept | {"x_axis": ask.one("x_axis"), "log": ask.one("log")} | changed))

    return TrackedComparePage(
        title="Compare runs",
        runs=[_head(run.info, address(run=[one for one in ids if one != run.info.id])) for run in runs],
        groups=[group for group in shown if group.rows],
        hidden=sum(len(g.rows) for g in groups) - sum(len(g.rows) for g in shown),
        only=Toggle("Only what differs", address(rows=None if only else "differing") + "#table", only),
        charts=charts,
        more_charts=address(charts=start + most) + "#charts" if more else None,
        toggles=toggles(href("runs", "compare"), x_axis, log, run=ids, x=ask.one("x"), y=ask.one("y")),
        parallel=parallel(axes, plotted) if len(runs) > 1 else None,
        scatter=scatter(x, y, plotted) if x and y and len(runs) > 1 else None,
        values=[Value(name, name.replace(":", " ", 1)) for name in values],
        x=x,
        y=y,
        poll_seconds=poll([run.info for run in runs]),
    )


def _head(info: RunInfo, without: str) -> Head:
    return Head(info.id, named(info), run_href(info.id), info.status, moment(info.started), without)


def _groups(ask: Ask, runs: Sequence[TrackedRun]) -> list[Group]:
    return [
        Group("Metrics", _rows(runs, _metrics), numeric=True),
        Group("Params", _rows(runs, lambda run: run.params)),
        Group("Tags", _rows(runs, lambda run: user_tags(run.tags))),
        Group("Code", _rows(runs, code)),
        Group("Data", _rows(runs, _data)),
        Group("Environment", _rows(runs, lambda run: _packages(ask, run))),
    ]


def _rows(runs: Sequence[TrackedRun], read: Callable[[TrackedRun], Mapping[str, Any]]) -> list[Row]:
    columns = [read(run) for run in runs]
    rows = []
    for name in sorted({name for column in columns for name in column}):
        values = [column.get(name) for column in columns]
        rows.append(Row(name, values, any(value != values[0] for value in values)))
    return rows


def _metrics(run: TrackedRun) -> dict[str, float]:
    return {point.key: point.value for point in run.metrics if not point.key.startswith(SYSTEM)}


def _data(run: TrackedRun) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for one in run.inputs:
        context = one.tags.get("mlflow.data.context", "") or "input"
        found.setdefault(context, []).append(f"{one.dataset.name} {one.dataset.digest[:12]}")
    return {context: ", ".join(names) for context, names in found.items()}


def _packages(ask: Ask, run: TrackedRun) -> dict[str, str]:
    """The packages of the environment that a run kept, each with its version."""
    found = ask.tracked.artifact(f"{base(run.info)}/{_LOCK}")
    if found is None or found.size > _LARGEST_LOCK:
        return {}
    try:
        text = ask.blobs.get(found.digest).decode("utf-8", "replace")
    except NoriaError:
        return {}
    lines = (line.strip().partition("==") for line in text.splitlines())
    return {name: version for name, equals, version in lines if equals}


def _values(run: TrackedRun) -> dict[str, Any]:
    params = {f"param:{key}": value for key, value in run.params.items()}
    return params | {f"metric:{key}": value for key, value in _metrics(run).items()}


def _known(plotted: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    names = {name for _, values in plotted for name in values}
    return sorted(names, key=lambda name: (not name.startswith("param:"), name))


def _axes(plotted: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str]) -> list[str]:
    """Params and metrics that differ, those that most runs have first: what a plot of all runs is made of."""
    found = {name: [values[name] for _, values in plotted if name in values] for name in names}
    differing = [name for name in names if len(set(map(str, found[name]))) > 1]
    differing.sort(key=lambda name: -len(found[name]))
    params = [name for name in differing if name.startswith("param:")][:_AXIS_PARAMS]
    metrics = [name for name in differing if name.startswith("metric:")][:_AXIS_METRICS]
    return params + metrics


def _asked_values(ask: Ask, values: Sequence[str], axes: Sequence[str]) -> tuple[str, str]:
    """What a scatter is drawn over: as asked, or the first param and the last metric that differ."""
    first, last = (axes[0], axes[-1]) if axes else ("", "")
    x, y = ask.one("x") or first, ask.one("y") or last
    for name in (x, y):
        if name and name not in values:
            raise RequestError(f"None of these runs has '{name[:80]}'.")
    return x, y
