"""The compiled graph, run in this process by ONNX Runtime: none of the user's code, nothing that executes on load."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.errors import ModelError, RequestError
from noria.flavors.compile.opening import OpenGraph
from noria.records import MISSING_TEXT, BundleManifest
from noria.serve.batch import Batch, Layout, problem_error
from noria.serve.engine import Backlog, Scores, TooLate
from noria.store.ports import Blobs

__all__ = ["NativeEngine", "fits"]

_TRIED = 64
_SAME = 1e-12
_INLINE_SECONDS = 0.002
_MAX_WAITING = 256


def fits(manifest: BundleManifest) -> bool:
    """Whether the bundle's answers can be had from its graph alone: it has one, and no feature functions between."""
    compiled = manifest.compiled
    if compiled is None or compiled.graph is None:
        return False
    inputs = {field.name for field in manifest.signature.inputs}
    return not manifest.derived and all(name in inputs for name, _ in manifest.signature.features)


class NativeEngine:
    """A graph that was found equal to its model.

    Args:
        blobs: where the graph is.
        manifest: whose model it is, one that `fits`.
        layout: how its batches are laid out.

    Raises:
        ModelError: ONNX Runtime is not there or cannot read the graph.
        StoreError: the graph is missing or damaged.
    """

    native = True

    def __init__(self, blobs: Blobs, manifest: BundleManifest, layout: Layout) -> None:
        compiled = manifest.compiled
        assert compiled is not None
        assert compiled.graph is not None
        trees = None if compiled.trees is None else blobs.get(compiled.trees)
        self._graph = OpenGraph(blobs.get(compiled.graph), trees)
        self._layout = layout
        signature = manifest.signature
        self._classes = signature.classes
        self._features = tuple(name for name, _ in signature.features)
        self._texts = {name: kind == "tensor(string)" for name, kind in self._graph.inputs.items()}
        self._matrix = compiled.matrix
        self._direct = self._matrix and self._features == layout.names
        self._refused = np.array([name not in compiled.nulls for name in layout.names], dtype=bool)
        self._refused_others = [
            name for name in self._features if name not in layout.names and name not in compiled.nulls
        ]
        # The shape of the only output of one row, where that is probabilities and the first of the largest is given.
        self._only = (1, len(self._classes)) if self._graph.outputs == ["probabilities"] else None
        self.together = False
        self._row_seconds = 0.00005
        self._thread: ThreadPoolExecutor | None = None
        self.backlog = Backlog(manifest.loop_name, _MAX_WAITING)

    def run(self, batch: Batch, deadline: float) -> Scores | asyncio.Future[Scores]:
        """As `Engine.run`: at once when that takes less than two milliseconds, else in a thread."""
        if not batch.whole or self._refused_others:
            self.refuse(batch)
        if batch.rows * self._row_seconds < _INLINE_SECONDS:
            return self.scores(batch)
        self.backlog.check(deadline)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.backlog.add(batch.rows)
        found = asyncio.get_running_loop().run_in_executor(self._thread, self._in_turn, batch, deadline)
        found.add_done_callback(lambda _: self.backlog.done(1, batch.rows))
        return found

    def refuse(self, batch: Batch) -> None:
        """Refuse missing values where the model takes none.

        Raises:
            RequestError: names record and field.
        """
        if not batch.whole:
            self._refuse_nulls(np.isnan(batch.matrix) & self._refused)
        for name in self._refused_others:
            if None in batch.columns.get(name, (None,)):
                row = batch.columns.get(name, [None]).index(None)
                raise problem_error([_missing(row, name)])

    def _in_turn(self, batch: Batch, deadline: float) -> Scores:
        if time.monotonic() > deadline:
            raise TooLate("The request waited too long for its turn; it was not predicted.")
        started = time.perf_counter()
        found = self.scores(batch)
        self.backlog.took(time.perf_counter() - started, batch.rows)
        return found

    def _refuse_nulls(self, wrong: NDArray[np.bool_]) -> None:
        if wrong.any():
            places = list(zip(*np.nonzero(wrong), strict=True))[:100]
            raise problem_error([_missing(int(row), self._layout.names[place]) for row, place in places])

    def scores(self, batch: Batch) -> Scores:
        """The scores of a batch, at once.

        Raises:
            ModelError: the graph failed.
            RequestError: it gave a number that is none.
        """
        rows, graph = batch.rows, self._graph
        started = time.perf_counter() if rows > 1 else 0.0
        feed = {"x": batch.matrix} if self._direct else self._feed(batch)
        try:
            found = graph.few(graph.outputs, feed, None) if rows == 1 else graph.run(feed)
        except Exception as error:
            if rows == 1:
                raise _refused([0], 1) from error
            raise self._blame(batch, error) from error
        if rows >= _TRIED:  # in a few rows the call itself counts
            self._row_seconds += 0.05 * ((time.perf_counter() - started) / rows - self._row_seconds)
        if rows == 1 and self._only and found[0].shape == self._only:
            (only,) = found[0].tolist()
            if math.isfinite(sum(only)):
                return Scores([self._classes[only.index(max(only))]], found[0], only)
        return self._plain(dict(zip(graph.outputs, found, strict=True)), rows)

    def _blame(self, batch: Batch, error: Exception) -> RequestError | ModelError:
        """The rows the graph fails on even alone: their fault, as it takes its own sample."""
        wrong = []
        for row in range(min(batch.rows, 1000)):
            one = batch.take([row])
            feed = {"x": one.matrix} if self._direct else self._feed(one)
            try:
                self._graph.run(feed)
            except Exception:  # noqa: BLE001 - whatever it says, the row is refused
                wrong.append(row)
        if wrong:
            return _refused(wrong, batch.rows)
        return ModelError(f"The model failed: {type(error).__name__}: {str(error)[:200]}")

    def _plain(self, outputs: dict[str, NDArray[Any]], rows: int) -> Scores:
        shares = outputs.get("probabilities")
        given = outputs.get("prediction")
        if shares is not None and not math.isfinite(np.add.reduce(shares, axis=None)):
            raise _refused(np.flatnonzero(~np.isfinite(shares).all(axis=1)).tolist(), rows)
        if shares is not None and shares.shape != (rows, len(self._classes)):
            raise ModelError(f"The model returned probabilities of shape {shares.shape} for {rows} rows.")
        if given is not None:
            values = given.ravel().tolist()
            if len(values) != rows:
                raise ModelError(f"The model returned {len(values)} predictions for {rows} rows.")
            if given.dtype.kind == "f" and not np.isfinite(given).all():
                raise _refused(np.flatnonzero(~np.isfinite(given.ravel())).tolist(), rows)
        elif shares is not None:
            classes = self._classes
            values = [classes[place] for place in shares.argmax(axis=1).tolist()]
        else:
            raise ModelError("The compiled graph gives neither predictions nor probabilities.")
        return Scores(values, shares)

    def _feed(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """The graph's inputs from a batch whose columns are not laid out as the graph takes them."""
        places = {name: place for place, name in enumerate(self._layout.names)}
        found: dict[str, NDArray[Any]] = {}
        for name in self._features:
            if name in places:
                found[name] = batch.matrix[:, places[name]]
                continue
            values = batch.columns[name]
            if self._texts[name]:
                found[name] = np.array([MISSING_TEXT if value is None else value for value in values], dtype=object)
            else:
                found[name] = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
        if self._matrix:
            return {"x": np.column_stack(list(found.values())).astype(np.float64, copy=False)}
        return {name: np.ascontiguousarray(values).reshape(-1, 1) for name, values in found.items()}

    async def start(self) -> None:
        """Answer once, and measure: the first call prepares what later ones use."""
        rows = np.random.default_rng(0).standard_normal((_TRIED, len(self._layout.names)))
        if self._direct:
            for _ in range(3):
                started = time.perf_counter()
                found = self._graph.run({"x": rows})
                self._row_seconds = (time.perf_counter() - started) / _TRIED
            alone = [self._graph.run({"x": rows[row : row + 1]}) for row in range(_TRIED)]
            # But for the last bits: the mathematical functions have others where few numbers are left over.
            same = all(
                np.allclose(whole, np.concatenate(ones), rtol=_SAME, atol=_SAME, equal_nan=True)
                if whole.dtype.kind == "f"
                else np.array_equal(whole, np.concatenate(ones))
                for *ones, whole in zip(*alone, found, strict=True)
            )
            self.together = same and not self._refused_others

    async def stop(self) -> None:
        """Finish what is in flight."""
        while self.backlog.requests:
            await asyncio.sleep(0.005)
        if self._thread is not None:
            self._thread.shutdown(wait=False)


def _refused(wrong: list[int], rows: int) -> RequestError:
    """What a client is told of rows that fit the signature and that the model refuses all the same."""
    said = "the model refuses it: a category it has never seen, or a number beyond what it can hold"
    details: list[dict[str, object]] = [{"record": row, "problem": said} for row in wrong[:100]]
    named = f"record {wrong[0]}: {said}"
    return RequestError(f"{len(wrong)} of {rows} records cannot be predicted; {named}.", details)


def _missing(row: int, name: str) -> dict[str, object]:
    return {"record": row, "field": name, "problem": "is missing, and the model takes no missing values there"}
