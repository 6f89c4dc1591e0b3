"""Logged models on MLflow's wire: models as runs logged them, with params, tags and metrics of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from noria.compat.mlflow.documents import PAIR, by_key, enum, page
from noria.compat.mlflow.errors import WireError, not_found
from noria.compat.mlflow.experiments import experiment_number
from noria.compat.mlflow.fields import boolean, integer, many, struct, text
from noria.compat.mlflow.forms import number_form, pairs
from noria.compat.mlflow.routing import Need, Params, Route, Services
from noria.errors import RequestError
from noria.records.registry import MODEL_STATUSES, LoggedModel
from noria.records.tracking import Clause, ModelPoint, Order
from noria.store.ports import Reader, Transaction
from noria.track.grammar import parse, parse_order
from noria.track.matching import Lookup, meets, ordered
from noria.track.verbs import check_key, check_text, experiment_of, random_name

__all__ = ["ROUTES", "existing"]

MAX_PARAM_VALUE = 6_000
MAX_TAG_VALUE = 8_000
_UNFIT = frozenset("/:.%\"'")
_PROXIED = "mlflow-artifacts:/"
_WIRE = {"PENDING": "LOGGED_MODEL_PENDING", "READY": "LOGGED_MODEL_READY", "FAILED": "LOGGED_MODEL_UPLOAD_FAILED"}
_STATUSES = {wire: status for status, wire in _WIRE.items()}

Points = Sequence[tuple[ModelPoint, str]]


def existing(db: Reader, id: str, *, deleted: bool = False) -> LoggedModel:
    """The logged model.

    Raises:
        WireError: there is none, or it was deleted (unless those are wanted too).
    """
    found = db.find(LoggedModel, id=id)
    if found is None or (found.deleted is not None and not deleted):
        raise not_found(f"Logged model with ID '{id[:80]}' not found.")
    return found


def _metrics(points: Points) -> list[dict[str, Any]]:
    shown = []
    for (model, point, dataset, digest), run in points:
        metric: dict[str, Any] = {
            "key": point.key,
            "value": number_form(point.value),
            "timestamp": point.time,
            "step": point.step,
            "model_id": model,
        }
        if dataset:
            metric["dataset_name"] = dataset
        if digest:
            metric["dataset_digest"] = digest
        if run:
            metric["run_id"] = run
        shown.append(metric)
    return shown


def _model_json(kept: LoggedModel, points: Points = ()) -> dict[str, Any]:
    info: dict[str, Any] = {
        "model_id": kept.id,
        "experiment_id": str(kept.experiment),
        "name": kept.name,
        "creation_timestamp_ms": kept.created,
        "last_updated_timestamp_ms": kept.updated,
        "artifact_uri": kept.artifacts,
        "status": _WIRE[kept.status],
        "model_type": kept.type,
        "source_run_id": kept.run,
    }
    data: dict[str, Any] = {}
    if kept.tags:
        info["tags"] = pairs(kept.tags)
    if kept.params:
        data["params"] = pairs(kept.params)
    if points:
        data["metrics"] = _metrics(points)
    return {"info": info, "data": data}


def _points(services: Services, models: Sequence[LoggedModel]) -> dict[str, list[tuple[ModelPoint, str]]]:
    found: dict[str, list[tuple[ModelPoint, str]]] = {one.id: [] for one in models}
    if found:
        with services.tracking.read() as tracked:
            for point, run in tracked.model_points(list(found)):
                found[point.model].append((point, run))
    return found


def _answer(services: Services, kept: LoggedModel) -> dict[str, Any]:
    return {"model": _model_json(kept, _points(services, [kept])[kept.id])}


def _checked(values: dict[str, str], what: str, limit: int) -> dict[str, str]:
    for key, value in values.items():
        check_key(key, f"{what}.key")
        check_text(value, f"{what}.value")
        if len(value) > limit:
            raise RequestError(
                f"'{what}.value' of '{key[:80]}' is too long: {len(value)} characters exceeded the limit of {limit}."
            )
    return values


def _create(services: Services, params: Params) -> Any:
    name = params.get("name", "")
    if _UNFIT & set(name):
        raise RequestError(
            f"Invalid model name ('{name[:80]}') provided. It must be a non-empty string without any of "
            f"{' '.join(sorted(_UNFIT))}"
        )
    check_text(name, "name")
    if len(name) > 500:
        raise RequestError("'name' exceeds the maximum length of 500 characters")
    with services.tracking.read() as tracked:
        experiment = experiment_of(tracked, experiment_number(params["experiment_id"]), active=True)
    id = f"m-{os.urandom(16).hex()}"
    now = services.now_ms()
    made = LoggedModel(
        id=id,
        experiment=experiment.id,
        name=name or random_name(),
        artifacts=f"{experiment.artifacts.rstrip('/')}/models/{id}/artifacts",
        created=now,
        updated=now,
        run=params.get("source_run_id", ""),
        type=params.get("model_type", ""),
        params=_checked(by_key(params.get("params")), "params", MAX_PARAM_VALUE),
        tags=_checked(by_key(params.get("tags")), "tags", MAX_TAG_VALUE),
    )
    services.ledger.write(lambda tx: tx.put(made))
    return {"model": _model_json(made)}


def _get(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        kept = existing(db, params["model_id"], deleted=params.get("allow_deleted", False))
    return _answer(services, kept)


def _change(services: Services, id: str, change: Callable[[LoggedModel], LoggedModel]) -> LoggedModel:
    """Change a logged model that is not deleted; the change's own faults leave it as it was."""
    now = services.now_ms()

    def whole(tx: Transaction) -> LoggedModel:
        changed = replace(change(existing(tx, id)), updated=now)
        tx.put(changed)
        return changed

    return services.ledger.write(whole)


