"""Strangers' names, addresses and forms."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from asking import Page, ask
from msgspec.structs import replace
from seed_store import fill
from seed_story import LOOP, NOW, StoppedClock, name

from noria.records import (
    Alert,
    Artifact,
    DatasetVersion,
    ExpectationReport,
    GateResult,
    Metric,
    ModelVersion,
    Outcome,
    Override,
    Profile,
    Run,
    Stage,
    StepTrace,
    Turn,
    TurnState,
    ValidationReport,
)
from noria.server.app import ASGIApp, create_app
from noria.store import Store, open_store
from noria.store.ports import AliasRecord, Label, LoopRecord, Prediction, Transaction, Window

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
NAME = '"><img src=x onerror=alert(1)><b>'  # no slash, so that its pages have addresses
ODD = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "a" * 5000,
    EVIL,
    "'; DROP TABLE runs; --",
    "%ff%fe",
    "٣",
]
BASE = f"/loops/{LOOP}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ASGIApp]:
    """A store whose every name is an attack."""
    store: Store = open_store(tmp_path_factory.mktemp("hostile"))

    def change(tx: Transaction) -> None:
        tx.put(LoopRecord(NAME, EVIL, {"gates": [{"metric": EVIL}], "approval": {"role": EVIL}}, EVIL, NOW, NOW))
        tx.put(Turn("t1", NAME, 1, TurnState.failed, NOW, NOW, EVIL, EVIL, outcome=EVIL, overrides={EVIL: EVIL}))
        tx.put(Alert("a1", NAME, 1, NOW, EVIL, EVIL, EVIL))
        tx.put(DatasetVersion("d1", NAME, NOW, EVIL, 1, ((EVIL, EVIL),), EVIL, Profile(1, ()), ExpectationReport()))
        facts: dict[str, Any] = {
            "metric": EVIL,
            "value": EVIL,
            "low": None,
            "high": [],
            "columns": {EVIL: {"effect": EVIL}},
        }
        for kind in ("performance", "drift"):
            tx.put(Window(f"w{kind}", NAME, 1, kind, NOW, NOW + timedelta(days=1), 1, {**facts, "counts": EVIL}))
        tx.audit(NOW, EVIL, EVIL, EVIL, **{EVIL: EVIL})
        tx.put(
            Run(
                "r1",
                NAME,
                "t1",
                EVIL,
                NOW,
                dataset="d1",
                params={EVIL: EVIL},
                metrics=(Metric(EVIL, 1.5),),
                artifacts=(Artifact(EVIL, EVIL, 1),),
                steps=(StepTrace(EVIL, EVIL, False, 1, {EVIL: EVIL}),),
                git_commit=EVIL,
                failure=EVIL,
            )
        )
        gate = GateResult(EVIL, Outcome.failed, EVIL, 1.5, 2.5, (1.0, 2.0), {EVIL: EVIL})
        tx.put(ValidationReport("v1", NAME, "r1", "t1", NOW, (gate,)))
        tx.put(ModelVersion(NAME, 1, NOW, "r1", EVIL, EVIL, "v1", Stage.awaiting_approval, None, EVIL))
        tx.put(AliasRecord(NAME, "champion", 1, NOW))
        tx.put(Override("o1", NAME, 1, "p1", NOW, EVIL, EVIL, EVIL, EVIL))

    store.ledger.write(change)
    record = {EVIL: EVIL, "nested": [EVIL]}
    made = Prediction("p1", NAME, NOW, 1, EVIL, EVIL, record, EVIL, None, EVIL, 1, answered=EVIL, trace=EVIL)
    store.predictions.append([made, replace(made, id="p2", error=EVIL)])
    store.predictions.label([Label(NAME, NOW, EVIL, prediction="p1")])
    yield create_app(store, StoppedClock(), address="127.0.0.1:8000")
    store.close()


UNDER = [
    "",
    "/runs",
    "/runs/r1",
    "/compare?runs=r1",
    "/models",
    "/models/1",
    "/monitoring",
    "/data",
    "/data/d1",
    "/turns",
    "/turns/t1",
    "/predictions",
    "/predictions/p1",
    "/predictions/p2",
    f"/predictions?q={quote(EVIL)}",
]


@pytest.mark.parametrize("path", ["/", "/audit", *(f"/loops/{quote(NAME, safe='')}{rest}" for rest in UNDER)])
def test_names_of_strangers_never_become_markup(hostile: ASGIApp, path: str) -> None:
    answer = ask(hostile, path)
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert Page(answer.text).faults == []


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "path",
    [
        "/loops/{}",
        "/loops/{}.json",
        BASE + "/runs/{}",
        BASE + "/models/{}",
        BASE + "/data/{}",
        BASE + "/turns/{}",
        BASE + "/predictions/{}",
        BASE + "/runs/" + name("run", 1) + "/artifacts/{}",
        "/static/{}",
        BASE + "/compare?runs={}",
        "/{}",
    ],
)
def test_odd_addresses_find_nothing_and_never_break_the_server(app: ASGIApp, path: str, odd: str) -> None:
    raw = odd if "%" in odd or "/" in odd else quote(odd, safe="")
    answer = ask(app, path.format(raw))
    assert answer.status_code == 404
    is_json = answer.headers["content-type"] == "application/json"
    assert is_json or "<script>alert" not in answer.text
    assert "Traceback" not in answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/audit?after=x",
        "/audit?after=99999999999999999999",
        f"{BASE}/runs?after=yesterday",
        f"{BASE}/runs?sort=id;--",
        f"{BASE}/runs?order=up",
        f"{BASE}/models?after=-1",
        f"{BASE}/turns?after=1e9",
        f"{BASE}/predictions?before=-1",
        "/?after=0001-01-01T00:00%2B23:59",
        f"{BASE}/compare?runs=" + ",".join(str(i) for i in range(40)),
    ],
)
def test_odd_queries_are_refused_with_a_sentence(app: ASGIApp, path: str) -> None:
    answer = ask(app, path)
    assert answer.status_code == 422
    assert "That cannot be done as asked" in answer.text


def test_unknown_loop_is_a_friendly_404_in_both_forms(app: ASGIApp) -> None:
    page, twin = ask(app, "/loops/nothing"), ask(app, "/loops/nothing.json")
    assert page.status_code == twin.status_code == 404
    assert "There is no loop &#39;nothing&#39; in this store." in page.text
    assert twin.json() == {"error": "There is no loop 'nothing' in this store."}


def test_hundreds_of_records_come_in_pages_that_miss_and_repeat_none(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    fill(store)

    def change(tx: Transaction) -> None:
        for number in range(5, 255):
            at = NOW + timedelta(minutes=number)
            tx.put(Turn(f"extra{number}", LOOP, number, TurnState.rejected, at, at, "Every", "time"))

    store.ledger.write(change)
    app = create_app(store, StoppedClock(), address="127.0.0.1:8000")
    path, numbers = f"{BASE}/turns.json", []
    for _ in range(5):
        page = ask(app, path).json()
        numbers += [row["turn"]["number"] for row in page["rows"]]
        if page["older"] is None:
            break
        path = page["older"].replace("/turns?", "/turns.json?")
    assert numbers == list(range(254, 0, -1))
    store.close()
