"""Filters over documents: LIKE as SQL knows it, absent values, NaN, and orders that keep equals as they came."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.errors import RequestError
from noria.records.tracking import Clause, Order
from noria.track.matching import MAX_PATTERN, Lookup, like, meets, ordered

Document = dict[str, str | float | int | None]


def lookup(document: Document) -> Lookup:
    return lambda _entity, key: document.get(key)


def holds(operator: str, value: object, found: str | float | None) -> bool:
    return meets(Clause("tag", "k", operator, value), lambda _entity, _key: found)  # type: ignore[arg-type]


@given(st.text("ab_%A\n.*", max_size=12), st.text("abA\n.*_%", max_size=12), st.booleans())
def test_like_is_sqls_like(pattern: str, text: str, any_case: bool) -> None:
    meaning = "".join({"%": "(?s:.*)", "_": "(?s:.)"}.get(sign, re.escape(sign)) for sign in pattern)
    wanted = re.fullmatch(meaning, text, re.IGNORECASE if any_case else 0) is not None
    assert like(text, pattern, any_case=any_case) == wanted


def test_a_pattern_meant_to_be_slow_is_not() -> None:
    text = "a" * 100_000
    assert not like(text, "%a" * 2_000 + "b")
    assert not like(text, "%" + "a_" * 2_000 + "b%")
    with pytest.raises(RequestError, match="at most"):
        like(text, "a" * (MAX_PATTERN + 1))


@pytest.mark.parametrize(
    ("operator", "value", "found", "wanted"),
    [
        ("=", "x", "x", True),
        ("=", "x", "X", False),
        ("!=", "x", "y", True),
        ("!=", "x", None, False),
        ("=", 2, 2.0, True),
        (">=", 2, 2, True),
        ("<", 2.5, 2, True),
        (">", 1, math.nan, False),
        ("!=", 1, math.nan, True),
        (">", 1, "12", True),
        (">", 1, "many", False),
        ("=", "12", 12, True),
        ("IN", ("a", "b"), "b", True),
        ("NOT IN", ("a", "b"), "b", False),
        ("NOT IN", ("a", "b"), "c", True),
        ("NOT IN", ("a",), None, False),
        ("IS NULL", None, None, True),
        ("IS NULL", None, "", False),
        ("IS NOT NULL", None, "", True),
        ("ILIKE", "%RM%", "arm1", True),
        ("LIKE", "%RM%", "arm1", False),
    ],
)
def test_clauses(operator: str, value: object, found: str | float | None, wanted: bool) -> None:
    assert holds(operator, value, found) is wanted


@pytest.mark.parametrize("descending", [False, True])
def test_what_is_no_number_comes_last_either_way(descending: bool) -> None:
    documents: list[Document] = [{"n": None}, {"n": math.nan}, {"n": 2}, {"n": 1.5}, {}]
    found = [one.get("n") for one in ordered(documents, [Order("metric", "n", descending)], lookup)]
    assert found[:2] == ([2, 1.5] if descending else [1.5, 2])
    assert isinstance(found[2], float)
    assert math.isnan(found[2])
    assert found[3:] == [None, None]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=20), st.booleans(), st.booleans())
def test_several_terms_and_equals(rows: list[tuple[int, int]], first_down: bool, second_down: bool) -> None:
    documents: list[Document] = [{"a": a, "b": b, "place": place} for place, (a, b) in enumerate(rows)]
    found = ordered(documents, [Order("tag", "a", first_down), Order("tag", "b", second_down)], lookup)

    def key(place: int) -> tuple[int, int, int]:
        a, b = rows[place]
        return (-a if first_down else a, -b if second_down else b, place)

    assert [one["place"] for one in found] == sorted(range(len(rows)), key=key)
