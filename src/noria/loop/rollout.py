"""The facts of a canary: requests, errors and losses of challenger and champion since it began."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from noria.deploy.rollout import current
from noria.deploy.rules import CanaryDecision
from noria.errors import NotFound
from noria.loop.scoring import manifest_of
from noria.loop.steps import Declaration
from noria.monitor.losses import row_losses
from noria.records import BundleManifest, Deployment, Turn
from noria.register import champion, version
from noria.store.ports import Store

__all__ = ["canary_step"]


def canary_step(store: Store, loop: Declaration, turn: Turn, now: datetime) -> tuple[CanaryDecision, Deployment]:
    """What to do with the loop's canary now, and the deployment it was decided on."""
    with store.ledger.read() as db:
        deployment = current(db, turn.loop)
        serving = champion(db, turn.loop)
        challenger = version(db, turn.loop, turn.version or 0)
        began = _began(db.list(Deployment, loop=turn.loop, limit=50), turn.id)
    if deployment is None or serving is None or began is None:
        raise NotFound(f"The canary of turn {turn.number} of '{turn.loop}' has no deployment.")
    facts: dict[str, Any] = {
        "step": deployment.step or 0,
        "seconds_in_step": (now - deployment.since).total_seconds(),
        "requests_in_step": store.predictions.counts(turn.loop, deployment.since, challenger.version)[0],
    }
    # Errors are the same loss for both: the champion's cap.
    manifest = manifest_of(store.blobs, serving.bundle)
    for role, one in (("challenger", challenger), ("champion", serving)):
        requests, errors, _ = store.predictions.counts(turn.loop, began, one.version)
        facts[role] = {
            "requests": requests,
            "errors": errors,
            "loss": _loss(store, manifest, one.version, began),
        }
    decision: CanaryDecision = loop.deploy.decide(facts)
    return decision, deployment


def _began(deployments: list[Deployment], turn: str) -> datetime | None:
    """When the turn's first canary step came into force."""
    steps = [deployment.since for deployment in deployments if deployment.turn == turn and deployment.step is not None]
    return min(steps) if steps else None


def _loss(store: Store, manifest: BundleManifest, number: int, began: datetime) -> dict[str, float] | None:
    rows = [
        one
        for one in store.predictions.labelled(manifest.loop, version=number, since=began, limit=None)
        if one.prediction.at >= began
    ]
    if len(rows) < 2:
        return None
    signature = manifest.signature
    probabilities = [one.prediction.probabilities for one in rows]
    shares = np.asarray(probabilities) if all(p is not None for p in probabilities) else None
    losses = row_losses(
        signature.task,
        signature.classes,
        [one.value for one in rows],
        np.asarray([one.prediction.value for one in rows]),
        shares,
        manifest.reference.get("cap"),
    )
    return {"n": float(losses.size), "mean": float(losses.mean()), "variance": float(losses.var(ddof=1))}
