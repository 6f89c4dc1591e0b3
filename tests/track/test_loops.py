"""Runs of loops among the tracked ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from noria.records import Artifact, Metric, Run
from noria.store import open_store
from noria.track.loops import track_run

AT = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_loops_run_is_tracked_as_it_goes_and_again_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    begun = Run("a" * 32, "churn", "t1", "running", AT, dataset="blake3:" + "0" * 64)
    done = msgspec.structs.replace(
        begun,
        status="finished",
        ended=AT + timedelta(seconds=9),
        params={"train.C": 0.5, "train.kind": "l2"},
        metrics=(Metric("roc_auc", 0.9),),
        artifacts=(Artifact("bundle.json", store.blobs.put(b"{}"), 2),),
        git_commit="abc",
    )
    for run in (begun, done, done):
        track_run(store.tracking, run, "turn 1", "Csv('x.csv')")
    with store.tracking.read() as reader:
        found = reader.run(begun.id)
        experiment = reader.experiment(name="churn")
        assert found is not None
        assert experiment is not None
        assert (found.info.name, found.info.status, found.info.experiment) == ("turn 1", "FINISHED", experiment.id)
        assert found.params == {"train.C": "0.5", "train.kind": "l2"}
        assert [(point.key, point.value) for point in found.metrics] == [("roc_auc", 0.9)]
        assert found.tags["mlflow.source.git.commit"] == "abc"
        assert [entry.dataset.digest for entry in found.inputs] == [begun.dataset]
        assert len(reader.history(begun.id, "roc_auc")) == 1
        artifact = reader.artifact(f"{experiment.id}/{begun.id}/artifacts/bundle.json")
        assert artifact is not None
        assert store.blobs.get(artifact.digest) == b"{}"
    store.close()
