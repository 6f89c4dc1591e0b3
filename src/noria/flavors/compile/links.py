"""From sums to answers: the libraries' link functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from noria.flavors.compile.graph import Graph, NotCompiled

__all__ = ["Answer", "binary", "linked", "shares_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a predictor's nodes give.

    Attributes:
        number: numbers, rows x 1, of a regression.
        shares: class probabilities, rows x classes.
        place: the predicted class's place, int64, rows; None where it is the largest share's.
        classes: the class labels, in order.
    """

    number: str | None = None
    shares: str | None = None
    place: str | None = None
    classes: NDArray[Any] | None = None


def shares_of(model: Any) -> NDArray[Any]:
    """The labels of a classifier's classes.

    Raises:
        NotCompiled: it has several label columns.
    """
    if isinstance(model.classes_, list):
        raise NotCompiled("it predicts several labels a row")
    return np.asarray(model.classes_)


def binary(graph: Graph, positive: str) -> str:
    """Both classes' probabilities from that of the second, rows x 1."""
    return graph.add("Concat", graph.add("Sub", 1.0, positive), positive, axis=1)


def linked(graph: Graph, raw: str, link: Any) -> str:
    """The inverse of one of scikit-learn's links.

    Raises:
        NotCompiled: it is none of those known.
    """
    name = type(link).__name__
    if name == "IdentityLink":
        return raw
    if name == "LogLink":
        return graph.add("Exp", raw)
    if name == "LogitLink":
        return graph.add("Sigmoid", raw)
    raise NotCompiled(f"its link {name} is not known")


def whole(graph: Graph, tensor: str) -> str:
    """Booleans or numbers as int64."""
    return graph.cast(tensor, TensorProto.INT64)
