"""The gates: pure decisions from facts to a result with reasons.

Every gate has ``decide(facts) -> GateResult``. Facts that are missing, or are not finite numbers, give
``inconclusive`` with a sentence; "cannot tell" is never a pass. All gates read from one mapping::

    metrics     {name: number}                     what `evaluate` returned
    champion    version number, or None            None: nothing serves yet
    comparison  {metric: {challenger, champion, improvement, low, high, rows}}    see `bootstrap.compare`
    slices      {column: {metric: {slices: [{slice, rows, value, judged}], gap, low, high}}}
                                                   see `bootstrap.slice_gap`
    latency     {p95_ms, requests, errors}         of single-row requests through the real endpoint
    skew        {rows, differing, largest}         training rows replayed through the real endpoint:
                                                   rows compared, rows differing by more than the
                                                   tolerance, largest difference
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from noria.core.canonical import BY_NAME, describe
from noria.core.policy import Policy, wants_name, wants_number
from noria.records.validation import GateResult, Outcome
from noria.validate.facts import Facts, number, part, shown
from noria.validate.interpret import interpret

__all__ = ["AtLeast", "AtMost", "BeatsChampion", "Gate", "Latency", "NoSkew", "SliceGap", "interpret"]


@runtime_checkable
class Gate(Protocol):
    """What decides whether a challenger may go on."""

    def decide(self, facts: Facts) -> GateResult:
        """The outcome on these facts; pure, never raises for missing facts."""
        ...


@dataclass(frozen=True, slots=True)
class AtLeast(Policy):
    """The metric, as `evaluate` returned it, reaches a threshold.

    Example:
        ``AtLeast("roc_auc", 0.8).decide({"metrics": {"roc_auc": 0.83}}).outcome`` is ``pass``.
    """

    metric: str
    threshold: float

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("metric", self.metric)
        yield from wants_number("threshold", self.threshold)

    def decide(self, facts: Facts) -> GateResult:
        """Reads ``metrics``."""
        return _threshold(self, facts, above=True)


@dataclass(frozen=True, slots=True)
class AtMost(Policy):
    """The metric, as `evaluate` returned it, stays at or below a threshold."""

    metric: str
    threshold: float

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("metric", self.metric)
        yield from wants_number("threshold", self.threshold)

    def decide(self, facts: Facts) -> GateResult:
        """Reads ``metrics``."""
        return _threshold(self, facts, above=False)


@dataclass(frozen=True, slots=True)
class BeatsChampion(Policy):
    """The challenger is better than the champion on the same newest rows.

    Two claims are made, and they need different proof. *It is better*: the one-sided lower end of the paired
    interval must lie above zero. *It is better by enough*: the estimate itself must reach ``by``; asking
    the lower end to reach it too would turn away most challengers that are better by just that much. With a
    negative ``by`` the claim is only *it is not worse by more than that*, and the lower end must reach it.
    It fails when the upper end shows that it cannot be so, else the gate cannot tell.

    Attributes:
        by: smallest improvement worth a change, in the metric's own units, whichever way is better.
        confidence: of each end of the interval.
    """

    metric: str
    by: float = 0.0
    confidence: float = 0.95

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("metric", self.metric)
        yield from wants_number("by", self.by)
        yield from wants_number("confidence", self.confidence, 0.5, 1, open_high=True)

    def decide(self, facts: Facts) -> GateResult:
        """Reads ``champion`` and ``comparison``."""
        if "champion" not in facts:
            return _cannot_tell(self, "It is not known whether there is a champion.")
        if facts["champion"] is None:
            return GateResult(describe(self), Outcome.passed, "There is no champion to beat.", threshold=self.by)
        found = part(facts, "comparison", self.metric)
        gain, low, high = (number(found, name) for name in ("improvement", "low", "high"))
        if gain is None or low is None or high is None:
            return _cannot_tell(self, f"{self.metric} of the two models could not be compared.", found)
        outcome, why = self._judge(gain, low, high)
        rows = f" on the same {found['rows']} rows" if "rows" in found else ""
        sentence = (
            f"{self.metric} {shown(found.get('challenger'))} against the champion's "
            f"{shown(found.get('champion'))}{rows}: better by {shown(gain)} "
            f"({self.confidence:.0%} interval {shown(low)} to {shown(high)}); {why}."
        )
        return GateResult(describe(self), outcome, sentence, gain, self.by, (low, high), dict(found))

    def _judge(self, gain: float, low: float, high: float) -> tuple[Outcome, str]:
        if self.by < 0:
            if low >= self.by:
                return Outcome.passed, f"it is not worse by more than {shown(-self.by)}"
            if high < self.by:
                return Outcome.failed, f"it is worse by more than {shown(-self.by)}"
            return Outcome.inconclusive, f"it may or may not be worse by more than {shown(-self.by)}"
        if high <= 0 or high < self.by:
            return (
                Outcome.failed,
                f"an improvement of {shown(self.by)} is ruled out" if self.by else "it is no better",
            )
        if low > 0 and gain >= self.by:
            return (
                Outcome.passed,
                f"it is better, by {shown(self.by)} or more" if self.by else "it is better",
            )
        wanted = "is better" if low <= 0 else f"is better by {shown(self.by)}"
        return Outcome.inconclusive, f"these rows cannot tell whether it {wanted}"


@dataclass(frozen=True, slots=True)
class SliceGap(Policy):
    """The metric differs between slices of the rows by no more than ``max_gap``.

    It fails only when the gap's interval lies wholly above ``max_gap``; it passes when the gap itself, or
    its whole interval, is within it; else the gate cannot tell. Slices under ``min_rows`` rows are not
    judged, and with fewer than two judged the gate cannot tell.
    """

    column: str
    metric: str
    max_gap: float = field(metadata=BY_NAME)
    min_rows: int = 100

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("column", self.column)
        yield from wants_name("metric", self.metric)
        yield from wants_number("max_gap", self.max_gap, 0)
        yield from wants_number("min_rows", self.min_rows, 1, whole=True)

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.column,)

    def decide(self, facts: Facts) -> GateResult:
        """Reads ``slices``."""
        found = part(part(facts, "slices", self.column), self.metric)
        judged = [row for row in found.get("slices", ()) if row.get("judged", row["rows"] >= self.min_rows)]
        gap, low, high = (number(found, name) for name in ("gap", "low", "high"))
        if not found:
            return _cannot_tell(self, f'{self.metric} by "{self.column}" was not measured.')
        if len(judged) < 2 or gap is None:
            small = f'Only {len(judged)} slices of "{self.column}" can be judged ({self.min_rows} rows or more).'
            return _cannot_tell(self, small, found)
        ends = sorted(judged, key=lambda row: float(row["value"]))
        outcome = Outcome.inconclusive
        if gap <= self.max_gap or (high is not None and high <= self.max_gap):
            outcome = Outcome.passed
        elif low is not None and low > self.max_gap:
            outcome = Outcome.failed
        band = None if low is None or high is None else (low, high)
        around = f" (interval {shown(low)} to {shown(high)})" if band else ""
        ruling = {
            Outcome.passed: "within",
            Outcome.failed: "more than",
            Outcome.inconclusive: "not surely within",
        }
        sentence = (
            f'{self.metric} by "{self.column}" runs from {shown(ends[0]["value"])} ({ends[0]["slice"]}) to '
            f"{shown(ends[-1]['value'])} ({ends[-1]['slice']}): a gap of {shown(gap)}{around}, "
            f"{ruling[outcome]} {shown(self.max_gap)}."
        )
        return GateResult(describe(self), outcome, sentence, gap, self.max_gap, band, dict(found))


@dataclass(frozen=True, slots=True)
class Latency(Policy):
    """95 of 100 single-row requests through the real endpoint are answered within ``p95_ms``."""

    p95_ms: float = field(metadata=BY_NAME)

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_number("p95_ms", self.p95_ms, 0, open_low=True)

    def decide(self, facts: Facts) -> GateResult:
        """Reads ``latency``; at least 20 requests are needed to speak of 95 in 100."""
        found = part(facts, "latency")
        p95, requests, errors = (number(found, name) for name in ("p95_ms", "requests", "errors"))
        if errors:
            return GateResult(
                describe(self),
                Outcome.failed,
                f"{errors:.0f} of {requests or 0:.0f} requests were not answered.",
                p95,
                self.p95_ms,
                facts=dict(found),
            )
        if p95 is None or requests is None or requests < 20:
            return _cannot_tell(self, "Latency was not measured on 20 requests or more.", found)
        outcome = Outcome.passed if p95 <= self.p95_ms else Outcome.failed
        sentence = (
            f"95 of 100 requests took {shown(p95)} ms or less ({requests:.0f} requests); "
            f"at most {shown(self.p95_ms)} ms is allowed."
        )
        return GateResult(describe(self), outcome, sentence, p95, self.p95_ms, facts=dict(found))


@dataclass(frozen=True, slots=True)
class NoSkew(Policy):
    """Training rows replayed through the real endpoint give the predictions that training gave.

    Attributes:
        rows: how many rows are replayed.
        tolerance: largest difference of a prediction that counts as none.
    """

    rows: int = 100
    tolerance: float = 1e-6

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_number("rows", self.rows, 1, whole=True)
        yield from wants_number("tolerance", self.tolerance, 0)

    def decide(self, facts: Facts) -> GateResult:
        """Reads ``skew``."""
        found = part(facts, "skew")
        rows, differing = number(found, "rows"), number(found, "differing")
        largest = number(found, "largest")
        if not rows or differing is None:
            return _cannot_tell(self, "No training row was replayed through the endpoint.", found)
        if differing or (largest is not None and largest > self.tolerance):
            by = "" if largest is None else f", by up to {shown(largest)}"
            sentence = f"{differing:.0f} of {rows:.0f} replayed rows are predicted differently when served{by}."
            return GateResult(describe(self), Outcome.failed, sentence, largest, self.tolerance, facts=dict(found))
        sentence = f"{rows:.0f} replayed rows are predicted the same when served."
        return GateResult(describe(self), Outcome.passed, sentence, largest, self.tolerance, facts=dict(found))


def _threshold(gate: AtLeast | AtMost, facts: Facts, above: bool) -> GateResult:
    value = number(part(facts, "metrics"), gate.metric)
    if value is None:
        known = ", ".join(sorted(map(str, part(facts, "metrics")))) or "nothing"
        return _cannot_tell(gate, f'evaluate gave no usable number for "{gate.metric}" (it gave: {known}).')
    reached = value >= gate.threshold if above else value <= gate.threshold
    words = ("at least" if above else "at most") if reached else ("below" if above else "above")
    sentence = f"{gate.metric} is {shown(value)}, {words} {shown(gate.threshold)}."
    return GateResult(describe(gate), Outcome.passed if reached else Outcome.failed, sentence, value, gate.threshold)


def _cannot_tell(gate: Policy, sentence: str, facts: Facts | None = None) -> GateResult:
    return GateResult(describe(gate), Outcome.inconclusive, f"Cannot tell. {sentence}", facts=dict(facts or {}))
