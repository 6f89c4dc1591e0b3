"""Validation: the facts for every gate, taken from the model as it is served, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from msgspec.structs import replace

from noria.core.clock import Clock
from noria.errors import StepError
from noria.loop.build import Sides, Work, load_model
from noria.loop.calling import call, knobs_of
from noria.loop.reference import as_records
from noria.loop.scoring import manifest_of
from noria.loop.staging import Staging
from noria.loop.steps import Step
from noria.records import BundleManifest, GateResult, ModelVersion, Outcome, Run, ValidationReport
from noria.store.ports import Store
from noria.validate.bootstrap import compare, slice_gap
from noria.validate.catalog import find_metric
from noria.validate.metrics import Scored, measure_all
from noria.validate.rules import BeatsChampion, Latency, NoSkew, SliceGap, interpret

if TYPE_CHECKING:
    import polars as pl

__all__ = ["judge"]

_ROWS = 20_000  # newest held-out rows asked for over HTTP, at most
_LATENCY_REQUESTS = 200


def judge(
    work: Work,
    store: Store,
    clock: Clock,
    run: Run,
    *,
    number: int,
    champion: ModelVersion | None,
    report_id: str,
    now: datetime,
    progress: Callable[[str], None],
) -> ValidationReport:
    """The validation report of a finished run.

    The candidate, and the champion if there is one, are served on trial; every prediction a gate looks at came
    through HTTP from the saved bundle.

    Args:
        work: the training the run came from, for its rows and steps.
        store: where bundles are.
        clock: the present.
        run: what is judged.
        number: the version number the candidate would get.
        champion: what it is compared with, if anything serves.
        report_id: identifier of the report.
        now: stamps the report.
        progress: told what is being done.

    Raises:
        ModelError: the candidate cannot be served.
    """
    assert run.bundle is not None
    versions = {number: run.bundle}
    if champion is not None:
        versions[champion.version] = champion.bundle
    manifest = manifest_of(store.blobs, run.bundle)
    progress("serving the candidate on trial")
    with Staging(store, clock, work.loop.name, versions) as staging:
        facts = _facts(work, staging, manifest, store, run, number, champion, progress)
    progress("judging the gates")
    results = [gate.decide(facts) for gate in work.loop.gates]
    results += [_custom(work, step, run.bundle, champion, store, facts) for step in work.loop.of_kind("gate")]
    return ValidationReport(
        id=report_id,
        loop=work.loop.name,
        run=run.id,
        turn=run.turn,
        created=now,
        results=tuple(_finite(result) for result in results),
        dataset=run.dataset,
        champion=champion.version if champion else None,
    )


def _finite(result: GateResult) -> GateResult:
    """The result with numbers that are not finite left out: JSON has none."""

    def known(value: float | None) -> float | None:
        return value if value is not None and isfinite(value) else None

    band = result.interval
    return replace(
        result,
        value=known(result.value),
        threshold=known(result.threshold),
        interval=band if band is not None and all(map(isfinite, band)) else None,
    )


def _facts(
    work: Work,
    staging: Staging,
    manifest: BundleManifest,
    store: Store,
    run: Run,
    number: int,
    champion: ModelVersion | None,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    test = _newest(work, work.sides.test)
    records = as_records(test.drop(work.label))
    progress(f"asking for {len(records):,} held-out predictions")
    scored = _scored(staging.predict(number, records), test, work, manifest)
    measured = measure_all(scored, manifest.signature.task)
    facts: dict[str, Any] = {
        "metrics": {**measured, **{metric.name: metric.value for metric in run.metrics}},
        "measured": measured,
        "champion": champion.version if champion else None,
        "comparison": {},
        "slices": {},
    }
    for gate in work.loop.gates:
        if isinstance(gate, BeatsChampion) and champion is not None and find_metric(gate.metric):
            theirs = _scored(staging.predict(champion.version, records), test, work, manifest)
            facts["comparison"][gate.metric] = compare(
                gate.metric, scored, theirs, confidence=gate.confidence, seed=work.loop.seed
            )
        elif isinstance(gate, SliceGap) and find_metric(gate.metric):
            groups = test[gate.column].cast(str).fill_null("(missing)").to_numpy()
            found = slice_gap(gate.metric, scored, groups, min_rows=gate.min_rows, seed=work.loop.seed)
            facts["slices"].setdefault(gate.column, {})[gate.metric] = found
        elif isinstance(gate, Latency):
            times = staging.latencies_ms(number, records[:200], _LATENCY_REQUESTS)
            facts["latency"] = {
                "p95_ms": float(np.quantile(times, 0.95)),
                "requests": len(times),
                "errors": 0,
            }
        elif isinstance(gate, NoSkew):
            facts["skew"] = _skew(staging, store, manifest, number, gate)
    return facts


def _newest(work: Work, test: pl.DataFrame) -> pl.DataFrame:
    time = work.source.time
    rows = test.sort(time) if time is not None else test
    return rows.tail(_ROWS)


def _scored(answers: list[dict[str, Any]], test: pl.DataFrame, work: Work, manifest: BundleManifest) -> Scored:
    classes = manifest.signature.classes
    values = np.asarray([answer["prediction"] for answer in answers])
    shares = None
    if classes and "probabilities" in answers[0]:
        names = [str(name) for name in classes]
        shares = np.asarray([[answer["probabilities"][name] for name in names] for answer in answers])
    labels = np.asarray(test[work.label].to_list())
    return Scored(labels, values, shares, classes)


def _skew(staging: Staging, store: Store, manifest: BundleManifest, number: int, gate: NoSkew) -> dict[str, Any]:
    """Training rows replayed over HTTP against what the model said of them in training."""
    kept = orjson.loads(store.blobs.get(manifest.reference["train_sample"]))
    answers = staging.predict(number, kept["records"][: gate.rows])
    differing, largest = 0, 0.0
    for answer, stored in zip(answers, kept["values"], strict=False):
        served = answer["prediction"]
        if isinstance(served, (int, float)) and isinstance(stored, (int, float)):
            difference = abs(served - stored)
            largest = max(largest, difference)
            differing += difference > gate.tolerance
        else:
            differing += served != stored
    return {"rows": len(answers), "differing": differing, "largest": largest}


def _custom(
    work: Work,
    step: Step,
    bundle: str,
    champion: ModelVersion | None,
    store: Store,
    facts: Mapping[str, Any],
) -> GateResult:
    """What a ``@loop.gate`` function says; one that raises fails with its reason."""
    digests_sides: Callable[[], Sides] = work.features(lambda _: None)[1]

    wanted = {given.name for given in step.inputs}
    extra: dict[str, Any] = {"metrics": dict(facts["metrics"])}
    if "model" in wanted:
        extra["model"] = load_model(store, bundle)
    if "champion" in wanted:
        extra["champion"] = load_model(store, champion.bundle) if champion else None
    try:
        return interpret(step.name, call(step, *work.given(step, digests_sides, extra), **knobs_of(step, work.params)))
    except StepError as error:
        # A gate that cannot decide does not let a model pass.
        return GateResult(step.name, Outcome.inconclusive, f"The gate could not decide: {error}")
