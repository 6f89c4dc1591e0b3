"""The manifest of a model bundle: everything serving needs, by digest, nothing that executes on load."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from noria.records.dataset import Profile

MISSING_TEXT = "\ufdd0"
"""A missing text as graphs take it: a code point that no text may hold."""


class Field(msgspec.Struct, frozen=True):
    """One column of a request.

    Attributes:
        name: column name.
        dtype: Polars type name, e.g. ``Int64``, ``Float64``, ``String``, ``Boolean``, ``Datetime``.
        required: whether the feature functions use it (found by leaving it out), so that a request must have it.
        nullable: whether the training rows had missing values in it.
        example: a value seen in training, for documentation.
    """

    name: str
    dtype: str
    required: bool = True
    nullable: bool = False
    example: Any = None


class Signature(msgspec.Struct, frozen=True):
    """What goes in and what comes out.

    Attributes:
        inputs: raw columns of a record, in order; label excluded.
        features: columns handed to the model, in order, as ``(name, dtype)``.
        task: ``binary``, ``multiclass``, ``regression``.
        classes: class labels in the order of the probabilities, as the label column had them.
        key: the key column, if declared; optional in a request.
        time: the time column, if declared.
        label: the label column.
    """

    inputs: tuple[Field, ...]
    features: tuple[tuple[str, str], ...]
    task: str
    classes: tuple[Any, ...] = ()
    key: str | None = None
    time: str | None = None
    label: str | None = None


class Compiled(msgspec.Struct, frozen=True):
    """The model as one ONNX graph, and how it compared with the model itself.

    A graph is kept only if it answered as the model on every row compared. It has one input ``x`` (float64, rows x
    features) or one input a feature (rows x 1, float64 or text), and gives ``probabilities`` (float64,
    rows x classes), ``prediction`` (rows), or both; ``prediction`` holds the labels themselves where there are
    classes, and is left out where it is the class of the largest probability. A missing number goes in as NaN, a
    missing text as `MISSING_TEXT`. A row that the model refuses (a text never seen, say) comes back as NaN; where
    there are labels only, the call fails.

    Attributes:
        graph: digest of the graph; None when there is none to use.
        trees: digest of its trees laid out for many rows at a time (`noria.flavors.compile.bitvectors`); None where it
            is not one ensemble of small trees.
        reason: one sentence for people: how equal it is, or why there is none.
        rows: rows compared.
        largest: largest difference found: of probabilities, or of numbers relative to themselves and to what is usual.
        tolerance: largest difference allowed.
        matrix: whether all features go in as one matrix.
        nulls: features that may be missing: the model answers such rows, and the graph answers the same.
        row_us: microseconds the graph takes for one row alone.
        original_row_us: microseconds the model itself takes for it.
        batch_row_us: microseconds a row the graph takes in calls of 64 rows.
        original_batch_row_us: the same of the model itself.
    """

    graph: str | None
    reason: str
    rows: int = 0
    largest: float | None = None
    tolerance: float = 0.0
    matrix: bool = False
    nulls: tuple[str, ...] = ()
    row_us: float | None = None
    original_row_us: float | None = None
    batch_row_us: float | None = None
    original_batch_row_us: float | None = None
    trees: str | None = None

    @property
    def sentence(self) -> str:
        """What a person needs to know, in one line."""
        if self.graph is None:
            return f"{self.reason[:1].upper()}{self.reason[1:]}."
        fast = f"; a row takes {self.row_us:.0f} µs" if self.row_us is not None else ""
        slow = f" instead of {self.original_row_us:,.0f}" if fast and self.original_row_us is not None else ""
        return f"Compiled: {self.reason}{fast}{slow}."


class BundleManifest(msgspec.Struct, frozen=True):
    """A model and all it needs.

    Attributes:
        loop: the loop's name.
        run: the run that made it.
        created: when.
        flavor: how the weights are stored: ``sklearn``, ``lightgbm``, ``xgboost`` or ``onnx``.
        model: weight files, name to digest.
        code: the user's source files, path relative to the loop file's folder, to digest.
        entry: the code path of the loop file itself.
        loop_name: name of the ``Loop`` variable in it.
        signature: inputs and outputs.
        frame: ``pandas``, ``polars`` or ``pyarrow``: what the model was trained on.
        profile: reference profile of the model's inputs (raw columns) and of its predictions on held-out rows
            (column ``prediction``).
        reference: numbers serving and monitoring compare with (bounded loss and its bound on held-out
            rows, loss cap, metric values).
        environment: digest of the environment lock.
        params: knobs used.
        model_digest: one digest for the whole of ``model``: what a prediction is attributed to.
        compiled: the model as a graph; None in bundles from before there were any.
        derived: whether feature functions stand between a record and the model; if not, ``features`` are columns of
            the record.
    """

    loop: str
    run: str
    created: datetime
    flavor: str
    model: dict[str, str]
    code: dict[str, str]
    entry: str
    loop_name: str
    signature: Signature
    frame: str
    profile: Profile
    reference: dict[str, Any]
    environment: str
    params: dict[str, Any]
    model_digest: str
    compiled: Compiled | None = None
    derived: bool = True
