"""Garbage collection: deleted things go, with their space; what a model, a loop or an artifact needs stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from noria.records.registry import LoggedModel, RegisteredModel, RegisteredVersion
from noria.records.tracking import Point
from noria.store import Store, open_store
from noria.store.kinds import CacheEntry
from noria.store.tracking import Artifact
from noria.track import verbs
from noria.track.garbage import collect

NOW = datetime.now(UTC) + timedelta(days=400)
AT = 1_700_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


def run(store: Store, *, files: dict[str, bytes], deleted: int | None = AT) -> str:
    """A run with artifacts, deleted at a time."""
    info = store.tracking.write(lambda t: verbs.create_run(t, 0, AT))
    store.tracking.write(lambda t: t.log(info.id, points=[Point("m", 1.0, 1, 1)], params={"p": "1"}, tags={"t": "1"}))
    root = info.artifacts.removeprefix("mlflow-artifacts:/")
    for name, data in files.items():
        digest = store.blobs.put(data)
        store.tracking.write(
            lambda t, name=name, digest=digest, data=data: t.put_artifact(  # type: ignore[misc]
                Artifact(f"{root}/{name}", digest, len(data), AT)
            )
        )
    if deleted is not None:
        store.tracking.write(lambda t: verbs.delete_run(t, info.id, deleted))
    return info.id


def collected(store: Store, days: int = 30, **more: bool) -> object:
    return collect(store, NOW, timedelta(days=days), **more)


def test_a_deleted_run_goes_with_its_artifacts_and_their_space(store: Store) -> None:
    gone = run(store, files={"a": b"a" * 5_000, "deep/b": b"shared"})
    stays = run(store, files={"c": b"c", "d": b"shared"}, deleted=None)
    told = collect(store, NOW, timedelta(days=30), dry_run=True)
    assert (told.runs, told.artifacts) == (1, 2)
    done = collect(store, NOW, timedelta(days=30))
    assert (done.runs, done.artifacts, done.blobs, done.bytes) == (1, 2, 1, 5_000)
    with store.tracking.read() as reader:
        assert reader.run(gone) is None
        assert reader.run(stays) is not None
        assert [one.path.rpartition("/")[2] for one in reader.under("")] == ["c", "d"]
        assert all(store.blobs.has(one.digest) for one in reader.under(""))
    again = collect(store, NOW, timedelta(days=30))
    assert (again.runs, again.artifacts, again.blobs) == (0, 0, 0)


def test_what_was_deleted_lately_can_still_be_restored(store: Store) -> None:
    lately = run(store, files={"a": b"a"}, deleted=int((NOW - timedelta(days=3)).timestamp() * 1000))
    assert collect(store, NOW, timedelta(days=30)).runs == 0
    store.tracking.write(lambda t: verbs.restore_run(t, lately))
    assert collect(store, NOW, timedelta(days=1)).runs == 0
    with store.tracking.read() as reader:
        assert reader.run(lately) is not None


def test_a_registered_model_keeps_its_run_and_its_files(store: Store) -> None:
    needed = run(store, files={"model/weights": b"w"})
    version = RegisteredVersion(
        "m", 1, f"runs:/{needed}/model", f"mlflow-artifacts:/0/{needed}/artifacts/model", AT, AT
    )
    store.ledger.write(lambda tx: (tx.put(RegisteredModel("m", AT, AT)), tx.put(version)))  # type: ignore[func-returns-value]
    done = collect(store, NOW, timedelta(days=30))
    assert (done.runs, done.blobs) == (0, 0)
    assert done.kept == [f"run {needed}: version 1 of model 'm' was made by it"]
    with store.tracking.read() as reader:
        (kept,) = reader.under("")
    assert store.blobs.get(kept.digest) == b"w"


def test_a_deleted_logged_model_goes_unless_it_is_registered(store: Store) -> None:
    for name, deleted in (("m-a", AT), ("m-b", AT), ("m-c", None)):
        digest = store.blobs.put(name.encode())
        place = f"0/models/{name}/artifacts"
        model = LoggedModel(name, 0, name, f"mlflow-artifacts:/{place}", AT, AT, deleted=deleted)
        store.ledger.write(lambda tx, model=model: tx.put(model))  # type: ignore[misc]
        store.tracking.write(
            lambda t, place=place, digest=digest: t.put_artifact(Artifact(f"{place}/w", digest, 3, AT))  # type: ignore[misc]
        )
    version = RegisteredVersion("m", 1, "models:/m-b", "mlflow-artifacts:/0/models/m-b/artifacts", AT, AT, model="m-b")
    store.ledger.write(lambda tx: tx.put(version))
    done = collect(store, NOW, timedelta(days=30))
    assert (done.models, done.blobs) == (1, 1)
    with store.ledger.read() as db:
        assert sorted(model.id for model in db.list(LoggedModel)) == ["m-b", "m-c"]


def test_what_records_and_bundles_name_stays_however_deep(store: Store) -> None:
    weights = store.blobs.put(b"weights")
    listing = store.blobs.put(msgspec.json.encode({"files": {"w": weights}}))
    bundle = store.blobs.put(msgspec.json.encode({"bundle": listing}))
    loose = store.blobs.put(b"nobody needs this")
    entry = CacheEntry("k", "train", "l", datetime.now(UTC), {"bundle": bundle}, {}, 1.0)
    store.ledger.write(lambda tx: tx.put(entry))
    assert collect(store, NOW, timedelta(days=30)).blobs == 1
    assert [store.blobs.has(digest) for digest in (weights, listing, bundle, loose)] == [True, True, True, False]


def test_a_fresh_blob_is_left_alone(store: Store) -> None:
    loose = store.blobs.put(b"its record comes in a moment")
    collect(store, datetime.now(UTC), timedelta(days=30))
    assert store.blobs.has(loose)


def test_a_deleted_experiment_goes_when_it_is_empty(store: Store) -> None:
    number = store.tracking.write(lambda t: verbs.create_experiment(t, "e", AT))
    info = store.tracking.write(lambda t: verbs.create_run(t, number, AT))
    store.tracking.write(lambda t: verbs.delete_experiment(t, number, AT))
    done = collect(store, NOW, timedelta(days=30))
    assert (done.runs, done.experiments) == (1, 1)
    with store.tracking.read() as reader:
        assert reader.experiment(id=number) is None
        assert reader.info(info.id) is None


def test_the_file_shrinks(store: Store) -> None:
    info = store.tracking.write(lambda t: verbs.create_run(t, 0, AT))
    store.tracking.write(lambda t: t.log(info.id, points=[Point("m", i / 3, i, i) for i in range(50_000)]))
    store.tracking.write(lambda t: verbs.delete_run(t, info.id, AT))
    file = store.folder / "tracking.db"
    before = file.stat().st_size + (store.folder / "tracking.db-wal").stat().st_size
    collect(store, NOW, timedelta(days=30))
    assert file.stat().st_size < before / 5
