"""The comparison a sceptic would ask for: error and bias a month, and how often each way retrained."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from noria.cli.demo.stream import months
from noria.cli.tables import table

__all__ = ["Figures", "compare", "print_figures", "write_figures"]

WAYS = ("static", "monthly", "noria")
CHANGE = datetime(2020, 3, 22)  # New York's stay-at-home order
_PLOT = 24  # characters for the largest error
_CALM = ("2019-10", "2020-02")
_AFTER = ("2020-04", "2020-08")
Floats = NDArray[np.float64]


class Figures(msgspec.Struct):
    """The demo's outcome; the public part is what ``--json`` writes."""

    months: list[dict[str, Any]]
    retrainings: dict[str, int]
    alarms: list[str]
    promotions: list[str]
    seconds: float
    calm: dict[str, float]
    after: dict[str, float]
    to_alarm: float | None
    to_recovery: float | None


def compare(
    stream: pl.DataFrame,
    predictions: dict[str, Floats],
    retrainings: dict[str, int],
    alarms: Sequence[datetime],
    promotions: Sequence[datetime],
    start: datetime,
    stop: datetime,
    seconds: float,
) -> Figures:
    """Error and bias of each way by month, and the days from the change to alarm and recovery."""
    picked = stream["pickup_at"]
    truth = stream["minutes"].to_numpy()
    month = picked.dt.strftime("%Y-%m").to_numpy()
    errors = {way: found - truth for way, found in predictions.items()}
    rows = []
    for first in months(start, stop):
        name = f"{first:%Y-%m}"
        inside = month == name
        if not inside.any():
            continue
        row: dict[str, Any] = {"month": name}
        for way in WAYS:
            part = errors[way][inside]
            row[way] = {"mae": round(float(np.abs(part).mean()), 4), "bias": round(float(part.mean()), 4)}
        rows.append(row)
    later = [alarm for alarm in alarms if alarm.replace(tzinfo=None) > CHANGE - timedelta(days=14)]
    recovered = _recovery(picked, np.abs(errors["noria"]), month)
    return Figures(
        months=rows,
        retrainings=retrainings,
        alarms=[alarm.isoformat() for alarm in alarms],
        promotions=[moment.isoformat() for moment in promotions],
        seconds=round(seconds, 1),
        calm=_mean(errors, month, *_CALM),
        after=_mean(errors, month, *_AFTER),
        to_alarm=_days(later[0]) if later else None,
        to_recovery=_days(recovered) if recovered else None,
    )


def _days(moment: datetime) -> float:
    return round((moment.replace(tzinfo=None) - CHANGE).total_seconds() / 86_400, 1)


def _mean(errors: dict[str, Floats], month: NDArray[Any], first: str, last: str) -> dict[str, float]:
    inside = (month >= first) & (month <= last)
    if not inside.any():
        return {}
    return {way: float(np.abs(found[inside]).mean()) for way, found in errors.items()}


def _recovery(picked: pl.Series, error: Floats, month: NDArray[Any]) -> datetime | None:
    """The first moment from which a week's error stays within a tenth of the calm months', the error having risen."""
    calm = error[(month >= _CALM[0]) & (month <= _CALM[1])]
    if not calm.size:
        return None
    limit = 1.1 * float(calm.mean())
    moments = picked.to_numpy()
    risen = False
    for day in range(120):
        first = np.datetime64(CHANGE + timedelta(days=day))
        inside = (moments >= first) & (moments < first + np.timedelta64(7, "D"))
        if not inside.any():
            continue
        above = float(error[inside].mean()) > limit
        if risen and not above:
            return CHANGE + timedelta(days=day)
        risen = risen or above
    return None


def print_figures(figures: Figures, console: Console) -> None:
    """The table, a plot of the error, and the sentences that matter; fits 80 columns."""
    shown = table("month", *(f"#{way}" for way in WAYS), "#bias", "#bias", "#bias", "  error")
    top = max(row[way]["mae"] for row in figures.months for way in WAYS)
    colours = {"static": "red", "monthly": "yellow", "noria": "cyan"}
    for row in figures.months:
        plot = Text("  ")
        marks = {round(row[way]["mae"] / top * _PLOT): way for way in WAYS}
        for place in range(_PLOT + 1):
            way = marks.get(place, "")
            plot.append("●" if way else "·" if place % 10 == 0 else " ", colours.get(way, "dim"))
        shown.add_row(
            row["month"],
            *(Text(f"{row[way]['mae']:.2f}", style=colours[way]) for way in WAYS),
            *(Text(f"{row[way]['bias']:+.2f}", style=colours[way]) for way in WAYS),
            plot,
        )
    console.print(shown)
    console.print("[red]●[/] left alone  [yellow]●[/] retrained every month  [cyan]●[/] Noria; minutes of mean error\n")
    for name, part in (("2019-10 to 2020-02", figures.calm), ("2020-04 to 2020-08", figures.after)):
        if part:
            console.print(
                f"{name}: left alone {part['static']:.2f}, monthly {part['monthly']:.2f}, Noria {part['noria']:.2f} "
                f"({part['noria'] / part['static'] - 1:+.1%} against left alone, "
                f"{part['noria'] / part['monthly'] - 1:+.1%} against monthly)"
            )
    console.print(
        f"Retrainings: monthly {figures.retrainings['monthly']}, Noria {figures.retrainings['noria']}. "
        f"Alarms: {', '.join(alarm[:10] for alarm in figures.alarms) or 'none'}. "
        f"Promotions: {', '.join(moment[:10] for moment in figures.promotions) or 'none'}."
    )
    console.print(
        f"From the lockdown of 2020-03-22 to the alarm: {_shown(figures.to_alarm)}; to recovery (a week's error within "
        f"a tenth of the calm months'): {_shown(figures.to_recovery)}. Took {figures.seconds:.0f} s."
    )


def _shown(days: float | None) -> str:
    return "-" if days is None else f"{days:g} days"


def write_figures(figures: Figures, path: Path) -> None:
    """The public figures as JSON."""
    body = {name: getattr(figures, name) for name in ("months", "retrainings", "alarms", "promotions", "seconds")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(body), indent=2))
