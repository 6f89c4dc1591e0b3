"""A tracking server that speaks MLflow's REST, MLflow's own or another, read over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from noria.compat.mlflow.moving.http import Server
from noria.compat.mlflow.moving.source import Files, Owner, Registered, integer, read_as
from noria.errors import DataError, NoriaError, NotFound
from noria.records.registry import LoggedModel, RegisteredModel, RegisteredVersion
from noria.records.tracking import Experiment, Input, ModelLink, ModelPoint, Point, RunInfo, TrackedDataset, TrackedRun

__all__ = ["API", "PROXY", "RestSource", "pages", "pairs", "proxied"]

API = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"
_STATUSES = {"LOGGED_MODEL_PENDING": "PENDING", "LOGGED_MODEL_READY": "READY", "LOGGED_MODEL_UPLOAD_FAILED": "FAILED"}
_DEPTH = 64


def pairs(listed: Any) -> dict[str, str]:
    """Tags or params that travel as a list."""
    return {str(one["key"]): str(one.get("value") or "") for one in listed or ()}


def pages(
    server: Server, address: str, key: str, /, *, body: dict[str, Any] | None = None, **query: Any
) -> Iterator[Any]:
    """Everything that a search or a list gives, page after page."""
    token = ""
    while True:
        more = {"page_token": token} if token else {}
        found = server.get(address, **query, **more) if body is None else server.post(address, {**body, **more})
        yield from found.get(key) or ()
        token = found.get("next_page_token") or ""
        if not token:
            return


def proxied(uri: str) -> str | None:
    """The path behind a server's proxy that an artifact address names, or None."""
    scheme, _, rest = uri.partition(":")
    if scheme != "mlflow-artifacts":
        return None
    if rest.startswith("//"):
        rest = rest[2:].partition("/")[2]
    return rest.strip("/")


