"""A model bundle, loaded: records in, predictions out, exactly as training would have computed them."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from noria.core.plugins import load_plugin
from noria.errors import ModelError, RequestError, StepError, StoreError
from noria.frames.parquet import cast_columns, cast_records
from noria.loop.calling import compute_features, hand_over
from noria.loop.load import load
from noria.loop.wire import order_features
from noria.records import BundleManifest
from noria.serve.batch import refused_records
from noria.store.ports import Blobs

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from noria.flavors import Predictor
    from noria.flavors.compile.session import Graph
    from noria.loop.steps import Declaration

__all__ = ["Scorer", "plain", "scores"]

_log = logging.getLogger("noria.model")


def plain(value: Any) -> Any:
    """A NumPy value as a plain one that JSON can hold."""
    item = getattr(value, "item", None)
    return item() if item is not None else value


def scores(
    predictor: Predictor, features: pl.DataFrame, frame_kind: str
) -> tuple[list[Any], list[list[float]] | None, np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Predictions of feature rows: plain values and probabilities, then the same as arrays.

    Raises:
        ModelError: the model raised, gave the wrong number of rows, or a number that is not finite.
    """
    x = hand_over(features, frame_kind if frame_kind == "ndarray" else None, frame_kind)  # type: ignore[arg-type]
    values, shares = _arrays(predictor, x, features.height)
    return values.tolist(), None if shares is None else shares.tolist(), values, shares


