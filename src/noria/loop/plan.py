"""A declaration -> JSON values that say all of it: hashed into every run, shown, exported, never executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.core.canonical import canonical_json, describe, to_plain
from noria.data.rules import Pandera, find_expectation
from noria.loop.hints import resolve, shown
from noria.loop.steps import Declaration, Step

__all__ = ["plan", "plan_digest"]


def plan(loop: Declaration) -> dict[str, Any]:
    """The whole declaration as JSON values; equal declarations give equal plans on every machine.

    Files are named without their folders, and lines are left out, so that moving code changes nothing.
    """
    return {
        "format": 1,
        "name": loop.name,
        "task": loop.task,
        "seed": to_plain(loop.seed),
        "on_failing_rows": loop.on_failing_rows,
        "quarantine_at_most": to_plain(loop.quarantine_at_most),
        "source": [_policy(value) for value in loop.origins],
        "expect": [_policy(value) for value in loop.expect],
        "split": _policy(loop.split),
        "gates": [_policy(value) for value in loop.gates],
        "approval": _policy(loop.approval),
        "deploy": _policy(loop.deploy),
        "monitor": [_policy(value) for value in loop.monitor],
        "retrain": [_policy(value) for value in loop.retrain],
        "steps": [_step(step) for step in loop.steps],
    }


def plan_digest(loop: Declaration) -> str:
    """Digest of the plan."""
    from blake3 import blake3

    return f"blake3:{blake3(canonical_json(plan(loop)).encode()).hexdigest()}"


def _policy(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    rule = find_expectation(value)
    if isinstance(rule, Pandera):
        return {"type": "Pandera", "schema": _schema(rule.schema), "written": describe(value)}
    try:
        found = to_plain(value)
    except TypeError:
        found = repr(value)
    fields = found if isinstance(found, dict) else {"type": type(value).__name__, "text": found}
    return {**fields, "written": describe(value)}


def _schema(schema: Any) -> dict[str, Any]:
    """A pandera schema or model as text, the checks of each column included."""
    make: Any = getattr(schema, "to_schema", None)
    whole = schema if make is None else make()
    columns = getattr(whole, "columns", None) or {}
    checks = {str(name): [str(check) for check in column.checks] for name, column in columns.items()}
    return {"text": str(whole), "checks": checks}


def _step(step: Step) -> dict[str, Any]:
    hints = resolve(step.function)

    def hint(name: str) -> str | None:
        return shown(hints[name]) if name in hints else None

    return {
        "kind": step.kind,
        "name": step.name,
        "file": Path(step.file).name,
        "inputs": [{"name": given.name, "type": hint(given.name)} for given in step.inputs],
        "knobs": [
            {"name": knob.name, "type": hint(knob.name), "default": _default(knob.default)} for knob in step.knobs
        ],
        "returns": hint("return"),
        "options": to_plain(step.options),
    }


def _default(value: Any) -> Any:
    try:
        return to_plain(value)
    except TypeError:
        return describe(value)
