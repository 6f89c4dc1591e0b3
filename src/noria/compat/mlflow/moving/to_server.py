"""Sends what a store holds to a tracking server. Servers choose the ids of runs and models: a tag tells the old one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

from noria.compat.mlflow.forms import dataset_form, number_form, pairs
from noria.compat.mlflow.moving.export import TakenFiles
from noria.compat.mlflow.moving.http import Server
from noria.compat.mlflow.moving.places import Places
from noria.compat.mlflow.moving.rest import API, PROXY, RestSource, proxied
from noria.compat.mlflow.moving.source import Owner, Registered
from noria.compat.moved import Moved, same
from noria.core.hashing import Hasher
from noria.errors import Conflict, DataError, NotFound
from noria.records.registry import LoggedModel, RegisteredVersion
from noria.records.tracking import ACTIVE, DELETED, Experiment, ModelPoint, Point, RunInfo, TrackedRun

__all__ = ["ServerTarget"]

T = TypeVar("T")
_RUN_TAG = "noria.run_id"
_MODEL_TAG = "noria.model_id"
_TELL_RUNS = ("mlflow.parentRunId", "mlflow.rootRunId")
_OWN_TAGS = frozenset((_RUN_TAG, _MODEL_TAG))
_MANY_POINTS, _MANY_PAIRS = 1000, 100
_STATUS = {"PENDING": "LOGGED_MODEL_PENDING", "READY": "LOGGED_MODEL_READY", "FAILED": "LOGGED_MODEL_UPLOAD_FAILED"}
_PIECE = 1 << 20


class ServerTarget:
    """A server at an ``http(s)`` address, MLflow's own or another."""

    def __init__(self, address: str, moved: Moved, places: Places) -> None:
        self._server, self._there = Server(address), RestSource(address)
        self._moved, self._places = moved, places
        self._experiments = {one.name: one for one in self._there.experiments()}
        self._numbers: dict[int, int] = {}
        self._runs: dict[str, TrackedRun] = {}  # of the experiment at hand, by the id here
        self._models: dict[str, LoggedModel] = {}
        self._run_ids: dict[str, str] = {}
        self._named: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self._deleted: list[str] = []
        self._model_ids: dict[str, str] = {}

    def experiment(self, experiment: Experiment) -> None:
        """Make it, or find it by its name."""
        found = self._experiments.get(experiment.name)
        tags = {key: value for key, value in experiment.tags.items() if found is None or found.tags.get(key) != value}
        if found is None:
            body = {"name": experiment.name, "tags": pairs(tags)}
            number = int(self._server.post(f"{API}/experiments/create", body)["experiment_id"])
            self._moved.experiments += 1
        else:
            number = found.id
            for key, value in tags.items() if found.stage == ACTIVE else ():
                body = {"experiment_id": str(number), "key": key, "value": value}
                self._server.post(f"{API}/experiments/set-experiment-tag", body)
        if found is not None and found.stage == DELETED:
            raise Conflict("it is deleted there: restore it first")
        if experiment.stage == DELETED:
            self._moved.note(f"Experiment '{experiment.name}' is deleted here and active there.")
        self._numbers[experiment.id] = number
        self._runs, self._models = {}, {}
        for run in self._there.runs(number):
            if isinstance(run, TrackedRun):
                self._runs[run.tags.get(_RUN_TAG, run.info.id)] = run
        for model, _ in self._there.logged_models(number):
            self._models[model.tags.get(_MODEL_TAG, model.id)] = model

    def run(self, run: TrackedRun, points: Iterator[Point], files: TakenFiles) -> None:
        """Send a run, or what is new of it."""
        info = run.info
        there = self._runs.get(info.id)
        if there is not None and there.info.stage == DELETED:
            self._known(run, there)
            self._moved.unchanged += 1
            return
        new = there is None
        if there is None:
            there = self._created(run)
        self._known(run, there)
        theirs = {same(point) for point in self._there.points(there)}
        count = self._points(there.info.id, (point for point in points if same(point) not in theirs))
        tags = self._tags(run, there)
        changed = self._pairs(there.info.id, "params", run.params, there.params)
        changed |= self._pairs(there.info.id, "tags", tags, there.tags)
        fresh = [one for one in run.inputs if one not in there.inputs]
        if fresh:
            listed = [{"dataset": dataset_form(one.dataset), "tags": pairs(one.tags)} for one in fresh]
            self._server.post(f"{API}/runs/log-inputs", {"run_id": there.info.id, "datasets": listed})
        changed |= self._files(Owner("run", there.info.id, there.info.experiment, there.info.artifacts), files)
        state = (info.status, info.ended, info.name)
        if (there.info.status, there.info.ended, there.info.name) != state:
            body: dict[str, Any] = {"run_id": there.info.id, "status": info.status, "run_name": info.name}
            self._server.post(f"{API}/runs/update", body if info.ended is None else {**body, "end_time": info.ended})
            changed = True
        if info.stage == DELETED:
            self._deleted.append(there.info.id)
            changed = True
        self._moved.points += count
        if new or changed or count or fresh:
            self._moved.runs += 1
        else:
            self._moved.unchanged += 1

    def _created(self, run: TrackedRun) -> TrackedRun:
        info = run.info
        body = {
            "experiment_id": str(self._numbers[info.experiment]),
            "user_id": info.user,
            "run_name": info.name,
            "start_time": info.started,
            "tags": pairs({"mlflow.runName": info.name, _RUN_TAG: info.id}),
        }
        made = self._server.post(f"{API}/runs/create", body)["run"]["info"]
        there = TrackedRun(_info(run, made, self._numbers[info.experiment]), tags={_RUN_TAG: info.id})
        self._runs[info.id] = there
        return there

    def _known(self, run: TrackedRun, there: TrackedRun) -> None:
        self._run_ids[run.info.id] = there.info.id
        self._places.note(run.info.artifacts, there.info.artifacts)

    def _tags(self, run: TrackedRun, there: TrackedRun) -> dict[str, str]:
        """A run's tags there; those that name other runs come when all runs are there."""
        tags = {key: value for key, value in run.tags.items() if key not in _OWN_TAGS}
        told = {key: tags.pop(key) for key in _TELL_RUNS if key in tags}
        if told:
            self._named.append((there.info.id, told, there.tags))
        return tags

    def finish(self) -> None:
        """Name the runs that others were started by, and delete what is deleted here."""
        for run, told, known in self._named:
            tags = {key: self._run_ids[other] for key, other in told.items() if other in self._run_ids}
            self._pairs(run, "tags", tags, known)
            for key in told.keys() - tags.keys():
                self._moved.note(f"Run {run} there has no {key}: the run it names did not come along.")
        for run in self._deleted:
            self._server.post(f"{API}/runs/delete", {"run_id": run})

    def _points(self, run: str, points: Iterable[Point]) -> int:
        count = 0
        for some in _chunks(points, _MANY_POINTS):
            metrics = [_metric(point) for point in some]
            self._server.post(f"{API}/runs/log-batch", {"run_id": run, "metrics": metrics})
            count += len(some)
        return count

    def _pairs(self, run: str, what: str, values: dict[str, str], known: dict[str, str]) -> bool:
        new = {key: value for key, value in values.items() if known.get(key) != value}
        for some in _chunks(new.items(), _MANY_PAIRS):
            self._server.post(f"{API}/runs/log-batch", {"run_id": run, what: pairs(dict(some))})
        return bool(new)

    def _files(self, owner: Owner, files: TakenFiles) -> bool:
        """Send files through the server's proxy, and read each again."""
        root = proxied(owner.uri)
        if root is None:
            if files.files:
                self._moved.problem(f"Files of {owner.kind} {owner.id}", "the server does not take files itself")
            return False
        there = self._there.files(owner)
        assert there is not None
        known = dict(there.walk()) if files.files else {}
        changed = False
        for path, artifact in files.each():
            if known.get(path) == artifact.size:
                continue
            self._server.put(f"{PROXY}/{quote(f'{root}/{path}')}", _reading(files, artifact.digest), artifact.size)
            read = Hasher()
            with there.open(path) as opened:
                while piece := opened.read(_PIECE):
                    read.update(piece)
            if read.digest() != artifact.digest:
                raise DataError(f"the server's copy of {path[:200]!r} is not what was sent")
            self._moved.files += 1
            self._moved.bytes += artifact.size
            changed = True
        return changed

    def model(self, model: LoggedModel, points: Sequence[tuple[ModelPoint, str]], files: TakenFiles) -> None:
        """Send a logged model."""
        there = self._models.get(model.id)
        changed = there is None
        if there is None:
            body = {
                "experiment_id": str(self._numbers[model.experiment]),
                "name": model.name,
                "model_type": model.type,
                "source_run_id": self._run_ids.get(model.run, ""),
                "params": pairs(model.params),
                "tags": pairs({**model.tags, _MODEL_TAG: model.id}),
            }
            try:
                made = self._server.post(f"{API}/logged-models", body)["model"]["info"]
            except NotFound:
                raise DataError("the server knows no logged models: MLflow has them from 3.0 on") from None
            number = self._numbers[model.experiment]
            there = LoggedModel(made["model_id"], number, model.name, made["artifact_uri"], 0, 0)
            self._models[model.id] = there
        self._model_ids[model.id] = there.id
        self._places.note(model.artifacts, there.artifacts)
        changed |= self._files(Owner("model", there.id, there.experiment, there.artifacts), files)
        if there.status != model.status:
            path = f"{API}/logged-models/{quote(there.id, safe='')}"
            self._server.post(path, {"model_id": there.id, "status": _STATUS[model.status]}, "PATCH")
            changed = True
        if changed:
            for one, run in points:
                named = {"dataset_name": one.dataset_name, "dataset_digest": one.dataset_digest}
                metric = {**_metric(one.point), "model_id": there.id, **(named if one.dataset_name else {})}
                if run in self._run_ids:
                    self._server.post(f"{API}/runs/log-batch", {"run_id": self._run_ids[run], "metrics": [metric]})
        self._moved.logged_models += changed

    def linked(self, run: TrackedRun) -> None:
        """Link a run with the models it read and made."""
        there = self._runs[run.info.id]
        new = [link for link in run.models if link.model in self._model_ids]
        known = {(link.model, link.kind) for link in there.models}
        new = [link for link in new if (self._model_ids[link.model], link.kind) not in known]
        if there.info.stage == DELETED or not new:
            return
        read = [{"model_id": self._model_ids[link.model]} for link in new if link.kind == "input"]
        made = [{"model_id": self._model_ids[link.model], "step": link.step} for link in new if link.kind == "output"]
        if read:
            self._server.post(f"{API}/runs/log-inputs", {"run_id": there.info.id, "models": read})
        if made:
            self._server.post(f"{API}/runs/outputs", {"run_id": there.info.id, "models": made})

    def registered(self, found: Registered) -> None:
        """Send a registered model. Numbers that are no longer used are used up there too, so that all agree."""
        name, model = found.model.name, found.model
        known = next((one for one in self._there.registry() if one.model.name == name), None)
        if known is None:
            body = {"name": name, "description": model.description, "tags": pairs(model.tags)}
            self._server.post(f"{API}/registered-models/create", body)
            self._moved.models += 1
        theirs = {one.version: one for one in known.versions} if known else {}
        last = max(theirs, default=0)
        for version in found.versions:
            there = theirs.get(version.version)
            if there is None:
                last = self._version(name, version, last)
            elif there.run not in (version.run, self._run_ids.get(version.run, "")):
                raise Conflict(f"version {version.version} is another one there: rename the model here or there")
            if there is None or there.stage != version.stage:
                self._staged(name, version, there)
        for alias, number in found.aliases.items():
            if known is None or known.aliases.get(alias) != number:
                body = {"name": name, "alias": alias, "version": str(number)}
                self._server.post(f"{API}/registered-models/alias", body)

    def _version(self, name: str, version: RegisteredVersion, last: int) -> int:
        model = self._model_ids.get(version.model, "")
        run = self._run_ids.get(version.run, "")
        source = self._places.now(version.source)
        for kind, before, now in (("models:/", version.model, model), ("runs:/", version.run, run)):
            if now and version.source.startswith(kind + before):
                source = kind + now + version.source.removeprefix(kind + before)
        body = {
            "name": name,
            "source": source,
            "run_id": run,
            "run_link": version.run_link,
            "description": version.description,
            "tags": pairs(version.tags),
            **({"model_id": model} if model else {}),
        }
        if last >= version.version:
            raise Conflict(f"version {version.version} was deleted there, and its number is not given again")
        while True:
            made = int(self._server.post(f"{API}/model-versions/create", body)["model_version"]["version"])
            if made >= version.version:
                break
            gone = {"name": name, "version": str(made)}
            self._server.post(f"{API}/model-versions/delete", gone, "DELETE")
        if made != version.version:
            raise Conflict(f"version {version.version} got the number {made} there")
        self._moved.versions += 1
        return made

    def _staged(self, name: str, version: RegisteredVersion, there: RegisteredVersion | None) -> None:
        if version.stage != (there.stage if there else "None"):
            body: dict[str, Any] = {"name": name, "version": str(version.version), "stage": version.stage}
            self._server.post(f"{API}/model-versions/transition-stage", {**body, "archive_existing_versions": False})

    def close(self) -> None:
        """Close the connections."""
        self._server.close()
        self._there.close()


def _info(run: TrackedRun, made: dict[str, Any], experiment: int) -> RunInfo:
    return RunInfo(
        id=str(made.get("run_id") or made.get("run_uuid")),
        experiment=experiment,
        name=run.info.name,
        user=run.info.user,
        status="RUNNING",
        stage=ACTIVE,
        started=run.info.started,
        ended=None,
        artifacts=str(made.get("artifact_uri") or ""),
    )


def _metric(point: Point) -> dict[str, Any]:
    return {"key": point.key, "value": number_form(point.value), "timestamp": point.time, "step": point.step}


def _reading(files: TakenFiles, digest: str) -> Callable[[], Iterable[bytes]]:
    return lambda: files.blobs.read(digest)


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some
