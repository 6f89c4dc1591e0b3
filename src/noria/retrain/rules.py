"""What starts the next turn: pure decisions from facts.

Every trigger has ``decide(facts) -> RetrainDecision``. All read from one mapping (missing entries count as
None, 0 or empty; times are timezone-aware)::

    now                    datetime
    last_turn_started      datetime of the newest turn, whatever came of it; None before the first
    alerts                 alerts raised since that turn started, oldest first:
                           [{id, kind, at: datetime, since: datetime | None, sentence}]
    rows_since_training    labelled rows that came after those the newest turn trained on
    regime                 None, or, after a turn that an alarm led to:
                           {alert: id, since: datetime, rows: labelled rows since ``since`` now,
                            rows_then: those there were when the newest of its turns started,
                            outcome: how that turn ended ("promoted", "rejected", ...; None while it runs;
                            "inconclusive" when no gate failed but one could not tell)}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from noria.core.policy import Policy, wants_duration, wants_names, wants_number
from noria.core.units import Duration, format_duration, parse_duration

__all__ = ["ALERT_KINDS", "Every", "OnAlarm", "OnNewRows", "RetrainDecision", "Trigger"]

Facts = Mapping[str, Any]

ALERT_KINDS = ("performance", "drift", "schema", "serving")


@dataclass(frozen=True, slots=True)
class RetrainDecision:
    """Whether a new turn is wanted, and why or why not.

    Attributes:
        alert: id of the alert behind it, if any.
    """

    wanted: bool
    reason: str
    alert: str | None = None


@dataclass(frozen=True, slots=True)
class Every(Policy):
    """A turn each ``interval``, counted from the start of the newest turn.

    Example:
        ``Every("7d")``
    """

    interval: Duration

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_duration("interval", self.interval, zero=False)

    def decide(self, facts: Facts) -> RetrainDecision:
        """Reads ``now`` and ``last_turn_started``."""
        interval = parse_duration(self.interval)
        started: datetime | None = facts.get("last_turn_started")
        if started is None:
            return RetrainDecision(True, "There has been no turn yet.")
        age = facts["now"] - started
        if age >= interval:
            return RetrainDecision(True, f"The newest turn started {_ago(age)} ago; one is due each {_ago(interval)}.")
        return RetrainDecision(False, f"The next turn is due in {_ago(interval - age)}.")


@dataclass(frozen=True, slots=True)
class OnAlarm(Policy):
    """A turn when an alert of one of ``kinds`` is raised, at most one each ``cooldown``.

    Right after a change the rows of the new regime are few, and a challenger trained on them is only a
    first aid. So with ``follow_up``, once such a turn ended in a promotion, another is wanted each time the
    labelled rows since the estimated change have doubled, or ``at_most`` has passed, until a gate fails a
    challenger: then there is nothing more to learn. A gate that could not tell asks for more rows, not for an end.

    Example:
        ``OnAlarm(cooldown="1d")``
    """

    cooldown: Duration = "1d"
    kinds: tuple[str, ...] = ("performance",)
    follow_up: bool = True
    at_most: Duration = "30d"

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_duration("cooldown", self.cooldown)
        yield from wants_duration("at_most", self.at_most, zero=False)
        found = list(wants_names("kinds", self.kinds))
        yield from found
        if not found:
            unknown = [kind for kind in self.kinds if kind not in ALERT_KINDS]
            if unknown or not self.kinds:
                yield f"kinds must be some of {', '.join(ALERT_KINDS)}, not {self.kinds!r}."

    def decide(self, facts: Facts) -> RetrainDecision:
        """Reads ``now``, ``last_turn_started``, ``alerts`` and ``regime``."""
        alert = next((alert for alert in facts.get("alerts") or () if alert["kind"] in self.kinds), None)
        wish = self._follow_up(facts) if alert is None else _answer(alert)
        if not wish.wanted:
            return wish
        started: datetime | None = facts.get("last_turn_started")
        left = timedelta(0) if started is None else parse_duration(self.cooldown) - (facts["now"] - started)
        if left > timedelta(0):
            return RetrainDecision(False, f"{wish.reason} Cooling down for another {_ago(left)}.", wish.alert)
        return wish

    def _follow_up(self, facts: Facts) -> RetrainDecision:
        regime: Facts | None = facts.get("regime")
        if not self.follow_up or not regime:
            return RetrainDecision(False, "No alarm since the newest turn.")
        if regime.get("outcome") not in ("promoted", "inconclusive"):
            return RetrainDecision(False, "No alarm since the newest turn, which did not end in a promotion.")
        rows, then = int(regime.get("rows") or 0), int(regime.get("rows_then") or 0)
        wanted = max(1, 2 * then)
        since = f"labelled rows since the change at {_moment(regime.get('since'))}"
        if rows >= wanted:
            sentence = f"There are {rows} {since}, {then} when the newest turn started."
            return RetrainDecision(True, sentence, regime.get("alert"))
        started: datetime | None = facts.get("last_turn_started")
        if started is not None and rows > then and facts["now"] - started >= parse_duration(self.at_most):
            sentence = f"There are {rows} {since}, and the newest turn started {_ago(facts['now'] - started)} ago."
            return RetrainDecision(True, sentence, regime.get("alert"))
        return RetrainDecision(False, f"There are {rows} {since}; the next turn is due at {wanted}.")


@dataclass(frozen=True, slots=True)
class OnNewRows(Policy):
    """A turn when ``rows`` labelled rows have come that the newest turn did not train on.

    Example:
        ``OnNewRows(10_000)``
    """

    rows: int

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_number("rows", self.rows, 1, whole=True)

    def decide(self, facts: Facts) -> RetrainDecision:
        """Reads ``rows_since_training``."""
        came = int(facts.get("rows_since_training") or 0)
        return RetrainDecision(came >= self.rows, f"{came} new labelled rows; a turn is due at {self.rows}.")


Trigger = Every | OnAlarm | OnNewRows


def _answer(alert: Facts) -> RetrainDecision:
    return RetrainDecision(True, f"Alarm: {alert.get('sentence') or alert['kind']}", str(alert["id"]))


def _moment(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else "an unknown time"


def _ago(length: timedelta) -> str:
    """The length in words, to the minute when it is longer than an hour."""
    step = timedelta(minutes=1) if length >= timedelta(hours=1) else timedelta(seconds=1)
    return format_duration(max(step, round(length / step) * step))
