"""Traces on MLflow's wire: what is known of each call, its tags and its assessments.

Spans are an artifact of the experiment, uploaded and downloaded by the client itself; they are kept as sent and are
not searched.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from noria.compat.mlflow.documents import PAIR, anything, by_key, enum, found, mapping, page
from noria.compat.mlflow.errors import WireError, not_found
from noria.compat.mlflow.experiments import experiment_number
from noria.compat.mlflow.fields import Field, Wrong, boolean, integer, many, struct, text
from noria.compat.mlflow.forms import pairs
from noria.compat.mlflow.routing import Need, Params, Route, Services
from noria.errors import RequestError
from noria.records.registry import TRACE_STATES, Trace
from noria.records.tracking import Experiment
from noria.store.ports import Reader, Transaction
from noria.track.grammar import parse, parse_order
from noria.track.matching import Lookup
from noria.track.verbs import check_text, experiment_of, run_of

__all__ = ["ROUTES"]

MAX_TAG_KEY = 250
MAX_TAG_VALUE = 8_000
MAX_LINKED = 100
MAX_ASSESSMENTS = 1_000
_MOST = 500
_ARTIFACTS = "mlflow.artifactLocation"
_NAME = "mlflow.traceName"
_RUN = "mlflow.sourceRun"
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,250}")
_STATUSES = ("TRACE_STATUS_UNSPECIFIED", *TRACE_STATES[1:])
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})")
_SECONDS = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s")
_KINDS = ("feedback", "expectation", "issue")


# Times in the JSON of protocol buffers


def _timestamp() -> Field:
    """A moment as RFC 3339, in ms."""

    def read(value: Any) -> int:
        match = _TIME.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise Wrong(value, why="it must be a time such as 2026-01-31T12:00:00.123Z")
        whole, fraction, zone = match.groups()
        try:
            seconds = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone)).timestamp()
        except ValueError:
            raise Wrong(value, why="there is no such time") from None
        return int(seconds) * 1000 + int((fraction or "0").ljust(9, "0")[:3])

    return Field(read)


def _duration() -> Field:
    """A duration such as ``1.5s``, in ms."""

    def read(value: Any) -> int:
        match = _SECONDS.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise Wrong(value, why="it must be a duration such as 1.5s")
        sign, whole, fraction = match.groups()
        ms = int(whole) * 1000 + int((fraction or "0").ljust(9, "0")[:3])
        return -ms if sign else ms

    return Field(read)


def _moment(ms: int) -> str:
    seconds, rest = divmod(ms, 1000)
    try:
        whole = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        whole, rest = datetime.fromtimestamp(0, UTC), 0
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{rest:03d}Z".replace(".000Z", "Z")


def _lasting(ms: int) -> str:
    whole, rest = divmod(abs(ms), 1000)
    return f"{'-' if ms < 0 else ''}{whole}.{rest:03d}s"


# Documents


def _trace_json(kept: Trace) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "trace_id": kept.id,
        "trace_location": {
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": str(kept.experiment)},
        },
        "request_time": _moment(kept.at),
        "state": kept.state,
        "trace_metadata": kept.metadata,
        "tags": kept.tags,
    }
    if kept.duration is not None:
        shown["execution_duration"] = _lasting(kept.duration)
    if kept.client_id:
        shown["client_request_id"] = kept.client_id
    if kept.request:
        shown["request_preview"] = kept.request
    if kept.response:
        shown["response_preview"] = kept.response
    if kept.assessments:
        shown["assessments"] = list(kept.assessments)
    return shown


def _trace_json_v2(kept: Trace) -> dict[str, Any]:
    """As clients before MLflow 3 read it."""
    shown: dict[str, Any] = {
        "request_id": kept.id,
        "experiment_id": str(kept.experiment),
        "timestamp_ms": kept.at,
        "status": _STATUSES[TRACE_STATES.index(kept.state)],
        "request_metadata": pairs(kept.metadata),
        "tags": pairs(kept.tags),
    }
    return shown | ({"execution_time_ms": kept.duration} if kept.duration is not None else {})


def _existing(db: Reader, id: str) -> Trace:
    kept = db.find(Trace, id=id)
    if kept is None:
        raise not_found(f"Trace with ID '{id[:80]}' not found.")
    return kept


def _experiment(services: Services, given: str) -> Experiment:
    with services.tracking.read() as tracked:
        return experiment_of(tracked, experiment_number(given), active=True)


def _location(experiment: Experiment, id: str) -> dict[str, str]:
    return {_ARTIFACTS: f"{experiment.artifacts.rstrip('/')}/traces/{id}/artifacts"}


def _checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        _check_tag(key, value)
    return dict(tags)


def _check_tag(key: str, value: str) -> None:
    check_text(key, "key")
    check_text(value, "value")
    if not key.strip() or len(key) > MAX_TAG_KEY:
        raise RequestError(f"Trace tag key '{key[:80]}' must have 1 to {MAX_TAG_KEY} characters.")
    if len(value) > MAX_TAG_VALUE:
        raise RequestError(f"Trace tag value exceeded the maximum length of {MAX_TAG_VALUE} characters.")
    if key == _ARTIFACTS:
        raise RequestError(f"The tag {_ARTIFACTS} says where the spans are and cannot be changed.")


def _start(services: Services, params: Params) -> Any:
    info = params["trace"]["trace_info"]
    id = info["trace_id"]
    if not _ID.fullmatch(id):
        raise RequestError(f"Invalid value {id[:80]!a} for parameter 'trace_id': it is not an id.")
    where = info.get("trace_location", {}).get("mlflow_experiment")
    if where is None:
        raise WireError("INVALID_PARAMETER_VALUE", "Traces are kept in experiments: give trace_location one.")
    experiment = _experiment(services, where["experiment_id"])
    tags = {key: value for key, value in info.get("tags", {}).items() if key != _ARTIFACTS}
    now = services.now_ms()
    sent = Trace(
        id=id,
        experiment=experiment.id,
        at=info.get("request_time", now),
        state=info.get("state", "STATE_UNSPECIFIED"),
        duration=info.get("execution_duration"),
        client_id=info.get("client_request_id", ""),
        request=info.get("request_preview", ""),
        response=info.get("response_preview", ""),
        metadata=info.get("trace_metadata", {}),
        tags=_checked_tags(tags) | _location(experiment, id),
        assessments=tuple(_new_assessment(one, id, now) for one in info.get("assessments", [])),
    )

    def change(tx: Transaction) -> Trace:
        known = tx.find(Trace, id=id)
        made = sent
        if known is not None:
            if known.experiment != sent.experiment:
                raise RequestError(f"Trace '{id}' belongs to another experiment.")
            ids = {one["assessment_id"] for one in sent.assessments}
            made = replace(
                sent,
                metadata=known.metadata | sent.metadata,
                tags=known.tags | sent.tags,
                assessments=(*(one for one in known.assessments if one["assessment_id"] not in ids), *sent.assessments),
                runs=known.runs,
                prompts=known.prompts,
            )
        tx.put(made)
        return made

    return {"trace": {"trace_info": _trace_json(services.ledger.write(change))}}


def _start_v2(services: Services, params: Params) -> Any:
    experiment = _experiment(services, params.get("experiment_id", "0"))
    id = os.urandom(16).hex()
    made = Trace(
        id=id,
        experiment=experiment.id,
        at=params.get("timestamp_ms", services.now_ms()),
        state="IN_PROGRESS",
        metadata=by_key(params.get("request_metadata")),
        tags=_checked_tags(by_key(params.get("tags"))) | _location(experiment, id),
    )
    services.ledger.write(lambda tx: tx.put(made))
    return {"trace_info": _trace_json_v2(made)}


def _change(services: Services, id: str, change: Callable[[Trace], Trace]) -> Trace:
    """Change one trace; the change's own faults leave it as it was."""

    def whole(tx: Transaction) -> Trace:
        changed = change(_existing(tx, id))
        tx.put(changed)
        return changed

    return services.ledger.write(whole)


