"""Models registered under names by any client, inside a transaction of the caller's.

A model that belongs to a loop is shown here too, read from the loop's own versions and aliases; it is never changed
through these verbs: only gates and approvals move a loop's champion.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from noria.errors import Conflict, Denied, NotFound, RequestError
from noria.records import ModelVersion, Stage
from noria.records.registry import STAGES, RegisteredAlias, RegisteredModel, RegisteredVersion
from noria.store.ports import AliasRecord, LoopRecord, Reader, Transaction

__all__ = [
    "adopt",
    "aliases",
    "canonical_stage",
    "create_model",
    "create_version",
    "delete_alias",
    "delete_model",
    "delete_version",
    "latest",
    "model",
    "models",
    "of_alias",
    "of_loop",
    "rename_model",
    "set_alias",
    "set_stage",
    "tag_model",
    "tag_version",
    "update_model",
    "update_version",
    "version",
    "versions",
]

MAX_NAME = 256
MAX_TAG_KEY = 250
MAX_TAG_VALUE = 100_000
_ALIAS = re.compile(r"[\w-]{1,255}", re.ASCII)
_NUMBERED = re.compile(r"[vV][0-9]+")
_TURNS_TEXT_AROUND = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_STAGES = {stage.lower(): stage for stage in STAGES}
_STAGE_OF = {
    Stage.candidate: "None",
    Stage.awaiting_approval: "None",
    Stage.challenger: "Staging",
    Stage.champion: "Production",
    Stage.retired: "Archived",
    Stage.rejected: "Archived",
}


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _check_name(name: str) -> None:
    if not name.strip():
        raise RequestError("Missing value for required parameter 'name': a registered model has a name.")
    shown = name[:80]
    if len(name) > MAX_NAME:
        raise RequestError(f"Invalid model name '{shown}…': it is longer than {MAX_NAME} characters.")
    if any(unicodedata.category(sign) in ("Cc", "Cs") or sign in _TURNS_TEXT_AROUND for sign in name):
        raise RequestError(f"Invalid model name {shown!a}: it holds signs that cannot be seen.")
    if "/" in name or ":" in name:
        raise RequestError(f"Invalid model name '{shown}'. Names cannot contain '/' or ':'.")
    if name in (".", "..") or posixpath.normpath(name) != name:
        raise RequestError(f"Invalid model name '{shown}': it reads as a path.")


def _check_tag(key: str, value: str) -> None:
    if not key.strip():
        raise RequestError("Missing value for required parameter 'key': a tag has a key.")
    if len(key) > MAX_TAG_KEY:
        raise RequestError(f"Invalid tag key '{key[:80]}…': its length exceeded the limit of {MAX_TAG_KEY} characters.")
    if any(unicodedata.category(sign) == "Cc" for sign in key) or key.startswith("/") or ".." in key.split("/"):
        raise RequestError(f"Invalid value {key[:80]!a} for parameter 'key': a tag's key cannot be such a path.")
    if len(value) > MAX_TAG_VALUE:
        raise RequestError(
            f"The value of tag '{key[:80]}' is too long: {len(value)} characters exceeded the limit of {MAX_TAG_VALUE}."
        )


def _check_alias(alias: str) -> None:
    if not alias:
        raise RequestError("Registered model alias name cannot be empty.")
    if not _ALIAS.fullmatch(alias):
        raise RequestError(
            f"Invalid alias name: '{alias[:80]}'. Use letters, digits, underscores and dashes, at most 255 of them."
        )


def _check_new_alias(alias: str) -> None:
    _check_alias(alias)
    if alias.lower() == "latest":
        raise RequestError("'latest' alias name (case insensitive) is reserved.")
    if _NUMBERED.fullmatch(alias):
        raise RequestError(f"Version alias name '{alias}' is reserved.")


def canonical_stage(stage: str) -> str:
    """The stage as it is written, whatever case it was given in.

    Raises:
        RequestError: there is no such stage.
    """
    found = _STAGES.get(stage.lower())
    if found is None:
        raise RequestError(f"Invalid Model Version stage: {stage[:80]}. Value must be one of {', '.join(STAGES)}.")
    return found


def of_loop(db: Reader, name: str) -> bool:
    """Whether the model belongs to a loop of Noria."""
    return db.find(LoopRecord, name=name) is not None


def _free(tx: Transaction, name: str) -> None:
    """Refuse to change a loop's model."""
    if of_loop(tx, name):
        raise Denied(
            f"Model '{name}' belongs to a loop of Noria: its versions and aliases move by the loop's gates and "
            "approvals alone. Decide with 'noria approve' or 'noria reject'."
        )


