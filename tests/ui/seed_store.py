"""A store filled with a year of a loop's life: a broken spring, a canary, an approval to give."""

from __future__ import annotations

from datetime import timedelta

from seed_data import dataset
from seed_models import bundle_of, report, run, version_of
from seed_story import DAY, LOOP, NOW, PLAN, day, name
from seed_tracking import fill_tracking
from seed_windows import put_windows

from noria.records import (
    Alert,
    DatasetVersion,
    Deployment,
    Override,
    RetrainRequest,
    Route,
    Turn,
    TurnState,
)
from noria.store.ports import AliasRecord, Label, LoopRecord, Prediction, Store, Transaction

SHADOW = name("shadow", 1)


def fill(store: Store) -> None:
    """Write the whole story."""
    bundles = [bundle_of(store, number) for number in range(1, 5)]
    artifact = store.blobs.put(b"--- a/loop.py\n+++ b/loop.py\n")

    def change(tx: Transaction) -> None:
        _loops(tx)
        datasets = [dataset(number) for number in range(1, 4)]
        for one in datasets:
            tx.put(one)
        for number in range(1, 5):
            tx.put(run(number, datasets[min(number, 3) - 1].id, bundles[number - 1], artifact))
            tx.put(report(number, datasets[min(number, 3) - 1].id))
            tx.put(version_of(number, bundles[number - 1]))
        tx.put(AliasRecord(LOOP, "champion", 3, day(3, 30)))
        tx.put(AliasRecord(LOOP, "challenger", 4, day(5, 4)))
        _deployments(tx, bundles)
        _alerts(tx)
        _turns(tx, datasets)
        put_windows(tx)

    store.ledger.write(change)
    _traffic(store)
    fill_tracking(store)


def _loops(tx: Transaction) -> None:
    tx.put(LoopRecord(LOOP, "/home/ada/taxi/loop.py", PLAN, "blake3:" + "a1" * 32, day(10, 1, year=2019), NOW))
    tx.put(LoopRecord("churn", "/home/ada/churn/loop.py", {}, "blake3:" + "b2" * 32, day(5, 4), NOW - DAY))
    tx.put(
        Turn(
            name("churn", 1),
            "churn",
            1,
            TurnState.building,
            day(5, 4, 11),
            day(5, 4, 11),
            "first",
            "no model yet",
        )
    )


def _deployments(tx: Transaction, bundles: list[str]) -> None:
    def route(version: int, role: str, percent: float) -> Route:
        return Route(version, bundles[version - 1], role, percent)

    tx.put(Deployment(LOOP, 1, day(10, 1, 12, 2019), (route(1, "champion", 100.0),), turn=name("turn", 1)))
    tx.put(Deployment(LOOP, 2, day(3, 27), (route(1, "champion", 75.0), route(3, "canary", 25.0)), 0, name("turn", 3)))
    tx.put(Deployment(LOOP, 3, day(3, 30), (route(3, "champion", 100.0),), turn=name("turn", 3)))


def _alerts(tx: Transaction) -> None:
    tx.put(
        Alert(
            name("alert", 1),
            LOOP,
            1,
            day(3, 17),
            "drift",
            "warning",
            "pickup_zone and hour moved past their thresholds at once; since 14 March.",
            day(3, 14),
        )
    )
    tx.put(
        Alert(
            name("alert", 2),
            LOOP,
            1,
            day(3, 19),
            "performance",
            "alarm",
            "The error is up: mae 5.9 over the last week against 3.6 at validation; since 15 March.",
            day(3, 15),
        )
    )
    tx.put(
        Alert(
            name("alert", 3),
            LOOP,
            3,
            day(5, 2),
            "drift",
            "warning",
            "hour moved past its threshold: more trips between 10 and 14.",
            day(4, 27),
        )
    )


def _turns(tx: Transaction, datasets: list[DatasetVersion]) -> None:
    story = [
        (
            1,
            TurnState.promoted,
            day(10, 1, 8, 2019),
            day(10, 1, 12, 2019),
            "first",
            "there is no model yet",
            "v1 is champion",
            None,
        ),
        (
            2,
            TurnState.rejected,
            day(3, 19, 8),
            day(3, 19, 9),
            "OnAlarm",
            "the error is up since 15 March",
            "BeatsChampion and AtMost did not pass",
            name("alert", 2),
        ),
        (
            3,
            TurnState.promoted,
            day(3, 26, 8),
            day(3, 30),
            "OnAlarm",
            "follow-up: 9,120 rows since the change",
            "v3 is champion",
            name("alert", 2),
        ),
        (
            4,
            TurnState.awaiting_approval,
            day(5, 4, 10),
            day(5, 4, 11),
            "OnAlarm",
            "hour drifted since 27 April",
            "",
            name("alert", 3),
        ),
    ]
    path = [TurnState.ordered, TurnState.building, TurnState.validating, TurnState.validated]
    for number, state, created, since, trigger, reason, outcome, alert in story:
        ident = name("turn", number)
        tx.put(RetrainRequest(name("request", number), LOOP, created - timedelta(seconds=3), trigger, reason, alert))
        tx.put(
            Turn(
                ident,
                LOOP,
                number,
                state,
                created,
                since,
                trigger,
                reason,
                datasets[min(number, 3) - 1].id,
                name("run", number),
                name("report", number),
                number,
                alert,
                outcome,
            )
        )
        states = [*path[: 3 if state is TurnState.rejected else 4], state]
        if number == 3:
            states.insert(4, TurnState.canary)
        for place, passed in enumerate(states):
            last = place == len(states) - 1
            at = since if last else created + timedelta(minutes=place * 7 + (place * place) // 2)
            tx.audit(at, "controller", f"turn {passed.value}", f"turn:{ident}", state=passed.value, number=number)
        tx.audit(since, "controller", "version registered", f"model:{LOOP}/{number}", run=name("run", number))


def _traffic(store: Store) -> None:
    made = []
    for number in range(400):
        at = NOW - timedelta(minutes=25 * number + 3)
        version, error = (3, None) if number % 97 else (3, "the model did not answer")
        made.append(
            Prediction(
                f"p{number:06d}",
                LOOP,
                at,
                version,
                "blake3:" + name("model", version) * 2,
                "champion",
                {"hour": at.hour},
                None if error else 10 + number % 9,
                None,
                f"T-{number:06d}",
                900,
                error,
            )
        )
    shares, trace = [0.07, 0.81, 0.12], name("trace", 1)
    record = {"hour": 9, "weekday": "Mon", "pickup_zone": "Midtown", "dropoff_zone": "JFK Airport", "passengers": None}
    shadow = Prediction(
        SHADOW, LOOP, NOW, 2, "blake3:" + name("model", 2) * 2, "shadow", record, "middle", shares, "T-000003", 1300,
        answered=13, trace=trace,
    )  # fmt: skip
    store.predictions.append([*reversed(made), shadow])
    decided = [
        Override(name("override", place), LOOP, 3, p.id, p.at, "ann", "A street is closed.", p.value, p.value + place)
        for place, p in enumerate(p for p in made[:5] if p.error is None)  # the first confirms what the model said
    ]

    def decide(tx: Transaction) -> None:
        for one in decided:
            tx.put(one)
            tx.audit(NOW, one.by, "prediction overridden", f"prediction:{one.prediction}", value=one.value)

    store.ledger.write(decide)
    known = [p for p in made if p.error is None and p.at < NOW - 2 * DAY]
    store.predictions.label([Label(LOOP, p.at + DAY, 12.5, key=p.key) for p in known])