def _end_v2(services: Services, params: Params) -> Any:
    at = params.get("timestamp_ms", services.now_ms())
    state = TRACE_STATES[_STATUSES.index(params.get("status", "OK"))]
    metadata, tags = by_key(params.get("request_metadata")), by_key(params.get("tags"))
    tags.pop(_ARTIFACTS, None)
    _checked_tags(tags)
    changed = _change(
        services,
        params["request_id"],
        lambda kept: replace(
            kept, state=state, duration=at - kept.at, metadata=kept.metadata | metadata, tags=kept.tags | tags
        ),
    )
    return {"trace_info": _trace_json_v2(changed)}


def _get(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return {"trace": {"trace_info": _trace_json(_existing(db, params["trace_id"]))}}


def _get_v2(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return {"trace_info": _trace_json_v2(_existing(db, params["request_id"]))}


def _batch(services: Services, params: Params) -> list[Trace]:
    experiments = {experiment_number(one) for one in params.get("experiment_ids", [])}
    with services.ledger.read() as db:
        kept = [db.find(Trace, id=id) for id in dict.fromkeys(params["trace_ids"])]
    return [one for one in kept if one is not None and (not experiments or one.experiment in experiments)]


def _batch_infos(services: Services, params: Params) -> Any:
    return {"trace_infos": [_trace_json(one) for one in _batch(services, params)]}


# Search


def _value_text(value: Any) -> str | float | int | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, ensure_ascii=False)


def _assessed(kept: Trace, kind: str, name: str) -> str | float | int | None:
    """The newest valid value of an assessment."""
    for one in reversed(kept.assessments):
        if kind in one and one.get("assessment_name") == name and one.get("valid", True):
            return _value_text(one[kind].get("value", one[kind].get("serialized_value", {}).get("value")))
    return None


def _lookup(kept: Trace) -> Lookup:
    attributes: dict[str, str | int | None] = {
        "request_id": kept.id,
        "trace_id": kept.id,
        "status": kept.state,
        "name": kept.tags.get(_NAME),
        "run_id": kept.metadata.get(_RUN),
        "client_request_id": kept.client_id or None,
        "text": f"{kept.request}\n{kept.response}",
        "experiment_id": str(kept.experiment),
        "timestamp_ms": kept.at,
        "execution_time_ms": kept.duration,
    }

    def look(entity: str, key: str) -> str | float | int | None:
        if entity == "attribute":
            return attributes.get(key)
        if entity in ("tag", "metadata"):
            return (kept.tags if entity == "tag" else kept.metadata).get(key)
        return _assessed(kept, entity, key)

    return look


def _searched(services: Services, params: Params, experiments: list[int]) -> tuple[list[Trace], str | None]:
    clauses = parse(params.get("filter"), "traces")
    if any(clause.entity == "span" for clause in clauses):
        raise RequestError("Invalid clause(s) in filter string: spans are kept as artifacts and are not searched here.")
    orders = parse_order(params.get("order_by", []), "traces")
    runs = [one.value for one in clauses if (one.entity, one.key, one.operator) == ("attribute", "run_id", "=")]
    others = [one for one in clauses if (one.entity, one.key, one.operator) != ("attribute", "run_id", "=")]
    with services.ledger.read() as db:
        kept = [one for number in experiments for one in db.list(Trace, experiment=number)]
    # A trace is of the run that made it, and of every run it was linked to.
    kept = [one for one in kept if all(run == one.metadata.get(_RUN) or run in one.runs for run in runs)]
    kept.sort(key=lambda one: (-one.at, one.id))
    matching = found(kept, others, orders, _lookup)
    question = [experiments, params.get("filter", ""), params.get("order_by", [])]
    return page(matching, lambda one: one.id, question, params["max_results"], params.get("page_token"))


def _search(services: Services, params: Params) -> Any:
    places = [one["mlflow_experiment"]["experiment_id"] for one in params["locations"] if "mlflow_experiment" in one]
    shown, token = _searched(services, params, sorted({experiment_number(one) for one in places}))
    answer: dict[str, Any] = {"traces": [_trace_json(one) for one in shown]}
    return answer | ({"next_page_token": token} if token else {})


def _search_v2(services: Services, params: Params) -> Any:
    experiments = sorted({experiment_number(one) for one in params["experiment_ids"]})
    shown, token = _searched(services, params, experiments)
    answer: dict[str, Any] = {"traces": [_trace_json_v2(one) for one in shown]}
    return answer | ({"next_page_token": token} if token else {})


# Tags, links and deletion


def _tag(services: Services, params: Params) -> Any:
    key, value = params["key"], params.get("value", "")
    _check_tag(key, value)
    _change(services, params["id"], lambda kept: replace(kept, tags=kept.tags | {key: value}))
    return {}


def _untag(services: Services, params: Params) -> Any:
    key = params["key"]
    _check_tag(key, "")

    def change(kept: Trace) -> Trace:
        if key not in kept.tags:
            raise not_found(f"No trace tag with key '{key[:80]}' for trace with ID '{kept.id}'")
        return replace(kept, tags={name: value for name, value in kept.tags.items() if name != key})

    _change(services, params["id"], change)
    return {}


def _link_run(services: Services, params: Params) -> Any:
    ids = list(dict.fromkeys(params["trace_ids"]))
    run = params["run_id"]
    if len(ids) > MAX_LINKED:
        raise RequestError(f"Cannot link more than {MAX_LINKED} traces to a run in a single request.")
    with services.tracking.read() as tracked:
        run_of(tracked, run)

    def change(tx: Transaction) -> None:
        for id in ids:
            kept = tx.find(Trace, id=id)
            if kept is not None and run not in kept.runs:
                tx.put(replace(kept, runs=(*kept.runs, run)))

    services.ledger.write(change)
    return {}


def _link_prompts(services: Services, params: Params) -> Any:
    named = [f"{one['name']}/{one['version']}" for one in params["prompt_versions"]]
    _change(
        services,
        params["trace_id"],
        lambda kept: replace(kept, prompts=tuple(dict.fromkeys((*kept.prompts, *named)))),
    )
    return {}


def _delete(services: Services, params: Params) -> Any:
    experiment = experiment_number(params["experiment_id"])
    ids, before, most = params.get("request_ids", []), params.get("max_timestamp_millis"), params.get("max_traces")
    if before is None and not ids:
        raise RequestError("Either `max_timestamp_millis` or `trace_ids` must be specified.")
    if before is not None and ids:
        raise RequestError("Only one of `max_timestamp_millis` and `trace_ids` can be specified.")
    if ids and most is not None:
        raise RequestError("`max_traces` can't be specified if `trace_ids` is specified.")
    if most is not None and most <= 0:
        raise RequestError(f"`max_traces` must be a positive integer, received {most}.")

    def change(tx: Transaction) -> list[Trace]:
        if ids:
            named = [tx.find(Trace, id=id) for id in dict.fromkeys(ids)]
            gone = [one for one in named if one is not None and one.experiment == experiment]
        else:
            old = tx.list(Trace, oldest_first=True, experiment=experiment)
            gone = [one for one in old if before is not None and one.at <= before][:most]
        for one in gone:
            tx.remove(Trace, id=one.id)
        return gone

    return {"traces_deleted": len(services.ledger.write(change))}


# Assessments


def _kind(assessment: Mapping[str, Any]) -> str:
    kinds = [kind for kind in _KINDS if kind in assessment]
    if len(kinds) != 1:
        raise RequestError("An assessment has exactly one of feedback, expectation and issue.")
    return kinds[0]


def _new_assessment(sent: Mapping[str, Any], trace: str, now: int) -> dict[str, Any]:
    """An assessment with its id and times."""
    kind = _kind(sent)
    if not isinstance(sent[kind], dict):
        raise RequestError(f"Invalid value for parameter 'assessment.{kind}': it must be an object.")
    return dict(sent) | {
        "assessment_id": sent.get("assessment_id") or f"a-{os.urandom(16).hex()}",
        "trace_id": trace,
        "create_time": sent.get("create_time") or _moment(now),
        "last_update_time": sent.get("last_update_time") or _moment(now),
        "valid": sent.get("valid", True),
    }


def _assessment(kept: Trace, id: str) -> dict[str, Any]:
    for one in kept.assessments:
        if one["assessment_id"] == id:
            return one
    raise not_found(f"Assessment with ID '{id[:80]}' not found for trace '{kept.id}'")


def _with(kept: Trace, changed: Mapping[str, Any]) -> Trace:
    """The trace with one of its assessments replaced."""
    return replace(
        kept,
        assessments=tuple(
            dict(changed) if one["assessment_id"] == changed["assessment_id"] else one for one in kept.assessments
        ),
    )


def _create_assessment(services: Services, params: Params) -> Any:
    made = _new_assessment(params["assessment"], params["trace_id"], services.now_ms())

    def change(kept: Trace) -> Trace:
        if any(one["assessment_id"] == made["assessment_id"] for one in kept.assessments):
            raise WireError("RESOURCE_ALREADY_EXISTS", f"There is an assessment {made['assessment_id'][:80]} already.")
        if len(kept.assessments) >= MAX_ASSESSMENTS:
            raise RequestError(f"A trace holds at most {MAX_ASSESSMENTS} assessments.")
        if made.get("overrides"):
            kept = _with(kept, _assessment(kept, made["overrides"]) | {"valid": False})
        return replace(kept, assessments=(*kept.assessments, made))

    _change(services, params["trace_id"], change)
    return {"assessment": made}


def _get_assessment(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return {"assessment": _assessment(_existing(db, params["trace_id"]), params["assessment_id"])}


def _snake(path: str) -> str:
    return re.sub(r"[A-Z]", lambda sign: f"_{sign[0].lower()}", path.strip())


def _update_assessment(services: Services, params: Params) -> Any:
    sent, now = params["assessment"], services.now_ms()
    paths = [_snake(path) for path in params["update_mask"].split(",")]

    def change(kept: Trace) -> Trace:
        old = _assessment(kept, params["assessment_id"])
        new = dict(old)
        for path in paths:
            if path in ("feedback", "expectation"):
                if path not in old:
                    raise RequestError(f"Cannot update {path} value on an assessment that is none.")
                new[path] = sent.get(path, {})
            elif path == "metadata":
                new["metadata"] = old.get("metadata", {}) | sent.get("metadata", {})
            elif path in ("assessment_name", "rationale", "valid") and path in sent:
                new[path] = sent[path]
        return _with(kept, new | {"last_update_time": _moment(now)})

    changed = _change(services, params["trace_id"], change)
    return {"assessment": _assessment(changed, params["assessment_id"])}


def _delete_assessment(services: Services, params: Params) -> Any:
    id = params["assessment_id"]

    def change(kept: Trace) -> Trace:
        gone = next((one for one in kept.assessments if one["assessment_id"] == id), None)
        if gone is None:
            return kept
        overridden = next((one for one in kept.assessments if one["assessment_id"] == gone.get("overrides")), None)
        if overridden is not None:
            kept = _with(kept, overridden | {"valid": True})
        return replace(kept, assessments=tuple(one for one in kept.assessments if one["assessment_id"] != id))

    _change(services, params["trace_id"], change)
    return {}


_OLD = "/api/2.0/mlflow/traces"
_NEW = "/api/3.0/mlflow/traces"
_NOT_KEPT = "Spans are uploaded as artifacts of their trace and are read from there."
_NO_PAGES = "Figures over traces are not made here."
_DATABRICKS = "Only Databricks has this."
_ASSESSMENT = struct(
    {
        "assessment_id": text(limit=250),
        "assessment_name": text(limit=250),
        "span_id": text(),
        "source": anything(),
        "create_time": text(limit=40),
        "last_update_time": text(limit=40),
        "feedback": anything(),
        "expectation": anything(),
        "issue": anything(),
        "rationale": text(),
        "error": anything(),
        "metadata": mapping(),
        "overrides": text(),
        "valid": boolean(),
    },
    required=True,
)
_INFO = struct(
    {
        "trace_id": text(required=True),
        "client_request_id": text(limit=250),
        "trace_location": struct({"mlflow_experiment": struct({"experiment_id": text(required=True)})}),
        "request_preview": text(),
        "response_preview": text(),
        "request_time": _timestamp(),
        "execution_duration": _duration(),
        "state": enum(TRACE_STATES),
        "trace_metadata": mapping(),
        "tags": mapping(),
        "assessments": many(_ASSESSMENT, limit=MAX_ASSESSMENTS),
    },
    required=True,
)
_SEARCH = {
    "filter": text(),
    "max_results": integer(default=100, low=1, high=_MOST),
    "order_by": many(text()),
    "page_token": text(),
}
_DELETE = {
    "experiment_id": text(required=True),
    "max_timestamp_millis": integer(),
    "max_traces": integer(),
    "request_ids": many(text(), limit=10_000),
}
_IDS = {"trace_ids": many(text(), required=True, limit=1_000), "experiment_ids": many(text())}
_TAG = {"key": text(required=True), "value": text()}
_UNTAG = {"key": text(required=True)}
_LINK = {"trace_ids": many(text(), required=True), "run_id": text(required=True)}
_PROMPTS = {
    "trace_id": text(required=True),
    "prompt_versions": many(struct({"name": text(required=True), "version": text(required=True)}), required=True),
}

ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/traces", Need.write, refused=f"REST OTLP span logging is not supported. {_NOT_KEPT}"),
    Route("GET", f"{_NEW}/get", Need.read, refused=_NOT_KEPT),
    Route("GET", f"{_NEW}/batchGet", Need.read, refused=_NOT_KEPT),
    Route("POST", f"{_NEW}/metrics", Need.read, refused=_NO_PAGES),
    Route("POST", f"{_NEW}/calculate-filter-correlation", Need.read, refused=_NO_PAGES),
    Route("GET", "/api/2.0/mlflow/unified-traces", Need.read, refused=_DATABRICKS),
    Route("GET", "/api/2.0/mlflow/get-online-trace-details", Need.read, refused=_DATABRICKS),
    Route("POST", _NEW, Need.write, {"trace": struct({"trace_info": _INFO}, required=True)}, answer=_start),
    Route(
        "POST",
        f"{_NEW}/search",
        Need.read,
        _SEARCH
        | {
            "locations": many(
                struct({"mlflow_experiment": struct({"experiment_id": text(required=True)})}),
                required=True,
                empty=False,
                limit=1_000,
            )
        },
        answer=_search,
    ),
    Route("POST", f"{_NEW}/batchGetInfos", Need.read, _IDS, answer=_batch_infos),
    Route("POST", f"{_NEW}/delete-traces", Need.delete, _DELETE, answer=_delete),
    Route("GET", f"{_NEW}/{{trace_id}}", Need.read, answer=_get),
    Route("PATCH", f"{_NEW}/{{id}}/tags", Need.write, _TAG, answer=_tag),
    Route("DELETE", f"{_NEW}/{{id}}/tags", Need.write, _UNTAG, answer=_untag),
    Route(
        "POST", f"{_NEW}/{{trace_id}}/assessments", Need.write, {"assessment": _ASSESSMENT}, answer=_create_assessment
    ),
    Route("GET", f"{_NEW}/{{trace_id}}/assessments/{{assessment_id}}", Need.read, answer=_get_assessment),
    Route(
        "PATCH",
        f"{_NEW}/{{trace_id}}/assessments/{{assessment_id}}",
        Need.write,
        {"assessment": _ASSESSMENT, "update_mask": text(required=True, limit=1_000)},
        answer=_update_assessment,
    ),
    Route("DELETE", f"{_NEW}/{{trace_id}}/assessments/{{assessment_id}}", Need.write, answer=_delete_assessment),
    Route(
        "POST",
        _OLD,
        Need.write,
        {
            "experiment_id": text(),
            "timestamp_ms": integer(),
            "request_metadata": many(PAIR),
            "tags": many(PAIR),
        },
        answer=_start_v2,
    ),
    Route(
        "GET",
        _OLD,
        Need.read,
        _SEARCH | {"experiment_ids": many(text(), required=True, empty=False)},
        answer=_search_v2,
    ),
    Route("POST", f"{_OLD}/delete-traces", Need.delete, _DELETE, answer=_delete),
    Route("POST", f"{_OLD}/link-to-run", Need.write, _LINK, answer=_link_run),
    Route("POST", f"{_OLD}/link-prompts", Need.write, _PROMPTS, answer=_link_prompts),
    Route(
        "PATCH",
        f"{_OLD}/{{request_id}}",
        Need.write,
        {
            "timestamp_ms": integer(),
            "status": enum(_STATUSES),
            "request_metadata": many(PAIR),
            "tags": many(PAIR),
        },
        answer=_end_v2,
    ),
    Route("GET", f"{_OLD}/{{request_id}}/info", Need.read, answer=_get_v2),
    Route("PATCH", f"{_OLD}/{{id}}/tags", Need.write, _TAG, answer=_tag),
    Route("DELETE", f"{_OLD}/{{id}}/tags", Need.write, _UNTAG, answer=_untag),
)
