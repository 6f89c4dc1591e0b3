from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import Canary, Direct
from noria.deploy.rules import CanaryDecision

RULE = Canary(steps=(5, 25, 100), hold="30m", min_requests=30)


def decide(step: int = 0, seconds: float = 1800, rule: Canary = RULE, **roles: Any) -> CanaryDecision:
    facts = {
        "step": step,
        "seconds_in_step": seconds,
        "challenger": {"requests": 100, "errors": 0},
        "champion": {"requests": 1000, "errors": 0},
        **roles,
    }
    return rule.decide(facts)


def test_a_harmless_canary_goes_step_by_step_to_promotion() -> None:
    assert decide(0).action == "advance"
    assert "25 %" in decide(0).sentence
    assert decide(1).action == "promote"


def test_it_holds_until_time_and_requests_are_enough_and_says_what_it_waits_for() -> None:
    held = decide(seconds=600, challenger={"requests": 12, "errors": 0})
    assert held.action == "hold"
    assert held.sentence == "At 5 % of traffic, waiting for 20m more of 30m and 18 more of 30 requests."
    assert decide(requests_in_step=3).action == "hold"


def test_it_rolls_back_when_errors_double_to_a_sure_harm() -> None:
    bad = decide(seconds=0, challenger={"requests": 200, "errors": 60}, champion={"requests": 2000, "errors": 100})
    assert bad.action == "roll back"
    assert "60 of 200" in bad.sentence


def test_a_few_unlucky_requests_do_not_roll_it_back() -> None:
    assert decide(challenger={"requests": 2, "errors": 2}).action == "hold"
    ten = {"requests": 1000, "errors": 10}
    assert decide(challenger={"requests": 100, "errors": 2}, champion=ten).action == "advance"


def test_a_challenger_that_fails_everything_goes_back_even_without_a_champion_in_sight() -> None:
    gone = decide(challenger={"requests": 20, "errors": 20}, champion={"requests": 0, "errors": 0})
    assert gone.action == "roll back"


def loss(mean: float, n: int = 500) -> dict[str, Any]:
    return {"requests": n, "errors": 0, "loss": {"n": n, "mean": mean, "variance": 4.0}}


def test_it_rolls_back_on_a_surely_worse_loss_and_not_on_a_better_or_an_unsure_one() -> None:
    assert decide(challenger=loss(4.0), champion=loss(3.0)).action == "roll back"
    assert decide(challenger=loss(2.0), champion=loss(3.0)).action == "advance"
    assert decide(challenger=loss(3.1), champion=loss(3.0)).action == "advance"
    assert decide(challenger=loss(9.0, n=5), champion=loss(3.0)).action == "hold"
    assert decide(challenger=loss(float("nan")), champion=loss(3.0)).action == "advance"


def test_direct_and_a_canary_without_small_steps_promote_at_once() -> None:
    assert Direct().decide({}).action == "promote"
    assert Canary(steps=(100,)).decide({}).action == "promote"


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))
def test_it_never_rolls_back_a_challenger_that_fails_no_more_often(a: int, b: int, c: int, d: int) -> None:
    errors, requests = sorted((a, b))
    others_errors, others = sorted((c, d))
    if requests and others and errors / requests <= others_errors / others:
        found = decide(
            challenger={"requests": requests, "errors": errors},
            champion={"requests": others, "errors": others_errors},
        )
        assert found.action != "roll back"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Canary(steps=()), "steps must be a tuple"),
        (Canary(steps=(25, 5)), "must grow"),
        (Canary(steps=(0, 5)), "more than 0"),
        (Canary(steps=(5, 101)), "at most 100"),
        (Canary(hold="30"), "no unit"),
        (Canary(max_error_rate_increase=2), "at most 1"),
        (Canary(min_requests=-1), "at least 0"),
    ],
)
def test_wrong_arguments_are_said(rule: Canary, said: str) -> None:
    assert said in " ".join(rule.problems())
