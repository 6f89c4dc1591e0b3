"""A graph in the making: nodes added one by one, columns that know where they lie, one model at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["ML", "Column", "Graph", "NotCompiled", "Table"]

ML = "ai.onnx.ml"
_OPSET = 20
_TREES = 5  # the version of ai.onnx.ml that has TreeEnsemble; it knows the older tree operators no more
_ENCODERS = 4


class NotCompiled(Exception):
    """A model has no graph; says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: a place in a tensor of rows x width."""

    tensor: str
    place: int
    width: int
    text: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns side by side; with names where they are the features."""

    columns: tuple[Column, ...]
    names: tuple[str, ...] | None = None

    def take(self, places: Sequence[int]) -> Table:
        """Some of the columns, without their names."""
        return Table(tuple(self.columns[place] for place in places))


@dataclass(slots=True)
class Graph:
    """Nodes, constants and what must hold of a row for it to be answered.

    Attributes:
        refused: boolean tensors (rows x 1): rows that the model refuses. Their numbers become NaN.
    """

    refused: list[str] = field(default_factory=list)
    _nodes: list[Any] = field(default_factory=list)
    _constants: dict[tuple[str, tuple[int, ...], bytes], Any] = field(default_factory=dict)
    _inputs: list[Any] = field(default_factory=list)
    _functions: list[Any] = field(default_factory=list)
    _opsets: dict[str, int] = field(default_factory=lambda: {"": _OPSET, ML: 3})
    _format: int = 9
    _inlined: int = 0

    def add(
        self, kind: str, *inputs: str | NDArray[Any] | np.generic | float, domain: str = "", **attributes: Any
    ) -> str:
        """A node of one output; returns that output. Arrays and numbers among the inputs become constants."""
        if kind in ("Mul", "Div") and _is_nearly_one(inputs[1]):
            value = float(inputs[1]) / 2 if kind == "Mul" else float(inputs[1]) * 2
            return self.add("Mul", self.add(kind, inputs[0], value), 2.0)
        if domain == ML:
            needed = {"TreeEnsemble": _TREES, "LabelEncoder": _ENCODERS}.get(kind, 3)
            self._opsets[ML] = max(self._opsets[ML], needed)
        given = [one if isinstance(one, str) else self.constant(np.asarray(one)) for one in inputs]
        made = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, given, [made], domain=domain, **attributes))
        return made

    def constant(self, values: NDArray[Any]) -> str:
        """The name of a constant; equal ones are kept once."""
        data = repr(values.tolist()).encode() if values.dtype.kind in "OU" else values.tobytes()
        key = (values.dtype.str, values.shape, data)
        if key not in self._constants:
            held = values.astype(object) if values.dtype.kind == "U" else np.ascontiguousarray(values)
            self._constants[key] = numpy_helper.from_array(held.reshape(values.shape), f"c{len(self._constants)}")
        return str(self._constants[key].name)

    def take_matrix(self, names: Sequence[str]) -> Table:
        """One input ``x`` of all features."""
        width = len(names)
        self._inputs.append(helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, width]))
        return Table(tuple(Column("x", place, width) for place in range(width)), tuple(names))

    def take_columns(self, names: Sequence[str], texts: Sequence[bool]) -> Table:
        """One input a feature."""
        for name, text in zip(names, texts, strict=True):
            kind = TensorProto.STRING if text else TensorProto.DOUBLE
            self._inputs.append(helper.make_tensor_value_info(f"in:{name}", kind, [None, 1]))
        columns = (Column(f"in:{name}", 0, 1, text) for name, text in zip(names, texts, strict=True))
        return Table(tuple(columns), tuple(names))

    def matrix(self, table: Table) -> str:
        """The columns as one tensor, rows x columns.

        Raises:
            NotCompiled: texts and numbers are mixed.
        """
        columns = table.columns
        if not columns:
            raise NotCompiled("a part of it takes no column at all")
        if len({column.text for column in columns}) > 1:
            raise NotCompiled("a part of it takes texts and numbers together")
        runs: list[list[Column]] = []
        for column in columns:
            if runs and runs[-1][0].tensor == column.tensor:
                runs[-1].append(column)
            else:
                runs.append([column])
        parts = [self._run(run) for run in runs]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=1)

    def _run(self, run: list[Column]) -> str:
        places = [column.place for column in run]
        if places == list(range(run[0].width)):
            return run[0].tensor
        return self.add("Gather", run[0].tensor, np.array(places, dtype=np.int64), axis=1)

    def is_input(self, tensor: str) -> bool:
        """Whether a tensor comes from outside, or is made of nothing but such."""
        made = {node.output[0]: node for node in self._nodes if node.op_type in ("Concat", "Gather")}
        given = {one.name for one in self._inputs}
        waiting = [tensor]
        while waiting:
            one = waiting.pop()
            if one in made:
                waiting += [name for name in made[one].input if not name.startswith("c")]
            elif one not in given:
                return False
        return True

    def table(self, tensor: str, width: int, text: bool = False) -> Table:
        """A tensor's columns."""
        return Table(tuple(Column(tensor, place, width, text) for place in range(width)))

    def cast(self, tensor: str, kind: int) -> str:
        """The tensor in another type."""
        return self.add("Cast", tensor, to=kind)

    def double(self, tensor: str) -> str:
        """The tensor as float64."""
        return self.cast(tensor, TensorProto.DOUBLE)

    def single(self, tensor: str) -> str:
        """The tensor rounded to float32, as float64; rows that do not fit are refused, as the libraries do."""
        rounded = self.cast(tensor, TensorProto.FLOAT)
        self.refuse(self.add("IsInf", rounded))
        return self.double(rounded)

    def refuse(self, wrong: str) -> None:
        """Refuse the rows in which any value of a boolean tensor is true."""
        self.refused.append(self.add("ReduceMax", wrong, np.array([1]), keepdims=1))

    def wrong(self) -> str | None:
        """Which rows are refused, as a boolean tensor of rows x 1; None where none can be."""
        found = None
        for refused in self.refused:
            found = refused if found is None else self.add("Or", found, refused)
        return found

    def inline(self, model: Any, feed: Mapping[str, str], *, alone: bool = False) -> list[str]:
        """Another model's nodes among this one's; returns its outputs.

        Args:
            model: the other model.
            feed: its inputs to tensors of this graph.
            alone: whether nothing but it is computed, so that its operators' versions become the graph's.

        Raises:
            NotCompiled: it holds functions, or operators of other domains, and is not alone.
        """
        versions = {entry.domain: entry.version for entry in model.opset_import}
        if alone:
            self._opsets = {"": 20, ML: 1, **versions}
            self._format = max(self._format, model.ir_version)
            self._functions = list(model.functions)
        elif model.functions or set(versions) - {"", ML}:
            raise NotCompiled("it needs operators that ONNX Runtime does not have by itself")
        else:
            self._opsets[ML] = max(self._opsets[ML], versions.get(ML, 1))
        self._inlined += 1
        mark = f"m{self._inlined}:"
        names: dict[str, str] = {"": "", **feed}

        def renamed(name: str) -> str:
            return names.get(name, mark + name)

        for tensor in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = renamed(tensor.name)
            self._constants[copy.name, (), b""] = copy
        for node in model.graph.node:
            held = onnx.NodeProto()
            held.CopyFrom(node)
            _rename(held, renamed)
            self._nodes.append(held)
        return [renamed(output.name) for output in model.graph.output]

    def finish(self, outputs: Mapping[str, tuple[str, int, list[int | None]]]) -> bytes:
        """The model's bytes.

        Args:
            outputs: name to tensor, type and shape.
        """
        ends: dict[str, str] = {}
        wrong = self.wrong()
        for name, (tensor, kind, shape) in outputs.items():
            if wrong is not None and kind == TensorProto.DOUBLE:
                wide = self.add("Reshape", wrong, np.array([-1])) if len(shape) == 1 else wrong
                tensor = self.add("Where", wide, np.float64(np.nan), tensor)
            ends[name] = self.add("Identity", tensor)
        nodes, constants = self._needed(set(ends.values()))
        rename = {made: name for name, made in ends.items()}
        rename |= {given.name: given.name.removeprefix("in:") for given in self._inputs}
        for node in nodes:
            node.input[:] = [rename.get(name, name) for name in node.input]
            node.output[:] = [rename.get(name, name) for name in node.output]
        inputs = []
        for given in self._inputs:
            given.name = rename[given.name]
            inputs.append(given)
        infos = [helper.make_tensor_value_info(name, kind, shape) for name, (_, kind, shape) in outputs.items()]
        graph = helper.make_graph(nodes, "noria", inputs, infos, constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in sorted(self._opsets.items())]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=self._format, producer_name="noria", functions=self._functions
        )
        return bytes(model.SerializeToString(deterministic=True))

    def _needed(self, wanted: set[str]) -> tuple[list[Any], list[Any]]:
        """The nodes and constants that the outputs depend on, in order."""
        nodes = []
        for node in reversed(self._nodes):
            if wanted & set(node.output):
                nodes.append(node)
                wanted |= _reads(node)
        return nodes[::-1], [one for one in self._constants.values() if one.name in wanted]


def _is_nearly_one(value: Any) -> bool:
    """Whether ONNX Runtime would take a constant for 1 and leave the operator out: it looks at it as float32."""
    if isinstance(value, str) or np.size(value) != 1:
        return False
    one = np.asarray(value, dtype=np.float64).item()
    return one != 1 and np.float32(one) == 1


def _rename(node: Any, renamed: Callable[[str], str]) -> None:
    """Give new names to all that a node reads and writes, and to the nodes of graphs within it."""
    node.name = ""
    node.input[:] = [renamed(name) for name in node.input]
    node.output[:] = [renamed(name) for name in node.output]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for named in (*attribute.g.input, *attribute.g.output, *attribute.g.initializer, *attribute.g.value_info):
                named.name = renamed(named.name)
            for inner in attribute.g.node:
                _rename(inner, renamed)


def _reads(node: Any) -> set[str]:
    found = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                found |= _reads(inner)
    return found