def _loop_model(db: Reader, loop: LoopRecord) -> RegisteredModel:
    newest = db.find(ModelVersion, loop=loop.name)
    created = _ms(loop.created)
    return RegisteredModel(
        name=loop.name,
        created=created,
        updated=_ms(newest.created) if newest else created,
        description=f"The model of the loop {loop.name}.",
        tags={"noria.loop": loop.name},
        last_version=newest.version if newest else 0,
    )


def _loop_version(made: ModelVersion) -> RegisteredVersion:
    created = _ms(made.created)
    source = f"noria:/{made.loop}/{made.version}"
    return RegisteredVersion(
        name=made.loop,
        version=made.version,
        source=source,
        location=source,
        created=created,
        updated=_ms(made.decision.at) if made.decision else created,
        run=made.run,
        user=made.decision.by if made.decision else "noria",
        description=made.reason,
        stage=_STAGE_OF[made.stage],
        tags={"noria.stage": made.stage.value, "noria.model_digest": made.model_digest, "noria.report": made.report},
    )


def _missing(name: str) -> NotFound:
    return NotFound(f"Registered Model with name={name[:80]} not found")


def model(db: Reader, name: str) -> RegisteredModel:
    """The model.

    Raises:
        NotFound: there is none of this name.
    """
    _check_name(name)
    loop = db.find(LoopRecord, name=name)
    found = _loop_model(db, loop) if loop else db.find(RegisteredModel, name=name)
    if found is None:
        raise _missing(name)
    return found


def models(db: Reader) -> list[RegisteredModel]:
    """Every model, by name."""
    loops = {loop.name: _loop_model(db, loop) for loop in db.list(LoopRecord)}
    found = {kept.name: kept for kept in db.list(RegisteredModel)} | loops
    return [found[name] for name in sorted(found)]


def aliases(db: Reader, name: str) -> dict[str, int]:
    """The model's aliases, each with its version."""
    if of_loop(db, name):
        return {kept.alias: kept.version for kept in db.list(AliasRecord, oldest_first=True, loop=name)}
    return {kept.alias: kept.version for kept in db.list(RegisteredAlias, oldest_first=True, name=name)}


def version(db: Reader, name: str, number: int) -> RegisteredVersion:
    """One version.

    Raises:
        NotFound: there is no such model or version.
    """
    _check_name(name)
    if of_loop(db, name):
        made = db.find(ModelVersion, loop=name, version=number)
        found = _loop_version(made) if made else None
    else:
        found = db.find(RegisteredVersion, name=name, version=number)
    if found is None:
        raise NotFound(f"Model Version (name={name[:80]}, version={number}) not found")
    return found


def versions(
    db: Reader, *, name: str | None = None, run: str | None = None, model: str | None = None
) -> list[RegisteredVersion]:
    """Versions, newest first: of a model, of a run, of a logged model, or all."""
    if name is not None and of_loop(db, name):
        found = [_loop_version(made) for made in db.list(ModelVersion, loop=name)]
        return [made for made in found if run in (None, made.run) and not model]
    where = {key: value for key, value in (("name", name), ("run", run), ("model", model)) if value is not None}
    kept = db.list(RegisteredVersion, limit=None, oldest_first=False, after=None, **where)
    if name is not None or model is not None:
        return kept
    loops = {loop.name for loop in db.list(LoopRecord)}
    made = db.list(ModelVersion) if run is None else db.list(ModelVersion, run=run)
    return [one for one in kept if one.name not in loops] + [_loop_version(one) for one in made if one.loop in loops]


