"""Trees of any library as one ``TreeEnsemble`` operator with float64 splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from noria.flavors.compile.graph import ML, Graph, NotCompiled

__all__ = ["EQUAL_OR_LESS", "LESS", "MEMBER", "Ensemble", "Tree"]

EQUAL_OR_LESS, LESS, MEMBER = 0, 1, 6
_SUM = 1
_NONE = [0.5]  # members are whole numbers, and the operator takes no empty set
_MOST_NODES = 2_000_000


@dataclass(slots=True)
class Tree:
    """One tree as arrays, a value a node; node 0 is the root.

    Attributes:
        feature: column compared.
        split: what it is compared with.
        left: child where the comparison holds; below zero for a leaf.
        right: the other child.
        missing_left: whether a missing value goes left.
        value: what a leaf adds.
        mode: how it is compared.
        members: by node, the whole numbers that go left. The column must hold whole numbers only: to ONNX Runtime,
            1.5 is as good as 1.
    """

    feature: NDArray[np.integer[Any]]
    split: NDArray[np.float64]
    left: NDArray[np.integer[Any]]
    right: NDArray[np.integer[Any]]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    mode: int = EQUAL_OR_LESS
    members: dict[int, list[float]] = field(default_factory=dict)


class Ensemble:
    """Trees that add up, each for one of the outputs."""

    def __init__(self, outputs: int = 1) -> None:
        self.base = np.zeros(outputs)
        self._outputs = outputs
        self._nodes = self._leaves = 0
        self._roots: list[int] = []
        self._first: dict[int, int] = {}  # an output's first tree, by its place among those kept
        self._members: list[float] = []
        self._parts: dict[str, list[NDArray[Any]]] = {}

    def add(self, tree: Tree, output: int = 0) -> None:
        """One more tree.

        Raises:
            NotCompiled: there are too many nodes.
        """
        leaf = np.asarray(tree.left) < 0
        if leaf[0]:
            self.base[output] += float(tree.value[0])
            return
        inner, leaves = np.flatnonzero(~leaf), np.flatnonzero(leaf)
        if self._nodes + inner.size > _MOST_NODES:
            raise NotCompiled(f"its trees have more than {_MOST_NODES:,} nodes")
        place = np.empty(leaf.size, dtype=np.int64)
        place[inner] = self._nodes + np.arange(inner.size)
        place[leaves] = self._leaves + np.arange(leaves.size)
        left, right = tree.left[inner], tree.right[inner]
        modes = np.full(leaf.size, tree.mode, dtype=np.uint8)
        splits = np.asarray(tree.split, dtype=np.float64).copy()
        for node in inner:
            if int(node) in tree.members:
                modes[node], splits[node] = MEMBER, np.nan
                self._members += [*(tree.members[int(node)] or _NONE), np.nan]
        self._first.setdefault(output, len(self._roots))
        self._roots.append(int(place[0]))
        self._keep("feature", np.asarray(tree.feature)[inner])
        self._keep("mode", modes[inner])
        self._keep("split", splits[inner])
        self._keep("missing", np.asarray(tree.missing_left)[inner].astype(np.int64))
        self._keep("left", place[left])
        self._keep("right", place[right])
        self._keep("left leaf", leaf[left].astype(np.int64))
        self._keep("right leaf", leaf[right].astype(np.int64))
        self._keep("target", np.full(leaves.size, output, dtype=np.int64))
        self._keep("weight", np.asarray(tree.value, dtype=np.float64)[leaves])
        self._nodes += inner.size
        self._leaves += leaves.size

    def _keep(self, name: str, values: NDArray[Any]) -> None:
        self._parts.setdefault(name, []).append(values)

    def into(self, graph: Graph, x: str) -> str:
        """The sums, rows x outputs."""
        if not self._roots:  # the operator wants a node
            one, none = np.array([1, -1, -1]), np.zeros(3)
            self.add(Tree(np.zeros(3, dtype=int), none, one, one + (one > 0), np.ones(3, dtype=bool), none))
        base, weights = self.base.copy(), self._parts["weight"]
        for output, tree in self._first.items():  # where the libraries begin too, and an operator less
            weights[tree] = weights[tree] + base[output]
            base[output] = 0.0
        part = {name: np.concatenate(values) for name, values in self._parts.items()}
        extra = {}
        if self._members:
            extra["membership_values"] = _tensor("members", np.array(self._members))
        raw = graph.add(
            "TreeEnsemble",
            x,
            domain=ML,
            n_targets=self._outputs,
            aggregate_function=_SUM,
            post_transform=0,
            tree_roots=self._roots,
            nodes_featureids=part["feature"].tolist(),
            nodes_modes=helper.make_tensor(
                "modes", TensorProto.UINT8, [part["mode"].size], part["mode"].tobytes(), raw=True
            ),
            nodes_splits=_tensor("splits", part["split"]),
            nodes_truenodeids=part["left"].tolist(),
            nodes_falsenodeids=part["right"].tolist(),
            nodes_trueleafs=part["left leaf"].tolist(),
            nodes_falseleafs=part["right leaf"].tolist(),
            nodes_missing_value_tracks_true=part["missing"].tolist(),
            leaf_targetids=part["target"].tolist(),
            leaf_weights=_tensor("weights", part["weight"]),
            **extra,
        )
        return graph.add("Add", raw, base.reshape(1, -1)) if base.any() else raw


def _tensor(name: str, values: NDArray[np.float64]) -> Any:
    return helper.make_tensor(name, TensorProto.DOUBLE, [values.size], values.tobytes(), raw=True)
