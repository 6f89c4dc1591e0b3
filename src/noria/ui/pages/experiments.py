"""Experiments: the list of all, and the table of one's runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from noria.errors import RequestError
from noria.records.tracking import ACTIVE, DELETED, Clause, Experiment, Order, RunInfo, TrackedRun
from noria.track.grammar import parse
from noria.ui.ask import PAGE, Ask, href
from noria.ui.pages.tracking import (
    NOTE,
    PARENT,
    POLL_CALM,
    POLL_RUNNING,
    SYSTEM,
    Pair,
    experiment_of,
    info_of,
    moment,
    named,
    poll,
    read_place,
    run_href,
    seconds,
    user_tags,
    write_place,
)

_ATTRIBUTES = {
    "name": ("Run", "run_name"),
    "started": ("Started", "start_time"),
    "took": ("Took", ""),
    "status": ("Status", "status"),
    "user": ("User", "user_id"),
}
_ENTITIES = {"metric": "metric", "param": "param", "tag": "tag"}
_DEFAULT_METRICS, _DEFAULT_PARAMS = 5, 3
_MOST_COLUMNS = 60
_MOST_CHOICES = 300
_DEEPEST = 6


class ExperimentRow(msgspec.Struct, frozen=True):
    """One experiment at a glance; ``newest``: when one of its runs last began or ended."""

    id: int
    name: str
    href: str
    description: str
    runs: int
    running: int
    newest: datetime | None
    created: datetime | None


class ExperimentsPage(msgspec.Struct, frozen=True):
    """The experiments, the busiest last first."""

    title: str
    rows: list[ExperimentRow]
    total: int
    search: str
    stage: str
    older: str | None
    first: str | None
    poll_seconds: int


class Column(msgspec.Struct, frozen=True):
    """A column: ``metric:loss``, ``param:depth``, ``tag:team`` or an attribute; where a click on its heading leads."""

    id: str
    kind: str
    label: str
    href: str
    sorted: str  # "", "ascending" or "descending"


class Choice(msgspec.Struct, frozen=True):
    """A column that can be shown."""

    id: str
    kind: str
    label: str
    chosen: bool


class RunRow(msgspec.Struct, frozen=True):
    """One run; ``values`` in the order of the chosen columns, ``depth`` below its parents on this page."""

    id: str
    name: str
    href: str
    status: str
    user: str
    started: datetime | None
    seconds: float | None
    depth: int
    parent: str
    parent_href: str
    values: list[Any]


class ExperimentPage(msgspec.Struct, frozen=True):
    """The runs of one experiment."""

    title: str
    id: int
    name: str
    description: str
    stage: str
    tags: list[Pair]
    filter: str
    problem: str
    sort: str
    order: str
    runs_stage: str
    runs: int
    explicit: bool
    attributes: list[Column]
    columns: list[Column]
    choices: list[Choice]
    rows: list[RunRow]
    first: str | None
    next: str | None
    stages_href: str
    unfiltered: str
    poll_seconds: int


def experiments(ask: Ask) -> ExperimentsPage:
    """All experiments, those whose runs last did something first."""
    search, stage = ask.one("q") or "", _stage(ask)
    rows = [row for row in experiment_rows(ask, stage) if search.casefold() in row.name.casefold()]
    start = ask.whole("after") or 0
    older = href("experiments", q=search or None, stage=ask.one("stage"), after=start + PAGE)
    return ExperimentsPage(
        title="Experiments",
        rows=rows[start : start + PAGE],
        total=len(rows),
        search=search,
        stage=stage,
        older=older if len(rows) > start + PAGE else None,
        first=href("experiments", q=search or None, stage=ask.one("stage")) if start else None,
        poll_seconds=POLL_RUNNING if any(row.running for row in rows) else POLL_CALM,
    )


def experiment_rows(ask: Ask, stage: str = ACTIVE) -> list[ExperimentRow]:
    """Every experiment of a stage, those whose runs last did something first."""
    activity = ask.activity(ask.tracked)
    found = ask.tracked.experiments([stage])
    found.sort(key=lambda one: activity[one.id].newest if one.id in activity else one.created, reverse=True)
    rows = []
    for one in found:
        known = activity.get(one.id)
        rows.append(
            ExperimentRow(
                id=one.id,
                name=one.name,
                href=href("experiments", one.id),
                description=one.tags.get(NOTE, "")[:200],
                runs=known.runs if known else 0,
                running=known.running if known else 0,
                newest=moment(known.newest) if known else None,
                created=moment(one.created or None),
            )
        )
    return rows


def _stage(ask: Ask) -> str:
    stage = ask.one("stage") or ACTIVE
    if stage not in (ACTIVE, DELETED):
        raise RequestError(f"stage must be {ACTIVE} or {DELETED}, not '{stage[:40]}'.")
    return stage


def experiment(ask: Ask) -> ExperimentPage:
    """A page of an experiment's runs: filtered, sorted and with the columns that the query asks for."""
    found = experiment_of(ask)
    text, stage = ask.one("filter") or "", _stage(ask)
    sort, order = _sorting(ask)
    problem, clauses = _clauses(text)
    terms = _order(sort, order)
    after = read_place(ask.one("after"), terms)
    runs: list[TrackedRun] = []
    place: list[Any] | None = None
    if not problem:
        runs, place = ask.tracked.search([found.id], clauses, terms, stages=[stage], limit=PAGE, after=after)
    chosen = _chosen(ask, runs)
    explicit = "column" in ask.query
    kept = {
        "filter": text or None,
        "sort": ask.one("sort"),
        "order": ask.one("order"),
        "column": ["", *chosen] if explicit else None,
        "stage": ask.one("stage"),
    }

    def address(**changed: object) -> str:
        return href("experiments", found.id, **(kept | changed))

    def column(name: str) -> Column:
        kind, label = _kind(name)
        here = name == sort
        turned = "ascending" if (here and order == "descending") or (not here and name == "name") else "descending"
        link = address(sort=name, order=turned) if kind != "attribute" or _ATTRIBUTES[name][1] else ""
        return Column(name, kind, label, link, order if here else "")

    counts = ask.activity(ask.tracked).get(found.id)
    return ExperimentPage(
        title=found.name,
        id=found.id,
        name=found.name,
        description=found.tags.get(NOTE, ""),
        stage=found.stage,
        tags=[Pair(key, value) for key, value in user_tags(found.tags).items()],
        filter=text,
        problem=problem,
        sort=sort,
        order=order,
        runs_stage=stage,
        runs=counts.runs if counts else 0,
        explicit=explicit,
        attributes=[column(name) for name in ("name", "status", "started", "took", "user")],
        columns=[column(name) for name in chosen],
        choices=_choices(runs, chosen),
        rows=_rows(ask, runs, chosen, nested=sort == "started"),
        first=address() if after else None,
        next=address(after=write_place(place)) if place else None,
        unfiltered=address(filter=None),
        stages_href=address(stage=DELETED if stage == ACTIVE else None),
        poll_seconds=poll([run.info for run in runs]),
    )


