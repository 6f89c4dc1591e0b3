"""Writes the metrics and params of runs as event files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from noria.compat.moved import Moved, Report
from noria.compat.tensorboard.frames import framed
from noria.compat.tensorboard.messages import hparams_event, scalar_event, version_event
from noria.core.hashing import digest_file
from noria.core.nearest import suggest
from noria.errors import DataError, NotFound
from noria.records.tracking import ACTIVE, Point, TrackedRun
from noria.store.ports import Store

__all__ = ["export_events"]

_PAGE = 100
_POINTS = 10_000
_NOT_IN_NAMES = re.compile(r"[^\w.\- ]")


def export_events(
    store: Store,
    folder: Path,
    *,
    experiment: str | None = None,
    dry_run: bool = False,
    report: Report = lambda done, of, what: None,
) -> Moved:
    """Write a folder for each experiment, with a folder for each run, with one event file.

    Args:
        store: where from.
        folder: where to.
        experiment: only the experiment of this name.
        dry_run: count, and write nothing.
        report: told how far it is.

    Raises:
        NotFound: there is no such experiment.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give a folder.")
    moved = Moved()
    with store.tracking.read() as reader:
        experiments = reader.experiments((ACTIVE,))
    if experiment is not None:
        names = [one.name for one in experiments]
        experiments = [one for one in experiments if one.name == experiment]
        if not experiments:
            raise NotFound(f"There is no experiment '{experiment[:80]}' in this store. {suggest(experiment, names)}")
    done = 0
    for one in experiments:
        home = folder / f"{_name(one.name)}-{one.id}"
        moved.experiments += 1
        for run in _runs(store, one.id):
            report(done, None, f"{one.name} · {run.info.name}")
            done += 1
            if dry_run:
                moved.runs += 1
                moved.points += sum(1 for _ in _points(store, run))
            else:
                _write(store, run, home / f"{_name(run.info.name)}-{run.info.id[:8]}", moved)
    return moved


def _name(name: str) -> str:
    """A name as that of a folder."""
    return _NOT_IN_NAMES.sub("_", name).strip(". ")[:80] or "_"


def _runs(store: Store, experiment: int) -> Iterator[TrackedRun]:
    after = None
    while True:
        with store.tracking.read() as reader:
            runs, after = reader.search([experiment], stages=(ACTIVE,), limit=_PAGE, after=after)
        yield from runs
        if after is None:
            return


def _points(store: Store, run: TrackedRun) -> Iterator[Point]:
    for newest in run.metrics:
        last: Point | None = None
        while True:
            with store.tracking.read() as reader:
                some = reader.history(run.info.id, newest.key, limit=_POINTS, after=last)
            yield from some
            if len(some) < _POINTS:
                break
            last = some[-1]


def _write(store: Store, run: TrackedRun, folder: Path, moved: Moved) -> None:
    """Write one run's file beside its place, and put it there whole; one that is the same stays."""
    folder.mkdir(parents=True, exist_ok=True)
    started = run.info.started / 1000
    place = folder / f"events.out.tfevents.{int(started):010d}.noria"
    beside = folder / f".{os.getpid()}.part"
    count = 0
    try:
        with beside.open("wb") as out:
            out.write(framed(version_event(started)))
            if run.params:
                out.write(framed(hparams_event(started, run.params)))
            for point in _points(store, run):
                out.write(framed(scalar_event(point.time / 1000, point.step, point.key, point.value)))
                count += 1
        if place.exists() and digest_file(place) == digest_file(beside):
            moved.unchanged += 1
            return
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)
    moved.runs += 1
    moved.points += count
    moved.files += 1
    moved.bytes += place.stat().st_size
