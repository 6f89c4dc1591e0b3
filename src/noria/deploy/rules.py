"""How a new version takes over: pure decisions from facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite, sqrt
from typing import Any, Literal

from noria.core.policy import Policy, wants_duration, wants_number
from noria.core.units import Duration, format_duration, parse_duration

__all__ = ["Canary", "CanaryDecision", "Direct", "Rollout"]

Facts = Mapping[str, Any]

_SURE = 3.0
"""Standard errors asked before rolling back: the canary is looked at again and again."""
_ERRORS = 3
"""Fewest failed requests that can roll a canary back: one unlucky request must not."""


@dataclass(frozen=True, slots=True)
class CanaryDecision:
    """What to do with the canary now, and why."""

    action: Literal["hold", "advance", "promote", "roll back"]
    sentence: str


@dataclass(frozen=True, slots=True)
class Direct(Policy):
    """A version that passed its gates serves all traffic at once."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Percentages served on the way: none."""
        return ()

    def decide(self, facts: Facts) -> CanaryDecision:
        """Reads nothing: promotes."""
        return CanaryDecision("promote", "Deployed directly: it serves all traffic from now on.")


@dataclass(frozen=True, slots=True)
class Canary(Policy):
    """A version that passed its gates serves a growing share of traffic.

    It goes back at the first sure sign of harm.

    Attributes:
        steps: percentages of traffic, growing. 100 at the end may be left out: it is the promotion.
        hold: shortest time at each step.
        max_error_rate_increase: how much larger the share of failed requests may be than the champion's.
        min_requests: fewest requests answered by the challenger at each step.

    Example:
        ``Canary(steps=(5, 25, 100), hold="30m")``
    """

    steps: tuple[float, ...] = (5, 25, 100)
    hold: Duration = "30m"
    max_error_rate_increase: float = 0.01
    min_requests: int = 30

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        if not isinstance(self.steps, tuple) or not self.steps:
            yield f"steps must be a tuple of percentages such as (5, 25, 100), not {self.steps!r}."
        else:
            found = [text for step in self.steps for text in wants_number("steps", step, 0, 100, open_low=True)]
            yield from found
            if not found and list(self.steps) != sorted(set(self.steps)):
                yield f"steps must grow, not {self.steps!r}."
        yield from wants_duration("hold", self.hold)
        yield from wants_number("max_error_rate_increase", self.max_error_rate_increase, 0, 1)
        yield from wants_number("min_requests", self.min_requests, 0, whole=True)

    @property
    def shares(self) -> tuple[float, ...]:
        """Percentages served on the way; after the last comes the promotion."""
        return tuple(step for step in self.steps if step < 100)

    def decide(self, facts: Facts) -> CanaryDecision:
        """What to do now.

        Reads::

            step              index into `shares` of the step in force
            seconds_in_step   how long it has been in force
            requests_in_step  requests the challenger answered in this step (default: all it answered)
            challenger, champion
                {requests, errors} since the canary began, failed ones counted in both;
                optional loss: {n, mean, variance} of the labelled rows among them
        """
        harm = self._harm(facts)
        if harm:
            return CanaryDecision("roll back", harm)
        shares, step = self.shares, int(facts.get("step") or 0)
        if not shares:
            return CanaryDecision("promote", "The canary has no step below 100 %: it serves all traffic from now on.")
        waiting = self._waiting(facts)
        if waiting:
            return CanaryDecision("hold", f"At {shares[min(step, len(shares) - 1)]:g} % of traffic, {waiting}.")
        if step + 1 < len(shares):
            return CanaryDecision("advance", f"No harm seen at {shares[step]:g} %: going on to {shares[step + 1]:g} %.")
        return CanaryDecision("promote", f"No harm seen at {shares[-1]:g} %: it serves all traffic from now on.")

    def _waiting(self, facts: Facts) -> str:
        hold = parse_duration(self.hold)
        left = hold - timedelta(seconds=float(facts.get("seconds_in_step") or 0))
        requests = int(facts.get("requests_in_step", _role(facts, "challenger")[0]) or 0)
        reasons = []
        if left > timedelta(0):
            shown = timedelta(seconds=max(1, round(left.total_seconds())))
            reasons.append(f"{format_duration(shown)} more of {format_duration(hold)}")
        if requests < self.min_requests:
            reasons.append(f"{self.min_requests - requests} more of {self.min_requests} requests")
        return f"waiting for {' and '.join(reasons)}" if reasons else ""

    def _harm(self, facts: Facts) -> str:
        requests, errors = _role(facts, "challenger")
        others, other_errors = _role(facts, "champion")
        if errors >= _ERRORS and _sure_increase(errors, requests, other_errors, others) > self.max_error_rate_increase:
            champion = f"the champion {other_errors} of {others}" if others else "the champion had no requests"
            return f"The challenger failed {errors} of {requests} requests, {champion}: rolled back."
        ours, theirs = _loss(facts, "challenger"), _loss(facts, "champion")
        if ours is None or theirs is None or min(ours[0], theirs[0]) < max(2, self.min_requests):
            return ""
        worse = ours[1] - theirs[1]
        doubt = _SURE * sqrt(ours[2] / ours[0] + theirs[2] / theirs[0])
        if worse > doubt and worse > 0:
            return (
                f"The challenger's loss is {ours[1]:.4g} on {ours[0]:.0f} labelled rows, the champion's "
                f"{theirs[1]:.4g} on {theirs[0]:.0f}: worse by {worse:.4g}, at least {worse - doubt:.4g}. "
                "Rolled back."
            )
        return ""


Rollout = Direct | Canary


def _role(facts: Facts, role: str) -> tuple[int, int]:
    found = facts.get(role) or {}
    return int(found.get("requests") or 0), int(found.get("errors") or 0)


def _loss(facts: Facts, role: str) -> tuple[float, float, float] | None:
    found = (facts.get(role) or {}).get("loss") or {}
    numbers = [float(found[name]) for name in ("n", "mean", "variance") if found.get(name) is not None]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 and all(map(isfinite, numbers)) else None


def _wilson(errors: int, requests: int) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, square = errors / requests, _SURE**2
    centre = (share + square / (2 * requests)) / (1 + square / requests)
    reach = _SURE * sqrt(share * (1 - share) / requests + square / (4 * requests**2)) / (1 + square / requests)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _sure_increase(errors: int, requests: int, other_errors: int, others: int) -> float:
    """Lower bound of the increase in error rate (Newcombe); a champion without requests is faultless."""
    low, _ = _wilson(errors, requests)
    if not others:
        return low
    share, other = errors / requests, other_errors / others
    _, other_high = _wilson(other_errors, others)
    return share - other - sqrt((share - low) ** 2 + (other_high - other) ** 2)
