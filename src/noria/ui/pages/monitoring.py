"""Monitoring: error and drift over time, with what happened marked, and how the inputs compare now."""

from __future__ import annotations

from datetime import datetime

import msgspec

from noria.records import Alert, Deployment
from noria.store.ports import Window
from noria.ui import format as say
from noria.ui.ask import Ask, href, windows
from noria.ui.chart import Chart, Marker, Series, align, seconds
from noria.ui.pages.distributions import Distribution, distributions
from noria.ui.pages.drift import DriftMap, drift_map

WINDOWS = 400


class PerformanceRow(msgspec.Struct, frozen=True):
    """One performance window as a line of a table."""

    start: datetime
    end: datetime
    version: int
    rows: int
    metric: str
    value: float | None
    low: float | None
    high: float | None
    bias: float | None
    baseline: float | None
    estimated: bool


class MonitoringPage(msgspec.Struct, frozen=True):
    """What production looks like."""

    title: str
    loop: str
    metric: str
    charts: dict[str, Chart]
    performance: list[PerformanceRow]
    drift: DriftMap | None
    distributions: list[Distribution]
    champion: int | None
    alerts: list[Alert]
    serving: bool


def monitoring(ask: Ask) -> MonitoringPage:
    """Timelines, drift and distributions of a loop."""
    loop = ask.loop().name
    rows = [performance_row(w) for w in reversed(windows(ask.db, loop, "performance", WINDOWS))]
    drift = list(reversed(windows(ask.db, loop, "drift", WINDOWS)))
    alerts = ask.db.list(Alert, limit=100, loop=loop)
    deployments = ask.db.list(Deployment, limit=1000, oldest_first=True, loop=loop)
    markers = sorted([*_alarms(alerts, loop), *promotions(deployments)], key=lambda marker: marker.x)
    metric = rows[-1].metric if rows else "error"
    number, shapes = distributions(ask, loop, drift[-1] if drift else None)
    charts = _charts(rows, markers, metric)
    return MonitoringPage(
        title=f"Monitoring of {loop}",
        loop=loop,
        metric=metric,
        charts={name: chart for name, chart in charts.items() if not chart.empty},
        performance=list(reversed(rows)),
        drift=drift_map(drift) if drift else None,
        distributions=shapes,
        champion=number,
        alerts=alerts[:20],
        serving=bool(deployments),
    )


def performance_row(window: Window) -> PerformanceRow:
    """The numbers of a performance window; those that are absent or not numbers are None."""
    facts = window.facts

    def figure(name: str) -> float | None:
        value = facts.get(name)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    return PerformanceRow(
        start=window.start,
        end=window.end,
        version=window.version,
        rows=window.rows,
        metric=str(facts.get("metric", "error")),
        value=figure("value"),
        low=figure("low"),
        high=figure("high"),
        bias=figure("bias"),
        baseline=figure("baseline"),
        estimated=bool(facts.get("estimated")),
    )


def _charts(rows: list[PerformanceRow], markers: list[Marker], metric: str) -> dict[str, Chart]:
    x = sorted({seconds(row.end) for row in rows})
    lines: dict[tuple[int, bool], list[PerformanceRow]] = {}
    for row in rows:
        lines.setdefault((row.version, row.estimated), []).append(row)
    error = [_line(version, estimated, line, x) for (version, estimated), line in lines.items()]
    base = [(seconds(row.end), row.baseline) for row in rows if row.baseline is not None]
    if base:
        error.append(Series("at validation", align(base, x), dash=True, quiet=True))
    bias = [
        Series(f"v{version}", align([(seconds(r.end), r.bias) for r in line if r.bias is not None], x))
        for (version, estimated), line in lines.items()
        if not estimated
    ]
    return {
        "error": Chart(metric, "time", x, error, markers),
        "bias": Chart("bias (prediction less label)", "time", x, bias, markers),
    }


def _line(version: int, estimated: bool, rows: list[PerformanceRow], x: list[float]) -> Series:
    def along(name: str) -> list[float | None]:
        return align([(seconds(r.end), v) for r in rows if (v := getattr(r, name)) is not None], x)

    label = f"v{version}, estimated" if estimated else f"v{version}"
    return Series(label, along("value"), along("low"), along("high"), dash=estimated)


def _alarms(alerts: list[Alert], loop: str) -> list[Marker]:
    return [
        Marker(seconds(a.at), a.severity, a.severity, f"{say.day(a.at)}: {a.sentence}", href("loops", loop))
        for a in alerts
    ]


def promotions(deployments: list[Deployment]) -> list[Marker]:
    """A mark wherever another version became champion, was put back, or a canary was taken back."""
    found = []
    champion: int | None = None
    canary: int | None = None
    for deployment in deployments:
        leading, beside = deployment.route("champion"), deployment.route("canary")
        number = leading.version if leading else None
        x, day = seconds(deployment.since), say.day(deployment.since)
        if number is not None and champion is not None and number < champion:
            found.append(Marker(x, "rollback", f"v{number} back", f"{day}: v{number} was put back for v{champion}"))
        elif number is not None and number != champion:
            text = f"{day}: v{number} became champion" + (f" after v{champion}" if champion else "")
            found.append(Marker(x, "promotion", f"v{number}", text))
        elif canary is not None and beside is None:
            found.append(Marker(x, "rollback", f"v{canary} out", f"{day}: canary v{canary} was taken back"))
        champion, canary = number, beside.version if beside else None
    return found
