"""Writes MLflow's file store, with ids, times and numbers as they are."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from noria.compat.mlflow.moving.export import TakenFiles
from noria.compat.mlflow.moving.places import Places
from noria.compat.mlflow.moving.source import Registered
from noria.compat.moved import Moved
from noria.core.hashing import digest_file
from noria.errors import Conflict, DataError
from noria.records.registry import MODEL_STATUSES, LoggedModel, RegisteredVersion
from noria.records.tracking import ACTIVE, DELETED, RUN_STATUSES, Experiment, ModelPoint, Point, TrackedRun

__all__ = ["FolderTarget"]

_INCOMING = ".incoming"
_TRASH = ".trash"
_SOURCE_TYPE_LOCAL = 4


class FolderTarget:
    """An ``mlruns`` folder. A new run is built beside it and moved in whole."""

    def __init__(self, folder: Path, moved: Moved, places: Places) -> None:
        self._root = folder.resolve()
        self._moved, self._places = moved, places
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file; give a folder.")
        self._root.mkdir(parents=True, exist_ok=True)
        self._homes: dict[int, Path] = {}
        self._numbers: dict[int, int] = {}
        self._known = _known(self._root)
        shutil.rmtree(self._root / _INCOMING, ignore_errors=True)

    def experiment(self, experiment: Experiment) -> None:
        """Make it, or find it by its name."""
        number = self._known.get(experiment.name)
        if number is None:
            taken = set(self._known.values())
            number = experiment.id if experiment.id not in taken else max(taken) + 1
            self._known[experiment.name] = number
            self._moved.experiments += 1
        above = self._root / _TRASH if experiment.stage == DELETED else self._root
        home = above / str(number)
        other = (self._root if experiment.stage == DELETED else self._root / _TRASH) / str(number)
        if other.is_dir():
            home = other
        (self._root / _TRASH).mkdir(exist_ok=True)
        _write_meta(
            home,
            {
                "artifact_location": (self._root / str(number)).as_uri(),
                "creation_time": experiment.created,
                "experiment_id": str(number),
                "last_update_time": experiment.updated,
                "lifecycle_stage": experiment.stage,
                "name": experiment.name,
            },
        )
        _write_all(home / "tags", experiment.tags, self._moved)
        self._homes[experiment.id], self._numbers[experiment.id] = home, number

    def run(self, run: TrackedRun, points: Iterator[Point], files: TakenFiles) -> None:
        """Write a run."""
        info = run.info
        home = self._homes[info.experiment]
        final = home / _name(info.id)
        new = not final.exists()
        folder = self._root / _INCOMING / info.id if new else final
        address = (self._root / str(self._numbers[info.experiment]) / info.id / "artifacts").as_uri()
        place = address if files.root else info.artifacts
        changed = _write_all(folder / "params", run.params, self._moved)
        changed |= _write_all(folder / "tags", run.tags, self._moved)
        count, written = self._metrics(folder, points)
        changed |= written | self._inputs(folder, home, run) | self._files(folder / "artifacts", files)
        for part in ("metrics", "params", "tags", "artifacts"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        changed |= _write_meta(
            folder,
            {
                "artifact_uri": place,
                **({} if info.deleted is None else {"deleted_time": info.deleted}),
                "end_time": info.ended,
                "entry_point_name": "",
                "experiment_id": str(self._numbers[info.experiment]),
                "lifecycle_stage": info.stage,
                "run_id": info.id,
                "run_name": info.name,
                "run_uuid": info.id,
                "source_name": "",
                "source_type": _SOURCE_TYPE_LOCAL,
                "source_version": "",
                "start_time": info.started,
                "status": RUN_STATUSES.index(info.status) + 1,
                "tags": [],
                "user_id": info.user,
            },
        )
        if new:
            folder.rename(final)
        self._places.note(info.artifacts, place)
        if changed:
            self._moved.runs += 1
            self._moved.points += count
        else:
            self._moved.unchanged += 1

    def _metrics(self, folder: Path, points: Iterable[Point]) -> tuple[int, bool]:
        """Write each metric's points as they come, key after key."""
        count, changed, key = 0, False, ""
        lines: list[str] = []
        for point in points:
            if point.key != key:
                changed |= self._metric(folder, key, lines)
                key, lines = point.key, []
            lines.append(f"{point.time} {point.value!r} {point.step}\n")
            count += 1
        return count, self._metric(folder, key, lines) or changed

    def _metric(self, folder: Path, key: str, lines: Sequence[str]) -> bool:
        return _write_all(folder / "metrics", {key: "".join(lines)}, self._moved) if lines else False

    def _inputs(self, folder: Path, home: Path, run: TrackedRun) -> bool:
        changed = False
        for one in run.inputs:
            data = one.dataset
            dataset = _digest(data.name, data.digest)
            _write_meta(
                home / "datasets" / dataset,
                {
                    "digest": data.digest,
                    "name": data.name,
                    "profile": data.profile or None,
                    "schema": data.schema or None,
                    "source": data.source,
                    "source_type": data.source_type,
                },
            )
            changed |= _write_meta(
                folder / "inputs" / _digest(dataset, run.info.id),
                {
                    "destination_id": run.info.id,
                    "destination_type": "RUN",
                    "source_id": dataset,
                    "source_type": "DATASET",
                    "tags": one.tags,
                },
            )
        for link in run.models:
            if link.kind == "input":
                place = folder / "inputs" / _digest(link.model, run.info.id)
                ends = {"destination_type": "RUN", "source_id": link.model, "source_type": "MODEL"}
                changed |= _write_meta(place, {**ends, "destination_id": run.info.id, "tags": {}})
            else:
                place = folder / "outputs" / _name(link.model)
                ends = {"destination_type": "MODEL_OUTPUT", "source_id": run.info.id, "source_type": "RUN_OUTPUT"}
                changed |= _write_meta(place, {**ends, "destination_id": link.model, "step": link.step, "tags": {}})
        return changed

    def _files(self, folder: Path, files: TakenFiles) -> bool:
        changed = False
        for path, artifact in files.each():
            place = folder.joinpath(*(_name(part) for part in path.split("/")))
            if place.is_file() and place.stat().st_size == artifact.size and digest_file(place) == artifact.digest:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(f".{artifact.digest[-16:]}.part")
            with beside.open("wb") as handle:
                for piece in files.blobs.read(artifact.digest):
                    handle.write(piece)
            if digest_file(beside) != artifact.digest:
                beside.unlink()
                raise DataError(f"the copy of {path[:200]!r} is not what was read")
            beside.replace(place)
            changed = True
            self._moved.files += 1
            self._moved.bytes += artifact.size
        return changed

    def model(self, model: LoggedModel, points: Sequence[tuple[ModelPoint, str]], files: TakenFiles) -> None:
        """Write a logged model."""
        folder = self._homes[model.experiment] / "models" / _name(model.id)
        address = (self._root / str(self._numbers[model.experiment]) / "models" / model.id / "artifacts").as_uri()
        place = address if files.root else model.artifacts
        changed = _write_all(folder / "params", model.params, self._moved)
        changed |= _write_all(folder / "tags", model.tags, self._moved)
        lines: dict[str, str] = {}
        for one, run in points:
            dataset = f" {one.dataset_name} {one.dataset_digest}" if one.dataset_name and one.dataset_digest else ""
            if " " in dataset.strip().replace(f" {one.dataset_digest}", "") or not run:
                self._moved.problem(
                    f"A point of {one.point.key!r} of model {model.id}", "a folder cannot hold its names"
                )
                continue
            text = f"{one.point.time} {one.point.value!r} {one.point.step} {run}{dataset}\n"
            lines[one.point.key] = lines.get(one.point.key, "") + text
        changed |= _write_all(folder / "metrics", lines, self._moved)
        changed |= self._files(folder / "artifacts", files)
        changed |= _write_meta(
            folder,
            {
                "artifact_location": place,
                "creation_timestamp": model.created,
                "experiment_id": str(self._numbers[model.experiment]),
                "last_updated_timestamp": model.updated,
                "lifecycle_stage": ACTIVE,
                "model_id": model.id,
                "model_type": model.type or None,
                "name": model.name,
                "source_run_id": model.run or None,
                "status": MODEL_STATUSES.index(model.status) + 1,
                "status_message": None,
            },
        )
        self._places.note(model.artifacts, place)
        self._moved.logged_models += changed

    def linked(self, run: TrackedRun) -> None:
        """A folder's links are written with the run."""

    def finish(self) -> None:
        """A folder needs no more."""

    def registered(self, found: Registered) -> None:
        """Write a registered model."""
        model = found.model
        folder = self._root / "models" / _name(model.name)
        self._moved.models += not folder.exists()
        for version in found.versions:
            self._moved.versions += self._version(folder / f"version-{version.version}", version)
        _write_all(folder / "tags", model.tags, self._moved)
        _write_all(folder / "aliases", {alias: str(at) for alias, at in found.aliases.items()}, self._moved)
        _write_meta(
            folder,
            {
                "aliases": {alias: str(at) for alias, at in found.aliases.items()},
                "creation_timestamp": model.created,
                "description": model.description,
                "last_updated_timestamp": model.updated,
                "name": model.name,
            },
        )

    def _version(self, folder: Path, version: RegisteredVersion) -> bool:
        changed = _write_all(folder / "tags", version.tags, self._moved)
        return changed | _write_meta(
            folder,
            {
                "creation_timestamp": version.created,
                "current_stage": version.stage,
                "description": version.description,
                "last_updated_timestamp": version.updated,
                "model_id": version.model or None,
                "name": version.name,
                "run_id": version.run,
                "run_link": version.run_link or None,
                "source": self._places.now(version.source),
                "status": version.status,
                "status_message": None,
                "storage_location": self._places.now(version.location),
                "user_id": version.user or None,
                "version": version.version,
            },
        )

    def close(self) -> None:
        """Remove what is half."""
        shutil.rmtree(self._root / _INCOMING, ignore_errors=True)


