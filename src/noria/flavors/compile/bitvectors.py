"""Trees asked about many rows at a time, without a branch: what ONNX Runtime walks node by node, by bit vectors.

Source: Lucchese et al., "QuickScorer: a Fast Algorithm to Rank Documents with Additive Ensembles of Regression Trees",
SIGIR 2015, section 3. The leaves of a tree are numbered from left to right, a bit each. A comparison that does not hold
takes the leaves on its left out of reach; what is left of them all together has the row's leaf as its lowest bit. Here
the comparisons of one feature are a table, one row for each stretch between two of its splits, so that a row of data
costs one look-up a feature, and NumPy looks up hundreds at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_LEAVES", "Bitvectors", "Trees", "quickest"]

MOST_LEAVES = 64
_MOST_BYTES = 16 * 2**20
_CELLS = 2**16  # rows x trees at a time: what is looked up and what it is laid over stay in the processor's caches
_PIECE = 512
_ALL = np.uint64(2**64 - 1)
_TRIED = (32, 64, 128, 256, 512)

Run = Callable[[NDArray[np.float64]], list[NDArray[Any]]]


class Trees(msgspec.Struct, frozen=True):
    """The trees of one graph, and the graph without them. Arrays are little-endian bytes.

    Attributes:
        less: whether smaller numbers than the split go left; else those equal to it do too.
        outputs: sums a row.
        most: leaves of the tree that has most.
        feature: int32, a value a node.
        split: float64, a value a node.
        tree: int32, a node's tree.
        left: uint64, the leaves to the left of a node.
        missing_right: uint8, whether a missing value goes right.
        leaves: float64, trees x ``most``.
        output: int32, which of the sums a tree adds to; never falling.
        head: ONNX graph from ``x`` to what the trees look at, ``seen``; None where that is ``x``.
        tail: ONNX graph from the sums, ``sums``, and ``x`` where it needs it, to the outputs.
    """

    less: bool
    outputs: int
    most: int
    feature: bytes
    split: bytes
    tree: bytes
    left: bytes
    missing_right: bytes
    leaves: bytes
    output: bytes
    head: bytes | None
    tail: bytes


class _Room:
    """Where one thread works: memory asked for anew each time would cost as much as the work."""

    def __init__(self, features: int, trees: int, rows: int, kind: Any) -> None:
        self.reach, self.more = np.empty((rows, trees), kind), np.empty((rows, trees), kind)
        self.real = np.empty((rows, trees), np.float32 if kind == np.uint32 else np.float64)
        self.leaf, self.values = np.empty(trees * rows, np.intp), np.empty(trees * rows)
        self.seen, self.split = np.empty(features * rows), np.empty(features * rows)
        self.places, self.step = np.empty(features * rows, np.intp), np.empty(features * rows, np.intp)
        self.above = np.empty(features * rows, bool)

    @staticmethod
    def of(held: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
        """The first of it, in a shape."""
        return held[: shape[0] * shape[1]].reshape(shape)


class Bitvectors:
    """Trees, laid out as tables.

    Args:
        trees: the trees.

    Raises:
        ValueError: the tables would be too large.
    """

    def __init__(self, trees: Trees) -> None:
        feature = np.frombuffer(trees.feature, "<i4")
        split, tree = np.frombuffer(trees.split, "<f8"), np.frombuffer(trees.tree, "<i4")
        output = np.frombuffer(trees.output, "<i4")
        self._trees, self._outputs = len(output), trees.outputs
        self._features = np.unique(feature)
        self.splits = [np.unique(split[feature == one]) for one in self._features]
        kind: Any = np.uint32 if trees.most <= 32 else np.uint64
        heights = np.array([len(one) + 2 for one in self.splits])  # each stretch, and a missing value
        starts = np.concatenate([[0], np.cumsum(heights)])
        if int(starts[-1]) * self._trees * np.dtype(kind).itemsize > _MOST_BYTES:
            raise ValueError("the tables of its trees would be too large")
        self._width = 1 << max(len(one) for one in self.splits).bit_length()
        self._padded = np.full((len(self.splits), self._width), np.nan)
        for place, one in enumerate(self.splits):
            self._padded[place, : len(one)] = one
        self._flat = self._padded.ravel()
        self._from = (np.arange(len(self.splits)) * self._width)[:, None]
        self._shift = starts[:-1, None] - self._from
        self._missing = starts[1:, None] - 1
        self._table = self._tabulated(trees, feature, split, tree, starts).astype(kind)
        self._compare: Any = np.less_equal if trees.less else np.less
        self._bits: tuple[Any, int, int, int] = (
            (np.int32, 23, 0xFF, 127) if kind is np.uint32 else (np.int64, 52, 0x7FF, 1023)
        )
        self._leaves = np.frombuffer(trees.leaves, "<f8")
        self._first = (np.arange(self._trees) * trees.most - self._bits[3])[:, None]
        self._ends = np.cumsum(np.bincount(output, minlength=trees.outputs)).tolist()
        self._alone = trees.outputs == self._trees == self._ends[-1] and self._ends == list(range(1, trees.outputs + 1))
        self._every = bool((self._features == np.arange(len(self._features))).all())
        self._rows = max(32, min(_PIECE, _CELLS // self._trees))
        self._rooms = threading.local()

    def _tabulated(self, trees: Trees, feature: Any, split: Any, tree: Any, starts: Any) -> NDArray[np.uint64]:
        table = np.full((int(starts[-1]), self._trees), _ALL)
        kept = ~np.frombuffer(trees.left, "<u8")
        place = np.searchsorted(self._features, feature)
        row = starts[place] + 1
        for one, splits in enumerate(self.splits):
            those = place == one
            row[those] += np.searchsorted(splits, split[those])
        np.bitwise_and.at(table, (row, tree), kept)
        for start, end in pairwise(starts):
            np.bitwise_and.accumulate(table[start : end - 1], axis=0, out=table[start : end - 1])
        right = np.frombuffer(trees.missing_right, "u1").astype(bool)
        np.bitwise_and.at(table, ((starts[place + 1] - 1)[right], tree[right]), kept[right])
        return table

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of rows (rows x features, float64; NaN is missing), rows x outputs: added up in the trees' order."""
        found = np.empty((len(x), self._outputs))
        room = getattr(self._rooms, "own", None)
        if room is None:
            room = self._rooms.own = _Room(len(self.splits), self._trees, self._rows, self._table.dtype)
        for at in range(0, len(x), self._rows):
            self._piece(x[at : at + self._rows], found[at : at + self._rows], room)
        return found

    def _piece(self, x: NDArray[np.float64], found: NDArray[np.float64], room: _Room) -> None:
        rows = len(x)
        places = self._stretches(x, room)
        reach, more = room.reach[:rows], room.more[:rows]
        leaf, values = room.of(room.leaf, (self._trees, rows)), room.of(room.values, (self._trees, rows))
        self._table.take(places[0], axis=0, out=reach, mode="clip")
        for those in places[1:]:
            self._table.take(those, axis=0, out=more, mode="clip")
            np.bitwise_and(reach, more, out=reach)
        np.negative(reach, out=more)
        np.bitwise_and(reach, more, out=reach)
        # Its lowest bit alone, whose exponent as a float is its number.
        whole, shift, mask, _ = self._bits
        real = room.real[:rows]
        np.copyto(real, reach.view(whole))
        np.right_shift(real.view(whole), shift, out=reach.view(whole))
        np.bitwise_and(reach, mask, out=reach)
        # From here on trees x rows: so the sums are made one tree after the other, as ONNX Runtime adds, and answers
        # are the same to the last bit however many are asked.
        np.add(reach.T, self._first, out=leaf, casting="unsafe")
        self._leaves.take(leaf, out=values, mode="clip")
        if self._alone:
            found[:] = values.T
            return
        start = 0
        for output, end in enumerate(self._ends):
            np.add.reduce(values[start:end], axis=0, out=found[:, output])
            start = end

    def _stretches(self, x: NDArray[np.float64], room: _Room) -> NDArray[np.intp]:
        """Each number's row of the table, features x rows, by halving all at once."""
        rows = len(x)
        shape = (len(self.splits), rows)
        seen, split = room.of(room.seen, shape), room.of(room.split, shape)
        places, step, above = room.of(room.places, shape), room.of(room.step, shape), room.of(room.above, shape)
        np.copyto(seen, x.T[: len(seen)] if self._every else x.T[self._features])
        places[:] = self._from
        half = self._width >> 1
        while half:
            self._flat[half - 1 :].take(places, out=split, mode="clip")
            self._compare(split, seen, out=above)
            np.multiply(above, half, out=step)
            places += step
            half >>= 1
        places += self._shift
        if not math.isfinite(np.add.reduce(seen, axis=None)):
            np.copyto(places, self._missing, where=np.isnan(seen))
        return places

    def samples(self, rows: int, width: int) -> NDArray[np.float64]:
        """Rows that take any way through the trees: on the splits, beside them, and missing.

        Args:
            rows: how many.
            width: features of a row; where more are made of them before the trees, the first are taken for those.
        """
        draw = np.random.default_rng(0)
        found = np.zeros((rows, width))
        for one, splits in zip(self._features, self.splits, strict=True):
            if one >= width:
                break
            values = draw.choice(splits, rows)
            beside = np.nextafter(values, draw.choice([-np.inf, np.inf], rows))
            values = np.where(draw.random(rows) < 0.5, values, beside)
            found[:, one] = np.where(np.isfinite(values), values, 0.0)
        found[draw.random(found.shape) < 0.02] = np.nan
        return found


def quickest(graph: Run, tables: Run, rows: NDArray[np.float64]) -> int | None:
    """From how many rows on the tables answer sooner than the graph; None: never, or not the same.

    Args:
        graph: answers rows.
        tables: answers them in another way.
        rows: rows to ask about, some hundreds.
    """
    if not all(map(_same, graph(rows), tables(rows))):
        return None
    for count in _TRIED:
        if _seconds(tables, rows, count) < _seconds(graph, rows, count):
            return count
    return None


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _seconds(run: Run, rows: NDArray[np.float64], count: int) -> float:
    """The least time that all rows took, so many a call: the processor learns its way through a few that come again."""
    spent = []
    for _ in range(3):
        started = time.perf_counter()
        for at in range(0, len(rows), count):
            run(rows[at : at + count])
        spent.append(time.perf_counter() - started)
    return min(spent)
