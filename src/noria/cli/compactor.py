"""Compacts a store's predictions, removes the old, and ends.

Run by the supervisors as ``python -m noria.cli.compactor STORE [AGE [SIZE]]``; an empty text is no limit.
"""

from __future__ import annotations

import os
import sys

from noria.errors import NoriaError


def main(folder: str, age: str = "", size: str = "") -> int:
    """Compact once; returns the exit status."""
    os.nice(10)  # answering comes first
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from noria.core.units import parse_duration, parse_size
    from noria.loop.clock import SystemClock
    from noria.store import open_store
    from noria.store.segments.compact import compact, retain
    from noria.store.segments.log import FolderPredictions

    try:
        store = open_store(folder, create=False)
        try:
            if isinstance(store.predictions, FolderPredictions):
                compact(store.predictions)
                if age or size:
                    before = SystemClock().now() - parse_duration(age) if age else None
                    retain(store.predictions, before=before, max_bytes=parse_size(size) if size else None)
        finally:
            store.close()
    except NoriaError as error:
        print(f"Error: predictions were not compacted: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
