"""Moving house: what an MLflow server, folder or database holds comes into a store, and goes back again.

Takes the address of the other side and a store; promises that what moved is what was there, that each run moves whole
or not at all, and that the same command again moves only what is new.
"""

from __future__ import annotations

from noria.compat.mlflow.moving.export import export_store
from noria.compat.mlflow.moving.import_ import import_source
from noria.compat.mlflow.moving.source import open_source

__all__ = ["export_store", "import_source", "open_source"]
