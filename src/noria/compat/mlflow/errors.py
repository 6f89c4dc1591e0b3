"""MLflow's error codes, and which of Noria's errors is which."""

from __future__ import annotations

from noria.errors import Conflict, Denied, NoriaError, NotFound, RequestError, StoreBusy, StoreError, StoreFull

__all__ = ["STATUS", "WireError", "not_found", "wire_error"]

# https://github.com/mlflow/mlflow/blob/master/mlflow/protos/databricks.proto and what its client retries
STATUS = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "INVALID_STATE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "NOT_FOUND": 404,
    "NOT_IMPLEMENTED": 501,
    "INTERNAL_ERROR": 500,
    "TEMPORARILY_UNAVAILABLE": 503,
}


class WireError(NoriaError):
    """An answer that is an error, with MLflow's code for it.

    Args:
        code: one of ``STATUS``.
        message: for a person.
        status: HTTP status, when not the code's own (404 and 405 for addresses, 413 for bodies).
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        self.code = code
        self.status = status or STATUS[code]
        super().__init__(message)


def not_found(message: str) -> WireError:
    """The thing asked for is not there."""
    return WireError("RESOURCE_DOES_NOT_EXIST", message)


def wire_error(error: NoriaError) -> WireError:
    """The wire's form of one of Noria's errors."""
    if isinstance(error, WireError):
        return error
    message = str(error)
    if isinstance(error, NotFound):
        return WireError("RESOURCE_DOES_NOT_EXIST", message)
    if isinstance(error, Denied):
        return WireError("PERMISSION_DENIED", message)
    if isinstance(error, Conflict):
        return WireError("RESOURCE_ALREADY_EXISTS", message)
    if isinstance(error, RequestError):
        return WireError("INVALID_PARAMETER_VALUE", message)
    if isinstance(error, StoreFull):
        return WireError("TEMPORARILY_UNAVAILABLE", "The server has no space left. Nothing was recorded.", 507)
    if isinstance(error, StoreBusy):
        return WireError("TEMPORARILY_UNAVAILABLE", "The store is busy. Nothing was recorded; try again.")
    if isinstance(error, StoreError):
        return WireError("TEMPORARILY_UNAVAILABLE", "The store cannot take or give this now; see the server's log.")
    return WireError("INVALID_PARAMETER_VALUE", message)
