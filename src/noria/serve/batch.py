"""Rows of a request in the one form that models, the prediction log and every wire share, checked on the way in."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.core.nearest import suggest
from noria.errors import RequestError
from noria.frames.cast import checker
from noria.records import BundleManifest, Field
from noria.serve.rules import key_text

__all__ = ["Batch", "Column", "Layout", "problem_error", "refused_records"]

Matrix = NDArray[np.float64]
Column = Sequence[Any] | NDArray[Any]
"""One value a row: plain JSON values, or an array of numbers."""

NEVER_MISSING = "is missing (null or NaN), as it never was in training"
_REPORTED = 100
_EXACT = 2.0**53
_WHOLE = frozenset(("Int8", "Int16", "Int32", "Int64", "Int128", "UInt8", "UInt16", "UInt32", "UInt64"))
_NUMBERS = _WHOLE | {"Float32", "Float64"}
_TEXT = frozenset(("String", "Categorical", "Enum"))
_LONGEST_TEXT = 100_000


class Batch:
    """Rows to predict.

    Attributes:
        rows: how many.
        matrix: the columns the layout names, rows x names, float64; NaN where a value is missing.
        columns: every other column there is, plain values.
        keys: the records' keys as text, None when no row has one.
        whole: whether no value of the matrix is missing.
        raw: the matrix's bytes, where it was made from them; else None.
    """

    __slots__ = ("columns", "keys", "matrix", "raw", "rows", "whole")

    def __init__(
        self,
        rows: int,
        matrix: Matrix,
        columns: dict[str, list[Any]],
        keys: list[str | None] | None,
        whole: bool = False,
        raw: bytes | None = None,
    ) -> None:
        self.whole = whole
        self.raw = raw
        self.rows = rows
        self.matrix = matrix
        self.columns = columns
        self.keys = keys

    def take(self, places: Sequence[int]) -> Batch:
        """The rows at these places."""
        chosen = list(places)
        columns = {name: [values[place] for place in chosen] for name, values in self.columns.items()}
        keys = None if self.keys is None else [self.keys[place] for place in chosen]
        return Batch(len(chosen), self.matrix[chosen], columns, keys, self.whole)


def stacked(batches: Sequence[Batch]) -> Batch:
    """One batch of several that are nothing but whole rows of the same matrix."""
    raw = b"".join([batch.raw or batch.matrix.tobytes() for batch in batches])
    rows = sum(batch.rows for batch in batches)
    return Batch(rows, np.ndarray((rows, batches[0].matrix.shape[1]), np.float64, raw), {}, None, True, raw)


def problem_error(problems: Sequence[dict[str, object]]) -> RequestError:
    """One error for all that does not fit; its text names the first of it, for clients that show only that."""
    count = f"{len(problems)} values do" if len(problems) > 1 else "A value does"
    first = problems[0]
    named = f"record {first['record']}, field {str(first['field'])[:80]!r}: {str(first['problem'])[:200]}"
    ended = named if named.endswith("?") else f"{named.rstrip('.')}."
    return RequestError(f"{count} not fit the model's signature. {ended}", list(problems[:_REPORTED]))


def refused_records(details: Sequence[dict[str, object]]) -> RequestError:
    """One error for records that the model cannot predict; its text names the first, as `problem_error`'s does."""
    first = details[0]
    count = f"{len(details)} records" if len(details) > 1 else "A record"
    named = f"record {first['record']}: {str(first['problem'])[:300]}"
    return RequestError(f"{count} cannot be predicted. {named.rstrip('.')}.", list(details[:_REPORTED]))


