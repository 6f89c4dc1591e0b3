"""One tracked run: what it is, its charts, what went in and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from noria.records.registry import LoggedModel
from noria.records.tracking import ACTIVE, Clause, Input, ModelLink, Order, RunInfo, TrackedRun
from noria.register.registry import versions
from noria.ui.ask import Ask, href
from noria.ui.chart import Chart
from noria.ui.lines import X_KINDS, asked_axes, chart_of, with_a_line
from noria.ui.pages.experiments import shown_name
from noria.ui.pages.files import Tree, tree
from noria.ui.pages.tracking import (
    NOTE,
    PARENT,
    POLL_CALM,
    POLL_RUNNING,
    SYSTEM,
    Pair,
    info_of,
    moment,
    named,
    quoted,
    run_href,
    run_of,
    seconds,
    user_tags,
)

CHARTS = 24
"""Charts of one page."""
_MOST_CHILDREN = 100
_LONGEST_SOURCE = 500


class Link(msgspec.Struct, frozen=True):
    """A name that leads somewhere, with a note and how it stands there."""

    name: str
    href: str
    note: str = ""
    state: str = ""


class MetricRow(msgspec.Struct, frozen=True):
    """The newest value of a metric."""

    name: str
    value: float
    step: int


class DataRow(msgspec.Struct, frozen=True):
    """A dataset that a run read; ``href`` leads to the runs that read the same."""

    name: str
    digest: str
    context: str
    source_type: str
    source: str
    href: str


class ModelRow(msgspec.Struct, frozen=True):
    """A logged model that a run read (``input``) or made (``output``)."""

    id: str
    name: str
    kind: str
    type: str
    status: str
    step: int


class Toggle(msgspec.Struct, frozen=True):
    """One way to see the charts."""

    label: str
    href: str
    on: bool


class TrackedPage(msgspec.Struct, frozen=True):
    """One run."""

    title: str
    id: str
    name: str
    experiment: Link
    status: str
    stage: str
    user: str
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    description: str
    failure: str
    parent: Link | None
    children: list[Link]
    loop_run: str
    code: list[Pair]
    metrics: list[MetricRow]
    system: list[MetricRow]
    params: dict[str, str]
    tags: dict[str, str]
    inputs: list[DataRow]
    models: list[ModelRow]
    versions: list[Link]
    charts: dict[str, Chart]
    more_charts: str | None
    toggles: list[Toggle]
    tree: Tree
    poll_seconds: int


def tracked(ask: Ask) -> TrackedPage:
    """One run in full."""
    run = run_of(ask, ask.path["id"])
    info, now = run.info, ask.now
    x, log = asked_axes(ask)
    start = ask.whole("charts") or 0
    charts, more = metric_charts(ask, [run], x, log, start, CHARTS)
    experiment = ask.tracked.experiment(id=info.experiment)
    above = info_of(ask, run.tags[PARENT]) if PARENT in run.tags else None
    return TrackedPage(
        title=f"{named(info)} · run",
        id=info.id,
        name=named(info),
        experiment=Link(shown_name(experiment, info.experiment), href("experiments", info.experiment)),
        status=info.status,
        stage=info.stage,
        user=info.user,
        started=moment(info.started),
        ended=moment(info.ended),
        seconds=seconds(info, now) if info.status != "RUNNING" else None,
        description=run.tags.get(NOTE, ""),
        failure=run.tags.get("noria.failure", ""),
        parent=run_link(above) if above else None,
        children=[run_link(child.info) for child in children(ask, info)],
        loop_run=href("loops", run.tags["noria.loop"], "runs", info.id) if "noria.turn" in run.tags else "",
        code=[Pair(name, value) for name, value in code(run).items()],
        metrics=[MetricRow(p.key, p.value, p.step) for p in run.metrics if not p.key.startswith(SYSTEM)],
        system=[MetricRow(p.key, p.value, p.step) for p in run.metrics if p.key.startswith(SYSTEM)],
        params=run.params,
        tags=user_tags(run.tags),
        inputs=[data_row(info.experiment, one) for one in run.inputs],
        models=[_model_row(ask, link) for link in run.models],
        versions=version_links(ask, info.id),
        charts=charts,
        more_charts=href("runs", info.id, charts=start + CHARTS, x_axis=x, log=int(log)) if more else None,
        toggles=toggles(href("runs", info.id), x, log),
        tree=tree(ask, info),
        poll_seconds=POLL_RUNNING if info.status == "RUNNING" else POLL_CALM,
    )


def run_link(info: RunInfo) -> Link:
    """A run that another is related to."""
    return Link(named(info), run_href(info.id), state=info.status)


def children(ask: Ask, info: RunInfo) -> list[TrackedRun]:
    """The first runs that are part of a run."""
    clause = Clause("tag", PARENT, "=", info.id)
    order = [Order("attribute", "start_time")]
    return ask.tracked.search([info.experiment], [clause], order, stages=[ACTIVE], limit=_MOST_CHILDREN)[0]


def code(run: TrackedRun) -> dict[str, str]:
    """Where a run came from, as its tags say."""
    tags = run.tags
    commit = tags.get("mlflow.source.git.commit", "")
    if commit and tags.get("noria.git.dirty") == "true":
        commit += " with changes"
    found = {
        "commit": commit,
        "branch": tags.get("mlflow.source.git.branch", ""),
        "repository": tags.get("mlflow.source.git.repoURL", ""),
        "entry point": tags.get("mlflow.source.name", ""),
        "command": tags.get("noria.command", ""),
        "environment": tags.get("noria.environment", ""),
    }
    return {name: value for name, value in found.items() if value}


def data_row(experiment: int, one: Input) -> DataRow:
    """A dataset that a run of the experiment read."""
    data = one.dataset
    return DataRow(
        name=data.name,
        digest=data.digest,
        context=one.tags.get("mlflow.data.context", ""),
        source_type=data.source_type,
        source=data.source[:_LONGEST_SOURCE],
        href=href("experiments", experiment, filter=f"dataset.digest = {quoted(data.digest)}"),
    )


def _model_row(ask: Ask, link: ModelLink) -> ModelRow:
    known = ask.db.find(LoggedModel, id=link.model)
    name, kind, status = (known.name, known.type, known.status) if known else (link.model, "", "")
    return ModelRow(link.model, name, link.kind, kind, status, link.step)


def version_links(ask: Ask, run: str) -> list[Link]:
    """The registered versions that a run made."""
    return [
        Link(f"{one.name} v{one.version}", version_href(one.name, one.version), state=one.stage)
        for one in versions(ask.db, run=run)
    ]


def version_href(name: str, version: int) -> str:
    """Where a registered version is shown."""
    return href("models", name, version)


def metric_charts(
    ask: Ask, runs: Sequence[TrackedRun], x: str, log: bool, start: int, most: int
) -> tuple[dict[str, Chart], bool]:
    """Charts of the runs' metrics that have several points, the machine's own last, and whether there are more."""
    keys = dict.fromkeys(point.key for run in runs for point in run.metrics)
    drawn = with_a_line(ask.tracked, runs, sorted(keys, key=lambda key: (key.startswith(SYSTEM), key)))
    charts = {key: chart_of(ask.tracked, runs, key, x, log) for key in drawn[start : start + most]}
    return charts, len(drawn) > start + most


def toggles(address: str, along: str, powers: bool, **kept: Any) -> list[Toggle]:
    """Ways to see the charts: what lies along them, and powers upwards."""

    def link(kind: str, log: bool) -> str:
        query = href(**kept, x_axis=kind if kind != X_KINDS[0] else None, log=1 if log else None)
        return f"{address}{query.removeprefix('/')}#charts"

    words = {"step": "By step", "elapsed": "By time since start", "time": "By clock"}
    found = [Toggle(words[kind], link(kind, powers), kind == along) for kind in X_KINDS]
    return [*found, Toggle("Log scale", link(along, not powers), powers)]
