"""The tracking store in SQL: experiments, runs, params, tags, and metric points clustered by run, key and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from noria.errors import Conflict, NotFound, ParamChanged
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
from noria.store.sql.database import Connection, Database
from noria.store.sql.search import find_runs
from noria.store.tracking import Activity, Artifact, TrackingChange

T = TypeVar("T")

_MANY = 500  # values in one IN
_CONTEXT = "mlflow.data.context"
_TAGS = msgspec.json.Decoder(dict[str, str])
_RUN = "r.id, r.experiment, r.name, r.user_name, r.status, r.stage, r.started, r.ended, r.artifacts, r.deleted"
_ADD_POINT = "INSERT INTO metrics (run, key, time, step, value, nan) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_SET_LATEST = """
INSERT INTO latest (run, key, value, nan, time, step, experiment) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, key) DO UPDATE SET
    value = excluded.value, nan = excluded.nan, time = excluded.time, step = excluded.step
WHERE (excluded.step, excluded.time, excluded.value) > (latest.step, latest.time, latest.value)"""
_ADD_PARAM = "INSERT INTO params (run, key, value, experiment) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_SET_TAG = """
INSERT INTO tags (run, key, value, experiment) VALUES (?, ?, ?, ?)
ON CONFLICT (run, key) DO UPDATE SET value = excluded.value"""
_ADD_MODEL_POINT = """
INSERT INTO model_metrics (model, run, key, time, step, value, nan, dataset_name, dataset_digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
_OF_RUN = ("params", "tags", "latest", "metrics", "inputs", "model_links")


def _split(value: float) -> tuple[float, int]:
    """A number as it is kept: NaN, which no database orders, is zero and a mark."""
    return (0.0, 1) if math.isnan(value) else (value, 0)


def _number(value: float, nan: int) -> float:
    return math.nan if nan else value


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]


def _after_folder(path: str) -> str:
    """The first text that sorts after everything in a folder: ``/`` is followed by ``0``."""
    return f"{path}0"


