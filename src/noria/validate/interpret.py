"""What a user's own gate function answered -> a gate result."""

from __future__ import annotations

from noria.records.validation import GateResult, Outcome

__all__ = ["interpret"]


def interpret(name: str, returned: object) -> GateResult:
    """What a ``@loop.gate`` function meant: True passes, False fails, a text fails with that reason.

    A `GateResult` stands as it is, under the function's name; anything else is inconclusive.
    """
    if isinstance(returned, GateResult):
        return returned if returned.gate else GateResult(name, returned.outcome, returned.sentence)
    if isinstance(returned, str) and returned.strip():
        return GateResult(name, Outcome.failed, returned)
    if type(returned).__name__ in ("bool", "bool_"):
        verdict = Outcome.passed if returned else Outcome.failed
        return GateResult(name, verdict, f"{name} says {'yes' if returned else 'no'}.")
    asked = "it should return True, False, a text saying why not, or a GateResult"
    return GateResult(name, Outcome.inconclusive, f"{name} returned {returned!r:.80}: {asked}.")