def latest(db: Reader, name: str, stages: Sequence[str] = ()) -> list[RegisteredVersion]:
    """The newest version of each of these stages (of every stage if none is given), by version."""
    wanted = {canonical_stage(stage) for stage in stages} or set(STAGES)
    model(db, name)
    newest: dict[str, RegisteredVersion] = {}
    for one in versions(db, name=name):
        if one.stage in wanted and (one.stage not in newest or one.version > newest[one.stage].version):
            newest[one.stage] = one
    return sorted(newest.values(), key=lambda one: one.version)


def of_alias(db: Reader, name: str, alias: str) -> RegisteredVersion | None:
    """The version an alias names, or None; ``latest`` is the newest.

    Raises:
        NotFound: there is no such model.
    """
    _check_alias(alias)
    model(db, name)
    if alias.lower() == "latest":
        return max(versions(db, name=name), key=lambda one: one.version, default=None)
    number = aliases(db, name).get(alias)
    return None if number is None else version(db, name, number)


def create_model(
    tx: Transaction, name: str, *, now: datetime, by: str, description: str = "", tags: Mapping[str, str] | None = None
) -> RegisteredModel:
    """A new model without versions.

    Raises:
        Conflict: the name is taken.
    """
    _check_name(name)
    for key, value in (tags or {}).items():
        _check_tag(key, value)
    if of_loop(tx, name) or tx.find(RegisteredModel, name=name):
        raise Conflict(f"Registered Model (name={name}) already exists.")
    made = RegisteredModel(name, _ms(now), _ms(now), description, dict(tags or {}))
    tx.put(made)
    tx.audit(now, by, "model registered", f"model:{name}", description=description, tags=made.tags)
    return made


def _own(tx: Transaction, name: str) -> RegisteredModel:
    """A model that may be changed here."""
    _check_name(name)
    _free(tx, name)
    return model(tx, name)


def _own_version(tx: Transaction, name: str, number: int) -> RegisteredVersion:
    _check_name(name)
    _free(tx, name)
    return version(tx, name, number)


def update_model(tx: Transaction, name: str, description: str, *, now: datetime, by: str) -> RegisteredModel:
    """Describe a model anew."""
    changed = replace(_own(tx, name), description=description, updated=_ms(now))
    tx.put(changed)
    tx.audit(now, by, "model described", f"model:{name}", description=description)
    return changed


def rename_model(tx: Transaction, name: str, new: str, *, now: datetime, by: str) -> RegisteredModel:
    """Give a model another name; its versions and aliases come along.

    Raises:
        Conflict: the new name is taken.
    """
    old = _own(tx, name)
    _check_name(new)
    if new == name:
        return old
    if of_loop(tx, new) or tx.find(RegisteredModel, name=new):
        raise Conflict(f"Registered Model (name={new}) already exists.")
    changed = replace(old, name=new, updated=_ms(now))
    tx.put(changed)
    for one in tx.list(RegisteredVersion, name=name):
        tx.put(replace(one, name=new, updated=_ms(now)))
    for kept in tx.list(RegisteredAlias, name=name):
        tx.put(replace(kept, name=new))
    _remove(tx, name)
    tx.audit(now, by, "model renamed", f"model:{new}", before=name)
    return changed


def _remove(tx: Transaction, name: str) -> None:
    tx.remove(RegisteredVersion, name=name)
    tx.remove(RegisteredAlias, name=name)
    tx.remove(RegisteredModel, name=name)


