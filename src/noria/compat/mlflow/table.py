"""The table of routes as the documentation shows it: ``python -m noria.compat.mlflow.table > docs/mlflow.md``."""

from __future__ import annotations

import sys

from noria.compat.mlflow import ROUTES
from noria.compat.mlflow.about import VERSION

__all__ = ["document"]

_HEAD = f"""\
# MLflow's protocol

`noria server` speaks MLflow's REST as its clients from 2.10 to {VERSION} do. Point them at it and they work unchanged,
autologging included:

```sh
noria server --store .noria --port 5000
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
```

Artifacts go through the server. Locations elsewhere (`s3://…`) are kept as given, and used by the client alone.
Models of Noria's own loops are shown as registered models, read-only: only gates and approvals move a champion.

Where Noria is stricter than MLflow's server: booleans, fractions for whole numbers and 1e400 are refused; a param value
over 6,000 and a tag value over 8,000 characters is cut there, as MLflow does. Infinity stays infinity. An unknown run's
metric history is a 404.

## Routes

Every path under `/api/` is there under `/ajax-api/` too. This table is made from the server's own:
`python -m noria.compat.mlflow.table`.

"""


def document() -> str:
    """The page, in Markdown."""
    rows = sorted({(route.path, route.method, route.need.value, route.refused) for route in ROUTES})
    lines = [
        "| method | path | needs | state |",
        "|---|---|---|---|",
        *(
            f"| {method} | `{path}` | {need} | {f'not supported: {why}' if why else 'supported'} |"
            for path, method, need, why in rows
        ),
    ]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
