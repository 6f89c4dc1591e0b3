"""Which rows are trained on and which are held out, declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from noria.core.canonical import BY_NAME
from noria.core.policy import Policy, wants_duration, wants_name, wants_number
from noria.core.units import Duration

__all__ = ["GroupSplit", "RandomSplit", "Split", "TimeSplit"]


@dataclass(frozen=True, slots=True)
class TimeSplit(Policy):
    """The newest ``test`` of time is held out; nothing from the ``gap`` before it is trained on.

    The gap should be at least as long as a label needs to become known, else the training rows hold labels
    that were not yet known when the held-out rows were.

    Example:
        ``TimeSplit(test="30d", gap="7d")``
    """

    test: Duration = field(metadata=BY_NAME)
    gap: Duration = "0d"

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_duration("test", self.test, zero=False)
        yield from wants_duration("gap", self.gap)


@dataclass(frozen=True, slots=True)
class RandomSplit(Policy):
    """A share of the rows is held out, chosen by a hash of the row's key (of the whole row without one).

    So the same row falls on the same side in every turn and on every machine, and no row moves from the
    held-out side into training as data grow.

    Example:
        ``RandomSplit(test=0.2)``
    """

    test: float = 0.2
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_number("test", self.test, 0, 1, open_low=True, open_high=True)
        yield from wants_number("seed", self.seed, whole=True)


@dataclass(frozen=True, slots=True)
class GroupSplit(Policy):
    """A share of the groups is held out, whole: no group has rows on both sides.

    Example:
        ``GroupSplit(by="customer_id", test=0.2)``
    """

    by: str = field(metadata=BY_NAME)
    test: float = 0.2
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("by", self.by)
        yield from wants_number("test", self.test, 0, 1, open_low=True, open_high=True)
        yield from wants_number("seed", self.seed, whole=True)

    def reads(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (self.by,)


Split = TimeSplit | RandomSplit | GroupSplit
