"""One text for one value: canonical JSON, and policy values as the user wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any

from noria.core.units import format_duration

__all__ = ["BY_NAME", "canonical_json", "describe", "to_plain"]

BY_NAME: dict[str, bool] = {"by_name": True}
"""Field metadata: `describe` writes this required argument by name, as people do (``Latency(p95_ms=20)``)."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space; equal values give equal text on every machine.

    Floats are written in their shortest exact form, ``-0.0`` as ``0.0``, and those JSON has no number for as
    the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

    Raises:
        TypeError: something in the value has no JSON form (`to_plain` says which types do).
    """
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def to_plain(value: Any) -> Any:
    """``value`` as dicts, lists, strings, numbers, booleans and None.

    Dataclasses become dicts with their class under ``type``; durations, times and paths become text; sets
    become sorted lists; functions and classes become their names.

    Raises:
        TypeError: it is of some other type.
    """
    if isinstance(value, Enum):
        return to_plain(value.value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, PurePath):
        return value.as_posix()
    return _plain_collection(value)


def describe(value: Any) -> str:
    """A policy value as the user wrote it: ``AtLeast("roc_auc", 0.8)``, defaults left out."""
    if is_dataclass(value) and not isinstance(value, type):
        in_order = sorted(fields(value), key=lambda field: bool(field.kw_only))
        parts = [part for field in in_order if (part := _describe_field(field, getattr(value, field.name)))]
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, timedelta):
        return json.dumps(format_duration(value))
    if isinstance(value, (tuple, list)):
        return _describe_items(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{describe(key)}: {describe(item)}" for key, item in value.items()) + "}"
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    return repr(value)


def _describe_items(items: tuple[Any, ...] | list[Any]) -> str:
    inside = ", ".join(describe(item) for item in items)
    return f"({inside},)" if len(items) == 1 else f"({inside})"


def _describe_field(field: Field[Any], value: Any) -> str:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    if not field.init or not field.repr:
        return ""
    required = default is MISSING
    if not required and type(value) is type(default) and value == default:
        return ""
    if required and not field.kw_only and not field.metadata.get("by_name"):
        return describe(value)
    return f"{field.name}={describe(value)}"


def _plain_float(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value + 0.0


def _plain_collection(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: to_plain(getattr(value, field.name)) for field in fields(value) if field.repr}
        return {"type": type(value).__name__, **found}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Set):
        return sorted((to_plain(item) for item in value), key=lambda item: (type(item).__name__, str(item)))
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r:.80}")