def _clauses(text: str) -> tuple[str, list[Clause]]:
    """Why a filter cannot be read ("" when it can), and its clauses."""
    try:
        return "", parse(text, "runs")
    except RequestError as error:
        return str(error), []


def _kind(name: str) -> tuple[str, str]:
    """What a column holds, and its heading.

    Raises:
        RequestError: there is no such column.
    """
    if name in _ATTRIBUTES:
        return "attribute", _ATTRIBUTES[name][0]
    kind, colon, key = name.partition(":")
    if kind not in _ENTITIES or not colon or not key or "\0" in key:
        known = ", ".join(_ATTRIBUTES)
        raise RequestError(f"A column is one of {known}, metric:NAME, param:NAME or tag:NAME, not '{name[:80]}'.")
    return kind, key


def _sorting(ask: Ask) -> tuple[str, str]:
    sort, order = ask.one("sort") or "started", ask.one("order") or "descending"
    _kind(sort)
    if sort == "took":
        raise RequestError("Runs are not sorted by how long they took: sort by metric:NAME, or by started.")
    if order not in ("ascending", "descending"):
        raise RequestError(f"order must be ascending or descending, not '{order[:40]}'.")
    return sort, order


def _order(sort: str, order: str) -> list[Order]:
    if (sort, order) == ("started", "descending"):
        return []  # the order that the store keeps them in
    kind, key = _kind(sort)
    return [Order(kind, _ATTRIBUTES[sort][1] if kind == "attribute" else key, order == "descending")]


