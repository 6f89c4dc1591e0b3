"""What is served, by which version, in which shares."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Route(msgspec.Struct, frozen=True):
    """One version's share of traffic.

    Attributes:
        version: model version.
        bundle: digest of its manifest.
        role: ``champion``, ``canary`` or ``shadow``.
        percent: share of requests, 0 to 100. A shadow's is the share it is asked along with, after the answer was
            given; nobody gets what it says, and it does not count in the 100 of the others.
    """

    version: int
    bundle: str
    role: str
    percent: float


class Deployment(msgspec.Struct, frozen=True):
    """The routes of one loop from ``since`` on. Shares add up to 100, a shadow's left out.

    Attributes:
        revision: grows by one with each change of the loop's deployment.
        step: index of the canary step in force, -1 while the challenger is a shadow, None outside a canary.
        turn: the turn that asked for it.
    """

    loop: str
    revision: int
    since: datetime
    routes: tuple[Route, ...]
    step: int | None = None
    turn: str | None = None

    def route(self, role: str) -> Route | None:
        """The route with this role, or None."""
        return next((route for route in self.routes if route.role == role), None)
