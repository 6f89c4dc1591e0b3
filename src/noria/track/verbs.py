"""What may be done to experiments and runs, and when: the rules, whoever asks.

Each verb works inside one transaction of the tracking store, or raises and leaves nothing. Limits are MLflow's, so that
what was logged here can be taken elsewhere.
"""

from __future__ import annotations

import posixpath
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from noria.core.ids import new_id
from noria.errors import Conflict, NotFound, RequestError
from noria.records.tracking import ACTIVE, DELETED, RUN_STATUSES, Experiment, Point, RunInfo
from noria.store.tracking import TrackingReader, TrackingTransaction

__all__ = [
    "active_run",
    "check_key",
    "check_points",
    "check_text",
    "create_experiment",
    "create_run",
    "delete_experiment",
    "delete_run",
    "experiment_of",
    "log",
    "rename_experiment",
    "restore_experiment",
    "restore_run",
    "run_of",
    "update_run",
]

MAX_KEY = 250
MAX_PARAM_VALUE = 6000
MAX_TAG_VALUE = 8000
MAX_EXPERIMENT_NAME = 500
MAX_EXPERIMENT_TAG_VALUE = 20_000
RUN_NAME = "mlflow.runName"

_KEY = re.compile(r"[/\w.\- :]*")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}", re.ASCII)
_QUALITIES = ("amber", "brisk", "calm", "clear", "deep", "early", "fresh", "gentle", "keen", "light", "quiet", "swift")
_THINGS = ("brook", "canal", "delta", "lagoon", "meadow", "mill", "rapids", "reed", "river", "spring", "tide", "weir")


def random_name() -> str:
    """A name for a run that was given none."""
    chosen = random.Random()  # noqa: S311 - a label, not a secret
    return f"{chosen.choice(_QUALITIES)}-{chosen.choice(_THINGS)}-{chosen.randrange(1000)}"


def _shown(text: str) -> str:
    return text if len(text) <= 80 else text[:80] + "…"


@lru_cache(maxsize=65_536)
def _key_problem(key: str) -> str:
    if not key:
        return "it is empty"
    if not _KEY.fullmatch(key):
        return (
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) "
            "and slashes (/)."
        )
    resolved = posixpath.normpath(key)
    if resolved != key or key in (".", "..") or key.startswith(("../", "/")):
        return (
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. "
            f"This name would resolve to {_shown(resolved)!r}"
        )
    if len(key) > MAX_KEY:
        return f"it exceeds the maximum length of {MAX_KEY} characters"
    return ""


def check_key(key: str, where: str) -> None:
    """Refuse a name of a metric, param or tag that other tools could not take.

    Raises:
        RequestError: says why; ``where`` says which field.
    """
    problem = _key_problem(key)
    if problem:
        raise RequestError(f"Invalid value \"{_shown(key)}\" for parameter '{where}' supplied: {problem}")


def check_text(value: str, where: str) -> None:
    """Refuse text with a NUL, which not every store can keep.

    Raises:
        RequestError: says which field.
    """
    if "\0" in value:
        raise RequestError(f"Invalid value for parameter '{where}' supplied: it holds a NUL character.")


def check_points(points: Sequence[Point], where: str = "metrics[{}].") -> None:
    """Refuse points that no store keeps; ``where`` leads to the field, ``{}`` is the point's place.

    Raises:
        RequestError: names the first bad point.
    """
    good: set[str] = set()
    for index, point in enumerate(points):
        key, time = point.key, point.time
        if key not in good:
            check_key(key, f"{where.format(index)}name")
            good.add(key)
        if time < 0:
            raise RequestError(
                f"Invalid value {time} for parameter '{where.format(index)}timestamp' supplied: "
                "it must be a nonnegative number of milliseconds since 1970."
            )


def experiment_of(reader: TrackingReader, number: int, *, active: bool = False) -> Experiment:
    """The experiment of this id.

    Raises:
        NotFound: there is none.
        RequestError: it is deleted and was to be active.
    """
    found = reader.experiment(id=number)
    if found is None:
        raise NotFound(f"No Experiment with id={number} exists")
    if active and found.stage != ACTIVE:
        raise RequestError(f"The experiment {number} must be in the 'active' state. Current state is {found.stage}.")
    return found


