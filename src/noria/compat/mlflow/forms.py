"""Tracked things in MLflow's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import msgspec

from noria.records.tracking import Experiment, Point, RunInfo, TrackedDataset, TrackedRun

__all__ = ["dataset_form", "experiment_form", "info_form", "number_form", "pairs", "point_form", "run_form"]


def number_form(value: float) -> float | str:
    """A number as JSON can carry it: what is not finite goes by name."""
    if isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags or params."""
    return [{"key": key, "value": value} for key, value in values.items()]


def experiment_form(experiment: Experiment) -> dict[str, Any]:
    """An experiment."""
    form: dict[str, Any] = {
        "experiment_id": str(experiment.id),
        "name": experiment.name,
        "artifact_location": experiment.artifacts,
        "lifecycle_stage": experiment.stage,
        "creation_time": experiment.created,
        "last_update_time": experiment.updated,
    }
    if experiment.tags:
        form["tags"] = pairs(experiment.tags)
    return form


def info_form(info: RunInfo) -> dict[str, Any]:
    """What a run is."""
    form: dict[str, Any] = {
        "run_id": info.id,
        "run_uuid": info.id,
        "run_name": info.name,
        "experiment_id": str(info.experiment),
        "user_id": info.user,
        "status": info.status,
        "start_time": info.started,
        "artifact_uri": info.artifacts,
        "lifecycle_stage": info.stage,
    }
    if info.ended is not None:
        form["end_time"] = info.ended
    return form


class PointForm(msgspec.Struct, gc=False, omit_defaults=True):
    """A point of a metric; of which run, where points of several are told."""

    key: str
    value: float | str
    timestamp: int = -1
    step: int = -(2**63)
    run_id: str = ""


def point_form(point: Point, run: str = "") -> PointForm:
    """A point of a metric."""
    value = point.value
    return PointForm(point.key, value if isfinite(value) else number_form(value), point.time, point.step, run)


def dataset_form(dataset: TrackedDataset) -> dict[str, Any]:
    """A dataset."""
    form = {
        "name": dataset.name,
        "digest": dataset.digest,
        "source_type": dataset.source_type,
        "source": dataset.source,
    }
    if dataset.schema:
        form["schema"] = dataset.schema
    if dataset.profile:
        form["profile"] = dataset.profile
    return form


def run_form(run: TrackedRun) -> dict[str, Any]:
    """A run with what it logged."""
    data: dict[str, Any] = {}
    if run.metrics:
        data["metrics"] = [point_form(point) for point in run.metrics]
    if run.params:
        data["params"] = pairs(run.params)
    if run.tags:
        data["tags"] = pairs(run.tags)
    inputs: dict[str, Any] = {}
    if run.inputs:
        inputs["dataset_inputs"] = [
            {"tags": pairs(one.tags), "dataset": dataset_form(one.dataset)} for one in run.inputs
        ]
    form: dict[str, Any] = {"info": info_form(run.info), "data": data, "inputs": inputs}
    read = [{"model_id": link.model} for link in run.models if link.kind == "input"]
    made = [{"model_id": link.model, "step": link.step} for link in run.models if link.kind == "output"]
    if read:
        inputs["model_inputs"] = read
    if made:
        form["outputs"] = {"model_outputs": made}
    return form
