"""What every policy value has: where it was written, and what is wrong with its arguments.

A policy value with a wrong argument can be made: ``loop.check()`` then reports it with its file and line,
together with every other fault of the declaration, instead of stopping at the first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from math import isfinite
from types import FrameType
from typing import Any

from noria.core.nearest import suggest
from noria.core.units import Duration, parse_duration

__all__ = [
    "Policy",
    "find_caller",
    "wants_choice",
    "wants_duration",
    "wants_name",
    "wants_names",
    "wants_number",
]


class Policy:
    """Base of the frozen values a `Loop` is declared with.

    Obligations of a subclass: a frozen, slotted dataclass; lists among its arguments become tuples;
    `problems` never raises.
    """

    __slots__ = ("_where",)
    _where: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "_where", find_caller())
        for name in getattr(self, "__dataclass_fields__", ()):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))

    @property
    def where(self) -> str:
        """``file:line`` of the user's text that made it; empty when unknown (a copy, an unpickled value)."""
        return getattr(self, "_where", "")

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        return iter(())

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return ()


def find_caller() -> str:
    """``file:line`` of the nearest caller outside Noria, or an empty text."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module != "noria" and not module.startswith("noria."):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def wants_name(argument: str, value: object, optional: bool = False) -> Iterator[str]:
    """The problem with an argument that must be a name, if there is one."""
    if optional and value is None:
        return
    if not isinstance(value, str) or not value.strip():
        yield f"{argument} must be a name (text), not {value!r}."


def wants_names(argument: str, value: object, optional: bool = False) -> Iterator[str]:
    """The problem with an argument that must be a tuple of names, if there is one."""
    if optional and value is None:
        return
    if not isinstance(value, tuple) or not all(isinstance(item, str) and item for item in value):
        yield f'{argument} must be a tuple of names such as ("a", "b"), not {value!r}.'


def wants_duration(argument: str, value: Duration | None, optional: bool = False, zero: bool = True) -> Iterator[str]:
    """The problem with an argument that must be a duration, if there is one."""
    if optional and value is None:
        return
    try:
        found = parse_duration(value)  # type: ignore[arg-type]  # the user may have passed anything
    except ValueError as error:
        yield f"{argument}: {error}."
        return
    if not zero and not found:
        yield f"{argument} must be longer than zero, not {value!r}."


def wants_number(
    argument: str,
    value: object,
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
    open_high: bool = False,
    whole: bool = False,
) -> Iterator[str]:
    """The problem with an argument that must be a finite number in a range, if there is one."""
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not isfinite(value):
        yield f"{argument} must be a {'whole ' if whole else ''}number, not {value!r}."
        return
    if low is not None and (value < low or (open_low and value == low)):
        yield f"{argument} must be {'more than' if open_low else 'at least'} {low:g}, not {value!r}."
    if high is not None and (value > high or (open_high and value == high)):
        yield f"{argument} must be {'less than' if open_high else 'at most'} {high:g}, not {value!r}."


def wants_choice(argument: str, value: Any, choices: Iterable[str], optional: bool = False) -> Iterator[str]:
    """The problem with an argument that must be one of a few words, if there is one."""
    known = tuple(choices)
    if (optional and value is None) or value in known:
        return
    yield f"{argument} cannot be {value!r}. {suggest(str(value), known)}"
