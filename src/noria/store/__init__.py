"""The ground: opens a store by its address and hands out its ports.

Takes a folder (``.noria/``); returns a :class:`Store` of ledger, blobs and prediction log; promises that what
was acknowledged is still there after a crash.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from noria.errors import StoreError
from noria.store.ports import Blobs, Store

__all__ = ["Store", "open_blobs", "open_store"]


_POSTGRES = ("postgresql://", "postgres://")


def open_blobs(folder: str | Path) -> Blobs:
    """Only the blobs of the store in ``folder``: all that a model process needs."""
    from noria.store.files import FolderBlobs

    return FolderBlobs(Path(folder) / "blobs")


def _blobs_at(address: str | Path) -> Blobs:
    if "://" in str(address):
        from noria.store.object_store import ObjectBlobs

        return ObjectBlobs(str(address))
    from noria.store.files import FolderBlobs

    return FolderBlobs(Path(address))


def open_store(
    address: str | Path, *, create: bool = True, blobs: str | Path | None = None, read_only: bool = False
) -> Store:
    """Open a store.

    Args:
        address: a folder, or ``postgresql://USER:PASSWORD@HOST/DATABASE``.
        create: make the folder if it is not there.
        blobs: where files are kept: a folder or ``s3://BUCKET/PREFIX``. In the store's folder by default; with
            PostgreSQL ``NORIA_BLOBS`` says it if this does not.
        read_only: nothing is going to be changed: a folder may lie where nothing can be written.

    Raises:
        StoreError: it is not a store, or cannot be used; says why.
        MissingExtra: an optional package is needed for it.
    """
    if str(address).startswith(_POSTGRES):
        return _open_postgres(str(address), blobs)
    return _open_folder(Path(address), create, blobs, read_only)


def _open_postgres(url: str, blobs: str | Path | None) -> Store:
    files = blobs or os.environ.get("NORIA_BLOBS")
    if not files:
        raise StoreError("A store in PostgreSQL needs a place for files: give --blobs FOLDER or s3://BUCKET/PREFIX.")
    from noria.store.postgres import open_ledger, open_predictions, open_tracking

    local = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "noria"
    with ExitStack() as opened:
        ledger = open_ledger(url)
        opened.callback(ledger.close)
        predictions = open_predictions(url)
        opened.callback(predictions.close)
        tracking = open_tracking(url)
        opened.callback(tracking.close)
        local.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = Store(ledger, _blobs_at(files), predictions, tracking, local)
        opened.pop_all()
    return found


def _open_folder(path: Path, create: bool, blobs: str | Path | None, read_only: bool) -> Store:
    from noria.store.files import store_error
    from noria.store.sqlite import open_ledger, open_predictions, open_tracking

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
        ledger=open_ledger(path / "ledger.db", read_only=read_only),
        blobs=_blobs_at(blobs or path / "blobs"),
        predictions=open_predictions(path / "predictions", read_only=read_only),
        tracking=open_tracking(path / "tracking.db", read_only=read_only),
        folder=path,
    )
