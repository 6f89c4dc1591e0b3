"""Versions and aliases, inside a transaction of the caller's."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from noria.core.hashing import digest_json
from noria.errors import Conflict, NotFound
from noria.records import ModelVersion, Run, Stage, ValidationReport
from noria.store.ports import AliasRecord, Reader, Transaction


def version(db: Reader, loop: str, number: int) -> ModelVersion:
    """The model version.

    Raises:
        NotFound: says which versions there are.
    """
    found = db.find(ModelVersion, loop=loop, version=number)
    if found is None:
        count = db.count(ModelVersion, loop=loop)
        there = f"versions 1 to {count}" if count else "no versions yet"
        raise NotFound(f"Model '{loop}' has no version {number}; it has {there}.")
    return found


def alias(db: Reader, loop: str, name: str) -> ModelVersion | None:
    """The version an alias names, or None."""
    found = db.find(AliasRecord, loop=loop, alias=name)
    return version(db, loop, found.version) if found else None


def champion(db: Reader, loop: str) -> ModelVersion | None:
    """The version that serves, or None."""
    return alias(db, loop, "champion")


def register(
    tx: Transaction, run: Run, report: ValidationReport, now: datetime, *, stage: Stage, reason: str
) -> ModelVersion:
    """Give the run's bundle the loop's next version number.

    Args:
        tx: the caller's transaction.
        run: a run that left a bundle.
        report: what its gates said.
        now: stamps the version.
        reason: why it stands where it stands.
        stage: ``rejected`` when the report did not pass; else where the version waits.

    Raises:
        Conflict: the report did not pass and the stage is not ``rejected``, or the run has no bundle.
    """
    if not report.passed and stage is not Stage.rejected:
        raise Conflict(f"Run {run.id} did not pass its gates; it can only be registered as rejected.")
    if run.bundle is None:
        raise Conflict(f"Run {run.id} left no model bundle to register.")
    made = ModelVersion(
        loop=run.loop,
        version=tx.count(ModelVersion, loop=run.loop) + 1,
        created=now,
        run=run.id,
        bundle=run.bundle,
        model_digest=_model_digest(run),
        report=report.id,
        stage=stage,
        reason=reason,
    )
    tx.put(made)
    if stage is not Stage.rejected:
        tx.put(AliasRecord(loop=run.loop, alias="challenger", version=made.version, since=now))
    return made


def _model_digest(run: Run) -> str:
    """One digest for the weights, as the bundle's manifest has it: the run's files less those beside them."""
    beside = ("bundle.json", "compiled.onnx", "compiled.trees", "environment.txt", "git.diff")
    weights = {
        artifact.name: artifact.digest
        for artifact in run.artifacts
        if artifact.name not in beside and not artifact.name.startswith("code/")
    }
    return digest_json(weights)


def move(tx: Transaction, loop: str, number: int, stage: Stage, reason: str) -> ModelVersion:
    """Move a version to another stage of life (anything but champion: see :func:`promote`)."""
    if stage is Stage.champion:
        raise Conflict("Only promote() makes a champion.")
    moved = replace(version(tx, loop, number), stage=stage, reason=reason)
    tx.put(moved)
    if stage in (Stage.rejected, Stage.retired):
        tx.remove(AliasRecord, loop=loop, alias="challenger", version=number)
    return moved


def promote(tx: Transaction, loop: str, number: int, now: datetime, reason: str) -> ModelVersion:
    """Make the version champion; the champion so far retires.

    Raises:
        Conflict: its report did not pass, it was rejected, or it awaits a decision.
    """
    made = version(tx, loop, number)
    report = tx.find(ValidationReport, id=made.report)
    if report is None or not report.passed:
        raise Conflict(f"Version {number} of '{loop}' did not pass validation; it cannot be champion.")
    if made.stage in (Stage.rejected, Stage.awaiting_approval):
        raise Conflict(f"Version {number} of '{loop}' is {made.stage.value}; it cannot be champion.")
    former = champion(tx, loop)
    if former is not None and former.version != number:
        tx.put(replace(former, stage=Stage.retired, reason=f"succeeded by version {number}"))
    promoted = replace(made, stage=Stage.champion, reason=reason)
    tx.put(promoted)
    tx.put(AliasRecord(loop=loop, alias="champion", version=number, since=now))
    tx.remove(AliasRecord, loop=loop, alias="challenger", version=number)
    return promoted