def create_experiment(
    transaction: TrackingTransaction,
    name: str,
    at: int,
    artifacts: str = "",
    tags: Mapping[str, str] | None = None,
    *,
    id: int | None = None,
) -> int:
    """A new experiment; returns its id.

    Args:
        transaction: where.
        name: of at most 500 characters, unlike any other experiment's, deleted ones' too.
        at: the time, in ms.
        artifacts: where runs are to keep artifacts; this store if empty.
        tags: of keys up to 250 and values up to 20,000 characters.
        id: the id that it brings along; the next one if None.

    Raises:
        Conflict: the name or the id is taken.
        RequestError: name or tags cannot be kept.
    """
    _check_name(name)
    given = tags or {}
    for key, value in given.items():
        check_experiment_tag(key, value)
    taken = transaction.experiment(name=name)
    if taken is not None:
        also = " It is in the deleted state: restore it, or have it removed for ever." if taken.stage == DELETED else ""
        raise Conflict(f"Experiment(name={_shown(name)}) already exists.{also}")
    return transaction.add_experiment(name, artifacts or "mlflow-artifacts:/{id}", at, given, id=id)


def _check_name(name: str) -> None:
    if not name.strip():
        raise RequestError(f"Invalid experiment name: '{name[:80]}'")
    if len(name) > MAX_EXPERIMENT_NAME:
        raise RequestError(f"'name' exceeds the maximum length of {MAX_EXPERIMENT_NAME} characters")
    check_text(name, "name")


def check_experiment_tag(key: str, value: str | None) -> None:
    """Refuse a tag that an experiment cannot keep.

    Raises:
        RequestError: says why.
    """
    check_key(key, "key")
    if value is not None:
        check_text(value, "value")
        if len(value) > MAX_EXPERIMENT_TAG_VALUE:
            raise RequestError(f"'value' exceeds the maximum length of {MAX_EXPERIMENT_TAG_VALUE} characters")


def rename_experiment(transaction: TrackingTransaction, number: int, name: str, at: int) -> None:
    """Give an active experiment another name.

    Raises:
        NotFound, RequestError, Conflict: no such experiment, a deleted one, or the name is taken.
    """
    _check_name(name)
    found = experiment_of(transaction, number)
    if found.stage != ACTIVE:
        raise RequestError("Cannot rename a non-active experiment.")
    taken = transaction.experiment(name=name)
    if taken is not None and taken.id != number:
        raise Conflict(f"Experiment(name={_shown(name)}) already exists.")
    transaction.set_experiment(number, at, name=name)


def delete_experiment(transaction: TrackingTransaction, number: int, at: int) -> None:
    """Delete an experiment and its runs, so that they can be restored.

    Raises:
        NotFound: there is none that is active.
    """
    if experiment_of(transaction, number).stage != ACTIVE:
        raise NotFound(f"No Experiment with id={number} exists")
    transaction.set_experiment(number, at, stage=DELETED)
    transaction.set_stages(number, ACTIVE, DELETED, at)


def restore_experiment(transaction: TrackingTransaction, number: int, at: int) -> None:
    """Restore a deleted experiment and its runs.

    Raises:
        NotFound: there is none that is deleted.
    """
    if experiment_of(transaction, number).stage != DELETED:
        raise NotFound(f"No Experiment with id={number} exists")
    transaction.set_experiment(number, at, stage=ACTIVE)
    transaction.set_stages(number, DELETED, ACTIVE, None)


def run_of(reader: TrackingReader, run: str) -> RunInfo:
    """What a run is.

    Raises:
        RequestError: no run can have this id.
        NotFound: no run has it.
    """
    if not _RUN_ID.fullmatch(run):
        raise RequestError(f"Invalid value \"{_shown(run)}\" for parameter 'run_id' supplied.")
    found = reader.info(run)
    if found is None:
        raise NotFound(f"Run with id={run} not found")
    return found


def active_run(reader: TrackingReader, run: str) -> RunInfo:
    """As ``run_of``, of a run that is not deleted.

    Raises:
        RequestError: it is deleted.
    """
    found = run_of(reader, run)
    if found.stage != ACTIVE:
        raise RequestError(f"The run {run} must be in the 'active' state. Current state is {found.stage}.")
    return found


