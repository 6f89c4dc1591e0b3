"""What routes of documents (models, versions, traces, webhooks) share: fields, filters and pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from noria.compat.mlflow.errors import WireError
from noria.compat.mlflow.fields import Field, Wrong, struct, text
from noria.compat.mlflow.tokens import read_token, write_token
from noria.core.hashing import digest_json
from noria.records.tracking import Clause, Order
from noria.track.matching import Lookup, meets, ordered

__all__ = ["PAIR", "anything", "by_key", "enum", "found", "mapping", "page"]

T = TypeVar("T")

PAIR = struct({"key": text(required=True), "value": text(default="")})
"""A tag or param as it travels in lists."""


def by_key(given: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """A list of pairs as a dictionary; of equal keys the last counts."""
    return {pair["key"]: pair.get("value", "") for pair in given or ()}


def mapping(*, required: bool = False) -> Field:
    """An object of texts by name."""
    one = text()

    def read(value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise Wrong(value, why="it must be an object")
        try:
            return {one.read(key): one.read(item) for key, item in value.items()}
        except Wrong as wrong:
            raise Wrong(wrong.value, "", "its values must be text") from None

    return Field(read, required)


def anything(*, required: bool = False) -> Field:
    """An object kept as it was sent."""

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Wrong(value, why="it must be an object")
        return value

    return Field(read, required)


def enum(names: Sequence[str], *, required: bool = False, default: str | None = None, first: int = 0) -> Field:
    """An enum, by name or by number (``first`` is the number of the first name)."""

    def read(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value - first < len(names):
            return names[value - first]
        if value not in names:
            raise Wrong(value, why=f"it must be one of {', '.join(names)}")
        return str(value)

    return Field(read, required, default)


def found(
    documents: Sequence[T], clauses: Sequence[Clause], orders: Sequence[Order], lookup: Callable[[T], Lookup]
) -> list[T]:
    """The documents that meet every clause, in order; equals stay as they came."""
    kept = [one for one in documents if all(meets(clause, lookup(one)) for clause in clauses)]
    return ordered(kept, orders, lookup)


def page(
    documents: Sequence[T], name: Callable[[T], str], question: Sequence[Any], limit: int, token: str | None
) -> tuple[list[T], str | None]:
    """One page, and the token of the next.

    The token names the next document and the last one shown, so that documents that came or went meanwhile neither
    double nor hide others, and holds a digest of the question, so that it is not taken along to another.

    Raises:
        WireError: the token is not one of ours, or answers another question.
    """
    asked = digest_json([json.dumps(part, sort_keys=True, default=str) for part in question])[-16:]
    start = 0
    if token:
        following, last, place = _opened(token, asked)
        places = {name(one): index for index, one in enumerate(documents)}
        start = places.get(following, places.get(last, place - 1) + 1)
    kept = list(documents[start : start + limit])
    if start + limit >= len(documents) or not kept:
        return kept, None
    return kept, write_token([name(documents[start + limit]), name(kept[-1]), start + limit, asked])


def _opened(token: str, asked: str) -> tuple[str, str, int]:
    following, last, place, question = read_token(token, 4) or ("", "", 0, "")
    if type(following) is not str or type(last) is not str or type(place) is not int or question != asked:
        raise WireError(
            "INVALID_PARAMETER_VALUE",
            "Invalid page token: use the next_page_token of the search before, with the same filter and order.",
        )
    return following, last, max(place, 0)
