"""A graph of trees in three parts: what comes before the trees, the trees, and what is made of their sums."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from noria.flavors.compile.bitvectors import MOST_LEAVES, Bitvectors, Trees
from noria.flavors.compile.ensemble import LESS, MEMBER

__all__ = ["divide"]


def divide(data: bytes) -> bytes | None:
    """The parts of a graph, for `Bitvectors`; None where its trees are not such, or are too many.

    Args:
        data: a graph of `convert`.
    """
    model = onnx.load_model_from_string(data)
    ensembles = [node for node in model.graph.node if node.op_type == "TreeEnsemble"]
    if len(ensembles) != 1 or [given.name for given in model.graph.input] != ["x"]:
        return None
    (node,) = ensembles
    held = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    modes = set(numpy_helper.to_array(held["nodes_modes"]).tolist())
    if len(modes) != 1 or MEMBER in modes:
        return None
    drawn = [_drawn(held, root) for root in held["tree_roots"]]
    outputs = [one.output for one in drawn if one is not None]
    if len(outputs) < len(drawn):
        return None
    order = np.argsort(outputs, kind="stable")
    found = _laid_out([drawn[place] for place in order], modes == {LESS}, held["n_targets"], model, node)
    try:
        Bitvectors(found)
    except ValueError:
        return None
    return msgspec.msgpack.encode(found)


class _Drawn:
    """A tree: its nodes in any order, its leaves from left to right."""

    def __init__(self) -> None:
        self.nodes: list[tuple[int, float, int, bool]] = []  # feature, split, leaves to its left, missing goes right
        self.leaves: list[float] = []
        self.output = 0


def _drawn(held: dict[str, Any], root: int) -> _Drawn | None:
    """One tree of the operator; None where it has too many leaves, or adds to several outputs."""
    splits, weights = numpy_helper.to_array(held["nodes_splits"]), numpy_helper.to_array(held["leaf_weights"])
    found, outputs = _Drawn(), set[int]()
    # A node is come by twice: before its left side, and after it, when it is known which leaves that has.
    waiting: list[tuple[int, bool, int]] = [(root, False, -1)]
    while waiting:
        place, is_leaf, first = waiting.pop()
        if is_leaf:
            found.leaves.append(float(weights[place]))
            outputs.add(int(held["leaf_targetids"][place]))
            if len(found.leaves) > MOST_LEAVES:
                return None
        elif first < 0:
            waiting.append((place, False, len(found.leaves)))
            waiting.append((held["nodes_truenodeids"][place], bool(held["nodes_trueleafs"][place]), -1))
        else:
            left = (1 << len(found.leaves)) - (1 << first)
            right = not held["nodes_missing_value_tracks_true"][place]
            found.nodes.append((int(held["nodes_featureids"][place]), float(splits[place]), left, right))
            waiting.append((held["nodes_falsenodeids"][place], bool(held["nodes_falseleafs"][place]), -1))
    if len(outputs) != 1:
        return None
    (found.output,) = outputs
    return found


def _laid_out(drawn: list[Any], less: bool, outputs: int, model: Any, node: Any) -> Trees:
    most = max(len(one.leaves) for one in drawn)
    leaves = np.zeros((len(drawn), most))
    for place, one in enumerate(drawn):
        leaves[place, : len(one.leaves)] = one.leaves
    nodes = [(place, *inner) for place, one in enumerate(drawn) for inner in one.nodes]
    tree, feature, split, left, right = zip(*nodes, strict=True)
    seen = node.input[0]
    kept = [one for one in model.graph.node if one is not node]
    ends = [(output.name, output) for output in model.graph.output]
    head = None
    if seen != "x":
        made = helper.make_tensor_value_info("seen", TensorProto.DOUBLE, [None, None])
        head = _part(model, kept, {seen: "seen"}, [made], [])
    sums = helper.make_tensor_value_info("sums", TensorProto.DOUBLE, [None, outputs])
    return Trees(
        less=less,
        outputs=outputs,
        most=most,
        feature=np.array(feature, "<i4").tobytes(),
        split=np.array(split, "<f8").tobytes(),
        tree=np.array(tree, "<i4").tobytes(),
        left=np.array(left, "<u8").tobytes(),
        missing_right=np.array(right, "u1").tobytes(),
        leaves=leaves.astype("<f8").tobytes(),
        output=np.array([one.output for one in drawn], "<i4").tobytes(),
        head=head,
        tail=_part(model, kept, {node.output[0]: "sums"}, [output for _, output in ends], [sums]),
    )


def _part(model: Any, nodes: list[Any], rename: dict[str, str], outputs: list[Any], inputs: list[Any]) -> bytes:
    """The nodes that some outputs need, as a graph of its own.

    Args:
        model: the whole.
        nodes: those that may be in it.
        rename: names within to names outside.
        outputs: what it gives.
        inputs: what it takes besides ``x``.
    """
    copies = []
    for one in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(one)
        copy.input[:] = [rename.get(name, name) for name in copy.input]
        copy.output[:] = [rename.get(name, name) for name in copy.output]
        copies.append(copy)
    wanted = {output.name for output in outputs}
    needed = []
    for one in reversed(copies):
        if wanted & set(one.output):
            needed.append(one)
            wanted |= set(one.input)
    given = [one for one in (*model.graph.input, *inputs) if one.name in wanted]
    constants = [one for one in model.graph.initializer if one.name in wanted]
    graph = helper.make_graph(needed[::-1], "noria", given, outputs, constants)
    made = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name="noria"
    )
    return bytes(made.SerializeToString(deterministic=True))