def create_run(
    transaction: TrackingTransaction,
    experiment: int,
    started: int,
    *,
    id: str = "",
    name: str = "",
    user: str = "",
    tags: Mapping[str, str] | None = None,
) -> RunInfo:
    """A new run of an active experiment; its name is a tag too, as other tools expect.

    Raises:
        NotFound: no such experiment.
        RequestError: the experiment is deleted; a tag cannot be kept; two names were given.
        Conflict: ``id`` is taken.
    """
    kept = _tags(tags or {})
    tagged = kept.get(RUN_NAME, "")
    if name and tagged and name != tagged:
        raise RequestError(
            f"Both 'run_name' argument and '{RUN_NAME}' tag are specified, but with different values "
            f"(run_name='{_shown(name)}', {RUN_NAME}='{_shown(tagged)}')."
        )
    name = name or tagged or random_name()
    check_text(name, "run_name")
    if len(name) > MAX_TAG_VALUE:
        raise RequestError(f"'run_name' exceeds the maximum length of {MAX_TAG_VALUE} characters")
    found = experiment_of(transaction, experiment, active=True)
    run = id or new_id()
    info = RunInfo(
        id=run,
        experiment=experiment,
        name=name,
        user=user,
        status="RUNNING",
        stage=ACTIVE,
        started=started,
        ended=None,
        artifacts=f"{found.artifacts.rstrip('/')}/{run}/artifacts",
    )
    transaction.add_run(info, {**kept, RUN_NAME: name})
    return info


def update_run(
    transaction: TrackingTransaction, run: str, *, status: str = "", ended: int | None = None, name: str = ""
) -> RunInfo:
    """Change status, end or name of a run that is not deleted; returns what it is now.

    Raises:
        NotFound, RequestError: no such run, a deleted one, or no such status.
    """
    found = active_run(transaction, run)
    if status and status not in RUN_STATUSES:
        raise RequestError(f"Invalid value '{_shown(status)}' for parameter 'status': not one of {RUN_STATUSES}.")
    check_text(name, "run_name")
    info = msgspec.structs.replace(
        found,
        status=status or found.status,
        ended=found.ended if ended is None else ended,
        name=name or found.name,
    )
    transaction.set_run(info)
    if name:
        transaction.log(run, tags={RUN_NAME: name})
    return info


def delete_run(transaction: TrackingTransaction, run: str, at: int) -> None:
    """Delete a run, so that it can be restored; again is no harm.

    Raises:
        NotFound: no such run.
    """
    transaction.set_run(msgspec.structs.replace(run_of(transaction, run), stage=DELETED, deleted=at))


def restore_run(transaction: TrackingTransaction, run: str) -> None:
    """Restore a deleted run.

    Raises:
        NotFound: no such run.
    """
    transaction.set_run(msgspec.structs.replace(run_of(transaction, run), stage=ACTIVE, deleted=None))


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    kept = {}
    for index, (key, value) in enumerate(tags.items()):
        check_key(key, f"tags[{index}].key")
        check_text(value, f"tags[{index}].value")
        kept[key] = value[:MAX_TAG_VALUE]
    return kept


def _params(params: Iterable[tuple[str, str]]) -> dict[str, str]:
    kept: dict[str, str] = {}
    twice = []
    for index, (key, value) in enumerate(params):
        check_key(key, f"params[{index}].key")
        check_text(value, f"params[{index}].value")
        if key in kept:
            twice.append(key)
        kept[key] = value[:MAX_PARAM_VALUE]
    if twice:
        raise RequestError(
            f"Duplicate parameter keys have been submitted: {twice[:10]}. Please ensure the request contains only one "
            "param value per param key."
        )
    return kept


class Logged(msgspec.Struct, frozen=True):
    """What is to be added to a run, checked."""

    points: tuple[Point, ...]
    params: dict[str, str]
    tags: dict[str, str]


def checked(
    points: Sequence[Point] = (), params: Sequence[tuple[str, str]] = (), tags: Sequence[tuple[str, str]] = ()
) -> Logged:
    """What is to be added to a run; values over the limits of params (6,000) and tags (8,000) are cut there.

    Raises:
        RequestError: names what cannot be kept.
    """
    check_points(points)
    return Logged(tuple(points), _params(params) if params else {}, _tags(dict(tags)) if tags else {})


def log(transaction: TrackingTransaction, run: str, what: Logged) -> None:
    """Add to a run that is not deleted: all of it, or nothing.

    Raises:
        NotFound, RequestError: no such run, or a deleted one.
        ParamChanged: a param is there with another value.
    """
    found = active_run(transaction, run)
    transaction.log(run, points=what.points, params=what.params, tags=what.tags)
    name = what.tags.get(RUN_NAME)
    if name and name != found.name:
        transaction.set_run(msgspec.structs.replace(found, name=name))


def delete_tag(transaction: TrackingTransaction, run: str, key: str) -> None:
    """Remove a tag of a run.

    Raises:
        NotFound: no such run, or it has no such tag.
    """
    active_run(transaction, run)
    found = transaction.run(run)
    if found is None or key not in found.tags:
        raise NotFound(f"No tag with name: {_shown(key)} in run with id {run}")
    transaction.log(run, tags={key: None})
