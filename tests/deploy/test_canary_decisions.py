"""Shadow, latency and agreement: what a canary decides, and what it never does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import Canary
from noria.deploy.harm import latency_facts
from noria.deploy.rules import CanaryDecision

RULE = Canary(shadow="1d", steps=(5, 25, 100), hold="30m", min_requests=30, min_agreement=0.9)
DAY = 86_400.0


def decide(step: int = -1, seconds: float = DAY, rule: Canary = RULE, **more: Any) -> CanaryDecision:
    facts = {
        "step": step,
        "seconds_in_step": seconds,
        "requests_in_step": 100,
        "challenger": {"requests": 100, "errors": 0},
        "champion": {"requests": 1000, "errors": 0},
        "agreement": {"compared": 100, "agreed": 97},
        **more,
    }
    return rule.decide(facts)


def side(p95: float, n: int = 300, spread: float = 0.0) -> dict[str, Any]:
    found = {"n": n, "p50": p95 / 2, "p95": p95, "low": p95 - spread, "high": p95 + spread}
    return {"requests": n, "errors": 0, "latency_ms": found}


def test_a_shadow_without_harm_goes_on_to_the_first_percentage_and_says_what_was_seen() -> None:
    found = decide()
    assert found.action == "advance"
    assert found.sentence == (
        "No harm seen as a shadow (0 of 100 requests failed, 97 of 100 answers as the champion's): going on to 5 %."
    )


def test_a_shadow_waits_for_its_time_its_requests_and_answers_to_compare() -> None:
    found = decide(seconds=0, requests_in_step=12)
    assert found.action == "hold"
    assert found.sentence == (
        "As a shadow, asked along and never given, waiting for 1d more of 1d and 18 more of 30 requests."
    )
    none = decide(agreement={"compared": 10, "agreed": 10})
    assert none.sentence.endswith("waiting for 20 more of 30 answers to compare.")


def test_a_shadow_before_nothing_but_the_whole_is_promoted_after_its_time() -> None:
    rule = Canary(shadow="1h", steps=(100,))
    assert decide(seconds=0, rule=rule).action == "hold"
    assert decide(rule=rule).action == "promote"


def test_a_shadow_that_is_no_longer_declared_goes_on() -> None:
    assert decide(rule=Canary(steps=(5,))).action == "advance"
    assert decide(rule=Canary(steps=(100,))).action == "promote"


def test_a_shadow_that_says_something_else_is_rolled_back_at_once_if_that_is_sure_and_at_the_end_else() -> None:
    sure = decide(seconds=1, agreement={"compared": 100, "agreed": 40})
    assert sure.action == "roll back"
    assert sure.sentence == (
        "As a shadow the challenger gave 40 of 100 answers as the champion did (40.0%), and 90.0% is asked: "
        "rolled back."
    )
    unsure = {"compared": 100, "agreed": 87}
    assert decide(seconds=1, agreement=unsure).action == "hold"
    assert decide(agreement=unsure).action == "roll back"
    assert decide(agreement=unsure, rule=Canary(shadow="1d")).action == "advance"
    assert decide(0, agreement=unsure).action == "advance", "no longer a shadow"


def test_a_slower_challenger_is_rolled_back_with_the_numbers() -> None:
    found = decide(0, seconds=0, challenger=side(60.0, spread=10), champion=side(20.0, spread=2))
    assert found.action == "roll back"
    assert found.sentence == (
        "The challenger's p95 latency is 60 ms over 300 single-row requests, the champion's 20 ms over 300: at least "
        "50 ms against at most 22 ms, and 50% more is allowed. Rolled back."
    )
    assert decide(challenger=side(60.0, spread=10), champion=side(20.0)).action == "roll back", "as a shadow too"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (side(29.0), side(20.0)),  # within what is allowed
        (side(5.9), side(1.0)),  # much slower, and less than 5 ms
        (side(60.0, spread=31), side(20.0)),  # not sure
        (side(60.0, n=10), side(20.0)),  # too few
        (side(60.0), side(20.0, n=10)),
        (side(60.0), {"requests": 9, "errors": 0}),  # nothing to compare with
        (side(float("nan")), side(1.0)),
    ],
)
def test_latencies_that_are_no_sure_harm_do_not_roll_back(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert decide(0, challenger=ours, champion=theirs).action != "roll back"


def test_latency_is_not_looked_at_unless_asked() -> None:
    rule = Canary(max_latency_increase=None)
    assert decide(0, rule=rule, challenger=side(900.0), champion=side(1.0)).action == "advance"


def test_the_bounds_of_p95_are_ranks_around_it() -> None:
    found = latency_facts([float(value) for value in range(1, 1001)])
    assert found == {"n": 1000.0, "p50": 500.0, "p95": 950.0, "low": 929.0, "high": 971.0}
    assert latency_facts([3.0]) == {"n": 1.0, "p50": 3.0, "p95": 3.0, "low": 3.0, "high": 3.0}
    assert latency_facts([]) is None


counts = st.integers(0, 500)
milliseconds = st.lists(st.floats(0.01, 1000), max_size=60)


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    def role() -> dict[str, Any]:
        requests = draw(counts)
        loss = {"n": draw(counts), "mean": draw(st.floats(0, 1)), "variance": draw(st.floats(0, 1))}
        return {
            "requests": requests,
            "errors": draw(st.integers(0, requests)),
            "latency_ms": latency_facts(draw(milliseconds)),
            "loss": draw(st.sampled_from([None, loss])),
        }

    compared = draw(counts)
    return {
        "step": draw(st.integers(-1, 3)),
        "seconds_in_step": draw(st.floats(0, 3 * DAY)),
        "requests_in_step": draw(counts),
        "challenger": role(),
        "champion": role(),
        "agreement": {"compared": compared, "agreed": draw(st.integers(0, compared))},
    }


rules = st.builds(
    Canary,
    steps=st.sampled_from([(5, 25, 100), (50,), (5, 25)]),
    shadow=st.sampled_from([None, "1h", "1d"]),
    min_requests=st.integers(0, 300),
    min_agreement=st.sampled_from([None, 0.5, 0.99]),
    max_latency_increase=st.sampled_from([None, 0.0, 0.5]),
)


@given(rules, situations())
def test_it_never_goes_on_before_it_has_answered_enough_for_long_enough(rule: Canary, facts: dict[str, Any]) -> None:
    found = rule.decide(facts)
    if facts["step"] < 0 and rule.shadow is None:
        return  # a shadow that is no longer declared
    if found.action in ("advance", "promote"):
        assert facts["requests_in_step"] >= rule.min_requests
        assert facts["seconds_in_step"] >= (60 * 30 if facts["step"] >= 0 else 3600)
    assert found.sentence.endswith(".")


@given(rules, situations())
def test_what_it_goes_on_to_is_a_step_that_is_declared(rule: Canary, facts: dict[str, Any]) -> None:
    found = rule.decide(facts)
    if found.action == "advance":
        assert 0 <= facts["step"] + 1 < len(rule.shares)
    if found.action == "promote":
        assert facts["step"] + 1 >= len(rule.shares)


@given(situations(), st.lists(st.floats(0.01, 1000), min_size=20, max_size=200))
def test_the_same_latencies_are_never_harm(facts: dict[str, Any], found: list[float]) -> None:
    same = latency_facts(found)
    clean = {"requests": len(found), "errors": 0, "latency_ms": same}
    decision = Canary(max_latency_increase=0.0).decide({**facts, "challenger": clean, "champion": clean})
    assert decision.action != "roll back"


@given(milliseconds.filter(bool), milliseconds.filter(bool))
def test_less_than_the_floor_is_never_harm(ours: list[float], theirs: list[float]) -> None:
    slower = latency_facts([value / 250 for value in ours])  # at most 4 ms
    decision = decide(
        0,
        rule=Canary(max_latency_increase=0.0, min_requests=0),
        challenger={"requests": 60, "errors": 0, "latency_ms": slower},
        champion={"requests": 60, "errors": 0, "latency_ms": latency_facts(theirs)},
    )
    assert decision.action != "roll back"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Canary(shadow="30"), "shadow: '30' has no unit"),
        (Canary(shadow=0), "shadow must be longer than zero"),
        (Canary(max_latency_increase=-1), "max_latency_increase must be at least 0"),
        (Canary(shadow="1d", min_agreement=1.5), "min_agreement must be at most 1"),
        (Canary(min_agreement=0.9), "min_agreement is asked of a shadow"),
    ],
)
def test_wrong_arguments_are_said(rule: Canary, said: str) -> None:
    assert said in " ".join(rule.problems())


def test_right_arguments_have_no_problem() -> None:
    assert list(RULE.problems()) == []
    assert list(Canary(max_latency_increase=None).problems()) == []
