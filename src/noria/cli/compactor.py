"""Compacts a store's predictions and ends. Run by the supervisors as ``python -m noria.cli.compactor STORE``."""

from __future__ import annotations

import os
import sys

from noria.errors import NoriaError


def main(folder: str) -> int:
    """Compact once; returns the exit status."""
    os.nice(10)  # answering comes first
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from noria.store import open_store
    from noria.store.segments.compact import compact
    from noria.store.segments.log import FolderPredictions

    try:
        store = open_store(folder, create=False)
        try:
            if isinstance(store.predictions, FolderPredictions):
                compact(store.predictions)
        finally:
            store.close()
    except NoriaError as error:
        print(f"Error: predictions were not compacted: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
