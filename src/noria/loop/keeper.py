"""Holds the controller's lease while work goes on, whatever the work."""

from __future__ import annotations

import threading
from datetime import datetime
from types import TracebackType

from noria.errors import NoriaError
from noria.loop.clock import SystemClock
from noria.loop.lease import acquire, release, renew
from noria.store.ports import Lease, Ledger

__all__ = ["LeaseKeeper"]

_RENEW_SECONDS = 10.0


class LeaseKeeper:
    """Takes the lease, renews it in the background, gives it back.

    Leases run on the machine's clock whatever clock the loop uses: they are about processes.

    Raises:
        Conflict: on entering, when another process holds it.
    """

    def __init__(self, ledger: Ledger, purpose: str, address: str = "") -> None:
        self._ledger = ledger
        self._purpose = purpose
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.lost = ""

    def _now(self) -> datetime:
        return SystemClock().now()

    def __enter__(self) -> LeaseKeeper:
        self.lease: Lease = acquire(self._ledger, self._now(), self._purpose, address=self._address)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if not self.lost:
            release(self._ledger, self.lease)

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            try:
                self.lease = renew(self._ledger, self.lease, self._now())
            except NoriaError as error:
                self.lost = str(error)  # the next transaction of the work is refused by the fencing token
                return
