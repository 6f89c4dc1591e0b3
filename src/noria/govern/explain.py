"""Why a prediction was made: the chain from the answer back to data, code and people."""

from __future__ import annotations

import msgspec

from noria.errors import NotFound
from noria.records import BundleManifest, DatasetVersion, ModelVersion, Run, Turn, ValidationReport
from noria.store.ports import Label, Prediction, Store


class Explanation(msgspec.Struct, frozen=True):
    """Everything behind one prediction. ``manifest`` and later are None only if their record is gone."""

    prediction: Prediction
    label: Label | None
    version: ModelVersion
    manifest: BundleManifest | None
    report: ValidationReport | None
    run: Run | None
    dataset: DatasetVersion | None
    turn: Turn | None


def explain(store: Store, prediction: str) -> Explanation:
    """Trace a prediction by its id.

    Raises:
        NotFound: no such prediction.
    """
    found, label = store.predictions.find(prediction)
    with store.ledger.read() as db:
        version = db.find(ModelVersion, loop=found.loop, version=found.version)
        if version is None:
            raise NotFound(f"Version {found.version} of '{found.loop}', which made it, is not in the ledger.")
        run = db.find(Run, id=version.run)
        dataset = db.find(DatasetVersion, loop=found.loop, id=run.dataset) if run and run.dataset else None
        report = db.find(ValidationReport, id=version.report)
        turn = db.find(Turn, id=run.turn) if run else None
    manifest = None
    if store.blobs.has(version.bundle):
        manifest = msgspec.json.decode(store.blobs.get(version.bundle), type=BundleManifest)
    return Explanation(found, label, version, manifest, report, run, dataset, turn)
