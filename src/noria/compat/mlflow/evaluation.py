"""Evaluation datasets on MLflow's wire: named sets of records, often taken from traces."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from noria.compat.mlflow.documents import found, page
from noria.compat.mlflow.errors import not_found
from noria.compat.mlflow.experiments import experiment_number
from noria.compat.mlflow.fields import Field, Wrong, integer, many, text
from noria.compat.mlflow.routing import Need, Params, Route, Services
from noria.core.hashing import digest_bytes
from noria.errors import RequestError
from noria.records.registry import EvaluationDataset, EvaluationRecord
from noria.store.ports import Reader, Transaction
from noria.track.grammar import parse, parse_order
from noria.track.matching import Lookup
from noria.track.verbs import check_text, experiment_of

__all__ = ["ROUTES"]

MAX_RECORDS = 10_000
_USER = "mlflow.user"
_PARTS = ("inputs", "outputs", "expectations", "tags", "source")
_TYPES = {bool: "boolean", int: "integer", float: "float", str: "string", list: "array", dict: "object"}


def _sorted(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _json_text(kind: type[list[Any]] | type[dict[str, Any]], *, required: bool = False) -> Field:
    """JSON inside of text, as these requests carry it."""

    def read(value: Any) -> Any:
        try:
            inner = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            inner = None
        if not isinstance(inner, kind):
            raise Wrong(value, why=f"it must be text that holds a JSON {'list' if kind is list else 'object'}")
        return inner

    return Field(read, required)


def _tags(given: Mapping[str, Any]) -> dict[str, str]:
    tags = {str(key): str(value) for key, value in given.items() if value is not None}
    for key, value in tags.items():
        check_text(key, "tags")
        check_text(value, "tags")
        if not key or len(key) > 250 or len(value) > 8_000:
            raise RequestError(f"Invalid tag '{key[:80]}': keys have 1 to 250 characters, values at most 8000.")
    return tags


def _existing(db: Reader, id: str) -> EvaluationDataset:
    kept = db.find(EvaluationDataset, id=id)
    if kept is None:
        raise not_found(f"Evaluation dataset with id '{id[:80]}' not found")
    return kept


def _dataset_json(db: Reader, kept: EvaluationDataset) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "dataset_id": kept.id,
        "name": kept.name,
        "tags": json.dumps(kept.tags),
        "digest": digest_bytes(f"{kept.id}:{kept.updated}".encode()).removeprefix("blake3:")[:8],
        "created_time": kept.created,
        "last_update_time": kept.updated,
        "experiment_ids": [str(number) for number in kept.experiments],
    }
    count = db.count(EvaluationRecord, dataset=kept.id)
    if kept.schema:
        shown["schema"] = json.dumps(kept.schema)
    if count:
        shown["profile"] = json.dumps({"num_records": count})
    if kept.created_by:
        shown["created_by"] = kept.created_by
    if kept.updated_by:
        shown["last_updated_by"] = kept.updated_by
    return shown


def _experiments(services: Services, given: Sequence[str]) -> tuple[int, ...]:
    numbers = tuple(dict.fromkeys(experiment_number(one) for one in given))
    with services.tracking.read() as tracked:
        for number in numbers:
            experiment_of(tracked, number)
    return numbers


def _create(services: Services, params: Params) -> Any:
    name = params["name"]
    check_text(name, "name")
    if len(name) > 500 or not name.strip():
        raise RequestError("Invalid value for parameter 'name': a dataset's name has 1 to 500 characters.")
    tags = _tags(params.get("tags", {}))
    now = services.now_ms()
    made = EvaluationDataset(
        id=f"d-{os.urandom(16).hex()}",
        name=name,
        created=now,
        updated=now,
        created_by=tags.get(_USER, ""),
        updated_by=tags.get(_USER, ""),
        tags=tags,
        experiments=_experiments(services, params.get("experiment_ids", [])),
    )

    def change(tx: Transaction) -> dict[str, Any]:
        tx.put(made)
        return _dataset_json(tx, made)

    return {"dataset": services.ledger.write(change)}


def _get(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return {"dataset": _dataset_json(db, _existing(db, params["dataset_id"]))}


def _delete(services: Services, params: Params) -> Any:
    def change(tx: Transaction) -> None:
        tx.remove(EvaluationRecord, dataset=params["dataset_id"])
        tx.remove(EvaluationDataset, id=params["dataset_id"])

    services.ledger.write(change)
    return {}


def _lookup(kept: EvaluationDataset) -> Lookup:
    attributes: dict[str, str | int] = {
        "name": kept.name,
        "created_by": kept.created_by,
        "last_updated_by": kept.updated_by,
        "created_time": kept.created,
        "last_update_time": kept.updated,
    }
    return lambda entity, key: kept.tags.get(key) if entity == "tag" else attributes.get(key)


def _search(services: Services, params: Params) -> Any:
    experiments = {experiment_number(one) for one in params.get("experiment_ids", [])}
    clauses = parse(params.get("filter_string"), "datasets")
    orders = parse_order(params.get("order_by", []), "datasets")
    question = [sorted(experiments), params.get("filter_string", ""), params.get("order_by", [])]
    with services.ledger.read() as db:
        kept = [one for one in db.list(EvaluationDataset) if not experiments or experiments & set(one.experiments)]
        matching = found(kept, clauses, orders, _lookup)
        shown, token = page(matching, lambda one: one.id, question, params["max_results"], params.get("page_token"))
        answer: dict[str, Any] = {"datasets": [_dataset_json(db, one) for one in shown]}
    return answer | ({"next_page_token": token} if token else {})


def _change(
    services: Services, params: Params, change: Callable[[EvaluationDataset], EvaluationDataset]
) -> dict[str, Any]:
    now = services.now_ms()

    def whole(tx: Transaction) -> dict[str, Any]:
        changed = replace(change(_existing(tx, params["dataset_id"])), updated=now)
        tx.put(changed)
        return _dataset_json(tx, changed)

    return services.ledger.write(whole)


def _set_tags(services: Services, params: Params) -> Any:
    tags = _tags(params["tags"])
    return {"dataset": _change(services, params, lambda kept: replace(kept, tags=kept.tags | tags))}


def _delete_tag(services: Services, params: Params) -> Any:
    gone = params["key"]
    _change(
        services,
        params,
        lambda kept: replace(kept, tags={key: value for key, value in kept.tags.items() if key != gone}),
    )
    return {}


def _add_experiments(services: Services, params: Params) -> Any:
    more = _experiments(services, params.get("experiment_ids", []))
    return {
        "dataset": _change(
            services,
            params,
            lambda kept: replace(kept, experiments=tuple(dict.fromkeys((*kept.experiments, *more)))),
        )
    }


def _remove_experiments(services: Services, params: Params) -> Any:
    gone = {experiment_number(one) for one in params.get("experiment_ids", [])}
    return {
        "dataset": _change(
            services,
            params,
            lambda kept: replace(kept, experiments=tuple(one for one in kept.experiments if one not in gone)),
        )
    }


def _experiment_ids(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return {"experiment_ids": [str(one) for one in _existing(db, params["dataset_id"]).experiments]}


# Records


def _typed(schema: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The schema with the types of fields seen for the first time."""
    kinds: dict[str, Any] = {part: dict(schema.get(part, {})) for part in ("inputs", "outputs", "expectations")}
    for record in records:
        for part, fields in kinds.items():
            values = record.get(part)
            if isinstance(values, dict):
                for key, value in values.items():
                    fields.setdefault(key, _TYPES.get(type(value), "null"))
    return kinds | {"version": "1.0"}


