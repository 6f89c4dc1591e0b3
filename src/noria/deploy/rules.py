"""How a new version takes over: pure decisions from facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from noria.core.policy import Policy, wants_duration, wants_number
from noria.core.units import Duration, format_duration, parse_duration
from noria.deploy import harm

__all__ = ["Canary", "CanaryDecision", "Direct", "Rollout"]

Facts = Mapping[str, Any]

Action = Literal["hold", "advance", "promote", "roll back"]


@dataclass(frozen=True, slots=True)
class CanaryDecision:
    """What to do with the canary now, and why."""

    action: Action
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
    """A version that passed its gates serves a growing share of traffic, if wanted after a time as a shadow.

    It goes back at the first sure sign of harm: more errors, slower answers, a worse loss once labels arrive.

    Attributes:
        steps: percentages of traffic, growing. 100 at the end may be left out: it is the promotion.
        hold: shortest time at each step.
        max_error_rate_increase: how much larger the share of failed requests may be than the champion's.
        min_requests: fewest requests answered by the challenger at each step.
        shadow: how long, before the first percentage, it is asked along with every request: what it says is recorded
            and never given. None leaves that step out.
        max_latency_increase: how much slower, in proportion, the p95 of single-row requests may be than the
            champion's; up to 5 ms more is never harm. None does not look at latency.
        min_agreement: smallest share of a shadow's answers that must equal those given: classes exactly, numbers
            within 1 % of the larger. None asks for none.

    Example:
        ``Canary(shadow="1d", steps=(5, 25, 100), hold="30m", min_agreement=0.9)``
    """

    steps: tuple[float, ...] = (5, 25, 100)
    hold: Duration = "30m"
    max_error_rate_increase: float = 0.01
    min_requests: int = 30
    shadow: Duration | None = None
    max_latency_increase: float | None = 0.5
    min_agreement: float | None = None

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
        yield from wants_duration("shadow", self.shadow, optional=True, zero=False)
        if self.max_latency_increase is not None:
            yield from wants_number("max_latency_increase", self.max_latency_increase, 0)
        if self.min_agreement is not None:
            yield from wants_number("min_agreement", self.min_agreement, 0, 1)
            if self.shadow is None:
                yield 'min_agreement is asked of a shadow: give shadow="1d" too.'

    @property
    def shares(self) -> tuple[float, ...]:
        """Percentages served on the way; after the last comes the promotion."""
        return tuple(step for step in self.steps if step < 100)

    def decide(self, facts: Facts) -> CanaryDecision:
        """What to do now.

        Reads::

            step              index into `shares` of the step in force; -1: it is a shadow
            seconds_in_step   how long it has been in force
            requests_in_step  requests the challenger answered in this step (default: all it answered)
            challenger, champion
                {requests, errors} since the canary began, failed ones counted in both;
                optional latency_ms of single-row requests: `noria.deploy.harm.latency_facts`
                optional loss: {n, mean, variance} of the labelled rows among them
            agreement         optional {compared, agreed}: the shadow's answers, and those equal to the one given
        """
        step, shares = int(facts.get("step") or 0), self.shares
        shadow = step < 0 and self.shadow is not None
        found = self._harm(facts) or (self._disagreement(facts, sure=True) if shadow else "")
        if found:
            return CanaryDecision("roll back", found)
        if not shadow and not shares:
            return CanaryDecision("promote", "The canary has no step below 100 %: it serves all traffic from now on.")
        waiting = self._waiting(facts, shadow)
        if waiting:
            return CanaryDecision("hold", f"{self._place(step, shadow)}, waiting for {waiting}.")
        if shadow and (found := self._disagreement(facts, sure=False)):
            return CanaryDecision("roll back", found)
        if step + 1 < len(shares):
            return CanaryDecision("advance", f"{self._seen(facts, step, shadow)}: going on to {shares[step + 1]:g} %.")
        return CanaryDecision("promote", f"{self._seen(facts, step, shadow)}: it serves all traffic from now on.")

    def _place(self, step: int, shadow: bool) -> str:
        if shadow:
            return "As a shadow, asked along and never given"
        return f"At {self._share(step):g} % of traffic"

    def _share(self, step: int) -> float:
        """The percentage of a step; of one the declaration no longer has, the nearest."""
        return self.shares[min(max(step, 0), len(self.shares) - 1)]

    def _seen(self, facts: Facts, step: int, shadow: bool) -> str:
        """That there was no harm, with the numbers there are."""
        requests, failed = harm.requests_and_errors(facts, "challenger")
        numbers = [f"{failed} of {requests} requests failed"] if requests else []
        ours, theirs = harm.latencies(facts, "challenger"), harm.latencies(facts, "champion")
        if ours is not None and theirs is not None:
            numbers.append(f"p95 {ours['p95']:.3g} ms against {theirs['p95']:.3g} ms")
        compared, agreed = harm.agreement(facts)
        if shadow and compared:
            numbers.append(f"{agreed} of {compared} answers as the champion's")
        place = "as a shadow" if shadow else f"at {self._share(step):g} %"
        return f"No harm seen {place}" + (f" ({', '.join(numbers)})" if numbers else "")

    def _waiting(self, facts: Facts, shadow: bool) -> str:
        hold = parse_duration(self.shadow if shadow and self.shadow is not None else self.hold)
        left = hold - timedelta(seconds=float(facts.get("seconds_in_step") or 0))
        answered = harm.requests_and_errors(facts, "challenger")[0]
        requests = int(facts.get("requests_in_step", answered) or 0)
        reasons = []
        if left > timedelta(0):
            shown = timedelta(seconds=max(1, round(left.total_seconds())))
            reasons.append(f"{format_duration(shown)} more of {format_duration(hold)}")
        if requests < self.min_requests:
            reasons.append(f"{self.min_requests - requests} more of {self.min_requests} requests")
        elif shadow and self.min_agreement is not None:
            wanted = max(1, self.min_requests)
            compared, _ = harm.agreement(facts)
            if compared < wanted:
                reasons.append(f"{wanted - compared} more of {wanted} answers to compare")
        return " and ".join(reasons)

    def _disagreement(self, facts: Facts, sure: bool) -> str:
        """Whether the shadow says something else than the champion too often; early on only if that is sure."""
        compared, agreed = harm.agreement(facts)
        if self.min_agreement is None or compared < max(1, self.min_requests):
            return ""
        share = harm.sure_share(agreed, compared)[1] if sure else agreed / compared
        if share >= self.min_agreement:
            return ""
        return (
            f"As a shadow the challenger gave {agreed} of {compared} answers as the champion did "
            f"({agreed / compared:.1%}), and {self.min_agreement:.1%} is asked: rolled back."
        )

    def _harm(self, facts: Facts) -> str:
        return (
            harm.errors(facts, self.max_error_rate_increase)
            or harm.latency(facts, self.max_latency_increase, self.min_requests)
            or harm.loss(facts, self.min_requests)
        )


Rollout = Direct | Canary
