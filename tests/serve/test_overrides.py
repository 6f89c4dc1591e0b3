"""What people decide in place of a model: with who and why, by id or key, corrected, explained."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from serving import Served

from noria.govern import explain, verify
from noria.records import AuditEntry, ModelVersion, Override
from noria.serve.access import Keys, digest_of
from noria.store import Store
from noria.store.ports import ApiKey

GOOD = {"id": 77, "age": 40, "city": "Oslo", "bonus": 0.5}
SAID = {"value": 1, "by": "ann", "reason": "She called and said so."}


def predicted(steady: Served, *keys: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = steady.post("/predict/churn", [{**GOOD, "id": key} for key in keys]).body[
        "predictions"
    ]
    return found


def overrides(store: Store) -> list[Override]:
    with store.ledger.read() as db:
        return db.list(Override)


def test_a_persons_decision_is_kept_with_who_and_why_and_explained(steady: Served) -> None:
    (made,) = predicted(steady, 5001)
    reply = steady.post("/overrides/churn", {"id": made["id"], **SAID})
    assert reply.status == 200
    (kept,) = reply.body["recorded"]
    assert (kept["prediction"], kept["given"]) == (made["id"], made["prediction"])
    found = explain(steady.store, made["id"])
    (one,) = found.overrides
    assert (one.id, one.loop, one.version, one.prediction) == (kept["id"], "churn", made["version"], made["id"])
    assert (one.value, one.given, one.by, one.reason) == (1, made["prediction"], "ann", SAID["reason"])
    assert found.label is None, "a decision is no truth"
    assert steady.store.predictions.find(made["id"])[1] is None
    with steady.store.ledger.read() as db:
        (entry,) = db.list(AuditEntry, subject=f"prediction:{made['id']}")
        assert verify(db).problems == ()
    assert (entry.actor, entry.action) == ("ann", "prediction overridden")
    assert (entry.facts["value"], entry.facts["reason"]) == (1, SAID["reason"])


def test_it_comes_by_key_and_the_newest_prediction_of_the_key_is_meant(steady: Served) -> None:
    old, new, other = predicted(steady, 5002, 5002, 5003)
    said = [{"key": 5002.0, **SAID}, {"id": other["id"], **SAID, "value": 0}]
    recorded = steady.post("/overrides/churn", {"overrides": said}).body["recorded"]
    assert [one["prediction"] for one in recorded] == [new["id"], other["id"]]
    assert explain(steady.store, old["id"]).overrides == ()
    named = [{**SAID, "id": 5002.0}]  # the key column is called 'id' here, and an id is text
    assert steady.post("/overrides/churn", named).status == 422


def test_it_may_be_corrected_and_what_was_said_before_is_kept(steady: Served) -> None:
    (made,) = predicted(steady, 5004)
    for value, by in ((True, "ann"), (0, "bob")):
        assert steady.post("/overrides/churn", [{"id": made["id"], **SAID, "value": value, "by": by}]).status == 200
    found = explain(steady.store, made["id"]).overrides
    assert [(one.value, type(one.value), one.by) for one in found] == [(0, int, "bob"), (1, int, "ann")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"value": None}, "needs 'value'"),
        ({"value": "yes"}, "not one of [0, 1]"),
        ({"value": 2}, "not one of [0, 1]"),
        ({"value": [1]}, "not one of [0, 1]"),
        ({"by": None}, "needs 'by', who decided"),
        ({"by": "  "}, "needs 'by', who decided"),
        ({"by": 5}, "needs 'by', who decided"),
        ({"by": "a" * 201}, "at most 200"),
        ({"reason": None}, "needs 'reason', why"),
        ({"reason": "r" * 10_001}, "at most 10000"),
        ({"id": "0" * 32}, "no answered prediction '00000"),
        ({"id": "'; DROP TABLE overrides; --\0"}, "no answered prediction"),
        ({"id": None, "key": "nobody"}, "no prediction of this model has this key"),
        ({"id": None}, "needs 'key' (or 'id')"),
        ({"id": 5}, "'id' must be text"),
    ],
)
def test_what_cannot_be_taken_is_named_and_none_is_kept(steady: Served, change: dict[str, Any], problem: str) -> None:
    (made,) = predicted(steady, 5005)
    before = len(overrides(steady.store))
    entry = {"id": made["id"], **SAID}
    reply = steady.post("/overrides/churn", [entry, {**entry, **change}])
    assert reply.status == 422
    assert [detail["record"] for detail in reply.body["details"]] == [1]
    assert problem in reply.body["details"][0]["problem"]
    assert len(overrides(steady.store)) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b"5", 400), (b"{nonsense", 400), (b'{"overrides": []}', 400), (b"[5]", 422)],
)
def test_a_body_that_is_none_is_refused(steady: Served, body: bytes, status: int) -> None:
    assert steady.request("POST", "/overrides/churn", body).status == status


def test_too_many_at_once_another_method_and_another_model_are_refused(steady: Served) -> None:
    many = json.dumps([SAID] * 10_001).encode()
    assert steady.request("POST", "/overrides/churn", many).status == 413
    assert steady.get("/overrides/churn").status == 405
    assert steady.post("/overrides/other", SAID).status == 404


def test_an_answer_that_nobody_was_given_cannot_be_overridden(served: Served) -> None:
    served.deploy((1, 100.0), shadow=(2, 100.0))
    assert served.plane is not None
    served.until(lambda: served.plane is not None and served.plane.deployment("churn").route("shadow") is not None)
    predicted(served, 5006)
    log = served.store.predictions

    def shadows() -> list[str]:
        return [one.id for _, one in log.rows("churn") if one.role == "shadow" and one.key == "5006"]

    served.until(lambda: bool(shadows()))
    reply = served.post("/overrides/churn", {"id": shadows()[0], **SAID})
    assert (reply.status, "no answered prediction" in str(reply.body)) == (422, True)
    assert served.post("/overrides/churn", {"key": 5006, **SAID}).status == 200


def test_the_key_it_came_with_is_on_record_too(trained: tuple[Store, list[ModelVersion]]) -> None:
    keys = Keys()
    keys.update([ApiKey("desk", digest_of("s3cret"), datetime.now(UTC), "churn")])
    found = Served(*trained, keys=keys)
    found.deploy((1, 100.0))
    with found.up():
        opened = {"X-API-Key": "s3cret"}
        body = json.dumps([{**GOOD, "id": 5007}]).encode()
        made = found.request("POST", "/predict/churn", body, **opened).body["predictions"][0]
        said = json.dumps({"id": made["id"], **SAID}).encode()
        assert found.request("POST", "/overrides/churn", said).status == 401
        assert explain(found.store, made["id"]).overrides == ()
        assert found.request("POST", "/overrides/churn", said, **opened).status == 200
    assert explain(found.store, made["id"]).overrides[0].api_key == "desk"


def noria(store: Store, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "noria.cli", *arguments, "--store", str(store.folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def made(steady: Served) -> str:
    return str(predicted(steady, 5008)[0]["id"])


def test_it_is_said_at_the_terminal_too(steady: Served, made: str) -> None:
    done = noria(steady.store, "override", made, "1", "--by", "eve", "--reason", "Her contract ends.")
    assert done.returncode == 0, done.stderr
    assert "1 holds now, by eve" in done.stdout
    assert noria(steady.store, "override", made, "0", "--reason", "It does not.").returncode == 0
    shown = " ".join(noria(steady.store, "explain", made).stdout.split())
    assert "probabilities 0: 0." in shown
    assert "overridden 0 at" in shown
    assert "before 1 at" in shown
    assert "by eve: Her contract ends." in shown
    wrong = noria(steady.store, "override", made, "maybe", "--reason", "-")
    assert (wrong.returncode, "not one of [0, 1]" in wrong.stderr) == (1, True)
    assert "no prediction" in noria(steady.store, "override", "f" * 32, "1", "--reason", "-").stderr
