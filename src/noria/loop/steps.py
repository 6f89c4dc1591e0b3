"""A declaration in parts: the user's functions as step records, and all that was said to `Loop`."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from noria.core.policy import Policy
from noria.data.sources import Source

__all__ = ["GIVEN", "Declaration", "Input", "Knob", "Step", "StepKind", "make_step"]

StepKind = Literal["source", "feature", "train", "evaluate", "gate"]

GIVEN: Mapping[str, tuple[str, ...]] = {
    "source": (),
    "feature": ("data",),
    "train": ("data", "x_train", "y_train"),
    "evaluate": ("data", "x_train", "y_train", "x_test", "y_test", "model", "champion"),
    "gate": ("data", "x_train", "y_train", "x_test", "y_test", "model", "champion", "metrics"),
}
"""The names each kind of step may ask for besides features (which only features may ask for).

``data``: for a feature the raw rows without the label; for `train` the raw training rows aligned with
``x_train``; for `evaluate` and gates the raw held-out rows aligned with ``x_test``. ``champion`` is None
when nothing serves yet. ``metrics`` is what `evaluate` returned.
"""


@dataclass(frozen=True, slots=True)
class Input:
    """A positional parameter: what the step needs, by name. ``annotation`` is as written, maybe text."""

    name: str
    annotation: object = None


@dataclass(frozen=True, slots=True)
class Knob:
    """A keyword-only parameter: recorded, overridable, sweepable."""

    name: str
    default: Any
    annotation: object = None


@dataclass(frozen=True, slots=True)
class Step:
    """One of the user's functions, as declared.

    Attributes:
        kind: ``source``, ``feature``, ``train``, ``evaluate`` or ``gate``.
        name: the function's name: for a feature also the name of the column it makes.
        file: file it was written in.
        line: line of its first decorator.
        inputs: positional parameters.
        knobs: keyword-only parameters that have a default.
        options: what was given to the decorator.
        oddities: what is wrong with its signature, in sentences.
    """

    kind: StepKind
    name: str
    function: Callable[..., Any]
    file: str
    line: int
    inputs: tuple[Input, ...] = ()
    knobs: tuple[Knob, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """``file:line`` of the ``def``; reads the source file, if it is there, to find it."""
        for line in range(self.line, self.line + (0 if self.name == "<lambda>" else 50)):
            text = linecache.getline(self.file, line).lstrip()
            if text.startswith(("def ", "async def ")):
                return f"{self.file}:{line}"
        return f"{self.file}:{self.line}"

    @property
    def returns(self) -> object:
        """The annotation of what it returns, as written; None when there is none."""
        return getattr(self.function, "__annotations__", {}).get("return")


@dataclass(slots=True, eq=False)
class Declaration:
    """All that a user declared; `Loop` adds the decorators and is what users make.

    Attributes:
        origins: the sources declared: ``Loop(source=…)`` and ``@loop.source`` functions; one is right.
        where: ``file:line`` of the `Loop`.
        steps: the decorated functions, in the order written.
    """

    name: str
    origins: tuple[Any, ...] = ()
    expect: tuple[Any, ...] = ()
    split: Any = None
    gates: tuple[Any, ...] = ()
    approval: Any = None
    deploy: Any = None
    monitor: tuple[Any, ...] = ()
    retrain: tuple[Any, ...] = ()
    task: str | None = None
    on_failing_rows: str = "quarantine"
    quarantine_at_most: float = 0.1
    seed: int = 0
    where: str = ""
    steps: list[Step] = field(default_factory=list)

    @property
    def origin(self) -> Source | None:
        """The source: where the rows come from (``loop.source`` is the decorator)."""
        return next((origin for origin in self.origins if isinstance(origin, Source)), None)

    def of_kind(self, kind: StepKind) -> tuple[Step, ...]:
        """The steps of one kind, in the order written."""
        return tuple(step for step in self.steps if step.kind == kind)

    def step(self, kind: StepKind) -> Step | None:
        """The first step of one kind, or None."""
        return next(iter(self.of_kind(kind)), None)

    @property
    def policies(self) -> tuple[tuple[str, Any], ...]:
        """Every policy value, with the argument of `Loop` it was given to."""
        single = [("source", origin) for origin in self.origins]
        single += [(name, getattr(self, name)) for name in ("split", "approval", "deploy")]
        many = [(name, value) for name in ("expect", "gates", "monitor", "retrain") for value in getattr(self, name)]
        return tuple((name, value) for name, value in (*single, *many) if value is not None)

    def place(self, value: object) -> str:
        """``file:line`` of a policy value, else of the `Loop`."""
        return (value.where if isinstance(value, Policy) else "") or self.where


def make_step(kind: StepKind, function: Callable[..., Any], options: Mapping[str, Any]) -> Step:
    """The record of a decorated function; nothing is called, opened or resolved.

    Raises:
        TypeError: it is not a Python function.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        raise TypeError(f"@loop.{kind} goes on a function, not on {function!r:.80}")
    inputs: list[Input] = []
    knobs: list[Knob] = []
    oddities: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        annotation = None if parameter.annotation is parameter.empty else parameter.annotation
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            oddities.append(f'"{parameter}" hides what the step needs: name each input and each knob.')
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.default is parameter.empty:
                oddities.append(f'knob "{parameter.name}" has no default: write {parameter.name}=… after the *.')
            knobs.append(Knob(parameter.name, parameter.default, annotation))
        else:
            inputs.append(Input(parameter.name, annotation))
            if parameter.default is not parameter.empty:
                knob = f"{parameter.name}={parameter.default!r:.30}"
                oddities.append(
                    f'input "{parameter.name}" has a default. Positional parameters are what a step needs, '
                    f"wired by name; a knob stands after a *: (…, *, {knob})."
                )
    oddities += _kind_problems(function)
    kept = tuple(knob for knob in knobs if knob.default is not inspect.Parameter.empty)
    return Step(
        kind, function.__name__, function, code.co_filename, code.co_firstlineno,
        tuple(inputs), kept, dict(options), tuple(oddities),
    )  # fmt: skip


def _kind_problems(function: Callable[..., Any]) -> list[str]:
    """What is wrong with the kind of function it is."""
    oddities: list[str] = []
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        oddities.append("is async: steps are plain functions, written with def.")
    elif inspect.isgeneratorfunction(function):
        oddities.append("is a generator (it says yield): a step returns its result.")
    if function.__name__ == "<lambda>":
        oddities.append("is a lambda: a step is named by its def.")
    return oddities