class RestSource:
    """A server at an ``http(s)`` address."""

    remote = True

    def __init__(self, address: str) -> None:
        self._server = Server(address)
        self.experiments()

    def experiments(self) -> list[Experiment]:
        """Every experiment, deleted ones too."""
        found = []
        body = {"view_type": "ALL", "max_results": 1000}
        for one in pages(self._server, f"{API}/experiments/search", "experiments", body=body):
            values = {
                "id": one.get("experiment_id"),
                "name": one.get("name"),
                "artifacts": one.get("artifact_location") or "",
                "stage": one.get("lifecycle_stage") or "active",
                "created": one.get("creation_time") or 0,
                "updated": one.get("last_update_time") or one.get("creation_time") or 0,
                "tags": pairs(one.get("tags")),
            }
            found.append(read_as(Experiment, values, f"Experiment {str(one.get('experiment_id'))[:80]}"))
        return sorted(found, key=lambda one: one.id)

    def count(self, experiment: int) -> int | None:
        """Not known without reading them."""
        return None

    def runs(self, experiment: int) -> Iterator[TrackedRun | NoriaError]:
        """Its runs."""
        body = {"experiment_ids": [str(experiment)], "run_view_type": "ALL", "max_results": 1000}
        for one in pages(self._server, f"{API}/runs/search", "runs", body=body):
            try:
                yield _run(one, experiment)
            except NoriaError as error:
                yield error

    def points(self, run: TrackedRun) -> list[Point]:
        """Every point of every metric of a run."""
        found = []
        for newest in run.metrics:
            listed = pages(
                self._server,
                f"{API}/metrics/get-history",
                "metrics",
                run_id=run.info.id,
                metric_key=newest.key,
                max_results=25_000,
            )
            found += [_point(one) for one in listed]
        return found

    def logged_models(self, experiment: int) -> Iterator[tuple[LoggedModel, list[tuple[ModelPoint, str]]]]:
        """Its logged models, each with its newest points."""
        body = {"experiment_ids": [str(experiment)], "max_results": 50}
        try:
            listed = list(pages(self._server, f"{API}/logged-models/search", "models", body=body))
        except NotFound:
            return  # servers before 3.0 have none
        for one in listed:
            info, data = one.get("info") or {}, one.get("data") or {}
            created = info.get("creation_timestamp_ms") or 0
            values = {
                "id": info.get("model_id"),
                "experiment": experiment,
                "name": info.get("name") or "",
                "artifacts": info.get("artifact_uri") or "",
                "created": created,
                "updated": info.get("last_updated_timestamp_ms") or created,
                "run": info.get("source_run_id") or "",
                "type": info.get("model_type") or "",
                "status": _STATUSES.get(str(info.get("status")), "PENDING"),
                "params": pairs(data.get("params")),
                "tags": pairs(info.get("tags")),
            }
            model = read_as(LoggedModel, values, f"Logged model {str(info.get('model_id'))[:80]}")
            points = []
            for metric in data.get("metrics") or ():
                dataset = (str(metric.get("dataset_name") or ""), str(metric.get("dataset_digest") or ""))
                points.append((ModelPoint(model.id, _point(metric), *dataset), str(metric.get("run_id") or "")))
            yield model, points

    def files(self, owner: Owner) -> Files | None:
        """The artifacts, from the server's proxy, or as the server itself fetches them for its pages."""
        path = proxied(owner.uri)
        if path is not None:
            return _ProxiedFiles(self._server, path)
        return _RunFiles(self._server, owner.id) if owner.kind == "run" else _ModelFiles(self._server, owner.id)

    def registry(self) -> Iterator[Registered]:
        """Every registered model, and every prompt, which is kept as one."""
        found: dict[str, Any] = {}
        for only in ("", _PROMPTS):
            more: dict[str, Any] = {"filter": only} if only else {}
            for one in pages(
                self._server, f"{API}/registered-models/search", "registered_models", max_results=100, **more
            ):
                found[str(one.get("name"))] = one
        for name, one in sorted(found.items()):
            # a quote in a filter's text cannot be written everywhere: such a model is found among all versions
            of_name: dict[str, Any] = {"filter": f"name = '{name}'"} if "'" not in name else {}
            listed = pages(
                self._server, f"{API}/model-versions/search", "model_versions", max_results=10_000, **of_name
            )
            versions = [_version(made) for made in listed if made.get("name") == name]
            aliases = {
                str(kept["alias"]): integer(kept.get("version"), "The version of an alias")
                for kept in one.get("aliases") or ()
            }
            created = one.get("creation_timestamp") or 0
            values = {
                "name": name,
                "created": created,
                "updated": one.get("last_updated_timestamp") or created,
                "description": one.get("description") or "",
                "tags": pairs(one.get("tags")),
                "last_version": max((made.version for made in versions), default=0),
            }
            yield Registered(read_as(RegisteredModel, values, f"Model {name[:80]}"), versions, aliases)

    def close(self) -> None:
        """Close the connection."""
        self._server.close()


def _run(one: Any, experiment: int) -> TrackedRun:
    info, data = one.get("info") or {}, one.get("data") or {}
    inputs, outputs = one.get("inputs") or {}, one.get("outputs") or {}
    tags = pairs(data.get("tags"))
    values = {
        "id": info.get("run_id") or info.get("run_uuid"),
        "experiment": experiment,
        "name": info.get("run_name") or tags.get("mlflow.runName", ""),
        "user": info.get("user_id") or tags.get("mlflow.user", ""),
        "status": info.get("status") or "RUNNING",
        "stage": info.get("lifecycle_stage") or "active",
        "started": info.get("start_time") or 0,
        "ended": info.get("end_time"),
        "artifacts": info.get("artifact_uri") or "",
    }
    links = [ModelLink(str(link.get("model_id")), "input") for link in inputs.get("model_inputs") or ()]
    links += [
        ModelLink(str(link.get("model_id")), "output", integer(link.get("step") or 0, "step"))
        for link in outputs.get("model_outputs") or ()
    ]
    read = [
        Input(read_as(TrackedDataset, given.get("dataset"), "A dataset"), pairs(given.get("tags")))
        for given in inputs.get("dataset_inputs") or ()
    ]
    return TrackedRun(
        read_as(RunInfo, values, f"Run {str(values['id'])[:80]}"),
        tuple(_point(metric) for metric in data.get("metrics") or ()),
        pairs(data.get("params")),
        tags,
        tuple(read),
        tuple(links),
    )


