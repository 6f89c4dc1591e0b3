"""A store that cannot be written for now: nothing is asked of a model whose answer could not be recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable

from noria.errors import StoreError

__all__ = ["Outage", "Unrecorded"]

_log = logging.getLogger("noria.serve")


class Unrecorded(StoreError):
    """Predictions cannot be recorded for now; ``cause`` says why, and is in the log."""

    def __init__(self, cause: StoreError) -> None:
        self.cause = cause
        super().__init__(str(cause))


class Outage:
    """Begins with the first prediction that cannot be recorded, ends when the store can be written again.

    Args:
        check: raises a `StoreError` while it cannot; None if nobody can tell: then there is no outage.
    """

    def __init__(self, check: Callable[[], None] | None) -> None:
        self._check = check
        self.cause: StoreError | None = None

    def met(self, error: StoreError) -> None:
        """A prediction could not be recorded."""
        if self.cause is None and self._check is not None:
            self.cause = error
            _log.error("predictions are refused until they can be recorded: %s", error)

    def look(self) -> None:
        """Find out whether it is over."""
        if self.cause is None or self._check is None:
            return
        try:
            self._check()
        except StoreError:
            return
        self.cause = None
        _log.warning("predictions are recorded again")