def _known(root: Path) -> dict[str, int]:
    """The experiments that the folder has."""
    if not any(root.glob("*/meta.yaml")):
        return {}
    from noria.compat.mlflow.moving.folder import FolderSource

    return {one.name: one.id for one in FolderSource(root, None).experiments()}


def _digest(*parts: str) -> str:
    return hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()


def _name(name: str) -> str:
    """A name as that of a file."""
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255:
        raise DataError(f"{name[:80]!r} cannot be the name of a file")
    return name


def _write_all(folder: Path, values: Mapping[str, str], moved: Moved) -> bool:
    """Params, tags or metrics: each a file named by its key. Whether anything changed."""
    changed = False
    for key, text in values.items():
        try:
            changed |= _write(folder.joinpath(*(_name(part) for part in key.split("/"))), text.encode())
        except (OSError, DataError) as error:
            moved.problem(f"{folder.name} {key[:80]!r} in {folder.parent.name}", error)
    return changed


def _write(path: Path, data: bytes) -> bool:
    """Write a file at once; whether it was not so already."""
    try:
        if path.read_bytes() == data:
            return False
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise Conflict(f"a part of {path} is a file") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.part")
    beside.write_bytes(data)
    beside.replace(path)
    return True


def _write_meta(folder: Path, values: Mapping[str, Any]) -> bool:
    text = "".join(f"{key}: {_yaml(value)}\n" for key, value in values.items())
    return _write(folder / "meta.yaml", text.encode())


def _yaml(value: Any) -> str:
    """A value in YAML, on one line."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(one) for one in value) + "]"
    return '"' + "".join(_sign(sign) for sign in str(value)) + '"'


def _sign(sign: str) -> str:
    if sign in '"\\':
        return "\\" + sign
    if " " <= sign <= "~":
        return sign
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
