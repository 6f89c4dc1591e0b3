"""Runs of loops, tracked: each becomes a run of the experiment that bears its loop's name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from noria.records import Run
from noria.records.tracking import ACTIVE, Input, Point, RunInfo, TrackedDataset
from noria.store.tracking import Artifact, Tracking, TrackingTransaction
from noria.track.verbs import MAX_PARAM_VALUE, MAX_TAG_VALUE, RUN_NAME

__all__ = ["track_run"]

_STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=repr).decode()
    return text[:MAX_PARAM_VALUE]


def track_run(tracking: Tracking, run: Run, name: str, source: str) -> None:
    """Track a loop's run as it stands now; doing so again changes nothing.

    Args:
        tracking: where.
        run: the run.
        name: what to call it, e.g. ``turn 3``.
        source: the loop's source, as declared.
    """
    ended = _ms(run.ended) if run.ended else None
    at = ended if ended is not None else _ms(run.started)
    tags = {
        RUN_NAME: name,
        "noria.loop": run.loop,
        "noria.turn": run.turn,
        "noria.bundle": run.bundle or "",
        "noria.failure": (run.failure or "")[:MAX_TAG_VALUE],
        "noria.environment": run.environment or "",
        "mlflow.source.git.commit": run.git_commit or "",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "noria",
    }

    def change(transaction: TrackingTransaction) -> None:
        experiment = transaction.experiment(name=run.loop)
        number = experiment.id if experiment else transaction.add_experiment(run.loop, "mlflow-artifacts:/{id}", at, {})
        info = RunInfo(
            id=run.id,
            experiment=number,
            name=name,
            user="noria",
            status=_STATUS.get(run.status, "RUNNING"),
            stage=ACTIVE,
            started=_ms(run.started),
            ended=ended,
            artifacts=f"mlflow-artifacts:/{number}/{run.id}/artifacts",
        )
        known = transaction.info(run.id)
        if known is None:
            transaction.add_run(info, {})
        else:
            transaction.set_run(msgspec.structs.replace(info, stage=known.stage, deleted=known.deleted))
        transaction.log(
            run.id,
            points=[Point(metric.name, metric.value, at, metric.step) for metric in run.metrics],
            params={key: _text(value) for key, value in run.params.items()},
            tags={key: value for key, value in tags.items() if value},
        )
        if run.dataset:
            dataset = TrackedDataset(run.loop, run.dataset, "noria", _text({"source": source}))
            transaction.add_inputs(run.id, [Input(dataset, {"mlflow.data.context": "training"})])
        for artifact in run.artifacts:
            path = f"{number}/{run.id}/artifacts/{artifact.name}"
            transaction.put_artifact(Artifact(path, artifact.digest, artifact.size_bytes, at))

    tracking.write(change)