def _checked(record: Any, place: int) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise RequestError(f"Invalid value for parameter 'records[{place}]': it must be an object.")
    for part in ("inputs", "expectations", "tags", "source"):
        if not isinstance(record.get(part) or {}, dict):
            raise RequestError(f"Invalid value for parameter 'records[{place}].{part}': it must be an object.")
    return {part: record[part] for part in _PARTS if record.get(part) is not None}


def _upsert(services: Services, params: Params) -> Any:
    if len(params["records"]) > MAX_RECORDS:
        raise RequestError(f"At most {MAX_RECORDS} records are taken at once.")
    records = [_checked(record, place) for place, record in enumerate(params["records"])]
    now = services.now_ms()

    def change(tx: Transaction) -> dict[str, int]:
        dataset = _existing(tx, params["dataset_id"])
        inserted, last_user = 0, dataset.updated_by
        for record in records:
            key = digest_bytes(_sorted(record.get("inputs", {})).encode())
            user = str((record.get("tags") or {}).get(_USER, ""))
            last_user = user or last_user
            old = tx.find(EvaluationRecord, dataset=dataset.id, key=key)
            if old is None:
                id = f"dr-{os.urandom(16).hex()}"
                body = {"inputs": {}} | record
                tx.put(EvaluationRecord(id, dataset.id, key, now, now, body, user, user))
                inserted += 1
                continue
            body = dict(old.body)
            if "outputs" in record:
                body["outputs"] = record["outputs"]
            for part in ("expectations", "tags"):
                if record.get(part):
                    body[part] = (old.body.get(part) or {}) | record[part]
            tx.put(replace(old, body=body, updated=now, updated_by=user or old.updated_by))
        schema = _typed(dataset.schema, records)
        tx.put(replace(dataset, updated=now, updated_by=last_user, schema=schema))
        return {"inserted_count": inserted, "updated_count": len(records) - inserted}

    return services.ledger.write(change)


