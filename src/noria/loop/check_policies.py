"""Faults of the policy values: arguments, places, metrics, and columns that are not in the data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from noria.core.canonical import describe
from noria.core.nearest import suggest
from noria.core.policy import Policy, wants_choice, wants_number
from noria.data.rules import TASKS, Source, Split, TimeSplit, failing_rows_problems, find_expectation
from noria.deploy.rules import Rollout
from noria.errors import Fault
from noria.loop.steps import Declaration
from noria.monitor.rules import Drift, Performance, Watch
from noria.register.rules import Approval
from noria.retrain.rules import Trigger
from noria.validate.catalog import METRICS, find_metric, metrics_for
from noria.validate.rules import AtLeast, AtMost, BeatsChampion, Gate, SliceGap

__all__ = ["column_faults", "policy_faults"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_WANTED: dict[str, tuple[Any, str]] = {
    "source": (Source, 'a source such as Csv("file.csv")'),
    "split": (Split, 'a split such as TimeSplit(test="30d")'),
    "gates": (Gate, 'gates such as AtLeast("roc_auc", 0.8)'),
    "approval": (Approval, 'Approval(role="…")'),
    "deploy": (Rollout, "Direct() or Canary()"),
    "monitor": (Watch, 'watches such as Drift() or Performance("mae")'),
    "retrain": (Trigger, 'triggers such as Every("7d") or OnAlarm()'),
}


def policy_faults(loop: Declaration) -> Iterator[Fault]:
    """Every fault of the loop's own settings and of its policy values."""
    yield from _settings(loop)
    yield from _origins(loop)
    for argument, value in loop.policies:
        yield from _value(loop, argument, value)
    yield from _metrics(loop)
    yield from _evaluate(loop)
    if isinstance(loop.split, TimeSplit) and loop.origin is not None and loop.origin.time is None:
        yield Fault(loop.place(loop.split), "TimeSplit needs the time of each row.", "Give the source time=….")


def column_faults(loop: Declaration, columns: Mapping[str, str]) -> Iterator[Fault]:
    """Every column that is named and not in the data."""
    made = {step.name for step in loop.of_kind("feature")}
    named = loop.origin.named() if loop.origin is not None else ()
    for argument, name in named:
        if name not in columns:
            yield Fault(
                loop.place(loop.origin),
                f'{argument} column "{name}" is not in the data.',
                suggest(name, columns),
            )
    for _, value in loop.policies:
        for name in value.reads() if isinstance(value, Policy) else ():
            known = {*columns, *made} if isinstance(value, Drift) else {*columns}
            if isinstance(name, str) and name not in known:
                yield Fault(
                    loop.place(value),
                    f'{describe(value)}: there is no column "{name}".',
                    suggest(name, known),
                )
    label = loop.origin.label if loop.origin is not None else None
    for step in loop.of_kind("feature"):
        if label is not None and step.name == label:
            yield Fault(step.where, f"feature {step.name} has the name of the label.", "Rename it.")


def _settings(loop: Declaration) -> Iterator[Fault]:
    if not isinstance(loop.name, str) or not _NAME.fullmatch(loop.name):
        rule = "A name has letters, digits, - and _, starts with a letter or digit, and is at most 64 long."
        yield Fault(loop.where, f"name={loop.name!r} cannot name a loop.", rule)
    problems = [
        *wants_choice("task", loop.task, TASKS, optional=True),
        *failing_rows_problems(loop.on_failing_rows, loop.quarantine_at_most),
        *wants_number("seed", loop.seed, whole=True),
    ]
    yield from (Fault(loop.where, f"Loop: {problem}") for problem in problems)


def _origins(loop: Declaration) -> Iterator[Fault]:
    if not loop.origins:
        yield Fault(
            loop.where,
            "there is no source.",
            'Give Loop(source=Csv("file.csv", …)) or a @loop.source function.',
        )
        return
    first = loop.place(loop.origins[0])
    for extra in loop.origins[1:]:
        yield Fault(loop.place(extra), f"a second source; the first is at {first}.", "Keep one.")
    if loop.origin is not None and loop.origin.label is None:
        yield Fault(
            loop.place(loop.origin),
            "the source does not say which column is to be predicted.",
            "Give it label=….",
        )


def _value(loop: Declaration, argument: str, value: Any) -> Iterator[Fault]:
    where = loop.place(value)
    wanted = find_expectation(value) is not None if argument == "expect" else isinstance(value, _WANTED[argument][0])
    if not wanted or (isinstance(value, type) and argument != "expect"):
        asked = 'expectations such as Unique("id")' if argument == "expect" else _WANTED[argument][1]
        given = f"{value.__name__}, a class and not a value" if isinstance(value, type) else f"{_shown(value)}"
        yield Fault(where, f"{argument} takes {asked}, not {given}.")
        return
    if isinstance(value, Policy):
        yield from (Fault(where, f"{_shown(value)}: {problem}") for problem in value.problems())


def _shown(value: object) -> str:
    text = describe(value)
    return text if len(text) <= 100 else text[:99] + "…"


def _metrics(loop: Declaration) -> Iterator[Fault]:
    task = loop.task or (loop.origin.task if loop.origin is not None else None)
    for _, value in loop.policies:
        if not isinstance(value, (BeatsChampion, SliceGap, Performance)) or not isinstance(value.metric, str):
            continue
        where, kind = loop.place(value), find_metric(value.metric)
        if kind is None:
            what = f'{_shown(value)}: Noria cannot compute "{value.metric}" row by row.'
            yield Fault(where, what, suggest(value.metric, METRICS, limit=20))
        elif task in TASKS and task not in kind.tasks:
            fitting = ", ".join(metrics_for(task))
            yield Fault(
                where,
                f'{_shown(value)}: "{value.metric}" does not fit a {task} task.',
                f"These do: {fitting}.",
            )


def _evaluate(loop: Declaration) -> Iterator[Fault]:
    if loop.step("evaluate") is not None:
        return
    for gate in loop.gates:
        if isinstance(gate, (AtLeast, AtMost)):
            what = f"{_shown(gate)} judges what evaluate returns, and there is no evaluate step."
            yield Fault(loop.place(gate), what, "Decorate the function that returns metrics with @loop.evaluate.")
    for step in loop.of_kind("gate"):
        if any(needed.name == "metrics" for needed in step.inputs):
            yield Fault(step.where, f"gate {step.name} needs metrics, and there is no evaluate step.")
