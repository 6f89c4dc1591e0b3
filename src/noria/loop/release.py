"""What follows a passed validation: the canary's steps, the promotion, the way back. Each is one step of a turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from noria.core.clock import Clock
from noria.deploy.rollout import current, serve_only, start_canary, start_shadow
from noria.deploy.rules import Canary
from noria.loop.lease import check as check_lease
from noria.loop.rollout import CanaryWatch, Look
from noria.loop.steps import Declaration
from noria.records import ModelVersion, Stage, Turn, TurnState
from noria.register import champion, move, promote, version
from noria.store.ports import Lease, Store, Transaction, Window

__all__ = ["Overtaken", "Release", "Step"]

_SHOWN_EVERY = timedelta(seconds=10)


class Overtaken(Exception):
    """What is deployed has changed since it was looked at: what was decided on it is void."""


class Step(msgspec.Struct, frozen=True):
    """One step of a turn.

    Attributes:
        to: the turn's next state.
        effects: what is recorded with it; returns the turn's changes.
        facts: for the audit entry.
        said: for a person.
    """

    to: TurnState
    effects: Callable[[Transaction], dict[str, Any]]
    facts: dict[str, Any]
    said: str


class Release:
    """Brings a loop's versions into service.

    Args:
        loop: as declared.
        store: where everything is kept.
        clock: the present.
        lease: checked before anything is written.
        live: whether traffic is being served, so that a canary can be judged.
    """

    def __init__(
        self, loop: Declaration, store: Store, clock: Clock, *, lease: Lease | None, live: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._store = store
        self._clock = clock
        self._lease = lease
        self._live = live
        self._watch = CanaryWatch(store)
        self._shown: Window | None = None

    def deploy(self, turn: Turn) -> Step:
        """Start the canary, as a shadow if that is wanted; or promote when there is nothing to compare with."""
        rollout = self._loop.deploy
        shares: tuple[float, ...] = rollout.shares if rollout is not None else ()
        shadow = rollout.shadow if isinstance(rollout, Canary) else None
        with self._store.ledger.read() as db:
            serving = champion(db, turn.loop)
        if serving is None:
            return self._promote(turn, "Passed its gates; it is the first.")
        if not shares and shadow is None:
            return self._promote(turn, "Passed its gates.")
        if not self._live():
            reason = "Passed its gates; no server was running, so there was no traffic for a canary."
            return self._promote(turn, reason)
        if shadow is not None:
            return self._start_shadow(turn, serving, str(shadow))
        said = f"version {turn.version} takes {shares[0]:g} % of traffic"
        return self._share(turn, 0, shares[0], said, "", lambda tx: None)

    def canary(self, turn: Turn) -> Step | None:
        """Widen, promote or roll back, by what the challenger's answers show; None: hold."""
        look = self._watch.look(self._loop, turn, self._clock.now())
        if look is None:
            return self._withdrawn(turn)
        sentence = look.decision.sentence
        if look.decision.action == "hold":
            self._show(look)
            return None
        if look.decision.action == "promote":
            return self._promote(turn, sentence, lambda tx: _as_seen(tx, look))
        if look.decision.action == "advance":
            step = (look.deployment.step or 0) + 1
            share = self._loop.deploy.shares[step]
            return self._share(turn, step, share, sentence, sentence, lambda tx: _as_seen(tx, look))
        return self._take_back(turn, look)

    # -- steps ------------------------------------------------------------------------------------------------

    def _start_shadow(self, turn: Turn, serving: ModelVersion, length: str) -> Step:
        said = f"shadow for {length}: asked along, what it says is recorded and never given"

        def effects(tx: Transaction) -> dict[str, Any]:
            challenger = move(tx, turn.loop, turn.version or 0, Stage.challenger, said)
            start_shadow(tx, serving, challenger, self._clock.now(), turn.id)
            return {}

        facts = {"version": turn.version, "shadow": length}
        return Step(TurnState.canary, effects, facts, f"version {turn.version} is a {said}")

    def _share(
        self, turn: Turn, step: int, share: float, said: str, why: str, first: Callable[[Transaction], None]
    ) -> Step:
        """A canary's percentage of traffic."""

        def effects(tx: Transaction) -> dict[str, Any]:
            first(tx)
            serving = champion(tx, turn.loop)
            assert serving is not None
            challenger = move(tx, turn.loop, turn.version or 0, Stage.challenger, f"canary at {share:g} %")
            start_canary(tx, serving, challenger, share, step, self._clock.now(), turn.id)
            return {}

        return Step(TurnState.canary, effects, {"version": turn.version, "percent": share, "why": why}, said)

    def _promote(self, turn: Turn, reason: str, first: Callable[[Transaction], None] = lambda tx: None) -> Step:
        def effects(tx: Transaction) -> dict[str, Any]:
            first(tx)
            now = self._clock.now()
            candidate = version(tx, turn.loop, turn.version or 0)
            if candidate.stage is Stage.awaiting_approval:
                move(tx, turn.loop, candidate.version, Stage.candidate, "approved")
            promoted = promote(tx, turn.loop, candidate.version, now, reason)
            if self._loop.deploy is not None:
                serve_only(tx, promoted, now, turn.id)
            return {"outcome": reason}

        facts = {"version": turn.version, "why": reason}
        return Step(TurnState.promoted, effects, facts, f"version {turn.version} is champion")

    def _take_back(self, turn: Turn, look: Look) -> Step:
        sentence = look.decision.sentence

        def effects(tx: Transaction) -> dict[str, Any]:
            _as_seen(tx, look)
            serving = champion(tx, turn.loop)
            assert serving is not None
            move(tx, turn.loop, turn.version or 0, Stage.rejected, sentence)
            serve_only(tx, serving, self._clock.now(), turn.id)
            return {"outcome": sentence}

        return Step(TurnState.rolled_back, effects, {"version": turn.version, "why": sentence}, sentence)

    def _withdrawn(self, turn: Turn) -> Step:
        """Somebody else ended the canary: a server whose model kept crashing, or a person."""
        with self._store.ledger.read() as db:
            challenger = version(db, turn.loop, turn.version or 0)
        why = "What is served was changed by somebody else while the canary was under way."
        if challenger.stage is Stage.rejected:
            why = f"{challenger.reason[:1].upper()}{challenger.reason[1:]}"

        def effects(tx: Transaction) -> dict[str, Any]:
            if version(tx, turn.loop, turn.version or 0).stage is Stage.challenger:
                move(tx, turn.loop, turn.version or 0, Stage.rejected, why)
            return {"outcome": why}

        return Step(TurnState.rolled_back, effects, {"version": turn.version, "why": why}, why)

    # -- what the pages show ----------------------------------------------------------------------------------

    def _show(self, look: Look) -> None:
        """Keep the numbers for the pages, when there are new ones, and not at every look."""
        window, shown = look.window, self._shown
        if shown is not None and shown.id == window.id and shown.rows:
            same = (shown.rows, shown.facts["champion"]) == (window.rows, window.facts["champion"])
            if same or window.end - shown.end < _SHOWN_EVERY:
                return

        def change(tx: Transaction) -> None:
            if self._lease is not None:
                check_lease(tx, self._lease)
            tx.put(window)

        self._store.ledger.write(change)
        self._shown = window


def _as_seen(tx: Transaction, look: Look) -> None:
    """Keep the numbers the decision was made on, if they are still those of what is deployed."""
    if current(tx, look.deployment.loop) != look.deployment:
        raise Overtaken
    tx.put(look.window)