def _arrays(predictor: Predictor, x: Any, rows: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Predictions and probabilities of ``x``, a frame or matrix as the model takes it; raises as `scores`."""
    import numpy as np

    try:
        shares = predictor.probabilities(x)
        if shares is not None and getattr(predictor, "likeliest", False):
            values = np.asarray(predictor.classes)[shares.argmax(axis=1)]
        else:
            values = np.asarray(predictor.predict(x))
    except Exception as error:
        raise ModelError(f"The model failed: {type(error).__name__}: {error}") from error
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (rows,):
        raise ModelError(f"The model returned {values.shape} predictions for {rows} rows.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ModelError(f"The model predicted {values[row]} for row {row}, which is not a number.")
    return values, None if shares is None else np.asarray(shares, dtype=np.float64)


class Scorer:
    """A bundle ready to predict.

    The bundle's own source files are written to a private folder and imported from there; weights are loaded
    by their flavor, which executes nothing. On loading, the bundle's stored sample is predicted again and must
    give the stored answers.

    Args:
        manifest: what to load.
        blobs: where its parts are.
        compiled: whether the compiled graph answers where feature functions stand before the model. (Where none do,
            a server needs no `Scorer` for the graph.)

    Raises:
        ModelError: a part is missing, or the stored answers are not reproduced.
    """

    def __init__(self, manifest: BundleManifest, blobs: Blobs, *, compiled: bool = True) -> None:
        self.manifest = manifest
        self._folder = tempfile.TemporaryDirectory(prefix="noria-model-")
        root = Path(self._folder.name)
        for name, digest in manifest.code.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ModelError(f"The bundle names a source file outside its folder: {name!r}.")
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(blobs.get(digest))
        self._loop: Declaration = load(root / manifest.entry, manifest.loop_name).loop
        self._order = order_features(self._loop)
        flavor = load_plugin("flavor", manifest.flavor)
        files = {name: blobs.get(digest) for name, digest in manifest.model.items()}
        self._predictor: Predictor = flavor.load(files)
        self._extra = {name for name in (manifest.signature.label,) if name}
        self._graph = self._compiled(blobs) if compiled and manifest.derived else None
        try:
            self._self_test()
        except ModelError:
            if self._graph is None:
                raise
            self._graph = None
            self._self_test()
            _log.warning("the compiled graph does not give what training gave; the model itself answers")
        signature = self.manifest.signature
        self._names = [name for name, _ in signature.features]
        self._matrix = not self._order and {dtype for _, dtype in signature.features} == {"Float64"}
        self._nameless = self._matrix and getattr(self._predictor, "nameless", False) and self._same_of_arrays()

    def _compiled(self, blobs: Blobs) -> Graph | None:
        found = self.manifest.compiled
        if found is None or found.graph is None:
            return None
        from noria.flavors.compile.session import Graph

        try:
            trees = None if found.trees is None else blobs.get(found.trees)
            return Graph(blobs.get(found.graph), trees, found, self.manifest.signature)
        except (ModelError, StoreError) as error:
            _log.warning("the model itself answers: %s", error)
            return None

    def _scored(self, features: pl.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        found = self._graph.answer(features) if self._graph is not None else None
        return scores(self._predictor, features, self.manifest.frame)[2:] if found is None else found

    def features(self, data: pl.DataFrame) -> pl.DataFrame:
        """Feature rows of raw rows, in the model's column order."""
        if not self._order:
            return data.select([name for name, _ in self.manifest.signature.features])
        made = compute_features(self._loop, self._order, data, self.manifest.params)
        return made.select([name for name, _ in self.manifest.signature.features])

    def predict(self, records: Sequence[dict[str, Any]]) -> tuple[list[Any], list[list[float]] | None]:
        """Predictions and class probabilities of plain records.

        Raises:
            RequestError: a record does not fit the signature, or cannot be predicted; names record and field.
            ModelError: the model fails on rows it should take.
        """
        data = cast_records(list(records), self.manifest.signature.inputs, extra=self._extra)
        try:
            values, shares = self._scored(self.features(data))
        except (ModelError, StepError) as error:
            raise self._blame(data, error) from error
        return values.tolist(), None if shares is None else shares.tolist()

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a message of `noria.serve.engine`: a matrix of numbers and the columns that are none.

        Raises:
            RequestError: a record cannot be predicted; names record and field.
            ModelError: the model fails on rows it should take.
        """
        import numpy as np

        rows, names = message["rows"], {name: place for place, name in enumerate(message["names"])}
        matrix = np.frombuffer(message["matrix"], dtype="<f8").reshape(rows, len(names))

        def answered(values: np.ndarray[Any, Any], shares: np.ndarray[Any, Any] | None) -> dict[str, Any]:
            packed = None if shares is None else np.ascontiguousarray(shares, dtype="<f8").tobytes()
            return {"values": values.tolist(), "shares": packed}

        x = None if message["columns"] else self._as_it_is(matrix, message["names"])
        if x is not None:
            with suppress(ModelError):  # which rows are at fault is found below
                return answered(*_arrays(self._predictor, x, rows))
        data = cast_columns(rows, names, matrix, message["columns"], self.manifest.signature.inputs)
        try:
            values, shares = self._scored(self.features(data))
        except (ModelError, StepError) as error:
            raise self._blame(data, error) from error
        return answered(values, shares)

    def _as_it_is(self, matrix: np.ndarray[Any, Any], names: Sequence[str]) -> Any:
        """What the model takes, where that is nothing but the matrix; else None: it must be made column by column."""
        if not self._matrix or self._names != list(names):
            return None
        matrix = matrix.copy()  # what came is not to be written to, and some models do
        if self._nameless or self.manifest.frame == "ndarray":
            return matrix
        if self.manifest.frame == "pandas":
            import pandas as pd

            return pd.DataFrame(matrix, columns=self._names)
        return None

    def _same_of_arrays(self) -> bool:
        """Whether the model answers the stored sample the same when asked with a matrix."""
        import numpy as np

        records = self.manifest.reference.get("sample", {}).get("records", [])
        if not records:
            return False
        rows = self.features(cast_records(records, self.manifest.signature.inputs, extra=self._extra))
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        try:
            _, _, values, shares = scores(self._predictor, rows, self.manifest.frame)
            again, alike = _arrays(self._predictor, rows.to_numpy().copy(), rows.height)
        except ModelError:
            return False
        return np.array_equal(values, again) and (shares is None or np.array_equal(shares, alike))  # type: ignore[arg-type]

    def _blame(self, data: pl.DataFrame, error: ModelError | StepError) -> RequestError | ModelError | StepError:
        """The records that cannot be predicted even alone: their fault, as the model takes its own sample."""
        details: list[dict[str, object]] = []
        for row in range(min(data.height, 1000)):
            try:
                scores(self._predictor, self.features(data[row : row + 1]), self.manifest.frame)
            except (ModelError, StepError) as alone:
                empty = [name for name in data.columns if data[name][row] is None]
                hint = f" (missing here: {', '.join(empty)})" if empty else ""
                details.append({"record": row, "problem": f"{alone}{hint}"})
        if not details:
            return error
        return refused_records(details)

    def _self_test(self) -> None:
        sample: Mapping[str, Any] = self.manifest.reference.get("sample", {})
        records = sample.get("records", [])
        if not records:
            return
        values, _ = self.predict(records)
        for place, (found, stored) in enumerate(zip(values, sample["values"], strict=True)):
            same = found == stored
            if isinstance(found, float) and isinstance(stored, (int, float)):
                same = abs(found - stored) <= 1e-6 * max(1.0, abs(stored))
            if not same:
                raise ModelError(
                    f"The bundle does not reproduce its own predictions: record {place} gives {found!r}, "
                    f"in training it gave {stored!r}. A package may have changed since."
                )

    def close(self) -> None:
        """Remove the private folder."""
        self._folder.cleanup()


def manifest_of(blobs: Blobs, digest: str) -> BundleManifest:
    """The manifest a digest names."""
    return msgspec.json.decode(blobs.get(digest), type=BundleManifest)
