"""The seeded history: bundles, runs, validation reports and versions."""

from __future__ import annotations

import math
from datetime import timedelta

import msgspec
from seed_data import profile
from seed_story import LOOP, day, name

from noria.records import (
    Artifact,
    BundleManifest,
    Decision,
    Field,
    GateResult,
    Metric,
    ModelVersion,
    Outcome,
    Run,
    Signature,
    Stage,
    StepTrace,
    ValidationReport,
)
from noria.store.ports import Store

CLASSES = ("short", "middle", "long")


def run(number: int, dataset: str, bundle: str, artifact: str) -> Run:
    started = (day(10, 1, year=2019), day(3, 19), day(3, 26), day(5, 4, 11))[number - 1]
    curve = [Metric("validation_mae", 3.4 + 4 * math.exp(-i / 9) + 0.2 * (number == 2) * i / 60, i) for i in range(60)]
    mae = (3.61, 6.02, 4.11, 3.94)[number - 1]
    parts = {
        "code": name("code", min(number, 3)),
        "inputs": name("data", number),
        "knobs": name("knobs", number % 2),
        "packages": name("env", 1),
    }
    return Run(
        id=name("run", number),
        loop=LOOP,
        turn=name("turn", number),
        status="finished",
        started=started,
        ended=started + timedelta(seconds=41 + 9 * number),
        dataset=dataset,
        params={
            "train.learning_rate": 0.05 if number < 3 else 0.08,
            "train.leaves": 63,
            "train.half_life": "90d" if number > 1 else None,
            "features.zone_levels": 120,
        },
        metrics=(
            *curve,
            Metric("mae", mae),
            Metric("bias", (0.02, 1.1, -0.11, 0.05)[number - 1]),
            Metric("within_5_min", (0.78, 0.55, 0.742, 0.758)[number - 1]),
        ),
        artifacts=(Artifact("git.diff", artifact, 29), Artifact("model", bundle, 48_211)),
        bundle=bundle,
        steps=(
            StepTrace("zone_pair", name("key", number), number == 4, 0.42, parts),
            StepTrace("train", name("keyt", number), False, 31.7, parts),
            StepTrace("evaluate", name("keye", number), False, 1.9, parts),
        ),
        peak_memory_bytes=612_000_000 + number * 11_000_000,
        git_commit=name("git", 1) + "0" * 8,
        git_dirty=number == 3,
        environment="blake3:" + name("env", 1) * 2,
        plan="blake3:" + "a1" * 32,
    )


def bundle_of(store: Store, number: int) -> str:
    environment = store.blobs.put(b"lightgbm==4.6.0\npolars==1.30.0\n")
    manifest = BundleManifest(
        loop=LOOP,
        run=name("run", number),
        created=day(10, 1, year=2019),
        flavor="lightgbm",
        model={"model.txt": store.blobs.put(f"tree {number}".encode())},
        code={"loop.py": store.blobs.put(b"loop = ...\n"), "zones.py": store.blobs.put(b"ZONES = ...\n")},
        entry="loop.py",
        loop_name="loop",
        signature=Signature(
            inputs=(
                Field("pickup_at", "Datetime", example="2019-10-01T08:15:00Z"),
                Field("hour", "Int64", example=8),
                Field("weekday", "String", example="Tue"),
                Field("pickup_zone", "String", example="Midtown"),
                Field("dropoff_zone", "String", example="JFK Airport"),
                Field("passengers", "Int64", False, True, 1),
            ),
            features=(("hour", "Int64"), ("zone_pair", "Int64")),
            task="multiclass" if number == 2 else "regression",
            classes=CLASSES if number == 2 else (),
            key="trip_id",
            time="pickup_at",
            label="minutes",
        ),
        frame="polars",
        profile=profile(20_000),
        reference={"mae": 3.61},
        environment=environment,
        params={"train.learning_rate": 0.05},
        model_digest="blake3:" + name("model", number) * 2,
    )
    return store.blobs.put(msgspec.json.encode(manifest))


def report(number: int, dataset: str) -> ValidationReport:
    mae = (3.61, 6.02, 4.11, 3.94)[number - 1]
    good = number != 2
    passed, failed = Outcome.passed, Outcome.failed
    results = [
        GateResult(
            'AtMost("mae", 4.5)',
            passed if good else failed,
            f"mae is {mae} (95 % interval {mae - 0.14:.2f} to {mae + 0.14:.2f}); at most 4.5 was asked.",
            mae,
            4.5,
            (mae - 0.14, mae + 0.14),
            {"rows": 21_300},
        ),
    ]
    if number > 1:
        gain = (-0.42, 1.31, 0.21)[number - 2]
        results.append(
            GateResult(
                'BeatsChampion("mae", by=0.05)',
                passed if good else failed,
                f"On the same 21,300 rows its mae is {abs(gain)} {'below' if gain > 0 else 'above'} the "
                "champion's; at least 0.05 below was asked.",
                gain,
                0.05,
                (gain - 0.11, gain + 0.11),
                {"rows": 21_300, "resamples": 1000},
            )
        )
        results.append(
            GateResult(
                'SliceGap("pickup_zone", "mae", max_gap=3)',
                passed if good else Outcome.inconclusive,
                "The widest gap, between LaGuardia and East Village, is 2.1."
                if good
                else "Only 31 rows from LaGuardia: too few to tell.",
                2.1,
                3.0,
                (1.2, 2.8 if good else 5.4),
            )
        )
    results += [
        GateResult(
            "Latency(p95_ms=20)",
            passed,
            "95 of 100 answers came within 3.2 ms.",
            3.2,
            20.0,
            None,
            {"requests": 400},
        ),
        GateResult(
            "NoSkew()",
            passed,
            "200 training rows replayed through HTTP gave the same predictions.",
            0.0,
            1e-6,
        ),
    ]
    return ValidationReport(
        name("report", number),
        LOOP,
        name("run", number),
        name("turn", number),
        day(3, 26),
        tuple(results),
        dataset,
        (None, 1, 1, 3)[number - 1],
    )


def version_of(number: int, bundle: str) -> ModelVersion:
    stage = (Stage.retired, Stage.rejected, Stage.champion, Stage.awaiting_approval)[number - 1]
    reason = (
        "succeeded by version 3",
        "2 of 5 gates did not pass",
        "canary held for 1 day without harm",
        "all gates passed; dispatch-lead has until 7 May to decide",
    )[number - 1]
    created = (day(10, 1, 10, 2019), day(3, 19, 10), day(3, 26, 10), day(5, 4, 11))[number - 1]
    return ModelVersion(
        LOOP,
        number,
        created,
        name("run", number),
        bundle,
        "blake3:" + name("model", number) * 2,
        name("report", number),
        stage,
        Decision(True, "grace", "dispatch-lead", day(3, 26, 12), "The spring is over.") if number == 3 else None,
        reason,
    )
