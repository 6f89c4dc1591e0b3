"""Reading facts that may be missing, or not be numbers."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

__all__ = ["Facts", "number", "part", "shown"]

Facts = Mapping[str, Any]


def part(facts: Facts, *path: str) -> Facts:
    """The mapping under these names; an empty one when there is none."""
    found: Any = facts
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def number(facts: Facts, name: str) -> float | None:
    """The finite number under ``name``, or None."""
    try:
        value = float(facts[name])
    except (KeyError, TypeError, ValueError):
        return None
    return value if isfinite(value) else None


def shown(value: Any) -> str:
    """A number for a sentence."""
    return f"{value:.6g}" if isinstance(value, (int, float)) else "?"
