"""What the server says of itself, and what it does not do."""

from __future__ import annotations

from typing import Any

from noria.compat.mlflow.routing import Need, Params, Request, Route, Services

__all__ = ["ROUTES", "VERSION"]

VERSION = "3.17.2"
"""The MLflow whose protocol is spoken, as ``/version`` tells clients."""


async def version(request: Request) -> None:
    """The version as plain text."""
    body = VERSION.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await request.send({"type": "http.response.start", "status": 200, "headers": headers})
    await request.send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


def server_info(services: Services, params: Params) -> dict[str, Any]:
    """What kind of store there is, and which optional parts."""
    return {"store_type": "SqlStore", "workspaces_enabled": False, "trace_archival_enabled": False}


_REFUSED = {
    "The AI gateway is not part of Noria.": (
        ("GET POST", "/api/3.0/mlflow/gateway/{rest:path}"),
        ("DELETE PATCH", "/api/3.0/mlflow/gateway/{rest:path}"),
    ),
    "Issues are not supported.": (
        ("POST", "/api/3.0/mlflow/issues"),
        ("GET PATCH POST", "/api/3.0/mlflow/issues/{id}"),
    ),
    "Labelling of traces is not supported.": (
        ("GET POST PATCH DELETE", "/api/3.0/mlflow/label-schemas/{rest:path}"),
        ("GET POST", "/api/3.0/mlflow/review-queues/{rest:path}"),
    ),
    "Prompt optimization is not supported.": (
        ("POST", "/api/3.0/mlflow/prompt-optimization/jobs"),
        ("GET POST DELETE", "/api/3.0/mlflow/prompt-optimization/jobs/{rest:path}"),
    ),
    "Scorers are not supported: Noria judges models by its gates.": (
        ("GET POST PUT DELETE", "/api/3.0/mlflow/scorers/{rest:path}"),
    ),
    "Workspaces are not supported: use one store for each.": (
        ("GET POST", "/api/3.0/mlflow/workspaces"),
        ("GET PATCH DELETE", "/api/3.0/mlflow/workspaces/{name}"),
    ),
    "MLflow's own pages are not served here; Noria has its own.": (("GET POST", "/graphql"),),
}

ROUTES = (
    Route("GET", "/version", Need.read, stream=version),
    Route("GET", "/api/3.0/mlflow/server-info", Need.read, answer=server_info),
    *(
        Route(method, path, Need.read, refused=reason)
        for reason, addresses in _REFUSED.items()
        for methods, path in addresses
        for method in methods.split()
    ),
)
