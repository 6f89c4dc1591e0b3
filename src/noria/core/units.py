"""Durations and sizes as people write them: ``"30d"``, ``"1h30m"``, ``"20ms"``, ``"20GB"``."""

from __future__ import annotations

import re
from datetime import timedelta
from math import isfinite

__all__ = ["Duration", "format_duration", "parse_duration", "parse_size"]

Duration = str | timedelta | int | float
"""A length of time: text such as ``"30d"``, a ``timedelta``, or a number of seconds."""

MICROSECONDS = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|[wdhms])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT])(i?)B", re.IGNORECASE)
_HOW = 'write for example "30d", "12h", "1h30m", "20ms" (units: w d h m s ms us)'


def parse_duration(value: Duration) -> timedelta:
    """The length of time meant by ``value``; plain numbers are seconds.

    Raises:
        ValueError: it is not a duration, or a negative one; the text says how to write it.
    """
    if isinstance(value, timedelta):
        found = value
    elif isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration: {_HOW}")
    elif isinstance(value, (int, float)):
        found = _seconds(value)
    elif isinstance(value, str):
        found = _parse_text(value)
    else:
        raise ValueError(f"{value!r} is not a duration: {_HOW}")
    if found < timedelta(0):
        raise ValueError(f"{value!r} is negative: a duration is zero or more")
    return found


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back as ``value``, e.g. ``1h30m``."""
    left = round(value / timedelta(microseconds=1))
    if left == 0:
        return "0s"
    text = "-" if left < 0 else ""
    left = abs(left)
    for unit, size in MICROSECONDS.items():
        if unit == "w" and left % size:
            continue  # 10d reads better than 1w3d
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def parse_size(text: str) -> int:
    """The bytes meant by ``text``: ``20GB`` is decimal, ``20GiB`` binary.

    Raises:
        ValueError: it is no size; the text says how to write it.
    """
    found = _SIZE.fullmatch(re.sub(r"\s+", "", text))
    if found is None:
        raise ValueError(f'{text!r} is not a size: write for example "500MB", "20GB", "1.5TiB"')
    count, prefix, binary = found.groups()
    step: int = 1024 if binary else 1000
    size: int = step ** (1 + "KMGT".index(prefix.upper()))
    return round(float(count) * size)


def _seconds(value: float) -> timedelta:
    if not isfinite(value):
        raise ValueError(f"{value!r} is not a duration: {_HOW}")
    try:
        return timedelta(seconds=value)
    except OverflowError:
        raise ValueError(f"{value!r} seconds is too long: {_HOW}") from None


def _parse_text(text: str) -> timedelta:
    compact = re.sub(r"\s+", "", text)
    if not _WHOLE.fullmatch(compact):
        missing_unit = re.fullmatch(r"\d+(\.\d+)?", compact)
        what = "has no unit" if missing_unit else "is not a duration"
        raise ValueError(f"{text!r} {what}: {_HOW}")
    total = sum(float(count) * MICROSECONDS[unit] for count, unit in _PART.findall(compact))
    try:
        return timedelta(microseconds=round(total))
    except OverflowError:
        raise ValueError(f"{text!r} is too long: {_HOW}") from None
