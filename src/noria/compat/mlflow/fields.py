"""Fields of a request: what each must be, and MLflow's words when it is not.

Bodies are the JSON of protocol buffers: 64-bit integers come as numbers or text, enums by name, absent fields
are left out, and an unknown field is passed over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from noria.compat.mlflow.errors import WireError

__all__ = [
    "Field",
    "boolean",
    "check",
    "either",
    "integer",
    "invalid",
    "many",
    "missing",
    "number",
    "struct",
    "text",
]

_INT64 = range(-(2**63), 2**63)
_SHOWN = 200
_LONGEST_NUMBER = 400
_DOCS = "See the API docs for more information about request parameters."


class Wrong(ValueError):
    """A value is not what the field asks; its text says what was asked, and ``path`` leads to it."""

    def __init__(self, value: object, path: str = "", why: str = "", missing: bool = False) -> None:
        self.value, self.path, self.why, self.missing = value, path, why, missing
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``read`` returns the value as it will be used, or raises :class:`Wrong`; ``listed`` of lists."""

    read: Callable[[Any], Any]
    required: bool = False
    default: Any = None
    listed: bool = False


def missing(name: str) -> WireError:
    """A required field is not there."""
    return WireError(
        "INVALID_PARAMETER_VALUE",
        f"Missing value for required parameter '{name}'. {_DOCS}",
    )


def invalid(name: str, value: object, why: str = "") -> WireError:
    """A field has a value that it cannot have."""
    shown = json.dumps(value, default=str, ensure_ascii=False)
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "…"
    return WireError(
        "INVALID_PARAMETER_VALUE",
        f"Invalid value {shown} for parameter '{name}' supplied{': ' + why if why else ''}. {_DOCS}",
    )


def check(fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request, checked.

    Raises:
        WireError: a field is missing or wrong; names it.
    """
    found: dict[str, Any] = {}
    for name, field in fields.items():
        value = given.get(name)
        if value is None or (field.required and value == ""):
            if field.required:
                raise missing(name)
            if field.default is not None:
                found[name] = field.default
            continue
        try:
            found[name] = field.read(value)
        except Wrong as wrong:
            where = f"{name}{wrong.path}"
            raise missing(where) if wrong.missing else invalid(where, wrong.value, wrong.why) from None
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(value, why="it must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Wrong(ascii(value), why="it is not valid Unicode") from None
    if "\0" in value:
        raise Wrong(value, why="it holds a NUL character")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise Wrong(value, why="it must be an integer")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and len(value) <= 20:
        try:
            value = int(value)
        except ValueError:
            raise Wrong(value, why="it must be an integer") from None
    if not isinstance(value, int) or value not in _INT64:
        raise Wrong(value, why="it must be an integer of 64 bits")
    return value


_NAMED = {"nan": math.nan, "infinity": math.inf, "inf": math.inf, "-infinity": -math.inf, "-inf": -math.inf}


def _number(value: Any) -> float:
    if isinstance(value, str):
        named = _NAMED.get(value.lower())
        if named is not None:
            return named
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > _LONGEST_NUMBER:
        raise Wrong(value, why="it must be a number")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise Wrong(value, why="it must be a number") from None
    if math.isinf(found) and not (isinstance(value, float) and math.isinf(value)):
        raise Wrong(value, why="it is too large for a 64-bit float")
    return found


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "True", "1"):
        return True
    if value in ("false", "False", "0"):
        return False
    raise Wrong(value, why="it must be true or false")


def text(*, required: bool = False, default: str | None = None, limit: int | None = None) -> Field:
    """Text, of at most ``limit`` characters."""

    def read(value: Any) -> str:
        found = _text(value)
        if limit is not None and len(found) > limit:
            raise Wrong(found[:40] + "…", why=f"it is longer than {limit} characters ({len(found)})")
        return found

    return Field(read, required, default)


def integer(
    *, required: bool = False, default: int | None = None, low: int | None = None, high: int | None = None
) -> Field:
    """A 64-bit integer, as number or text, from ``low`` to ``high``."""

    def read(value: Any) -> int:
        found = _integer(value)
        if (low is not None and found < low) or (high is not None and found > high):
            bounds = (
                f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
            )
            raise Wrong(found, why=f"it must be {bounds}")
        return found

    return Field(read, required, default)


def number(*, required: bool = False, default: float | None = None) -> Field:
    """A 64-bit float; ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` as text."""
    return Field(_number, required, default)


def boolean(*, required: bool = False, default: bool | None = None) -> Field:
    """True or false."""
    return Field(_boolean, required, default)


def either(*names: str, required: bool = False, default: str | None = None) -> Field:
    """One of a few names (an enum)."""

    def read(value: Any) -> str:
        found = str(value) if isinstance(value, int) else value
        if not isinstance(found, str) or found not in names:
            raise Wrong(value, why=f"it must be one of {', '.join(names)}")
        return found

    return Field(read, required, default)


def many(item: Field, *, required: bool = False, limit: int | None = None, empty: bool = True) -> Field:
    """A list of ``item``; a single value in a query is a list of one."""

    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Wrong(value, why="it must be a list")
        if limit is not None and len(value) > limit:
            raise Wrong(f"{len(value)} items", why=f"at most {limit} are taken at once")
        if not value and not empty:
            raise Wrong(value, missing=True)
        found = []
        for index, one in enumerate(value):
            try:
                found.append(item.read(one))
            except Wrong as wrong:
                raise Wrong(wrong.value, f"[{index}]{wrong.path}", wrong.why, wrong.missing) from None
        return found

    return Field(read, required, listed=True)


def struct(fields: Mapping[str, Field], *, required: bool = False, make: Callable[..., Any] = dict) -> Field:
    """An object with fields of its own; ``make`` is called with them by name."""
    items = tuple(fields.items())

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Wrong(value, why="it must be an object")
        found: dict[str, Any] = {}
        for name, field in items:
            given = value.get(name)
            if given is None or (field.required and given == ""):
                if field.required:
                    raise Wrong(given, f".{name}", missing=True)
                if field.default is not None:
                    found[name] = field.default
                continue
            try:
                found[name] = field.read(given)
            except Wrong as wrong:
                raise Wrong(wrong.value, f".{name}{wrong.path}", wrong.why, wrong.missing) from None
        return make(**found)

    return Field(read, required)