def _finalize(services: Services, params: Params) -> Any:
    status = _STATUSES[params["status"]]
    return _answer(services, _change(services, params["model_id"], lambda kept: replace(kept, status=status)))


def _delete(services: Services, params: Params) -> Any:
    now = services.now_ms()
    _change(services, params["model_id"], lambda kept: replace(kept, deleted=now))
    return {}


def _log_params(services: Services, params: Params) -> Any:
    given = _checked(by_key(params.get("params")), "params", MAX_PARAM_VALUE)

    def change(kept: LoggedModel) -> LoggedModel:
        for key, value in given.items():
            if kept.params.get(key, value) != value:
                raise RequestError(
                    f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                    f"value='{kept.params[key][:80]}' for logged model '{kept.id}'."
                )
        return replace(kept, params=kept.params | given)

    _change(services, params["model_id"], change)
    return {}


def _set_tags(services: Services, params: Params) -> Any:
    given = _checked(by_key(params.get("tags")), "tags", MAX_TAG_VALUE)
    changed = _change(services, params["model_id"], lambda kept: replace(kept, tags=kept.tags | given))
    return _answer(services, changed)


def _delete_tag(services: Services, params: Params) -> Any:
    key = params["tag_key"]

    def change(kept: LoggedModel) -> LoggedModel:
        if key not in kept.tags:
            raise not_found(f"No tag with key '{key[:80]}' found for model with ID '{kept.id}'.")
        return replace(kept, tags={name: value for name, value in kept.tags.items() if name != key})

    _change(services, params["model_id"], change)
    return {}


Dataset = tuple[str, str]
"""Name and digest; an empty digest stands for any."""


def _on(point: ModelPoint, datasets: Sequence[Dataset]) -> bool:
    return not datasets or any(
        point.dataset_name == name and digest in ("", point.dataset_digest) for name, digest in datasets
    )


def _lookup(kept: LoggedModel) -> Lookup:
    attributes: dict[str, str | int] = {
        "name": kept.name,
        "model_id": kept.id,
        "model_type": kept.type,
        "status": kept.status,
        "source_run_id": kept.run,
        "experiment_id": str(kept.experiment),
        "creation_timestamp": kept.created,
        "last_updated_timestamp": kept.updated,
    }
    of: Mapping[str, Mapping[str, str | int]] = {"attribute": attributes, "param": kept.params, "tag": kept.tags}
    return lambda entity, key: of[entity].get(key)


def _meets(clause: Clause, kept: LoggedModel, points: Points, datasets: Sequence[Dataset]) -> bool:
    """As ``meets``; a metric's clause is met by any of its points (on these datasets)."""
    if clause.entity != "metric":
        return meets(clause, _lookup(kept))
    values = (one.point.value for one, _ in points if one.point.key == clause.key and _on(one, datasets))
    return any(meets(clause, lambda _entity, _key, value=value: value) for value in values)  # type: ignore[misc]


def _order(term: Mapping[str, Any]) -> tuple[Order, list[Dataset]]:
    """One term of the order, and the dataset its metric is to be of."""
    field = term["field_name"]
    descending = not term.get("ascending", True)
    dataset = [(term["dataset_name"], term.get("dataset_digest", ""))] if term.get("dataset_name") else []
    entity, dot, key = field.partition(".")
    if not dot:
        name = {"creation_timestamp_ms": "creation_timestamp", "last_updated_timestamp_ms": "last_updated_timestamp"}
        return parse_order([name.get(field, field)], "logged_models")[0]._replace(descending=descending), dataset
    if entity not in ("metric", "metrics"):
        raise RequestError(f"Invalid order by field name: {field[:80]}. Only metrics are supported.")
    return Order("metric", key.strip('`"'), descending), dataset


def _newest(points: Points, key: str, datasets: Sequence[Dataset]) -> float | None:
    of_key = [one.point for one, _ in points if one.point.key == key and _on(one, datasets)]
    return max(of_key, key=lambda point: (point.time, point.step)).value if of_key else None