def delete_model(tx: Transaction, name: str, *, now: datetime, by: str) -> None:
    """Remove a model with its versions and aliases; the models' files stay where they are."""
    _own(tx, name)
    numbers = [one.version for one in tx.list(RegisteredVersion, oldest_first=True, name=name)]
    _remove(tx, name)
    tx.audit(now, by, "model deleted", f"model:{name}", versions=numbers)


def create_version(
    tx: Transaction,
    name: str,
    *,
    source: str,
    location: str,
    now: datetime,
    by: str,
    run: str = "",
    run_link: str = "",
    model: str = "",
    user: str = "",
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> RegisteredVersion:
    """The model's next version: numbers are dense, and none is given twice.

    What is given is what :class:`noria.records.registry.RegisteredVersion` keeps; ``by`` is who asks.
    """
    parent = _own(tx, name)
    for key, value in (tags or {}).items():
        _check_tag(key, value)
    made = RegisteredVersion(
        name=name,
        version=parent.last_version + 1,
        source=source,
        location=location,
        created=_ms(now),
        updated=_ms(now),
        run=run,
        run_link=run_link,
        model=model,
        user=user,
        description=description,
        tags=dict(tags or {}),
    )
    tx.put(made)
    tx.put(replace(parent, last_version=made.version, updated=_ms(now)))
    tx.audit(now, by, "version registered", f"model:{name}/{made.version}", source=source, run=run, model=model)
    return made


def update_version(
    tx: Transaction, name: str, number: int, description: str, *, now: datetime, by: str
) -> RegisteredVersion:
    """Describe a version anew."""
    changed = replace(_own_version(tx, name, number), description=description, updated=_ms(now))
    tx.put(changed)
    tx.audit(now, by, "version described", f"model:{name}/{number}", description=description)
    return changed


def set_stage(
    tx: Transaction, name: str, number: int, stage: str, *, now: datetime, by: str, archive: bool = False
) -> RegisteredVersion:
    """Move a version to a stage; with ``archive`` the stage's other versions are archived.

    Raises:
        RequestError: there is no such stage, or it is not one that others leave.
    """
    wanted = canonical_stage(stage)
    if archive and wanted not in ("Staging", "Production"):
        raise RequestError(
            "Model version transition cannot archive existing model versions because "
            f"'{stage}' is not an Active stage: only Staging and Production are."
        )
    moved = _own_version(tx, name, number)
    archived = []
    if archive:
        for other in tx.list(RegisteredVersion, name=name):
            if other.stage == wanted and other.version != number:
                tx.put(replace(other, stage="Archived", updated=_ms(now)))
                archived.append(other.version)
    changed = replace(moved, stage=wanted, updated=_ms(now))
    tx.put(changed)
    tx.put(replace(model(tx, name), updated=_ms(now)))
    tx.audit(now, by, "version moved", f"model:{name}/{number}", before=moved.stage, stage=wanted, archived=archived)
    return changed


def delete_version(tx: Transaction, name: str, number: int, *, now: datetime, by: str) -> None:
    """Remove a version and its aliases; its number is not given again."""
    _own_version(tx, name, number)
    gone = sorted(alias for alias, kept in aliases(tx, name).items() if kept == number)
    tx.remove(RegisteredAlias, name=name, version=number)
    tx.remove(RegisteredVersion, name=name, version=number)
    tx.put(replace(model(tx, name), updated=_ms(now)))
    tx.audit(now, by, "version deleted", f"model:{name}/{number}", aliases=gone)


def set_alias(tx: Transaction, name: str, alias: str, number: int, *, now: datetime, by: str) -> None:
    """Let an alias name a version, whatever it named before."""
    _check_new_alias(alias)
    _own_version(tx, name, number)
    before = aliases(tx, name).get(alias)
    tx.put(RegisteredAlias(name, alias, number))
    tx.audit(now, by, "alias set", f"model:{name}/{number}", alias=alias, before=before)


def delete_alias(tx: Transaction, name: str, alias: str, *, now: datetime, by: str) -> None:
    """Remove an alias; one that is not there is removed already."""
    _check_alias(alias)
    _own(tx, name)
    before = aliases(tx, name).get(alias)
    if tx.remove(RegisteredAlias, name=name, alias=alias):
        tx.audit(now, by, "alias deleted", f"model:{name}/{before}", alias=alias)


def _tagged(tags: Mapping[str, str], key: str, value: str | None) -> dict[str, str]:
    _check_tag(key, value or "")
    kept = {name: old for name, old in tags.items() if name != key}
    return kept if value is None else kept | {key: value}


def tag_model(tx: Transaction, name: str, key: str, value: str | None, *, now: datetime, by: str) -> None:
    """Set a model's tag; None removes it."""
    old = _own(tx, name)
    tx.put(replace(old, tags=_tagged(old.tags, key, value)))
    tx.audit(now, by, "model tagged", f"model:{name}", key=key, value=value)


def tag_version(
    tx: Transaction, name: str, number: int, key: str, value: str | None, *, now: datetime, by: str
) -> None:
    """Set a version's tag; None removes it."""
    old = _own_version(tx, name, number)
    tx.put(replace(old, tags=_tagged(old.tags, key, value)))
    tx.audit(now, by, "version tagged", f"model:{name}/{number}", key=key, value=value)


def adopt(
    tx: Transaction,
    found: RegisteredModel,
    brought: Sequence[RegisteredVersion],
    names: Mapping[str, int],
    *,
    now: datetime,
    by: str,
) -> tuple[bool, int]:
    """Take over a model from elsewhere, with its numbers, times, stages and aliases; bring up to date what is here.

    Args:
        tx: where.
        found: the model.
        brought: its versions; those that are here and not among them stay.
        names: its aliases, each with the number of a version.
        now: when.
        by: who asks.

    Returns:
        Whether the model was new, and how many versions were new or changed.

    Raises:
        Conflict: one of the numbers is another version's here, or the model is a loop's.
        RequestError: a name, tag, stage or alias cannot be kept.
    """
    name = found.name
    _check_name(name)
    _free(tx, name)
    for tags in (found.tags, *(one.tags for one in brought)):
        for key, value in tags.items():
            _check_tag(key, value)
    changed = [one for one in brought if _adopted(tx, replace(one, stage=canonical_stage(one.stage)))]
    old = tx.find(RegisteredModel, name=name)
    last = max((one.version for one in brought), default=0)
    kept = replace(found, last_version=max(found.last_version, last, old.last_version if old else 0))
    if old is not None:
        kept = replace(kept, tags={**old.tags, **kept.tags}, updated=max(old.updated, kept.updated))
    known = aliases(tx, name)
    moved = {alias: number for alias, number in names.items() if known.get(alias) != number}
    for alias, number in moved.items():
        _check_new_alias(alias)
        version(tx, name, number)
        tx.put(RegisteredAlias(name, alias, number))
    if kept != old:
        tx.put(kept)
    if changed or moved or kept != old:
        numbers = [one.version for one in changed]
        tx.audit(now, by, "model brought over", f"model:{name}", versions=numbers, aliases=moved)
    return old is None, len(changed)


def _adopted(tx: Transaction, brought: RegisteredVersion) -> bool:
    """Put a version from elsewhere; whether that changed anything."""
    old = tx.find(RegisteredVersion, name=brought.name, version=brought.version)
    if old == brought:
        return False
    if old is not None and (old.created, old.run, old.source) != (brought.created, brought.run, brought.source):
        raise Conflict(
            f"Version {brought.version} of '{brought.name}' is another one here: rename the model here or there."
        )
    tx.put(brought if old is None else replace(brought, tags={**old.tags, **brought.tags}))
    return True