class _Reader:
    def __init__(self, connection: Connection, dialect: str) -> None:
        self._connection = connection
        self._dialect = dialect

    def experiment(self, *, id: int | None = None, name: str | None = None) -> Experiment | None:
        """One experiment by id or by name."""
        column, value = ("id", id) if name is None else ("name", name)
        found = self._experiments(f"{column} = ?", [value])
        return found[0] if found else None

    def experiments(self, stages: Sequence[str]) -> list[Experiment]:
        """All experiments of these stages, newest first."""
        return self._experiments(f"stage IN ({', '.join('?' * len(stages))})", list(stages)) if stages else []

    def activity(self) -> dict[int, Activity]:
        """What goes on in each experiment that has active runs."""
        rows = self._connection.execute(
            "SELECT experiment, count(*), sum(CASE WHEN status = 'RUNNING' THEN 1 ELSE 0 END), "
            "max(coalesce(ended, started)) FROM runs WHERE stage = 'active' GROUP BY experiment"
        ).fetchall()
        return {row[0]: Activity(int(row[1]), int(row[2]), row[3]) for row in rows}

    def _experiments(self, where: str, values: list[Any]) -> list[Experiment]:
        rows = self._connection.execute(
            "SELECT id, name, artifacts, stage, created, updated FROM experiments "
            f"WHERE {where} ORDER BY created DESC, id DESC",
            values,
        ).fetchall()
        tags: dict[int, dict[str, str]] = {}
        for some in _chunks([row[0] for row in rows]):
            for experiment, key, value in self._in("experiment, key, value", "experiment_tags", "experiment", some):
                tags.setdefault(experiment, {})[key] = value
        return [
            Experiment(number, name, artifacts, stage, created, updated, tags.get(number, {}))
            for number, name, artifacts, stage, created, updated in rows
        ]

    def _in(self, columns: str, table: str, column: str, values: Sequence[Any], rest: str = "") -> list[Any]:
        marks = ", ".join("?" * len(values))
        return self._connection.execute(
            f"SELECT {columns} FROM {table} WHERE {column} IN ({marks}){rest}", values
        ).fetchall()

    def info(self, run: str) -> RunInfo | None:
        """What a run is."""
        row = self._connection.execute(f"SELECT {_RUN} FROM runs r WHERE r.id = ?", [run]).fetchone()
        return RunInfo(*row) if row else None

    def run(self, run: str) -> TrackedRun | None:
        """One run with what it logged."""
        row = self._connection.execute("SELECT number FROM runs WHERE id = ?", [run]).fetchone()
        return self._whole([row[0]])[0] if row else None

    def _whole(self, numbers: Sequence[int]) -> list[TrackedRun]:
        infos: dict[int, RunInfo] = {}
        metrics: dict[int, list[Point]] = {}
        params: dict[int, dict[str, str]] = {}
        tags: dict[int, dict[str, str]] = {}
        inputs: dict[int, list[Input]] = {}
        links: dict[int, list[ModelLink]] = {}
        for some in _chunks(numbers):
            for number, *row in self._in(f"r.number, {_RUN}", "runs r", "r.number", some):
                infos[number] = RunInfo(*row)
            rows = self._in("run, key, value, nan, time, step", "latest", "run", some, " ORDER BY run, key")
            for number, key, value, nan, time, step in rows:
                metrics.setdefault(number, []).append(Point(key, _number(value, nan), time, step))
            for number, key, value in self._in("run, key, value", "params", "run", some, " ORDER BY run, key"):
                params.setdefault(number, {})[key] = value
            for number, key, value in self._in("run, key, value", "tags", "run", some, " ORDER BY run, key"):
                tags.setdefault(number, {})[key] = value
            joined = "inputs i JOIN datasets d ON d.number = i.dataset"
            columns = "i.run, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, i.tags"
            for number, *dataset, marked in self._in(columns, joined, "i.run", some, " ORDER BY i.run, i.dataset"):
                inputs.setdefault(number, []).append(Input(TrackedDataset(*dataset), _TAGS.decode(marked)))
            for number, *link in self._in("run, model, kind, step", "model_links", "run", some, " ORDER BY run, step"):
                links.setdefault(number, []).append(ModelLink(*link))
        return [
            TrackedRun(
                infos[number],
                tuple(metrics.get(number, ())),
                params.get(number, {}),
                tags.get(number, {}),
                tuple(inputs.get(number, ())),
                tuple(links.get(number, ())),
            )
            for number in numbers
        ]

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
        """Runs that meet every clause, in order, and the place to go on after."""
        if limit <= 0:
            return [], None
        found = find_runs(self._connection, self._dialect, experiments, clauses, order, stages, limit + 1, after)
        place = found[limit - 1][1] if len(found) > limit else None
        return self._whole([number for number, _ in found[:limit]]), place

    def history(self, run: str, key: str, *, limit: int | None = None, after: Point | None = None) -> list[Point]:
        """Points of one metric of a run by (time, step, value)."""
        found = self._connection.execute("SELECT number FROM runs WHERE id = ?", [run]).fetchone()
        if found is None:
            return []
        sql = "SELECT time, step, value, nan FROM metrics WHERE run = ? AND key = ?"
        values: list[Any] = [found[0], key]
        if after is not None:
            sql += " AND (time, step, value, nan) > (?, ?, ?, ?)"
            values += [after.time, after.step, *_split(after.value)]
        sql += " ORDER BY time, step, value, nan"
        if limit is not None:
            sql += " LIMIT ?"
            values.append(limit)
        rows = self._connection.execute(sql, values).fetchall()
        return [Point(key, math.nan if nan else value, time, step) for time, step, value, nan in rows]

    def model_points(self, models: Sequence[str]) -> list[tuple[ModelPoint, str]]:
        """Every point of these logged models, each with the run that logged it."""
        found = []
        for some in _chunks(models):
            columns = "model, key, value, nan, time, step, dataset_name, dataset_digest, run"
            rows = self._in(columns, "model_metrics", "model", some, " ORDER BY model, key, time, step")
            for model, key, value, nan, time, step, name, digest, run in rows:
                found.append((ModelPoint(model, Point(key, _number(value, nan), time, step), name, digest), run))
        return found

    def deleted_runs(self, before: int) -> list[RunInfo]:
        """Runs deleted before this time."""
        sql = f"SELECT {_RUN} FROM runs r WHERE r.deleted IS NOT NULL AND r.deleted < ? ORDER BY r.deleted, r.id"
        return [RunInfo(*row) for row in self._connection.execute(sql, [before]).fetchall()]

    def datasets(self, experiments: Sequence[int]) -> list[tuple[int, TrackedDataset, str]]:
        """Datasets that runs of these experiments read, with their context."""
        found = []
        for some in _chunks(experiments):
            columns = "DISTINCT d.experiment, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, i.context"
            joined = "datasets d JOIN inputs i ON i.dataset = d.number"
            for experiment, *dataset, context in self._in(columns, joined, "d.experiment", some):
                found.append((experiment, TrackedDataset(*dataset), context))
        return sorted(found, key=lambda row: (row[0], row[1].name, row[1].digest, row[2]))

    def artifact(self, path: str) -> Artifact | None:
        """One artifact by its whole path."""
        row = self._connection.execute(
            "SELECT path, digest, size, created FROM artifacts WHERE path = ?", [path]
        ).fetchone()
        return Artifact(*row) if row else None

    def folder(self, path: str) -> list[tuple[str, Artifact | None]]:
        """What is directly in a folder, by name."""
        start = f"{path}/" if path else ""
        found: list[tuple[str, Artifact | None]] = []
        last, end = start, _after_folder(path) if path else None
        while True:
            rows = self._from(last, end)
            for row in rows:
                name, slash, _ = row[0][len(start) :].partition("/")
                if slash:
                    found.append((name, None))
                    last = _after_folder(f"{start}{name}")  # nothing in it is looked at
                    break
                found.append((name, Artifact(*row)))
                last = f"{row[0]}\x01"  # no name holds a control character: just after this one
            else:
                if len(rows) < _MANY:
                    return sorted(found, key=lambda entry: entry[0])

    def _from(self, first: str, end: str | None) -> list[Any]:
        sql, values = "SELECT path, digest, size, created FROM artifacts WHERE path >= ?", [first]
        if end is not None:
            sql += " AND path < ?"
            values.append(end)
        return self._connection.execute(f"{sql} ORDER BY path LIMIT {_MANY}", values).fetchall()

    def under(self, path: str) -> list[Artifact]:
        """Every artifact in a folder and the folders in it."""
        sql, values = "SELECT path, digest, size, created FROM artifacts", []
        if path:
            sql += " WHERE path > ? AND path < ?"
            values = [f"{path}/", _after_folder(path)]
        return [Artifact(*row) for row in self._connection.execute(f"{sql} ORDER BY path", values).fetchall()]


