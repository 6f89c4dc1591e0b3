"""A block's predictions one by one."""

from __future__ import annotations

from array import array
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Any

from noria.store.kinds import Prediction
from noria.store.segments.writer import Block

__all__ = ["ids_of", "joined_ids", "predictions_of"]

_PAGE = "".join(f"@{number:02x}," for number in range(256))
_ID = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ids_of(first: str, rows: int) -> list[str]:
    """The ids that count up from the first."""
    return [first] if rows == 1 else joined_ids(first, rows).split(",")


def joined_ids(first: str, rows: int) -> str:
    """The ids that count up from the first, a comma between each two."""
    if rows == 1:
        return first
    head, number = first[:22], int(first[22:], 16)
    pages = range(number >> 8, (number + rows - 1 >> 8) + 1)
    text = "".join(_PAGE.replace("@", f"{head}{page:08x}") for page in pages)
    begin = (number & 255) * (_ID + 1)
    return text[begin : begin + rows * (_ID + 1) - 1]


def predictions_of(block: Block, loop: str, first: str) -> list[Prediction]:
    """A block's rows as predictions.

    Args:
        block: the block.
        loop: whose it is.
        first: id of its first row.
    """
    numbers = array("d", block.matrix)
    width = len(block.names)
    shares = None if block.probabilities is None else array("d", block.probabilities)
    classes = 0 if shares is None else len(shares) // block.rows
    at = _EPOCH + timedelta(microseconds=block.at_us)
    found = []
    for row, made in enumerate(block.ids or ids_of(first, block.rows)):
        record: dict[str, Any] = {
            name: None if isnan(value) else value
            for name, value in zip(block.names, numbers[row * width : (row + 1) * width], strict=True)
        }
        record |= {name: values[row] for name, values in block.columns.items()}
        found.append(
            Prediction(
                id=made,
                loop=loop,
                at=at,
                version=block.version,
                model_digest=block.digest,
                role=block.role,
                record=record,
                value=block.values[row] if block.values else None,
                probabilities=None if shares is None else shares[row * classes : (row + 1) * classes].tolist(),
                key=block.keys[row] if block.keys else None,
                latency_us=block.latency_us,
                error=block.error,
                answered=block.answered[row] if block.answered else None,
                trace=block.trace,
            )
        )
    return found
