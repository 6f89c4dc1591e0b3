"""Compacts a store's predictions, removes the old, and ends.

Run by the supervisors as ``python -m noria.cli.compactor STORE [AGE [SIZE]]``; an empty text is no limit.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from noria.cli.compaction import Retention
from noria.errors import NoriaError

if TYPE_CHECKING:
    from noria.store.segments.log import FolderPredictions


def remove_old(log: FolderPredictions, retention: Retention, *, dry_run: bool = False) -> int:
    """Remove what is to be kept no longer; returns how many predictions. What is not compacted is kept."""
    from noria.core.units import parse_duration, parse_size
    from noria.loop.clock import SystemClock
    from noria.store.segments.compact import retain

    before = SystemClock().now() - parse_duration(retention.age) if retention.age is not None else None
    most = parse_size(retention.size) if retention.size is not None else None
    return retain(log, before=before, max_bytes=most, dry_run=dry_run) if any(retention) else 0


def main(folder: str, age: str = "", size: str = "") -> int:
    """Compact once; returns the exit status."""
    os.nice(19)  # answering comes first
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from noria.store import open_store
    from noria.store.segments.compact import compact
    from noria.store.segments.log import FolderPredictions

    try:
        store = open_store(folder, create=False)
        try:
            if isinstance(store.predictions, FolderPredictions):
                try:
                    compact(store.predictions)
                finally:  # on a full disk above all
                    remove_old(store.predictions, Retention(age or None, size or None))
        finally:
            store.close()
    except NoriaError as error:
        print(f"Error: predictions were not compacted: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