class _Transaction(_Reader):
    def add_experiment(
        self, name: str, artifacts: str, at: int, tags: Mapping[str, str], *, id: int | None = None
    ) -> int:
        """A new experiment; ids are dense, but for those brought along."""
        if self._dialect == "postgresql":  # two processes must not take the same id
            self._connection.execute("SELECT pg_advisory_xact_lock(hashtext('noria experiments'))")
        (last,) = self._connection.execute("SELECT max(id) FROM experiments").fetchone()
        number = int(last) + 1 if id is None else id
        added = self._connection.execute(
            "INSERT INTO experiments (id, name, artifacts, stage, created, updated) VALUES (?, ?, ?, 'active', ?, ?) "
            "ON CONFLICT DO NOTHING",
            [number, name, artifacts.replace("{id}", str(number)), at, at],
        )
        if not added.rowcount:
            raise Conflict(f"There is an experiment '{name}' already, or one with the id {number}.")
        self.tag_experiment(number, tags)
        return number

    def set_experiment(self, id: int, at: int, *, name: str | None = None, stage: str | None = None) -> None:
        """Rename, delete or restore an experiment."""
        sets, values = ["updated = ?"], [at]
        for column, value in (("name", name), ("stage", stage)):
            if value is not None:
                sets.append(f"{column} = ?")
                values.append(value)  # type: ignore[arg-type]
        try:
            self._connection.execute(f"UPDATE experiments SET {', '.join(sets)} WHERE id = ?", [*values, id])
        except self._connection.IntegrityError:
            raise Conflict(f"There is an experiment '{name}' already.") from None

    def tag_experiment(self, id: int, tags: Mapping[str, str | None]) -> int:
        """Set tags, remove those that are None."""
        removed = 0
        for key, value in tags.items():
            if value is None:
                removed += self._connection.execute(
                    "DELETE FROM experiment_tags WHERE experiment = ? AND key = ?", [id, key]
                ).rowcount
            else:
                self._connection.execute(
                    "INSERT INTO experiment_tags (experiment, key, value) VALUES (?, ?, ?) "
                    "ON CONFLICT (experiment, key) DO UPDATE SET value = excluded.value",
                    [id, key, value],
                )
        return removed

    def add_run(self, run: RunInfo, tags: Mapping[str, str]) -> None:
        """A new run."""
        added = self._connection.execute(
            "INSERT INTO runs (id, experiment, name, user_name, status, stage, started, ended, artifacts, deleted) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            list(msgspec.structs.astuple(run)),
        )
        if not added.rowcount:
            raise Conflict(f"There is a run {run.id} already.")
        if tags:
            self.log(run.id, tags=tags)

    def set_run(self, run: RunInfo) -> None:
        """Replace what a run is."""
        self._connection.execute(
            "UPDATE runs SET name = ?, user_name = ?, status = ?, stage = ?, started = ?, ended = ?, deleted = ? "
            "WHERE id = ?",
            [run.name, run.user, run.status, run.stage, run.started, run.ended, run.deleted, run.id],
        )

    def set_stages(self, experiment: int, old: str, new: str, at: int | None) -> None:
        """Delete or restore all runs of an experiment."""
        self._connection.execute(
            "UPDATE runs SET stage = ?, deleted = ? WHERE experiment = ? AND stage = ?", [new, at, experiment, old]
        )

    def _number(self, run: str) -> tuple[int, int]:
        row = self._connection.execute("SELECT number, experiment FROM runs WHERE id = ?", [run]).fetchone()
        if row is None:
            raise NotFound(f"There is no run {run[:80]}.")
        return row[0], row[1]

    def log(
        self,
        run: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
        models: Sequence[ModelPoint] = (),
    ) -> None:
        """Add to a run; points that are there already are not doubled."""
        number, experiment = self._number(run)
        if params:
            self._log_params(run, number, experiment, params)
        if tags:
            for key, value in tags.items():
                if value is None:
                    self._connection.execute("DELETE FROM tags WHERE run = ? AND key = ?", [number, key])
                else:
                    self._connection.execute(_SET_TAG, [number, key, value, experiment])
        if points:
            self._log_points(number, experiment, points)
        if models:
            self.log_model_points(run, models)

    def _log_points(self, number: int, experiment: int, points: Sequence[Point]) -> None:
        rows = []
        newest: dict[str, tuple[tuple[int, int, float], int]] = {}
        for point in points:
            key, value, time, step = point.key, point.value, point.time, point.step
            kept, nan = (0.0, 1) if value != value else (value, 0)
            rows.append((number, key, time, step, kept, nan))
            place = (step, time, kept)
            if key not in newest or place > newest[key][0]:
                newest[key] = (place, nan)
        if len(rows) == 1:
            self._connection.execute(_ADD_POINT, rows[0])
        else:
            self._connection.executemany(_ADD_POINT, rows)
        for key, ((step, time, kept), nan) in newest.items():
            self._connection.execute(_SET_LATEST, (number, key, kept, nan, time, step, experiment))

    def _log_params(self, run: str, number: int, experiment: int, params: Mapping[str, str]) -> None:
        added = 0
        for key, value in params.items():
            added += self._connection.execute(_ADD_PARAM, (number, key, value, experiment)).rowcount
        if added == len(params):
            return
        for some in _chunks(list(params)):
            marks = ", ".join("?" * len(some))
            rows = self._connection.execute(
                f"SELECT key, value FROM params WHERE run = ? AND key IN ({marks})", [number, *some]
            ).fetchall()
            for key, old in rows:
                if params[key] != old:
                    raise ParamChanged(run, key, old, params[key])

    def add_inputs(self, run: str, inputs: Sequence[Input]) -> None:
        """Say what a run read."""
        number, experiment = self._number(run)
        for entry in inputs:
            given = entry.dataset
            self._connection.execute(
                "INSERT INTO datasets (experiment, name, digest, source_type, source, schema, profile) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [experiment, *msgspec.structs.astuple(given)],
            )
            (dataset,) = self._connection.execute(
                "SELECT number FROM datasets WHERE experiment = ? AND name = ? AND digest = ?",
                [experiment, given.name, given.digest],
            ).fetchone()
            tags = msgspec.json.encode(entry.tags).decode()
            self._connection.execute(
                "INSERT INTO inputs (run, dataset, context, tags) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (run, dataset) DO UPDATE SET context = excluded.context, tags = excluded.tags",
                [number, dataset, entry.tags.get(_CONTEXT, ""), tags],
            )

    def link_models(self, run: str, links: Sequence[ModelLink]) -> None:
        """Say which logged models a run read or made."""
        number, _ = self._number(run)
        for link in links:
            self._connection.execute(
                "INSERT INTO model_links (run, kind, model, step) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (run, kind, model) DO UPDATE SET step = excluded.step",
                [number, link.kind, link.model, link.step],
            )

    def log_model_points(self, run: str, points: Sequence[ModelPoint]) -> None:
        """Add points to logged models alone."""
        for model, point, name, digest in points:
            self._connection.execute(
                _ADD_MODEL_POINT, (model, run, point.key, point.time, point.step, *_split(point.value), name, digest)
            )

    def put_artifact(self, artifact: Artifact) -> None:
        """Name a blob."""
        parts = artifact.path.split("/")
        parents = ["/".join(parts[:count]) for count in range(1, len(parts))]
        taken = self._in("path", "artifacts", "path", parents) if parents else []
        if taken:
            raise Conflict(f"'{taken[0][0]}' is a file, and can hold no other.")
        if self._from(f"{artifact.path}/", _after_folder(artifact.path)):
            raise Conflict(f"'{artifact.path}' is a folder already.")
        self._connection.execute(
            "INSERT INTO artifacts (path, digest, size, created) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE "
            "SET digest = excluded.digest, size = excluded.size, created = excluded.created",
            artifact,
        )

    def remove_artifacts(self, path: str) -> int:
        """Remove a file, or a folder with all in it."""
        return self._connection.execute(
            "DELETE FROM artifacts WHERE path = ? OR (path > ? AND path < ?)",
            [path, f"{path}/", _after_folder(path)],
        ).rowcount

    def purge(self, runs: Sequence[str]) -> int:
        """Remove runs for ever, with all they logged."""
        removed = 0
        for run in runs:
            row = self._connection.execute("SELECT number FROM runs WHERE id = ?", [run]).fetchone()
            if row is not None:
                for table in _OF_RUN:
                    self._connection.execute(f"DELETE FROM {table} WHERE run = ?", [row[0]])
                removed += self._connection.execute("DELETE FROM runs WHERE number = ?", [row[0]]).rowcount
        return removed

    def purge_experiments(self, experiments: Sequence[int]) -> int:
        """Remove experiments that hold no run any more."""
        removed = 0
        for experiment in experiments:
            if self._connection.execute("SELECT 1 FROM runs WHERE experiment = ? LIMIT 1", [experiment]).fetchone():
                continue
            for table in ("experiment_tags", "datasets"):
                self._connection.execute(f"DELETE FROM {table} WHERE experiment = ?", [experiment])
            removed += self._connection.execute("DELETE FROM experiments WHERE id = ?", [experiment]).rowcount
        return removed


class SqlTracking:
    """:class:`noria.store.tracking.Tracking` in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def read(self) -> Iterator[_Reader]:
        """A consistent view."""
        with self._database.read() as connection:
            yield _Reader(connection, self._database.dialect)

    def write(self, change: TrackingChange[T]) -> T:
        """Run ``change`` in a transaction; returns after it is durable."""
        return self._database.write(self._bound(change))

    def submit(self, change: TrackingChange[T]) -> Future[T]:
        """As ``write``, without waiting."""
        return self._database.submit(self._bound(change))

    def _bound(self, change: TrackingChange[T]) -> Callable[[Connection], T]:
        return lambda connection: change(_Transaction(connection, self._database.dialect))

    def compact(self) -> None:
        """Give the space of what was removed back to the disk."""
        self._database.compact()

    def close(self) -> None:
        """Finish queued changes and close. Idempotent."""
        self._database.close()
