"""What is watched in production, declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from noria.core.policy import Policy, wants_duration, wants_name, wants_names, wants_number
from noria.core.units import Duration

__all__ = ["Drift", "Performance", "Watch"]


@dataclass(frozen=True, slots=True)
class Drift(Policy):
    """The inputs move away from what the model was validated on.

    Attributes:
        window: how much of the newest traffic is compared at a time.
        columns: the raw columns watched; None means all that the model uses.
        min_effect: smallest effect size worth a word, between 0 (none) and 1.
    """

    window: Duration = "7d"
    columns: tuple[str, ...] | None = None
    min_effect: float = 0.1

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_duration("window", self.window, zero=False)
        yield from wants_names("columns", self.columns, optional=True)
        yield from wants_number("min_effect", self.min_effect, 0, 1, open_high=True)

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return self.columns if isinstance(self.columns, tuple) else ()


@dataclass(frozen=True, slots=True)
class Performance(Policy):
    """The model does worse in production than when it was validated.

    Attributes:
        metric: a metric Noria can compute row by row.
        floor: the value it must not become worse than, whatever it was at validation; None sets none.
        tolerance: by how much, as a share, it may become worse than at validation.
        labels_after: how long after a prediction its label is known; None takes the source's.
        window: how much of the newest traffic is measured at a time.
        reviews: how often the alarms are looked through: a false one is expected once in twenty such periods, or
            less; and how long after an alarm the next may be raised.
        backtest: earlier points in time the model is also trained at, to learn from the rows that followed how its
            error varies with the season; 0 learns it from the held-out rows alone.
    """

    metric: str
    floor: float | None = None
    tolerance: float = 0.05
    labels_after: Duration | None = None
    window: Duration = "7d"
    reviews: Duration = "7d"
    backtest: int = 0

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("metric", self.metric)
        if self.floor is not None:
            yield from wants_number("floor", self.floor)
        yield from wants_number("tolerance", self.tolerance, 0)
        yield from wants_duration("labels_after", self.labels_after, optional=True)
        yield from wants_duration("window", self.window, zero=False)
        yield from wants_duration("reviews", self.reviews, zero=False)
        yield from wants_number("backtest", self.backtest, 0, 24, whole=True)


Watch = Drift | Performance
