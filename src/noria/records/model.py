"""A registered model's version, its stage of life and the human decisions on it."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import msgspec


class Stage(str, Enum):
    """Where a version stands."""

    candidate = "candidate"  # registered, not yet decided
    awaiting_approval = "awaiting approval"
    challenger = "challenger"  # takes a share of live traffic
    champion = "champion"  # serves
    retired = "retired"  # was champion
    rejected = "rejected"  # by a gate, a person or its canary


class Decision(msgspec.Struct, frozen=True):
    """A person's yes or no to one version."""

    approved: bool
    by: str
    role: str
    at: datetime
    comment: str = ""


class ModelVersion(msgspec.Struct, frozen=True):
    """Version ``version`` (1..n, dense) of the registered model named as its loop."""

    loop: str
    version: int
    created: datetime
    run: str
    bundle: str
    model_digest: str
    report: str
    stage: Stage = Stage.candidate
    decision: Decision | None = None
    reason: str = ""  # why it stands where it stands
