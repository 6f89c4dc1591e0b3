"""The port of the tracking store: experiments, runs and metric points, written by many clients at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from noria.records.tracking import (
    Clause,
    Experiment,
    Input,
    ModelLink,
    ModelPoint,
    Order,
    Point,
    RunInfo,
    TrackedDataset,
    TrackedRun,
)

__all__ = ["Activity", "Artifact", "Tracking", "TrackingChange", "TrackingReader", "TrackingTransaction"]

T = TypeVar("T")


class Artifact(NamedTuple):
    """A file of the artifact tree: its path is a name in a table, never a path on a disk."""

    path: str
    digest: str
    size: int
    created: int


class Activity(NamedTuple):
    """An experiment's active runs: how many, how many of them go on, and when one last began or ended."""

    runs: int
    running: int
    newest: int


class TrackingReader(Protocol):
    """A consistent view: everything read through one reader is of one moment."""

    def experiment(self, *, id: int | None = None, name: str | None = None) -> Experiment | None:
        """One experiment by id or by name, deleted or not."""
        ...

    def experiments(self, stages: Sequence[str]) -> list[Experiment]:
        """All experiments of these stages, newest first."""
        ...

    def activity(self) -> dict[int, Activity]:
        """What goes on in each experiment that has active runs."""
        ...

    def info(self, run: str) -> RunInfo | None:
        """What a run is, without what it logged."""
        ...

    def run(self, run: str) -> TrackedRun | None:
        """One run with what it logged."""
        ...

    def search(
        self,
        experiments: Sequence[int],
        clauses: Sequence[Clause] = (),
        order: Sequence[Order] = (),
        *,
        stages: Sequence[str],
        limit: int,
        after: Sequence[Any] | None = None,
    ) -> tuple[list[TrackedRun], list[Any] | None]:
        """Runs that meet every clause, ordered, then by start (newest first) and id.

        Numbers that are not (NaN), then absent values, come last in either direction.

        Returns:
            The runs, and the place to go on ``after`` (plain JSON values), or None when that was all.
        """
        ...

    def history(self, run: str, key: str, *, limit: int | None = None, after: Point | None = None) -> list[Point]:
        """Points of one metric of a run by (time, step, value), at most ``limit``, from just after ``after``."""
        ...

    def model_points(self, models: Sequence[str]) -> list[tuple[ModelPoint, str]]:
        """Every point of these logged models, each with the run that logged it ("" if none), by time and step."""
        ...

    def deleted_runs(self, before: int) -> list[RunInfo]:
        """Runs deleted before this time."""
        ...

    def datasets(self, experiments: Sequence[int]) -> list[tuple[int, TrackedDataset, str]]:
        """Datasets that runs of these experiments read: experiment, dataset, and its context tag or ""."""
        ...

    def artifact(self, path: str) -> Artifact | None:
        """One artifact by its whole path."""
        ...

    def folder(self, path: str) -> list[tuple[str, Artifact | None]]:
        """What is directly in a folder (``""`` is the root), by name: a file's artifact, or None for a folder."""
        ...

    def under(self, path: str) -> list[Artifact]:
        """Every artifact in a folder and the folders in it."""
        ...


class TrackingTransaction(TrackingReader, Protocol):
    """A change in the making: all of it becomes visible and durable at once, or none of it."""

    def add_experiment(
        self, name: str, artifacts: str, at: int, tags: Mapping[str, str], *, id: int | None = None
    ) -> int:
        """A new experiment; ``{id}`` in ``artifacts`` becomes its id: the next one, or one that it brings along.

        Raises:
            Conflict: the name is taken, by a deleted experiment too, or the id is.
        """
        ...

    def set_experiment(self, id: int, at: int, *, name: str | None = None, stage: str | None = None) -> None:
        """Rename, delete or restore an experiment.

        Raises:
            Conflict: the name is taken.
        """
        ...

    def tag_experiment(self, id: int, tags: Mapping[str, str | None]) -> int:
        """Set tags, remove those that are None; returns how many were there to remove."""
        ...

    def add_run(self, run: RunInfo, tags: Mapping[str, str]) -> None:
        """A new run.

        Raises:
            Conflict: the id is taken.
        """
        ...

    def set_run(self, run: RunInfo) -> None:
        """Replace what a run is (name, status, end, stage); its experiment and what it logged stay."""
        ...

    def set_stages(self, experiment: int, old: str, new: str, at: int | None) -> None:
        """Delete or restore all runs of an experiment; ``at`` is kept as the time of deletion."""
        ...

    def log(
        self,
        run: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
        models: Sequence[ModelPoint] = (),
    ) -> None:
        """Add to a run. A point that is there already is not doubled. Tags that are None are removed.

        Raises:
            NotFound: there is no such run.
            ParamChanged: a param is there with another value.
        """
        ...

    def add_inputs(self, run: str, inputs: Sequence[Input]) -> None:
        """Say what a run read; the same dataset again replaces its tags."""
        ...

    def link_models(self, run: str, links: Sequence[ModelLink]) -> None:
        """Say which logged models a run read or made."""
        ...

    def log_model_points(self, run: str, points: Sequence[ModelPoint]) -> None:
        """Add points to logged models alone."""
        ...

    def put_artifact(self, artifact: Artifact) -> None:
        """Name a blob.

        Raises:
            Conflict: part of the path is a file already, or the path is a folder.
        """
        ...

    def remove_artifacts(self, path: str) -> int:
        """Remove a file, or a folder with all in it; returns how many files."""
        ...

    def purge(self, runs: Sequence[str]) -> int:
        """Remove runs for ever, with all they logged (artifacts apart); returns how many."""
        ...

    def purge_experiments(self, experiments: Sequence[int]) -> int:
        """Remove experiments that hold no run any more; returns how many."""
        ...


TrackingChange = Callable[[TrackingTransaction], T]


class Tracking(Protocol):
    """Experiments, runs, metrics and the names of artifacts.

    Obligations are those of :class:`noria.store.ports.Ledger`: durable on return, all or nothing, serialised,
    any number of threads and processes.
    """

    def read(self) -> AbstractContextManager[TrackingReader]:
        """A consistent view."""
        ...

    def write(self, change: TrackingChange[T]) -> T:
        """Run ``change`` in a transaction, make it durable, return what it returned."""
        ...

    def submit(self, change: TrackingChange[T]) -> Future[T]:
        """As ``write``, without waiting: the future is done when the change is durable."""
        ...

    def compact(self) -> None:
        """Give the space of what was removed back to the disk.

        Raises:
            StoreBusy: others are using the store; nothing is lost by trying later.
        """
        ...

    def close(self) -> None:
        """Finish what is queued and release everything. Idempotent."""
        ...
