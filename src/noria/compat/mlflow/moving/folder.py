"""MLflow's file store: a folder of experiments, each a folder of runs, with ``meta.yaml`` beside plain files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noria.compat.mlflow.moving.places import local_files
from noria.compat.mlflow.moving.source import GONE, Files, Owner, Registered, integer, read_as
from noria.compat.tree import Tree
from noria.errors import DataError, MissingExtra, NoriaError
from noria.records.registry import MODEL_STATUSES, LoggedModel, RegisteredModel, RegisteredVersion
from noria.records.tracking import (
    DELETED,
    RUN_STATUSES,
    Experiment,
    Input,
    ModelLink,
    ModelPoint,
    Point,
    RunInfo,
    TrackedDataset,
    TrackedRun,
)

__all__ = ["FolderSource"]

_MOST_META = 32 << 20
_MOST_METRIC = 4 << 30
_APART = frozenset(("tags", "datasets", "traces", "models"))
_TRASH = ".trash"


def _reader() -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtra("PyYAML", "mlflow", "to read an mlruns folder") from None

    class Plain(yaml.SafeLoader):
        """Without references, by which a small text can stand for an endless one."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("it refers to a part of itself")
            return super().compose_node(parent, index)

    return yaml, Plain


class FolderSource:
    """An ``mlruns`` folder."""

    remote = False

    def __init__(self, folder: Path, artifacts: Path | None) -> None:
        self._tree, self._artifacts = Tree(folder), artifacts
        self._yaml, self._loader = _reader()
        if not self._homes():
            raise DataError(
                f"{folder} holds no experiments: an mlruns folder has one folder with a meta.yaml for each."
            )

    def _meta(self, tree: Tree, *parts: str) -> dict[str, Any]:
        path = "/".join((*parts, "meta.yaml"))
        text = tree.text(path, _MOST_META)
        try:
            found = self._yaml.load(text, Loader=self._loader)
        except (self._yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(f"{path} is not YAML that can be read: {error}") from None
        if not isinstance(found, dict):
            raise DataError(f"{path} is not a list of names and values.")
        return found

    def _homes(self) -> dict[int, tuple[str, ...]]:
        """Where each experiment's folder is, deleted ones in the trash."""
        found: dict[int, tuple[str, ...]] = {}
        for above in ((_TRASH,), ()):
            for name in self._tree.folders(*above):
                if name.isascii() and name.isdigit() and len(name) < 19:
                    found[int(name)] = (*above, name)
        return found

    def experiments(self) -> list[Experiment]:
        """Every experiment, deleted ones too."""
        found = []
        for number, parts in sorted(self._homes().items()):
            tree = self._tree.inner(*parts)
            if tree is None or "meta.yaml" not in {name for name, _ in tree.entries()}:
                continue
            meta = self._meta(tree)
            created = integer(meta.get("creation_time") or 0, "creation_time")
            values = {
                "id": number,
                "name": str(meta.get("name", number)),
                "artifacts": str(meta.get("artifact_location") or ""),
                "stage": DELETED if parts[0] == _TRASH else meta.get("lifecycle_stage", "active"),
                "created": created,
                "updated": meta.get("last_update_time") or created,
                "tags": _pairs(tree, "tags"),
            }
            found.append(read_as(Experiment, values, f"Experiment {number}"))
        return found

    def _home(self, experiment: int) -> Tree:
        tree = self._tree.inner(*self._homes()[experiment])
        if tree is None:
            raise DataError(f"The folder of experiment {experiment} went away.")
        return tree

    def _run_names(self, experiment: int) -> list[str]:
        return [name for name in self._home(experiment).folders() if name not in _APART and not name.startswith(".")]

    def count(self, experiment: int) -> int | None:
        """How many runs it has."""
        return len(self._run_names(experiment))

    def runs(self, experiment: int) -> Iterator[TrackedRun | NoriaError]:
        """Its runs."""
        home = self._home(experiment)
        for name in self._run_names(experiment):
            tree = home.inner(name)
            if tree is None:
                continue
            try:
                yield self._run(home, tree, name, experiment)
            except NoriaError as error:
                yield error

    def _run(self, home: Tree, tree: Tree, name: str, experiment: int) -> TrackedRun:
        meta = self._meta(tree)
        if str(meta.get("run_id") or meta.get("run_uuid")) != name:
            raise DataError(f"The folder {name[:80]!r} holds a run of another id.")
        tags = _pairs(tree, "tags")
        status = meta.get("status")
        deleted = meta.get("deleted_time")
        values = {
            "id": name,
            "experiment": experiment,
            "name": str(meta.get("run_name") or meta.get("name") or tags.get("mlflow.runName") or ""),
            "user": str(meta.get("user_id") or ""),
            "status": RUN_STATUSES[status - 1] if type(status) is int and 0 < status <= len(RUN_STATUSES) else status,
            "stage": meta.get("lifecycle_stage", "active"),
            "started": meta.get("start_time") or 0,
            "ended": meta.get("end_time"),
            "artifacts": str(meta.get("artifact_uri") or ""),
            "deleted": deleted,
        }
        info = read_as(RunInfo, values, f"Run {name[:80]}")
        inputs, links = self._inputs(home, tree)
        return TrackedRun(info, (), _pairs(tree, "params"), tags, tuple(inputs), tuple(links))

    def _inputs(self, home: Tree, tree: Tree) -> tuple[list[Input], list[ModelLink]]:
        inputs, links = [], []
        for name in tree.folders("inputs"):
            meta = self._meta(tree, "inputs", name)
            of = str(meta.get("source_id"))
            if meta.get("source_type") == "DATASET":
                values = self._meta(home, "datasets", of) if home.inner("datasets", of) else None
                if values is None:
                    continue
                values = {key: value for key, value in values.items() if value is not None}
                dataset = read_as(TrackedDataset, values, f"Dataset {of[:80]}")
                inputs.append(Input(dataset, read_as(dict[str, str], meta.get("tags") or {}, "The tags of an input")))
            elif meta.get("source_type") in ("MODEL", "MODEL_INPUT"):
                links.append(ModelLink(of, "input"))
        for name in tree.folders("outputs"):
            step = integer(self._meta(tree, "outputs", name).get("step") or 0, "step")
            links.append(ModelLink(name, "output", step))
        return inputs, links

    def points(self, run: TrackedRun) -> list[Point]:
        """Every point of every metric of a run."""
        tree = self._home(run.info.experiment).inner(run.info.id)
        found = []
        for key, lines in _lines(tree):
            for parts in lines:
                if len(parts) not in (2, 3, 5):
                    raise DataError(f"Metric {key[:80]!r} has a line of {len(parts)} parts.")
                found.append(_point(key, parts))
        return found

    def logged_models(self, experiment: int) -> Iterator[tuple[LoggedModel, list[tuple[ModelPoint, str]]]]:
        """Its logged models, each with its points."""
        home = self._home(experiment)
        for name in home.folders("models"):
            tree = home.inner("models", name)
            if tree is None:
                continue
            meta = self._meta(tree)
            status = integer(meta.get("status") or 1, "status")
            deleted = meta.get("last_updated_timestamp") if meta.get("lifecycle_stage") == DELETED else None
            values = {
                "id": name,
                "experiment": experiment,
                "name": meta.get("name") or "",
                "artifacts": str(meta.get("artifact_location") or ""),
                "created": meta.get("creation_timestamp"),
                "updated": meta.get("last_updated_timestamp"),
                "run": meta.get("source_run_id") or "",
                "type": meta.get("model_type") or "",
                "status": MODEL_STATUSES[min(max(status, 1), len(MODEL_STATUSES)) - 1],
                "params": _pairs(tree, "params"),
                "tags": _pairs(tree, "tags"),
                "deleted": deleted,
            }
            points = []
            for key, lines in _lines(tree):
                for parts in lines:
                    if len(parts) not in (4, 6):
                        raise DataError(f"Metric {key[:80]!r} of model {name[:80]} has a line of {len(parts)} parts.")
                    dataset = (parts[4], parts[5]) if len(parts) == 6 else ("", "")
                    points.append((ModelPoint(name, _point(key, parts), *dataset), parts[3]))
            yield read_as(LoggedModel, values, f"Logged model {name[:80]}"), points

    def files(self, owner: Owner) -> Files | None:
        """The artifacts, from the folder itself if they are there."""
        inside = (owner.id, "artifacts") if owner.kind == "run" else ("models", owner.id, "artifacts")
        own = self._home(owner.experiment).inner(*inside)
        if own is not None and any(True for _ in own.entries()):
            return own
        return local_files(owner, self._artifacts) or own

    def registry(self) -> Iterator[Registered]:
        """Every registered model."""
        for name in self._tree.folders("models"):
            tree = self._tree.inner("models", name)
            if tree is None:
                continue
            meta = self._meta(tree)
            versions = []
            for inner in tree.folders():
                if inner.startswith("version-"):
                    below = tree.inner(inner)
                    assert below is not None
                    versions.append(_version(self._meta(below), _pairs(below, "tags"), name))
            values = {
                "name": str(meta.get("name", name)),
                "created": meta.get("creation_timestamp") or 0,
                "updated": meta.get("last_updated_timestamp") or 0,
                "description": meta.get("description") or "",
                "tags": _pairs(tree, "tags"),
                "last_version": max((one.version for one in versions), default=0),
            }
            versions = [one for one in versions if one.stage != GONE]
            aliases = {alias: integer(text, f"Alias {alias[:80]}") for alias, text in _pairs(tree, "aliases").items()}
            yield Registered(read_as(RegisteredModel, values, f"Model {name[:80]}"), versions, aliases)

    def close(self) -> None:
        """Nothing is held."""


def _version(meta: dict[str, Any], tags: dict[str, str], name: str) -> RegisteredVersion:
    source = str(meta.get("source") or "")
    values = {
        "name": name,
        "version": meta.get("version"),
        "source": source,
        "location": meta.get("storage_location") or source,
        "created": meta.get("creation_timestamp") or 0,
        "updated": meta.get("last_updated_timestamp") or 0,
        "run": meta.get("run_id") or "",
        "run_link": meta.get("run_link") or "",
        "model": meta.get("model_id") or "",
        "user": str(meta.get("user_id") or ""),
        "description": meta.get("description") or "",
        "status": meta.get("status") or "READY",
        "stage": meta.get("current_stage") or "None",
        "tags": tags,
    }
    return read_as(RegisteredVersion, values, f"A version of model {name[:80]}")


def _pairs(tree: Tree, folder: str) -> dict[str, str]:
    """Params or tags: each a file whose path below the folder is the key."""
    inner = tree.inner(folder)
    return {key: inner.text(key, _MOST_META) for key, _ in inner.walk()} if inner is not None else {}


def _lines(tree: Tree | None) -> Iterator[tuple[str, list[list[str]]]]:
    """The metrics of a run or model: key, and the parts of each line."""
    inner = tree.inner("metrics") if tree is not None else None
    if inner is not None:
        for key, _ in inner.walk():
            yield key, [line.split(" ") for line in inner.text(key, _MOST_METRIC).splitlines() if line.strip()]


def _point(key: str, parts: list[str]) -> Point:
    try:
        return Point(key, float(parts[1]), int(parts[0]), int(parts[2]) if len(parts) > 2 else 0)
    except ValueError:
        raise DataError(f"Metric {key[:80]!r} has the line {' '.join(parts)[:80]!r}.") from None
