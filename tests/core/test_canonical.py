from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import AtLeast, Between, Canary, Csv, HasColumns, Latency, OnAlarm, OneOf, SliceGap, TimeSplit
from noria.core.canonical import canonical_json, describe
from noria.core.nearest import find_nearest, suggest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_canonical_json_is_json_and_reads_back_the_same(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_numbers_json_lacks_are_written_as_text_and_zero_has_one_form() -> None:
    assert canonical_json([float("nan"), float("inf"), -0.0]) == '["NaN","Infinity",0.0]'


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        canonical_json(object())


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (AtLeast("roc_auc", 0.8), 'AtLeast("roc_auc", 0.8)'),
        (Between("age", 18, 110), 'Between("age", 18, 110)'),
        (Latency(20), "Latency(p95_ms=20)"),
        (SliceGap("gender", "recall", 0.05), 'SliceGap("gender", "recall", max_gap=0.05)'),
        (TimeSplit(test="30d", gap="7d"), 'TimeSplit(test="30d", gap="7d")'),
        (TimeSplit(test=timedelta(days=30)), 'TimeSplit(test="30d")'),
        (Csv("a.csv", key="id", sensitive=("sex",)), 'Csv("a.csv", key="id", sensitive=("sex",))'),
        (OneOf("kind", ("a", "b")), 'OneOf("kind", ("a", "b"))'),
        (HasColumns({"age": "int"}), 'HasColumns({"age": "int"})'),
        (Canary(steps=(5, 100)), "Canary(steps=(5, 100))"),
        (OnAlarm(), "OnAlarm()"),
    ],
)
def test_a_policy_value_is_described_as_it_was_written(value: object, written: str) -> None:
    assert describe(value) == written


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert find_nearest("customer_ID", ["customer_id", "age"]) == "customer_id"
    assert find_nearest("zzz", ["customer_id", "age"]) is None
    assert suggest("agee", ["customer_id", "age"]) == 'Did you mean "age"?'
    assert suggest("zzz", ["b", "a"]) == "There are: a, b."