def _record_json(kept: EvaluationRecord) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "dataset_record_id": kept.id,
        "dataset_id": kept.dataset,
        "created_time": kept.created,
        "last_update_time": kept.updated,
    }
    if kept.created_by:
        shown["created_by"] = kept.created_by
    if kept.updated_by:
        shown["last_updated_by"] = kept.updated_by
    return shown | kept.body


def _records(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        dataset = _existing(db, params["dataset_id"])
        kept = db.list(EvaluationRecord, oldest_first=True, dataset=dataset.id)
    shown, token = page(kept, lambda one: one.id, [dataset.id], params["max_results"], params.get("page_token"))
    answer = {"records": json.dumps([_record_json(one) for one in shown])}
    return answer | ({"next_page_token": token} if token else {})


def _delete_records(services: Services, params: Params) -> Any:
    def change(tx: Transaction) -> int:
        dataset = _existing(tx, params["dataset_id"])
        return sum(
            tx.remove(EvaluationRecord, dataset=dataset.id, id=id) for id in params.get("dataset_record_ids", [])
        )

    return {"deleted_count": services.ledger.write(change)}


_BASE = "/api/3.0/mlflow/datasets"
_ONE = f"{_BASE}/{{dataset_id}}"
_IDS = {"experiment_ids": many(text(), limit=1_000)}
_SEARCH = _IDS | {
    "filter_string": text(),
    "max_results": integer(default=1_000, low=1, high=50_000),
    "order_by": many(text()),
    "page_token": text(),
}

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        f"{_BASE}/create",
        Need.write,
        {"name": text(required=True), "tags": _json_text(dict)} | _IDS,
        answer=_create,
    ),
    Route("POST", f"{_BASE}/search", Need.read, _SEARCH, answer=_search),
    Route("GET", f"{_BASE}/search", Need.read, _SEARCH, answer=_search),
    Route("GET", _ONE, Need.read, answer=_get),
    Route("DELETE", _ONE, Need.delete, answer=_delete),
    Route("POST", f"{_ONE}/add-experiments", Need.write, _IDS, answer=_add_experiments),
    Route("POST", f"{_ONE}/remove-experiments", Need.write, _IDS, answer=_remove_experiments),
    Route("GET", f"{_ONE}/experiment-ids", Need.read, answer=_experiment_ids),
    Route("PATCH", f"{_ONE}/tags", Need.write, {"tags": _json_text(dict, required=True)}, answer=_set_tags),
    Route("DELETE", f"{_ONE}/tags/{{key:path}}", Need.write, answer=_delete_tag),
    Route("POST", f"{_ONE}/records", Need.write, {"records": _json_text(list, required=True)}, answer=_upsert),
    Route(
        "GET",
        f"{_ONE}/records",
        Need.read,
        {"max_results": integer(default=1_000, low=1, high=50_000), "page_token": text()},
        answer=_records,
    ),
    Route(
        "DELETE",
        f"{_ONE}/records",
        Need.delete,
        {"dataset_record_ids": many(text(), limit=MAX_RECORDS)},
        answer=_delete_records,
    ),
)
