"""From an answer over HTTP back to everything behind it."""

from __future__ import annotations

from serving import Served

from noria.govern import explain, verify

GOOD = {"id": 77, "age": 40, "city": "Oslo", "bonus": 0.5}


def test_an_answer_is_traced_to_model_run_data_report_and_turn(steady: Served) -> None:
    made = steady.post("/predict/churn?version=2", GOOD).body["predictions"][0]
    steady.post("/labels/churn", {"id": made["id"], "label": 1})
    found = explain(steady.store, made["id"])
    assert found.prediction.record == GOOD
    assert found.label is not None
    assert found.label.value == 1
    assert found.version.version == 2
    assert found.manifest is not None
    assert found.run is not None
    assert found.dataset is not None
    assert found.report is not None
    assert found.turn is not None
    assert found.prediction.model_digest == found.version.model_digest == found.manifest.model_digest
    assert found.report.passed
    assert found.turn.version == 2
    assert steady.store.blobs.has(found.dataset.blob)
    with steady.store.ledger.read() as db:
        assert verify(db).problems == ()
