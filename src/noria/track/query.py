"""Reading what was tracked, from a store of this machine or a server: searches and histories."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from noria.errors import NotFound
from noria.records.tracking import ACTIVE, Point, RunInfo, TrackedRun
from noria.store import open_store
from noria.store.tracking import TrackingReader
from noria.track.grammar import parse, parse_order
from noria.track.senders import HttpSender
from noria.track.where import destination

__all__ = ["history", "search"]

_API = "/api/2.0/mlflow"
Where = str | os.PathLike[str] | None


def search(
    filter: str = "",
    *,
    experiment: str = "Default",
    order_by: Sequence[str] = (),
    limit: int = 100,
    store: Where = None,
) -> list[TrackedRun]:
    """Runs of an experiment that meet a filter, in order; the newest first by default.

    Args:
        filter: e.g. ``metrics.loss < 0.3 and params.depth = '8' and tags.team LIKE 'r%'``; all runs if empty.
        experiment: the experiment's name.
        order_by: e.g. ``["metrics.loss", "start_time DESC"]``.
        limit: at most so many.
        store: a folder or ``http://HOST:PORT``, as for :func:`noria.run`.

    Raises:
        RequestError: the filter or the order cannot be read.
        NotFound: there is no such experiment.
    """
    clauses, order = parse(filter, "runs"), parse_order(order_by, "runs")
    to = destination(store)
    if not to.startswith("http"):
        with _reading(to) as reader:
            found = reader.experiment(name=experiment)
            if found is None:
                raise NotFound(f"There is no experiment '{experiment[:80]}'.")
            return reader.search([found.id], clauses, order, stages=[ACTIVE], limit=limit)[0]
    server = HttpSender(to)
    try:
        named = server.get(f"{_API}/experiments/get-by-name?experiment_name={quote(experiment, safe='')}")
        body = {
            "experiment_ids": [named["experiment"]["experiment_id"]],
            "filter": filter,
            "order_by": list(order_by),
            "max_results": limit,
        }
        return [_run(one) for one in server.post(f"{_API}/runs/search", body).get("runs", [])]
    finally:
        server.close()


def history(run: str, metric: str, *, store: Where = None) -> list[Point]:
    """Every point of a metric of a run, by time.

    Args:
        run: the run's id.
        metric: the metric's name.
        store: as for :func:`search`.
    """
    to = destination(store)
    if not to.startswith("http"):
        with _reading(to) as reader:
            return reader.history(run, metric)
    server = HttpSender(to)
    try:
        asked = f"run_id={quote(run, safe='')}&metric_key={quote(metric, safe='')}"
        found = server.get(f"{_API}/metrics/get-history?{asked}")
    finally:
        server.close()
    return [_point(one) for one in found.get("metrics", [])]


@contextmanager
def _reading(to: str) -> Iterator[TrackingReader]:
    opened = open_store(to, create=False, read_only=True)
    try:
        with opened.tracking.read() as reader:
            yield reader
    finally:
        opened.close()


def _point(form: dict[str, Any]) -> Point:
    return Point(form["key"], float(form["value"]), int(form["timestamp"]), int(form.get("step", 0)))


def _run(form: dict[str, Any]) -> TrackedRun:
    told, data = form["info"], form.get("data", {})
    info = RunInfo(
        id=told["run_id"],
        experiment=int(told["experiment_id"]),
        name=told.get("run_name", ""),
        user=told.get("user_id", ""),
        status=told["status"],
        stage=told["lifecycle_stage"],
        started=int(told.get("start_time", 0)),
        ended=int(told["end_time"]) if "end_time" in told else None,
        artifacts=told.get("artifact_uri", ""),
    )
    pairs = {name: {one["key"]: one["value"] for one in data.get(name, [])} for name in ("params", "tags")}
    return TrackedRun(info, tuple(_point(one) for one in data.get("metrics", [])), pairs["params"], pairs["tags"])
