from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import AtLeast, AtMost, BeatsChampion, GateResult, Latency, NoSkew, Outcome, SliceGap
from noria.validate.rules import Gate, interpret

GATES: list[Gate] = [
    AtLeast("auc", 0.8),
    AtMost("mae", 3.8),
    BeatsChampion("mae", by=0.1),
    SliceGap("sex", "recall", max_gap=0.05),
    Latency(p95_ms=20),
    NoSkew(),
]


def beats(by: float, low: float, gain: float, high: float) -> Outcome:
    found = {"challenger": 1.0, "champion": 1.0 + gain, "improvement": gain, "low": low, "high": high}
    return BeatsChampion("mae", by=by).decide({"champion": 3, "comparison": {"mae": found}}).outcome


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"champion": 2, "metrics": {"auc": float("nan"), "mae": "?"}, "comparison": {"mae": {"low": None}}},
        {"champion": 2, "metrics": None, "slices": {"sex": 3}, "latency": {}, "skew": {"rows": 0}},
    ],
)
def test_without_usable_facts_every_gate_cannot_tell(gate: Gate, facts: dict[str, Any]) -> None:
    result = gate.decide(facts)
    assert result.outcome is Outcome.inconclusive
    assert result.sentence.startswith("Cannot tell.")


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_thresholds_are_inclusive_on_both_sides(value: float, threshold: float) -> None:
    facts = {"metrics": {"m": value}}
    assert (AtLeast("m", threshold).decide(facts).outcome is Outcome.passed) == (value >= threshold)
    assert (AtMost("m", threshold).decide(facts).outcome is Outcome.passed) == (value <= threshold)


def test_a_threshold_result_says_the_numbers() -> None:
    result = AtLeast("roc_auc", 0.8).decide({"metrics": {"roc_auc": 0.7431}})
    assert result == GateResult('AtLeast("roc_auc", 0.8)', Outcome.failed, "roc_auc is 0.7431, below 0.8.", 0.7431, 0.8)
    missing = AtLeast("auc", 0.8).decide({"metrics": {"roc_auc": 0.7}})
    assert "it gave: roc_auc" in missing.sentence


def test_there_is_no_champion_to_beat_at_first() -> None:
    result = BeatsChampion("mae").decide({"champion": None})
    assert result.outcome is Outcome.passed
    assert "no champion to beat" in result.sentence


@pytest.mark.parametrize(
    ("by", "low", "gain", "high", "outcome"),
    [
        (0.0, 0.01, 0.02, 0.03, Outcome.passed),
        (0.0, -0.01, 0.02, 0.03, Outcome.inconclusive),
        (0.0, -0.03, -0.02, -0.01, Outcome.failed),
        (0.0, 0.0, 0.0, 0.0, Outcome.failed),
        (0.02, 0.001, 0.02, 0.04, Outcome.passed),
        (0.02, 0.001, 0.01, 0.03, Outcome.inconclusive),
        (0.02, 0.001, 0.01, 0.015, Outcome.failed),
        (-0.01, -0.005, 0.0, 0.005, Outcome.passed),
        (-0.01, -0.02, 0.0, 0.02, Outcome.inconclusive),
        (-0.01, -0.04, -0.03, -0.02, Outcome.failed),
    ],
)
def test_a_challenger_must_surely_be_better_and_better_by_enough(
    by: float, low: float, gain: float, high: float, outcome: Outcome
) -> None:
    assert beats(by, low, gain, high) is outcome


def gap(value: float, low: float | None, high: float | None, rows: int = 500) -> GateResult:
    slices = [{"slice": "F", "rows": rows, "value": 0.7}, {"slice": "M", "rows": 500, "value": 0.7 + value}]
    found = {"slices": slices, "gap": value, "low": low, "high": high}
    return SliceGap("sex", "recall", max_gap=0.05).decide({"slices": {"sex": {"recall": found}}})


def test_a_gap_fails_only_when_it_is_surely_too_wide() -> None:
    assert gap(0.04, 0.0, 0.09).outcome is Outcome.passed
    assert gap(0.04, None, None).outcome is Outcome.passed
    assert gap(0.08, 0.03, 0.12).outcome is Outcome.inconclusive
    assert gap(0.08, None, None).outcome is Outcome.inconclusive
    failed = gap(0.2, 0.1, 0.3)
    assert failed.outcome is Outcome.failed
    assert "0.7 (F) to 0.9 (M)" in failed.sentence
    assert failed.interval == (0.1, 0.3)


def test_a_gap_between_fewer_than_two_judged_slices_cannot_be_told() -> None:
    assert gap(0.2, 0.1, 0.3, rows=99).outcome is Outcome.inconclusive


def test_latency_counts_failed_requests_as_failure_and_needs_twenty() -> None:
    gate = Latency(p95_ms=20)
    assert gate.decide({"latency": {"p95_ms": 19, "requests": 50, "errors": 0}}).outcome is Outcome.passed
    assert gate.decide({"latency": {"p95_ms": 21, "requests": 50}}).outcome is Outcome.failed
    assert gate.decide({"latency": {"p95_ms": 1, "requests": 19}}).outcome is Outcome.inconclusive
    assert gate.decide({"latency": {"p95_ms": 1, "requests": 50, "errors": 1}}).outcome is Outcome.failed


def test_skew_is_any_row_that_is_predicted_differently() -> None:
    gate = NoSkew()
    assert gate.decide({"skew": {"rows": 100, "differing": 0, "largest": 0}}).outcome is Outcome.passed
    assert gate.decide({"skew": {"rows": 100, "differing": 0, "largest": 0.1}}).outcome is Outcome.failed
    assert gate.decide({"skew": {"rows": 100, "differing": 2, "largest": None}}).outcome is Outcome.failed


@pytest.mark.parametrize(
    ("returned", "outcome"),
    [
        (True, Outcome.passed),
        (np.bool_(True), Outcome.passed),
        (False, Outcome.failed),
        ("too few rows", Outcome.failed),
        (None, Outcome.inconclusive),
        (1, Outcome.inconclusive),
        ("", Outcome.inconclusive),
        (GateResult("", Outcome.passed, "fine"), Outcome.passed),
    ],
)
def test_what_a_gate_function_returns_is_understood(returned: object, outcome: Outcome) -> None:
    result = interpret("enough_rows", returned)
    assert (result.gate, result.outcome) == ("enough_rows", outcome)
