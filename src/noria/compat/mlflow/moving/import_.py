"""Brings what a source holds into a store: each run whole, in one transaction, after its files are kept and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from noria.compat.mlflow.moving.places import Places
from noria.compat.mlflow.moving.source import Files, Owner, Registered, Source, local_path
from noria.compat.moved import Moved, Report, distinct, same
from noria.core.clock import Clock
from noria.core.hashing import Hasher
from noria.core.nearest import suggest
from noria.errors import Conflict, DataError, NoriaError, NotFound, StoreError
from noria.records.registry import LoggedModel, RegisteredVersion
from noria.records.tracking import ACTIVE, DELETED, RUN_STATUSES, Experiment, ModelPoint, Point, TrackedRun
from noria.register import registry
from noria.store.ports import Store, Transaction
from noria.store.tracking import Artifact, TrackingTransaction
from noria.track import verbs
from noria.track.artifacts import clean_path

__all__ = ["import_source"]

BY = "noria import"
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_ENDED = frozenset(("FINISHED", "FAILED", "KILLED"))
_MOST_ID = 10**18 - 10**6
_PIECE = 1 << 20


def import_source(
    source: Source,
    store: Store,
    clock: Clock,
    *,
    experiment: str | None = None,
    dry_run: bool = False,
    report: Report = lambda done, of, what: None,
) -> Moved:
    """Bring over what is new in a source.

    Args:
        source: where from.
        store: where to.
        clock: stamps what has no time of its own.
        experiment: only the experiment of this name, and the versions registered from its runs.
        dry_run: count, and change nothing.
        report: told how far it is.

    Raises:
        NotFound: there is no such experiment.
    """
    return _Import(source, store, clock, dry_run, report).all(experiment)


class _Import:
    def __init__(self, source: Source, store: Store, clock: Clock, dry_run: bool, report: Report) -> None:
        self._source, self._store, self._clock = source, store, clock
        self._dry, self._report = dry_run, report
        self._moved = Moved()
        self._done = 0
        self._of: int | None = 0
        self._places = Places()
        self._ids: set[str] = set()
        self._unfound = 0

    def all(self, only: str | None) -> Moved:
        """Everything, or one experiment."""
        experiments = self._source.experiments()
        if only is not None:
            names = [one.name for one in experiments]
            experiments = [one for one in experiments if one.name == only]
            if not experiments:
                raise NotFound(f"There is no experiment '{only[:80]}' there. {suggest(only, names)}")
        for one in experiments:
            count = self._source.count(one.id)
            self._of = None if count is None or self._of is None else self._of + count
        for one in experiments:
            self._report(self._done, self._of, one.name)
            try:
                number = self._experiment(one)
            except (StoreError, NotFound):
                raise
            except NoriaError as error:
                self._moved.problem(f"Experiment {one.name[:80]!r}", error)
                continue
            self._models(one, number)
            self._runs(one, number)
        for registered in self._source.registry():
            self._registered(registered, only is not None)
        self._conclude()
        return self._moved

    def _conclude(self) -> None:
        moved = self._moved
        if self._unfound and not moved.files:
            moved.note(
                f"{self._unfound} runs and models have no files where they say. If the files are elsewhere, say where: "
                "--artifacts DIR."
            )
        if moved.apart:
            moved.note(f"{moved.apart} runs and models keep their files where they are: they were not copied.")
        changed = moved.experiments + moved.runs + moved.logged_models + moved.versions
        if changed and not self._dry:
            now = self._clock.now()
            facts = {name: getattr(moved, name) for name in ("experiments", "runs", "points", "files", "versions")}
            self._store.ledger.write(lambda tx: tx.audit(now, BY, "imported from MLflow", "tracking", **facts))

    # Experiments

    def _experiment(self, found: Experiment) -> int:
        """The experiment's number here; -1 if it is not here and nothing is to change."""
        if found.stage not in (ACTIVE, DELETED):
            raise DataError(f"its stage is {found.stage[:80]!r}")
        for key, value in found.tags.items():
            verbs.check_experiment_tag(key, value)
        with self._store.tracking.read() as reader:
            old = reader.experiment(name=found.name)
            taken = reader.experiment(id=found.id) is not None
        if old is not None:
            tags = {key: value for key, value in found.tags.items() if old.tags.get(key) != value}
            if tags and not self._dry:
                self._store.tracking.write(lambda tx: tx.tag_experiment(old.id, tags))
            return old.id
        self._moved.experiments += 1
        if self._dry:
            return -1
        number = None if taken or not 0 <= found.id < _MOST_ID else found.id

        def change(tx: TrackingTransaction) -> int:
            made = verbs.create_experiment(tx, found.name, found.created, tags=found.tags, id=number)
            tx.set_experiment(made, found.updated, stage=found.stage)
            return made

        return self._store.tracking.write(change)

    # Files

    def _files(self, owner: Owner, root: str, settled: bool) -> tuple[list[Artifact], bool]:
        """Files of a run or model, kept as blobs and checked; and whether the files are within reach at all."""
        found = self._source.files(owner)
        if found is None:
            if local_path(owner.uri) is None and not owner.uri.startswith("mlflow-artifacts:"):
                self._moved.apart += bool(owner.uri)
                return [], not owner.uri
            self._unfound += 1
            return [], True
        brought = []
        with self._store.tracking.read() as reader:
            kept = {one.path: one for one in reader.under(root)}
        for path, size in found.walk():
            try:
                artifact = self._file(found, path, size, root, kept, settled)
            except StoreError:
                raise
            except NoriaError as error:
                self._moved.problem(f"File {path[:200]!r} of {owner.kind} {owner.id}", error)
                continue
            if artifact is not None:
                brought.append(artifact)
        return brought, True

    def _file(
        self, files: Files, path: str, size: int, root: str, kept: dict[str, Artifact], settled: bool
    ) -> Artifact | None:
        name = clean_path(f"{root}/{path}")
        old = kept.get(name)
        if old is not None and old.size == size and (settled or self._dry):
            return None
        if self._dry:
            self._counted(size)
            return None
        if old is not None and old.size == size and not self._source.remote:
            read = Hasher()
            with files.open(path) as opened:
                while piece := opened.read(_PIECE):
                    read.update(piece)
            if read.digest() == old.digest:
                return None
        digest, size = self._kept(files, path)
        if old is not None and (old.digest, old.size) == (digest, size):
            return None
        self._counted(size)
        return Artifact(name, digest, size, int(self._clock.now().timestamp() * 1000))

    def _kept(self, files: Files, path: str) -> tuple[str, int]:
        """Copy a file to a blob, and read the copy again."""
        read = Hasher()
        writer = self._store.blobs.writer()
        try:
            with files.open(path) as opened:
                while piece := opened.read(_PIECE):
                    read.update(piece)
                    writer.write(piece)
        except BaseException:
            writer.abort()
            raise
        digest, size = writer.commit()
        if digest != read.digest():
            raise DataError("the copy is not what was read")
        for _ in self._store.blobs.read(digest):
            pass  # a blob is checked as it is read
        return digest, size

    def _counted(self, size: int) -> None:
        self._moved.files += 1
        self._moved.bytes += size

    # Runs

    def _runs(self, found: Experiment, number: int) -> None:
        for run in self._source.runs(found.id):
            self._done += 1
            if isinstance(run, NoriaError):
                self._moved.problem(f"A run of {found.name[:80]!r}", run)
                continue
            self._report(self._done, self._of, f"{found.name} · {run.info.name}")
            try:
                self._run(run, number)
            except StoreError:
                raise
            except NoriaError as error:
                self._moved.problem(f"Run {run.info.id[:80]}", error)

    def _run(self, run: TrackedRun, experiment: int) -> None:
        info = run.info
        if info.status not in RUN_STATUSES or info.stage not in (ACTIVE, DELETED):
            raise DataError(f"its status is {info.status[:80]!r}, its stage {info.stage[:80]!r}")
        verbs.check_text(info.name, "run_name")
        verbs.check_text(info.user, "user_id")
        with self._store.tracking.read() as reader:
            try:
                verbs.run_of(reader, info.id)
                old = reader.run(info.id)
            except NotFound:
                old = None
        if old is not None and old.info.experiment != experiment:
            raise Conflict(f"it is in experiment {old.info.experiment} here already")
        root = f"{experiment}/{info.id}/artifacts"
        settled = old is not None and self._source.remote and _settled(old, run)
        owner = Owner("run", info.id, run.info.experiment, info.artifacts)
        files, reached = self._files(owner, root, settled)
        address = f"mlflow-artifacts:/{root}" if reached else info.artifacts
        if reached:
            self._places.note(owner.uri, old.info.artifacts if old else address)
        self._ids.add(info.id)
        points = [] if settled else distinct(self._source.points(run))
        if old is not None:
            points = self._new_points(info.id, points)
        logged = verbs.checked(points, list(run.params.items()), list(run.tags.items()))
        self._cut(run)
        deleted = (info.deleted or int(self._clock.now().timestamp() * 1000)) if info.stage == DELETED else None
        info = replace(info, experiment=experiment, artifacts=address, deleted=deleted)
        if old is not None:
            stays = old.info.stage == DELETED  # what was deleted here is not brought back
            info = replace(
                info,
                artifacts=old.info.artifacts,
                stage=DELETED if stays else info.stage,
                deleted=old.info.deleted if stays else deleted,
            )
        tags = {key: value for key, value in logged.tags.items() if old is None or old.tags.get(key) != value}
        params = {key: value for key, value in logged.params.items() if old is None or old.params.get(key) != value}
        inputs = [one for one in run.inputs if old is None or one not in old.inputs]
        links = [one for one in run.models if old is None or one not in old.models]
        if old is not None and info == old.info and not (points or tags or params or inputs or links or files):
            self._moved.unchanged += 1
            return
        self._moved.runs += 1
        self._moved.points += len(points)
        if self._dry:
            return

        def change(tx: TrackingTransaction) -> None:
            if old is None:
                tx.add_run(info, {})
            else:
                tx.set_run(info)
            tx.log(info.id, points=points, params=params, tags=tags)
            tx.add_inputs(info.id, inputs)
            tx.link_models(info.id, links)
            for artifact in files:
                tx.put_artifact(artifact)

        self._store.tracking.write(change)

    def _new_points(self, run: str, points: Sequence[Point]) -> list[Point]:
        with self._store.tracking.read() as reader:
            known = {same(point) for key in {one.key for one in points} for point in reader.history(run, key)}
        return [point for point in points if same(point) not in known]

    def _cut(self, run: TrackedRun) -> None:
        for what, values, most in (
            ("Param", run.params, verbs.MAX_PARAM_VALUE),
            ("Tag", run.tags, verbs.MAX_TAG_VALUE),
        ):
            for key, value in values.items():
                if len(value) > most:
                    self._moved.problem(f"{what} {key[:80]!r} of run {run.info.id}", f"cut after {most} characters")

    # Models

    def _models(self, found: Experiment, number: int) -> None:
        try:
            for model, points in self._source.logged_models(found.id):
                try:
                    self._model(model, points, number)
                except StoreError:
                    raise
                except NoriaError as error:
                    self._moved.problem(f"Logged model {model.id[:80]}", error)
        except StoreError:
            raise
        except NoriaError as error:
            self._moved.problem(f"The logged models of {found.name[:80]!r}", error)

    def _model(self, model: LoggedModel, points: list[tuple[ModelPoint, str]], experiment: int) -> None:
        if not _MODEL_ID.fullmatch(model.id):
            raise DataError("its id is not m- and 32 hexadecimal characters")
        verbs.checked([point.point for point, _ in points], list(model.params.items()), list(model.tags.items()))
        with self._store.ledger.read() as db:
            old = db.find(LoggedModel, id=model.id)
        if old is not None and old.experiment != experiment:
            raise Conflict(f"it is in experiment {old.experiment} here already")
        settled = old is not None and self._source.remote and old.updated == model.updated
        root = f"{experiment}/models/{model.id}/artifacts"
        owner = Owner("model", model.id, model.experiment, model.artifacts)
        files, reached = self._files(owner, root, settled)
        address = old.artifacts if old else f"mlflow-artifacts:/{root}" if reached else model.artifacts
        if reached:
            self._places.note(owner.uri, address)
        self._ids.add(model.id)
        brought = replace(model, experiment=experiment, artifacts=address)
        if old is not None:
            brought = replace(brought, tags={**old.tags, **model.tags}, deleted=old.deleted or model.deleted)
        with self._store.tracking.read() as reader:
            known = {(same(one.point), one.dataset_name, by) for one, by in reader.model_points([model.id])}
        new = [(one, by) for one, by in points if (same(one.point), one.dataset_name, by) not in known]
        if brought == old and not files and not new:
            return
        self._moved.logged_models += 1
        if self._dry:
            return

        def change(tx: TrackingTransaction) -> None:
            for artifact in files:
                tx.put_artifact(artifact)
            for run in {by for _, by in new}:
                tx.log_model_points(run, [one for one, by in new if by == run])

        self._store.tracking.write(change)
        self._store.ledger.write(lambda tx: tx.put(brought))

    def _registered(self, found: Registered, only: bool) -> None:
        name = found.model.name
        versions = [self._placed(one) for one in found.versions]
        if only:
            versions = [one for one in versions if one.run in self._ids or one.model in self._ids]
        if only and not versions:
            return
        numbers = {one.version for one in versions}
        aliases = {alias: number for alias, number in found.aliases.items() if number in numbers}
        now = self._clock.now()

        def change(tx: Transaction) -> tuple[bool, int]:
            answer = registry.adopt(tx, found.model, versions, aliases, now=now, by=BY)
            if self._dry:
                raise _Undone(answer)
            return answer

        try:
            changed, count = self._store.ledger.write(change)
        except _Undone as undone:
            changed, count = undone.answer
        except StoreError:
            raise
        except NoriaError as error:
            self._moved.problem(f"Registered model {name[:80]!r}", error)
            return
        self._moved.models += changed
        self._moved.versions += count

    def _placed(self, version: RegisteredVersion) -> RegisteredVersion:
        """The version, with its files where they are now."""
        source, location = self._places.now(version.source), self._places.now(version.location)
        if local_path(location) is not None:
            self._moved.note(
                f"Version {version.version} of {version.name[:80]!r} has its files at {location[:200]}: not copied."
            )
        return replace(version, source=source, location=location)


class _Undone(Exception):
    """Raised in a transaction to learn what it would do, and do nothing."""

    def __init__(self, answer: tuple[bool, int]) -> None:
        self.answer = answer
        super().__init__()


def _settled(old: TrackedRun, new: TrackedRun) -> bool:
    """Whether a run has ended there as it has here, with the same newest points: nothing more is to be expected."""
    newest = {same(point) for point in old.metrics}
    return (
        new.info.status in _ENDED
        and (new.info.status, new.info.ended) == (old.info.status, old.info.ended)
        and all(same(point) in newest for point in new.metrics)
    )
