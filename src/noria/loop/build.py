"""Training: dataset version and declared steps -> a finished run with its model bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from noria.core.hashing import digest_bytes, digest_json
from noria.core.plugins import load_plugin
from noria.data.rules import Source
from noria.data.snapshot import guess_task
from noria.data.split import split
from noria.errors import DataError, StepError
from noria.flavors import Predictor, flavor_for
from noria.flavors.compile import COMPARED, REVISION, compile_model, spread
from noria.frames.convert import Kind, kind_of_annotation
from noria.frames.digest import frame_digest
from noria.frames.parquet import read_parquet, schema_of, write_parquet
from noria.loop.calling import call, default_kind, feature, hand_over, hints, knobs_of, together
from noria.loop.load import LoadedLoop
from noria.loop.plan import plan
from noria.loop.reference import as_records, reference_of, signature_fields
from noria.loop.scoring import plain, scores
from noria.loop.steps import Declaration, Step
from noria.loop.wire import order_features
from noria.provenance import environment_lock, git_state, peak_memory
from noria.records import Artifact, BundleManifest, Compiled, Metric, Run, Signature, StepTrace
from noria.store.ports import Store
from noria.train.cache import StepCache
from noria.train.identity import Identity, code_identity
from noria.train.sources import user_sources
from noria.validate.rules import NoSkew

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Built", "Sides", "Work", "build", "load_model", "sides_of", "source_of"]

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sides:
    """Raw rows to train on and rows held out."""

    train: pl.DataFrame
    test: pl.DataFrame


@dataclass(slots=True)
class Built:
    """What training gave, before anything is recorded.

    Attributes:
        artifacts: files of the run by name, already stored.
        train_key: cache key of the train step: equal keys are equal models.
    """

    bundle: str
    manifest: BundleManifest
    metrics: dict[str, float]
    params: dict[str, Any]
    traces: list[StepTrace]
    train_key: str
    artifacts: list[Artifact] = field(default_factory=list)
    git_commit: str | None = None
    git_dirty: bool = False
    environment: str = ""
    peak_memory_bytes: int = 0

    def finish(self, run: Run, ended: datetime) -> Run:
        """The run record, finished."""
        return msgspec.structs.replace(
            run,
            status="finished",
            ended=ended,
            params=self.params,
            metrics=tuple(Metric(name, value) for name, value in self.metrics.items()),
            artifacts=tuple(self.artifacts),
            bundle=self.bundle,
            steps=tuple(self.traces),
            peak_memory_bytes=self.peak_memory_bytes,
            git_commit=self.git_commit,
            git_dirty=self.git_dirty,
            environment=self.environment,
        )


def source_of(loop: Declaration) -> Source:
    """The source; a declaration without one does not pass check()."""
    if loop.origin is None:
        raise DataError(f"Loop '{loop.name}' declares no source.")
    return loop.origin


def sides_of(loaded: LoadedLoop, frame: pl.DataFrame) -> Sides:
    """The rows split as declared; without a declared split, by time if there is one, else at random."""
    train, test = split(frame, loaded.loop.split, source_of(loaded.loop))
    return Sides(train, test)


class Work:
    """One training, step by step; each reads what the ones before it left."""

    def __init__(
        self,
        loaded: LoadedLoop,
        store: Store,
        frame: pl.DataFrame,
        now: datetime,
        overrides: Mapping[str, Any],
    ) -> None:
        self.loop = loaded.loop
        self.loaded = loaded
        self.store = store
        self.sides = sides_of(loaded, frame)
        self.cache = StepCache(store.ledger, store.blobs, self.loop.name, now)
        self.kind = default_kind(self.loop)
        self.params = {
            f"{step.name}.{knob.name}": overrides.get(f"{step.name}.{knob.name}", knob.default)
            for step in self.loop.steps
            for knob in step.knobs
        }
        unknown = sorted(set(overrides) - set(self.params))
        if unknown:
            raise StepError(f"There is no knob {unknown[0]!r}; there are: {', '.join(self.params) or 'none'}.")
        train = self.loop.step("train")
        asked = kind_of_annotation(hints(train).get("x_train")) if train is not None else None
        self.x_kind: Kind = asked or self.kind
        self.source = source_of(self.loop)
        self.label = self.source.label or ""
        self._made: tuple[dict[str, str], Callable[[], Sides]] | None = None

    def features(self, progress: Progress) -> tuple[dict[str, str], Callable[[], Sides]]:
        """Digests of the features' outputs, and the frames themselves, read only when asked for; made once."""
        if self._made is None:
            self._made = self._features(progress)
        return self._made

    def _features(self, progress: Progress) -> tuple[dict[str, str], Callable[[], Sides]]:
        order = order_features(self.loop)
        if not order:
            hidden = {self.source.key, self.source.time, self.label, *self.source.sensitive}
            names = [name for name in self.sides.train.columns if name not in hidden]
            if not names:
                raise StepError("There is no column left to learn from besides key, time, label and sensitive ones.")
            plain_sides = Sides(self.sides.train.select(names), self.sides.test.select(names))
            digests = {"x_train": frame_digest(plain_sides.train), "x_test": frame_digest(plain_sides.test)}
            return digests, lambda: plain_sides
        raw = {"train": self._raw(self.sides.train), "test": self._raw(self.sides.test)}
        data_digest = {side: frame_digest(rows) for side, rows in raw.items()}
        made: dict[str, dict[str, str]] = {}
        frames: dict[str, dict[str, pl.DataFrame]] = {"train": {}, "test": {}}
        handed: dict[str, dict[str, Any]] = {"train": {}, "test": {}}

        def frame_of(side: str, name: str) -> pl.DataFrame:
            if name not in frames[side]:
                frames[side][name] = read_parquet(self.store.blobs.get(made[name][f"{side}_blob"]))
            return frames[side][name]

        def compute(step: Step) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for side, rows in raw.items():
                needed = {g.name: frame_of(side, g.name) for g in step.inputs if g.name != "data"}
                result = feature(step, rows, needed, self.kind, self.params, handed[side])
                frames[side][step.name] = result
                found[side] = frame_digest(result).replace("blake3:", "rows:")  # names values, not a blob
                found[f"{side}_blob"] = self.store.blobs.put(write_parquet(result))
            return found

        for step in order:
            progress(f"feature {step.name}")
            inputs = {}
            for given in step.inputs:
                for side in raw:
                    known = data_digest[side] if given.name == "data" else made[given.name][side]
                    inputs[f"{given.name} ({side})"] = known
            knobs = knobs_of(step, self.params)
            identity = code_identity(step.function)
            made[step.name] = self.cache.run(step.name, identity, inputs, knobs, lambda s=step: compute(s))  # type: ignore[misc]

        @cache
        def both() -> Sides:
            return Sides(
                together([frame_of("train", step.name) for step in order]),
                together([frame_of("test", step.name) for step in order]),
            )

        return {f"{name} ({side})": outputs[side] for name, outputs in made.items() for side in raw}, both

    def _raw(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.drop(self.label)

    def given(self, step: Step, sides: Callable[[], Sides], extra: Mapping[str, Any]) -> list[Any]:
        """The arguments a train, evaluate or gate step asks for."""
        annotations = hints(step)
        held = step.kind in ("evaluate", "gate")
        makers: dict[str, Callable[[], Any]] = {
            "data": lambda: self.sides.test if held else self.sides.train,
            "x_train": lambda: sides().train,
            "x_test": lambda: sides().test,
            "y_train": lambda: self.sides.train[self.label],
            "y_test": lambda: self.sides.test[self.label],
        }
        arguments = []
        for wanted in step.inputs:
            value = extra[wanted.name] if wanted.name in extra else makers[wanted.name]()
            arguments.append(hand_over(value, annotations.get(wanted.name), self.kind))
        return arguments


def build(
    loaded: LoadedLoop,
    store: Store,
    frame: pl.DataFrame,
    *,
    run: Run,
    now: datetime,
    overrides: Mapping[str, Any],
    champion: str | None = None,
    progress: Progress = lambda _: None,
) -> Built:
    """Run the declared steps on a dataset version and pack the model bundle.

    Nothing is recorded but cached steps and blobs, so that being killed here costs time and nothing else.

    Raises:
        StepError: a user's function failed.
        ModelError: the model cannot be saved safely.
    """
    work = Work(loaded, store, frame, now, overrides)
    loop = work.loop
    digests, sides = work.features(progress)
    train = loop.step("train")
    assert train is not None  # check() saw to it
    trained = _train(work, train, digests, sides, progress)

    @cache
    def predictor() -> Predictor:
        return load_predictor(store, trained["flavor"], trained["files"])

    progress("evaluating")
    metrics = _evaluate(work, trained, predictor, digests, sides, champion)
    progress("packing the model bundle")
    bundle = _pack(work, run, trained, predictor, metrics, digests, sides, champion)
    return _finish(work, bundle, metrics, train.name)


def load_predictor(store: Store, flavor: str, files: Mapping[str, str]) -> Predictor:
    """A stored model, ready to predict."""
    found: Predictor = load_plugin("flavor", flavor).load({n: store.blobs.get(d) for n, d in files.items()})
    return found


def load_model(store: Store, bundle: str) -> Any:
    """The model object of a stored bundle; none of the bundle's code is run."""
    manifest = msgspec.json.decode(store.blobs.get(bundle), type=BundleManifest)
    return load_predictor(store, manifest.flavor, manifest.model).unwrap()


def _train(
    work: Work, step: Step, digests: Mapping[str, str], sides: Callable[[], Sides], progress: Progress
) -> dict[str, Any]:
    frame_kind = "ndarray" if "ndarray" in str(hints(step).get("x_train")) else work.x_kind
    inputs = {f"x {name}": digest for name, digest in digests.items() if "test" not in name}
    inputs["y"] = frame_digest(work.sides.train.select(work.label))
    if any(given.name == "data" for given in step.inputs):
        inputs["data"] = frame_digest(work.sides.train)
    knobs = knobs_of(step, work.params)

    def compute() -> dict[str, Any]:
        progress(f"training on {work.sides.train.height:,} rows")
        model = call(step, *work.given(step, sides, {}), **knobs)
        if model is None:
            raise StepError(f"train '{step.name}' at {step.where} returned nothing; return the fitted model.")
        name, flavor = flavor_for(model)
        files = {file: work.store.blobs.put(data) for file, data in flavor.save(model).items()}
        return {
            "flavor": name,
            "files": files,
            "frame": frame_kind,
            "columns": [list(pair) for pair in schema_of(sides().train)],
        }

    return work.cache.run(step.name, code_identity(step.function), inputs, knobs, compute)


def _evaluate(
    work: Work,
    trained: Mapping[str, Any],
    predictor: Callable[[], Predictor],
    digests: Mapping[str, str],
    sides: Callable[[], Sides],
    champion: str | None,
) -> dict[str, float]:
    """What the user's evaluate says of the model as it was saved, not as it was in memory."""
    step = work.loop.step("evaluate")
    if step is None:
        return {}
    inputs = dict(digests)
    inputs["y_test"] = frame_digest(work.sides.test.select(work.label))
    inputs["model"] = digest_json(trained["files"])
    for given in step.inputs:
        if given.name == "data":
            inputs["data"] = frame_digest(work.sides.test)
        elif given.name == "y_train":
            inputs["y_train"] = frame_digest(work.sides.train.select(work.label))
        elif given.name == "champion":
            inputs["champion"] = champion or "none"
    knobs = knobs_of(step, work.params)

    def compute() -> dict[str, Any]:
        extra = {"model": predictor().unwrap(), "champion": champion and load_model(work.store, champion)}
        arguments = work.given(step, sides, extra)
        return {"metrics": _numbers(step, call(step, *arguments, **knobs))}

    outputs = work.cache.run(step.name, code_identity(step.function), inputs, knobs, compute)
    return {name: float(value) for name, value in outputs["metrics"].items()}


def _numbers(step: Step, found: Any) -> dict[str, float]:
    if not isinstance(found, Mapping):
        raise StepError(
            f"evaluate '{step.name}' at {step.where} returned {type(found).__name__}; "
            'return a dict of metrics such as {"mae": 3.2}.'
        )
    metrics: dict[str, float] = {}
    for name, value in found.items():
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise StepError(f"evaluate '{step.name}': metric {name!r} is {value!r:.60}, which is not a number.")
        if not isfinite(value):
            raise StepError(f"evaluate '{step.name}': metric {name!r} is {value}, which is not a finite number.")
        metrics[str(name)] = float(value)
    return metrics


def _pack(
    work: Work,
    run: Run,
    trained: Mapping[str, Any],
    predictor: Callable[[], Predictor],
    metrics: dict[str, float],
    digests: Mapping[str, str],
    sides: Callable[[], Sides],
    champion: str | None,
) -> str:
    """Digest of the bundle's manifest; the one made before when nothing it holds has changed."""
    store, lock = work.store, environment_lock()
    code = {name: store.blobs.put(data) for name, data in user_sources(work.loaded.path).items()}
    holds = {
        "model": digest_json(trained),
        "metrics": digest_json(metrics),
        "plan": digest_json(plan(work.loop)),
        "environment": digest_bytes(lock.encode()),
        "train rows": frame_digest(work.sides.train),
        "test rows": frame_digest(work.sides.test),
        "compiler": str(REVISION),
        **code,
    }

    def compute() -> dict[str, Any]:
        compiled = _compile(work, trained, predictor, digests, sides, holds["environment"])
        manifest = _manifest(work, run, trained, predictor(), metrics, sides(), code, lock, champion, compiled)
        return {"bundle": store.blobs.put(msgspec.json.format(msgspec.json.encode(manifest), indent=1))}

    found: str = work.cache.run("bundle", Identity(digest_json(holds), holds), {}, {}, compute)["bundle"]
    return found


def _compile(
    work: Work,
    trained: Mapping[str, Any],
    predictor: Callable[[], Predictor],
    digests: Mapping[str, str],
    sides: Callable[[], Sides],
    environment: str,
) -> Compiled:
    """The model's graph. Kept by model and rows, so that its timings are taken once and equal bundles stay equal."""
    holds = {
        "model": digest_json(trained),
        "features": digest_json(dict(digests)),
        "environment": environment,
        "compiler": str(REVISION),
    }

    def compute() -> dict[str, Any]:
        import polars as pl

        both = [spread(side, COMPARED // 2) for side in (sides().train, sides().test)]
        source = trained["files"].get("model.onnx")
        found = compile_model(
            trained["flavor"],
            predictor(),
            [(name, kind) for name, kind in trained["columns"]],
            trained["frame"],
            pl.concat(both, how="vertical_relaxed"),
            put=work.store.blobs.put,
            source=work.store.blobs.get(source) if source else None,
        )
        plain_values: dict[str, Any] = msgspec.to_builtins(found)
        return plain_values

    outputs = work.cache.run("compile", Identity(digest_json(holds), holds), {}, {}, compute)
    return msgspec.convert(outputs, Compiled)


def _manifest(
    work: Work,
    run: Run,
    trained: Mapping[str, Any],
    predictor: Predictor,
    metrics: dict[str, float],
    sides: Sides,
    code: dict[str, str],
    lock: str,
    champion: str | None,
    compiled: Compiled,
) -> BundleManifest:
    loop, source = work.loop, work.source
    task = guess_task(work.sides.train[work.label], loop.task or source.task)
    classes = tuple(plain(value) for value in predictor.classes or ())
    values, _, arrays, share_arrays = scores(predictor, sides.test, trained["frame"])
    fields, records = signature_fields(work, sides.train.columns)
    reference, profile = reference_of(
        work, task, classes, arrays, share_arrays, metrics, _reference(work.store, champion)
    )
    reference["sample"] = {"records": records, "values": values[: len(records)]}
    reference["train_sample"] = _train_sample(work, predictor, sides, trained["frame"])
    return BundleManifest(
        loop=loop.name,
        run=run.id,
        created=run.started,
        flavor=trained["flavor"],
        model=dict(trained["files"]),
        code=code,
        entry=work.loaded.path.name,
        loop_name=work.loaded.variable,
        signature=Signature(
            inputs=fields,
            features=tuple((name, kind) for name, kind in trained["columns"]),
            task=task,
            classes=classes,
            key=source.key,
            time=source.time,
            label=source.label,
        ),
        frame=trained["frame"],
        profile=profile,
        reference=reference,
        environment=work.store.blobs.put(lock.encode()),
        params=work.params,
        model_digest=digest_json(dict(trained["files"])),
        compiled=compiled,
        derived=bool(order_features(loop)),
    )


def _reference(store: Store, bundle: str | None) -> Mapping[str, Any] | None:
    """The reference of a bundle; None without one."""
    if bundle is None:
        return None
    return msgspec.json.decode(store.blobs.get(bundle), type=BundleManifest).reference


def _train_sample(work: Work, predictor: Predictor, sides: Sides, frame_kind: str) -> str:
    """Training rows spread over the whole of training, as a client would send them, with the answers of training."""
    wanted = max((gate.rows for gate in work.loop.gates if isinstance(gate, NoSkew)), default=20)
    height = work.sides.train.height
    rows = sorted({int(place) for place in np.linspace(0, height - 1, min(wanted, height))})
    values, _, _, _ = scores(predictor, sides.train[rows], frame_kind)
    records = as_records(work.sides.train[rows].drop(work.label))
    return work.store.blobs.put(msgspec.json.encode({"records": records, "values": values}))


def _finish(work: Work, bundle: str, metrics: dict[str, float], train: str) -> Built:
    """What the run record will say."""
    store = work.store
    packed = store.blobs.get(bundle)
    manifest = msgspec.json.decode(packed, type=BundleManifest)
    commit, dirty, diff = git_state(work.loaded.path.parent)
    named = {**manifest.model, **{f"code/{name}": digest for name, digest in manifest.code.items()}}
    named["environment.txt"] = manifest.environment
    if manifest.compiled is not None and manifest.compiled.graph is not None:
        named["compiled.onnx"] = manifest.compiled.graph
        if manifest.compiled.trees is not None:
            named["compiled.trees"] = manifest.compiled.trees
    artifacts = [Artifact("bundle.json", bundle, len(packed))]
    artifacts += [Artifact(name, digest, len(store.blobs.get(digest))) for name, digest in named.items()]
    if diff:
        artifacts.append(Artifact("git.diff", store.blobs.put(diff), len(diff)))
    return Built(
        bundle=bundle,
        manifest=manifest,
        metrics=metrics,
        params=work.params,
        traces=work.cache.traces,
        train_key=next(trace.key for trace in work.cache.traces if trace.name == train),
        artifacts=artifacts,
        git_commit=commit,
        git_dirty=dirty,
        environment=manifest.environment,
        peak_memory_bytes=peak_memory(),
    )
