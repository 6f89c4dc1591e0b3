"""Whether a document meets a filter, and in what order documents come: searches of what is not kept in columns.

Time is linear in the documents: a client's LIKE pattern never becomes a regular expression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from noria.errors import RequestError
from noria.records.tracking import Clause, Order

__all__ = ["Lookup", "like", "meets", "ordered"]

T = TypeVar("T")
Value = str | float | int | None
Lookup = Callable[[str, str], Value]
"""Gives the value of ``entity.key`` of one document, or None when it has none."""

MAX_PATTERN = 5_000


def meets(clause: Clause, lookup: Lookup) -> bool:
    """Whether the document has the value that the clause asks for; an absent value meets only ``IS NULL``.

    Raises:
        RequestError: the clause's pattern is too long.
    """
    entity, key, operator, wanted = clause
    found = lookup(entity, key)
    if operator == "IS NULL":
        return found is None
    if found is None:
        return False
    if operator == "IS NOT NULL":
        return True
    if isinstance(wanted, tuple):
        return (str(found) in wanted) == (operator == "IN")
    if operator in ("LIKE", "ILIKE"):
        return like(str(found), str(wanted), any_case=operator == "ILIKE")
    if isinstance(wanted, str) or wanted is None:
        found = str(found)
    elif isinstance(found, str):
        number = _number(found)
        if number is None:
            return operator == "!="
        found = number
    return _compare(found, operator, wanted)


def _number(text: str) -> float | None:
    try:
        return float(text) if len(text) <= 400 else None
    except ValueError:
        return None


def _compare(found: str | float, operator: str, wanted: str | float | None) -> bool:
    if operator == "=":
        return found == wanted
    if operator == "!=":
        return found != wanted
    if isinstance(found, str) != isinstance(wanted, str) or wanted is None:
        return False
    below, above = found < wanted, found > wanted  # type: ignore[operator]
    same = found == wanted
    return {"<": below, "<=": below or same, ">": above, ">=": above or same}[operator]


def like(text: str, pattern: str, *, any_case: bool = False) -> bool:
    """SQL's LIKE: ``%`` stands for any text, ``_`` for any one sign; nothing escapes them.

    Raises:
        RequestError: the pattern is longer than ``MAX_PATTERN``.
    """
    if len(pattern) > MAX_PATTERN:
        raise RequestError(f"A pattern after LIKE takes at most {MAX_PATTERN} characters.")
    if any_case:
        text, pattern = text.lower(), pattern.lower()
    first, *rest = pattern.split("%")
    if not rest:
        return len(text) == len(first) and _at(text, first, 0)
    last = rest.pop()
    end = len(text) - len(last)
    if len(first) > end or not _at(text, first, 0) or not _at(text, last, end):
        return False
    place = len(first)
    for part in rest:
        place = _find(text, part, place, end)
        if place < 0:
            return False
    return True


def _at(text: str, part: str, place: int) -> bool:
    if "_" not in part:
        return text.startswith(part, place)
    return place + len(part) <= len(text) and all(sign in ("_", text[place + index]) for index, sign in enumerate(part))


def _find(text: str, part: str, start: int, end: int) -> int:
    """Where the first match of ``part`` in ``text[start:end]`` ends, or -1."""
    if "_" not in part:
        found = text.find(part, start, end)
        return found if found < 0 else found + len(part)
    # Shift-And: bit i says that part[: i + 1] matches up to here, for all i in one step.
    free, places = 0, dict[str, int]()
    for index, sign in enumerate(part):
        if sign == "_":
            free |= 1 << index
        else:
            places[sign] = places.get(sign, 0) | 1 << index
    done, state = 1 << (len(part) - 1), 0
    for place in range(start, end):
        state = (state << 1 | 1) & (places.get(text[place], 0) | free)
        if state & done:
            return place + 1
    return -1


def _rank(value: Value) -> int:
    if value is None:
        return 2
    return 1 if isinstance(value, float) and math.isnan(value) else 0


def _by_number(pair: tuple[Value, object]) -> float | int:
    assert isinstance(pair[0], int | float)
    return pair[0]


def _by_text(pair: tuple[Value, object]) -> str:
    return str(pair[0])


def ordered(documents: Sequence[T], orders: Sequence[Order], lookup: Callable[[T], Lookup]) -> list[T]:
    """The documents in order; equals stay as they came. NaN, then absent values, come last in either direction."""
    found = list(documents)
    for entity, key, descending in reversed(orders):
        known: list[tuple[Value, T]] = []
        nans: list[tuple[Value, T]] = []
        absent: list[tuple[Value, T]] = []
        for document in found:
            value = lookup(document)(entity, key)
            (known, nans, absent)[_rank(value)].append((value, document))
        numeric = all(isinstance(value, int | float) for value, _ in known)
        # A stable sort that is reversed twice keeps equals as they came.
        if descending:
            known.reverse()
        known.sort(key=_by_number if numeric else _by_text)
        if descending:
            known.reverse()
        found = [document for _, document in (*known, *nans, *absent)]
    return found
