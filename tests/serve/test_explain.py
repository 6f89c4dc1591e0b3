"""From an answer over HTTP back to everything behind it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import Served, nothing_written

from noria.cli.show import show_explanation
from noria.govern import explain, verify
from noria.records import ModelVersion
from noria.store import Store, open_store
from noria.store.segments.log import FolderPredictions

GOOD = {"id": 77, "age": 40, "city": "Oslo", "bonus": 0.5}


def test_an_answer_is_traced_to_model_run_data_report_and_turn(steady: Served) -> None:
    made = steady.post("/predict/churn?version=2", GOOD).body["predictions"][0]
    steady.post("/labels/churn", {"id": made["id"], "label": 1})
    found = explain(steady.store, made["id"])
    assert found.prediction.record == GOOD
    assert {name: type(value) for name, value in found.prediction.record.items()} == {
        name: type(value) for name, value in GOOD.items()
    }
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


def test_it_is_told_why_there_is_no_prediction_and_what_was_given_beside_a_shadow(
    trained: tuple[Store, list[ModelVersion]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = Served(*trained)
    found.deploy((1, 100.0), shadow=(2, 100.0))
    with found.up():
        given = found.post("/predict/churn", {**GOOD, "id": 4711}).body["predictions"][0]
        assert found.post("/predict/churn", {**GOOD, "id": 4712, "city": "Pompeii"}).status == 503
    log = found.store.predictions
    assert isinstance(log, FolderPredictions)
    log.index()
    with log.database.read() as connection:
        after = connection.execute("SELECT next FROM counters WHERE loop = 'churn'").fetchone()[0]
        made = log._at(connection, "churn", range(max(1, after - 20), after))
    (shadow,) = (one for one in made.values() if one.role == "shadow" and one.key == "4711")
    (failed,) = (one for one in made.values() if one.error and one.role == "champion" and one.key == "4712")
    for one, words in (
        (shadow, (f"given instead {given['prediction']}, by another version", "key 4711")),
        (failed, ("prediction none, champion", "failed Model churn/1 stopped while answering", "key 4712")),
    ):
        show_explanation(found.store.folder, one.id)
        shown = " ".join(capsys.readouterr().out.split())
        assert all(word in shown for word in (*words, one.at.isoformat(timespec="milliseconds"), "passed"))


@pytest.mark.parametrize("how", ["closed", "as it stood", "without its locks", "without tracking"])
def test_a_copy_that_cannot_be_written_is_read(steady: Served, tmp_path: Path, how: str) -> None:
    """``as it stood``: copied while a server writes it, with what is in no index yet."""
    made, known = [steady.post("/predict/churn", GOOD).body["predictions"][0]["id"] for _ in range(2)]
    steady.post("/labels/churn", {"id": known, "label": 1})
    steady.post("/overrides/churn", {"id": known, "value": 0, "by": "ann", "reason": "She called."})
    last = steady.post("/predict/churn", GOOD).body["predictions"][0]["id"]
    copy = tmp_path / "a copy?"
    shutil.copytree(steady.store.folder, copy)
    if how == "closed":
        open_store(copy).close()
    if how == "without its locks":
        for path in copy.rglob("*-shm"):
            path.unlink()
    if how == "without tracking":
        open_store(copy).close()
        (copy / "tracking.db").unlink()

    def noria(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "noria.cli", *words, "--store", str(copy)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    with nothing_written(copy):
        for prediction in (made, known, last):
            told = noria("explain", prediction)
            assert told.returncode == 0, told.stderr
            said = " ".join(told.stdout.split())
            assert "churn version 1" in said
            assert ("by ann: She called." in said) is (prediction == known)
        told = noria("audit")
        assert (told.returncode, "entries, whole" in told.stdout) == (0, True), told.stderr
        if how != "closed":
            return
        for verb in ("status", "runs", "models", "data", "turns", "report", "monitor"):
            told = noria(verb)
            assert told.returncode == 0, (verb, told.stderr)
        (tmp_path / "rows.csv").write_text("id,age,city,bonus\n1,40,Oslo,0.5\n")
        told = noria("predict", "churn", str(tmp_path / "rows.csv"))
        assert told.returncode == 0, told.stderr
        refused = noria("override", known, "1", "--reason", "why")
        assert (refused.returncode, "Cannot write" in refused.stderr) == (1, True)
        assert "Traceback" not in refused.stderr