class Layout:
    """How requests become a `Batch`, for one model.

    Attributes:
        names: the columns of the matrix: numbers that the model or its feature functions need, in order.
    """

    def __init__(self, manifest: BundleManifest) -> None:
        signature = manifest.signature
        self.signature = signature
        self.fields: dict[str, Field] = {field.name: field for field in signature.inputs}
        numeric = [f for f in signature.inputs if f.required and f.dtype in _NUMBERS and f.name != signature.key]
        self.names: tuple[str, ...] = tuple(field.name for field in numeric)
        self.required: tuple[str, ...] = tuple(field.name for field in signature.inputs if field.required)
        self.plain = self.names == self.required  # all that is needed fits the matrix
        self._places = {name: place for place, name in enumerate(self.names)}
        self._whole = np.array([place for place, field in enumerate(numeric) if field.dtype in _WHOLE], dtype=np.intp)
        self._filled = np.array([not field.nullable for field in numeric], dtype=bool)
        self._has_whole = bool(self._whole.size)
        self._row = struct.Struct(f"<{len(self.names)}d")
        self._low = np.array([_range(field.dtype)[0] for field in numeric])
        self._high = np.array([_range(field.dtype)[1] for field in numeric])
        self._narrow = any(field.dtype != "Float64" for field in numeric)
        self.key = signature.key
        self.label = signature.label

    def from_matrix(self, matrix: Matrix) -> Batch:
        """A batch of nothing but the matrix.

        Args:
            matrix: rows x names, float64, NaN where a value is missing.

        Raises:
            RequestError: a number is not finite, not whole or out of range where it must be; names record and field.
        """
        whole = self._check(matrix)
        return Batch(len(matrix), matrix, {}, None, whole)

    def from_numbers(self, values: Sequence[float], shape: Sequence[int]) -> Batch:
        """A batch of the matrix's values, row after row, all of them finite, as JSON's numbers are."""
        # Half the time np.array takes, a quarter for one row; and the prediction log wants the bytes.
        raw = self._row.pack(*values) if shape[0] == 1 else struct.pack(f"<{len(values)}d", *values)
        matrix: Matrix = np.ndarray(shape, np.float64, raw)
        if self._has_whole or self._narrow:
            self._check(matrix)
        return Batch(shape[0], matrix, {}, None, True, raw)

    def _check(self, matrix: Matrix) -> bool:
        """Check every number; returns whether none is missing."""
        # Sums cost a tenth of asking each value; where they are not finite, each is asked.
        whole = math.isfinite(np.add.reduce(matrix, axis=None))
        if not whole and np.isinf(matrix).any():
            self._complain(matrix, np.isinf(matrix), "{} is not a finite number")
        if not whole:
            empty = np.isnan(matrix) & self._filled
            if empty.any():
                self._complain(matrix, empty, NEVER_MISSING)
        if self._has_whole:
            part = matrix[:, self._whole]
            if (np.floor(part) != part).any():
                odd = np.zeros(matrix.shape, dtype=bool)
                odd[:, self._whole] = (np.floor(part) != part) & ~np.isnan(part)
                if odd.any():
                    self._complain(matrix, odd, "{} is not a whole number")
        if self._narrow:
            outside = (matrix < self._low) | (matrix > self._high)
            if outside.any():
                self._complain(matrix, outside, "{} is outside {} to {}")
        return whole

    def _complain(self, matrix: Matrix, wrong: NDArray[np.bool_], text: str) -> None:
        problems: list[dict[str, object]] = []
        for row, place in zip(*np.nonzero(wrong), strict=True):
            said = text.format(float(matrix[row, place]), self._low[place], self._high[place])
            problems.append({"record": int(row), "field": self.names[place], "problem": said})
            if len(problems) == _REPORTED:
                break
        raise problem_error(problems)

    def quick(self, values: list[Any], rows: int) -> Batch | None:
        """A batch of the matrix's values, row after row; None where they must be looked at one by one."""
        kinds = set(map(type, values))
        if not kinds <= {float, int, type(None)}:
            return None
        try:
            matrix = np.array(values, dtype=np.float64).reshape(rows, len(self.names))
        except OverflowError:
            return None
        if int in kinds and _large(matrix):
            return None
        return Batch(rows, matrix, {}, None, self._check(matrix))

    def from_columns(self, columns: Mapping[str, Column], rows: int) -> Batch:
        """A batch of named columns of any kind.

        Args:
            columns: by name, each with one value a row.
            rows: how many.

        Raises:
            RequestError: details name each record and field that does not fit.
        """
        problems: list[dict[str, object]] = []
        known = [name for name in columns if name in self.fields]
        if len(known) < len(columns):
            for name in sorted(columns.keys() - self.fields.keys() - {self.label}, key=str):
                problems.append(_unknown(0, name, [*self.fields, *([self.label] if self.label else [])]))
        for name in self.required:
            if name not in columns:
                problems.append({"record": 0, "field": name, "problem": "is missing"})
        matrix = np.full((rows, len(self.names)), np.nan)
        others: dict[str, list[Any]] = {}
        for name in known:
            place = self._places.get(name)
            if place is None:
                others[name] = self._other(columns[name], self.fields[name], problems)
            else:
                exact = self._fill(matrix, place, columns[name], self.fields[name], problems)
                if exact is not None:
                    others[name] = exact
        if problems:
            problems.sort(key=lambda one: int(str(one["record"])))
            raise problem_error(problems)
        return Batch(rows, matrix, others, self._keys(others), self._check(self._rounded_down(matrix, others)))

    def _rounded_down(self, matrix: Matrix, exact: Mapping[str, list[Any]]) -> Matrix:
        """The matrix to check: the largest whole numbers of 64 bits round up to the first that does not fit."""
        for name in exact.keys() & self._places.keys():
            place = self._places[name]
            bits = 64 if self.fields[name].dtype == "UInt64" else 63
            if max((value for value in exact[name] if value is not None), default=0) < 2**bits:
                matrix = matrix.copy()
                np.minimum(matrix[:, place], self._high[place], out=matrix[:, place])
        return matrix

    def from_records(self, records: Sequence[Mapping[str, Any]]) -> Batch:
        """A batch of plain records.

        Raises:
            RequestError: details name each record and field that does not fit.
        """
        names = self.fields.keys()
        quick = self._quick_records(records)
        if quick is not None:
            return quick
        first = records[0].keys()
        same = all(record.keys() == first for record in records)
        if same and first <= names and set(self.required) <= first:
            return self.from_columns({name: [record[name] for record in records] for name in first}, len(records))
        problems: list[dict[str, object]] = []
        allowed = names | ({self.label} if self.label else set())
        required = set(self.required)
        for place, record in enumerate(records):
            if not required <= record.keys():
                missing = sorted(required - record.keys())
                problems += [{"record": place, "field": name, "problem": "is missing"} for name in missing]
            if not record.keys() <= allowed:
                problems += [_unknown(place, name, list(allowed)) for name in sorted(record.keys() - allowed, key=str)]
            if len(problems) > _REPORTED:
                break
        there = {name for record in records for name in record.keys() & names}
        columns = {name: [record.get(name) for record in records] for name in there}
        try:
            batch = self.from_columns(
                {name: columns.get(name, [None] * len(records)) for name in there | required}, len(records)
            )
        except RequestError as error:
            met = {(one["record"], one["field"]) for one in problems}
            problems += [one for one in error.details if (one["record"], one["field"]) not in met]
        if problems:
            raise problem_error(problems)
        return batch

    def _quick_records(self, records: Sequence[Mapping[str, Any]]) -> Batch | None:
        """The batch of records that all have the same fields, numbers where numbers belong; None for others."""
        first = records[0].keys()
        if not first <= self.fields.keys():
            return None
        others = [name for name in first if name not in self._places]
        if len(first) - len(others) != len(self.names) or not set(self.required) <= first:
            return None
        values: list[Any] = []
        for record in records:
            if record.keys() != first:
                return None
            values += [record[name] for name in self.names]
        batch = self.quick(values, len(records))
        if batch is None or not others:
            return batch
        problems: list[dict[str, object]] = []
        for name in others:
            batch.columns[name] = self._other([record[name] for record in records], self.fields[name], problems)
        if problems:
            raise problem_error(problems)
        batch.keys = self._keys(batch.columns)
        return batch

    def _fill(
        self, matrix: Matrix, place: int, values: Column, field: Field, problems: list[dict[str, object]]
    ) -> list[Any] | None:
        """Put a column into the matrix; returns its exact values where float64 cannot hold them."""
        if isinstance(values, np.ndarray):
            if values.dtype.kind in "fiu":
                matrix[:, place] = values
                if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and _large(matrix[:, place]):
                    return list(values.tolist())
                return None
            values = values.tolist()
        kinds = set(map(type, values))
        if kinds <= {float, int, type(None)}:
            try:
                matrix[:, place] = np.array(values, dtype=np.float64)
            except OverflowError:
                kinds = set()
            else:
                if int not in kinds or not _large(matrix[:, place]):
                    return None
        check, exact = checker(field.dtype), []
        for row, value in enumerate(values):
            found, problem = (None, "") if value is None or value != value else check(value)
            if problem:
                problems.append({"record": row, "field": field.name, "problem": problem})
            else:
                matrix[row, place] = math.nan if found is None else found
            exact.append(found)
        return exact if field.dtype in _WHOLE and _large(matrix[:, place]) else None

    def _other(self, values: Column, field: Field, problems: list[dict[str, object]]) -> list[Any]:
        found: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
        kinds = set(map(type, found))
        if not field.required or field.nullable:
            kinds.discard(type(None))
        if field.dtype in _TEXT and kinds <= {str}:
            if all(value is None or (len(value) <= _LONGEST_TEXT and value.isascii()) for value in found):
                return found
        elif field.dtype == "Boolean" and kinds <= {bool}:
            return found
        elif field.dtype == "Boolean" and isinstance(values, np.ndarray) and values.dtype.kind in "iu":
            found = [bool(value) if value in (0, 1) else value for value in found]
        check = checker(field.dtype)
        for row, value in enumerate(found):
            if value is None or (isinstance(value, float) and math.isnan(value)):
                found[row] = None
                if field.required and not field.nullable:
                    problems.append({"record": row, "field": field.name, "problem": NEVER_MISSING})
                continue
            _, problem = check(value)
            if problem:
                problems.append({"record": row, "field": field.name, "problem": problem})
        return found

    def _keys(self, columns: Mapping[str, list[Any]]) -> list[str | None] | None:
        if self.key is None or self.key not in columns:
            return None
        return [key_text(value, self.signature) for value in columns[self.key]]


def _large(values: Matrix) -> bool:
    return bool((np.abs(values) >= _EXACT).any())


def _range(dtype: str) -> tuple[float, float]:
    if dtype == "Float32":
        return -3.4028234663852886e38, 3.4028234663852886e38
    if dtype == "Float64":
        return -math.inf, math.inf
    bits = int(dtype.lstrip("UInt"))
    top = 2.0**bits if dtype.startswith("U") else 2.0 ** (bits - 1)
    low = 0.0 if dtype.startswith("U") else -top
    return low, math.nextafter(top, 0) if bits > 53 else top - 1


def _unknown(place: int, name: object, known: Sequence[str]) -> dict[str, object]:
    hint = suggest(str(name)[:100], known)
    return {"record": place, "field": str(name)[:200], "problem": f"is not known. {hint}".strip()}
