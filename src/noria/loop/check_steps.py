"""Faults of the steps: wiring, signatures and types along the edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from noria.core.nearest import find_nearest, suggest
from noria.core.policy import wants_duration
from noria.errors import Fault
from noria.loop.hints import fits, resolve, shape_of, shown
from noria.loop.steps import GIVEN, Declaration, Step
from noria.loop.wire import find_cycle

__all__ = ["step_faults"]

_ALL_GIVEN = tuple(dict.fromkeys(name for names in GIVEN.values() for name in names))
_FRAMES = ("data", "x_train", "x_test")
_COLUMNS = ("y_train", "y_test")


def step_faults(loop: Declaration) -> Iterator[Fault]:
    """Every fault of the steps, in the order they are written."""
    yield from _counts(loop)
    yield from _names(loop)
    for step in loop.steps:
        yield from (Fault(step.where, f"{step.kind} {step.name}: {oddity}") for oddity in step.oddities)
        yield from _inputs(loop, step)
        yield from _knobs(step)
        yield from _edges(loop, step)
    yield from _cycles(loop)
    yield from _online(loop)


def _counts(loop: Declaration) -> Iterator[Fault]:
    if loop.step("train") is None:
        yield Fault(
            loop.where,
            "there is no train step.",
            "Decorate the function that fits the model with @loop.train.",
        )
    for kind in ("train", "evaluate"):
        first, *others = loop.of_kind(kind) or (None,)
        for other in others:
            if first is not None and other is not None:
                yield Fault(
                    other.where,
                    f"{other.name} is a second {kind} step; {first.name} at {first.where} is the first.",
                )


def _names(loop: Declaration) -> Iterator[Fault]:
    seen: dict[str, Step] = {}
    for step in loop.steps:
        first = seen.setdefault(step.name, step)
        if first is not step and not (first.kind == step.kind and step.kind in ("train", "evaluate", "source")):
            yield Fault(step.where, f'two steps provide "{step.name}"; the other is at {first.where}.', "Rename one.")
        if step.name in _ALL_GIVEN:
            yield Fault(step.where, f'"{step.name}" is a name that Noria gives, so no step can have it.', "Rename it.")


def _inputs(loop: Declaration, step: Step) -> Iterator[Fault]:
    features = {feature.name for feature in loop.of_kind("feature")} if step.kind == "feature" else set()
    offered = (*GIVEN[step.kind], *sorted(features - {step.name}))
    for needed in step.inputs:
        name = needed.name
        if name in offered or name == step.name in features:
            continue
        if name in _ALL_GIVEN:
            able = ", ".join(GIVEN[step.kind]) or "nothing"
            yield Fault(step.where, f'{step.kind} {step.name} cannot have "{name}".', f"It is given: {able}.")
            continue
        yield Fault(
            step.where,
            f'{step.kind} {step.name} needs "{name}", which nothing provides.',
            _advice(loop, step, name, offered),
        )


def _advice(loop: Declaration, step: Step, name: str, offered: tuple[str, ...]) -> str:
    if find_nearest(name, offered):
        return suggest(name, offered)
    if step.kind != "feature" and any(name == feature.name for feature in loop.of_kind("feature")):
        frame = "x_train" if step.kind == "train" else "x_test"
        return f'It is a feature: read {frame}["{name}"].'
    if step.kind == "source":
        return "A source has knobs only, after a *."
    return f'If it is a column, read data["{name}"]; if it is a knob, put it after a *. {suggest(name, offered)}'


def _knobs(step: Step) -> Iterator[Fault]:
    hints = resolve(step.function)
    for knob in step.knobs:
        who = f'{step.kind} {step.name}: knob "{knob.name}"'
        asked, kind = hints.get(knob.name), type(knob.default)
        if knob.name in _ALL_GIVEN:
            yield Fault(step.where, f"{who} has a name that Noria gives.", "Put it before the *.")
        elif not _recordable(knob.default):
            advice = "Use numbers, text, booleans, None, or lists and dicts of them."
            yield Fault(step.where, f"{who} has a default that cannot be recorded: {kind.__name__}.", advice)
        elif knob.default is not None and asked is not None and not fits(kind, asked):
            yield Fault(step.where, f"{who} is annotated {shown(asked)}, its default is {knob.default!r}.")


def _recordable(value: Any) -> bool:
    if value is None or isinstance(value, (str, int, float, bool)):
        return True
    if isinstance(value, (list, tuple)):
        return all(_recordable(item) for item in value)
    return isinstance(value, dict) and all(isinstance(k, str) and _recordable(v) for k, v in value.items())


def _edges(loop: Declaration, step: Step) -> Iterator[Fault]:
    hints = resolve(step.function)
    for needed in step.inputs:
        asked = hints.get(needed.name)
        wrong = "" if asked is None else _clash(loop, step, needed.name, asked)
        if wrong:
            what = f'{step.kind} {step.name}: "{needed.name}" is annotated {shown(asked)}, but {wrong}.'
            yield Fault(step.where, what)
    yield from _returns(step, hints.get("return"))


def _clash(loop: Declaration, step: Step, name: str, asked: Any) -> str:
    """How what is given under ``name`` differs from what is asked; empty when it fits."""
    maker = _maker(loop, step, name)
    if maker is not None:
        made = resolve(maker.function).get("return")
        return "" if made is None or fits(made, asked) else f"{maker.name} returns {shown(made)}"
    if name in _FRAMES and shape_of(asked) != "frame" and (shape_of(asked) or not fits(dict, asked)):
        return f"{name} is a frame (pandas, Polars or PyArrow)"
    if name in _COLUMNS and shape_of(asked) == "frame":
        return f"{name} is one column"
    if name == "metrics" and not fits(dict, asked):
        return "metrics is a dict of numbers by name"
    return ""


def _maker(loop: Declaration, step: Step, name: str) -> Step | None:
    if name in ("model", "champion"):
        return loop.step("train")
    features = loop.of_kind("feature") if step.kind == "feature" else ()
    return next((feature for feature in features if feature.name == name), None)


def _returns(step: Step, made: Any) -> Iterator[Fault]:
    if made is None:
        return
    if made is type(None):
        what = f"{step.kind} {step.name} is annotated to return nothing."
        yield Fault(step.where, what, "A step returns its result.")
        return
    if step.kind == "feature" and made in (int, float, str, bool, dict, list):
        yield Fault(
            step.where,
            f"feature {step.name} returns {shown(made)}.",
            "A feature returns a column, or a frame of columns.",
        )
    if step.kind == "evaluate" and not fits(dict, made):
        yield Fault(
            step.where,
            f"evaluate {step.name} returns {shown(made)}.",
            "It returns a dict of numbers by metric name.",
        )
    if step.kind == "source" and shape_of(made) == "column":
        yield Fault(step.where, f"source {step.name} returns {shown(made)}.", "A source returns a table.")


def _cycles(loop: Declaration) -> Iterator[Fault]:
    left = {step.name: step for step in loop.of_kind("feature")}
    while cycle := find_cycle(left):
        first = min(cycle[:-1], key=list(left).index)
        turned = cycle[:-1][cycle.index(first) :] + cycle[:-1][: cycle.index(first)]
        yield Fault(
            left[first].where,
            f"features need each other: {' -> '.join((*turned, first))}.",
            "Break the ring.",
        )
        del left[first]


def _online(loop: Declaration) -> Iterator[Fault]:
    for step in loop.of_kind("feature"):
        if "window" not in step.options:
            continue
        window = step.options["window"]
        yield from (Fault(step.where, f"feature {step.name}: {text}") for text in wants_duration("window", window))
        if loop.deploy is not None:
            yield Fault(
                step.where,
                f"feature {step.name} looks at other rows (window={window!r}), so it cannot be made for one "
                "record as it is served.",
                "Bring it as a column of the source, or serve nothing with Loop(deploy=None).",
            )
