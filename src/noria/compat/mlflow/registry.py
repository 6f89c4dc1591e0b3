"""MLflow's model registry on the wire: registered models, their versions, stages, tags and aliases."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from noria.compat.mlflow.documents import PAIR, by_key, found, page
from noria.compat.mlflow.errors import WireError
from noria.compat.mlflow.fields import boolean, integer, many, missing, text
from noria.compat.mlflow.forms import pairs
from noria.compat.mlflow.logged_models import existing
from noria.compat.mlflow.routing import Need, Params, Route, Services
from noria.compat.mlflow.webhooks import announce
from noria.records.registry import LoggedModel, RegisteredModel, RegisteredVersion
from noria.records.tracking import Clause
from noria.register import registry
from noria.store.ports import Reader, Transaction
from noria.track.grammar import parse, parse_order
from noria.track.matching import Lookup

__all__ = ["ROUTES"]

ANYBODY = "mlflow client"
_USER = "mlflow.user"
_PROMPT = "mlflow.prompt.is_prompt"
_PROMPT_TEXT = "mlflow.prompt.text"
_PROMPT_TYPE = "_mlflow_prompt_type"
_PROMPT_SOURCES = ("dummy-source", "prompt-template")
_OF_LOGGED = "mlflow.modelVersions"
_DECODINGS = 10

_NAME = text(required=True)
_TAGS = many(PAIR)


def _actor(tags: dict[str, str] | None = None) -> str:
    return (tags or {}).get(_USER) or ANYBODY


def _number(params: Params) -> int:
    """The version's number; a text that is none has MLflow's words."""
    given = params["version"]
    if not re.fullmatch(r"[0-9]{1,18}", given):
        raise WireError("INVALID_PARAMETER_VALUE", f"Parameter 'version' must be an integer, got '{given[:80]}'.")
    return int(given)


_VERSION = text(required=True)
_AT = {"name": _NAME, "version": _VERSION}


def _version_json(made: RegisteredVersion, aliases: dict[str, int]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": made.name,
        "version": str(made.version),
        "creation_timestamp": made.created,
        "last_updated_timestamp": made.updated,
        "current_stage": made.stage,
        "description": made.description,
        "source": made.source,
        "run_id": made.run,
        "status": made.status,
        "run_link": made.run_link,
    }
    if made.user:
        shown["user_id"] = made.user
    if made.model:
        shown["model_id"] = made.model
    if made.tags:
        shown["tags"] = pairs(made.tags)
    names = sorted(alias for alias, number in aliases.items() if number == made.version)
    if names:
        shown["aliases"] = names
    return shown


def _version_answer(db: Reader, made: RegisteredVersion) -> dict[str, Any]:
    return {"model_version": _version_json(made, registry.aliases(db, made.name))}


def _model_json(db: Reader, kept: RegisteredModel) -> dict[str, Any]:
    aliases = registry.aliases(db, kept.name)
    shown: dict[str, Any] = {
        "name": kept.name,
        "creation_timestamp": kept.created,
        "last_updated_timestamp": kept.updated,
        "description": kept.description,
    }
    latest = registry.latest(db, kept.name)
    if latest:
        shown["latest_versions"] = [_version_json(one, aliases) for one in latest]
    if kept.tags:
        shown["tags"] = pairs(kept.tags)
    if aliases:
        shown["aliases"] = [{"alias": alias, "version": str(number)} for alias, number in aliases.items()]
    return shown


def _model_answer(db: Reader, kept: RegisteredModel) -> dict[str, Any]:
    return {"registered_model": _model_json(db, kept)}


def _is_prompt(tags: dict[str, str]) -> bool:
    return tags.get(_PROMPT, "").lower() == "true"


def _plain(tags: dict[str, str]) -> dict[str, str]:
    """A prompt's tags without those that only say that it is one."""
    return {key: value for key, value in tags.items() if key not in (_PROMPT, _PROMPT_TEXT, _PROMPT_TYPE)}


def _of_prompt(db: Reader, name: str) -> str:
    """``prompt`` for the events of a prompt, else nothing."""
    return "prompt" if _is_prompt(registry.model(db, name).tags) else ""


# Models


