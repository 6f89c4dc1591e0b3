"""Who must say yes before a version may serve, declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from noria.core.canonical import BY_NAME
from noria.core.policy import Policy, wants_duration, wants_name
from noria.core.units import Duration

__all__ = ["Approval"]


@dataclass(frozen=True, slots=True)
class Approval(Policy):
    """A person with ``role`` must approve each challenger.

    Without an answer ``within`` that time it is rejected; None waits for ever.

    Example:
        ``Approval(role="risk-officer", within="3d")``
    """

    role: str = field(metadata=BY_NAME)
    within: Duration | None = None

    def problems(self) -> Iterator[str]:
        """One sentence for each argument that cannot be right."""
        yield from wants_name("role", self.role)
        yield from wants_duration("within", self.within, optional=True, zero=False)
