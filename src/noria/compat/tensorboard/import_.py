"""Reads event files into runs: each folder that holds some is a run, as in TensorBoard."""

from __future__ import annotations

import math
import posixpath
import re
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from noria.compat.moved import Moved, Report, same
from noria.compat.tensorboard.frames import frames
from noria.compat.tensorboard.messages import Event, Value, read_event
from noria.compat.tree import Tree
from noria.core.clock import Clock
from noria.core.hashing import digest_json
from noria.errors import NoriaError, NotFound, StoreError
from noria.records.tracking import ACTIVE, Point, RunInfo
from noria.store.ports import Store
from noria.store.tracking import Artifact, TrackingTransaction
from noria.track import verbs
from noria.track.artifacts import clean_path

__all__ = ["import_events"]

_EVENTS = "tfevents"
_FOLDER_TAG = "noria.tensorboard"
_PAUSE_SECONDS = 1.0
_BATCH = 20_000
_NOT_IN_KEYS = re.compile(r"[^/\w.\- :]")
_KINDS = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpg"), (b"GIF8", "gif"))


def import_events(
    folder: Path,
    store: Store,
    clock: Clock,
    *,
    experiment: str | None = None,
    follow: bool = False,
    dry_run: bool = False,
    report: Report = lambda done, of, what: None,
) -> Moved:
    """Bring over what is new in a folder of event files.

    Args:
        folder: where they are, at any depth; links in it are not followed.
        store: where to.
        clock: stamps what has no time of its own.
        experiment: the experiment's name; the folder's by default.
        follow: go on reading what is written, until interrupted.
        dry_run: count, and change nothing.
        report: told how far it is.

    Raises:
        NotFound: there are no event files, and none are waited for.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.")
    found = _Import(folder, store, clock, experiment or folder.resolve().name or "tensorboard", follow, dry_run, report)
    try:
        while True:
            found.look()
            if not follow:
                break
            time.sleep(_PAUSE_SECONDS)
    except KeyboardInterrupt:
        if not follow:
            raise
    return found.moved


class _Run:
    """What is known of one folder while it is read."""

    def __init__(self, id: str, name: str) -> None:
        self.id, self.name = id, name
        self.places: dict[str, int] = {}
        self.damaged: set[str] = set()
        self.known: set[tuple[str, int, int, float | None]] | None = None
        self.first = self.last = 0
        self.counted = False


class _Batch:
    """What was read and is not yet kept."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.params: dict[str, str] = {}
        self.files: list[tuple[str, bytes]] = []

    def __bool__(self) -> bool:
        return bool(self.points or self.params or self.files)