def _point(one: Any) -> Point:
    try:
        value = float(one.get("value", 0.0))
    except (TypeError, ValueError):
        raise DataError(f"Metric {str(one.get('key'))[:80]!r} has a value that is no number.") from None
    time, step = one.get("timestamp") or 0, one.get("step") or 0
    return Point(str(one.get("key")), value, integer(time, "timestamp"), integer(step, "step"))


def _version(made: Any) -> RegisteredVersion:
    created = made.get("creation_timestamp") or 0
    source = made.get("source") or ""
    values = {
        "name": made.get("name"),
        "version": made.get("version"),
        "source": source,
        "location": source,
        "created": created,
        "updated": made.get("last_updated_timestamp") or created,
        "run": made.get("run_id") or "",
        "run_link": made.get("run_link") or "",
        "model": made.get("model_id") or "",
        "user": made.get("user_id") or "",
        "description": made.get("description") or "",
        "status": made.get("status") or "READY",
        "stage": made.get("current_stage") or "None",
        "tags": pairs(made.get("tags")),
    }
    return read_as(RegisteredVersion, values, f"A version of model {str(made.get('name'))[:80]}")


class _ServedFiles:
    """Files that a server lists folder by folder."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def _entries(self, folder: str) -> Iterator[Any]:
        raise NotImplementedError

    def _address(self, path: str) -> tuple[str, dict[str, str]]:
        raise NotImplementedError

    def walk(self) -> Iterator[tuple[str, int]]:
        """Every file: its path below the root, and its size."""
        yield from self._below("", 0)

    def _below(self, folder: str, depth: int) -> Iterator[tuple[str, int]]:
        if depth > _DEPTH:
            raise DataError(f"The server lists folders within folders without end: {folder[:200]}.")
        for one in self._entries(folder):
            name = str(one.get("path")).rsplit("/", 1)[-1]
            path = f"{folder}/{name}" if folder else name
            if one.get("is_dir"):
                yield from self._below(path, depth + 1)
            else:
                yield path, integer(one.get("file_size") or 0, "file_size")

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """One file's bytes."""
        address, query = self._address(path)
        with self._server.stream(address, **query) as answer:
            yield cast(BinaryIO, answer)


class _ProxiedFiles(_ServedFiles):
    def __init__(self, server: Server, root: str) -> None:
        super().__init__(server)
        self._root = root

    def _entries(self, folder: str) -> Iterator[Any]:
        path = f"{self._root}/{folder}" if folder else self._root
        yield from self._server.get(PROXY, path=path).get("files") or ()

    def _address(self, path: str) -> tuple[str, dict[str, str]]:
        return f"{PROXY}/{quote(f'{self._root}/{path}')}", {}


class _RunFiles(_ServedFiles):
    def __init__(self, server: Server, run: str) -> None:
        super().__init__(server)
        self._run = run

    def _entries(self, folder: str) -> Iterator[Any]:
        more: dict[str, Any] = {"path": folder} if folder else {}
        yield from pages(self._server, f"{API}/artifacts/list", "files", run_id=self._run, **more)

    def _address(self, path: str) -> tuple[str, dict[str, str]]:
        return "/get-artifact", {"path": path, "run_uuid": self._run}


class _ModelFiles(_ServedFiles):
    def __init__(self, server: Server, model: str) -> None:
        super().__init__(server)
        self._model = model

    def _entries(self, folder: str) -> Iterator[Any]:
        more: dict[str, Any] = {"artifact_directory_path": folder} if folder else {}
        path = f"{API}/logged-models/{quote(self._model, safe='')}/artifacts/directories"
        yield from pages(self._server, path, "files", **more)

    def _address(self, path: str) -> tuple[str, dict[str, str]]:
        name = quote(self._model, safe="")
        return f"/ajax-api/2.0/mlflow/logged-models/{name}/artifacts/files", {"artifact_file_path": path}
