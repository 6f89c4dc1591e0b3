"""MLflow's SQLite database, read as it lies: the schemas of MLflow 2.10 to 3.x, without MLflow."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from noria.compat.mlflow.moving.places import local_files
from noria.compat.mlflow.moving.source import GONE, Files, Owner, Registered, integer, read_as
from noria.errors import DataError, NoriaError, NotFound
from noria.records.registry import MODEL_STATUSES, LoggedModel, RegisteredModel, RegisteredVersion
from noria.records.tracking import DELETED, Experiment, Input, ModelLink, ModelPoint, Point, RunInfo, TrackedRun
from noria.records.tracking import TrackedDataset as Dataset

__all__ = ["DatabaseSource"]

_NEEDED = ("experiments", "runs", "metrics", "params", "tags")
_PAGE = 500
_DATASETS = """
SELECT d.name, d.digest, d.dataset_source_type, d.dataset_source, d.dataset_schema, d.dataset_profile, i.input_uuid
FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id
WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id = ? ORDER BY i.input_uuid"""
_LINKS = """
SELECT source_id, 'input', step FROM inputs
WHERE source_type IN ('MODEL', 'MODEL_INPUT') AND destination_id = :run
UNION ALL
SELECT destination_id, 'output', step FROM inputs
WHERE source_type = 'RUN_OUTPUT' AND destination_type = 'MODEL_OUTPUT' AND source_id = :run"""


class DatabaseSource:
    """A SQLite file of ``mlflow server --backend-store-uri sqlite:///…``. A server may go on writing to it."""

    remote = False

    def __init__(self, path: Path, artifacts: Path | None) -> None:
        if not path.is_file():
            raise NotFound(f"There is no database {path}. Absolute paths have four slashes: sqlite:////data/mlflow.db.")
        beside = path.resolve().parent / "mlartifacts"
        self._artifacts = artifacts or (beside if beside.is_dir() else None)
        self._path = path
        self._connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, timeout=30)
        self._connection.execute("PRAGMA trusted_schema = OFF")
        tables = {name for (name,) in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        lacking = [name for name in _NEEDED if name not in tables]
        if lacking:
            self.close()
            raise DataError(f"{path} is no database of MLflow's tracking: it has no table {', '.join(lacking)}.")
        self._columns = {
            table: {row[1] for row in self._rows(f"PRAGMA table_info({table})")}
            for table in ("experiments", "runs", "inputs", "registered_models", "model_versions", "logged_models")
            if table in tables
        }
        self._tables = tables

    def _rows(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """All rows at once: a reader that lingers would keep a live server from writing."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise DataError(f"{self._path} cannot be read: {error}") from None

    def _select(self, table: str, *columns: str) -> str:
        """Columns of a table, and NULL for those that its age does not have."""
        there = self._columns[table]
        return ", ".join(name if name in there else f"NULL AS {name}" for name in columns)

    def _default_workspace(self, table: str) -> str:
        return " WHERE workspace = 'default'" if "workspace" in self._columns[table] else ""

    def experiments(self) -> list[Experiment]:
        """Every experiment of the default workspace, deleted ones too."""
        columns = self._select(
            "experiments", "experiment_id", "name", "artifact_location", "lifecycle_stage", "creation_time",
            "last_update_time",
        )  # fmt: skip
        where = self._default_workspace("experiments")
        found = []
        for number, name, artifacts, stage, created, updated in self._rows(f"SELECT {columns} FROM experiments{where}"):
            values = {
                "id": number,
                "name": name,
                "artifacts": artifacts or "",
                "stage": stage or "active",
                "created": created or 0,
                "updated": updated or created or 0,
                "tags": self._pairs("experiment_tags", "experiment_id", number),
            }
            found.append(read_as(Experiment, values, f"Experiment {number}"))
        return sorted(found, key=lambda one: one.id)

    def _pairs(self, table: str, column: str, value: Any) -> dict[str, str]:
        if table not in self._tables:
            return {}
        rows = self._rows(f"SELECT key, value FROM {table} WHERE {column} = ?", [value])
        return {str(key): "" if text is None else str(text) for key, text in rows}

    def count(self, experiment: int) -> int | None:
        """How many runs it has."""
        return int(self._rows("SELECT count(*) FROM runs WHERE experiment_id = ?", [experiment])[0][0])

    def runs(self, experiment: int) -> Iterator[TrackedRun | NoriaError]:
        """Its runs."""
        columns = self._select(
            "runs", "run_uuid", "name", "user_id", "status", "lifecycle_stage", "start_time", "end_time",
            "artifact_uri", "deleted_time",
        )  # fmt: skip
        last = ""
        while True:
            rows = self._rows(
                f"SELECT {columns} FROM runs WHERE experiment_id = ? AND run_uuid > ? ORDER BY run_uuid LIMIT {_PAGE}",
                [experiment, last],
            )
            for row in rows:
                try:
                    yield self._run(experiment, row)
                except NoriaError as error:
                    yield error
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def _run(self, experiment: int, row: Sequence[Any]) -> TrackedRun:
        run, name, user, status, stage, started, ended, artifacts, deleted = row
        tags = self._pairs("tags", "run_uuid", run)
        values = {
            "id": run,
            "experiment": experiment,
            "name": name or tags.get("mlflow.runName", ""),
            "user": user or "",
            "status": status,
            "stage": stage or "active",
            "started": started or 0,
            "ended": ended,
            "artifacts": artifacts or "",
            "deleted": deleted,
        }
        info = read_as(RunInfo, values, f"Run {str(run)[:80]}")
        inputs, links = [], []
        if {"inputs", "datasets"} <= self._tables:
            inputs = [self._input(found) for found in self._rows(_DATASETS, [run])]
            if "step" in self._columns["inputs"]:
                links = [
                    ModelLink(str(model), kind, int(step)) for model, kind, step in self._rows(_LINKS, {"run": run})
                ]
        return TrackedRun(info, (), self._pairs("params", "run_uuid", run), tags, tuple(inputs), tuple(links))

    def _input(self, row: Sequence[Any]) -> Input:
        *dataset, mark = row
        names = ("name", "digest", "source_type", "source", "schema", "profile")
        values = dict(zip(names, ("" if value is None else value for value in dataset), strict=True))
        tags = {
            str(key): str(value)
            for key, value in self._rows("SELECT name, value FROM input_tags WHERE input_uuid = ?", [mark])
        }
        return Input(read_as(Dataset, values, "A dataset"), tags)

    def points(self, run: TrackedRun) -> list[Point]:
        """Every point of every metric of a run."""
        rows = self._rows("SELECT key, value, is_nan, timestamp, step FROM metrics WHERE run_uuid = ?", [run.info.id])
        return [_point(*row) for row in rows]

    def logged_models(self, experiment: int) -> Iterator[tuple[LoggedModel, list[tuple[ModelPoint, str]]]]:
        """Its logged models, each with its points."""
        if "logged_models" not in self._tables:
            return
        rows = self._rows(
            "SELECT model_id, name, artifact_location, creation_timestamp_ms, last_updated_timestamp_ms, status, "
            "lifecycle_stage, model_type, source_run_id FROM logged_models WHERE experiment_id = ? ORDER BY model_id",
            [experiment],
        )
        for model, name, artifacts, created, updated, status, stage, type_, run in rows:
            params = self._rows("SELECT param_key, param_value FROM logged_model_params WHERE model_id = ?", [model])
            tags = self._rows("SELECT tag_key, tag_value FROM logged_model_tags WHERE model_id = ?", [model])
            values = {
                "id": model,
                "experiment": experiment,
                "name": name,
                "artifacts": artifacts,
                "created": created,
                "updated": updated,
                "run": run or "",
                "type": type_ or "",
                "status": MODEL_STATUSES[min(max(integer(status, "status"), 1), len(MODEL_STATUSES)) - 1],
                "params": dict(params),
                "tags": dict(tags),
                "deleted": updated if stage == DELETED else None,
            }
            points = self._rows(
                "SELECT metric_name, metric_value, metric_timestamp_ms, metric_step, dataset_name, dataset_digest, "
                "run_id FROM logged_model_metrics WHERE model_id = ?",
                [model],
            )
            yield (
                read_as(LoggedModel, values, f"Logged model {str(model)[:80]}"),
                [
                    (ModelPoint(model, _point(key, value, value is None, time, step), on or "", digest or ""), by or "")
                    for key, value, time, step, on, digest, by in points
                ],
            )

    def files(self, owner: Owner) -> Files | None:
        """The artifacts, where the database says they are."""
        return local_files(owner, self._artifacts)

    def registry(self) -> Iterator[Registered]:
        """Every registered model of the default workspace."""
        if "registered_models" not in self._tables:
            return
        where = self._default_workspace("registered_models")
        rows = self._rows(
            f"SELECT name, creation_time, last_updated_time, description FROM registered_models{where} ORDER BY name"
        )
        for name, created, updated, description in rows:
            versions = self._versions(name)
            aliases = {}
            if "registered_model_aliases" in self._tables:
                sql = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"
                aliases = {str(alias): integer(number, f"Alias {alias}") for alias, number in self._rows(sql, [name])}
            values = {
                "name": name,
                "created": created or 0,
                "updated": updated or created or 0,
                "description": description or "",
                "tags": self._pairs("registered_model_tags", "name", name),
                "last_version": max((one.version for one in versions), default=0),
            }
            versions = [one for one in versions if one.stage != GONE]
            yield Registered(read_as(RegisteredModel, values, f"Model {str(name)[:80]}"), versions, aliases)

    def _versions(self, name: str) -> list[RegisteredVersion]:
        columns = self._select(
            "model_versions", "version", "source", "storage_location", "creation_time", "last_updated_time", "run_id",
            "run_link", "user_id", "description", "status", "current_stage",
        )  # fmt: skip
        where = self._default_workspace("model_versions") or " WHERE 1"
        tags: dict[int, dict[str, str]] = {}
        for number, key, value in self._rows(
            "SELECT version, key, value FROM model_version_tags WHERE name = ?", [name]
        ):
            tags.setdefault(number, {})[str(key)] = str(value or "")
        found = []
        for row in self._rows(f"SELECT {columns} FROM model_versions{where} AND name = ? ORDER BY version", [name]):
            version, source, location, created, updated, run, link, user, description, status, stage = row
            values = {
                "name": name,
                "version": version,
                "source": source or "",
                "location": location or source or "",
                "created": created or 0,
                "updated": updated or created or 0,
                "run": run or "",
                "run_link": link or "",
                "model": _model_of(source or ""),
                "user": user or "",
                "description": description or "",
                "status": status or "READY",
                "stage": stage or "None",
                "tags": tags.get(version, {}),
            }
            found.append(read_as(RegisteredVersion, values, f"Version {version} of model {str(name)[:80]}"))
        return found

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _model_of(source: str) -> str:
    """The logged model that a version was registered from: the database keeps it in the source alone."""
    name = source.removeprefix("models:/")
    return name if name != source and name.startswith("m-") and "/" not in name and "@" not in name else ""


def _point(key: Any, value: Any, nan: Any, time: Any, step: Any) -> Point:
    try:
        return Point(str(key), math.nan if nan else float(value), int(time), int(step or 0))
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"Metric {str(key)[:80]!r} has a point that is not numbers.") from None