def _create_model(services: Services, params: Params) -> Any:
    tags = by_key(params.get("tags"))
    name, description = params["name"], params.get("description", "")
    now = services.clock.now()

    def change(tx: Transaction) -> dict[str, Any]:
        made = registry.create_model(tx, name, now=now, by=_actor(tags), description=description, tags=tags)
        return _model_answer(tx, made)

    answer = services.ledger.write(change)
    prompt = _is_prompt(tags)
    announce(
        services,
        "prompt.created" if prompt else "registered_model.created",
        {"name": name, "tags": _plain(tags) if prompt else tags, "description": params.get("description")},
    )
    return answer


def _get_model(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return _model_answer(db, registry.model(db, params["name"]))


def _update_model(services: Services, params: Params) -> Any:
    now = services.clock.now()
    name, description = params["name"], params.get("description", "")
    return services.ledger.write(
        lambda tx: _model_answer(tx, registry.update_model(tx, name, description, now=now, by=ANYBODY))
    )


def _rename_model(services: Services, params: Params) -> Any:
    now = services.clock.now()
    if not params["new_name"].strip():
        raise missing("new_name")
    return services.ledger.write(
        lambda tx: _model_answer(tx, registry.rename_model(tx, params["name"], params["new_name"], now=now, by=ANYBODY))
    )


def _delete_model(services: Services, params: Params) -> Any:
    now = services.clock.now()
    services.ledger.write(lambda tx: registry.delete_model(tx, params["name"], now=now, by=ANYBODY))
    return {}


def _wants_prompts(clauses: Sequence[Clause]) -> tuple[bool, list[Clause]]:
    """Whether prompts are asked for (else models are), and the other clauses."""
    prompts, others = False, []
    for clause in clauses:
        if (clause.entity, clause.key) == ("tag", _PROMPT) and isinstance(clause.value, str):
            prompts = (clause.operator, clause.value.lower()) in (("=", "true"), ("!=", "false"))
        else:
            others.append(clause)
    return prompts, others


def _model_lookup(kept: RegisteredModel) -> Lookup:
    attributes: dict[str, str | int] = {
        "name": kept.name,
        "creation_timestamp": kept.created,
        "last_updated_timestamp": kept.updated,
    }
    return lambda entity, key: kept.tags.get(key) if entity == "tag" else attributes.get(key)


def _search_models(services: Services, params: Params) -> Any:
    question = [params.get("filter", ""), params.get("order_by", [])]
    prompts, clauses = _wants_prompts(parse(params.get("filter"), "models"))
    orders = parse_order(params.get("order_by", []), "models")
    with services.ledger.read() as db:
        all_of_kind = [kept for kept in registry.models(db) if _is_prompt(kept.tags) == prompts]
        matching = found(all_of_kind, clauses, orders, _model_lookup)
        kept, token = page(matching, lambda one: one.name, question, params["max_results"], params.get("page_token"))
        answer: dict[str, Any] = {"registered_models": [_model_json(db, one) for one in kept]}
    return answer | ({"next_page_token": token} if token else {})


def _latest_versions(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        aliases = registry.aliases(db, params["name"])
        latest = registry.latest(db, params["name"], params.get("stages", []))
        return {"model_versions": [_version_json(one, aliases) for one in latest]}


def _tag_model(services: Services, params: Params) -> Any:
    now = services.clock.now()
    name, key, value = params["name"], params["key"], params.get("value", "")

    def change(tx: Transaction) -> str:
        registry.tag_model(tx, name, key, value, now=now, by=ANYBODY)
        return _of_prompt(tx, name)

    if services.ledger.write(change):
        announce(services, "prompt_tag.set", {"name": name, "key": key, "value": value})
    return {}


def _untag_model(services: Services, params: Params) -> Any:
    now = services.clock.now()
    name, key = params["name"], params["key"]

    def change(tx: Transaction) -> str:
        prompt = _of_prompt(tx, name)
        registry.tag_model(tx, name, key, None, now=now, by=ANYBODY)
        return prompt

    if services.ledger.write(change):
        announce(services, "prompt_tag.deleted", {"name": name, "key": key})
    return {}


# Versions


def _wrong_source(source: str, why: str) -> WireError:
    return WireError("INVALID_PARAMETER_VALUE", f"Invalid model version source: '{source[:200]}'. {why}")


def _check_source(source: str) -> None:
    """Refuse what would lead clients, or the server, to files that are not a model's.

    Raises:
        WireError: the source is a path of some machine, or climbs out of where it begins.
    """
    plain = source
    for _ in range(_DECODINGS):
        decoded = unquote(plain)
        if decoded == plain:
            break
        plain = decoded
    else:
        raise _wrong_source(source, "It is encoded too many times.")
    scheme, colon, rest = plain.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", scheme) or scheme.lower() == "file":
        raise _wrong_source(
            source,
            "To use a local path as a model version source is not possible here: no run keeps its artifacts in a "
            "path of the server. Give an address such as runs:/<run>/<path>, models:/<model id> or s3://…",
        )
    if any(ord(sign) < 32 for sign in plain) or {"..", "."} & set(re.split(r"[/\\?#]", rest)):
        raise _wrong_source(source, "An absolute path must be given, without relative references such as '..'.")


def _followed(db: Reader, source: str) -> tuple[str, LoggedModel | None, RegisteredVersion | None]:
    """Where a source's files are: the source itself, or what the model it names says."""
    if not source.lower().startswith("models:"):
        return source, None, None
    name = unquote(source[len("models:") :]).strip("/")
    if re.fullmatch(r"m-[0-9a-f]{32}", name):
        logged = existing(db, name)
        return logged.artifacts, logged, None
    alias = re.fullmatch(r"([^/@]+)@([^/@]+)", name)
    numbered = re.fullmatch(r"([^/]+)/([0-9]{1,18})", name)
    if alias:
        made = registry.of_alias(db, alias[1], alias[2])
    elif numbered:
        made = registry.version(db, numbered[1], int(numbered[2]))
    else:
        raise _wrong_source(source, "After models:/ comes a model id, name/version or name@alias.")
    if made is None:
        raise _wrong_source(source, "There is no such alias.")
    return made.location, None, made


def _user_of(services: Services, run: str) -> str:
    if not run:
        return ""
    with services.tracking.read() as tracked:
        info = tracked.info(run)
    return info.user if info else ""


def _create_version(services: Services, params: Params) -> Any:
    tags = by_key(params.get("tags"))
    name, source, model_id = params["name"], params["source"], params.get("model_id", "")
    prompt = _is_prompt(tags)
    if prompt and source not in _PROMPT_SOURCES:
        raise _wrong_source(source, "A prompt has no files.")
    if not prompt:
        _check_source(source)
    with services.ledger.read() as db:
        location, logged, copied = (source, None, None) if prompt else _followed(db, source)
        if logged is None and model_id:
            logged = existing(db, model_id)
        if logged is None and copied is not None and copied.model:
            logged = db.find(LoggedModel, id=copied.model)
    run = params.get("run_id") or (logged.run if logged else "") or (copied.run if copied else "")
    user = _user_of(services, run)
    now = services.clock.now()

    def change(tx: Transaction) -> tuple[int, dict[str, Any]]:
        made = registry.create_version(
            tx,
            name,
            source=source,
            location=location,
            now=now,
            by=tags.get(_USER) or user or ANYBODY,
            run=run,
            run_link=params.get("run_link", ""),
            model=logged.id if logged else "",
            user=tags.get(_USER) or user,
            description=params.get("description", ""),
            tags=tags,
        )
        present = tx.find(LoggedModel, id=logged.id) if logged else None
        if present is not None:
            tx.put(replace(present, tags=present.tags | {_OF_LOGGED: _registrations(present, made)}))
        return made.version, _version_answer(tx, made)

    number, answer = services.ledger.write(change)
    told: dict[str, Any] = {"name": name, "version": str(number)}
    if prompt:
        event = "prompt_version.created"
        told["template"] = tags.get(_PROMPT_TEXT)
    else:
        event = "model_version.created"
        told |= {"source": source, "run_id": run or None}
    told |= {"tags": _plain(tags) if prompt else tags, "description": params.get("description") or None}
    announce(services, event, told)
    return answer


def _registrations(logged: LoggedModel, made: RegisteredVersion) -> str:
    """The tag of a logged model that names the versions registered from it."""
    try:
        known = msgspec.json.decode(logged.tags.get(_OF_LOGGED, "[]"), type=list[dict[str, str]])
    except msgspec.DecodeError:
        known = []
    return msgspec.json.encode([*known, {"name": made.name, "version": str(made.version)}]).decode()


def _get_version(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return _version_answer(db, registry.version(db, params["name"], _number(params)))


def _update_version(services: Services, params: Params) -> Any:
    now, number = services.clock.now(), _number(params)
    name, description = params["name"], params.get("description", "")
    return services.ledger.write(
        lambda tx: _version_answer(tx, registry.update_version(tx, name, number, description, now=now, by=ANYBODY))
    )


def _transition(services: Services, params: Params) -> Any:
    now, number = services.clock.now(), _number(params)
    archive = params.get("archive_existing_versions", False)
    return services.ledger.write(
        lambda tx: _version_answer(
            tx,
            registry.set_stage(tx, params["name"], number, params["stage"], now=now, by=ANYBODY, archive=archive),
        )
    )


def _delete_version(services: Services, params: Params) -> Any:
    now, number = services.clock.now(), _number(params)
    services.ledger.write(lambda tx: registry.delete_version(tx, params["name"], number, now=now, by=ANYBODY))
    return {}


def _download_uri(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return {"artifact_uri": registry.version(db, params["name"], _number(params)).location}


def _version_lookup(made: RegisteredVersion) -> Lookup:
    attributes: dict[str, str | int] = {
        "name": made.name,
        "run_id": made.run,
        "source_path": made.source,
        "current_stage": made.stage,
        "version_number": made.version,
        "creation_timestamp": made.created,
        "last_updated_timestamp": made.updated,
    }
    return lambda entity, key: made.tags.get(key) if entity == "tag" else attributes.get(key)


def _only(clauses: Sequence[Clause], key: str) -> str | None:
    """The text that an attribute must equal, if the filter says so."""
    for clause in clauses:
        if clause.entity == "attribute" and clause.key == key and clause.operator == "=":
            return str(clause.value)
    return None


def _search_versions(services: Services, params: Params) -> Any:
    question = [params.get("filter", ""), params.get("order_by", [])]
    prompts, clauses = _wants_prompts(parse(params.get("filter"), "versions"))
    terms = params.get("order_by") or ["last_updated_timestamp DESC"]
    orders = parse_order(terms, "versions")
    with services.ledger.read() as db:
        versions = registry.versions(db, name=_only(clauses, "name"), run=_only(clauses, "run_id"))
        of_kind = sorted(
            (made for made in versions if _is_prompt(made.tags) == prompts), key=lambda one: (one.name, -one.version)
        )
        matching = found(of_kind, clauses, orders, _version_lookup)
        kept, token = page(
            matching,
            lambda one: f"{one.name}/{one.version}",
            question,
            params["max_results"],
            params.get("page_token"),
        )
        aliases = {name: registry.aliases(db, name) for name in {one.name for one in kept}}
        answer: dict[str, Any] = {"model_versions": [_version_json(one, aliases[one.name]) for one in kept]}
    return answer | ({"next_page_token": token} if token else {})


def _changed_version(
    services: Services, params: Params, change: Callable[[Transaction, int], None], action: str, told: dict[str, Any]
) -> Any:
    """Change a version's tags, and tell whoever wants to know."""
    number = _number(params)

    def whole(tx: Transaction) -> str:
        change(tx, number)
        return _of_prompt(tx, params["name"])

    entity = "prompt_version_tag" if services.ledger.write(whole) else "model_version_tag"
    announce(services, f"{entity}.{action}", {"name": params["name"], "version": params["version"]} | told)
    return {}


def _tag_version(services: Services, params: Params) -> Any:
    now = services.clock.now()
    name, key, value = params["name"], params["key"], params.get("value", "")
    return _changed_version(
        services,
        params,
        lambda tx, number: registry.tag_version(tx, name, number, key, value, now=now, by=ANYBODY),
        "set",
        {"key": key, "value": value},
    )


def _untag_version(services: Services, params: Params) -> Any:
    now = services.clock.now()
    return _changed_version(
        services,
        params,
        lambda tx, number: registry.tag_version(tx, params["name"], number, params["key"], None, now=now, by=ANYBODY),
        "deleted",
        {"key": params["key"]},
    )


# Aliases


def _set_alias(services: Services, params: Params) -> Any:
    now, number = services.clock.now(), _number(params)
    name, alias = params["name"], params["alias"]

    def change(tx: Transaction) -> str:
        registry.set_alias(tx, name, alias, number, now=now, by=ANYBODY)
        return _of_prompt(tx, name)

    entity = "prompt_alias" if services.ledger.write(change) else "model_version_alias"
    announce(services, f"{entity}.created", {"name": name, "alias": alias, "version": str(number)})
    return {}


def _delete_alias(services: Services, params: Params) -> Any:
    now = services.clock.now()
    name, alias = params["name"], params["alias"]

    def change(tx: Transaction) -> str:
        registry.delete_alias(tx, name, alias, now=now, by=ANYBODY)
        return _of_prompt(tx, name)

    entity = "prompt_alias" if services.ledger.write(change) else "model_version_alias"
    announce(services, f"{entity}.deleted", {"name": name, "alias": alias})
    return {}


def _by_alias(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        made = registry.of_alias(db, params["name"], params["alias"])
        if made is None and params["alias"].lower() == "latest":
            raise WireError("RESOURCE_DOES_NOT_EXIST", f"Latest version not found for model {params['name'][:80]}.")
        if made is None:
            # MLflow's own server says that the alias is wrong, not that it is missing; clients tell them apart.
            raise WireError("INVALID_PARAMETER_VALUE", f"Registered model alias {params['alias']} not found.")
        return _version_answer(db, made)


_MODELS = "/api/2.0/mlflow/registered-models"
_VERSIONS = "/api/2.0/mlflow/model-versions"
_SEARCH = {"filter": text(), "order_by": many(text()), "page_token": text()}
_KEY = {"key": text(required=True)}
_LATEST = {"name": _NAME, "stages": many(text())}

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        f"{_MODELS}/create",
        Need.write,
        {"name": _NAME, "tags": _TAGS, "description": text()},
        answer=_create_model,
    ),
    Route("POST", f"{_MODELS}/rename", Need.write, {"name": _NAME, "new_name": _NAME}, answer=_rename_model),
    Route("PATCH", f"{_MODELS}/update", Need.write, {"name": _NAME, "description": text()}, answer=_update_model),
    Route("DELETE", f"{_MODELS}/delete", Need.delete, {"name": _NAME}, answer=_delete_model),
    Route("GET", f"{_MODELS}/get", Need.read, {"name": _NAME}, answer=_get_model),
    Route(
        "GET",
        f"{_MODELS}/search",
        Need.read,
        _SEARCH | {"max_results": integer(default=100, low=1, high=1000)},
        answer=_search_models,
    ),
    Route("POST", f"{_MODELS}/get-latest-versions", Need.read, _LATEST, answer=_latest_versions),
    Route("GET", f"{_MODELS}/get-latest-versions", Need.read, _LATEST, answer=_latest_versions),
    Route("POST", f"{_MODELS}/set-tag", Need.write, {"name": _NAME, "value": text()} | _KEY, answer=_tag_model),
    Route("DELETE", f"{_MODELS}/delete-tag", Need.write, {"name": _NAME} | _KEY, answer=_untag_model),
    Route("POST", f"{_MODELS}/alias", Need.write, _AT | {"alias": text(required=True)}, answer=_set_alias),
    Route(
        "DELETE", f"{_MODELS}/alias", Need.write, {"name": _NAME, "alias": text(required=True)}, answer=_delete_alias
    ),
    Route("GET", f"{_MODELS}/alias", Need.read, {"name": _NAME, "alias": text(required=True)}, answer=_by_alias),
    Route(
        "POST",
        f"{_VERSIONS}/create",
        Need.write,
        {
            "name": _NAME,
            "source": text(required=True, limit=2_000),
            "run_id": text(),
            "tags": _TAGS,
            "run_link": text(),
            "description": text(),
            "model_id": text(),
        },
        answer=_create_version,
    ),
    Route("PATCH", f"{_VERSIONS}/update", Need.write, _AT | {"description": text()}, answer=_update_version),
    Route(
        "POST",
        f"{_VERSIONS}/transition-stage",
        Need.write,
        _AT | {"stage": text(required=True), "archive_existing_versions": boolean()},
        answer=_transition,
    ),
    Route("DELETE", f"{_VERSIONS}/delete", Need.delete, _AT, answer=_delete_version),
    Route("GET", f"{_VERSIONS}/get", Need.read, _AT, answer=_get_version),
    Route(
        "GET",
        f"{_VERSIONS}/search",
        Need.read,
        _SEARCH | {"max_results": integer(default=10_000, low=1, high=200_000)},
        answer=_search_versions,
    ),
    Route("GET", f"{_VERSIONS}/get-download-uri", Need.read, _AT, answer=_download_uri),
    Route("POST", f"{_VERSIONS}/set-tag", Need.write, _AT | _KEY | {"value": text()}, answer=_tag_version),
    Route("DELETE", f"{_VERSIONS}/delete-tag", Need.write, _AT | _KEY, answer=_untag_version),
)