def _chosen(ask: Ask, runs: Sequence[TrackedRun]) -> list[str]:
    """The columns that the query names, or those that most of these runs have."""
    asked = [name for name in ask.query.get("column", []) if name]
    if "column" in ask.query:
        names = list(dict.fromkeys(asked))
        if len(names) > _MOST_COLUMNS:
            raise RequestError(f"At most {_MOST_COLUMNS} columns can be shown; {len(names)} were asked for.")
        for name in names:
            if _kind(name)[0] == "attribute":
                raise RequestError(f"The column '{name}' is always shown.")
        return names
    metrics, params, _ = _keys(runs)
    first = [f"metric:{key}" for key in _commonest(metrics, _DEFAULT_METRICS) if not key.startswith(SYSTEM)]
    return first + [f"param:{key}" for key in _commonest(params, _DEFAULT_PARAMS)]


def _keys(runs: Sequence[TrackedRun]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    metrics = Counter(point.key for run in runs for point in run.metrics if not point.key.startswith(SYSTEM))
    params = Counter(key for run in runs for key in run.params)
    return metrics, params, Counter(key for run in runs for key in user_tags(run.tags))


def _commonest(counts: Counter[str], most: int) -> list[str]:
    return sorted(sorted(counts, key=lambda key: (-counts[key], key))[:most])


def _choices(runs: Sequence[TrackedRun], chosen: Sequence[str]) -> list[Choice]:
    kinds = zip(("metric", "param", "tag"), _keys(runs), strict=True)
    names = dict.fromkeys(f"{kind}:{key}" for kind, counts in kinds for key in _commonest(counts, _MOST_CHOICES))
    every = [*names, *(name for name in chosen if name not in names)]
    return [Choice(name, *_kind(name), name in chosen) for name in every]


def _rows(ask: Ask, runs: Sequence[TrackedRun], columns: Sequence[str], *, nested: bool) -> list[RunRow]:
    here = {run.info.id: run for run in runs}
    parents = {run.info.id: run.tags[PARENT] for run in runs if PARENT in run.tags}
    known: dict[str, RunInfo | None] = {}
    rows = []
    for run, depth in _nested(runs, parents) if nested else [(run, 0) for run in runs]:
        info, above = run.info, parents.get(run.info.id, "")
        if above and above not in known:
            known[above] = here[above].info if above in here else info_of(ask, above)
        parent = known.get(above) if not depth else None
        rows.append(
            RunRow(
                id=info.id,
                name=named(info),
                href=run_href(info.id),
                status=info.status,
                user=info.user,
                started=moment(info.started),
                seconds=seconds(info, ask.now) if info.status != "RUNNING" else None,
                depth=depth,
                parent=named(parent) if parent else "",
                parent_href=run_href(parent.id) if parent else "",
                values=_values(run, columns),
            )
        )
    return rows


def _nested(runs: Sequence[TrackedRun], parents: Mapping[str, str]) -> list[tuple[TrackedRun, int]]:
    """Each run after the one it is part of, where that is here too, with how deep it lies."""
    here = {run.info.id for run in runs}
    below: dict[str, list[TrackedRun]] = {}
    tops = []
    for run in runs:
        above = parents.get(run.info.id)
        if above in here and above != run.info.id:
            below.setdefault(str(above), []).append(run)
        else:
            tops.append(run)
    found: list[tuple[TrackedRun, int]] = []
    waiting = [(run, 0) for run in reversed(tops)]
    while waiting:
        run, depth = waiting.pop()
        found.append((run, min(depth, _DEEPEST)))
        waiting += [(one, depth + 1) for one in reversed(below.get(run.info.id, []))]
    shown = {run.info.id for run, _ in found}
    return found + [(run, 0) for run in runs if run.info.id not in shown]  # runs that are each other's parents


def _values(run: TrackedRun, columns: Sequence[str]) -> list[Any]:
    metrics = {point.key: point.value for point in run.metrics}
    found: dict[str, Mapping[str, Any]] = {"metric": metrics, "param": run.params, "tag": run.tags}
    values = []
    for name in columns:
        kind, _, key = name.partition(":")
        values.append(found[kind].get(key))
    return values


def shown_name(one: Experiment | None, number: int) -> str:
    """What to call an experiment, though it be gone."""
    return one.name if one else f"experiment {number}"