class _Import:
    def __init__(
        self, folder: Path, store: Store, clock: Clock, name: str, follow: bool, dry_run: bool, report: Report
    ) -> None:
        self._tree, self._folder, self._store, self._clock = Tree(folder), folder, store, clock
        self._name, self._follow, self._dry, self._report = name, follow, dry_run, report
        self._experiment: int | None = None
        self._runs: dict[str, _Run] = {}
        self._keys: dict[str, str | None] = {}
        self._tags: dict[str, str] = {}
        self.moved = Moved()

    def look(self) -> None:
        """Read what is new in every folder."""
        found: dict[str, list[tuple[str, int]]] = {}
        for path, size in self._tree.walk():
            if _EVENTS in posixpath.basename(path):
                found.setdefault(posixpath.dirname(path), []).append((path, size))
        if not found and not self._follow:
            raise NotFound(f"There are no event files in {self._folder}: their names hold '{_EVENTS}'.")
        for done, (name, files) in enumerate(sorted(found.items())):
            self._report(done, len(found), name or self._name)
            self._read(name, files)
        self._report(len(found), len(found), "")

    def _number(self) -> int:
        """The experiment's number, made when there is something to put into it."""
        if self._experiment is None:
            now = int(self._clock.now().timestamp() * 1000)

            def change(tx: TrackingTransaction) -> tuple[int, bool]:
                old = tx.experiment(name=self._name)
                return (old.id, False) if old else (verbs.create_experiment(tx, self._name, now), True)

            self._experiment, new = self._store.tracking.write(change)
            self.moved.experiments += new
        return self._experiment

    def _read(self, folder: str, files: list[tuple[str, int]]) -> None:
        run = self._runs.get(folder)
        if run is None:
            id = digest_json(["tensorboard", self._name, folder]).partition(":")[2][:32]
            run = self._runs[folder] = _Run(id, folder or self._folder.resolve().name)
        batch = _Batch()
        try:
            for path, size in files:
                if size > run.places.get(path, 0) and path not in run.damaged:
                    for event in self._events(run, path):
                        self._take(run, event, batch)
                        if len(batch.points) + len(batch.files) >= _BATCH:
                            self._keep(run, folder, batch)
                            batch = _Batch()
            self._keep(run, folder, batch)
        except StoreError:
            raise
        except NoriaError as error:
            self.moved.problem(f"Run {run.name[:80]!r}", error)
            run.damaged.update(path for path, _ in files)

    def _events(self, run: _Run, path: str) -> Iterator[Event]:
        """Events of a file that were not read yet; a record that is still being written waits."""
        try:
            with self._tree.open(path) as opened:
                opened.seek(run.places.get(path, 0))
                for record, place in frames(opened):
                    run.places[path] = place
                    yield read_event(record)
        except StoreError:
            raise
        except NoriaError as error:
            self.moved.problem(f"File {path[:200]!r}", error)
            run.damaged.add(path)

    def _take(self, run: _Run, event: Event, batch: _Batch) -> None:
        if not math.isfinite(event.at) or not 0 <= event.at < 2**53 / 1000:
            self.moved.problem(f"An event of run {run.name[:80]!r}", f"its time is {event.at}")
            return
        at = round(event.at * 1000)
        run.first = min(run.first or at, at)
        run.last = max(run.last, at)
        for value in event.values:
            if value.number is not None:
                key = self._key(value.tag)
                if key is not None:
                    batch.points.append(Point(key, value.number, at, event.step))
            elif value.hparams is not None:
                batch.params |= {
                    key: text for name, text in value.hparams.items() if (key := self._key(name)) is not None
                }
            else:
                batch.files.extend(self._files(value, event.step))

    def _key(self, tag: str) -> str | None:
        """A tag as the key of a metric: signs that no key has become ``_``."""
        if tag not in self._keys:
            key = "/".join(part for part in _NOT_IN_KEYS.sub("_", tag).split("/") if part not in ("", ".", ".."))
            try:
                verbs.check_key(key, "tag")
                other = self._tags.setdefault(key, tag)
                if other != tag:
                    raise NotFound(f"it would be {key!r}, as {other[:80]!r} is")
                self._keys[tag] = key
                if key != tag:
                    self.moved.note(f"Tag {tag[:80]!r} is the metric {key!r} here.")
            except NoriaError as error:
                self.moved.problem(f"Tag {tag[:80]!r}", error)
                self._keys[tag] = None
        return self._keys[tag]

    def _files(self, value: Value, step: int) -> Iterator[tuple[str, bytes]]:
        key = self._key(value.tag)
        if key is None:
            return
        if value.texts is not None:
            yield f"texts/{key}/{step}.txt", b"\n".join(value.texts)
        elif value.image:
            kind = next((kind for start, kind in _KINDS if value.image.startswith(start)), "bin")
            yield f"images/{key}/{step}.{kind}", value.image

    def _keep(self, run: _Run, folder: str, batch: _Batch) -> None:
        """Keep what was read: in one transaction, after its files."""
        with self._store.tracking.read() as reader:
            old = reader.run(run.id)
            if run.known is None:
                run.known = set()
                for newest in old.metrics if old else ():
                    run.known.update(same(point) for point in reader.history(run.id, newest.key))
        if old is not None and old.info.stage != ACTIVE:
            raise NotFound("it is deleted here: restore it, or have it removed for ever")
        points = list({same(one): one for one in batch.points if same(one) not in run.known}.values())
        verbs.check_points(points)
        params = {key: text for key, text in batch.params.items() if old is None or key not in old.params}
        logged = verbs.checked(params=list(params.items()))
        if self._dry:
            self._count(run, len(points), [(path, len(data)) for path, data in batch.files], old is None)
            return
        number = self._number()
        root = f"{number}/{run.id}/artifacts"
        files = self._kept(root, batch.files)
        now = RunInfo(
            id=run.id,
            experiment=number,
            name=run.name,
            user="",
            status="RUNNING" if self._follow else "FINISHED",
            stage=ACTIVE,
            started=run.first,
            ended=None if self._follow else run.last,
            artifacts=f"mlflow-artifacts:/{root}",
        )
        if old is not None:
            ended = None if now.ended is None else max(now.ended, old.info.ended or 0)
            now = replace(old.info, status=now.status, ended=ended)
        if old is not None and old.info == now and not (points or logged.params or files):
            return
        if run.last == 0 and not batch:
            return

        def change(tx: TrackingTransaction) -> None:
            if old is None:
                tx.add_run(now, {verbs.RUN_NAME: run.name, _FOLDER_TAG: folder or "."})
            else:
                tx.set_run(now)
            tx.log(run.id, points=points, params=logged.params)
            for file in files:
                tx.put_artifact(file)

        self._store.tracking.write(change)
        self._count(run, len(points), [(file.path, file.size) for file in files], old is None)

    def _kept(self, root: str, files: list[tuple[str, bytes]]) -> list[Artifact]:
        kept = []
        with self._store.tracking.read() as reader:
            for path, data in files:
                name = clean_path(f"{root}/{path}")
                digest = self._store.blobs.put(data)
                old = reader.artifact(name)
                if old is None or old.digest != digest:
                    kept.append(Artifact(name, digest, len(data), int(self._clock.now().timestamp() * 1000)))
        return kept

    def _count(self, run: _Run, points: int, files: list[tuple[str, int]], new: bool) -> None:
        if not run.counted and (new or points or files):
            run.counted = True
            self.moved.runs += 1
        self.moved.points += points
        self.moved.files += len(files)
        self.moved.bytes += sum(size for _, size in files)
