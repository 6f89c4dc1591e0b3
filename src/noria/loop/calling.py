"""Calling the user's functions: frames as annotated, and a fault named by function, row and the user's own line."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noria.errors import StepError
from noria.frames.convert import Kind, from_any, kind_of_annotation, series_to_kind, to_kind
from noria.loop.hints import resolve
from noria.loop.steps import Declaration, Step

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "call",
    "compute_features",
    "default_kind",
    "feature",
    "hand_over",
    "hints",
    "knobs_of",
    "together",
    "user_line",
]


def user_line(error: BaseException, file: str) -> str:
    """``file:line`` where ``error`` passed last through the user's file; empty if it never did."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{lines[-1].filename}:{lines[-1].lineno}" if lines else ""


def call(step: Step, *arguments: Any, **knobs: Any) -> Any:
    """What the user's function returns.

    Raises:
        StepError: it raised; names function, line and error.
    """
    try:
        return step.function(*arguments, **knobs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        where = user_line(error, step.file) or step.where
        raise StepError(f"{step.kind} '{step.name}' failed at {where}: {type(error).__name__}: {error}") from error


def default_kind(loop: Declaration) -> Kind:
    """The kind of frame to hand to a parameter without an annotation: as the loop's other parameters ask."""
    for step in loop.steps:
        for given in step.inputs:
            kind = kind_of_annotation(given.annotation)
            if kind is not None:
                return kind
    return "polars"


def hand_over(value: Any, annotation: object, default: Kind) -> Any:
    """A Polars frame or series as the parameter's annotation asks; anything else as it is."""
    import polars as pl

    if not isinstance(value, (pl.DataFrame, pl.Series)):
        return value
    if "ndarray" in str(annotation):
        return value.to_numpy()
    kind = kind_of_annotation(annotation) or default
    return to_kind(value, kind) if isinstance(value, pl.DataFrame) else series_to_kind(value, kind)


def hints(step: Step) -> Mapping[str, object]:
    """A step's annotations, resolved where they resolve, else as written."""
    return {given.name: given.annotation for given in step.inputs} | resolve(step.function)


def knobs_of(step: Step, params: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs a step runs with: its defaults, or what was set for this run as ``step.knob``."""
    return {knob.name: params.get(f"{step.name}.{knob.name}", knob.default) for knob in step.knobs}


def compute_features(
    loop: Declaration, order: tuple[Step, ...], data: pl.DataFrame, params: Mapping[str, Any]
) -> pl.DataFrame:
    """Feature columns of raw rows, the same code in training and in serving.

    Args:
        loop: the declaration, for the default kind of frame.
        order: feature steps, each after those it needs.
        data: raw rows without the label.
        params: knobs set for this run, by ``step.knob``.

    Raises:
        StepError: a function raised, or returned the wrong number of rows; names function, line and row.
    """
    import polars as pl

    kind = default_kind(loop)
    made: dict[str, pl.DataFrame] = {}
    handed: dict[str, Any] = {}
    for step in order:
        made[step.name] = feature(step, data, made, kind, params, handed)
    return together(list(made.values())) if made else pl.DataFrame()


def together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Feature columns side by side.

    Raises:
        StepError: two features make a column of the same name.
    """
    import polars as pl

    names = [name for frame in frames for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StepError(f"two features make the column {twice[0]!r}; rename it in one of them.")
    return pl.concat(frames, how="horizontal")


def feature(
    step: Step,
    data: pl.DataFrame,
    made: Mapping[str, pl.DataFrame],
    kind: Kind,
    params: Mapping[str, Any],
    handed: dict[str, Any] | None = None,
) -> pl.DataFrame:
    """One feature's columns. ``handed`` keeps converted frames for the next feature that asks for the same."""
    knobs = knobs_of(step, params)
    try:
        result = call(step, *_arguments(step, data, made, kind, {} if handed is None else handed), **knobs)
    except StepError as error:
        row = _failing_row(step, data, made, kind, knobs)
        raise StepError(f"{error}{_shown(data, row)}") from error
    return _columns(step, result, data.height)


def _arguments(
    step: Step, data: pl.DataFrame, made: Mapping[str, pl.DataFrame], kind: Kind, handed: dict[str, Any]
) -> list[Any]:
    annotations = hints(step)
    arguments = []
    for given in step.inputs:
        annotation = annotations.get(given.name, given.annotation)
        wanted = f"{given.name}:{kind_of_annotation(annotation) or kind}:{'ndarray' in str(annotation)}"
        if wanted not in handed:
            source = data if given.name == "data" else _one(made[given.name], given.name)
            handed[wanted] = hand_over(source, annotation, kind)
        arguments.append(handed[wanted])
    return arguments


def _one(frame: pl.DataFrame, name: str) -> pl.DataFrame | pl.Series:
    """A feature of one column is handed on as a series, one of several as a frame."""
    return frame[name] if frame.columns == [name] else frame


def _columns(step: Step, result: Any, rows: int) -> pl.DataFrame:
    import polars as pl

    found = from_any(result)
    frame = found.alias(step.name).to_frame() if isinstance(found, pl.Series) else found
    if frame.height != rows:
        raise StepError(
            f"feature '{step.name}' at {step.where} returned {frame.height} values for {rows} rows; "
            "a feature returns one value for each row, in the same order."
        )
    return frame


def _shown(data: pl.DataFrame, row: int | None) -> str:
    """The row a feature fails on, by its first values: its position would be that within a split."""
    if row is None:
        return ""
    values = data.row(row, named=True)
    listed = ", ".join(f"{name}={value!s:.40}" for name, value in list(values.items())[:6])
    return f" (on the row with {listed}{', …' if len(values) > 6 else ''})"


def _failing_row(
    step: Step, data: pl.DataFrame, made: Mapping[str, pl.DataFrame], kind: Kind, knobs: Mapping[str, Any]
) -> int | None:
    """The first row on which the function fails alone, found by halving; None if it fails only on many."""

    def fails(low: int, high: int) -> bool:
        part = {name: frame[low:high] for name, frame in made.items()}
        try:
            call(step, *_arguments(step, data[low:high], part, kind, {}), **knobs)
        except StepError:
            return True
        return False

    low, high = 0, data.height
    if high < 2:
        return low if high else None
    while high - low > 1:
        middle = (low + high) // 2
        if fails(low, middle):
            high = middle
        elif fails(middle, high):
            low = middle
        else:
            return None
    return low
