"""The language of searches: what it says, what it refuses, and that nothing but a refusal ever comes of bad text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.errors import RequestError
from noria.records.tracking import Clause, Order
from noria.track.grammar import TARGETS, parse, parse_order

KEYS = st.text(st.characters(exclude_characters="`", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("  ", []),
        ("metrics.acc > 0.5", [Clause("metric", "acc", ">", 0.5)]),
        ("metric.acc>=-1e3", [Clause("metric", "acc", ">=", -1000.0)]),
        ("metrics.`a b/c` != 3", [Clause("metric", "a b/c", "!=", 3)]),
        ('params."p" = "x"', [Clause("param", "p", "=", "x")]),
        ("parameters.p ILIKE '%X_'", [Clause("param", "p", "ILIKE", "%X_")]),
        ("tags.mlflow.parentRunId = 'abc'", [Clause("tag", "mlflow.parentRunId", "=", "abc")]),
        ("tags.a is null", [Clause("tag", "a", "IS NULL", None)]),
        ("tags.b IS not NULL", [Clause("tag", "b", "IS NOT NULL", None)]),
        ("run_id in ('a', \"b\")", [Clause("attribute", "run_id", "IN", ("a", "b"))]),
        ("attributes.run_id NOT IN ('a')", [Clause("attribute", "run_id", "NOT IN", ("a",))]),
        ("status = 'it''s'", [Clause("attribute", "status", "=", "it's")]),
        ("datasets.context = 'train'", [Clause("dataset", "context", "=", "train")]),
        ("metrics.m.1 > 2 and metrics.1 < 3", [Clause("metric", "m.1", ">", 2), Clause("metric", "1", "<", 3)]),
        ("attribute.start_time <= 1600000000000", [Clause("attribute", "start_time", "<=", 1_600_000_000_000)]),
    ],
)  # fmt: skip
def test_what_a_filter_says(text: str, clauses: list[Clause]) -> None:
    assert parse(text, "runs") == clauses


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metrics.acc > 'x'", "Expected numeric value"),
        ("params.x = 3", "quoted string"),
        ("foo.bar = 1", "Invalid entity type 'foo'"),
        ("attribute.nme = 'x'", "Invalid attribute key 'nme'"),
        ("metrics.a > 1 or metrics.b > 2", "AND was expected"),
        ("metrics.a > 1 metrics.b > 2", "AND was expected"),
        ("metrics.a >", "ends too early"),
        ("metrics.a LIKE 'x'", "Invalid comparator"),
        ("params.a < 'x'", "Invalid comparator"),
        ("metrics.a > 1e400", "too large"),
        ("run_id IN ()", "quoted string"),
        ("run_id IN ('a'", "ends too early"),
        ("metrics.a > 1; drop table runs", "cannot be read"),
        ("1 = 1", "a key was expected"),
        ("'a' = 'a'", "Invalid attribute key"),
        ("NOT metrics.a > 1", "NOT"),
        ("dataset.size = 'x'", "Invalid dataset key"),
        ("metrics.a > 1 AND " * 200 + "metrics.a > 1", "at most"),
        ("x" * 300_000, "longer than"),
    ],
)
def test_what_a_filter_may_not_say(text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        parse(text, "runs")
    assert len(str(caught.value)) < 1_000


@given(st.sampled_from(sorted(TARGETS)), st.text(max_size=60))
def test_any_text_is_read_or_refused(target: str, text: str) -> None:
    for call in (lambda: parse(text, target), lambda: parse_order([text], target)):
        try:
            call()
        except RequestError:
            continue


TOKENS = st.sampled_from(
    ["metrics", "params", "tags", ".", "a", "`a b`", "'x'", '"y"', ">", "=", "1", "-1.5e3", "and", "in", "(", ")", ",",
     "is", "not", "null", "like", "run_id", "'", "`", "\\", "\0", "é", " "]
)  # fmt: skip


@given(st.lists(TOKENS, max_size=14))
def test_any_mixture_of_words_is_read_or_refused(words: list[str]) -> None:
    try:
        found = parse(" ".join(words), "runs")
    except RequestError:
        return
    assert all(isinstance(clause, Clause) for clause in found)


@given(st.lists(st.tuples(KEYS, WORDS), min_size=1, max_size=4))
def test_any_key_and_text_can_be_said(pairs: list[tuple[str, str]]) -> None:
    said = " AND ".join(f"params.`{key}` = '{value.replace(chr(39), chr(39) * 2)}'" for key, value in pairs)
    assert parse(said, "runs") == [Clause("param", key, "=", value) for key, value in pairs]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("metrics.acc DESC", Order("metric", "acc", True)),
        ("metrics.`a b` asc", Order("metric", "a b")),
        ("start_time", Order("attribute", "start_time")),
        ("attribute.Created desc", Order("attribute", "start_time", True)),
        ("params.lr", Order("param", "lr")),
    ],
)
def test_what_an_order_says(text: str, order: Order) -> None:
    assert parse_order([text, text], "runs") == [order]


@pytest.mark.parametrize(
    "text", ["", "metrics.", "metrics.a foo", "metrics.a desc desc", "datasets.name", "nothing", "a,b"]
)
def test_what_an_order_may_not_say(text: str) -> None:
    with pytest.raises(RequestError, match="Invalid order_by clause"):
        parse_order([text], "runs")
