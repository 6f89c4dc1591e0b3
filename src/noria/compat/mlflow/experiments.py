"""Experiments on MLflow's wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from noria.compat.mlflow.errors import WireError, not_found
from noria.compat.mlflow.fields import either, integer, invalid, many, struct, text
from noria.compat.mlflow.forms import experiment_form
from noria.compat.mlflow.routing import Need, Params, Route, Services, doing
from noria.compat.mlflow.tokens import read_token, write_token
from noria.records.tracking import ACTIVE, DELETED
from noria.store.tracking import TrackingChange, TrackingTransaction
from noria.track import verbs
from noria.track.grammar import parse, parse_order
from noria.track.matching import meets, ordered

__all__ = ["ROUTES", "VIEWS", "experiment_number"]

VIEWS = {"ACTIVE_ONLY": (ACTIVE,), "DELETED_ONLY": (DELETED,), "ALL": (ACTIVE, DELETED)}
_VIEW_NUMBERS = {"1": "ACTIVE_ONLY", "2": "DELETED_ONLY", "3": "ALL"}
_BASE = "/api/2.0/mlflow/experiments"
_MOST = 50_000
_TAG = struct({"key": text(required=True), "value": text(default="")})


def view(name: str) -> tuple[str, ...]:
    """The stages that a view type shows; enums come by name or by number."""
    return VIEWS[_VIEW_NUMBERS.get(name, name)]


VIEW = either(*VIEWS, *_VIEW_NUMBERS, default="ACTIVE_ONLY")


def experiment_number(given: str) -> int:
    """An experiment's id.

    Raises:
        WireError: it is not a number.
    """
    if given.isascii() and given.isdigit() and len(given) < 19:
        return int(given)
    raise WireError(
        "INVALID_PARAMETER_VALUE", f"Invalid experiment ID '{given[:80]}'. Experiment ID must be a valid integer."
    )


def create(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Make an experiment."""
    location = params.get("artifact_location", "")
    if any(part == ".." for part in location.replace("\\", "/").split("/")) or set("\0?#%") & set(location):
        raise WireError(
            "INVALID_PARAMETER_VALUE",
            "Invalid value for parameter 'artifact_location' supplied: it may hold no '..', query, fragment or escape.",
        )
    if location and not _scheme(location):
        location = str(Path.cwd() / location)  # as clients expect of a server; it is they who write there
    tags = {tag["key"]: tag["value"] for tag in params.get("tags", [])}
    now = services.now_ms()
    return lambda transaction: {
        "experiment_id": str(verbs.create_experiment(transaction, params["name"], now, location, tags))
    }


def _scheme(location: str) -> str:
    try:
        return urlsplit(location).scheme
    except ValueError:
        raise invalid("artifact_location", location, "it is no address") from None


def get(services: Services, params: Params) -> dict[str, Any]:
    """One experiment by id."""
    number = experiment_number(params["experiment_id"])
    with services.tracking.read() as reader:
        return {"experiment": experiment_form(verbs.experiment_of(reader, number))}


def get_by_name(services: Services, params: Params) -> dict[str, Any]:
    """One experiment by name."""
    with services.tracking.read() as reader:
        found = reader.experiment(name=params["experiment_name"])
    if found is None:
        raise not_found(f"Could not find experiment with name '{params['experiment_name'][:500]}'")
    return {"experiment": experiment_form(found)}


def delete(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Delete an experiment."""
    number, now = experiment_number(params["experiment_id"]), services.now_ms()
    return doing(verbs.delete_experiment, number, now)


def restore(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Restore an experiment."""
    number, now = experiment_number(params["experiment_id"]), services.now_ms()
    return doing(verbs.restore_experiment, number, now)


def update(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Rename an experiment."""
    number, name, now = experiment_number(params["experiment_id"]), params["new_name"], services.now_ms()

    def change(transaction: TrackingTransaction) -> dict[str, Any]:
        if verbs.experiment_of(transaction, number).stage != ACTIVE:
            raise WireError("INVALID_STATE", "Cannot rename a non-active experiment.")
        verbs.rename_experiment(transaction, number, name, now)
        return {}

    return change


def set_tag(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Set a tag."""
    number, key, value = experiment_number(params["experiment_id"]), params["key"], params.get("value", "")
    verbs.check_experiment_tag(key, value)

    def change(transaction: Any) -> dict[str, Any]:
        verbs.experiment_of(transaction, number, active=True)
        transaction.tag_experiment(number, {key: value})
        return {}

    return change


def delete_tag(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Remove a tag."""
    number, key = experiment_number(params["experiment_id"]), params["key"]

    def change(transaction: Any) -> dict[str, Any]:
        verbs.experiment_of(transaction, number, active=True)
        if not transaction.tag_experiment(number, {key: None}):
            raise not_found(f"No tag with name: {key[:80]} in experiment with id {number}")
        return {}

    return change


def search(services: Services, params: Params) -> dict[str, Any]:
    """Experiments that meet a filter."""
    clauses = parse(params.get("filter"), "experiments")
    order = parse_order([*params.get("order_by", []), "creation_time DESC", "experiment_id DESC"], "experiments")
    after = read_token(params.get("page_token"), 1)
    with services.tracking.read() as reader:
        found = reader.experiments(view(params["view_type"]))

    def lookup(experiment: Any) -> Any:
        attributes = {
            "name": experiment.name,
            "experiment_id": experiment.id,
            "creation_time": experiment.created,
            "last_update_time": experiment.updated,
        }
        return lambda entity, key: attributes.get(key) if entity == "attribute" else experiment.tags.get(key)

    met = ordered([one for one in found if all(meets(clause, lookup(one)) for clause in clauses)], order, lookup)
    start = int(after[0]) if after and isinstance(after[0], int) and after[0] > 0 else 0
    end = start + params["max_results"]
    answer: dict[str, Any] = {"experiments": [experiment_form(one) for one in met[start:end]]}
    if end < len(met):
        answer["next_page_token"] = write_token([end])
    return answer


_ID = {"experiment_id": text(required=True)}
_SEARCH = {
    "view_type": VIEW,
    "max_results": integer(default=1000, low=1, high=_MOST),
    "order_by": many(text()),
    "filter": text(),
    "page_token": text(),
}

ROUTES = (
    Route(
        "POST",
        f"{_BASE}/create",
        Need.write,
        {"name": text(required=True), "artifact_location": text(), "tags": many(_TAG)},
        change=create,
    ),
    Route("GET", f"{_BASE}/get", Need.read, _ID, answer=get),
    Route("GET", f"{_BASE}/get-by-name", Need.read, {"experiment_name": text(required=True)}, answer=get_by_name),
    Route("POST", f"{_BASE}/delete", Need.delete, _ID, change=delete),
    Route("POST", f"{_BASE}/restore", Need.write, _ID, change=restore),
    Route("POST", f"{_BASE}/update", Need.write, {**_ID, "new_name": text(required=True)}, change=update),
    Route("POST", f"{_BASE}/search", Need.read, _SEARCH, answer=search),
    Route("GET", f"{_BASE}/search", Need.read, _SEARCH, answer=search),
    Route(
        "POST",
        f"{_BASE}/set-experiment-tag",
        Need.write,
        {**_ID, "key": text(required=True), "value": text()},
        change=set_tag,
    ),
    Route("POST", f"{_BASE}/delete-experiment-tag", Need.write, {**_ID, "key": text(required=True)}, change=delete_tag),
)
