"""Runs and metrics on MLflow's wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from noria.compat.mlflow.errors import WireError
from noria.compat.mlflow.experiments import VIEW, experiment_number, view
from noria.compat.mlflow.fields import either, integer, many, missing, number, struct, text
from noria.compat.mlflow.forms import PointForm, info_form, point_form, run_form
from noria.compat.mlflow.routing import Need, Params, Route, Services, doing
from noria.compat.mlflow.tokens import FORGED, read_token, write_token
from noria.errors import NotFound, ParamChanged, RequestError
from noria.records.tracking import RUN_STATUSES, Input, ModelLink, ModelPoint, Order, Point, TrackedDataset
from noria.store.tracking import TrackingChange, TrackingTransaction
from noria.track import verbs
from noria.track.grammar import TARGETS, parse, parse_order
from noria.track.sampling import sample

__all__ = ["ROUTES", "fast_batch"]

_BASE = "/api/2.0/mlflow/runs"
_STATUS_NUMBERS = {str(place): name for place, name in enumerate(RUN_STATUSES, start=1)}
_MOST_RUNS = 50_000
_MOST_EXPERIMENTS = 10_000
_MOST_METRICS, _MOST_PARAMS, _MOST_TAGS, _MOST_IN_ALL = 1000, 100, 100, 1000
_MOST_HISTORY = 25_000
_SHOWN = 250
_MOST_SAMPLED_RUNS = 100
_MOST_SAMPLED = 2500
_MOST_POINTS = _MOST_SAMPLED + 2 * _MOST_SAMPLED_RUNS  # of one run: the first and last steps of all besides
_MOST_SOURCE, _MOST_SCHEMA, _MOST_PROFILE = 65_535, 1_048_575, 16_777_215


_Given = Annotated[str, msgspec.Meta(min_length=1)]
_Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Metric(msgspec.Struct):
    """A metric of a batch as most clients send it: read at once, without a look at each field."""

    key: _Given
    value: float
    timestamp: _Long
    step: _Long = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""
    run_id: str = ""


class _Pair(msgspec.Struct):
    key: _Given
    value: str = ""


class _Batch(msgspec.Struct):
    run_id: _Given
    metrics: list[_Metric] = []
    params: list[_Pair] = []
    tags: list[_Pair] = []


_BATCH = msgspec.json.Decoder(_Batch)


def fast_batch(body: bytes) -> Params | None:
    """A batch in the plainest form; None if it needs a closer look."""
    try:
        found = _BATCH.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    return {"run_id": found.run_id, "metrics": found.metrics, "params": found.params, "tags": found.tags}


def create(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Start a run."""
    experiment = experiment_number(params.get("experiment_id") or "0")
    started = params.get("start_time", 0)
    tags = {tag["key"]: tag["value"] for tag in params.get("tags", [])}
    name, user = params.get("run_name", ""), params.get("user_id", "")

    def change(transaction: TrackingTransaction) -> dict[str, Any]:
        info = verbs.create_run(transaction, experiment, started, name=name, user=user, tags=tags)
        made = {**tags, verbs.RUN_NAME: info.name}
        listed = [{"key": key, "value": value[: verbs.MAX_TAG_VALUE]} for key, value in made.items()]
        return {"run": {"info": info_form(info), "data": {"tags": listed}, "inputs": {}}}

    return change


def _run_id(params: Params) -> str:
    found: str = params.get("run_id") or params.get("run_uuid") or ""
    if not found:
        raise missing("run_id")
    return found


def _wrong(message: str) -> WireError:
    return WireError("INVALID_PARAMETER_VALUE", message)


