"""What flows between rooms: frozen values, each serialisable to JSON and back.

    DatasetVersion -> Run -> ValidationReport -> ModelVersion -> Deployment -> Alert -> RetrainRequest

A room takes one and returns the next. Times are timezone-aware UTC datetimes; durations are seconds;
digests are ``blake3:<hex>`` strings that name a blob.
"""

from __future__ import annotations

from noria.records.alert import Alert, RetrainRequest
from noria.records.bundle import MISSING_TEXT, BundleManifest, Compiled, Field, Signature
from noria.records.dataset import ColumnProfile, DatasetVersion, ExpectationReport, ExpectationResult, Profile
from noria.records.deployment import Deployment, Route
from noria.records.model import Decision, ModelVersion, Stage
from noria.records.override import Override
from noria.records.run import Artifact, Metric, Run, StepTrace
from noria.records.turn import AuditEntry, Turn, TurnState
from noria.records.validation import GateResult, Outcome, ValidationReport

__all__ = [
    "MISSING_TEXT",
    "Alert",
    "Artifact",
    "AuditEntry",
    "BundleManifest",
    "ColumnProfile",
    "Compiled",
    "DatasetVersion",
    "Decision",
    "Deployment",
    "ExpectationReport",
    "ExpectationResult",
    "Field",
    "GateResult",
    "Metric",
    "ModelVersion",
    "Outcome",
    "Override",
    "Profile",
    "RetrainRequest",
    "Route",
    "Run",
    "Signature",
    "Stage",
    "StepTrace",
    "Turn",
    "TurnState",
    "ValidationReport",
]
