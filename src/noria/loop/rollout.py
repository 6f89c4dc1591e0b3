"""A canary's way: the facts of challenger and champion since it began, and what they decide."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from noria.deploy.evidence import KIND, canary_window
from noria.deploy.harm import latency_facts
from noria.deploy.rollout import SHADOW_STEP, current
from noria.deploy.rules import CanaryDecision
from noria.errors import NotFound
from noria.loop.answers import Answers
from noria.loop.scoring import manifest_of
from noria.loop.steps import Declaration
from noria.records import Deployment, Turn
from noria.register import champion, version
from noria.store.ports import Reader, Store, Window

__all__ = ["CanaryWatch", "Look"]


class Look(msgspec.Struct, frozen=True):
    """What was seen of a canary and what follows.

    Attributes:
        deployment: the one it was decided on; a change of it makes the decision void.
        window: the numbers, as they are kept and shown.
    """

    decision: CanaryDecision
    deployment: Deployment
    window: Window


class CanaryWatch:
    """Looks at a loop's canaries, one after another.

    Args:
        store: where everything is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = ""
        self._answers: Answers | None = None

    def look(self, loop: Declaration, turn: Turn, now: datetime) -> Look | None:
        """What to do with the turn's canary now; None when what is deployed is no longer this canary.

        Raises:
            NotFound: the canary has no deployment.
        """
        with self._store.ledger.read() as db:
            deployment = current(db, turn.loop)
            serving = champion(db, turn.loop)
            challenger = version(db, turn.loop, turn.version or 0)
            began = _began(db, turn)
        if deployment is None or serving is None or began is None:
            raise NotFound(f"The canary of turn {turn.number} of '{turn.loop}' has no deployment.")
        if deployment.turn != turn.id or deployment.step is None:
            return None
        answers = self._read(turn, serving.bundle, challenger.version, began)
        log, shadow = self._store.predictions, deployment.step == SHADOW_STEP
        losses = answers.losses(serving.version)
        facts: dict[str, Any] = {
            "step": deployment.step,
            "seconds_in_step": (now - deployment.since).total_seconds(),
            "requests_in_step": log.counts(turn.loop, deployment.since, challenger.version)[0],
            "agreement": {"compared": answers.compared, "agreed": answers.agreed},
        }
        roles = (("challenger", challenger.version, "shadow" if shadow else "canary"),
                 ("champion", serving.version, "champion"))  # fmt: skip
        for role, number, route in roles:
            requests, errors, _ = log.counts(turn.loop, began, number)
            facts[role] = {
                "version": number,
                "requests": requests,
                "errors": errors,
                "latency_ms": latency_facts(answers.latencies_ms(number, route)),
                "loss": losses[role],
            }
        decision: CanaryDecision = loop.deploy.decide(facts)
        return Look(decision, deployment, _window(turn, deployment, facts, decision, now))

    def _read(self, turn: Turn, bundle: str, challenger: int, began: datetime) -> Answers:
        if self._answers is None or self._turn != turn.id:
            manifest = manifest_of(self._store.blobs, bundle)
            self._turn = turn.id
            self._answers = Answers(self._store.predictions, manifest, challenger, began)
        self._answers.read()
        return self._answers


def _window(
    turn: Turn, deployment: Deployment, facts: dict[str, Any], decision: CanaryDecision, now: datetime
) -> Window:
    challenger = deployment.route("canary") or deployment.route("shadow") or deployment.routes[-1]
    step = deployment.step or 0
    kept = {
        **facts,
        "turn": turn.id,
        "percent": 0.0 if step == SHADOW_STEP else challenger.percent,
        "action": decision.action,
        "sentence": decision.sentence,
    }
    requests = facts["requests_in_step"]
    name, since = canary_window(turn.id, step), deployment.since
    return Window(name, turn.loop, challenger.version, KIND, since, now, requests, kept)


def _began(db: Reader, turn: Turn) -> datetime | None:
    """When the turn's canary came into force, as a shadow or at its first percentage."""
    deployments = db.list(Deployment, loop=turn.loop, limit=50)
    steps = [one.since for one in deployments if one.turn == turn.id and one.step is not None]
    return min(steps) if steps else None
