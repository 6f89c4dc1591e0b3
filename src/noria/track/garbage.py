"""Garbage collection: what was deleted long enough ago goes for ever, and its space is freed; no model loses anything.

A blob stays while any record of the ledger, any artifact, or a blob that stays (a bundle names its files) names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from noria.errors import NotFound
from noria.records.registry import LoggedModel, RegisteredVersion
from noria.records.tracking import DELETED
from noria.store.ports import Blobs, Store

__all__ = ["Collected", "collect"]

_DIGEST = re.compile(rb"blake3:[0-9a-f]{64}")
_MOST_LISTING = 16 * 2**20  # no manifest is larger
_FRESH = timedelta(days=1)
_UPLOADS = "\x01uploads"
_PROXY = "mlflow-artifacts:/"


class Collected(msgspec.Struct):
    """What was removed (or would be), and what was kept though it was deleted, with the reason."""

    runs: int = 0
    experiments: int = 0
    models: int = 0
    artifacts: int = 0
    blobs: int = 0
    bytes: int = 0
    kept: list[str] = []


def collect(store: Store, now: datetime, older_than: timedelta, *, dry_run: bool = False) -> Collected:
    """Remove what was deleted before ``now - older_than``.

    Args:
        store: where.
        now: the time.
        older_than: how long deleted things can still be restored. Less than a day must only be given while nobody
            writes to the store: a blob is there a moment before the record that names it.
        dry_run: only say what would be removed.

    Raises:
        StoreError: the store cannot be written; what is removed by then stays removed, and nothing else is touched.
    """
    done = Collected()
    before = int((now - older_than).timestamp() * 1000)
    fresh = now - min(_FRESH, older_than)
    with store.ledger.read() as db:
        versions = db.list(RegisteredVersion)
        models = db.list(LoggedModel)
    with store.tracking.read() as reader:
        runs = reader.deleted_runs(before)
        deleted = [one for one in reader.experiments([DELETED]) if one.id != 0 and one.updated < before]
    gone, places = [], []
    for run in runs:
        needs = next((v for v in versions if v.run == run.id or run.id in v.location or run.id in v.source), None)
        if needs is not None:
            done.kept.append(f"run {run.id}: version {needs.version} of model '{needs.name}' was made by it")
            continue
        gone.append(run.id)
        if run.artifacts.startswith(_PROXY):
            places.append(run.artifacts.removeprefix(_PROXY))
    old_models = []
    for model in models:
        if model.deleted is None or model.deleted >= before:
            continue
        user = next((v for v in versions if v.model == model.id or model.id in v.location), None)
        if user is not None:
            done.kept.append(f"model {model.id}: version {user.version} of model '{user.name}' is it")
            continue
        old_models.append(model)
        if model.artifacts.startswith(_PROXY):
            places.append(model.artifacts.removeprefix(_PROXY))
    with store.tracking.read() as reader:
        day = int(fresh.timestamp() * 1000)
        places += [f"{_UPLOADS}/{name}" for name, _ in reader.folder(_UPLOADS)
                   if all(part.created < day for part in reader.under(f"{_UPLOADS}/{name}"))]  # fmt: skip
        artifacts = [one for place in places for one in reader.under(place)]
    done.runs, done.models, done.artifacts = len(gone), len(old_models), len(artifacts)
    if not dry_run:
        for start in range(0, len(gone), 100):
            some = gone[start : start + 100]
            store.tracking.write(lambda t, some=some: t.purge(some))  # type: ignore[misc]
        for place in places:
            store.tracking.write(lambda t, place=place: t.remove_artifacts(place))  # type: ignore[misc]
        for model in old_models:
            store.ledger.write(lambda tx, model=model: tx.remove(LoggedModel, id=model.id))  # type: ignore[misc]
        living = {model.experiment for model in models if model not in old_models}
        emptied = [one.id for one in deleted if one.id not in living]
        done.experiments = store.tracking.write(lambda t: t.purge_experiments(emptied))
    leaving = {one.digest for one in artifacts} if dry_run else set()
    done.blobs, done.bytes = _sweep(store, fresh, leaving, places if dry_run else (), dry_run)
    if not dry_run and (done.runs or done.artifacts):
        store.tracking.compact()
    return done


def _sweep(
    store: Store, unless_since: datetime, leaving: set[str], places: Iterable[str], dry_run: bool
) -> tuple[int, int]:
    """Remove blobs that nothing names; returns how many, and their bytes."""
    with store.ledger.read() as db:
        named = db.digests()
    starts = tuple(f"{place}/" for place in places)
    with store.tracking.read() as reader:
        named.update(one.digest for one in reader.under("") if not (starts and one.path.startswith(starts)))
    needed = _reached(store.blobs, named)
    count = size = 0
    for digest in list(store.blobs.digests()):
        if digest in needed:
            continue
        if dry_run:
            if digest in leaving:
                count, size = count + 1, size + store.blobs.size(digest)
            continue
        freed = store.blobs.remove(digest, unless_since)
        if freed:
            count, size = count + 1, size + freed
    return count, size


def _reached(blobs: Blobs, named: set[str]) -> set[str]:
    """These blobs, and those that they name."""
    reached, open_ = set(named), list(named)
    while open_:
        digest = open_.pop()
        try:
            if blobs.size(digest) > _MOST_LISTING:
                continue
            text = blobs.get(digest)
        except NotFound:
            continue
        for match in _DIGEST.findall(text):
            found = match.decode()
            if found not in reached:
                reached.add(found)
                open_.append(found)
    return reached
