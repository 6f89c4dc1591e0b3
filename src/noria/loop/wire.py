"""Which step gives what to which: features in an order in which each has what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from noria.loop.steps import Declaration, Step

__all__ = ["features_needed", "find_cycle", "order_features"]


def order_features(loop: Declaration) -> tuple[Step, ...]:
    """The features, each after those it needs, otherwise in the order written.

    The declaration must be free of faults: a cycle raises ``ValueError``.
    """
    features = {step.name: step for step in loop.of_kind("feature")}
    if cycle := find_cycle(features):
        raise ValueError(f"features need each other: {' -> '.join(cycle)}")
    placed: dict[str, Step] = {}

    def place(name: str) -> None:
        if name in placed or name not in features:
            return
        for needed in features[name].inputs:
            place(needed.name)
        placed[name] = features[name]

    for name in features:
        place(name)
    return tuple(placed.values())


def features_needed(loop: Declaration, wanted: Iterable[str]) -> tuple[Step, ...]:
    """The features that must be made to have those ``wanted``, in order."""
    needed = set(wanted)
    ordered = order_features(loop)
    for step in reversed(ordered):
        if step.name in needed:
            needed |= {given.name for given in step.inputs}
    return tuple(step for step in ordered if step.name in needed)


def find_cycle(features: Mapping[str, Step]) -> tuple[str, ...]:
    """A cycle as a path that ends where it starts (``a, b, a``); empty when there is none."""
    done: set[str] = set()
    path: list[str] = []

    def walk(name: str) -> tuple[str, ...]:
        if name in path:
            return (*path[path.index(name) :], name)
        if name in done or name not in features:
            return ()
        path.append(name)
        for needed in features[name].inputs:
            if cycle := walk(needed.name):
                return cycle
        done.add(path.pop())
        return ()

    return next((cycle for name in features if (cycle := walk(name))), ())
