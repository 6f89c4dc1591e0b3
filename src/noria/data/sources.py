"""Where the rows come from, declared: nothing is opened here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import PurePath

from noria.core.policy import Policy, wants_choice, wants_duration, wants_name, wants_names
from noria.core.units import Duration

__all__ = ["TASKS", "Csv", "FunctionSource", "Parquet", "Source"]

TASKS = ("binary", "multiclass", "regression")


@dataclass(frozen=True, slots=True)
class Source(Policy):
    """What every source says about its rows.

    Attributes:
        key: column that names a row: joins predictions to labels that come later.
        time: column that says when a row's facts were known.
        label: column to predict.
        sensitive: columns kept for fairness slices and never handed to the model.
        labels_after: how long after its time a row's label is known; None means with the row.
        served: also learn from rows that were served and whose label is known by now.
        task: ``binary``, ``multiclass`` or ``regression``; guessed from the label when None.
    """

    _: KW_ONLY
    key: str | None = None
    time: str | None = None
    label: str | None = None
    sensitive: tuple[str, ...] = ()
    labels_after: Duration | None = None
    served: bool = False
    task: str | None = None

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        for argument in ("key", "time", "label"):
            yield from wants_name(argument, getattr(self, argument), optional=True)
        yield from wants_names("sensitive", self.sensitive)
        yield from wants_duration("labels_after", self.labels_after, optional=True)
        yield from wants_choice("task", self.task, TASKS, optional=True)
        if self.label is not None and self.label in (self.key, self.time):
            yield f'label cannot be "{self.label}", which is the key or the time.'
        if self.served and self.key is None:
            yield "served=True needs a key, so that a prediction can be joined to its label."

    def named(self) -> tuple[tuple[str, str], ...]:
        """Each column the source names, with the argument it is named by."""
        roles = [(argument, getattr(self, argument)) for argument in ("key", "time", "label")]
        if isinstance(self.sensitive, tuple):
            roles += [("sensitive", name) for name in self.sensitive]
        return tuple((argument, name) for argument, name in roles if isinstance(name, str))


@dataclass(frozen=True, slots=True)
class Csv(Source):
    """A CSV file; ``path`` is relative to the loop file's folder.

    Example:
        ``Csv("customers.csv", key="customer_id", time="as_of", label="churned")``
    """

    path: str | PurePath

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from _path_problems(self.path)
        yield from Source.problems(self)


@dataclass(frozen=True, slots=True)
class Parquet(Source):
    """A Parquet file; ``path`` is relative to the loop file's folder.

    Example:
        ``Parquet("trips.parquet", key="trip", time="picked_up", label="minutes")``
    """

    path: str | PurePath

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from _path_problems(self.path)
        yield from Source.problems(self)


@dataclass(frozen=True, slots=True)
class FunctionSource(Source):
    """Rows made by a function of the user's; declared with ``@loop.source(key=…, label=…)``.

    Attributes:
        function: called with its knobs alone; returns a pandas, Polars or PyArrow table.
    """

    function: Callable[..., object]

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.function, "__name__", "source"))


def _path_problems(path: object) -> Iterator[str]:
    if not isinstance(path, (str, PurePath)) or not str(path).strip():
        yield f"path must be the name of a file, not {path!r}."
