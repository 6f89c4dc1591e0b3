"""One controller a store: a lease with a fencing token, so that a controller that slept too long does nothing."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from noria.errors import Conflict
from noria.store.ports import Lease, Ledger, Reader, Transaction

_TTL = timedelta(seconds=30)
NAME = "controller"


def process_started(pid: int) -> float:
    """When a process of this host started, in clock ticks since boot; 0 when it is gone or cannot be told."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return 0.0


def _alive(lease: Lease) -> bool:
    """Whether the holder may still be at work: on this host its process tells, elsewhere its last renewal."""
    if lease.host != socket.gethostname():
        return True
    if not Path("/proc").exists():
        try:
            os.kill(lease.pid, 0)
        except OSError:
            return False
        return True
    return process_started(lease.pid) == lease.process_started


def holder(db: Reader, now: datetime, name: str = NAME) -> Lease | None:
    """Who holds the lease now, or None."""
    found = db.find(Lease, name=name)
    return found if found and found.expires > now and _alive(found) else None


def acquire(ledger: Ledger, now: datetime, purpose: str, name: str = NAME, address: str = "") -> Lease:
    """Take the lease.

    Raises:
        Conflict: another process holds it; names it.
    """

    def change(tx: Transaction) -> Lease:
        former = tx.find(Lease, name=name)
        if former is not None and former.expires > now and _alive(former):
            raise Conflict(
                f"This store is already looked after by process {former.pid} on {former.host} ({former.holder}). "
                "Stop it first, or use another store with --store."
            )
        taken = Lease(
            name=name,
            token=former.token + 1 if former else 1,
            holder=purpose,
            host=socket.gethostname(),
            pid=os.getpid(),
            process_started=process_started(os.getpid()),
            renewed=now,
            expires=now + _TTL,
            address=address,
        )
        tx.put(taken)
        return taken

    return ledger.write(change)


def check(tx: Transaction, lease: Lease) -> None:
    """Refuse to go on when the lease has passed to another holder.

    Raises:
        Conflict: it has.
    """
    present = tx.find(Lease, name=lease.name)
    if present is None or present.token != lease.token:
        raise Conflict("Another process has taken over this store; this one stops.")


def renew(ledger: Ledger, lease: Lease, now: datetime) -> Lease:
    """Hold the lease for another while."""

    def change(tx: Transaction) -> Lease:
        check(tx, lease)
        renewed = replace(lease, renewed=now, expires=now + _TTL)
        tx.put(renewed)
        return renewed

    return ledger.write(change)


def release(ledger: Ledger, lease: Lease) -> None:
    """Give the lease back; does nothing if it has passed on."""

    def change(tx: Transaction) -> None:
        present = tx.find(Lease, name=lease.name)
        if present is not None and present.token == lease.token:
            tx.put(replace(lease, expires=lease.renewed))

    ledger.write(change)
