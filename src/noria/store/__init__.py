"""The ground: opens a store by its address and hands out its ports.

Takes a folder (``.noria/``); returns a :class:`Store` of ledger, blobs and prediction log; promises that what
was acknowledged is still there after a crash.
"""

from __future__ import annotations

from pathlib import Path

from noria.errors import StoreError
from noria.store.ports import Blobs, Store

__all__ = ["Store", "open_blobs", "open_store"]


def open_blobs(folder: str | Path) -> Blobs:
    """Only the blobs of the store in ``folder``: all that a model process needs."""
    from noria.store.files import FolderBlobs

    return FolderBlobs(Path(folder) / "blobs")


def open_store(folder: str | Path, *, create: bool = True) -> Store:
    """Open the store in ``folder``.

    Args:
        folder: the store's folder.
        create: make it if it is not there.

    Raises:
        StoreError: the folder is not a store, or cannot be used; says why.
    """
    from noria.store.files import FolderBlobs, store_error
    from noria.store.sqlite import open_ledger, open_predictions, open_tracking

    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise StoreError(f"The store {path} is a file; give a folder with --store.")
    if not (path / "ledger.db").exists():
        if not create:
            raise StoreError(f"There is no store in {path}. Run 'noria turn' or 'noria up' first, or give --store.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store_error(error, f"create the store {path}") from error
    return Store(
        ledger=open_ledger(path / "ledger.db"),
        blobs=FolderBlobs(path / "blobs"),
        predictions=open_predictions(path / "predictions.db"),
        tracking=open_tracking(path / "tracking.db"),
        folder=path,
    )
