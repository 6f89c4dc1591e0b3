"""Evidence that a challenger does harm: pure, from counts and summaries, each verdict a sentence with its numbers.

A canary is looked at again and again, so nothing counts that is not three standard errors sure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, isfinite, sqrt
from typing import Any

__all__ = [
    "agreement",
    "errors",
    "latencies",
    "latency",
    "latency_facts",
    "loss",
    "requests_and_errors",
    "sure_share",
]

Facts = Mapping[str, Any]

SURE = 3.0
"""Standard errors asked before rolling back."""
FEWEST_ERRORS = 3
"""Fewest failed requests that can roll a canary back: one unlucky request must not."""
LATENCY_FLOOR_MS = 5.0
"""A slower answer is no harm unless it is slower by more than this."""
FEWEST_LATENCIES = 20
_TAIL = 0.95


def requests_and_errors(facts: Facts, role: str) -> tuple[int, int]:
    """How many requests a role had, and how many of them failed."""
    found = facts.get(role) or {}
    return int(found.get("requests") or 0), int(found.get("errors") or 0)


def errors(facts: Facts, allowed: float) -> str:
    """Whether the challenger surely fails more often than the champion, by more than ``allowed``."""
    requests, failed = requests_and_errors(facts, "challenger")
    others, others_failed = requests_and_errors(facts, "champion")
    if failed < FEWEST_ERRORS or _sure_increase(failed, requests, others_failed, others) <= allowed:
        return ""
    champion = f"the champion {others_failed} of {others}" if others else "the champion had no requests"
    return f"The challenger failed {failed} of {requests} requests, {champion}: rolled back."


def latency(facts: Facts, allowed: float | None, fewest: int) -> str:
    """Whether the challenger's p95 latency is surely above the champion's, by more than ``allowed`` and the floor."""
    ours, theirs = latencies(facts, "challenger"), latencies(facts, "champion")
    enough = max(FEWEST_LATENCIES, fewest)
    if allowed is None or ours is None or theirs is None or min(ours["n"], theirs["n"]) < enough:
        return ""
    if ours["low"] <= theirs["high"] * (1 + allowed) or ours["low"] - theirs["high"] <= LATENCY_FLOOR_MS:
        return ""
    return (
        f"The challenger's p95 latency is {ours['p95']:.3g} ms over {ours['n']:.0f} single-row requests, "
        f"the champion's {theirs['p95']:.3g} ms over {theirs['n']:.0f}: at least {ours['low']:.3g} ms against at most "
        f"{theirs['high']:.3g} ms, and {allowed:.0%} more is allowed. Rolled back."
    )


def loss(facts: Facts, fewest: int) -> str:
    """Whether the challenger's loss is surely worse than the champion's."""
    ours, theirs = _loss(facts, "challenger"), _loss(facts, "champion")
    if ours is None or theirs is None or min(ours[0], theirs[0]) < max(2, fewest):
        return ""
    worse = ours[1] - theirs[1]
    doubt = SURE * sqrt(ours[2] / ours[0] + theirs[2] / theirs[0])
    if worse <= doubt or worse <= 0:
        return ""
    return (
        f"The challenger's loss is {ours[1]:.4g} on {ours[0]:.0f} labelled rows, the champion's "
        f"{theirs[1]:.4g} on {theirs[0]:.0f}: worse by {worse:.4g}, at least {worse - doubt:.4g}. "
        "Rolled back."
    )


def agreement(facts: Facts) -> tuple[int, int]:
    """How many shadow answers were compared with those given, and how many were equal."""
    found = facts.get("agreement") or {}
    return int(found.get("compared") or 0), int(found.get("agreed") or 0)


def sure_share(count: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, square = count / of, SURE**2
    centre = (share + square / (2 * of)) / (1 + square / of)
    reach = SURE * sqrt(share * (1 - share) / of + square / (4 * of**2)) / (1 + square / of)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def latency_facts(milliseconds: Sequence[float]) -> dict[str, float] | None:
    """Number, median and p95 of latencies, with the bounds of p95 that its rank is surely between; None of none."""
    if not milliseconds:
        return None
    found, n = sorted(milliseconds), len(milliseconds)
    doubt = SURE * sqrt(n * _TAIL * (1 - _TAIL))

    def rank(place: int) -> float:
        return float(found[min(max(place, 1), n) - 1])

    return {
        "n": float(n),
        "p50": rank(ceil(n * 0.5)),
        "p95": rank(ceil(n * _TAIL)),
        "low": rank(floor(n * _TAIL - doubt)),
        "high": rank(ceil(n * _TAIL + doubt)),
    }


def latencies(facts: Facts, role: str) -> dict[str, float] | None:
    """A role's latencies as `latency_facts` gives them; None when there are none or a number is missing."""
    found = (facts.get(role) or {}).get("latency_ms") or {}
    numbers = {name: float(found[name]) for name in ("n", "p95", "low", "high") if found.get(name) is not None}
    return numbers if len(numbers) == 4 and all(map(isfinite, numbers.values())) else None


def _loss(facts: Facts, role: str) -> tuple[float, float, float] | None:
    found = (facts.get(role) or {}).get("loss") or {}
    numbers = [float(found[name]) for name in ("n", "mean", "variance") if found.get(name) is not None]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 and all(map(isfinite, numbers)) else None


def _sure_increase(failed: int, requests: int, others_failed: int, others: int) -> float:
    """Lower bound of the increase in error rate (Newcombe); a champion without requests is faultless."""
    low, _ = sure_share(failed, requests)
    if not others:
        return low
    share, other = failed / requests, others_failed / others
    _, other_high = sure_share(others_failed, others)
    return share - other - sqrt((share - low) ** 2 + (other_high - other) ** 2)
