"""MLflow's REST, spoken so that its clients work unchanged: set ``MLFLOW_TRACKING_URI`` to the server's address.

Takes a store; returns an ASGI application. The reference is the client of ``about.VERSION``; ``ROUTES`` is the whole
table, and ``docs/mlflow.md`` is written from it.
"""

from __future__ import annotations

from noria.compat.mlflow import (
    about,
    artifacts,
    evaluation,
    experiments,
    logged_models,
    registry,
    runs,
    traces,
    webhooks,
)
from noria.compat.mlflow.app import Application, application
from noria.compat.mlflow.routing import Services
from noria.core.clock import Clock
from noria.store.ports import Store

__all__ = ["PREFIXES", "ROUTES", "create"]

PREFIXES = (
    "/api/2.0",
    "/api/3.0",
    "/ajax-api/",
    "/version",
    "/get-artifact",
    "/model-versions/get-artifact",
    "/graphql",
    "/v1/traces",
)
"""What the addresses of these routes begin with."""

ROUTES = (
    *about.ROUTES,
    *experiments.ROUTES,
    *runs.ROUTES,
    *artifacts.ROUTES,
    *registry.ROUTES,
    *logged_models.ROUTES,
    *webhooks.ROUTES,
    *traces.ROUTES,
    *evaluation.ROUTES,
)


def create(store: Store, clock: Clock) -> Application:
    """The ASGI application of one store."""
    return application(ROUTES, Services(store.tracking, store.ledger, store.blobs, clock))
