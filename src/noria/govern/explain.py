"""Why a prediction was made: the chain from the answer back to data, code and people."""

from __future__ import annotations

import msgspec

from noria.errors import NotFound
from noria.records import BundleManifest, DatasetVersion, ModelVersion, Override, Run, Turn, ValidationReport
from noria.store.ports import Blobs, Label, Prediction, PredictionLog, Reader, Store


class Explanation(msgspec.Struct, frozen=True):
    """Everything behind one prediction.

    Attributes:
        overrides: what people decided instead, the newest, which holds, first.
        manifest: this and what follows is None only if its record is gone.
    """

    prediction: Prediction
    label: Label | None
    overrides: tuple[Override, ...]
    version: ModelVersion
    manifest: BundleManifest | None
    report: ValidationReport | None
    run: Run | None
    dataset: DatasetVersion | None
    turn: Turn | None


def _as_received(prediction: Prediction, manifest: BundleManifest) -> Prediction:
    """The prediction with whole numbers in columns of whole numbers: the log keeps a record's numbers as float64."""
    whole = {field.name for field in manifest.signature.inputs if "Int" in field.dtype}
    record = {
        name: int(value) if name in whole and isinstance(value, float) else value
        for name, value in prediction.record.items()
    }
    return msgspec.structs.replace(prediction, record=record)


def explain(store: Store, prediction: str) -> Explanation:
    """Trace a prediction by its id.

    Raises:
        NotFound: no such prediction.
    """
    with store.ledger.read() as db:
        return trace(db, store.predictions, store.blobs, prediction)


def trace(db: Reader, log: PredictionLog, blobs: Blobs, prediction: str) -> Explanation:
    """As `explain`, for who reads the ledger already.

    Raises:
        NotFound: no such prediction.
    """
    found, label = log.find(prediction)
    version = db.find(ModelVersion, loop=found.loop, version=found.version)
    if version is None:
        raise NotFound(f"Version {found.version} of '{found.loop}', which made it, is not in the ledger.")
    run = db.find(Run, id=version.run)
    dataset = db.find(DatasetVersion, loop=found.loop, id=run.dataset) if run and run.dataset else None
    report = db.find(ValidationReport, id=version.report)
    turn = db.find(Turn, id=run.turn) if run else None
    overrides = tuple(db.list(Override, prediction=prediction))
    manifest = None
    if blobs.has(version.bundle):
        manifest = msgspec.json.decode(blobs.get(version.bundle), type=BundleManifest)
        found = _as_received(found, manifest)
    return Explanation(found, label, overrides, version, manifest, report, run, dataset, turn)
