"""Every error Noria raises on purpose.

::

    NoriaError                  anything below; its text is meant for a person
    ├── DeclarationError        the loop file is wrong (carries every fault, each with file:line)
    ├── DataError               the data cannot be used as declared (names column, row, value)
    ├── StepError               a user's function failed (names function, file:line, row where known)
    ├── ModelError              a model cannot be saved safely, loaded, or does not answer as declared
    ├── RequestError            a client's request is wrong (names field and row)
    ├── NotFound                no such loop, run, version, turn, prediction or blob
    ├── Conflict                the change does not fit the present state (second controller, approved twice)
    │   ├── ParamChanged        a param of a run is written once, and was
    │   └── Denied              only another way may make this change, such as a loop's gates and approvals
    ├── StoreError              the store cannot take or give what was asked
    │   ├── StoreFull           no space left; nothing was acknowledged that is not kept
    │   ├── StoreReadOnly       the store cannot be written
    │   ├── StoreBusy           another process holds the store; try again
    │   └── CorruptBlob         bytes do not match their digest
    └── MissingExtra            an optional package is needed; says what to install

Core errors know nothing of HTTP or exit codes: the edges map them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Conflict",
    "CorruptBlob",
    "DataError",
    "DeclarationError",
    "Denied",
    "Fault",
    "MissingExtra",
    "ModelError",
    "NoriaError",
    "NotFound",
    "ParamChanged",
    "RequestError",
    "StepError",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
]


class NoriaError(Exception):
    """Base of every error raised on purpose; ``str(error)`` is a message for a person."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a declaration.

    Attributes:
        where: ``file:line`` of the user's own text, or the name of the policy value.
        what: what is wrong, in a sentence.
        hint: what to do about it; empty when the sentence already says.
    """

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" {self.hint}" if self.hint else "")


class DeclarationError(NoriaError):
    """The declaration has faults; all of them are in ``faults``."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in faults))


class DataError(NoriaError):
    """The data cannot be used as declared."""


class StepError(NoriaError):
    """A user's function raised or returned something unusable."""


class ModelError(NoriaError):
    """A model cannot be saved safely, loaded, or does not answer as declared."""


class RequestError(NoriaError):
    """A client's request is wrong.

    Attributes:
        details: one entry per problem, e.g. ``{"record": 3, "field": "age", "problem": "..."}``.
    """

    def __init__(self, message: str, details: Sequence[dict[str, object]] = ()) -> None:
        self.details = tuple(details)
        super().__init__(message)


class NotFound(NoriaError):
    """No such loop, run, version, turn, prediction or blob."""


class Conflict(NoriaError):
    """The change does not fit the present state."""


class ParamChanged(Conflict):
    """A param of a run is written once, and was logged with another value before."""

    def __init__(self, run: str, key: str, old: str, new: str) -> None:
        self.run, self.key, self.old, self.new = run, key, old, new
        super().__init__(f"Param '{key}' of run {run} is '{old}' already and cannot become '{new}'.")


class Denied(Conflict):
    """The change is not for whoever asks: another way makes it, and the text says which."""


class StoreError(NoriaError):
    """The store cannot take or give what was asked."""


class StoreFull(StoreError):
    """No space is left; nothing was acknowledged that is not kept."""


class StoreReadOnly(StoreError):
    """The store cannot be written."""


class StoreBusy(StoreError):
    """Another process holds the store."""


class CorruptBlob(StoreError):
    """The bytes found do not match their digest."""


class MissingExtra(NoriaError):
    """An optional package is needed for what was asked.

    Args:
        package: the package that could not be imported.
        extra: Noria's extra that brings it.
        purpose: what it is needed for, completing "… is needed".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{package} is needed {purpose}: pip install 'noria[{extra}]'")