def _search(services: Services, params: Params) -> Any:
    experiments = sorted({experiment_number(one) for one in params["experiment_ids"]})
    clauses = parse(params.get("filter"), "logged_models")
    terms = params.get("order_by", [])
    orders = [_order(term) for term in terms]
    datasets = [(one["dataset_name"], one.get("dataset_digest", "")) for one in params.get("datasets", [])]
    with services.ledger.read() as db:
        models = [
            one for number in experiments for one in db.list(LoggedModel, experiment=number) if one.deleted is None
        ]
    models.sort(key=lambda one: (-one.created, one.id))
    asked = {clause.entity for clause in clauses} | {order.entity for order, _ in orders}
    points = _points(services, models) if datasets or "metric" in asked else {}
    kept = [one for one in models if all(_meets(clause, one, points.get(one.id, ()), datasets) for clause in clauses)]
    if datasets and not any(clause.entity == "metric" for clause in clauses):
        kept = [one for one in kept if any(_on(point, datasets) for point, _ in points[one.id])]
    for order, of in reversed(orders):
        kept = ordered(kept, [order], lambda one, of=of: _order_lookup(one, points.get(one.id, ()), of))  # type: ignore[misc]
    question = [experiments, params.get("filter", ""), terms, datasets]
    shown, token = page(kept, lambda one: one.id, question, params["max_results"], params.get("page_token"))
    values = _points(services, shown)
    answer: dict[str, Any] = {"models": [_model_json(one, values[one.id]) for one in shown]}
    return answer | ({"next_page_token": token} if token else {})


def _order_lookup(kept: LoggedModel, points: Points, datasets: Sequence[Dataset]) -> Lookup:
    plain = _lookup(kept)
    return lambda entity, key: _newest(points, key, datasets) if entity == "metric" else plain(entity, key)


def _directories(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        kept = existing(db, params["model_id"])
    inner = params.get("artifact_directory_path", "").rstrip("/")
    if inner.startswith("/") or "\\" in inner or {"..", "."} & set(inner.split("/")) or "\0" in inner:
        raise WireError("INVALID_PARAMETER_VALUE", "Invalid path")
    if not kept.artifacts.startswith(_PROXIED):
        raise WireError("NOT_IMPLEMENTED", "The files of this model are not kept by this server.")
    root = kept.artifacts[len(_PROXIED) :].strip("/")
    with services.tracking.read() as tracked:
        files = tracked.folder(f"{root}/{inner}" if inner else root)
    shown = []
    for name, artifact in files:
        entry: dict[str, Any] = {"path": f"{inner}/{name}" if inner else name, "is_dir": artifact is None}
        if artifact is not None:
            entry["file_size"] = artifact.size
        shown.append(entry)
    return {"root_uri": kept.artifacts, "files": shown}


_BASE = "/api/2.0/mlflow/logged-models"
_ONE = f"{_BASE}/{{model_id}}"
_DATASET = {"dataset_name": text(required=True), "dataset_digest": text()}
_ORDER = {
    "field_name": text(required=True),
    "ascending": boolean(default=True),
    "dataset_name": text(),
    "dataset_digest": text(),
}

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        _BASE,
        Need.write,
        {
            "experiment_id": text(required=True),
            "name": text(),
            "model_type": text(),
            "source_run_id": text(),
            "params": many(PAIR),
            "tags": many(PAIR),
        },
        answer=_create,
    ),
    Route(
        "POST",
        f"{_BASE}/search",
        Need.read,
        {
            "experiment_ids": many(text(), required=True, empty=False),
            "filter": text(),
            "datasets": many(struct(_DATASET), limit=100),
            "max_results": integer(default=50, low=1, high=50_000),
            "order_by": many(struct(_ORDER), limit=20),
            "page_token": text(),
        },
        answer=_search,
    ),
    Route("GET", _ONE, Need.read, {"allow_deleted": boolean()}, answer=_get),
    Route(
        "PATCH",
        _ONE,
        Need.write,
        {"status": enum([_WIRE[one] for one in MODEL_STATUSES], required=True, first=1)},
        answer=_finalize,
    ),
    Route("DELETE", _ONE, Need.delete, answer=_delete),
    Route("POST", f"{_ONE}/params", Need.write, {"params": many(PAIR)}, answer=_log_params),
    Route("PATCH", f"{_ONE}/tags", Need.write, {"tags": many(PAIR)}, answer=_set_tags),
    Route("DELETE", f"{_ONE}/tags/{{tag_key:path}}", Need.write, answer=_delete_tag),
    Route(
        "GET",
        f"{_ONE}/artifacts/directories",
        Need.read,
        {"artifact_directory_path": text()},
        answer=_directories,
    ),
)
