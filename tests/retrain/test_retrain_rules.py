from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import Every, OnAlarm, OnNewRows

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
ALERT = {
    "id": "a1",
    "kind": "performance",
    "at": NOW,
    "since": None,
    "sentence": "Error is up by a third.",
}


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def regime(rows: int, then: int, outcome: str | None = "promoted") -> dict[str, Any]:
    return {"alert": "a1", "since": ago(days=9), "rows": rows, "rows_then": then, "outcome": outcome}


def test_every_is_due_when_its_interval_has_passed() -> None:
    assert Every("7d").decide({"now": NOW, "last_turn_started": None}).wanted
    assert Every("7d").decide({"now": NOW, "last_turn_started": ago(days=7)}).wanted
    early = Every("7d").decide({"now": NOW, "last_turn_started": ago(days=6)})
    assert (early.wanted, early.reason) == (False, "The next turn is due in 1d.")


def test_an_alarm_asks_for_a_turn_and_says_which() -> None:
    found = OnAlarm().decide({"now": NOW, "last_turn_started": ago(days=5), "alerts": [ALERT]})
    assert (found.wanted, found.alert) == (True, "a1")
    assert "up by a third" in found.reason


def test_an_alarm_of_another_kind_asks_for_nothing() -> None:
    facts = {"now": NOW, "last_turn_started": ago(days=5), "alerts": [{**ALERT, "kind": "drift"}]}
    assert not OnAlarm().decide(facts).wanted
    assert OnAlarm(kinds=("drift",)).decide(facts).wanted


def test_an_alarm_waits_out_the_cool_down() -> None:
    cooling = OnAlarm().decide({"now": NOW, "last_turn_started": ago(hours=20), "alerts": [ALERT]})
    assert not cooling.wanted
    assert "Cooling down for another 4h" in cooling.reason


def test_after_a_promotion_another_turn_is_wanted_when_the_rows_have_doubled() -> None:
    facts = {"now": NOW, "last_turn_started": ago(days=3), "alerts": []}
    assert not OnAlarm().decide({**facts, "regime": regime(1999, 1000)}).wanted
    doubled = OnAlarm().decide({**facts, "regime": regime(2000, 1000)})
    assert (doubled.wanted, doubled.alert) == (True, "a1")
    assert not OnAlarm(follow_up=False).decide({**facts, "regime": regime(2000, 1000)}).wanted
    assert not OnAlarm().decide({**facts, "last_turn_started": NOW, "regime": regime(2000, 1000)}).wanted


@pytest.mark.parametrize("outcome", ["rejected", "rolled back", "failed", None])
def test_the_follow_up_ends_with_the_first_turn_that_does_not_promote(outcome: str | None) -> None:
    facts = {"now": NOW, "last_turn_started": ago(days=3), "regime": regime(10**6, 10, outcome)}
    assert not OnAlarm().decide(facts).wanted


@given(st.integers(1, 10**6), st.integers(1, 365))
def test_follow_ups_grow_rare_as_rows_come_in(per_day: int, days: int) -> None:
    rule, then, turns, started = OnAlarm(at_most="3650d"), per_day, 0, NOW
    for day in range(2, days + 2):
        now = NOW + timedelta(days=day)
        facts = {"now": now, "last_turn_started": started, "regime": regime(per_day * day, then)}
        if rule.decide(facts).wanted:
            turns, then, started = turns + 1, per_day * day, now
    assert turns <= (days + 2).bit_length()


def test_a_follow_up_waits_no_longer_than_at_most_while_challengers_win() -> None:
    facts = {"now": NOW + timedelta(days=30), "last_turn_started": NOW, "regime": regime(1100, 1000)}
    assert OnAlarm(at_most="30d").decide(facts).wanted
    assert not OnAlarm(at_most="31d").decide(facts).wanted
    assert not OnAlarm(at_most="30d").decide({**facts, "regime": regime(1000, 1000)}).wanted


def test_a_gate_that_could_not_tell_asks_for_more_rows_and_one_that_failed_ends_the_follow_ups() -> None:
    facts = {"now": NOW + timedelta(days=9), "last_turn_started": NOW}
    assert OnAlarm().decide({**facts, "regime": {**regime(2000, 1000), "outcome": "inconclusive"}}).wanted
    assert not OnAlarm().decide({**facts, "regime": {**regime(2000, 1000), "outcome": "rejected"}}).wanted


def test_new_rows_are_counted() -> None:
    assert OnNewRows(100).decide({"rows_since_training": 100}).wanted
    few = OnNewRows(100).decide({"rows_since_training": 99})
    assert (few.wanted, few.reason) == (False, "99 new labelled rows; a turn is due at 100.")
    assert not OnNewRows(100).decide({}).wanted


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Every("0d"), "longer than zero"),
        (Every("weekly"), "not a duration"),
        (OnAlarm(cooldown="1"), "no unit"),
        (OnAlarm(kinds=("harm",)), "performance, drift"),
        (OnNewRows(0), "at least 1"),
    ],
)
def test_wrong_arguments_are_said(rule: Every | OnAlarm | OnNewRows, said: str) -> None:
    assert said in " ".join(rule.problems())
