"""Runs: the table of trainings, and one training in full."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.errors import NotFound, RequestError
from noria.records import DatasetVersion, ModelVersion, Run
from noria.ui.ask import PAGE, Ask, href
from noria.ui.chart import Chart, Series, align

SORTS = ("started", "status", "seconds", "memory", "version")


class Column(msgspec.Struct, frozen=True):
    """A heading that sorts: where a click on it leads, and how the table is sorted by it now."""

    name: str
    label: str
    href: str
    sorted: str  # "", "ascending" or "descending"
    numeric: bool


class RunRow(msgspec.Struct, frozen=True):
    """One run of the table; ``metrics`` in the order of the page's metric names."""

    run: Run
    href: str
    metrics: list[float | None]
    version: int | None


class RunsPage(msgspec.Struct, frozen=True):
    """The loop's runs."""

    title: str
    loop: str
    columns: list[Column]
    metrics: list[str]
    rows: list[RunRow]
    older: str | None
    running: bool


class ArtifactRow(msgspec.Struct, frozen=True):
    """A file of the run and where it is downloaded."""

    name: str
    digest: str
    size_bytes: int
    href: str


class RunPage(msgspec.Struct, frozen=True):
    """One run."""

    title: str
    loop: str
    run: Run
    seconds: float | None
    running: bool
    dataset: DatasetVersion | None
    version: ModelVersion | None
    summary: dict[str, float]
    params: dict[str, Any]
    artifacts: list[ArtifactRow]
    charts: dict[str, Chart]


def find_run(ask: Ask, loop: str, name: str) -> Run:
    """The run of this loop with this id.

    Raises:
        NotFound: there is none.
    """
    found = ask.db.find(Run, id=name, loop=loop)
    if found is None:
        raise NotFound(f"Loop '{loop}' has no run '{name[:80]}'.")
    return found


def runs(ask: Ask) -> RunsPage:
    """The runs, newest first or sorted as the query asks."""
    loop = ask.loop().name
    found = ask.db.list(Run, limit=PAGE + 1, loop=loop, after=ask.moment("after"))
    page = found[:PAGE]
    names = sorted({metric.name for run in page for metric in run.metrics})[:12]
    versions = _versions(ask, loop)
    rows = [
        RunRow(
            run,
            href("loops", loop, "runs", run.id),
            [run.metric(name) for name in names],
            versions.get(run.id),
        )
        for run in page
    ]
    sort, down = _sorting(ask, names)
    if ask.one("sort") is not None:
        rows = _sorted(rows, sort, down, names)
    older = href("loops", loop, "runs", after=page[-1].started.isoformat()) if len(found) > PAGE else None
    columns = [_column(ask, loop, name, sort, down) for name in _names(names)]
    return RunsPage(f"Runs of {loop}", loop, columns, names, rows, older, any(r.run.status == "running" for r in rows))


def _versions(ask: Ask, loop: str) -> dict[str, int]:
    return {version.run: version.version for version in ask.db.list(ModelVersion, limit=1000, loop=loop)}


def _names(metrics: list[str]) -> list[str]:
    return [
        "started",
        "status",
        "dataset",
        *(f"metric:{name}" for name in metrics),
        "seconds",
        "memory",
        "version",
    ]


def _sorting(ask: Ask, metrics: list[str]) -> tuple[str, bool]:
    sort = ask.one("sort") or "started"
    if sort not in (*SORTS, *(f"metric:{name}" for name in metrics)):
        raise RequestError(f"sort must be one of {', '.join(SORTS)} or metric:NAME, not '{sort[:40]}'.")
    order = ask.one("order") or "descending"
    if order not in ("ascending", "descending"):
        raise RequestError(f"order must be ascending or descending, not '{order[:40]}'.")
    return sort, order == "descending"


def _sorted(rows: list[RunRow], sort: str, down: bool, metrics: list[str]) -> list[RunRow]:
    def value(row: RunRow) -> Any:
        if sort.startswith("metric:"):
            return row.metrics[metrics.index(sort.removeprefix("metric:"))]
        if sort == "memory":
            return row.run.peak_memory_bytes
        return row.version if sort == "version" else getattr(row.run, sort)

    known = sorted((row for row in rows if value(row) is not None), key=value, reverse=down)
    return known + [row for row in rows if value(row) is None]


def _column(ask: Ask, loop: str, name: str, sort: str, down: bool) -> Column:
    labels = {"started": "When", "seconds": "Took", "memory": "Peak memory"}
    label = name.removeprefix("metric:") if name.startswith("metric:") else labels.get(name, name.capitalize())
    if name == "dataset":
        return Column(name, label, "", "", False)
    here = name == sort
    order = "ascending" if here and down else "descending"
    link = href("loops", loop, "runs", sort=name, order=order, after=ask.one("after"))
    return Column(name, label, link, ("descending" if down else "ascending") if here else "", name not in SORTS[:2])


def run(ask: Ask) -> RunPage:
    """One run in full."""
    loop = ask.loop().name
    found = find_run(ask, loop, ask.path["id"])
    return RunPage(
        title=f"Run {found.id[:8]} of {loop}",
        loop=loop,
        run=found,
        seconds=found.seconds,
        running=found.status == "running",
        dataset=ask.db.find(DatasetVersion, id=found.dataset, loop=loop) if found.dataset else None,
        version=ask.db.find(ModelVersion, loop=loop, run=found.id),
        summary=summary(found),
        params=found.params,
        artifacts=[
            ArtifactRow(a.name, a.digest, a.size_bytes, href("loops", loop, "runs", found.id, "artifacts", a.name))
            for a in found.artifacts
        ],
        charts=metric_charts([found]),
    )


def summary(run: Run) -> dict[str, float]:
    """The last value of each metric, in the order the run recorded them."""
    return {metric.name: metric.value for metric in run.metrics}


def metric_charts(runs: list[Run]) -> dict[str, Chart]:
    """One chart for each metric that has several steps, one line a run."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        for metric in run.metrics:
            points.setdefault(metric.name, {}).setdefault(run.id, []).append((float(metric.step), metric.value))
    found = {}
    for name, by_run in points.items():
        x = sorted({step for line in by_run.values() for step, _ in line})
        if len(x) > 1:
            series = [Series(name if len(runs) == 1 else run[:8], align(line, x)) for run, line in by_run.items()]
            found[name] = Chart(title=name, x_kind="step", x=x, series=series)
    return found


def artifact(ask: Ask) -> tuple[str, bytes]:
    """Name and bytes of a file of a run.

    Raises:
        NotFound: the run has no such file.
    """
    found = find_run(ask, ask.loop().name, ask.path["id"])
    name = ask.path["name"]
    for one in found.artifacts:
        if one.name == name:
            return name, ask.blobs.get(one.digest)
    raise NotFound(f"Run {found.id[:8]} left no file '{name[:80]}'.")