def update(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Change a run's status, end or name."""
    run = _run_id(params)
    given: str = params.get("status", "")
    status = _STATUS_NUMBERS.get(given, given)
    ended, name = params.get("end_time"), params.get("run_name", "")
    return lambda transaction: {
        "run_info": info_form(verbs.update_run(transaction, run, status=status, ended=ended, name=name))
    }


def delete(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Delete a run."""
    now = services.now_ms()
    return doing(verbs.delete_run, params["run_id"], now)


def restore(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Restore a run."""
    return doing(verbs.restore_run, params["run_id"])


def get(services: Services, params: Params) -> dict[str, Any]:
    """One run."""
    run = _run_id(params)
    with services.tracking.read() as reader:
        verbs.run_of(reader, run)
        found = reader.run(run)
    if found is None:
        raise NotFound(f"Run with id={run} not found")
    return {"run": run_form(found)}


def _log(run: str, what: verbs.Logged, models: list[ModelPoint] | None = None) -> TrackingChange[dict[str, Any]]:
    def change(transaction: TrackingTransaction) -> dict[str, Any]:
        try:
            verbs.log(transaction, run, what)
        except ParamChanged as changed:
            raise _wrong(
                f"Changing param values is not allowed. Param with key='{changed.key}' was already logged with "
                f"value='{changed.old[:_SHOWN]}' for run ID='{changed.run}'. Attempted logging new value "
                f"'{changed.new[:_SHOWN]}'."
            ) from None
        if models:
            transaction.log_model_points(run, models)
        return {}

    return change


def log_metric(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Add one point."""
    run = _run_id(params)
    point = Point(params["key"], params["value"], params["timestamp"], params.get("step", 0))
    verbs.check_points([point], "")
    model = params.get("model_id", "")
    models = [ModelPoint(model, point, params.get("dataset_name", ""), params.get("dataset_digest", ""))]
    return _log(run, verbs.Logged((point,), {}, {}), models if model else None)


def log_parameter(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Add one param."""
    verbs.check_key(params["key"], "key")
    return _log(_run_id(params), verbs.checked(params=[(params["key"], params.get("value", ""))]))


def set_tag(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Set one tag."""
    verbs.check_key(params["key"], "key")
    return _log(_run_id(params), verbs.checked(tags=[(params["key"], params.get("value", ""))]))


def delete_tag(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Remove one tag."""
    run, key = params["run_id"], params["key"]
    return doing(verbs.delete_tag, run, key)


def _few(what: str, count: int, most: int) -> None:
    if count > most:
        raise _wrong(
            f"A batch logging request can contain at most {most} {what}. Got {count} {what}. Please split up {what} "
            "across multiple requests and try again."
        )


def log_batch(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Add many points, params and tags: all, or nothing."""
    metrics, given, tags = params.get("metrics", []), params.get("params", []), params.get("tags", [])
    _few("metrics", len(metrics), _MOST_METRICS)
    _few("params", len(given), _MOST_PARAMS)
    _few("tags", len(tags), _MOST_TAGS)
    _few("metrics, params, and tags", len(metrics) + len(given) + len(tags), _MOST_IN_ALL)
    points = [Point(one.key, one.value, one.timestamp, one.step) for one in metrics]
    what = verbs.checked(points, [(one.key, one.value) for one in given], [(one.key, one.value) for one in tags])
    models = [
        ModelPoint(one.model_id, point, one.dataset_name, one.dataset_digest)
        for one, point in zip(metrics, points, strict=True)
        if one.model_id
    ]
    return _log(params["run_id"], what, models)


def log_inputs(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Say which datasets and models a run read."""
    run = params["run_id"]
    inputs = [_input(one, f"datasets[{place}]") for place, one in enumerate(params.get("datasets", []))]
    links = [ModelLink(one["model_id"], "input") for one in params.get("models", [])]

    def change(transaction: TrackingTransaction) -> dict[str, Any]:
        verbs.active_run(transaction, run)
        transaction.add_inputs(run, inputs)
        transaction.link_models(run, links)
        return {}

    return change


def _input(given: Params, where: str) -> Input:
    dataset = TrackedDataset(**{"schema": "", "profile": "", **given["dataset"]})
    for name, most in (("source", _MOST_SOURCE), ("schema", _MOST_SCHEMA), ("profile", _MOST_PROFILE)):
        if len(getattr(dataset, name)) > most:
            raise RequestError(f"'{where}.{name}' exceeds the maximum length of {most} characters")
    for value in msgspec.structs.astuple(dataset):
        verbs.check_text(value, where)
    tags = {tag["key"]: tag["value"] for tag in given.get("tags", [])}
    return Input(dataset, tags)


def log_outputs(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Say which logged models a run made."""
    run = params["run_id"]
    links = [ModelLink(one["model_id"], "output", one["step"]) for one in params["models"]]

    def change(transaction: TrackingTransaction) -> dict[str, Any]:
        verbs.active_run(transaction, run)
        transaction.link_models(run, links)
        return {}

    return change


_HISTORY_TAG = "mlflow.log-model.history"


def log_model(services: Services, params: Params) -> TrackingChange[dict[str, Any]]:
    """Note in a tag that a run logged a model, as clients before 3.0 do."""
    run, text_ = params["run_id"], params["model_json"]
    try:
        model = msgspec.json.decode(text_, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        raise _wrong(f"Malformed model info. \n {text_[:200]} \n is not a valid JSON.") from None
    lacking = {"artifact_path", "flavors", "utc_time_created", "run_id"} - set(model)
    if lacking:
        raise _wrong(f"Model json is missing mandatory fields: {sorted(lacking)}")

    def change(transaction: TrackingTransaction) -> dict[str, Any]:
        verbs.active_run(transaction, run)
        found = transaction.run(run)
        known = found.tags.get(_HISTORY_TAG, "[]") if found else "[]"
        try:
            history = msgspec.json.decode(known, type=list[Any])
        except msgspec.MsgspecError:
            history = []
        transaction.log(run, tags={_HISTORY_TAG: msgspec.json.encode([*history, model]).decode()})
        return {}

    return change


def search(services: Services, params: Params) -> dict[str, Any]:
    """Runs that meet a filter, in order."""
    clauses = parse(params.get("filter"), "runs")
    order = parse_order(params.get("order_by", []), "runs")
    after = read_token(params.get("page_token"), 2 * len(order) + 2)
    if after is not None and not _fits(after, order):
        raise _wrong(FORGED)
    experiments = [experiment_number(one) for one in params.get("experiment_ids", [])]
    with services.tracking.read() as reader:
        runs, place = reader.search(
            experiments,
            clauses,
            order,
            stages=view(params["run_view_type"]),
            limit=params["max_results"],
            after=after,
        )
    answer: dict[str, Any] = {"runs": [run_form(run) for run in runs]}
    if place is not None:
        answer["next_page_token"] = write_token(place)
    return answer


def _fits(place: Sequence[Any], order: Sequence[Order]) -> bool:
    """Whether a place may be one of this order: no other values reach the store."""
    *terms, started, run = place
    kinds: list[type | tuple[type, ...]] = []
    for term in order:
        numeric = term.entity == "metric" or (term.entity == "attribute" and term.key in TARGETS["runs"].numbers)
        kinds.append((int, float) if numeric else str)
    return (
        isinstance(started, int)
        and isinstance(run, str)
        and all(rank in (0, 1, 2) and isinstance(rank, int) for rank in terms[::2])
        and all(value is None or isinstance(value, kind) for value, kind in zip(terms[1::2], kinds, strict=True))
    )


def history(services: Services, params: Params) -> dict[str, Any]:
    """Every point of a metric, or a page of them."""
    run, key, limit = _run_id(params), params["metric_key"], params.get("max_results")
    place = read_token(params.get("page_token"), 3)
    after = None
    if place is not None:
        time, step, value = place
        if not isinstance(time, int) or not isinstance(step, int) or isinstance(value, str):
            raise _wrong(FORGED)
        after = Point(key, float("nan") if value is None else value, time, step)
    with services.tracking.read() as reader:
        verbs.run_of(reader, run)
        points = reader.history(run, key, limit=None if limit is None else limit + 1, after=after)
    answer: dict[str, Any] = {}
    if limit is not None and len(points) > limit:
        points = points[:limit]
        last = points[-1]
        answer["next_page_token"] = write_token([last.time, last.step, last.value])
    answer["metrics"] = [point_form(point) for point in points]
    return answer


def history_bulk(services: Services, params: Params) -> dict[str, Any]:
    """Points of a metric of several runs."""
    given = params.get("run_id", [])
    if not given:
        raise _wrong("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(given) > _MOST_SAMPLED_RUNS:
        raise _wrong(
            f"GetMetricHistoryBulk request cannot specify more than {_MOST_SAMPLED_RUNS} run_ids. "
            f"Received {len(given)} run_ids."
        )
    if "metric_key" not in params:
        raise _wrong("GetMetricHistoryBulk request must specify a metric_key.")
    runs, key = sorted(set(given)), params["metric_key"]
    left = min(params["max_results"], _MOST_HISTORY)
    found: list[PointForm] = []
    with services.tracking.read() as reader:
        for run in runs:
            points = reader.history(run, key, limit=left - len(found))
            found += [point_form(point, run) for point in points]
            if len(found) >= left:
                break
    return {"metrics": found}


def history_sampled(services: Services, params: Params) -> dict[str, Any]:
    """Points of a metric at evenly spaced steps, of several runs."""
    runs, key, most = params["run_ids"], params["metric_key"], params["max_results"]
    first, last = params.get("start_step"), params.get("end_step")
    if len(runs) > _MOST_SAMPLED_RUNS:
        raise _wrong(
            f"GetMetricHistoryBulkInterval request must specify at most {_MOST_SAMPLED_RUNS} run_ids. "
            f"Received {len(runs)} run_ids."
        )
    if not 1 <= most <= _MOST_SAMPLED:
        raise _wrong(f"max_results must be between 1 and {_MOST_SAMPLED}.")
    if (first is None) != (last is None):
        raise _wrong("If either start step or end step are specified, both must be specified.")
    if first is not None and last is not None and first > last:
        raise _wrong(f"end_step must be greater than start_step. Found start_step={first} and end_step={last}.")
    with services.tracking.read() as reader:
        histories = [(run, reader.history(run, key)) for run in dict.fromkeys(runs)]
    found = []
    for run, points in sample(histories, most, first, last):
        found += [point_form(point, run) for point in points[:_MOST_POINTS]]
    return {"metrics": found}


def search_datasets(services: Services, params: Params) -> dict[str, Any]:
    """Datasets that the runs of some experiments read."""
    given = params.get("experiment_ids", [])
    if not given:
        raise _wrong("SearchDatasets request must specify at least one experiment_id.")
    if len(given) > 20:
        raise _wrong(
            f"SearchDatasets request cannot specify more than 20 experiment_ids. Received {len(given)} experiment_ids."
        )
    with services.tracking.read() as reader:
        found = reader.datasets([experiment_number(one) for one in given])
    summaries = []
    for experiment, dataset, context in found[:1000]:
        form = {"experiment_id": str(experiment), "name": dataset.name, "digest": dataset.digest}
        if context:
            form["context"] = context
        summaries.append(form)
    return {"dataset_summaries": summaries}


_ID = {"run_id": text(required=True)}
_EITHER_ID = {"run_id": text(), "run_uuid": text()}
_TAG = struct({"key": text(required=True), "value": text(default="")})
_METRIC = struct(
    {
        "key": text(required=True),
        "value": number(required=True),
        "timestamp": integer(required=True),
        "step": integer(default=0),
        "model_id": text(default=""),
        "dataset_name": text(default=""),
        "dataset_digest": text(default=""),
    },
    make=_Metric,
)
_PAIR = struct({"key": text(required=True), "value": text(default="")}, make=_Pair)
_DATASET = struct(
    {
        "name": text(required=True, limit=500),
        "digest": text(required=True, limit=36),
        "source_type": text(required=True),
        "source": text(required=True),
        "schema": text(),
        "profile": text(),
    },
    required=True,
)
_INPUT_TAG = struct({"key": text(required=True, limit=255), "value": text(required=True, limit=500)})
_MODEL = struct({"model_id": text(required=True), "step": integer(default=0)})
_SEARCH = {
    "experiment_ids": many(text(), limit=_MOST_EXPERIMENTS),
    "filter": text(),
    "run_view_type": VIEW,
    "max_results": integer(default=1000, low=1, high=_MOST_RUNS),
    "order_by": many(text()),
    "page_token": text(),
}

ROUTES = (
    Route(
        "POST",
        f"{_BASE}/create",
        Need.write,
        {
            "experiment_id": text(),
            "user_id": text(),
            "run_name": text(),
            "start_time": integer(),
            "tags": many(_TAG),
        },
        change=create,
    ),
    Route(
        "POST",
        f"{_BASE}/update",
        Need.write,
        {
            **_EITHER_ID,
            "status": either(*RUN_STATUSES, *_STATUS_NUMBERS),
            "end_time": integer(),
            "run_name": text(),
        },
        change=update,
    ),
    Route("POST", f"{_BASE}/delete", Need.delete, _ID, change=delete),
    Route("POST", f"{_BASE}/restore", Need.write, _ID, change=restore),
    Route("GET", f"{_BASE}/get", Need.read, _EITHER_ID, answer=get),
    Route("POST", f"{_BASE}/search", Need.read, _SEARCH, answer=search),
    Route(
        "POST",
        f"{_BASE}/log-metric",
        Need.write,
        {
            **_EITHER_ID,
            "key": text(required=True),
            "value": number(required=True),
            "timestamp": integer(required=True),
            "step": integer(),
            "model_id": text(),
            "dataset_name": text(),
            "dataset_digest": text(),
        },
        change=log_metric,
    ),
    Route(
        "POST",
        f"{_BASE}/log-parameter",
        Need.write,
        {**_EITHER_ID, "key": text(required=True), "value": text()},
        change=log_parameter,
    ),
    Route(
        "POST",
        f"{_BASE}/set-tag",
        Need.write,
        {**_EITHER_ID, "key": text(required=True), "value": text()},
        change=set_tag,
    ),
    Route("POST", f"{_BASE}/delete-tag", Need.write, {**_ID, "key": text(required=True)}, change=delete_tag),
    Route(
        "POST",
        f"{_BASE}/log-batch",
        Need.write,
        {**_ID, "metrics": many(_METRIC), "params": many(_PAIR), "tags": many(_PAIR)},
        change=log_batch,
        fast=fast_batch,
    ),
    Route(
        "POST",
        f"{_BASE}/log-inputs",
        Need.write,
        {
            **_ID,
            "datasets": many(struct({"tags": many(_INPUT_TAG), "dataset": _DATASET}), limit=1000),
            "models": many(_MODEL, limit=1000),
        },
        change=log_inputs,
    ),
    Route(
        "POST",
        f"{_BASE}/outputs",
        Need.write,
        {**_ID, "models": many(_MODEL, required=True, limit=1000)},
        change=log_outputs,
    ),
    Route("POST", f"{_BASE}/log-model", Need.write, {**_ID, "model_json": text(required=True)}, change=log_model),
    Route(
        "GET",
        "/api/2.0/mlflow/metrics/get-history",
        Need.read,
        {
            **_EITHER_ID,
            "metric_key": text(required=True),
            "max_results": integer(low=1, high=10_000_000),
            "page_token": text(),
        },
        answer=history,
    ),
    Route(
        "GET",
        "/api/2.0/mlflow/metrics/get-history-bulk",
        Need.read,
        {
            "run_id": many(text()),
            "metric_key": text(),
            "max_results": integer(default=_MOST_HISTORY, low=1),
        },
        answer=history_bulk,
    ),
    Route(
        "GET",
        "/api/2.0/mlflow/metrics/get-history-bulk-interval",
        Need.read,
        {
            "run_ids": many(text(), required=True),
            "metric_key": text(required=True),
            "start_step": integer(),
            "end_step": integer(),
            "max_results": integer(default=_MOST_SAMPLED),
        },
        answer=history_sampled,
    ),
    Route(
        "POST",
        "/api/2.0/mlflow/experiments/search-datasets",
        Need.read,
        {"experiment_ids": many(text())},
        answer=search_datasets,
    ),
    # the path as the Python client sends it
    Route(
        "POST",
        "/api/2.0mlflow/experiments/search-datasets",
        Need.read,
        {"experiment_ids": many(text())},
        answer=search_datasets,
    ),
)
