"""`Loop`: what a user declares. Functions are wired by name, policy is frozen values, nothing is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, overload

from noria.core.policy import find_caller
from noria.core.units import Duration
from noria.data.sources import FunctionSource, Source
from noria.data.splits import Split
from noria.deploy.rules import Direct, Rollout
from noria.errors import Fault
from noria.loop import check as checking
from noria.loop import plan as planning
from noria.loop.steps import Declaration, StepKind, make_step
from noria.monitor.rules import Watch
from noria.register.rules import Approval
from noria.retrain.rules import Trigger
from noria.validate.rules import Gate

__all__ = ["Loop"]

F = TypeVar("F", bound=Callable[..., Any])

_DIRECT = Direct()


class SameFunction(Protocol):
    """A decorator that returns the function it is given."""

    def __call__(self, function: F, /) -> F:
        """The same function."""
        ...


class Loop(Declaration):
    """A machine-learning loop: data, features, model, gates, deployment, monitoring and retraining, declared.

    Args:
        name: letters, digits, ``-`` and ``_``; it names the model, its address and its pages.
        source: `Csv`, `Parquet`, or None with a ``@loop.source`` function.
        expect: what the data must be (`Unique`, `Between`, … or pandera schemas).
        split: `TimeSplit`, `RandomSplit` or `GroupSplit`; None holds out the newest fifth of
            the rows when the source has a time, else a random fifth.
        gates: what a challenger must pass (`AtLeast`, `BeatsChampion`, …), besides ``@loop.gate`` functions.
        approval: whose yes is needed; None asks nobody.
        deploy: `Direct` or `Canary`; None serves nothing.
        monitor: what is watched (`Drift`, `Performance`).
        retrain: what starts the next turn (`Every`, `OnAlarm`, `OnNewRows`).
        task: ``binary``, ``multiclass`` or ``regression``; guessed from the label when None.
        on_failing_rows: ``quarantine`` sets rows that break an expectation aside, ``stop`` ends the turn.
        quarantine_at_most: share of the rows that may be set aside before the turn ends all the same.
        seed: for everything random that Noria does.

    Example:
        >>> from noria import AtLeast, Csv, Loop
        >>> loop = Loop("churn", source=Csv("customers.csv", label="churned"), gates=(AtLeast("f1", 0.8),))
    """

    __slots__ = ()

    def __init__(
        self,
        name: str,
        *,
        source: Source | None = None,
        expect: Iterable[object] = (),
        split: Split | None = None,
        gates: Iterable[Gate] = (),
        approval: Approval | None = None,
        deploy: Rollout | None = _DIRECT,
        monitor: Iterable[Watch] = (),
        retrain: Iterable[Trigger] = (),
        task: str | None = None,
        on_failing_rows: str = "quarantine",
        quarantine_at_most: float = 0.1,
        seed: int = 0,
    ) -> None:
        Declaration.__init__(
            self,
            name=name,
            origins=() if source is None else (source,),
            expect=_as_tuple(expect),
            split=split,
            gates=_as_tuple(gates),
            approval=approval,
            deploy=deploy,
            monitor=_as_tuple(monitor),
            retrain=_as_tuple(retrain),
            task=task,
            on_failing_rows=on_failing_rows,
            quarantine_at_most=quarantine_at_most,
            seed=seed,
            where=find_caller(),
        )

    def __repr__(self) -> str:
        return f"Loop({self.name!r}, {len(self.steps)} steps)"

    @overload
    def source(self, function: F, /) -> F: ...
    @overload
    def source(
        self,
        /,
        *,
        key: str | None = None,
        time: str | None = None,
        label: str | None = None,
        sensitive: tuple[str, ...] = (),
        labels_after: Duration | None = None,
        served: bool = False,
        task: str | None = None,
    ) -> SameFunction: ...
    def source(self, function: Callable[..., Any] | None = None, /, **columns: Any) -> Any:
        """Declare the function that makes the rows; it has knobs only and returns a table."""
        return self._take("source", function, columns)

    @overload
    def feature(self, function: F, /) -> F: ...
    @overload
    def feature(self, /, *, window: Duration | None = None) -> SameFunction: ...
    def feature(self, function: Callable[..., Any] | None = None, /, *, window: Duration | None = None) -> Any:
        """Declare a function of ``data`` and other features that makes a column named as itself.

        Args:
            function: the function, when used bare.
            window: says that it looks at other rows within this time, so that it cannot run on one row alone.
        """
        return self._take("feature", function, {} if window is None else {"window": window})

    @overload
    def train(self, function: F, /) -> F: ...
    @overload
    def train(self, /) -> SameFunction: ...
    def train(self, function: Callable[..., Any] | None = None, /) -> Any:
        """Declare the function that returns a fitted model."""
        return self._take("train", function)

    @overload
    def evaluate(self, function: F, /) -> F: ...
    @overload
    def evaluate(self, /) -> SameFunction: ...
    def evaluate(self, function: Callable[..., Any] | None = None, /) -> Any:
        """Declare the function that returns metrics by name, measured on the held-out rows."""
        return self._take("evaluate", function)

    @overload
    def gate(self, function: F, /) -> F: ...
    @overload
    def gate(self, /) -> SameFunction: ...
    def gate(self, function: Callable[..., Any] | None = None, /) -> Any:
        """Declare a gate: it returns True, False, a text saying why not, or a `GateResult`."""
        return self._take("gate", function)

    def check(self, columns: Mapping[str, str] | None = None) -> tuple[Fault, ...]:
        """Every fault of the declaration; see `noria.loop.check.check`."""
        return checking.check(self, columns)

    def plan(self) -> dict[str, Any]:
        """The whole declaration as JSON values; see `noria.loop.plan.plan`."""
        return planning.plan(self)

    def _take(
        self, kind: StepKind, function: Callable[..., Any] | None, options: Mapping[str, Any] | None = None
    ) -> Any:
        def take(function: F) -> F:
            step = make_step(kind, function, options or {})
            self.steps.append(step)
            if kind == "source":
                self.origins = (*self.origins, FunctionSource(function, **(options or {})))
            return function

        return take if function is None else take(function)


def _as_tuple(values: Any) -> tuple[Any, ...]:
    """Several values as a tuple; a single one, forgotten comma and all, as a tuple of one."""
    return tuple(values) if isinstance(values, (tuple, list, set, frozenset)) else (values,)
