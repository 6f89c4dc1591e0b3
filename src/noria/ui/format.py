"""Numbers, sizes and times as people read them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

NONE = "–"
_SIZES = ("B", "kB", "MB", "GB", "TB")


def number(value: Any) -> str:
    """A number with as many digits as help: ``203,897``, ``3.61``, ``0.0042``."""
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return text(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if size >= 1000 or (value == int(value) and size >= 1):
        shown = f"{value:,.0f}"
    elif size >= 100:
        shown = f"{value:.1f}"
    elif size >= 1:
        shown = f"{value:.2f}"
    elif size >= 0.001 or size == 0:
        shown = f"{value:.3g}"
    else:
        shown = f"{value:.1e}"
    return shown.replace("-", "−", 1) if shown.startswith("-") else shown


def signed(value: float | None) -> str:
    """A number with its sign: ``+0.3``."""
    return NONE if value is None else ("+" if value > 0 else "") + number(value)


def percent(share: float | None) -> str:
    """A share of one as a percentage: ``4.2 %``."""
    if share is None:
        return NONE
    points = share * 100
    digits = 0 if points == round(points) or abs(points) >= 10 else 1 if abs(points) >= 1 else 2
    return f"{points:.{digits}f} %"


def size(count: int | None) -> str:
    """A number of bytes: ``12.3 MB``."""
    if not count:
        return NONE if count is None else "0 B"
    power = min(int(math.log(count, 1000)), len(_SIZES) - 1)
    return f"{count / 1000**power:.{0 if power == 0 else 1}f} {_SIZES[power]}"


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: ``2 h 5 min``."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 or seconds == 0 else f"{seconds * 1e6:.0f} µs"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, small, names in ((86_400, 3600, "d h"), (3600, 60, "h min"), (60, 1, "min s")):
        if whole >= large:
            first, second = whole // large, whole % large // small
            one, other = names.split()
            return f"{first} {one}" + (f" {second} {other}" if second else "")
    return f"{whole} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago, or how far ahead, a moment is; far ones by date."""
    if moment is None:
        return NONE
    seconds = (now - moment).total_seconds()
    if abs(seconds) > 60 * 86_400:
        return moment.astimezone(UTC).strftime("%-d %b %Y")
    if abs(seconds) < 5:
        return "just now"
    shown = _one_unit(abs(seconds))
    return f"{shown} ago" if seconds > 0 else f"in {shown}"


def _one_unit(seconds: float) -> str:
    for length, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"


def stamp(moment: datetime | None) -> str:
    """A moment in full, UTC."""
    return NONE if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def day(moment: datetime | None) -> str:
    """A moment's date, UTC."""
    return NONE if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d")


def short(name: str | None, length: int = 8) -> str:
    """The start of an identifier or digest, enough to tell it from its neighbours."""
    if not name:
        return NONE
    return name.rpartition(":")[2][:length]


def text(value: Any) -> str:
    """Any JSON value in one line."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def plural(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


FILTERS = {
    "number": number,
    "signed": signed,
    "percent": percent,
    "size": size,
    "duration": duration,
    "ago": ago,
    "stamp": stamp,
    "day": day,
    "short": short,
    "plain": text,
    "plural": plural,
}
"""By the name templates use them under."""
